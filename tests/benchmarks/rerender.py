"""Re-renderings, as a diffusion model makes of a memorised picture, and photographs of pictures on a wall."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.regions import Polygon

Array = NDArray[np.float32]
STEPS = ("smaller", "smooth", "warp", "texture", "recolour")


def rerender(
    image: Image.Image, rng: random.Random, *, strength: int, steps: Sequence[str] = STEPS
) -> Image.Image:
    """Draw the same picture anew: detail lost, shapes moved, another texture, other colours.

    Args:
        image: RGB.
        rng: Seeded.
        strength: 1 soft, 2 medium, 3 strong.
        steps: Of `STEPS`, applied in that order.
    """
    noise = np.random.default_rng(rng.getrandbits(63))
    pixels: Any = np.asarray(image.convert("RGB"), np.uint8)
    for step in STEPS:
        if step in steps:
            pixels = _STEP[step](pixels, noise, strength)
    return Image.fromarray(pixels)


def _smaller(pixels: Any, noise: np.random.Generator, strength: int) -> Any:
    share = (0.6, 0.45, 0.3)[strength - 1]
    height, width = pixels.shape[:2]
    small = cv2.resize(
        pixels, (max(8, int(width * share)), max(8, int(height * share))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _smooth(pixels: Any, noise: np.random.Generator, strength: int) -> Any:
    side = (3, 5, 7)[strength - 1]
    pixels = cv2.medianBlur(pixels, side)
    return cv2.bilateralFilter(pixels, 7, 20.0 * strength, 4.0)


def _warp(pixels: Any, noise: np.random.Generator, strength: int) -> Any:
    """Move every spot by a smooth random field."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    reach = (0.008, 0.015, 0.025)[strength - 1] * longest
    field = np.stack([_smooth_noise(noise, height, width, longest * 0.09) for _ in range(2)])
    field = field / max(float(np.abs(field).max()), 1e-6) * reach
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(
        pixels, columns + field[0], rows + field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _smooth_noise(noise: np.random.Generator, height: int, width: int, spread: float) -> Array:
    """Gaussian noise of this spread, made small and enlarged."""
    cells = (max(3, int(height / spread) + 2), max(3, int(width / spread) + 2))
    coarse = noise.standard_normal(cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _texture(pixels: Any, noise: np.random.Generator, strength: int) -> Any:
    """Brush strokes along one random direction, stronger where the picture has detail, and grain."""
    height, width = pixels.shape[:2]
    grain = noise.standard_normal((height, width)).astype(np.float32)
    length = 4 + 3 * strength
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    angle = noise.uniform(0, np.pi)
    for step in np.linspace(-length, length, 4 * length):
        kernel[round(length + step * np.sin(angle)), round(length + step * np.cos(angle))] = 1.0
    strokes = cv2.filter2D(grain, -1, kernel / kernel.sum())
    strokes = strokes / max(float(strokes.std()), 1e-6)
    amount = (6.0, 11.0, 18.0)[strength - 1]
    changed = pixels.astype(np.float32) + amount * (0.8 * strokes + 0.4 * grain)[..., None]
    return np.clip(changed, 0, 255).astype(np.uint8)


def _recolour(pixels: Any, noise: np.random.Generator, strength: int) -> Any:
    """Mix channels, shift the balance, change the tone curve."""
    amount = (0.06, 0.13, 0.22)[strength - 1]
    mix = np.eye(3) + noise.uniform(-amount, amount, (3, 3))
    mix = mix / mix.sum(axis=1, keepdims=True)
    changed = (pixels.astype(np.float32) / 255.0) @ mix.T.astype(np.float32)
    changed = np.clip(changed + noise.uniform(-amount, amount, 3) * 0.6, 0.0, 1.0)
    changed = changed ** float(np.exp(noise.uniform(-2 * amount, 2 * amount)))
    return np.clip(changed * 255.0, 0, 255).astype(np.uint8)


_STEP = {"smaller": _smaller, "smooth": _smooth, "warp": _warp, "texture": _texture, "recolour": _recolour}


def photograph(image: Image.Image, rng: random.Random, *, strength: int) -> tuple[Image.Image, Polygon]:
    """Hang the picture on a wall, photograph it from aside: perspective, uneven light, glare, blur, noise.

    Returns:
        The photograph, and the four corners of the picture in it.
    """
    noise = np.random.default_rng(rng.getrandbits(63))
    pixels = np.asarray(image.convert("RGB"), np.uint8)
    height, width = pixels.shape[:2]
    margin = rng.uniform(0.12, 0.3)
    frame = (round(width * (1 + 2 * margin)), round(height * (1 + 2 * margin)))
    tilt = (0.05, 0.12)[strength - 1]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.array([width * margin, height * margin], np.float32)
    moved += (noise.uniform(-tilt, tilt, (4, 2)) * [width, height]).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    wall = np.full((frame[1], frame[0], 3), noise.uniform(90, 230, 3), np.float32)
    wall += 6.0 * _smooth_noise(noise, frame[1], frame[0], 12.0)[..., None]
    wall += noise.normal(0, 3, wall.shape)
    inside = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, frame)[..., None]
    seen = cv2.warpPerspective(pixels, matrix, frame, flags=cv2.INTER_AREA).astype(np.float32)
    shot = wall * (1 - inside) + seen * inside
    light = 1.0 + 0.25 * strength * (np.linspace(-0.5, 0.5, frame[0])[None, :] * rng.choice((-1, 1)))
    shot = shot * light[..., None] * noise.uniform(0.93, 1.07, 3)
    shot = shot + _glare(noise, frame, strength)[..., None]
    shot = cv2.GaussianBlur(shot.astype(np.float32), (0, 0), 0.5 + 0.4 * strength)
    shot = shot + noise.normal(0, 2.0 + 2.0 * strength, shot.shape)
    done = Image.fromarray(np.clip(shot, 0, 255).astype(np.uint8))
    polygon = tuple((float(x) / frame[0], float(y) / frame[1]) for x, y in moved)
    return done, polygon


def _glare(noise: np.random.Generator, frame: tuple[int, int], strength: int) -> Array:
    """A soft bright spot, as of a lamp on varnish."""
    rows, columns = np.mgrid[0 : frame[1], 0 : frame[0]].astype(np.float32)
    x, y = noise.uniform(0.25, 0.75, 2) * frame
    spread = noise.uniform(0.06, 0.12) * max(frame)
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    return np.asarray(spot * (60.0 + 50.0 * strength), np.float32)
