"""Broken transmissions: digital pictures with their errors."""

from __future__ import annotations

import numpy as np

from artstudio.canvas import (
    RGB,
    Canvas,
    Commission,
    colours,
    displace,
    grid,
    oval,
    ramp,
    smooth,
    to_rgb,
    vary,
)


def _vapour(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas(to_rgb(ramp(grid(w, h)[1] / h, colours("13002e 4a0d67 ff2e93 ff9e64"))))
    c.disc(0.5 * w, 0.42 * h, 0.2 * w, colour=(255, 224, 102))
    for k in range(7):
        c.polygon(
            [
                (0, (0.42 + 0.026 * k) * h),
                (w, (0.42 + 0.026 * k) * h),
                (w, (0.425 + 0.03 * k) * h),
                (0, (0.425 + 0.03 * k) * h),
            ],
            (210, 30, 130),
        )
    c.polygon([(0, 0.6 * h), (w, 0.6 * h), (w, h), (0, h)], (20, 2, 50))
    for k in range(-14, 15):
        c.line([(0.5 * w + k * 22, 0.6 * h), (0.5 * w + k * 130, h)], (40, 240, 255), width=1.5)
    for k in range(12):
        y = 0.6 * h + 0.4 * h * (k / 11) ** 2.2
        c.line([(0, y), (w, y)], (40, 240, 255), width=1.5)
    return c.image()


def _bust(job: Commission) -> RGB:
    w, h, rng = job.width, job.height, job.rng
    x, y = grid(w, h)
    c = Canvas(to_rgb(ramp(y / h, colours("0d1b4c 3a5ba0 f0a6ca"))))
    c.polygon(
        smooth(
            [
                (0.12 * w, h),
                (0.26 * w, 0.82 * h),
                (0.42 * w, 0.76 * h),
                (0.58 * w, 0.76 * h),
                (0.76 * w, 0.84 * h),
                (0.9 * w, h),
            ]
        ),
        (225, 222, 230),
    )
    c.polygon(
        [(0.42 * w, 0.62 * h), (0.58 * w, 0.62 * h), (0.6 * w, 0.82 * h), (0.4 * w, 0.82 * h)],
        (196, 192, 206),
    )
    c.polygon(oval(0.5 * w, 0.42 * h, rx=0.19 * w, ry=0.26 * h), (236, 232, 238))
    for _ in range(70):
        a = rng.uniform(np.pi, 2 * np.pi)
        c.ring(
            0.5 * w + 0.19 * w * np.cos(a),
            0.34 * h + 0.2 * h * np.sin(a),
            rng.uniform(8, 20),
            colour=vary(rng, (206, 200, 214)),
            width=4,
        )
    for side in (-1, 1):
        c.polygon(oval(0.5 * w + side * 0.075 * w, 0.42 * h, rx=26, ry=11), (150, 146, 170))
        c.line(
            smooth(
                [
                    (0.5 * w + side * 0.03 * w, 0.37 * h),
                    (0.5 * w + side * 0.08 * w, 0.355 * h),
                    (0.5 * w + side * 0.13 * w, 0.38 * h),
                ]
            ),
            (140, 136, 160),
            width=4,
        )
    c.line(
        smooth([(0.5 * w, 0.4 * h), (0.515 * w, 0.52 * h), (0.485 * w, 0.53 * h)]), (150, 146, 170), width=5
    )
    c.line(
        smooth([(0.45 * w, 0.59 * h), (0.5 * w, 0.58 * h), (0.55 * w, 0.59 * h)]), (150, 100, 130), width=6
    )
    return to_rgb(c.image() * (1.12 - 0.45 * np.clip((x / w - 0.35) * 1.3, 0, 1))[..., None])


def _test_card(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas.plain(w, h, colour=(30, 30, 34))
    for k, ink in enumerate(colours("f0f0f0 f0e020 20e0e0 20d040 e030d0 e03030 2040e0")):
        c.polygon(
            [(k * w / 7, 0), ((k + 1) * w / 7, 0), ((k + 1) * w / 7, 0.66 * h), (k * w / 7, 0.66 * h)], ink
        )
    for k in range(12):
        c.polygon(
            [(k * w / 12, 0.76 * h), ((k + 1) * w / 12, 0.76 * h), ((k + 1) * w / 12, h), (k * w / 12, h)],
            (k * 23, k * 23, k * 23),
        )
    c.disc(0.5 * w, 0.42 * h, 0.3 * w, colour=(36, 36, 44))
    c.text(0.5 * w, 0.42 * h, "NO SIGNAL", size=52, colour=(240, 240, 240))
    return c.image()


def glitch(job: Commission) -> RGB:
    """Broken transmission: sorted pixels, shifted blocks, split channels, scan lines."""
    rng, w, h = job.rng, job.width, job.height
    picture = (_vapour, _bust, _test_card)[job.variant % 3](job).astype(np.float32)
    if job.variant == 1:
        light = picture.sum(axis=2)
        for column in range(w):
            if np.sin(column / 31) + rng.normal(0, 0.5) > 0.55:
                start = int(rng.integers(0, h - 80))
                stop = min(h, start + int(rng.integers(60, 320)))
                order = np.argsort(light[start:stop, column], kind="stable")
                picture[start:stop, column] = picture[start:stop, column][order]
    for _ in range(46):
        top, tall = int(rng.integers(0, h - 4)), int(rng.exponential(9)) + 2
        picture[top : top + tall] = np.roll(picture[top : top + tall], int(rng.normal(0, 46)), axis=1)
    for _ in range(26):
        bw, bh = int(rng.integers(16, 130)), int(rng.integers(8, 42))
        sx, sy, tx, ty = (int(rng.integers(0, limit)) for limit in (w - bw, h - bh, w - bw, h - bh))
        picture[ty : ty + bh, tx : tx + bw] = picture[sy : sy + bh, sx : sx + bw][:, :, rng.permutation(3)]
    zero = np.zeros((h, w), np.float32)
    red = displace(picture, dx=zero + 7, dy=zero)[..., 0]
    blue = displace(picture, dx=zero - 7, dy=zero)[..., 2]
    picture = np.stack([red, picture[..., 1], blue], axis=-1)
    scan = 0.86 + 0.14 * np.sin(np.arange(h) * np.pi / 1.5)
    return to_rgb(picture * scan[:, None, None])
