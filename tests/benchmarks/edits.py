"""Edits of a picture with known truth: their names, their groups, and how they are made.

AugLy's `meme_format` and `perspective_transform` fail with today's Pillow and NumPy and are left out; a
photograph (`rerender.py`) stands in for the latter. Every edit is deterministic for a given `random.Random`.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image, ImageOps

from tests.benchmarks import rerender
from tests.benchmarks.regions import FULL, Polygon, box_polygon

Rng = random.Random
Make = Callable[[Image.Image, Rng, Image.Image], "Edited"]

LIGHT, MEDIUM, HEAVY = "light", "medium", "heavy"
CROPS, PARTS, RERENDERINGS, PHOTOGRAPHS = "crops", "pasted parts", "re-renderings", "photographs"
GROUP_A = (LIGHT, MEDIUM)
GROUP_B = (HEAVY, CROPS, PARTS, RERENDERINGS, PHOTOGRAPHS)
LEAST_SIDE = 48
"""No edit makes a picture with a shorter side than this."""


@dataclass(frozen=True)
class Edited:
    """An edited picture, and the polygon (fractions of its frame) in which the reference shows."""

    image: Image.Image
    region: Polygon = FULL


@dataclass(frozen=True)
class Edit:
    """One kind of edit.

    Attributes:
        name: As in tables.
        group: One of `GROUP_A` or `GROUP_B`.
        make: Called with the picture, a seeded generator and another picture to paste into.
    """

    name: str
    group: str
    make: Make


@lru_cache(maxsize=1)
def _augly() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import augly.image

    return augly.image


def _one(name: str, **ranges: Any) -> Make:
    """An AugLy edit of the whole frame; a pair of numbers is a range to draw from, a list a choice."""

    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        drawn = {key: _draw(value, rng) for key, value in ranges.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Edited(getattr(_augly(), name)(image, **drawn).convert("RGB"))

    return make


def _draw(value: Any, rng: Rng) -> Any:
    if isinstance(value, list):
        return rng.choice(value)
    if isinstance(value, tuple) and len(value) == 2:
        whole = all(isinstance(v, int) for v in value)
        return rng.randint(*value) if whole else rng.uniform(*value)
    return value


def _resized(share: float) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        factor = max(share, LEAST_SIDE / min(image.size))
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return Edited(image.resize(size, Image.Resampling.BICUBIC))

    return make


def _cropped(area: tuple[float, float]) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        return Edited(_part(image, rng, rng.uniform(*area)))

    return make


def _part(image: Image.Image, rng: Rng, area: float) -> Image.Image:
    """A window of this share of the area, a little wider or taller than the picture."""
    stretch = rng.uniform(0.85, 1.18)
    width = min(image.width, max(LEAST_SIDE, round(image.width * area**0.5 * stretch)))
    height = min(image.height, max(LEAST_SIDE, round(image.height * area**0.5 / stretch)))
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def _pasted(area: tuple[float, float], share: tuple[float, float], *, mirrored: bool = False) -> Make:
    """A part of the work (`area` of it) pasted into another picture, to cover `share` of that one's area."""

    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        wanted = rng.uniform(*area)
        part = image if wanted >= 1.0 else _part(image, rng, wanted)
        if mirrored:
            part = ImageOps.mirror(part)
        canvas = host.copy()
        scale = (rng.uniform(*share) * canvas.width * canvas.height / (part.width * part.height)) ** 0.5
        scale = min(scale, canvas.width / part.width, canvas.height / part.height)
        size = (max(8, int(part.width * scale)), max(8, int(part.height * scale)))
        part = part.resize(size, Image.Resampling.BICUBIC)
        left, top = rng.randint(0, canvas.width - part.width), rng.randint(0, canvas.height - part.height)
        canvas.paste(part, (left, top))
        return Edited(canvas, box_polygon(left, top, left + part.width, top + part.height, canvas.size))

    return make


def _padded(share: tuple[float, float]) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        across, down = rng.uniform(*share), rng.uniform(*share)
        grey = rng.choice((0, 255))
        padded = _augly().pad(image, w_factor=across, h_factor=down, color=(grey, grey, grey))
        left, top = (padded.width - image.width) / 2, (padded.height - image.height) / 2
        region = box_polygon(left, top, left + image.width, top + image.height, padded.size)
        return Edited(padded.convert("RGB"), region)

    return make


def _skewed(factor: tuple[float, float]) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        by = rng.uniform(*factor) * rng.choice((-1, 1))
        skewed = image.transform(
            image.size,
            Image.Transform.AFFINE,
            (1, by, -by * image.height / 2, 0, 1, 0),
            Image.Resampling.BICUBIC,
        )
        lean = by * image.height / 2 / image.width
        return Edited(skewed, ((lean, 0.0), (1 + lean, 0.0), (1 - lean, 1.0), (-lean, 1.0)))

    return make


def _in_screenshot(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
    boxes = [(0.0, 0.0, 1.0, 1.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shot = _augly().overlay_onto_screenshot(image, bboxes=boxes, bbox_format="pascal_voc_norm")
    left, top, right, bottom = boxes[0]
    return Edited(shot.convert("RGB"), box_polygon(left, top, right, bottom, (1, 1)))


def _blended(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
    """Another picture shines through."""
    other = host.resize(image.size, Image.Resampling.BICUBIC)
    return Edited(Image.blend(image, other, rng.uniform(0.25, 0.4)))


def _chain(*steps: Make) -> Make:
    """One edit after another; all but the last must fill the frame."""

    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        result = Edited(image)
        for step in steps:
            result = step(result.image, rng, host)
        return result

    return make


def _rerendered(strength: int, *steps: str) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        return Edited(rerender.rerender(image, rng, strength=strength, steps=steps or rerender.STEPS))

    return make


def _photographed(strength: int) -> Make:
    def make(image: Image.Image, rng: Rng, host: Image.Image) -> Edited:
        return Edited(*rerender.photograph(image, rng, strength=strength))

    return make


_TEXT = _one(
    "overlay_text", font_size=(0.1, 0.2), x_pos=(0.0, 0.2), y_pos=(0.1, 0.7), color=[(255, 0, 0), (0, 0, 0)]
)
_JITTER = _one(
    "color_jitter", brightness_factor=(0.6, 1.4), contrast_factor=(0.6, 1.5), saturation_factor=(0.3, 2.0)
)
_FACES = _one("overlay_emoji", emoji_size=(0.2, 0.35), x_pos=(0.1, 0.6), y_pos=(0.1, 0.6))

EDITS: tuple[Edit, ...] = (
    Edit("JPEG 60", LIGHT, _one("encoding_quality", quality=60)),
    Edit("brightness", LIGHT, _one("brightness", factor=[0.75, 1.3])),
    Edit("contrast", LIGHT, _one("contrast", factor=[0.75, 1.4])),
    Edit("saturation", LIGHT, _one("saturation", factor=[0.4, 1.8])),
    Edit("sharpen", LIGHT, _one("sharpen", factor=(2.0, 6.0))),
    Edit("blur 1", LIGHT, _one("blur", radius=1.0)),
    Edit("half size", LIGHT, _resized(0.5)),
    Edit("greyscale", LIGHT, _one("grayscale")),
    Edit("mirrored", LIGHT, _one("hflip")),
    Edit("pad 5 %", LIGHT, _padded((0.02, 0.05))),
    Edit("crop to 85 %", LIGHT, _cropped((0.8, 0.9))),
    Edit("JPEG 15", MEDIUM, _one("encoding_quality", quality=15)),
    Edit("blur 3", MEDIUM, _one("blur", radius=3.0)),
    Edit("quarter size", MEDIUM, _resized(0.25)),
    Edit("colour jitter", MEDIUM, _JITTER),
    Edit("noise", MEDIUM, _one("random_noise", var=(0.01, 0.03), seed=(0, 10_000))),
    Edit("rotate ≤ 12°", MEDIUM, _one("rotate", degrees=[-12, -7, 7, 12])),
    Edit("aspect ratio", MEDIUM, _one("change_aspect_ratio", ratio=[0.8, 1.0, 1.3])),
    Edit("pixelate", MEDIUM, _one("pixelization", ratio=(0.3, 0.5))),
    Edit("text", MEDIUM, _TEXT),
    Edit("emoji", MEDIUM, _FACES),
    Edit("stripes", MEDIUM, _one("overlay_stripes", line_width=0.2, line_angle=(0, 90), line_opacity=0.5)),
    Edit("pad 25 %", MEDIUM, _padded((0.15, 0.25))),
    Edit("skew", MEDIUM, _skewed((0.1, 0.25))),
    Edit("crop to 60 %", MEDIUM, _cropped((0.55, 0.65))),
    Edit("screenshot", HEAVY, _in_screenshot),
    Edit("rotate 30–60°", HEAVY, _one("rotate", degrees=(30, 60))),
    Edit("upside down", HEAVY, _one("vflip")),
    Edit("blur 6", HEAVY, _one("blur", radius=6.0)),
    Edit("pixelate 15 %", HEAVY, _one("pixelization", ratio=0.15)),
    Edit("shuffle 10 %", HEAVY, _one("shuffle_pixels", factor=0.1, seed=(0, 10_000))),
    Edit(
        "opaque stripes", HEAVY, _one("overlay_stripes", line_width=0.5, line_angle=(0, 90), line_density=0.4)
    ),
    Edit("blended", HEAVY, _blended),
    Edit("crop, jitter, text", HEAVY, _chain(_cropped((0.5, 0.7)), _JITTER, _TEXT, _FACES)),
    Edit(
        "mirror, rotate, JPEG",
        HEAVY,
        _chain(
            _one("hflip"), _one("rotate", degrees=(15, 25)), _JITTER, _one("encoding_quality", quality=15)
        ),
    ),
    Edit("crop to 40 %", CROPS, _cropped((0.35, 0.45))),
    Edit("crop to 25 %", CROPS, _cropped((0.22, 0.28))),
    Edit("crop to 15 %", CROPS, _cropped((0.13, 0.17))),
    Edit("60 % pasted", PARTS, _pasted((0.55, 0.65), (0.25, 0.5))),
    Edit("40 % pasted", PARTS, _pasted((0.35, 0.45), (0.2, 0.45))),
    Edit("25 % pasted", PARTS, _pasted((0.2, 0.3), (0.15, 0.4))),
    Edit("40 % pasted, mirrored", PARTS, _pasted((0.35, 0.45), (0.2, 0.45), mirrored=True)),
    Edit("whole, pasted small", PARTS, _pasted((1.0, 1.0), (0.12, 0.3))),
    Edit("median", RERENDERINGS, _rerendered(2, "smooth")),
    Edit("local warp", RERENDERINGS, _rerendered(2, "warp")),
    Edit("new texture", RERENDERINGS, _rerendered(2, "texture")),
    Edit("colour shift", RERENDERINGS, _rerendered(2, "recolour")),
    Edit("all, soft", RERENDERINGS, _rerendered(1)),
    Edit("all, medium", RERENDERINGS, _rerendered(2)),
    Edit("all, strong", RERENDERINGS, _rerendered(3)),
    Edit("photograph", PHOTOGRAPHS, _photographed(1)),
    Edit("slanted photograph", PHOTOGRAPHS, _photographed(2)),
)


def by_name(name: str) -> Edit:
    """Return an edit by its name."""
    return next(edit for edit in EDITS if edit.name == name)
