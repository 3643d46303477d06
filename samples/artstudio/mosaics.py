"""Pictures in pieces: cubist figures and stained glass."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from artstudio.canvas import (
    RGB,
    Canvas,
    Colour,
    Commission,
    Field,
    colours,
    displace,
    grain,
    grid,
    mix,
    noise,
    oval,
    ramp,
    smooth,
    to_rgb,
    vary,
)


def _feature_eye(canvas: Canvas, x: float, y: float, *, size: float, ink: Colour) -> None:
    canvas.polygon(
        smooth([(x - size, y), (x, y - size * 0.5), (x + size, y), (x, y + size * 0.5)], closed=True),
        (245, 238, 220),
    )
    canvas.disc(x, y, size * 0.4, colour=ink)
    canvas.disc(x, y, size * 0.18, colour=(16, 14, 20))
    canvas.line(smooth([(x - size, y), (x, y - size * 0.5), (x + size, y)]), (20, 16, 20), width=3)


def _face(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas(to_rgb(ramp(grid(w, h)[0] / w, colours("2f4858 86603f d9a05b"))))
    c.polygon(
        smooth(np.array([(0.1, 1.02), (0.22, 0.84), (0.5, 0.78), (0.78, 0.84), (0.9, 1.02)]) * (w, h)),
        (150, 44, 40),
    )
    c.polygon(np.array([(0.4, 0.66), (0.6, 0.66), (0.64, 0.88), (0.36, 0.88)]) * (w, h), (190, 134, 92))
    c.polygon(oval(0.5 * w, 0.36 * h, rx=0.31 * w, ry=0.33 * h), (46, 34, 40))
    c.polygon(oval(0.5 * w, 0.44 * h, rx=0.24 * w, ry=0.3 * h), (222, 170, 120))
    c.polygon(np.vstack([oval(0.5 * w, 0.44 * h, rx=0.24 * w, ry=0.3 * h)[16:49]]), (172, 112, 84))
    _feature_eye(c, 0.39 * w, 0.4 * h, size=40, ink=(60, 110, 130))
    _feature_eye(c, 0.62 * w, 0.37 * h, size=46, ink=(60, 110, 130))
    c.polygon(np.array([(0.5, 0.36), (0.58, 0.55), (0.47, 0.55)]) * (w, h), (240, 206, 160))
    c.line(np.array([(0.44, 0.32), (0.5, 0.36), (0.47, 0.55), (0.58, 0.55)]) * (w, h), (40, 24, 24), width=4)
    c.polygon(
        smooth(np.array([(0.42, 0.63), (0.5, 0.61), (0.6, 0.64), (0.5, 0.67)]) * (w, h), closed=True),
        (160, 36, 44),
    )
    return c.image()


def _guitar(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas(to_rgb(ramp(grid(w, h)[1] / h, colours("b7b09c 7d7461 4d4a44"))))
    c.polygon(np.array([(0.05, 0.78), (0.95, 0.72), (1.0, 1.0), (0.0, 1.0)]) * (w, h), (94, 62, 42))
    body = [
        (0.24, 0.7),
        (0.2, 0.54),
        (0.34, 0.48),
        (0.4, 0.42),
        (0.56, 0.4),
        (0.64, 0.54),
        (0.7, 0.66),
        (0.6, 0.82),
        (0.4, 0.84),
    ]
    c.polygon(smooth(np.array(body) * (w, h), closed=True), (196, 132, 62))
    c.line(smooth(np.array(body) * (w, h), closed=True), (44, 28, 20), width=5, closed=True)
    c.disc(0.47 * w, 0.62 * h, 46, colour=(36, 24, 22))
    c.line(np.array([(0.45, 0.75), (0.86, 0.1)]) * (w, h), (64, 40, 28), width=26)
    for k in range(5):
        c.line(
            np.array([(0.42 + 0.012 * k, 0.76), (0.845 + 0.01 * k, 0.11)]) * (w, h),
            (232, 224, 200),
            width=1.4,
        )
    c.polygon(np.array([(0.06, 0.4), (0.26, 0.34), (0.3, 0.56), (0.1, 0.6)]) * (w, h), (238, 232, 214))
    for k in range(7):
        c.line(
            np.array([(0.09, 0.43 + 0.022 * k), (0.25, 0.385 + 0.022 * k)]) * (w, h), (60, 56, 60), width=2
        )
    c.text(0.16 * w, 0.3 * h, "JOURNAL", size=38, colour=(30, 26, 26), turn=14)
    c.polygon(np.array([(0.76, 0.5), (0.86, 0.5), (0.9, 0.82), (0.72, 0.82)]) * (w, h), (70, 104, 92))
    return c.image()


def _two_profiles(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas(to_rgb(ramp(grid(w, h)[0] / w, colours("d98f4e f1d9a7 6b9a97"))))
    outline = np.array(
        [
            (0.0, 0.16),
            (0.2, 0.08),
            (0.36, 0.16),
            (0.38, 0.32),
            (0.37, 0.38),
            (0.46, 0.5),
            (0.39, 0.52),
            (0.41, 0.58),
            (0.38, 0.61),
            (0.4, 0.65),
            (0.36, 0.69),
            (0.34, 0.76),
            (0.22, 0.76),
            (0.22, 0.9),
            (0.3, 1.02),
            (-0.02, 1.02),
        ]
    )
    for flip, skin, ink in ((False, (196, 84, 66), (36, 60, 110)), (True, (58, 84, 120), (200, 150, 50))):
        points = smooth(outline * (w, h), closed=True)
        eye_x = 0.28 * w
        if flip:
            points = points * (-1, 1) + (w, 0)
            eye_x = w - eye_x
        c.polygon(points, skin)
        c.line(points, (24, 18, 28), width=5, closed=True)
        _feature_eye(c, eye_x, 0.37 * h, size=36, ink=ink)
    c.disc(0.5 * w, 0.18 * h, 46, colour=(248, 224, 140))
    return c.image()


def _hat(job: Commission) -> RGB:
    w, h = job.width, job.height
    c = Canvas(to_rgb(ramp(grid(w, h)[1] / h, colours("3b5249 519872 a4b494"))))
    c.polygon(oval(0.48 * w, 0.58 * h, rx=0.16 * w, ry=0.3 * h), (232, 190, 150))
    c.polygon(oval(0.5 * w, 0.3 * h, rx=0.34 * w, ry=0.1 * h, turn=-0.15), (120, 30, 60))
    c.polygon(oval(0.5 * w, 0.22 * h, rx=0.17 * w, ry=0.16 * h), (150, 40, 74))
    _feature_eye(c, 0.42 * w, 0.5 * h, size=30, ink=(40, 80, 60))
    _feature_eye(c, 0.56 * w, 0.52 * h, size=30, ink=(40, 80, 60))
    c.polygon(np.array([(0.49, 0.5), (0.54, 0.66), (0.46, 0.66)]) * (w, h), (200, 140, 110))
    c.polygon(oval(0.49 * w, 0.75 * h, rx=36, ry=14), (170, 30, 50))
    return c.image()


def cubist(job: Commission) -> RGB:
    """A figure cut along straight lines, its facets shifted and shaded on their own."""
    rng, w, h = job.rng, job.width, job.height
    scene = (_face, _guitar, _two_profiles, _hat)[job.variant](job)
    x, y = grid(w, h)
    code = np.zeros((h, w), np.int64)
    borders = np.zeros((h, w), np.float32)
    shade = np.ones((h, w), np.float32)
    for k in range(11):
        angle = rng.uniform(0, np.pi)
        through = rng.uniform(0.2, 0.8, 2) * (w, h)
        side = (x - through[0]) * np.cos(angle) + (y - through[1]) * np.sin(angle)
        code += (side > 0).astype(np.int64) << k
        borders = np.maximum(borders, np.exp(-((side / 1.4) ** 2)))
        shade *= np.where(side > 0, 1 - 0.22 * np.exp(-side / 46), 1 + 0.1 * np.exp(side / 60)).astype(
            np.float32
        )
    values, pieces = np.unique(code, return_inverse=True)
    pieces = pieces.reshape(h, w)
    shift = rng.normal(0, 15, (len(values), 2)).astype(np.float32)
    tint = rng.normal(1, 0.09, (len(values), 3)).astype(np.float32)
    moved = displace(scene, dx=shift[pieces, 0], dy=shift[pieces, 1])
    dabs = noise(rng, width=w, height=h, cell=14, octaves=3, stretch=2.2) - 0.5
    picture = moved * tint[pieces] * (shade * (1 + 0.3 * dabs))[..., None]
    picture = picture * (1 - 0.55 * borders[..., None])
    return grain(picture, rng, strength=4)


def _rose(job: Commission) -> tuple[RGB, NDArray[np.float64]]:
    rng, w, h = job.rng, job.width, job.height
    x, y = grid(w, h)
    dx, dy = x - w / 2, y - h / 2
    r, a = np.hypot(dx, dy) / (min(w, h) * 0.48), np.arctan2(dy, dx)
    inks = np.array(colours("1d3e8a b3122e e6a817 2c7a4b 6a2c91 1f7fa8 d9541e"), np.float32)
    petal = np.floor((a + np.pi) / (2 * np.pi) * 12).astype(int)
    ring = np.clip(np.floor(r * 5 + 0.35 * np.cos(a * 12)), 0, 5).astype(int)
    picture = np.where(
        (r < 1)[..., None], inks[(ring * 2 + petal % 2 * 3) % 7], np.array((24, 28, 60), np.float32)
    )
    seeds = [(w / 2, h / 2)]
    for level in range(1, 7):
        count = 12 if level < 3 else 24
        for k in range(count):
            turn = 2 * np.pi * (k + level % 2 / 2) / count
            seeds.append((w / 2 + level * 0.077 * w * np.cos(turn), h / 2 + level * 0.077 * w * np.sin(turn)))
    corner = rng.uniform(0, 1, (160, 2)) * (w, h)
    corner = corner[np.hypot(corner[:, 0] - w / 2, corner[:, 1] - h / 2) > 0.5 * min(w, h)]
    return to_rgb(picture), np.vstack([np.array(seeds), corner])


def _glass_scene(job: Commission) -> tuple[RGB, NDArray[np.float64]]:
    rng, w, h = job.rng, job.width, job.height
    if job.variant == 1:
        c = Canvas(to_rgb(ramp(grid(w, h)[1] / h, colours("2667b5 6fb1de f9d976 f39f5a"))))
        for k in range(16):
            a = k * np.pi / 8
            c.polygon(
                [
                    (0.5 * w, 0.36 * h),
                    (0.5 * w + w * np.cos(a), 0.36 * h + w * np.sin(a)),
                    (0.5 * w + w * np.cos(a + 0.2), 0.36 * h + w * np.sin(a + 0.2)),
                ],
                (255, 214, 90),
                alpha=0.5,
            )
        c.disc(0.5 * w, 0.36 * h, 80, colour=(255, 120, 40))
        c.polygon(
            smooth([(0, 0.6 * h), (0.3 * w, 0.52 * h), (0.6 * w, 0.62 * h), (w, 0.54 * h), (w, h), (0, h)]),
            (52, 140, 82),
        )
        c.polygon(smooth([(0, 0.76 * h), (0.4 * w, 0.66 * h), (w, 0.74 * h), (w, h), (0, h)]), (24, 96, 88))
        c.polygon(
            smooth(
                [
                    (0.3 * w, h),
                    (0.5 * w, 0.8 * h),
                    (0.44 * w, 0.68 * h),
                    (0.56 * w, 0.68 * h),
                    (0.7 * w, 0.84 * h),
                    (0.8 * w, h),
                ]
            ),
            (70, 170, 220),
        )
    elif job.variant == 2:
        c = Canvas(to_rgb(ramp(grid(w, h)[1] / h, colours("14606e 1b8a8f 0c3f5c"))))
        body = smooth(
            np.array(
                [
                    (0.14, 0.5),
                    (0.3, 0.32),
                    (0.54, 0.32),
                    (0.72, 0.46),
                    (0.9, 0.28),
                    (0.86, 0.5),
                    (0.92, 0.72),
                    (0.72, 0.56),
                    (0.52, 0.68),
                    (0.3, 0.68),
                ]
            )
            * (w, h),
            closed=True,
        )
        c.polygon(body, (240, 110, 40))
        for cx in (0.34, 0.5, 0.64):
            c.polygon(oval(cx * w, 0.5 * h, rx=18, ry=0.17 * h), (250, 240, 220))
        c.disc(0.23 * w, 0.45 * h, 16, colour=(20, 20, 30))
        for k in range(5):
            c.line(
                smooth(
                    [
                        ((0.1 + 0.2 * k) * w, h),
                        ((0.14 + 0.2 * k) * w, 0.88 * h),
                        ((0.08 + 0.2 * k) * w, 0.78 * h),
                    ]
                ),
                (110, 190, 80),
                width=22,
            )
        for _ in range(8):
            c.disc(
                rng.uniform(0.05, 0.5) * w,
                rng.uniform(0.05, 0.28) * h,
                rng.uniform(8, 22),
                colour=(170, 226, 230),
            )
    else:
        c = Canvas.plain(w, h, colour=(120, 170, 214))
        for k, ink in enumerate(colours("d62839 f9a620 b23a9c")):
            x = (0.24 + 0.26 * k) * w
            c.line([(x, 0.4 * h), (x, h)], (40, 120, 60), width=22)
            c.polygon(
                smooth(
                    [
                        (x - 60, 0.16 * h),
                        (x, 0.3 * h),
                        (x + 60, 0.16 * h),
                        (x + 40, 0.46 * h),
                        (x - 40, 0.46 * h),
                    ],
                    closed=True,
                ),
                ink,
            )
            c.polygon(oval(x + 50, 0.74 * h, rx=22, ry=80, turn=0.5), (70, 160, 80))
    return c.image(), rng.uniform(-0.02, 1.02, (330, 2)) * (w, h)


def stained_glass(job: Commission) -> RGB:
    """Panes of coloured glass between leads: a rose window, a sunrise, a fish, tulips."""
    rng, w, h = job.rng, job.width, job.height
    scene, seeds = _rose(job) if job.variant == 0 else _glass_scene(job)
    x, y = grid(w, h)
    best = np.full((h, w), 1e9, np.float32)
    second = best.copy()
    owner = np.zeros((h, w), np.int64)
    for k, (sx, sy) in enumerate(seeds):
        far = np.hypot(x - sx, y - sy).astype(np.float32)
        nearer = far < best
        second = np.where(nearer, best, np.minimum(second, far))
        owner = np.where(nearer, k, owner)
        best = np.where(nearer, far, best)
    flat = scene.reshape(-1, 3)
    edges = cv2.Canny(scene, 60, 140)
    panes = np.zeros((len(seeds), 3), np.float32)
    for channel in range(3):
        total = np.bincount(owner.ravel(), flat[:, channel], len(seeds))
        panes[:, channel] = total / np.maximum(np.bincount(owner.ravel(), minlength=len(seeds)), 1)
    tints = np.array([vary(rng, (200, 200, 200), amount=38) for _ in seeds], np.float32) / 200
    colour: Field = scene * 0.72 + panes[owner] * 0.28
    ripples = noise(rng, width=w, height=h, cell=26, octaves=3)
    light = 0.62 + 0.62 * ripples + 0.25 * np.exp(-best / 12)
    picture = colour * tints[owner] * light[..., None] * 1.05
    lead = np.clip(3.4 - (second - best), 0, 1) if job.variant else np.clip(3.0 - (second - best), 0, 1)
    lead = np.maximum(lead, np.asarray(cv2.dilate(edges, np.ones((4, 4), np.uint8)), np.float32) / 255)
    metal = (
        np.array(mix((26, 24, 28), (70, 70, 78), share=0.3), np.float32) * (0.7 + 0.5 * ripples)[..., None]
    )
    picture = picture * (1 - lead[..., None]) + metal * lead[..., None]
    return to_rgb(picture)
