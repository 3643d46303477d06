"""What people lay over pictures: lines of text, faces, stripes, frames of a window; drawn once a training."""

from __future__ import annotations

import random
import string

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 128
COUNT = 256


def overlays(seed: int, *, count: int = COUNT) -> Tensor:
    """Return pictures with opacity: uint8, (count, 4, SIDE, SIDE)."""
    rng = random.Random(seed)
    kinds = (_text, _text, _face, _stripes, _window)
    made = [np.asarray(kinds[number % len(kinds)](rng)) for number in range(count)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def _colour(rng: random.Random) -> tuple[int, int, int, int]:
    if rng.random() < 0.5:
        return rng.choice(((0, 0, 0, 255), (255, 255, 255, 255), (255, 0, 0, 255), (255, 255, 0, 255)))
    return rng.randrange(256), rng.randrange(256), rng.randrange(256), 255


def _empty() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def _text(rng: random.Random) -> Image.Image:
    image, draw = _empty()
    height, colour = rng.randint(9, 34), _colour(rng)
    font = ImageFont.load_default(height)
    for line in range(rng.randint(1, 4)):
        word = "".join(rng.choice(string.ascii_letters + " ") for _ in range(rng.randint(4, 14)))
        draw.text((rng.randint(0, 20), 20 + line * (height + 3)), word, fill=colour, font=font)
    return image


def _face(rng: random.Random) -> Image.Image:
    image, draw = _empty()
    draw.ellipse((8, 8, 120, 120), fill=_colour(rng), outline=(60, 40, 0, 255), width=3)
    for x in (44, 84):
        draw.ellipse((x - 8, 40, x + 8, 40 + rng.randint(10, 24)), fill=(30, 20, 10, 255))
    draw.arc((34, 54, 94, rng.randint(80, 104)), 10, 170, fill=(90, 30, 20, 255), width=rng.randint(3, 8))
    return image


def _stripes(rng: random.Random) -> Image.Image:
    image, draw = _empty()
    gap, colour = rng.randint(8, 40), _colour(rng)
    for x in range(-SIDE, 2 * SIDE, gap):
        draw.line((x, -SIDE, x, 2 * SIDE), fill=colour, width=max(1, int(gap * rng.uniform(0.2, 0.6))))
    return image.rotate(rng.uniform(0, 180), resample=Image.Resampling.BILINEAR)


def _window(rng: random.Random) -> Image.Image:
    """Bars above, below and at the side, as on a screenshot."""
    image, draw = _empty()
    colour = rng.choice(((245, 245, 245, 255), (30, 30, 34, 255), _colour(rng)))
    top, bottom, side = rng.randint(0, 30), rng.randint(0, 30), rng.randint(0, 30)
    draw.rectangle((0, 0, SIDE, top), fill=colour)
    draw.rectangle((0, SIDE - bottom, SIDE, SIDE), fill=colour)
    draw.rectangle((0, 0, side, SIDE), fill=colour)
    for _ in range(rng.randint(2, 8)):
        x, y = rng.randint(0, SIDE), rng.choice((top // 2, SIDE - bottom // 2))
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_colour(rng))
    return image
