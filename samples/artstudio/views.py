"""Views: layered landscapes and seas."""

from __future__ import annotations

import numpy as np

from artstudio.canvas import (
    RGB,
    Canvas,
    Colour,
    Commission,
    colours,
    grain,
    grid,
    mix,
    noise,
    oval,
    ramp,
    ridge,
    smooth,
    to_rgb,
    vary,
)


def sky(job: Commission, stops: str, *, clouds: float = 0.15) -> Canvas:
    _, y = grid(job.width, job.height)
    drift = noise(job.rng, width=job.width, height=job.height, cell=120, octaves=5, stretch=3) - 0.5
    return Canvas(to_rgb(ramp(y / job.height + clouds * drift, colours(stops))))


def _pine(canvas: Canvas, x: float, y: float, *, tall: float, ink: Colour, rng: np.random.Generator) -> None:
    left, right = [], []
    for level in np.linspace(0, 1, 9)[1:]:
        reach = tall * 0.21 * level * rng.uniform(0.75, 1.15)
        top = y - tall * (1 - level * 0.94)
        left += [(x - reach * 0.45, top - tall * 0.035), (x - reach, top)]
        right += [(x + reach * 0.45, top - tall * 0.035), (x + reach * rng.uniform(0.8, 1.1), top)]
    canvas.polygon([(x, y - tall), *right, (x + 1.5, y), (x - 1.5, y), *left[::-1]], ink)


def _hill(canvas: Canvas, line: np.ndarray[tuple[int], np.dtype[np.float64]], ink: Colour) -> None:
    xs = np.arange(len(line))
    points = np.column_stack([xs, line])
    canvas.polygon(np.vstack([points, [[len(line), canvas.height], [0, canvas.height]]]), ink)


def _misty_pines(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "f9c58d f6d6ad f4e8c1 e8d5c4", clouds=0.1)
    canvas.disc(0.66 * w, 0.27 * h, 54, colour=(255, 240, 214))
    canvas.disc(0.66 * w, 0.27 * h, 80, colour=(255, 240, 214), alpha=0.25)
    near, far = colours("12263a c9ada7")
    for k in range(7):
        share = k / 6
        ink = mix(far, near, share=share**1.2)
        line = h * (0.36 + 0.095 * k) - h * (0.11 - 0.008 * k) * ridge(rng, width=w + 1, cell=260 - 16 * k)
        _hill(canvas, line, ink)
        if k >= 3:
            for x in np.sort(rng.uniform(0, w, 26 - 2 * k)):
                _pine(
                    canvas,
                    x,
                    line[int(x)] + 6,
                    tall=float((k - 1.6) * 24 * rng.uniform(0.6, 1.2)),
                    ink=ink,
                    rng=rng,
                )
    for k in range(7):
        x = 0.3 * w + 26 * k + rng.uniform(-8, 8)
        y = 0.2 * h + abs(k - 3) * 8 + rng.uniform(-5, 5)
        canvas.line(
            [(x - 8, y - 4), (x - 3, y - 6), (x, y), (x + 3, y - 6), (x + 8, y - 4)], (70, 50, 60), width=1.5
        )
    return grain(canvas.image(), rng, strength=4)


def _autumn_river(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "7fb7d9 b8dbe6 f7ede2 f7ede2", clouds=0.5)
    for k in range(3):
        _hill(
            canvas,
            h * (0.36 + 0.05 * k) - 50 * ridge(rng, width=w + 1, cell=330),
            colours("8fa3ad 7f9b7a a3a35b")[k],
        )
    _hill(canvas, h * 0.5 - 14 * ridge(rng, width=w + 1, cell=300), colours("c9a227")[0])
    t = np.linspace(0, 1, 40)
    centre = 0.52 * w + 0.26 * w * np.sin(t * 7.5 + 0.4) * (0.25 + t)
    wide = 6 + 150 * t**1.8
    ys = h * 0.5 + h * 0.52 * t**1.3
    river = np.vstack([np.column_stack([centre - wide, ys]), np.column_stack([centre + wide, ys])[::-1]])
    canvas.polygon(river, (96, 152, 178))
    for _ in range(150):
        k = int(rng.integers(3, 40))
        x = centre[k] + rng.uniform(-0.8, 0.8) * wide[k]
        canvas.line(
            [(x, ys[k]), (x + wide[k] * 0.3, ys[k])], vary(rng, (186, 215, 222)), width=1.2, alpha=0.7
        )
    leaves = colours("d62828 f77f00 fcbf49 bc6c25 8a9a2e e85d04")
    for depth in np.sort(rng.uniform(0.03, 1, 130)):
        k = int(depth * 39)
        side = rng.choice([-1, 1])
        x = centre[k] + side * (wide[k] + rng.uniform(12, 30) + rng.uniform(0, 1) ** 1.4 * w * 0.75)
        size = 8 + 42 * depth**1.2
        if not -40 < x < w + 40:
            continue
        canvas.line([(x, ys[k]), (x, ys[k] - size * 1.6)], (74, 52, 40), width=1 + size / 11)
        base = leaves[int(rng.integers(6))]
        for j in range(26):
            lift = j / 25
            bx, by = rng.normal(0, size * 0.36), rng.normal(0, size * 0.34)
            canvas.disc(
                x + bx,
                ys[k] - size * 1.7 + by - lift * size * 0.25,
                size * 0.24,
                colour=vary(rng, mix(mix(base, (60, 20, 30), share=0.45), base, share=lift), amount=18),
            )
    return grain(canvas.image(), rng, strength=3)


def _mesas(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "3d1e6d 8d2f7f e0567a ff9a5a ffd27a", clouds=0.05)
    sun = (0.5 * w, 0.31 * h)
    for k in range(9):
        y = sun[1] - 96 + k * 22
        half = np.sqrt(max(100.0**2 - (y - sun[1]) ** 2, 0))
        band = np.linspace(-1, 1, 30)
        canvas.polygon(
            np.vstack(
                [
                    np.column_stack([sun[0] + band * half, np.full(30, y)]),
                    np.column_stack([sun[0] + band[::-1] * half, np.full(30, y + 19 - k)]),
                ]
            ),
            mix((255, 236, 160), (255, 96, 90), share=k / 8),
        )
    for k, (ink, share) in enumerate(zip(colours("a8577e 7a3b69 4b2354"), (0.56, 0.66, 0.74), strict=True)):
        xs = np.arange(w + 1)
        line = np.full(w + 1, h * share + 20.0)
        for _ in range(3):
            cx, wide, tall = rng.uniform(0, w), rng.uniform(40, 95), rng.uniform(60, 170) * (1 - 0.1 * k)
            edge = np.clip((wide - np.abs(xs - cx)) / 22, 0, 1) ** 0.6
            line = np.minimum(line, h * share + 20 - tall * edge + 4 * ridge(rng, width=w + 1, cell=20))
        _hill(canvas, line, ink)
        for j in range(7):
            canvas.line(
                np.column_stack([xs, line + 14 + j * 13]), mix(ink, (255, 170, 130), share=0.2), width=1
            )
    _hill(canvas, h * 0.8 - 12 * ridge(rng, width=w + 1, cell=200), colours("2a0f38")[0])
    for cx, tall in ((0.16, 210), (0.83, 150), (0.62, 70)):
        x, y, wide = cx * w, h * 0.9, tall * 0.13
        canvas.line([(x, y), (x, y - tall)], (20, 6, 30), width=wide)
        canvas.disc(x, y - tall, wide / 2, colour=(20, 6, 30))
        for side, low in ((-1, 0.45), (1, 0.6)):
            arm = smooth(
                [
                    (x, y - tall * (low - 0.1)),
                    (x + side * tall * 0.2, y - tall * low),
                    (x + side * tall * 0.22, y - tall * (low + 0.26)),
                ]
            )
            canvas.line(arm, (20, 6, 30), width=wide * 0.62)
            canvas.disc(arm[-1, 0], arm[-1, 1], wide * 0.31, colour=(20, 6, 30))
    return grain(canvas.image(), rng, strength=4)


def _aurora(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    x, y = grid(w, h)
    sky = ramp(y / h, colours("060b23 0c1b3f 163a5f 2b5d73"))
    for k in range(3):
        curve = h * (0.3 + 0.09 * k) + 70 * np.sin(x / (90 + 30 * k) + k * 2) * noise(
            rng, width=w, height=h, cell=300
        )
        rays = 0.45 + 0.55 * noise(rng, width=w, height=h, cell=26, octaves=2, stretch=0.4)[0][None]
        glow = np.where(y < curve, np.exp((y - curve) / 95), np.exp((curve - y) / 12)) * rays
        sky = sky + glow[..., None] * np.array(colours("4be3a4 7df0c8 b07be8")[k], np.float32) * 0.75
    canvas = Canvas(to_rgb(sky))
    for _ in range(240):
        canvas.disc(rng.uniform(0, w), rng.uniform(0, 0.6 * h), rng.uniform(0.4, 1.4), colour=(240, 245, 255))
    for k, ink in enumerate(colours("6f8ea8 a9c3d3 dbe8ef")):
        line = h * (0.62 + 0.12 * k) - (44 - 10 * k) * ridge(rng, width=w + 1, cell=260)
        _hill(canvas, line, ink)
        for px in rng.uniform(0, w, 16):
            _pine(
                canvas,
                px,
                line[int(px)] + 4,
                tall=rng.uniform(30, 60) * (1 + 0.5 * k),
                ink=(18, 36, 52),
                rng=rng,
            )
    cx, cy = 0.3 * w, 0.86 * h
    canvas.polygon([(cx, cy), (cx + 90, cy), (cx + 90, cy - 46), (cx, cy - 46)], (58, 36, 30))
    canvas.polygon([(cx - 14, cy - 44), (cx + 45, cy - 90), (cx + 104, cy - 44)], (235, 243, 250))
    canvas.polygon(
        [(cx + 30, cy - 34), (cx + 54, cy - 34), (cx + 54, cy - 12), (cx + 30, cy - 12)], (255, 206, 92)
    )
    return grain(canvas.image(), rng, strength=2)


def landscape(job: Commission) -> RGB:
    """Layered land: misty pines, an autumn river, mesas at sunset, an aurora."""
    return (_misty_pines, _autumn_river, _mesas, _aurora)[job.variant](job)


def _storm(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "1b263b 415a77 778da9 c8d3d5 415a77", clouds=0.8)
    ship = np.array([0.46 * w, 0.645 * h])
    hull = ship + np.array([[-86, -18], [92, -30], [64, 26], [-56, 30]])
    for mast, tall in ((-42, 150), (8, 200), (52, 140)):
        canvas.line([ship + np.array((mast, 0)), ship + np.array((mast + 12, -tall))], (40, 28, 22), width=4)
        for k in range(3):
            low, high = -tall * (0.2 + 0.27 * k), -tall * (0.42 + 0.27 * k)
            half = 36 - 8 * k
            sail = smooth(
                [
                    ship + np.array((mast + 6 - half, high)),
                    ship + np.array((mast + 8 + half, high)),
                    ship + np.array((mast + 22 + half, (low + high) / 2)),
                    ship + np.array((mast + 4 + half, low)),
                    ship + np.array((mast - half, low)),
                    ship + np.array((mast + 10 - half, (low + high) / 2)),
                ],
                closed=True,
            )
            canvas.polygon(sail, vary(rng, (222, 208, 178)))
            canvas.line(sail, (120, 100, 80), width=1, closed=True)
    canvas.polygon(hull, (58, 36, 26))
    canvas.line(hull[:2], (200, 160, 90), width=3)
    for k in range(7):
        xs = np.arange(w + 1)
        share = k / 6
        line = h * (0.52 + 0.075 * k) + (16 + 30 * share) * (
            np.abs(np.sin(xs / (60 + 22 * k) + rng.uniform(0, 6))) ** 0.7 * -1 + 0.4
        )
        line = line + 5 * ridge(rng, width=w + 1, cell=40)
        ink = mix((92, 130, 140), (14, 42, 58), share=share)
        if k < 2:
            continue
        _hill(canvas, line, ink)
        canvas.line(np.column_stack([xs, line]), (226, 236, 234), width=2 + 2 * share)
        for _ in range(60):
            x = int(rng.integers(0, w))
            y = line[x] + rng.uniform(5, 60)
            canvas.line(
                smooth([(x - 20, y + 5), (x, y), (x + 20, y + 5)]),
                mix(ink, (220, 236, 236), share=rng.uniform(0.1, 0.6)),
                width=1.4,
            )
    for _ in range(260):
        left, top = rng.uniform(0, w), rng.uniform(0, h)
        canvas.line([(left, top), (left - 9, top + 22)], (220, 230, 240), width=0.8, alpha=0.35)
    return grain(canvas.image(), rng, strength=3)


def _moon_path(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "10123a 242a63 51508f a088b0 242a63", clouds=0.15)
    horizon = int(0.52 * h)
    canvas.disc(0.62 * w, 0.22 * h, 70, colour=(250, 240, 205), alpha=0.18)
    canvas.disc(0.62 * w, 0.22 * h, 40, colour=(255, 248, 220))
    canvas.polygon([(0, horizon), (w, horizon), (w, h), (0, h)], (22, 30, 74))
    for _ in range(1500):
        depth = rng.uniform(0, 1) ** 1.2
        y = horizon + depth * (h - horizon)
        x = rng.uniform(0, w)
        near = np.exp(-(((x - 0.62 * w) / (22 + 130 * depth)) ** 2))
        ink = mix((44, 58, 120), (255, 244, 206), share=near * rng.uniform(0.5, 1.1))
        long = (4 + 34 * depth) * rng.uniform(0.5, 1.3)
        canvas.polygon(oval(x, y, rx=long, ry=0.8 + 2.2 * depth, steps=12), ink, alpha=0.8)
    cliff = smooth(
        [
            (0, 0.4 * h),
            (0.12 * w, 0.4 * h),
            (0.22 * w, 0.46 * h),
            (0.3 * w, 0.55 * h),
            (0.2 * w, 0.6 * h),
            (0, 0.64 * h),
        ]
    )
    canvas.polygon(cliff, (14, 14, 34))
    bx, by = 0.12 * w, 0.41 * h
    canvas.polygon([(bx, by - 110), (w, by - 190), (w, by - 60)], (255, 240, 180), alpha=0.22)
    canvas.polygon([(bx - 17, by), (bx - 11, by - 100), (bx + 11, by - 100), (bx + 17, by)], (232, 226, 220))
    for k in range(3):
        canvas.polygon(
            [
                (bx - 16 + 1.8 * k, by - 12 - 32 * k),
                (bx + 16 - 1.8 * k, by - 12 - 32 * k),
                (bx + 15 - 1.8 * k, by - 28 - 32 * k),
                (bx - 15 + 1.8 * k, by - 28 - 32 * k),
            ],
            (176, 44, 52),
        )
    canvas.polygon(
        [(bx - 12, by - 100), (bx - 10, by - 120), (bx + 10, by - 120), (bx + 12, by - 100)], (255, 226, 140)
    )
    canvas.polygon([(bx - 14, by - 119), (bx, by - 138), (bx + 14, by - 119)], (60, 22, 36))
    return grain(canvas.image(), rng, strength=3)


def _scallop_waves(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = Canvas.plain(w, h, colour=colours("f4e4c1")[0])
    canvas.disc(0.72 * w, 0.27 * h, 88, colour=colours("d1495b")[0])
    for k in range(5):
        y = (0.12 + 0.07 * k) * h
        x = rng.uniform(0.05, 0.6) * w
        for j in range(3):
            canvas.line(
                [(x + 30 * j, y + 9 * j), (x + 150 + 24 * j, y + 9 * j)], colours("edae49")[0], width=6
            )
    inks = colours("003d5b 30638e 00798c 8fb8c9")
    rows = 9
    for row in range(rows):
        size = 34 + 9 * row
        y = h * 0.44 + row * row * 4.2 + row * 16
        count = int(w / size / 1.6) + 3
        for k in range(count):
            x = (k - 0.5 + row % 2 / 2) * size * 1.7
            lift = 18 * np.sin(x / 90 + row)
            for j, share in enumerate((1.0, 0.82, 0.62, 0.42, 0.2)):
                ink = colours("f4e4c1")[0] if j % 2 else inks[(row + j // 2) % 4]
                canvas.disc(x, y + lift + size * 0.9, size * share, colour=ink)
    bx, by = 0.26 * w, 0.45 * h
    canvas.polygon(
        smooth(
            [(bx - 70, by - 14), (bx, by + 4), (bx + 80, by - 24), (bx + 50, by + 26), (bx - 44, by + 24)],
            closed=True,
        ),
        (74, 44, 42),
    )
    canvas.polygon([(bx, by - 6), (bx + 6, by - 150), (bx + 74, by - 26)], (255, 250, 238))
    canvas.polygon([(bx - 5, by - 6), (bx, by - 130), (bx - 48, by - 16)], colours("edae49")[0])
    return grain(canvas.image(), rng, strength=5)


def _palms(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "0f4c81 3c91c2 9fd8e0 ffe9c7", clouds=0.5)
    canvas.polygon([(0, 0.55 * h), (w, 0.55 * h), (w, h), (0, h)], (42, 157, 163))
    for _ in range(300):
        d = rng.uniform(0, 1)
        x = rng.uniform(0, w)
        y = h * (0.56 + 0.25 * d)
        canvas.line(
            smooth([(x, y), (x + 12 + 16 * d, y - 2), (x + 24 + 30 * d, y)]),
            (180, 232, 226),
            width=1.2,
            alpha=0.6,
        )
    beach = smooth([(0, 0.8 * h), (0.3 * w, 0.73 * h), (0.6 * w, 0.84 * h), (w, 0.78 * h), (w, h), (0, h)])
    canvas.line(beach, (250, 250, 240), width=14)
    canvas.polygon(beach, (238, 207, 150))
    for base, lean, tall in ((0.2, 80, 250), (0.32, 130, 190), (0.84, -90, 270)):
        t = np.linspace(0, 1, 20)
        trunk = np.column_stack([base * w + lean * t**2, 0.86 * h - tall * t])
        canvas.brush(trunk, (110, 74, 48), widths=13 - 7 * t)
        for a in np.linspace(-2.9, 0.3, 9) + rng.uniform(-0.1, 0.1, 9):
            reach = 95 * t
            leaf = np.column_stack(
                [trunk[-1, 0] + reach * np.cos(a), trunk[-1, 1] + reach * np.sin(a) + 60 * t**2]
            )
            canvas.brush(
                leaf, vary(rng, (38, 110, 64)), widths=2 + 20 * np.sin(np.pi * np.clip(t * 0.95 + 0.05, 0, 1))
            )
            canvas.line(leaf, (150, 190, 100), width=1)
    return grain(canvas.image(), rng, strength=3)


def seascape(job: Commission) -> RGB:
    """The sea: a ship in a storm, a moonlit path, patterned waves, palms."""
    return (_storm, _moon_path, _scallop_waves, _palms)[job.variant](job)
