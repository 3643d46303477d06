"""Pictures that look printed: woodcuts and engravings, both carved out of a map of tones."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from artstudio.canvas import (
    RGB,
    Canvas,
    Commission,
    Field,
    colours,
    displace,
    grain,
    grid,
    noise,
    oval,
    over,
    ridge,
    smooth,
    to_rgb,
)

_WOOD = 2


class _Block:
    """A wood block, twice the size of the print: ink (0–1) carved region by region."""

    def __init__(self, job: Commission) -> None:
        self.width, self.height = job.width * _WOOD, job.height * _WOOD
        self.rng = job.rng
        self.ink: Field = np.zeros((self.height, self.width), np.float32)
        self.x, self.y = (part / _WOOD for part in grid(self.width, self.height))
        self.wobble = noise(job.rng, width=self.width, height=self.height, cell=70, octaves=4) * 14

    def shape(self, points: ArrayLike) -> NDArray[np.bool_]:
        """The region inside a polygon given in pixels of the print."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [np.rint(np.asarray(points) * _WOOD).astype(np.int32)], (1,))
        return mask.astype(bool)

    def carve(
        self, region: NDArray[np.bool_], *, tone: ArrayLike, phase: NDArray[np.floating], gap: float = 6
    ) -> None:
        """Cuts lines along ``phase`` (pixels across the lines), ``tone`` 0 black to 1 white."""
        wave = 0.5 + 0.5 * np.sin((phase + self.wobble * 0.4) * (2 * np.pi / gap))
        chips = noise(self.rng, width=self.width, height=self.height, cell=9, octaves=2) * 0.3 - 0.15
        self.ink = np.where(region, (wave + chips > np.asarray(tone)).astype(np.float32), self.ink)

    def fill(self, points: ArrayLike, ink: float) -> None:
        """Leaves (1) or cuts away (0) a whole polygon."""
        self.ink[self.shape(points)] = ink

    def stroke(self, points: ArrayLike, ink: float, *, width: float) -> None:
        """Leaves or cuts one line."""
        line = np.rint(np.asarray(points) * _WOOD).astype(np.int32)
        cv2.polylines(self.ink, [line], False, (ink,), max(1, round(width * _WOOD)))

    def printed(self, *, paper: str, black: str, second: tuple[str, NDArray[np.bool_]] | None = None) -> RGB:
        """Presses the block on paper, over a second colour where one is given."""
        rough = noise(self.rng, width=self.width, height=self.height, cell=5, octaves=1) * 3
        ink = displace(self.ink, dx=rough - 1.5, dy=rough[::-1] - 1.5)
        patchy = 0.86 + 0.14 * noise(self.rng, width=self.width, height=self.height, cell=40, octaves=5)
        sheet = np.full((self.height, self.width, 3), colours(paper)[0], np.float32)
        if second is not None:
            sheet = over(sheet, colours(second[0])[0], mask=second[1].astype(np.float32) * patchy)
        sheet = over(sheet, colours(black)[0], mask=ink * patchy)
        edge = 20 * _WOOD
        margin = np.ones((self.height, self.width), np.float32)
        margin[edge:-edge, edge:-edge] = 0
        sheet = over(sheet, colours(paper)[0], mask=margin)
        small = cv2.resize(sheet, (self.width // _WOOD, self.height // _WOOD), interpolation=cv2.INTER_AREA)
        return grain(small, self.rng, strength=3)


def _birches(job: Commission) -> RGB:
    b, w, h, rng = _Block(job), job.width, job.height, job.rng
    sun = np.hypot(b.x - 0.7 * w, b.y - 0.24 * h)
    b.carve(b.y < h, tone=0.35 + 0.5 * np.exp(-sun / 160), phase=sun, gap=8)
    b.ink[sun < 44] = 0
    for level, height in ((0.44, 60), (0.52, 36)):
        line = level * h - height * ridge(rng, width=w * _WOOD, cell=340)
        b.carve(
            b.y > line[None] / 1.0,
            tone=0.18 + 0.35 * (b.y / h),
            phase=b.x * 0.7 + b.y * 0.7 * (1 if height > 50 else -1),
            gap=7,
        )
    lake = b.y > 0.62 * h
    shine = np.exp(-np.abs(b.x - 0.7 * w) / 70)
    b.carve(lake, tone=0.22 + 0.6 * shine + 0.1 * np.sin(b.y / 9), phase=b.y + 3 * np.sin(b.x / 17), gap=8)
    bank = 0.86 * h + 14 * np.sin(b.x / 60)
    b.carve(b.y > bank, tone=np.full(b.x.shape, 0.3), phase=b.x + 8 * np.sin(b.y / 4), gap=5)
    for cx, wide in ((0.16, 40), (0.34, 28), (0.88, 46)):
        lean = rng.uniform(-0.06, 0.06)
        ys = np.linspace(0, h * 0.93, 24)
        xs = cx * w + lean * (ys - h / 2) + 5 * np.sin(ys / 70)
        thick = wide * (0.62 + 0.38 * ys / h)
        b.fill(
            np.vstack([np.column_stack([xs - thick / 2, ys]), np.column_stack([xs + thick / 2, ys])[::-1]]), 0
        )
        b.stroke(np.column_stack([xs + thick / 2, ys]), 1, width=5)
        b.stroke(np.column_stack([xs - thick / 2, ys]), 1, width=2)
        for _ in range(34):
            k = int(rng.integers(1, 23))
            side = rng.choice([-1, 1])
            start = xs[k] + side * thick[k] / 2
            y = ys[k] + rng.uniform(-12, 12)
            reach = rng.uniform(0.2, 0.75) * thick[k]
            b.fill(
                [
                    (start, y - rng.uniform(1, 4)),
                    (start - side * reach, y + 1),
                    (start, y + rng.uniform(1, 4)),
                ],
                1,
            )
        for _ in range(5):
            k, side = int(rng.integers(1, 12)), rng.choice([-1, 1])
            t = np.linspace(0, 1, 9)
            b.stroke(
                np.column_stack([xs[k] + side * (thick[k] / 2 + 70 * t), ys[k] - 60 * t**1.6]), 1, width=4
            )
    return b.printed(paper="f3ead8", black="1d1a18", second=("e2a63b", sun < 44))


def _moon_house(job: Commission) -> RGB:
    b, w, h, rng = _Block(job), job.width, job.height, job.rng
    moon = np.hypot(b.x - 0.3 * w, b.y - 0.24 * h)
    swirl = moon + 20 * np.sin(np.arctan2(b.y - 0.24 * h, b.x - 0.3 * w) * 5)
    b.carve(b.y < h, tone=0.1 + 0.6 * np.exp(-moon / 120), phase=swirl, gap=10)
    b.ink[moon < 62] = 0
    b.ink[np.hypot(b.x - 0.335 * w, b.y - 0.225 * h) < 52] = 1
    for _ in range(40):
        sx, sy = rng.uniform(0.05, 0.95) * w, rng.uniform(0.05, 0.5) * h
        for a in (0.0, np.pi / 2):
            r = rng.uniform(3, 7)
            b.stroke(
                [(sx - r * np.cos(a), sy - r * np.sin(a)), (sx + r * np.cos(a), sy + r * np.sin(a))],
                0,
                width=1.6,
            )
    hill = 0.7 * h - 70 * np.cos((b.x - 0.62 * w) / w * 4)
    b.carve(b.y > hill, tone=0.62 - 0.55 * (b.y - hill) / h, phase=b.y - hill * 0.9 + b.x * 0.1, gap=9)
    left, top, wide, tall = 0.5 * w, 0.5 * h, 0.28 * w, 0.2 * h
    b.fill([(left, top), (left + wide, top), (left + wide, top + tall), (left, top + tall)], 1)
    wall = b.shape(
        [(left + 4, top), (left + wide - 4, top), (left + wide - 4, top + tall), (left + 4, top + tall)]
    )
    b.carve(wall, tone=np.full(b.x.shape, 0.34), phase=b.y, gap=9)
    roof = [(left - 24, top + 6), (left + wide * 0.5, top - 92), (left + wide + 24, top + 6)]
    b.fill(roof, 1)
    b.carve(b.shape(roof), tone=np.full(b.x.shape, 0.3), phase=b.x + b.y, gap=8)
    windows = np.zeros(b.x.shape, bool)
    for k in (0.16, 0.62):
        x0, y0 = left + k * wide, top + 26
        pane = [(x0, y0), (x0 + 36, y0), (x0 + 36, y0 + 44), (x0, y0 + 44)]
        b.fill(np.array(pane) + np.array([[-5, -5], [5, -5], [5, 5], [-5, 5]]), 1)
        b.fill(pane, 0)
        windows |= b.shape(pane)
        b.stroke([(x0 + 18, y0), (x0 + 18, y0 + 44)], 1, width=3)
        b.stroke([(x0, y0 + 22), (x0 + 36, y0 + 22)], 1, width=3)
    t = np.linspace(0, 1, 60)
    for k in range(4):
        b.stroke(
            np.column_stack(
                [left + wide * 0.76 + 50 * t + 14 * np.sin(t * 9 + k), top - 66 - 210 * t + 4 * k]
            ),
            0,
            width=3.5,
        )
    for k in range(15):
        x0 = 14 + k * w / 14.5
        y0 = 0.86 * h + 8 * np.sin(k)
        b.fill([(x0, y0), (x0 + 9, y0 - 14), (x0 + 18, y0), (x0 + 18, h), (x0, h)], float(k % 2 == 2))
        b.stroke([(x0, h), (x0, y0), (x0 + 9, y0 - 14), (x0 + 18, y0), (x0 + 18, h)], 1, width=3)
    return b.printed(paper="efe6d2", black="14213d", second=("e76f51", windows))


def _whale(job: Commission) -> RGB:
    b, w, h, rng = _Block(job), job.width, job.height, job.rng
    b.carve(b.y < h, tone=0.9 - 0.75 * (b.y / h) ** 0.6, phase=b.y + 5 * np.sin(b.x / 60), gap=8)
    body = smooth(
        [
            (0.12 * w, 0.5 * h),
            (0.2 * w, 0.34 * h),
            (0.42 * w, 0.27 * h),
            (0.64 * w, 0.36 * h),
            (0.78 * w, 0.3 * h),
            (0.84 * w, 0.12 * h),
            (0.9 * w, 0.16 * h),
            (0.97 * w, 0.1 * h),
            (0.92 * w, 0.3 * h),
            (0.83 * w, 0.44 * h),
            (0.66 * w, 0.56 * h),
            (0.4 * w, 0.64 * h),
            (0.2 * w, 0.62 * h),
        ],
        closed=True,
    )
    b.fill(body, 1)
    back = b.shape(body)
    b.carve(
        back,
        tone=0.08 + 0.6 * np.clip((b.y / h - 0.42) * 4 - 0.3 * np.sin(b.x / w * 4), 0, 1),
        phase=b.y * 1.2 - 60 * np.sin(b.x / w * 3),
        gap=9,
    )
    b.stroke(np.vstack([body, body[:1]]), 1, width=4)
    b.stroke(smooth([(0.13 * w, 0.53 * h), (0.22 * w, 0.54 * h), (0.34 * w, 0.49 * h)]), 0, width=3)
    b.fill(oval(0.3 * w, 0.44 * h, rx=9, ry=7), 0)
    b.fill(oval(0.3 * w, 0.44 * h, rx=4, ry=4), 1)
    fin = smooth([(0.42 * w, 0.56 * h), (0.5 * w, 0.72 * h), (0.6 * w, 0.78 * h), (0.54 * w, 0.56 * h)])
    b.fill(fin, 1)
    b.carve(b.shape(fin), tone=np.full(b.x.shape, 0.4), phase=b.x - b.y * 0.6, gap=7)
    for row in range(6):
        y0 = h * (0.68 + row * 0.06)
        crest = y0 + 16 * np.abs(np.sin(b.x / 44 + row * 1.1)) ** 0.7 * (1 if row % 2 else -1)
        b.carve(b.y > crest, tone=np.full(b.x.shape, 0.32 + 0.1 * (row % 2)), phase=b.y - crest, gap=9)
        xs = np.arange(0, w)
        line = y0 + 16 * np.abs(np.sin(xs / 44 + row * 1.1)) ** 0.7 * (1 if row % 2 else -1)
        b.stroke(np.column_stack([xs, line]), 0, width=4)
    for _ in range(26):
        b.fill(
            oval(rng.uniform(0.18, 0.4) * w, rng.uniform(0.06, 0.24) * h, rx=4, ry=7), rng.choice([0.0, 1.0])
        )
    return b.printed(paper="e9edde", black="0b3954")


def _owl(job: Commission) -> RGB:
    b, w, h = _Block(job), job.width, job.height
    halo = np.hypot(b.x - 0.5 * w, b.y - 0.45 * h)
    b.carve(
        b.y < h,
        tone=0.08 + 0.75 * np.exp(-((halo / 230) ** 4)),
        phase=np.arctan2(b.y - 0.45 * h, b.x - 0.5 * w) * 95,
        gap=10,
    )
    body = oval(0.5 * w, 0.52 * h, rx=0.17 * w, ry=0.34 * h)
    b.fill(body, 1)
    row = np.floor(b.y / 16)
    b.carve(
        b.shape(body),
        tone=np.full(b.x.shape, 0.42),
        phase=b.y - 9 * np.abs(np.sin((b.x + row % 2 * 12) / 12 * 1.57)),
        gap=16,
    )
    for side in (-1, 1):
        eye = 0.5 * w + side * 0.075 * w
        b.fill(
            [
                (0.5 * w + side * 0.04 * w, 0.22 * h),
                (0.5 * w + side * 0.16 * w, 0.1 * h),
                (0.5 * w + side * 0.15 * w, 0.36 * h),
            ],
            1,
        )
        disc = np.hypot(b.x - eye, b.y - 0.34 * h)
        b.carve(
            disc < 0.085 * w,
            tone=np.full(b.x.shape, 0.6),
            phase=np.arctan2(b.y - 0.34 * h, b.x - eye) * 40,
            gap=10,
        )
        b.fill(oval(eye, 0.34 * h, rx=22, ry=22), 0)
        b.fill(oval(eye, 0.34 * h, rx=12, ry=12), 1)
    b.fill([(0.48 * w, 0.38 * h), (0.52 * w, 0.38 * h), (0.5 * w, 0.46 * h)], 0)
    branch = smooth([(0, 0.86 * h), (0.3 * w, 0.83 * h), (0.6 * w, 0.87 * h), (w, 0.78 * h)])
    b.stroke(branch, 1, width=34)
    b.stroke(branch, 0, width=3)
    return b.printed(paper="f0e4cf", black="2b2118", second=("8f2d2d", halo < 0))


def woodcut(job: Commission) -> RGB:
    """Prints carved with a gouge: birches, a house by night, a whale, an owl."""
    return (_birches, _moon_house, _whale, _owl)[job.variant](job)


def _eye(job: Commission, x: Field, y: Field) -> tuple[Field, Field]:
    w, h = job.width, job.height
    dx, dy = (x - 0.5 * w) / (0.42 * w), (y - 0.52 * h) / (0.42 * w)
    r = np.hypot(dx, dy)
    upper, lower = -0.52 * (1 - np.abs(dx) ** 2.2), 0.36 * (1 - dx**2)
    opened = (dy > upper) & (dy < lower) & (np.abs(dx) < 1)
    spokes = 0.12 * np.sin(np.arctan2(dy, dx) * 46)
    iris = np.where(r < 0.17, 0.02, 0.5 + spokes + 0.7 * (r - 0.3))
    ball = np.where(r < 0.42, iris, 0.98 - 0.35 * np.abs(dx) ** 2)
    ball = ball - 0.4 * np.exp(-np.abs(dy - upper) * 9)
    ball = np.where(np.hypot(dx + 0.1, dy + 0.13) < 0.06, 1.0, ball)
    crease = 0.62 * np.exp(-np.abs(dy - upper * 1.25 + 0.12) * 14) + 0.5 * np.exp(
        -np.abs(dy - lower * 1.3 - 0.1) * 16
    )
    brow = 0.8 * np.exp(-(((dy + 0.98 - 0.12 * np.cos(dx * 2.2 + 0.4)) * 9) ** 2)) * (np.abs(dx) < 1.05)
    skin = 0.82 - crease - brow - 0.25 * np.hypot(dx, dy) ** 2 * 0.35
    tone = np.where(opened, ball, skin)
    edge = np.abs(dy - upper) < 0.035
    tone = np.where(edge & (np.abs(dx) < 1), 0, tone)
    return tone.astype(np.float32), (dy * 110 + 40 * np.cos(dx * 1.4)).astype(np.float32)


def _nautilus(job: Commission, x: Field, y: Field) -> tuple[Field, Field]:
    w, h = job.width, job.height
    dx, dy = x - 0.56 * w, y - 0.5 * h
    r, a = np.hypot(dx, dy) + 1e-3, np.arctan2(dy, dx)
    growth = 0.178
    turns = (np.log(r / (0.36 * w)) / growth - a) / (2 * np.pi)
    inside = turns < -0.02
    across = turns % 1
    whorl = np.floor(turns)
    unrolled = a + 2 * np.pi * whorl
    septa = np.abs(np.sin(unrolled * 5.5 + 2.2 * across**2))
    tone = (
        0.1
        + 0.8 * np.sin(np.pi * across) ** 1.1 * (0.75 + 0.25 * np.cos(a - 2.2))
        - 0.55 * np.exp(-septa * 7)
        - 0.5 * np.exp(-across * 22)
    )
    ground = 0.93 - 0.42 * np.exp(-(((x - 0.52 * w) / (0.42 * w)) ** 2) - ((y - 0.93 * h) / 30) ** 2)
    return np.where(inside, tone, ground).astype(np.float32), np.where(
        inside, across * 50 + r * 0.25, y
    ).astype(np.float32)


def _balloon(job: Commission, x: Field, y: Field) -> tuple[Field, Field]:
    w, h = job.width, job.height
    sky = 0.66 + 0.34 * noise(job.rng, width=w * 2, height=h * 2, cell=240, octaves=4, stretch=2)
    phase = y.copy()
    for level, dark in ((0.74, 0.62), (0.82, 0.45), (0.9, 0.3)):
        line = level * h - 34 * ridge(job.rng, width=w * 2, cell=320)[None]
        under = y > line
        sky = np.where(under, dark + 0.25 * np.clip((y - line) / 60, 0, 1), sky)
        phase = np.where(under, (y - line) * 0.9 + 0.3 * x, phase)
    for cx, cy, size in ((0.42, 0.33, 0.23), (0.8, 0.2, 0.08), (0.13, 0.56, 0.06)):
        dx, dy = (x - cx * w) / (size * w), (y - cy * h) / (size * w)
        shape = dx**2 / np.clip(1 - 0.42 * np.clip(dy, 0, 2), 0.1, 1) ** 2 + (dy * 0.9) ** 2
        inside = shape < 1
        across = np.arcsin(np.clip(dx / np.sqrt(np.clip(1 - (dy * 0.9) ** 2, 0.02, 1)), -1, 1))
        panels = 0.32 * (np.sin(across * 7) > 0) + 0.2 * (np.abs(dy) < 0.16)
        shade = np.clip(1.0 - panels - 0.45 * (dx + 0.4) ** 2 - 0.2 * dy, 0.05, 1)
        sky = np.where(inside, shade, sky)
        phase = np.where(inside, across * size * w * 0.9, phase)
        basket = (np.abs(dx) < 0.15) & (np.abs(dy - 1.55) < 0.13)
        ropes = (np.abs(np.abs(dx) - 0.15 - 0.12 * (1.42 - dy)) < 0.014) & (dy > 1.0) & (dy < 1.43)
        sky = np.where(basket | ropes, 0.1, sky)
    return sky.astype(np.float32), phase.astype(np.float32)


def _planet(job: Commission, x: Field, y: Field) -> tuple[Field, Field]:
    w, h = job.width, job.height
    dx, dy = (x - 0.48 * w) / (0.27 * w), (y - 0.5 * h) / (0.27 * w)
    r = np.hypot(dx, dy)
    light = np.clip((-0.6 * dx - 0.4 * dy + 0.7 * np.sqrt(np.clip(1 - r**2, 0, 1))), 0.02, 1)
    tone = np.where(r < 1, light * (0.85 + 0.15 * np.sin(dy * 14 + dx * 3)), 0.12)
    ex, ey = dx * np.cos(0.35) + dy * np.sin(0.35), (dy * np.cos(0.35) - dx * np.sin(0.35)) * 4
    rings = np.hypot(ex, ey)
    front = (rings > 1.25) & (rings < 1.8) & ((r > 1) | (ey > 0))
    tone = np.where(front, 0.6 + 0.35 * np.sin(rings * 40), tone)
    stars = noise(job.rng, width=w * 2, height=h * 2, cell=5, octaves=1) > 0.96
    return np.where(stars & (r > 1) & ~front, 1, tone).astype(np.float32), (
        dy * 80 + 20 * np.sin(dx * 2)
    ).astype(np.float32)


_PLATES: tuple[Callable[[Commission, Field, Field], tuple[Field, Field]], ...] = (
    _eye,
    _nautilus,
    _balloon,
    _planet,
)


def engraving(job: Commission) -> RGB:
    """Copper plates: fine lines that swell with the tone, crossed where it is dark."""
    rng, w, h = job.rng, job.width, job.height
    x, y = (np.float32(0.5) * part for part in grid(w * 2, h * 2))
    tone, phase = _PLATES[job.variant](job, x, y)
    tone = np.clip(tone, 0, 1)
    wobble = noise(rng, width=w * 2, height=h * 2, cell=120, octaves=3) * 5
    lines = 0.5 + 0.5 * np.sin((phase + wobble) * (2 * np.pi / 5.2))
    crossed = 0.5 + 0.5 * np.sin((x * 0.75 + y * 0.62 + wobble) * (2 * np.pi / 5.2))
    ink = np.clip((lines - tone * 1.12) * 5 + 0.3, 0, 1)
    ink = np.maximum(ink, np.clip((crossed - tone * 1.9 - 0.05) * 5, 0, 1))
    border = np.minimum(np.minimum(x, w - x), np.minimum(y, h - y))
    ink = np.where(border < 22, 0, ink)
    ink = np.where(np.abs(border - 19) < 1, 1, ink)
    paper, black = (("f4ecd8", "2a1f1a"), ("efe9dc", "1b2a41"), ("f6efe0", "3a2618"), ("e8e4d9", "10151c"))[
        job.variant
    ]
    sheet = np.full((h * 2, w * 2, 3), colours(paper)[0], np.float32)
    sheet = over(sheet, colours(black)[0], mask=ink)
    canvas = Canvas(to_rgb(cv2.resize(sheet, (w, h), interpolation=cv2.INTER_AREA)))
    return grain(canvas.image(), rng, strength=2)
