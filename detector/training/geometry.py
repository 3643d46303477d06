"""Where a view looks: homographies over pictures in coordinates from -1 to 1, and sampling through them."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.training.draws import Draws

_COARSE = 1.7
"""Pixels of the source per pixel of the view above which the source is averaged 2 by 2 first."""


@lru_cache(maxsize=8)
def _grid(size: int, device: torch.device) -> Tensor:
    """Pixel centres of a view, homogeneous: float32, (size * size, 3)."""
    ticks = (torch.arange(size, device=device) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)


def windows(centre: Tensor, half: Tensor) -> Tensor:
    """Return the maps from a view onto windows: centres and half sides (N, 2) → float32, (N, 3, 3)."""
    maps = torch.zeros(len(centre), 3, 3, device=centre.device)
    maps[:, 0, 0], maps[:, 1, 1], maps[:, 2, 2] = half[:, 0], half[:, 1], 1.0
    maps[:, :2, 2] = centre
    return maps


def random_windows(draws: Draws, area: Tensor, *, stretch: float = 0.2) -> Tensor:
    """Return maps onto windows inside the picture that cover these shares of its area, (N,) → (N, 3, 3)."""
    count = len(area)
    aspect = torch.exp(draws.uniform(count, -stretch, stretch))
    side = area.sqrt()
    half = torch.stack([(side * aspect).clamp(max=1.0), (side / aspect).clamp(max=1.0)], dim=1)
    centre = draws.uniform((count, 2), -1.0, 1.0) * (1.0 - half)
    return windows(centre, half)


def turns(angle: Tensor, shear: Tensor, tilt: Tensor) -> Tensor:
    """Return rotations by `angle` (radians), slanted by `shear`, seen at a `tilt` (N, 2): (N, 3, 3)."""
    maps = torch.zeros(len(angle), 3, 3, device=angle.device)
    cos, sin = torch.cos(angle), torch.sin(angle)
    maps[:, 0, 0], maps[:, 0, 1] = cos, -sin + shear * cos
    maps[:, 1, 0], maps[:, 1, 1] = sin, cos + shear * sin
    maps[:, 2, :2] = tilt
    maps[:, 2, 2] = 1.0
    return maps


def flips(across: Tensor, down: Tensor) -> Tensor:
    """Return maps that mirror left to right where `across`, upside down where `down`: bool (N,) → (N, 3, 3)."""
    maps = torch.zeros(len(across), 3, 3, device=across.device)
    maps[:, 0, 0] = 1.0 - 2.0 * across
    maps[:, 1, 1] = 1.0 - 2.0 * down
    maps[:, 2, 2] = 1.0
    return maps


def ripples(draws: Draws, strength: Tensor, size: int) -> Tensor:
    """Return smooth displacements of at most about `strength` (N,): float32, (N, size, size, 2)."""
    cells = draws.integer(3, 9)
    field = draws.uniform((len(strength), 2, cells, cells), -1.0, 1.0) * strength[:, None, None, None]
    return F.interpolate(field, (size, size), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def places(maps: Tensor, size: int, displacement: Tensor | None = None) -> Tensor:
    """Return where each pixel of a view looks: (N, 3, 3) → float32, (N, size, size, 2)."""
    points = _grid(size, maps.device) @ maps.transpose(1, 2)
    flat = points[..., :2] / points[..., 2:].clamp(min=0.2)
    found = flat.reshape(len(maps), size, size, 2)
    return found if displacement is None else found + displacement


def through(maps: Tensor, points: Tensor) -> Tensor:
    """Map points onward: (N, 3, 3) affine, (N, S, S, 2) → (N, S, S, 2)."""
    count, size = len(points), points.shape[1]
    flat = points.reshape(count, -1, 2) @ maps[:, :2, :2].transpose(1, 2) + maps[:, None, :2, 2]
    return flat.reshape(count, size, size, 2)


def inside(points: Tensor) -> Tensor:
    """Return 1 where points lie within the picture, else 0: (N, S, S, 2) → float32, (N, 1, S, S)."""
    return (points.abs().amax(dim=-1) <= 1.0).float().unsqueeze(1)


def look(pictures: Tensor, points: Tensor) -> Tensor:
    """Sample pictures at points, without the flicker of skipped pixels.

    Args:
        pictures: float32, (N, C, H, H).
        points: float32, (N, S, S, 2); outside the picture its border goes on.

    Returns:
        float32, (N, C, S, S).
    """
    size = points.shape[1]
    span = (points.amax(dim=(1, 2)) - points.amin(dim=(1, 2))).amin(
        dim=1
    ) / 2  # shares of the picture's sides
    coarse = span * pictures.shape[-1] / size > _COARSE
    fine = F.grid_sample(pictures, points, padding_mode="border", align_corners=False)
    if bool(coarse.any()):
        chosen = coarse.nonzero().squeeze(1)
        half = F.avg_pool2d(pictures[chosen], 2)
        fine[chosen] = F.grid_sample(half, points[chosen], padding_mode="border", align_corners=False)
    return fine


def degrees(values: Tensor) -> Tensor:
    """Return radians."""
    return values * (math.pi / 180.0)
