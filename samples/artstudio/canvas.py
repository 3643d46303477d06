"""The drawing surface and the fields of noise that every family of artworks is drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

RGB = NDArray[np.uint8]
Field = NDArray[np.float32]
Colour = tuple[int, int, int]

SUPERSAMPLING = 2
_SHIFT = 4


@dataclass(frozen=True)
class Commission:
    """What a family is asked to draw.

    Attributes:
        rng: The only source of chance in the picture.
        width: Width of the picture, in pixels.
        height: Height of the picture, in pixels.
        variant: Which of the family's compositions, 0–3.
    """

    rng: np.random.Generator
    width: int
    height: int
    variant: int


def colours(text: str) -> list[Colour]:
    """Reads colours written as hex triplets separated by blanks, such as ``"264653 e9c46a"``."""
    return [(int(word[0:2], 16), int(word[2:4], 16), int(word[4:6], 16)) for word in text.split()]


def mix(first: Colour, second: Colour, *, share: float) -> Colour:
    """Returns the colour that lies ``share`` (0–1) of the way from ``first`` to ``second``."""
    share = min(max(share, 0.0), 1.0)
    r, g, b = (round(a + (c - a) * share) for a, c in zip(first, second, strict=True))
    return (r, g, b)


def vary(rng: np.random.Generator, base: Colour, *, amount: float = 16) -> Colour:
    """Returns ``base`` with every channel moved by up to ``amount``."""
    r, g, b = np.clip(np.array(base) + rng.uniform(-amount, amount, 3), 0, 255).astype(int).tolist()
    return (r, g, b)


def ramp(field: ArrayLike, stops: Sequence[Colour]) -> Field:
    """Colours a field of values 0–1 with evenly spaced colour stops.

    Args:
        field: Any shape, values 0–1; values outside are clipped.
        stops: At least two colours.

    Returns:
        float32, the field's shape plus a last axis of 3, values 0–255.
    """
    values = np.clip(np.asarray(field, dtype=np.float32), 0, 1)
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, places, [stop[c] for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def to_rgb(picture: ArrayLike) -> RGB:
    """Rounds and clips values 0–255 to a uint8 picture."""
    return np.clip(np.rint(np.asarray(picture, dtype=np.float32)), 0, 255).astype(np.uint8)


def grid(width: int, height: int) -> tuple[Field, Field]:
    """Returns the x and y coordinate of every pixel, float32, (height, width)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x, y


def resize(picture: NDArray[Any], *, width: int, height: int, method: int = cv2.INTER_AREA) -> Field:
    """Resizes a picture or field and returns float32."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.float32)


def blur(picture: NDArray[Any], *, sigma: float) -> Field:
    """Gaussian blur, float32."""
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma), dtype=np.float32)


def displace(picture: NDArray[Any], *, dx: Field, dy: Field) -> Field:
    """Samples the picture at every pixel's place plus (dx, dy) pixels, mirrored at the edges."""
    x, y = grid(picture.shape[1], picture.shape[0])
    moved = cv2.remap(
        picture.astype(np.float32), x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(moved, dtype=np.float32)


def noise(
    rng: np.random.Generator, *, width: int, height: int, cell: float, octaves: int = 4, stretch: float = 1
) -> Field:
    """Smooth fractal noise, float32, (height, width), spread over 0–1.

    Args:
        rng: Source of chance.
        width: Width, in pixels.
        height: Height, in pixels.
        cell: Size of the largest features, in pixels.
        octaves: How many layers, each with features half as large.
        stretch: How many times longer features are in x than in y.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        rows, columns = int(height / size) + 3, int(width / size / stretch) + 3
        coarse = rng.random((rows, columns), dtype=np.float32)
        span = (int(columns * size * stretch) + 1, int(rows * size) + 1)
        total += (
            np.asarray(cv2.resize(coarse, span, interpolation=cv2.INTER_CUBIC))[:height, :width] / 2**octave
        )
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def grain(picture: NDArray[Any], rng: np.random.Generator, *, strength: float = 4, cell: float = 2) -> RGB:
    """Lays the grain of paper over a picture, ``strength`` in grey levels."""
    height, width = picture.shape[:2]
    tooth = noise(rng, width=width, height=height, cell=cell, octaves=1) - 0.5
    clouds = noise(rng, width=width, height=height, cell=90, octaves=3) - 0.5
    return to_rgb(picture.astype(np.float32) + (2 * strength * (tooth + clouds))[..., None])


def over(base: NDArray[Any], top: ArrayLike, *, mask: NDArray[Any]) -> Field:
    """Lays ``top`` (a colour or a picture) over ``base`` where ``mask`` (values 0–1) says so."""
    share = mask.astype(np.float32)[..., None]
    return (base * (1 - share) + np.asarray(top, dtype=np.float32) * share).astype(np.float32)


def smooth(points: ArrayLike, *, closed: bool = False, steps: int = 10) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the points, (N, 2)."""
    p = np.asarray(points, dtype=np.float64)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        slope, bend, twist = c - a, 2 * a - 5 * b + 4 * c - d, 3 * b - a - 3 * c + d
        pieces.append(0.5 * (2 * b + slope * t + bend * t**2 + twist * t**3))
    if not closed:
        pieces.append(p[-2:-1])
    return np.vstack(pieces)


def oval(
    x: float, y: float, *, rx: float, ry: float, turn: float = 0, steps: int = 64
) -> NDArray[np.float64]:
    """Points of an ellipse turned by ``turn`` radians, (steps, 2)."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    px, py = rx * np.cos(angle), ry * np.sin(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.column_stack([x + px * cos - py * sin, y + px * sin + py * cos])


def ridge(
    rng: np.random.Generator, *, width: int, octaves: int = 6, cell: float = 200
) -> NDArray[np.float64]:
    """A mountain line: one height per pixel column, about -1 to 1."""
    line = np.zeros(width)
    for octave in range(octaves):
        size = max(cell / 2**octave, 2.0)
        knots = rng.uniform(-1, 1, int(width / size) + 3)
        line += np.interp(np.arange(width) / size, np.arange(len(knots)), knots) / 2**octave
    return line / 1.6


class Canvas:
    """A picture drawn at twice its size, in the coordinates of its final pixels."""

    def __init__(self, ground: RGB) -> None:
        self.height, self.width = ground.shape[:2]
        self.pixels: RGB = to_rgb(
            resize(
                ground,
                width=self.width * SUPERSAMPLING,
                height=self.height * SUPERSAMPLING,
                method=cv2.INTER_LINEAR,
            )
        )

    @classmethod
    def plain(cls, width: int, height: int, *, colour: Colour) -> Canvas:
        """A canvas of one colour."""
        return cls(np.full((height, width, 3), colour, np.uint8))

    def image(self) -> RGB:
        """The finished picture, uint8, (height, width, 3)."""
        return to_rgb(resize(self.pixels, width=self.width, height=self.height))

    def polygon(self, points: ArrayLike, colour: Colour, *, alpha: float = 1) -> None:
        """Fills a polygon."""
        corners = self._fixed(points)
        if alpha >= 1:
            cv2.fillPoly(self.pixels, [corners], colour, cv2.LINE_AA, _SHIFT)
            return
        box, mask = self._window(corners, margin=2)
        if mask.size:
            offset = np.array([box[0], box[1]]) << _SHIFT
            cv2.fillPoly(mask, [(corners - offset).astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
            self._blend(box, mask, colour, alpha)

    def line(
        self, points: ArrayLike, colour: Colour, *, width: float = 1, alpha: float = 1, closed: bool = False
    ) -> None:
        """Draws a line through the points, ``width`` in final pixels."""
        corners, thick = self._fixed(points), max(1, round(width * SUPERSAMPLING))
        if alpha >= 1:
            cv2.polylines(self.pixels, [corners], closed, colour, thick, cv2.LINE_AA, _SHIFT)
            return
        box, mask = self._window(corners, margin=thick + 2)
        if mask.size:
            offset = np.array([box[0], box[1]]) << _SHIFT
            moved = (corners - offset).astype(np.int32)
            cv2.polylines(mask, [moved], closed, (255,), thick, cv2.LINE_AA, _SHIFT)
            self._blend(box, mask, colour, alpha)

    def brush(self, points: ArrayLike, colour: Colour, *, widths: ArrayLike, alpha: float = 1) -> None:
        """Draws a line whose full width changes from point to point."""
        p = np.asarray(points, dtype=np.float64)
        along = np.gradient(p, axis=0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        side = np.column_stack([-along[:, 1], along[:, 0]]) * np.asarray(widths).reshape(-1, 1) / 2
        self.polygon(np.vstack([p + side, (p - side)[::-1]]), colour, alpha=alpha)

    def disc(self, x: float, y: float, radius: float, *, colour: Colour, alpha: float = 1) -> None:
        """Fills a circle."""
        steps = int(min(max(12, radius * 2), 120))
        self.polygon(oval(x, y, rx=radius, ry=radius, steps=steps), colour, alpha=alpha)

    def ring(
        self, x: float, y: float, radius: float, *, colour: Colour, width: float, alpha: float = 1
    ) -> None:
        """Draws a circle's outline."""
        points = oval(x, y, rx=radius, ry=radius, steps=int(min(max(16, radius * 2), 160)))
        self.line(points, colour, width=width, alpha=alpha, closed=True)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float,
        colour: Colour,
        turn: float = 0,
        anchor: str = "mm",
        alpha: float = 1,
    ) -> None:
        """Writes words with the font that ships with Pillow, ``turn`` in degrees counter-clockwise."""
        font = ImageFont.load_default(size=size * SUPERSAMPLING)
        mask = Image.new("L", (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING))
        place = (x * SUPERSAMPLING, y * SUPERSAMPLING)
        ImageDraw.Draw(mask).text(place, words, fill=255, font=font, anchor=anchor)
        if turn:
            mask = mask.rotate(turn, resample=Image.Resampling.BICUBIC, center=place)
        self._blend((0, 0, mask.width, mask.height), np.array(mask), colour, alpha)

    def paste(self, picture: NDArray[Any], *, mask: NDArray[Any]) -> None:
        """Lays a picture of this canvas's size over it, where ``mask`` (values 0–1) says so."""
        big = (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING)
        top = cv2.resize(picture.astype(np.float32), big, interpolation=cv2.INTER_LINEAR)
        share = np.asarray(cv2.resize(mask.astype(np.float32), big, interpolation=cv2.INTER_LINEAR))
        self.pixels = to_rgb(over(self.pixels, top, mask=share))

    def _fixed(self, points: ArrayLike) -> NDArray[np.int32]:
        scaled = np.asarray(points, dtype=np.float64) * SUPERSAMPLING * (1 << _SHIFT)
        return np.clip(np.rint(scaled), -(2**20), 2**20).astype(np.int32)

    def _window(
        self, corners: NDArray[np.int32], *, margin: int
    ) -> tuple[tuple[int, int, int, int], NDArray[np.uint8]]:
        low = (corners.min(axis=0) >> _SHIFT) - margin
        high = (corners.max(axis=0) >> _SHIFT) + margin + 1
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), self.pixels.shape[1]), min(int(high[1]), self.pixels.shape[0])
        return (x0, y0, x1, y1), np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), np.uint8)

    def _blend(
        self, box: tuple[int, int, int, int], mask: NDArray[np.uint8], colour: Colour, alpha: float
    ) -> None:
        x0, y0, x1, y1 = box
        part = self.pixels[y0:y1, x0:x1]
        self.pixels[y0:y1, x0:x1] = to_rgb(over(part, colour, mask=mask.astype(np.float32) * (alpha / 255)))
