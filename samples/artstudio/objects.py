"""Things on a table: shaded still lifes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from artstudio.canvas import (
    RGB,
    Canvas,
    Colour,
    Commission,
    Field,
    colours,
    grain,
    grid,
    mix,
    noise,
    oval,
    over,
    ramp,
    smooth,
    to_rgb,
    vary,
)


class _Table:
    """A lit table top: shapes get shading and cast shadows; the light comes from the upper left."""

    def __init__(self, job: Commission, *, wall: str, cloth: str, edge: float) -> None:
        self.rng, self.w, self.h = job.rng, job.width, job.height
        self.x, self.y = grid(self.w, self.h)
        cloudy = noise(self.rng, width=self.w, height=self.h, cell=200, octaves=5)
        glow = 1.12 - 0.75 * np.hypot(self.x / self.w - 0.25, self.y / self.h - 0.25)
        self.picture: Field = ramp(cloudy * 0.4 + glow * 0.5, colours(wall))
        weave = noise(self.rng, width=self.w, height=self.h, cell=60, octaves=4, stretch=6)
        top = ramp(weave * 0.5 + glow * 0.45, colours(cloth))
        self.picture = over(self.picture, top, mask=np.clip(self.y - edge * self.h, 0, 1))

    def shadow(self, x: float, y: float, *, wide: float, strength: float = 0.65) -> None:
        """A soft shadow to the right of a foot that stands at (x, y)."""
        place = ((self.x - x - wide * 0.7) / (wide * 1.5)) ** 2 + ((self.y - y) / (wide * 0.26)) ** 2
        self.picture = over(self.picture, (16, 10, 20), mask=strength * np.exp(-(place**1.2)))

    def ball(
        self, x: float, y: float, radius: float, *, ink: Colour, squash: float = 1, gloss: float = 0.7
    ) -> None:
        """A sphere, or a fruit where ``squash`` is not 1."""
        self.shadow(x, y + radius * squash * 0.88, wide=radius)
        dx, dy = (self.x - x) / radius, (self.y - y) / (radius * squash)
        r = np.hypot(dx, dy)
        dz = np.sqrt(np.clip(1 - r**2, 0, 1))
        skin = noise(self.rng, width=self.w, height=self.h, cell=radius / 2, octaves=3) * 0.25 + 0.85
        self._shade(dx, dy, dz, ink=ink, mask=np.clip((1 - r) * radius, 0, 1), gloss=gloss, skin=skin)

    def turned(
        self,
        x: float,
        foot: float,
        *,
        profile: Sequence[tuple[float, float]],
        ink: Colour,
        gloss: float = 0.8,
    ) -> None:
        """A vessel turned on a wheel; the profile is (height, radius) from the foot up, in pixels."""
        heights, radii = np.array(profile, dtype=np.float64).T
        self.shadow(x, foot - 2, wide=float(radii[0]) * 1.3)
        level = foot - self.y
        curve = smooth(profile, steps=12)
        radius = np.interp(level, curve[:, 0], curve[:, 1]).astype(np.float32)
        dx = (self.x - x) / np.maximum(radius, 1)
        inside = np.clip((1 - np.abs(dx)) * radius, 0, 1) * (
            level > -0.12 * radii[0] * np.sqrt(np.clip(1 - dx**2, 0, 1))
        )
        inside = inside * (level < heights[-1])
        self._shade(
            dx,
            np.zeros_like(dx),
            np.sqrt(np.clip(1 - dx**2, 0, 1)),
            ink=ink,
            mask=inside,
            gloss=gloss,
            skin=np.ones_like(dx),
        )
        mouth = oval(x, foot - float(heights[-1]), rx=float(radii[-1]), ry=float(radii[-1]) * 0.24)
        self.draw([(mouth, mix(ink, (12, 8, 14), share=0.65))])

    def draw(self, shapes: Sequence[tuple[ArrayLike, Colour]]) -> None:
        """Flat polygons."""
        canvas = Canvas(to_rgb(self.picture))
        for points, ink in shapes:
            canvas.polygon(points, ink)
        self.picture = canvas.image().astype(np.float32)

    def _shade(
        self, dx: Field, dy: Field, dz: Field, *, ink: Colour, mask: Field, gloss: float, skin: Field
    ) -> None:
        light = np.clip(-0.55 * dx - 0.5 * dy + 0.62 * dz, 0, 1)
        bounce = np.clip(0.5 * dx + 0.4 * dy, 0, 1) * 0.18
        shine = np.clip(-0.42 * dx - 0.42 * dy + 0.8 * dz, 0, 1) ** 40 * 190 * gloss
        body = (
            np.array(ink, np.float32) * ((0.16 + 0.95 * light + bounce) * skin)[..., None] + shine[..., None]
        )
        self.picture = over(self.picture, np.clip(body, 0, 255), mask=mask)

    def image(self, *, strokes: bool = True) -> RGB:
        """The finished picture, its colours broken up as by a brush."""
        picture = self.picture
        if strokes:
            touch = noise(self.rng, width=self.w, height=self.h, cell=7, octaves=2, stretch=3) - 0.5
            picture = picture * (1 + 0.13 * touch[..., None])
        return grain(picture, self.rng, strength=2)


def _bottle_apples(job: Commission) -> RGB:
    t, w, h = (
        _Table(job, wall="201a24 5d4a44 a98467", cloth="5e3023 b5835a e6ccb2", edge=0.6),
        job.width,
        job.height,
    )
    t.turned(
        0.3 * w,
        0.74 * h,
        profile=[(0, 52), (150, 54), (190, 44), (225, 17), (290, 16), (300, 20)],
        ink=(46, 98, 66),
    )
    t.turned(
        0.55 * w,
        0.7 * h,
        profile=[(0, 44), (40, 72), (90, 78), (130, 52), (160, 44), (175, 56)],
        ink=(196, 160, 120),
        gloss=0.3,
    )
    for x, y, r, ink in (
        (0.42, 0.76, 48, "c1121f"),
        (0.66, 0.79, 44, "d9a514"),
        (0.8, 0.72, 50, "a4161a"),
        (0.54, 0.84, 40, "7c9a2e"),
    ):
        t.ball(x * w, y * h, r, ink=colours(ink)[0], squash=0.92)
        t.draw(
            [
                (
                    smooth(
                        [
                            (x * w - 3, y * h - r * 0.8),
                            (x * w + 1, y * h - r * 1.25),
                            (x * w + 6, y * h - r * 1.25),
                            (x * w + 3, y * h - r * 0.78),
                        ],
                        closed=True,
                    ),
                    (58, 38, 22),
                )
            ]
        )
    return t.image()


def _vase_flowers(job: Commission) -> RGB:
    t, w, h, rng = (
        _Table(job, wall="14213d 2f4858 86a3a8", cloth="5b3a29 9c6644 ddb892", edge=0.78),
        job.width,
        job.height,
        job.rng,
    )
    canvas = Canvas(to_rgb(t.picture))
    heads = []
    for k in range(17):
        a = -np.pi / 2 + rng.uniform(-1.25, 1.25)
        reach = rng.uniform(0.16, 0.42) * h
        x, y = 0.5 * w + reach * np.cos(a), 0.56 * h + reach * np.sin(a)
        canvas.line(
            smooth([(0.5 * w, 0.6 * h), (0.5 * w + (x - 0.5 * w) * 0.3, 0.5 * h), (x, y)]),
            (52, 94, 60),
            width=3,
        )
        leaf = np.arctan2(y - 0.5 * h, x - 0.5 * w)
        canvas.polygon(
            oval(
                0.5 * w + (x - 0.5 * w) * 0.55, 0.55 * h + (y - 0.55 * h) * 0.5, rx=34, ry=9, turn=leaf + 0.5
            ),
            vary(rng, (64, 112, 66)),
        )
        heads.append((y, x, k))
    for y, x, k in sorted(heads):
        ink = colours("e56b6f f4d58d fefae0 b56576 e88c7d c77dff")[k % 6]
        size = rng.uniform(24, 44)
        for layer in range(3):
            for j in range(9):
                a = j * 2 * np.pi / 9 + layer * 0.4
                reach = size * (0.62 - 0.2 * layer)
                canvas.polygon(
                    oval(
                        x + reach * np.cos(a),
                        y + reach * 0.85 * np.sin(a),
                        rx=size * 0.42,
                        ry=size * 0.26,
                        turn=a,
                    ),
                    vary(rng, mix(ink, (70, 20, 50), share=0.32 - 0.15 * layer), amount=14),
                )
        canvas.disc(x, y, size * 0.22, colour=(110, 70, 30))
    t.picture = canvas.image().astype(np.float32)
    t.turned(
        0.5 * w,
        0.86 * h,
        profile=[(0, 40), (50, 76), (110, 84), (160, 50), (185, 40), (200, 52)],
        ink=(66, 116, 168),
        gloss=0.9,
    )
    t.ball(0.22 * w, 0.88 * h, 30, ink=(226, 140, 50), squash=0.95)
    return t.image()


def _solids(job: Commission) -> RGB:
    t, w, h = (
        _Table(job, wall="0d0d12 23222c 3d3a46", cloth="1a1820 4a4450 8b8590", edge=0.62),
        job.width,
        job.height,
    )
    cube = np.array(
        [(0.6, 0.54), (0.74, 0.57), (0.74, 0.8), (0.6, 0.76), (0.86, 0.53), (0.86, 0.74), (0.72, 0.505)]
    ) * (w, h)
    t.shadow(0.74 * w, 0.77 * h, wide=100)
    t.draw(
        [
            (cube[[0, 1, 2, 3]], (186, 178, 166)),
            (cube[[1, 4, 5, 2]], (78, 72, 78)),
            (cube[[0, 1, 4, 6]], (236, 230, 216)),
        ]
    )
    t.turned(
        0.28 * w, 0.72 * h, profile=[(0, 84), (80, 56), (160, 28), (238, 1.5)], ink=(212, 204, 190), gloss=0.2
    )
    t.turned(
        0.5 * w, 0.66 * h, profile=[(0, 46), (60, 46), (140, 46), (220, 46)], ink=(180, 150, 128), gloss=0.2
    )
    t.ball(0.45 * w, 0.78 * h, 72, ink=(214, 206, 196), gloss=0.5)
    t.ball(0.16 * w, 0.82 * h, 38, ink=(178, 58, 44), gloss=0.9)
    return t.image()


def _jug_pears(job: Commission) -> RGB:
    t, w, h = (
        _Table(job, wall="6b705c a5a58d ffe8d6", cloth="cb997e ddbea9 fff1e6", edge=0.66),
        job.width,
        job.height,
    )
    t.turned(
        0.7 * w,
        0.78 * h,
        profile=[(0, 56), (60, 86), (130, 80), (190, 40), (230, 44), (250, 58)],
        ink=(240, 236, 224),
        gloss=0.8,
    )
    for x, y in ((0.26, 0.74), (0.42, 0.8), (0.12, 0.8)):
        t.turned(
            x * w,
            y * h + 34,
            profile=[(0, 30), (24, 44), (56, 44), (90, 24), (118, 15), (128, 8)],
            ink=(178, 178, 60),
            gloss=0.4,
        )
    return t.image()


def still_life(job: Commission) -> RGB:
    """Still lifes: bottle and apples, a vase of flowers, plaster solids, jug and pears."""
    return (_bottle_apples, _vase_flowers, _solids, _jug_pears)[job.variant](job)
