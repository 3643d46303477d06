"""Graphic design: type posters, cut-paper collage and geometric studies."""

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
    grid,
    mix,
    noise,
    oval,
    over,
    ramp,
    smooth,
    to_rgb,
)


def _rhythm(job: Commission) -> Canvas:
    w, h = job.width, job.height
    c = Canvas.plain(w, h, colour=colours("f2e8d5")[0])
    c.disc(0.64 * w, 0.36 * h, 0.34 * w, colour=colours("e4572e")[0])
    for k in range(9):
        c.text(
            0.5 * w + 16 * k - 60,
            0.2 * h + 52 * k,
            "RHYTHM",
            size=92,
            colour=colours("17171f 17171f e4572e")[k % 3] if k < 7 else colours("2e86ab")[0],
            turn=18,
            alpha=0.95 - 0.06 * (k % 3),
        )
    c.polygon([(0, 0.86 * h), (w, 0.78 * h), (w, h), (0, h)], colours("17171f")[0])
    c.text(30, h - 52, "concert for strings & machines", size=22, colour=colours("f2e8d5")[0], anchor="lm")
    c.text(30, h - 24, "hall 3   /   8 pm   /   14 may", size=15, colour=colours("e4572e")[0], anchor="lm")
    return c


def _jazz(job: Commission) -> Canvas:
    w, h, rng = job.width, job.height, job.rng
    c = Canvas.plain(w, h, colour=colours("12355b")[0])
    inks = colours("d72638 f5cb5c f4f4f2 5bc0be")
    for k, letter in enumerate("JAZZ"):
        x = (0.13 + 0.23 * k) * w
        for j in range(7):
            c.text(
                x + 5 * j,
                0.34 * h + 6 * j,
                letter,
                size=0.3 * w,
                colour=mix(inks[k], colours("12355b")[0], share=0.8 - 0.13 * j),
                turn=float(8 - 5 * k),
            )
    for k in range(11):
        x = 0.1 * w + k * 0.08 * w
        tall = rng.uniform(0.06, 0.26) * h
        c.line([(x, 0.82 * h), (x, 0.82 * h - tall)], inks[k % 4], width=14)
        c.disc(x, 0.82 * h - tall, 12, colour=inks[(k + 1) % 4])
    c.text(w / 2, 0.91 * h, "FESTIVAL OF SMALL BANDS", size=26, colour=inks[2])
    return c


def _glyphs(job: Commission) -> Canvas:
    w, h, rng = job.width, job.height, job.rng
    c = Canvas.plain(w, h, colour=colours("fdfcf7")[0])
    letters = "ABEGKMQRSXYZ&?a@g8"
    for _ in range(46):
        size = float(rng.choice([34, 60, 110, 190, 300], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
        ink = colours("111111 111111 ff3c38 fff275 6c8ead")[int(rng.integers(5))]
        c.text(
            rng.uniform(0, w),
            rng.uniform(0, h),
            letters[int(rng.integers(len(letters)))],
            size=size,
            colour=ink,
            turn=float(rng.choice([0, 90, 180, 270, 15])),
            alpha=0.92,
        )
    c.polygon(
        [(0.08 * w, 0.44 * h), (0.92 * w, 0.44 * h), (0.92 * w, 0.58 * h), (0.08 * w, 0.58 * h)], (17, 17, 17)
    )
    c.text(w / 2, 0.51 * h, "letters are animals", size=46, colour=(253, 252, 247))
    return c


def _quiet(job: Commission) -> Canvas:
    w, h = job.width, job.height
    c = Canvas.plain(w, h, colour=colours("2a9d8f")[0])
    c.text(w * 0.5, h * 0.4, "o", size=420, colour=colours("f4f1de")[0])
    c.text(w * 0.5, h * 0.86, "open  studio  weekend", size=30, colour=colours("264653")[0])
    return c


def poster(job: Commission) -> RGB:
    """Typography: letters as large shapes."""
    return grain((_rhythm, _jazz, _glyphs, _quiet)[job.variant](job).image(), job.rng, strength=5)


def _print_on(job: Commission, kind: int, ink: Colour) -> NDArray[np.float32]:
    rng, w, h = job.rng, job.width, job.height
    x, y = grid(w, h)
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = -x * np.sin(turn) + y * np.cos(turn)
    base = np.ones((h, w, 3), np.float32) * np.array(ink, np.float32)
    pale = mix(ink, (255, 252, 240), share=0.75)
    if kind == 1:
        base = over(base, pale, mask=np.sin(along / 5.5) > 0.1)
    elif kind == 2:
        base = over(base, pale, mask=np.sin(along / 5) * np.sin(across / 5) > 0.35)
    elif kind == 3:
        words = noise(rng, width=w, height=h, cell=9, octaves=2, stretch=2.5) > 0.42
        base = np.ones((h, w, 3), np.float32) * np.array((228, 220, 200), np.float32)
        base = over(base, (48, 44, 44), mask=words & (np.sin(y / 1.75) > 0.1) & (np.sin(x / 22) > -0.93))
    elif kind == 4:
        base = ramp(
            noise(rng, width=w, height=h, cell=130, octaves=6), [mix(ink, (20, 20, 40), share=0.6), ink, pale]
        )
    fibres = noise(rng, width=w, height=h, cell=16, octaves=4) * 0.14 + 0.92
    return (base * fibres[..., None]).astype(np.float32)


def _torn(rng: np.random.Generator, outline: NDArray[np.float64], *, ragged: float) -> NDArray[np.float64]:
    points = np.vstack([outline, outline[:1]])
    dense = np.vstack([np.linspace(a, b, 18, endpoint=False) for a, b in itertools.pairwise(points)])
    return dense + rng.normal(0, ragged, dense.shape)


def _scraps(job: Commission) -> list[tuple[NDArray[np.float64], int, Colour, float]]:
    rng, w, h = job.rng, job.width, job.height
    size = np.array([w, h])
    scraps: list[tuple[NDArray[np.float64], int, Colour, float]] = []

    def put(points: object, kind: int, ink: str, ragged: float = 1.4) -> None:
        scraps.append((np.asarray(points, dtype=np.float64) * size, kind, colours(ink)[0], ragged))

    if job.variant == 0:
        put([(0.06, 0.1), (0.7, 0.05), (0.76, 0.6), (0.1, 0.66)], 3, "e0d8c4")
        put([(0.3, 0.3), (0.95, 0.22), (0.93, 0.9), (0.36, 0.95)], 4, "5c7f92")
        put(
            [(0.0, 0.62), (0.3, 0.44), (0.52, 0.66), (0.72, 0.5), (1.0, 0.76), (1.0, 1.0), (0.0, 1.0)],
            4,
            "4a5a3c",
        )
        put([(0.0, 0.8), (0.4, 0.7), (1.0, 0.88), (1.0, 1.0), (0.0, 1.0)], 1, "c97b3a")
        put(oval(0.68, 0.28, rx=0.13, ry=0.16, steps=24), 0, "efc94c", 0.8)
        put([(0.1, 0.16), (0.34, 0.13), (0.36, 0.28), (0.12, 0.31)], 2, "b5383b")
    elif job.variant == 1:
        put([(0.08, 0.06), (0.92, 0.06), (0.92, 0.94), (0.08, 0.94)], 0, "f3c14b")
        put([(0.08, 0.66), (0.92, 0.66), (0.92, 0.94), (0.08, 0.94)], 2, "2d5d8c")
        for x, y, turn, ink in (
            (0.5, 0.22, 1.5, "d1352b"),
            (0.32, 0.3, 1.0, "23744d"),
            (0.68, 0.28, 2.1, "23744d"),
            (0.38, 0.16, 0.8, "e8718d"),
            (0.64, 0.15, 2.4, "1b3a6b"),
            (0.26, 0.44, 0.4, "d1352b"),
            (0.76, 0.42, 2.8, "e8718d"),
        ):
            t = np.linspace(0, 2 * np.pi, 40)
            reach = 0.1 + 0.045 * np.cos(5 * t + turn)
            put(np.column_stack([x + reach * np.cos(t), y + 0.8 * reach * np.sin(t)]), 0, ink, 0.5)
        put([(0.36, 0.5), (0.64, 0.5), (0.7, 0.66), (0.6, 0.84), (0.4, 0.84), (0.3, 0.66)], 1, "1b1b2f")
        put(oval(0.22, 0.8, rx=0.07, ry=0.055, steps=20), 4, "e07b39", 0.6)
    elif job.variant == 2:
        for k in range(15):
            place = rng.uniform(0.1, 0.9, 2)
            corners = int(rng.integers(3, 6))
            a = np.sort(rng.uniform(0, 2 * np.pi, corners))
            r = rng.uniform(0.12, 0.3)
            put(
                place + r * np.column_stack([np.cos(a), np.sin(a)]),
                k % 5,
                "264653 e76f51 f4a261 2a9d8f e9c46a 8d5a97".split()[k % 6],
            )
    else:
        put([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)], 3, "ffffff")
        put(
            smooth([(0.5, 0.2), (0.74, 0.4), (0.66, 0.75), (0.34, 0.75), (0.26, 0.4)], closed=True),
            0,
            "20639b",
            0.6,
        )
        put(oval(0.5, 0.45, rx=0.1, ry=0.13, steps=24), 1, "ed553b", 0.6)
    return scraps


def collage(job: Commission) -> RGB:
    """Cut and torn papers, printed and plain, with their shadows."""
    rng, w, h = job.rng, job.width, job.height
    picture = _print_on(job, 4, colours("cdb892 e9e0cf 35312e ddd6c8")[job.variant])
    for outline, kind, ink, ragged in _scraps(job):
        torn = _torn(rng, outline, ragged=ragged)
        shape = Canvas.plain(w, h, colour=(0, 0, 0))
        shape.polygon(torn, (255, 255, 255))
        mask = shape.image()[..., 0].astype(np.float32) / 255
        shadow = np.roll(blur(mask, sigma=5), (5, 4), axis=(0, 1))
        picture = over(picture, (20, 14, 10), mask=shadow * 0.5)
        rim = Canvas.plain(w, h, colour=(0, 0, 0))
        rim.line(_torn(rng, outline, ragged=ragged * 1.6), (255, 255, 255), width=2 + ragged, closed=True)
        picture = over(
            picture, (250, 246, 236), mask=rim.image()[..., 0].astype(np.float32) / 255 * (ragged > 1)
        )
        picture = over(picture, _print_on(job, kind, ink), mask=mask)
    return to_rgb(picture)


def _arc_grid(job: Commission) -> Canvas:
    w, h, rng = job.width, job.height, job.rng
    c = Canvas.plain(w, h, colour=colours("f5efe0")[0])
    inks = colours("d62828 003049 f77f00 fcbf49 2a9d8f f5efe0")
    side = 96
    for top in range(0, h, side):
        for left in range(0, w, side):
            back, front, third = (inks[int(k)] for k in rng.permutation(6)[:3])
            c.polygon([(left, top), (left + side, top), (left + side, top + side), (left, top + side)], back)
            kind, turn = int(rng.integers(5)), int(rng.integers(4))
            a = np.linspace(0, np.pi / 2, 24) + turn * np.pi / 2
            cx, cy = left + side * (turn in (1, 2)), top + side * (turn in (2, 3))
            if kind < 2:
                for r, ink in ((side, front), (side * 0.6, third), (side * 0.25, back)):
                    c.polygon(
                        np.vstack([[(cx, cy)], np.column_stack([cx + r * np.cos(a), cy + r * np.sin(a)])]),
                        ink,
                    )
            elif kind == 2:
                c.disc(left + side / 2, top + side / 2, side * 0.42, colour=front)
                c.disc(left + side / 2, top + side / 2, side * 0.18, colour=third)
            elif kind == 3:
                c.polygon([(left, top), (left + side, top), (left, top + side)], front)
            else:
                for k in range(4):
                    c.polygon(
                        [
                            (left, top + k * 24),
                            (left + side, top + k * 24),
                            (left + side, top + k * 24 + 12),
                            (left, top + k * 24 + 12),
                        ],
                        front,
                    )
    return c


def _suspended(job: Commission) -> Canvas:
    w, h, rng = job.width, job.height, job.rng
    c = Canvas(to_rgb(ramp(noise(rng, width=w, height=h, cell=300, octaves=3), colours("eadfc8 f4ecd9"))))
    c.disc(0.3 * w, 0.3 * h, 120, colour=colours("1c1c2b")[0])
    c.disc(0.3 * w, 0.3 * h, 84, colour=colours("8a4fa3")[0])
    c.disc(0.33 * w, 0.28 * h, 40, colour=colours("e63946")[0])
    for _ in range(11):
        a = rng.uniform(0, np.pi)
        mid = rng.uniform(0.25, 0.85, 2) * (w, h)
        reach = rng.uniform(60, 260)
        d = np.array([np.cos(a), np.sin(a)]) * reach
        c.line([mid - d, mid + d], (30, 28, 34), width=float(rng.choice([1, 1.5, 3])))
    for k in range(12):
        x, y, r = rng.uniform(0.3, 0.95) * w, rng.uniform(0.35, 0.95) * h, rng.uniform(8, 46)
        ink = colours("f4a300 2176ae e63946 57a773 1c1c2b f7d6c4")[k % 6]
        c.disc(x, y, r, colour=ink, alpha=0.9)
        if k % 2:
            c.ring(x, y, r * 1.3, colour=(30, 28, 34), width=2)
    for k in range(6):
        for j in range(6):
            if (k + j) % 2:
                p = np.array([(k, j), (k + 1, j), (k + 1, j + 1), (k, j + 1)]) * 17.0
                c.polygon(p @ np.array([[0.9, -0.4], [0.4, 0.9]]) + (0.66 * w, 0.18 * h), (30, 28, 34))
    return c


def _flat_room(job: Commission) -> Canvas:
    w, h = job.width, job.height
    c = Canvas.plain(w, h, colour=colours("f6bd60")[0])
    c.polygon([(0, 0.74 * h), (w, 0.74 * h), (w, h), (0, h)], colours("84a59d")[0])
    c.polygon(oval(0.62 * w, 0.85 * h, rx=0.3 * w, ry=0.06 * h), colours("f5cac3")[0])
    c.line([(0.26 * w, 0.86 * h), (0.26 * w, 0.3 * h)], colours("2f3e46")[0], width=8)
    c.polygon(
        [(0.17 * w, 0.34 * h), (0.35 * w, 0.34 * h), (0.31 * w, 0.2 * h), (0.21 * w, 0.2 * h)],
        colours("f28482")[0],
    )
    c.polygon(oval(0.26 * w, 0.87 * h, rx=0.08 * w, ry=0.015 * h), colours("2f3e46")[0])
    c.polygon(
        smooth(
            [
                (0.5 * w, 0.5 * h),
                (0.8 * w, 0.48 * h),
                (0.84 * w, 0.72 * h),
                (0.82 * w, 0.8 * h),
                (0.5 * w, 0.8 * h),
                (0.47 * w, 0.7 * h),
            ],
            closed=True,
        ),
        colours("f28482")[0],
    )
    c.polygon(
        smooth(
            [(0.52 * w, 0.64 * h), (0.78 * w, 0.64 * h), (0.8 * w, 0.74 * h), (0.5 * w, 0.74 * h)],
            closed=True,
        ),
        colours("f7ede2")[0],
    )
    c.polygon(
        [(0.55 * w, 0.12 * h), (0.8 * w, 0.12 * h), (0.8 * w, 0.38 * h), (0.55 * w, 0.38 * h)],
        colours("f7ede2")[0],
    )
    c.disc(0.7 * w, 0.22 * h, 26, colour=colours("f28482")[0])
    c.polygon(
        [
            (0.55 * w, 0.38 * h),
            (0.63 * w, 0.27 * h),
            (0.7 * w, 0.34 * h),
            (0.75 * w, 0.29 * h),
            (0.8 * w, 0.38 * h),
        ],
        colours("84a59d")[0],
    )
    return c


def _orbits(job: Commission) -> Canvas:
    w, h = job.width, job.height
    c = Canvas.plain(w, h, colour=colours("1d1e2c")[0])
    for k in range(7):
        c.ring(
            0.5 * w, 0.5 * h, 34 + 28 * k, colour=colours("ac9fbb ddbdd5 f7ebec")[k % 3], width=2 + k % 3 * 3
        )
        c.disc(
            0.5 * w + (34 + 28 * k) * np.cos(k * 2.1),
            0.5 * h + (34 + 28 * k) * np.sin(k * 2.1),
            9 + k,
            colour=colours("ee6c4d f7b267 59656f")[k % 3],
        )
    return c


def geometric(job: Commission) -> RGB:
    """Flat geometry: a grid of arcs, suspended circles, a room, orbits."""
    return (_arc_grid, _suspended, _flat_room, _orbits)[job.variant](job).image()
