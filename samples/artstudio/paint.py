"""Painted pictures: washes of watercolour and gestures of a broad brush."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from artstudio.canvas import (
    RGB,
    Canvas,
    Colour,
    Commission,
    blur,
    colours,
    grain,
    mix,
    noise,
    oval,
    ramp,
    smooth,
    to_rgb,
    vary,
)


class _Paper:
    """Watercolour paper: washes multiply what lies below and darken at their edges."""

    def __init__(self, job: Commission) -> None:
        self.rng, self.w, self.h = job.rng, job.width, job.height
        self.light = np.ones((self.h, self.w, 3), np.float32) * 0.97

    def wash(
        self, outline: NDArray[np.float64], ink: Colour, *, strength: float = 0.8, ragged: float = 10
    ) -> None:
        """One wash inside an outline that runs a little differently in each of its glazes."""
        reach = 3.5 * ragged + 16
        x0, y0 = np.maximum(np.floor(outline.min(axis=0) - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(outline.max(axis=0) + reach), (self.w, self.h)).astype(int)
        wide, tall, count = int(x1 - x0), int(y1 - y0), len(outline)
        if wide < 2 or tall < 2:
            return
        total = np.zeros((tall, wide), np.float32)
        for _ in range(5):
            knots = self.rng.normal(0, ragged, (2, 14))
            places = np.linspace(0, count, 14)
            drift = np.column_stack([np.interp(np.arange(count), places, row) for row in knots])
            drift += self.rng.normal(0, ragged * 0.12, outline.shape)
            canvas = Canvas.plain(wide, tall, colour=(0, 0, 0))
            canvas.polygon(outline + drift - (x0, y0), (255, 255, 255))
            total += canvas.image()[..., 0].astype(np.float32) / 255 / 5
        rim = np.clip(total - blur(total, sigma=5), 0, 1) * 1.1
        pigment = 0.5 + 0.8 * noise(self.rng, width=wide, height=tall, cell=110, octaves=5)
        depth = np.clip(total * pigment * strength + rim, 0, 1.3)[..., None]
        self.light[y0:y1, x0:x1] *= (1 - depth * (1 - np.array(ink, np.float32) / 255)).clip(0, 1)

    def image(self) -> RGB:
        """The dried sheet."""
        tooth = noise(self.rng, width=self.w, height=self.h, cell=4, octaves=2) - 0.5
        return grain(self.light * 252 * (1 + 0.045 * tooth[..., None]), self.rng, strength=2)


def _wash_flowers(job: Commission) -> RGB:
    p, w, h, rng = _Paper(job), job.width, job.height, job.rng
    for x, y, r, ink in (
        (0.34, 0.32, 90, "e07a9a"),
        (0.66, 0.28, 74, "8f6fc0"),
        (0.54, 0.52, 84, "e8a04c"),
        (0.24, 0.58, 56, "d9577a"),
        (0.8, 0.52, 54, "6f9bd1"),
    ):
        p.wash(
            smooth(
                [
                    (0.5 * w, 0.96 * h),
                    ((x * 0.5 + 0.25) * w, 0.75 * h),
                    (x * w, y * h),
                    (x * w + 7, y * h),
                    ((x * 0.5 + 0.265) * w, 0.75 * h),
                    (0.512 * w, 0.96 * h),
                ],
                closed=True,
            ),
            (96, 142, 92),
            ragged=3,
        )
        for k in range(6):
            a = k * np.pi / 3 + rng.uniform(-0.2, 0.2)
            p.wash(
                oval(
                    x * w + r * 0.55 * np.cos(a),
                    y * h + r * 0.5 * np.sin(a),
                    rx=r * 0.52,
                    ry=r * 0.36,
                    turn=a,
                ),
                vary(rng, colours(ink)[0]),
                strength=0.62,
                ragged=5,
            )
        p.wash(oval(x * w, y * h, rx=r * 0.16, ry=r * 0.16), (110, 70, 40), ragged=3)
    for x, y, turn in ((0.4, 0.78, -2.5), (0.62, 0.8, -0.7), (0.44, 0.88, 2.8), (0.6, 0.9, 0.3)):
        p.wash(oval(x * w, y * h, rx=62, ry=17, turn=turn), vary(rng, (88, 146, 100)), ragged=4)
    return p.image()


def _wash_lake(job: Commission) -> RGB:
    p, w, h, rng = _Paper(job), job.width, job.height, job.rng
    p.wash(
        np.array([(0, 0), (w, 0), (w, 0.4 * h), (0, 0.44 * h)], float).repeat(8, axis=0),
        (150, 190, 226),
        strength=0.6,
        ragged=14,
    )
    p.wash(oval(0.7 * w, 0.2 * h, rx=36, ry=36), (250, 190, 100), ragged=3)
    for k, ink in enumerate(colours("a3b1cf 7d93b8 56749a")):
        peaks = [
            (x, h * (0.42 + 0.06 * k) - rng.uniform(0.3, 1) * (170 - 40 * k) * (i % 2))
            for i, x in enumerate(np.linspace(-20, w + 20, 9 + 2 * k))
        ]
        line = np.vstack(
            [
                np.column_stack([np.linspace(a[0], b[0], 8), np.linspace(a[1], b[1], 8)])
                for a, b in itertools.pairwise(peaks)
            ]
        )
        p.wash(np.vstack([line, [(w + 20, 0.62 * h), (-20, 0.62 * h)]]), ink, strength=0.75, ragged=5)
    p.wash(
        np.array([(-20, 0.63 * h), (w + 20, 0.63 * h), (w + 20, 0.86 * h), (-20, 0.88 * h)]).repeat(
            8, axis=0
        ),
        (120, 176, 198),
        strength=0.75,
    )
    for k in range(24):
        x = rng.uniform(0, 1) ** 1.5 * 0.45 * w if k % 2 else w - rng.uniform(0, 1) ** 1.5 * 0.3 * w
        tall = rng.uniform(50, 130)
        y = 0.64 * h + rng.uniform(0, 8)
        p.wash(
            np.array([(x, y - tall), (x + tall * 0.16, y), (x - tall * 0.16, y)]).repeat(6, axis=0),
            vary(rng, (44, 92, 84)),
            strength=0.8,
            ragged=2.5,
        )
        p.wash(
            np.array([(x, y + tall * 0.7), (x + tall * 0.13, y + 4), (x - tall * 0.13, y + 4)]).repeat(
                6, axis=0
            ),
            (110, 158, 160),
            strength=0.5,
            ragged=3,
        )
    p.wash(
        smooth(
            [(-20, 0.92 * h), (0.4 * w, 0.86 * h), (w + 20, 0.93 * h), (w + 20, h + 20), (-20, h + 20)],
            closed=True,
        ),
        (140, 160, 84),
        ragged=6,
    )
    return p.image()


def _wash_rings(job: Commission) -> RGB:
    p, w, h, rng = _Paper(job), job.width, job.height, job.rng
    inks = colours("3a86c8 e4572e 76b041 ffc914 8e5aa8 17bebb")
    for k in range(26):
        x, y = rng.uniform(0.12, 0.88) * w, rng.uniform(0.12, 0.88) * h
        r = rng.uniform(24, 100) * (1 - 0.4 * (k > 10))
        p.wash(
            oval(x, y, rx=r, ry=r * rng.uniform(0.8, 1.1), turn=1),
            vary(rng, inks[k % 6], amount=20),
            strength=0.65,
            ragged=r * 0.08,
        )
    return p.image()


def _wash_jellyfish(job: Commission) -> RGB:
    p, w, h, rng = _Paper(job), job.width, job.height, job.rng
    p.wash(
        np.array([(-30, -30), (w + 30, -30), (w + 30, h + 30), (-30, h + 30)], float).repeat(8, axis=0),
        (96, 160, 190),
        strength=0.7,
    )
    for x, y, r in ((0.34, 0.3, 96), (0.72, 0.46, 70), (0.16, 0.66, 40)):
        p.wash(
            np.vstack(
                [
                    oval(x * w, y * h, rx=r, ry=r * 0.85)[32:],
                    smooth([(x * w + r, y * h), (x * w, y * h + r * 0.25), (x * w - r, y * h)]),
                ]
            ),
            (222, 110, 160),
            ragged=4,
        )
        for k in range(7):
            t = np.linspace(0, 1, 30)
            line = np.column_stack(
                [x * w + (k - 3) * r * 0.24 + 16 * np.sin(t * 7 + k), y * h + t * r * rng.uniform(1.6, 2.6)]
            )
            p.wash(np.vstack([line, (line + np.array((5, 0)))[::-1]]), (190, 90, 160), ragged=2)
    return p.image()


def watercolour(job: Commission) -> RGB:
    """Washes on rough paper: loose flowers, a mountain lake, overlapping pools, jellyfish."""
    return (_wash_flowers, _wash_lake, _wash_rings, _wash_jellyfish)[job.variant](job)


def _gesture(
    canvas: Canvas, rng: np.random.Generator, *, path: NDArray[np.float64], wide: float, ink: Colour
) -> None:
    bristles = int(wide * 1.3)
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = np.column_stack([-along[:, 1], along[:, 0]])
    for k in rng.permutation(bristles):
        offset = (k / bristles - 0.5) * wide + rng.normal(0, 0.8)
        start, stop = int(rng.integers(0, 4)), len(path) - int(rng.exponential(len(path) * 0.1))
        tone = vary(
            rng,
            mix(
                ink,
                (255, 250, 240) if rng.random() < 0.3 else (10, 10, 16),
                share=float(rng.random() ** 2 * 0.35),
            ),
            amount=8,
        )
        if stop - start > 3:
            canvas.line((path + side * offset)[start:stop], tone, width=rng.uniform(1, 2.6), alpha=0.9)


def _gestures(job: Commission, *, ground: str, inks: str, count: int, wide: tuple[float, float]) -> Canvas:
    rng, w, h = job.rng, job.width, job.height
    canvas = Canvas(to_rgb(ramp(noise(rng, width=w, height=h, cell=160, octaves=6), colours(ground))))
    palette = colours(inks)
    for k in range(count):
        middle = np.array([rng.uniform(0.2, 0.8) * w, rng.uniform(0.2, 0.8) * h])
        path = smooth(middle + np.cumsum(rng.normal(0, 0.2 * min(w, h), (5, 2)), axis=0) - 0.1 * w, steps=18)
        _gesture(canvas, rng, path=path, wide=rng.uniform(*wide), ink=palette[k % len(palette)])
    return canvas


def _drips(canvas: Canvas, rng: np.random.Generator, *, inks: str, count: int) -> None:
    palette = colours(inks)
    for _ in range(count):
        x, y, ink = (
            rng.uniform(0, canvas.width),
            rng.uniform(0, canvas.height),
            palette[int(rng.integers(len(palette)))],
        )
        for _ in range(int(rng.integers(5, 26))):
            canvas.disc(x + rng.normal(0, 26), y + rng.normal(0, 26), rng.exponential(2.2) + 0.5, colour=ink)
        if rng.random() < 0.4:
            canvas.line(
                [(x, y), (x + rng.normal(0, 2), y + rng.exponential(80))], ink, width=rng.uniform(1, 3.5)
            )


def _colour_field(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = Canvas(
        to_rgb(ramp(noise(rng, width=w, height=h, cell=240, octaves=5), colours("6d1a1a 8c2f1b 7a2318")))
    )
    for top, bottom, ink in ((0.07, 0.44, "e36414"), (0.48, 0.62, "2b0f17"), (0.66, 0.93, "f2a541")):
        for _ in range(26):
            inset = rng.normal(0.09, 0.012) * w
            y0, y1 = top * h + rng.normal(0, 5), bottom * h + rng.normal(0, 5)
            canvas.polygon(
                [(inset, y0), (w - inset, y0 + rng.normal(0, 3)), (w - inset, y1), (inset, y1)],
                vary(rng, colours(ink)[0], amount=22),
                alpha=0.12,
            )
    tooth = noise(rng, width=w, height=h, cell=30, octaves=5, stretch=3)
    return to_rgb(canvas.image() * (0.86 + 0.28 * tooth[..., None]))


def _splatter(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = Canvas(to_rgb(ramp(noise(rng, width=w, height=h, cell=90, octaves=6), colours("d9cdb4 efe6d2"))))
    palette = colours("141414 141414 f5f2ea b3391f e0b12b 37546d 141414")
    for k in range(120):
        knots = rng.uniform(-0.1, 1.1, 2) * (w, h) + np.cumsum(rng.normal(0, 75, (9, 2)), axis=0)
        path = smooth(knots, steps=14)
        widths = np.interp(
            np.arange(len(path)), np.linspace(0, len(path), 10), rng.exponential(2.4, 10) + 0.7
        )
        canvas.brush(path, palette[k % 7], widths=widths)
        for x, y in path[rng.integers(0, len(path), 5)] + rng.normal(0, 9, (5, 2)):
            canvas.disc(x, y, rng.exponential(1.8) + 0.6, colour=palette[k % 7])
    return canvas.image()


def expressionist(job: Commission) -> RGB:
    """Gestures: broad strokes with drips, fields of colour, thrown paint."""
    if job.variant == 1:
        return _colour_field(job)
    if job.variant == 2:
        return _splatter(job)
    ground, inks = [
        ("e9dcc3 f7f0e1 d8c7a5", "1b3a6b d62828 f4b400 111111 ffffff 2a9d8f"),
        ("20242c 3a4048 15181d", "f2f2ee ff5d8f 7bdff2 f7d6e0"),
    ][job.variant // 3]
    canvas = _gestures(job, ground=ground, inks=inks, count=15 if job.variant == 0 else 9, wide=(28, 74))
    _drips(canvas, job.rng, inks=inks, count=40)
    return canvas.image()
