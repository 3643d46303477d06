"""Simple scenes taken apart into points of colour."""

from __future__ import annotations

import numpy as np

from artstudio.canvas import (
    RGB,
    Canvas,
    Commission,
    blur,
    colours,
    mix,
    oval,
    ramp,
    to_rgb,
    vary,
)


def _park(job: Commission) -> RGB:
    w, h, rng = job.width, job.height, job.rng
    canvas = Canvas.plain(w, h, colour=(168, 206, 228))
    canvas.polygon([(0, 0.42 * h), (w, 0.36 * h), (w, h), (0, h)], (128, 170, 74))
    canvas.polygon([(0, 0.44 * h), (0.55 * w, 0.4 * h), (0.2 * w, 0.62 * h), (0, 0.66 * h)], (74, 128, 178))
    canvas.polygon([(0, 0.84 * h), (0.6 * w, 0.7 * h), (w, 0.74 * h), (w, h), (0, h)], (58, 98, 62))
    for x, y, r in ((0.75, 0.2, 120), (0.95, 0.16, 130), (0.56, 0.28, 60), (0.08, 0.3, 50), (0.2, 0.34, 36)):
        canvas.line([(x * w, y * h), (x * w, y * h + r * 1.9)], (86, 62, 50), width=r * 0.16)
        for _ in range(16):
            canvas.disc(
                x * w + rng.normal(0, r * 0.4),
                y * h + rng.normal(0, r * 0.32),
                r * 0.36,
                colour=vary(rng, (70, 124, 60), amount=34),
            )
    for x, y, s, ink in (
        (0.3, 0.72, 1.0, "d1495b"),
        (0.5, 0.62, 0.7, "f4f1de"),
        (0.78, 0.8, 1.3, "3d348b"),
        (0.14, 0.7, 0.6, "edae49"),
    ):
        px, py = x * w, y * h
        canvas.polygon(
            [
                (px - 18 * s, py + 60 * s),
                (px - 8 * s, py - 20 * s),
                (px + 8 * s, py - 20 * s),
                (px + 20 * s, py + 60 * s),
            ],
            mix(colours(ink)[0], (20, 20, 60), share=0.5),
        )
        canvas.disc(px, py - 28 * s, 8 * s, colour=(234, 196, 164))
        canvas.polygon(np.vstack([oval(px, py - 40 * s, rx=40 * s, ry=28 * s)[32:]]), colours(ink)[0])
        canvas.polygon(oval(px + 50 * s, py + 62 * s, rx=44 * s, ry=7 * s), (44, 70, 66))
    return canvas.image()


def _harbour(job: Commission) -> RGB:
    w, h, rng = job.width, job.height, job.rng
    canvas = Canvas(
        to_rgb(
            ramp(
                np.linspace(0, 1, h)[:, None] * np.ones((1, w)),
                colours("5b7db1 f2b5a0 ffe3a3 e59b82 4d6aa3 2c3f73"),
            )
        )
    )
    canvas.disc(0.35 * w, 0.36 * h, 44, colour=(255, 236, 150))
    for k in range(26):
        x = k * w / 24
        canvas.polygon(
            [
                (x, 0.5 * h),
                (x, (0.46 - 0.05 * rng.random()) * h),
                (x + 30, (0.46 - 0.05 * rng.random()) * h),
                (x + 30, 0.5 * h),
            ],
            vary(rng, (120, 90, 130)),
        )
    for _ in range(60):
        y = 0.52 * h + rng.random() * 0.4 * h
        canvas.line(
            [(0.35 * w + rng.normal(0, 30), y), (0.35 * w + rng.normal(0, 30) + 30, y)],
            (255, 214, 140),
            width=5,
        )
    for x, y, s, ink in (
        (0.7, 0.64, 1.5, "c8553d"),
        (0.24, 0.7, 1.1, "2a6f6f"),
        (0.48, 0.56, 0.6, "6d597a"),
        (0.88, 0.55, 0.5, "335c67"),
    ):
        px, py = x * w, y * h
        canvas.polygon(
            [
                (px - 70 * s, py - 10 * s),
                (px + 70 * s, py - 14 * s),
                (px + 46 * s, py + 18 * s),
                (px - 50 * s, py + 18 * s),
            ],
            colours(ink)[0],
        )
        canvas.polygon([(px, py - 14 * s), (px, py - 150 * s), (px + 60 * s, py - 22 * s)], (250, 240, 220))
        canvas.polygon(
            [(px - 5 * s, py - 14 * s), (px - 5 * s, py - 130 * s), (px - 46 * s, py - 20 * s)],
            (238, 200, 150),
        )
        canvas.polygon(
            [(px - 40 * s, py + 24 * s), (px + 40 * s, py + 24 * s), (px + 10 * s, py + 90 * s)],
            (210, 170, 160),
        )
    return canvas.image()


def _sunflowers(job: Commission) -> RGB:
    w, h, rng = job.width, job.height, job.rng
    canvas = Canvas(
        to_rgb(
            ramp(
                np.linspace(0, 1, h)[:, None] * np.ones((1, w)),
                colours("2f6fb5 86bbd8 f7e3af 7a9e3a 486b2a 2f4a1f"),
            )
        )
    )
    canvas.polygon(
        [
            (0.6 * w, 0.42 * h),
            (0.6 * w, 0.3 * h),
            (0.68 * w, 0.24 * h),
            (0.76 * w, 0.3 * h),
            (0.76 * w, 0.42 * h),
        ],
        (190, 84, 60),
    )
    for depth in np.sort(rng.uniform(0, 1, 70)) ** 1.3:
        x, y, r = rng.uniform(-0.05, 1.05) * w, (0.47 + 0.55 * depth) * h, 7 + 46 * depth
        canvas.line([(x, y), (x, y + 3 * r)], (52, 92, 40), width=2 + r * 0.12)
        for j in range(14):
            a = j * 2 * np.pi / 14
            canvas.polygon(
                oval(x + r * 0.7 * np.cos(a), y + r * 0.62 * np.sin(a), rx=r * 0.42, ry=r * 0.17, turn=a),
                vary(rng, (246, 190, 30), amount=26),
            )
        canvas.disc(x, y, r * 0.46, colour=(84, 46, 24))
    return canvas.image()


def _poplars(job: Commission) -> RGB:
    w, h, rng = job.width, job.height, job.rng
    canvas = Canvas(
        to_rgb(
            ramp(
                np.linspace(0, 1, h)[:, None] * np.ones((1, w)),
                colours("c7b8ea f6d6e0 fbe7c6 a7c5a0 7aa6b8 4f7c9c"),
            )
        )
    )
    for k in range(9):
        x = (0.05 + 0.115 * k) * w
        for sign, base in ((-1, 0.58), (1, 0.6)):
            for j in range(26):
                canvas.disc(
                    x + rng.normal(0, 9),
                    base * h + sign * j * 0.016 * h,
                    16 - j * 0.35,
                    colour=vary(rng, (110, 140, 80) if sign < 0 else (84, 124, 118), amount=26),
                )
    return canvas.image()


def pointillism(job: Commission) -> RGB:
    """A simple scene taken apart into dots whose hues only mix in the eye."""
    rng, w, h = job.rng, job.width, job.height
    scene = (_park, _harbour, _sunflowers, _poplars)[job.variant](job)
    soft = blur(scene, sigma=3)
    canvas = Canvas(to_rgb(blur(scene, sigma=12) * 0.5 + 118))
    for size, count in ((7.0, w * h // 60), (5.0, w * h // 36), (3.4, w * h // 30)):
        places = np.column_stack([rng.uniform(0, w, count), rng.uniform(0, h, count)])
        shades = soft[places[:, 1].astype(int), places[:, 0].astype(int)]
        shades = (shades - shades.mean(axis=1, keepdims=True)) * 1.35 + shades.mean(axis=1, keepdims=True)
        shades = np.clip(shades + rng.normal(0, 24, shades.shape), 0, 255).astype(int)
        for (x, y), (r, g, b) in zip(places.tolist(), shades.tolist(), strict=True):
            canvas.polygon(oval(x, y, rx=size / 2, ry=size / 2.4, steps=8), (r, g, b))
    return canvas.image()
