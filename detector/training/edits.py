"""The copies that the tower must recognise: what editors and what generators do to a picture, a batch at a time.

Every edit works on tensors, so that an accelerator makes the views too. The list follows the copy-detection
challenge (Douze et al. 2021, arXiv:2106.09672) and SSCD (Pizzi et al. 2022, arXiv:2202.10261) for editors; smoothing,
warps, new textures and the autoencoder's round trip imitate what image generators do to a picture they give back.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from detector.training.autoencoder import Autoencoder
from detector.training.draws import Draws
from detector.training.geometry import (
    degrees,
    flips,
    inside,
    look,
    places,
    random_windows,
    ripples,
    through,
    turns,
    windows,
)

WHOLE, CROP = 0.38, 0.32
"""Shares of views that show the whole picture and a crop of it; the rest have a part pasted into another picture."""

PLAIN = 0.25
"""Share of views whose colours and texture stay as they are, and of the others the share whose frame does."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


@dataclass(frozen=True)
class Views:
    """Edited pictures and what else they show.

    Attributes:
        images: float32, (N, 3, S, S), 0–1.
        hosts: Number of the other picture that shows, where one does: int64, (N,).
        host_shares: Share of the view that shows it, 0–1: float32, (N,).
    """

    images: Tensor
    hosts: Tensor
    host_shares: Tensor


@dataclass(frozen=True)
class Editor:
    """Makes references and edited views of pictures.

    Attributes:
        overlays: Pictures with opacity to lay over views: uint8, (M, 4, H, H).
        autoencoder: Whose round trip some views take; None leaves that out.
    """

    overlays: Tensor
    autoencoder: Autoencoder | None = None

    def works(self, draws: Draws, count: int) -> Tensor:
        """Choose which part of each picture counts as the work: maps (count, 3, 3), mostly nearly all of it."""
        area = 1.0 - draws.uniform(count, 0.0, 0.5) * draws.chance(count, 0.6)
        mirror = draws.chance(count, 0.3)
        return random_windows(draws, area) @ flips(mirror, torch.zeros_like(mirror))

    def references(self, draws: Draws, pictures: Tensor, works: Tensor, size: int) -> Tensor:
        """Return the works as an index would see them: (N, 3, H, H) → (N, 3, size, size)."""
        views = look(pictures, places(works, size))
        other = draws.some(len(views), 0.25)
        if len(other):
            views[other] = self._recoloured(draws, views[other], pictures)
        softer = draws.some(len(views), 0.15)
        if len(softer):
            views[softer] = _resampled(views[softer], draws.number(0.6, 0.9))
        return _rounded_by_jpeg(draws, views, 0.08, low=55)

    def edited(self, draws: Draws, pictures: Tensor, works: Tensor, size: int) -> Views:
        """Return edited views of the works: (N, 3, H, H) → (N, 3, size, size)."""
        placed = self._placed(draws, pictures, works, size)
        plain = draws.chance(len(pictures), PLAIN).view(-1, 1, 1, 1)
        images = self._recoloured(draws, placed.images.clone(), pictures)
        steps: list[Callable[[Draws, Tensor], Tensor]] = [
            self._covered,
            _soft,
            _textured,
            _lit,
            _noisy,
            self._round_trip,
        ]
        for number in draws.order(len(steps)).tolist():
            images = steps[number](draws, images).clamp(0, 1)
        images = torch.where(plain, placed.images, images)
        images = _rounded_by_jpeg(draws, images, 0.15, low=8)
        return Views(images, placed.hosts, placed.host_shares)

    def _placed(self, draws: Draws, pictures: Tensor, works: Tensor, size: int) -> Views:
        """Where the work lies in the view, and what lies around it."""
        count = len(pictures)
        drawn = draws.uniform(count)
        whole, pasted = drawn < WHOLE, drawn >= WHOLE + CROP
        still = whole & draws.chance(count, PLAIN)
        outer = self._outer(draws, whole, pasted)
        outer = torch.where(still.view(-1, 1, 1), torch.eye(3, device=draws.device), outer)
        shares = torch.exp(draws.uniform(count, math.log(0.12), math.log(0.9)))
        shares = torch.where(pasted, draws.uniform(count, 0.2, 1.3).clamp(max=1.0), shares)
        shares = torch.where(whole, torch.ones_like(shares), shares)
        inner = random_windows(draws, shares) @ flips(draws.chance(count, 0.3), draws.chance(count, 0.05))
        ripple = draws.uniform(count, 0.0, 0.07) * draws.chance(count, 0.3)
        local = places(outer, size, ripples(draws, ripple, size))
        points = through(inner, local)
        mask = inside(points) * torch.where(
            pasted.view(-1, 1, 1, 1), inside(local), torch.ones(1, device=draws.device)
        )
        view = look(pictures, through(works, points))

        hosts = torch.roll(torch.arange(count, device=draws.device), draws.integer(1, max(1, count - 1)))
        around = draws.uniform(count)
        shows_host = pasted & (around < 0.9) | (around < 0.25)
        goes_on = ~pasted & ~shows_host & (around > 0.7)
        scene = look(pictures, places(random_windows(draws, draws.uniform(count, 0.4, 1.0)), size))[hosts]
        flat = (draws.uniform((count, 3, 1, 1)) * 1.6 - 0.3).clamp(0, 1)
        flat = torch.where(
            draws.chance(count, 0.5).view(-1, 1, 1, 1), flat.mean(1, keepdim=True).round(), flat
        )
        background = torch.where(shows_host.view(-1, 1, 1, 1), scene, flat.expand_as(scene))
        mask = torch.where(goes_on.view(-1, 1, 1, 1), torch.ones_like(mask), mask)
        images = torch.lerp(background, view, mask)
        share = (1.0 - mask).mean(dim=(1, 2, 3)) * shows_host

        through_it = draws.some(count, 0.08)
        if len(through_it):
            weight = draws.uniform((len(through_it), 1, 1, 1), 0.15, 0.42)
            images[through_it] = torch.lerp(images[through_it], scene[through_it], weight)
            share[through_it] = torch.maximum(share[through_it], weight.flatten())
        return Views(images, hosts, share)

    def _outer(self, draws: Draws, whole: Tensor, pasted: Tensor) -> Tensor:
        """Maps from the view to the part that is shown: turned, slanted, tilted, smaller than the view."""
        count = len(whole)
        turned = draws.uniform(count)
        angle = draws.uniform(count, -18.0, 18.0) * (turned < 0.35)
        angle = torch.where(turned > 0.82, draws.uniform(count, -65.0, 65.0), angle)
        angle = torch.where(turned > 0.97, 90.0 * draws.uniform(count, 1.0, 4.0).floor(), angle)
        shear = draws.uniform(count, -0.3, 0.3) * draws.chance(count, 0.15)
        tilt = draws.uniform((count, 2), -0.25, 0.25) * draws.chance(count, 0.12).unsqueeze(1)
        turn = turns(degrees(angle * ~(pasted & (turned < 0.82))), shear, tilt)
        # A part that is pasted covers this share of the view; a whole picture may leave a frame round it.
        area = torch.where(pasted, draws.uniform(count, 0.12, 0.95), draws.uniform(count, 0.18, 1.0))
        smaller = pasted | (whole & draws.chance(count, 0.55))
        half = torch.where(smaller, area, torch.ones_like(area)).sqrt().unsqueeze(1)
        half = half * torch.exp(draws.uniform((count, 2), -0.2, 0.2) * pasted.unsqueeze(1))
        half = half.clamp(max=1.0)
        centre = draws.uniform((count, 2), -1.0, 1.0) * (1.0 - half)
        shown: Tensor = turn @ torch.linalg.inv(windows(centre, half))
        return shown

    def _recoloured(self, draws: Draws, images: Tensor, pictures: Tensor) -> Tensor:
        """Brightness, contrast, saturation, hue, gamma, another picture's colours, few colours, a negative."""
        count = len(images)

        def one(low: float, high: float, share: float, neutral: float = 1.0) -> Tensor:
            drawn = draws.uniform((count, 1, 1, 1), low, high)
            return torch.where(
                draws.chance(count, share).view(-1, 1, 1, 1), drawn, torch.full_like(drawn, neutral)
            )

        images = images * one(0.5, 1.6, 0.6)
        images = images.clamp(0, 1) ** one(0.5, 1.8, 0.25)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * one(0.5, 1.7, 0.45) + mean
        grey = _grey(images)
        saturation = one(0.2, 2.0, 0.45)
        saturation = saturation * ~draws.chance(count, 0.22).view(-1, 1, 1, 1)
        images = grey + (images - grey) * saturation
        mixed = draws.some(count, 0.3)
        if len(mixed):
            mixing = torch.eye(3, device=draws.device) + draws.normal((len(mixed), 3, 3)) * 0.3
            images[mixed] = torch.einsum("nij,njhw->nihw", mixing, images[mixed])
        transferred = draws.some(count, 0.12)
        if len(transferred):
            other = pictures[(transferred + 1) % count]
            spread, middle = torch.std_mean(other, dim=(2, 3), keepdim=True)
            own_spread, own = torch.std_mean(images[transferred], dim=(2, 3), keepdim=True)
            images[transferred] = (images[transferred] - own) * (spread / (own_spread + 0.02)).clamp(
                0.3, 3
            ) + middle
        images = images.clamp(0, 1)
        few = draws.some(count, 0.04)
        if len(few):
            steps = draws.number(3, 8)
            images[few] = torch.round(images[few] * steps) / steps
        negative = draws.some(count, 0.015)
        images[negative] = 1.0 - images[negative]
        return images

    def _covered(self, draws: Draws, images: Tensor) -> Tensor:
        """Text, faces, stripes and patches over it; patches of its own surroundings, as when an object is removed."""
        size = images.shape[-1]
        chosen = draws.some(len(images), 0.4)
        if len(chosen):
            count = len(chosen)
            which = draws.uniform(count, 0, len(self.overlays)).long()
            layer = self.overlays[which].float() / 255
            half = draws.uniform((count, 2), 0.35, 1.6)
            points = places(torch.linalg.inv(windows(draws.uniform((count, 2), -0.5, 0.5), half)), size)
            seen = F.grid_sample(layer, points, padding_mode="zeros", align_corners=False)
            weight = seen[:, 3:] * draws.uniform((count, 1, 1, 1), 0.4, 1.4).clamp(max=1.0)
            images[chosen] = torch.lerp(images[chosen], seen[:, :3], weight)
        for share in (0.25, 0.12):
            chosen = draws.some(len(images), share)
            if not len(chosen):
                continue
            count = len(chosen)
            maps = torch.linalg.inv(random_windows(draws, draws.uniform(count, 0.01, 0.18), stretch=0.7))
            mask = inside(places(maps, size))
            filling = images[chosen].mean(dim=(2, 3), keepdim=True).expand(-1, -1, size, size)
            if draws.number(0, 1) < 0.6:
                filling = torch.roll(
                    images[chosen], draws.integer(size // 5, size // 2), dims=draws.integer(2, 3)
                )
            images[chosen] = torch.lerp(images[chosen], filling, mask)
        return images

    def _round_trip(self, draws: Draws, images: Tensor) -> Tensor:
        """Through the autoencoder, with noise on the latent as img2img has it."""
        chosen = draws.some(len(images), 0.12)
        if self.autoencoder is not None and len(chosen):
            noise = draws.normal((1, 1, 1, 1)) * 0.15
            with torch.no_grad():
                images[chosen] = self.autoencoder(images[chosen], noise)
        return images


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _resampled(images: Tensor, factor: float, mode: str = "bilinear") -> Tensor:
    """Down by `factor` and up again; `mode` is how it goes up."""
    size = images.shape[-1]
    small = F.interpolate(images, (max(8, round(size * factor)),) * 2, mode="bilinear", antialias=True)
    options = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(small, (size, size), mode=mode, **options)


def _soft(draws: Draws, images: Tensor) -> Tensor:
    """Blurred, shrunk and enlarged again and again, pixelated, smoothed by a median or along edges, sharpened."""
    count = len(images)
    for _ in range(2):
        chosen = draws.some(count, 0.09)
        if len(chosen):
            for _ in range(draws.integer(1, 3)):
                images[chosen] = _resampled(images[chosen], draws.number(0.18, 0.7))
    chosen = draws.some(count, 0.05)
    if len(chosen):
        images[chosen] = _resampled(images[chosen], draws.number(0.12, 0.5), "nearest")
    chosen = draws.some(count, 0.07)
    if len(chosen):
        images[chosen] = _median(images[chosen], draws.integer(1, 2))
    chosen = draws.some(count, 0.06)
    if len(chosen):
        images[chosen] = _along_edges(images[chosen], draws.integer(2, 4), draws.number(0.002, 0.02))
    chosen = draws.some(count, 0.1)
    if len(chosen):
        soft = F.avg_pool2d(images[chosen], 3, 1, 1, count_include_pad=False)
        images[chosen] = images[chosen] + (images[chosen] - soft) * draws.number(0.5, 4.0)
    return images


def _median(images: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    count, channels, height, width = images.shape
    padded = F.pad(images, (radius,) * 4, mode="reflect").reshape(
        count * channels, 1, height + 2 * radius, -1
    )
    patches = F.unfold(padded, side)
    return patches.median(dim=1).values.view(count, channels, height, width)


def _along_edges(images: Tensor, radius: int, epsilon: float) -> Tensor:
    """Guided filter with itself as guide (He et al. 2010): smooths like a bilateral filter, at a box filter's cost."""

    def box(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2 * radius + 1, 1, radius, count_include_pad=False)

    mean = box(images)
    variance = box(images * images) - mean * mean
    slope = variance / (variance + epsilon)
    return box(slope) * images + box(mean - slope * mean)


def _textured(draws: Draws, images: Tensor) -> Tensor:
    """Fine structure replaced by strokes or grain, coarse structure kept."""
    chosen = draws.some(len(images), 0.1)
    if not len(chosen):
        return images
    size = images.shape[-1]
    coarse = _resampled(images[chosen], draws.number(0.25, 0.5))
    across, along = draws.integer(1, 3), draws.integer(1, 9)
    strokes = draws.normal((len(chosen), 1, size // across + 1, size // along + 1))
    if draws.number(0, 1) < 0.5:
        strokes = strokes.transpose(2, 3)
    strokes = F.interpolate(strokes, (size, size), mode="bilinear", align_corners=False)
    keep = draws.uniform((len(chosen), 1, 1, 1), 0.0, 0.6)
    grain = strokes * draws.uniform((len(chosen), 1, 1, 1), 0.02, 0.12)
    images[chosen] = coarse + (images[chosen] - coarse) * keep + grain
    return images


def _lit(draws: Draws, images: Tensor) -> Tensor:
    """Uneven light, as in a photograph of a picture."""
    chosen = draws.some(len(images), 0.1)
    if not len(chosen):
        return images
    field = draws.uniform((len(chosen), 1, 3, 3), 0.5, 1.35)
    light = F.interpolate(field, images.shape[-2:], mode="bicubic", align_corners=False)
    images[chosen] = images[chosen] * light
    return images


def _noisy(draws: Draws, images: Tensor) -> Tensor:
    chosen = draws.some(len(images), 0.12)
    if len(chosen):
        strength = draws.uniform((len(chosen), 1, 1, 1), 0.02, 0.2)
        images[chosen] = images[chosen] + draws.normal(tuple(images[chosen].shape)) * strength
    chosen = draws.some(len(images), 0.04)
    if len(chosen):
        order = draws.order(images.shape[-1] * images.shape[-1])
        flat = images[chosen].flatten(2)
        moved = draws.uniform((len(chosen), 1, flat.shape[2])) < draws.number(0.02, 0.15)
        images[chosen] = torch.where(moved, flat[..., order], flat).view_as(images[chosen])
    return images


def _rounded_by_jpeg(draws: Draws, images: Tensor, share: float, *, low: int) -> Tensor:
    """Saved as JPEG and read again, some of them, at qualities from `low`."""
    chosen = draws.some(len(images), share)
    for number in chosen.tolist():
        pixels = (images[number].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=draws.integer(low, 90))
        with Image.open(file) as saved:
            read = torch.from_numpy(np.asarray(saved.convert("RGB")).copy())
        images[number] = read.permute(2, 0, 1).to(images.device).float() / 255
    return images
