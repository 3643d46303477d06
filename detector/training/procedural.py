"""Pictures without end that nobody owns: cloud noise, shapes, stripes and warps in random colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.training.draws import Draws
from detector.training.geometry import degrees, look, places, ripples, turns

SHAPES = 14
"""Most shapes laid over one picture."""


def procedural(draws: Draws, count: int, side: int) -> Tensor:
    """Make pictures, no two alike.

    Args:
        draws: Source of all randomness.
        count: How many.
        side: In pixels.

    Returns:
        float32, (count, 3, side, side), 0–1.
    """
    picture = _clouds(draws, count, side, 3)
    for _ in range(draws.integer(SHAPES // 3, SHAPES)):
        mask = _shape(draws, count, side)
        paint = draws.uniform((count, 3, 1, 1))
        if draws.number(0, 1) < 0.35:
            paint = (paint + _clouds(draws, count, side, 1) - 0.5).clamp(0, 1)
        opacity = draws.uniform((count, 1, 1, 1), 0.4, 1.0) * draws.chance(count, 0.7).view(-1, 1, 1, 1)
        picture = torch.lerp(picture, paint.expand_as(picture), mask * opacity)
    identity = torch.eye(3, device=draws.device).expand(count, 3, 3)
    strength = draws.uniform(count, 0.0, 0.25) * draws.chance(count, 0.5)
    warped = look(picture, places(identity, side, ripples(draws, strength, side)))
    grain = draws.normal((count, 1, side, side)) * draws.uniform((count, 1, 1, 1), 0.0, 0.06)
    return (warped + grain).clamp(0, 1)


def _clouds(draws: Draws, count: int, side: int, channels: int) -> Tensor:
    """Sums of noise at doubling frequencies, stretched to 0–1: natural pictures have such spectra."""
    fall = draws.uniform((count, 1, 1, 1), 0.35, 0.85)
    total = torch.zeros(count, channels, side, side, device=draws.device)
    cells, weight = draws.integer(2, 4), torch.ones_like(fall)
    while cells < side:
        noise = draws.uniform((count, channels, cells, cells), -1.0, 1.0)
        total += weight * F.interpolate(noise, (side, side), mode="bilinear", align_corners=False)
        cells, weight = cells * 2, weight * fall
    low, high = total.amin(dim=(2, 3), keepdim=True), total.amax(dim=(2, 3), keepdim=True)
    floor = draws.uniform((count, channels, 1, 1), 0.0, 0.5)
    top = floor + (1.0 - floor) * draws.uniform((count, channels, 1, 1), 0.3, 1.0)
    return floor + (top - floor) * (total - low) / (high - low + 1e-6)


def _shape(draws: Draws, count: int, side: int) -> Tensor:
    """One ellipse, box, ring or field of stripes a picture, 1 inside: (count, 1, side, side)."""
    nothing = torch.zeros(count, 2, device=draws.device)
    angle = degrees(draws.uniform(count, 0.0, 360.0))
    points = places(turns(angle, nothing[:, 0], nothing), side)
    centre = draws.uniform((count, 1, 1, 2), -1.0, 1.0)
    radius = torch.exp(draws.uniform((count, 1, 1, 2), -2.6, -0.3))
    offset = (points - centre) / radius
    kind = draws.integer(0, 3)
    if kind == 0:
        distance = offset.norm(dim=-1) - 1.0
    elif kind == 1:
        distance = offset.abs().amax(dim=-1) - 1.0
    elif kind == 2:
        distance = (offset.norm(dim=-1) - 1.0).abs() - 0.25
    else:
        distance = torch.sin(offset[..., 0] * draws.number(1.5, 6.0))
    soft = draws.number(0.02, 0.15)
    return torch.sigmoid(-distance / soft).unsqueeze(1)
