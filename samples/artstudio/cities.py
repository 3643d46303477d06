"""Cities by night."""

from __future__ import annotations

import numpy as np

from artstudio.canvas import (
    RGB,
    Canvas,
    Colour,
    Commission,
    blur,
    colours,
    displace,
    grain,
    grid,
    mix,
    noise,
    oval,
    over,
    to_rgb,
    vary,
)
from artstudio.views import sky


def _tower(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    x: float,
    top: float,
    wide: float,
    foot: float,
    ink: Colour,
    lit: float,
) -> None:
    canvas.polygon([(x, foot), (x, top), (x + wide, top), (x + wide, foot)], ink)
    style = rng.integers(4)
    if style == 0:
        canvas.polygon(
            [(x + wide * 0.25, top), (x + wide * 0.5, top - wide * 0.5), (x + wide * 0.75, top)], ink
        )
    elif style == 1:
        canvas.line([(x + wide / 2, top), (x + wide / 2, top - wide * 0.8)], ink, width=2)
        canvas.disc(x + wide / 2, top - wide * 0.8, 1.6, colour=(255, 70, 70))
    elif style == 2:
        canvas.polygon(
            [
                (x + wide * 0.2, top),
                (x + wide * 0.2, top - 14),
                (x + wide * 0.8, top - 14),
                (x + wide * 0.8, top),
            ],
            ink,
        )
    step = float(rng.choice([7, 8, 10]))
    for wy in np.arange(top + 7, foot - 6, step * 1.35):
        for wx in np.arange(x + 5, x + wide - 6, step):
            if rng.random() < lit:
                glow = vary(
                    rng, ((255, 214, 120), (255, 236, 190), (150, 214, 255))[int(rng.integers(3))], amount=25
                )
                canvas.polygon(
                    [
                        (wx, wy),
                        (wx + step * 0.5, wy),
                        (wx + step * 0.5, wy + step * 0.7),
                        (wx, wy + step * 0.7),
                    ],
                    glow,
                )


def _skyline(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "0b0f2b 1f1c52 5b2a6e c0506f f2906a", clouds=0.12)
    water = int(0.7 * h)
    for depth, ink in enumerate(colours("54316b 2f2453 14132f")):
        x = -20.0
        while x < w:
            wide = rng.uniform(30, 74)
            top = water - rng.uniform(0.12, 0.5 - 0.07 * depth) * h * (1 - abs(x / w - 0.45) * 0.6)
            _tower(
                canvas,
                rng,
                x=x,
                top=top,
                wide=wide,
                foot=water,
                ink=vary(rng, ink, amount=6),
                lit=0.16 + 0.16 * depth,
            )
            x += wide * rng.uniform(0.85, 1.5)
    picture = canvas.image().astype(np.float32)
    mirrored = picture[water - (h - water) : water][::-1]
    ripple = noise(rng, width=w, height=h - water, cell=22, octaves=3, stretch=8)
    mirrored = displace(mirrored, dx=(ripple - 0.5) * 34, dy=(ripple - 0.5) * 12)
    picture[water:] = mirrored * (0.5 + 0.35 * ripple[..., None]) + np.array([6, 8, 26])
    return to_rgb(picture)


def _blocks(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = Canvas.plain(w, h, colour=colours("0e1030")[0])
    side = 46.0
    tints = colours("3a4f9b 5b3f8c 2f6690 7a3b69 284b63")
    for row in range(-3, int(h / side * 2) + 12):
        for column in range(-1, int(w / side / 2) + 2):
            cx, cy = (column + row % 2 / 2) * side * 2, row * side * 0.5
            tall = rng.choice([0.0, 20, 45, 70, 100, 150], p=[0.16, 0.2, 0.24, 0.2, 0.14, 0.06])
            ink = tints[int(rng.integers(5))]
            half, low = side * 0.8, side * 0.4
            if tall == 0:
                canvas.polygon(
                    [(cx, cy - low), (cx + half, cy), (cx, cy + low), (cx - half, cy)], (30, 64, 60)
                )
                for _ in range(5):
                    canvas.disc(
                        cx + rng.uniform(-18, 18), cy + rng.uniform(-9, 5), 6, colour=vary(rng, (48, 110, 84))
                    )
                continue
            canvas.polygon(
                [(cx - half, cy), (cx, cy + low), (cx, cy + low - tall), (cx - half, cy - tall)],
                mix(ink, (8, 8, 30), share=0.35),
            )
            canvas.polygon(
                [(cx + half, cy), (cx, cy + low), (cx, cy + low - tall), (cx + half, cy - tall)],
                mix(ink, (8, 8, 30), share=0.62),
            )
            canvas.polygon(
                [
                    (cx, cy - low - tall),
                    (cx + half, cy - tall),
                    (cx, cy + low - tall),
                    (cx - half, cy - tall),
                ],
                mix(ink, (255, 200, 220), share=0.15),
            )
            for z in np.arange(8, tall - 4, 12):
                for k in range(4):
                    for way in (-1, 1):
                        if rng.random() < 0.42:
                            a = (k + 0.3) / 4
                            px, py = cx + way * half * (1 - a), cy + low * a - z
                            slope = -way * half * 0.12
                            canvas.polygon(
                                [
                                    (px, py),
                                    (px + slope, py + low * 0.12),
                                    (px + slope, py + low * 0.12 - 6),
                                    (px, py - 6),
                                ],
                                vary(rng, (255, 210, 110), amount=30),
                            )
    return canvas.image()


def _wet_street(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "14122e 2c1f4a 51306a 14122e", clouds=0.1)
    vx, vy = 0.52 * w, 0.52 * h
    neon = colours("ff2e88 28e0ff ffd23f 8aff6b ff6f3c b47bff")
    for side in (-1, 1):
        for k in range(7, -1, -1):
            near, far = 0.62**k, 0.62 ** (k + 1)
            x0, x1 = vx + side * w * 0.62 * near, vx + side * w * 0.62 * far
            tall = rng.uniform(0.9, 1.7) * h
            wall = [
                (x0, vy + 0.3 * h * near),
                (x0, vy - tall * near),
                (x1, vy - tall * far),
                (x1, vy + 0.3 * h * far),
            ]
            canvas.polygon(wall, mix((16, 14, 34), (88, 56, 110), share=k / 7))
            for _ in range(14):
                a, b = rng.uniform(0.05, 0.8), rng.uniform(0.1, 0.9)
                px = x0 + (x1 - x0) * a
                scale = near + (far - near) * a
                py = vy + scale * (0.25 * h - b * tall)
                canvas.polygon(
                    [
                        (px, py),
                        (px - side * 16 * scale, py),
                        (px - side * 16 * scale, py + 24 * scale),
                        (px, py + 24 * scale),
                    ],
                    vary(rng, (246, 196, 110), amount=40),
                    alpha=0.85,
                )
            for _ in range(3):
                ink = neon[int(rng.integers(6))]
                px, py = x0 + (x1 - x0) * 0.3, vy - rng.uniform(-0.15, 0.5) * h * near
                size = 62 * near
                sign = np.array(
                    [
                        (px, py),
                        (px - side * size * 0.6, py),
                        (px - side * size * 0.6, py + size * 1.3),
                        (px, py + size * 1.3),
                    ]
                )
                canvas.polygon(sign, mix(ink, (10, 5, 20), share=0.75))
                canvas.line(sign, ink, width=1 + 3 * near, closed=True)
                for j in range(3):
                    y = py + size * (0.3 + 0.33 * j)
                    canvas.line(
                        [(px - side * size * 0.12, y), (px - side * size * rng.uniform(0.3, 0.5), y)],
                        ink,
                        width=1 + 3 * near,
                    )
    picture = canvas.image().astype(np.float32)
    ground = int(vy + 8)
    height = h - ground
    source = picture[max(ground - height, 0) : ground][::-1]
    flipped = np.zeros((height, w, 3), np.float32)
    flipped[: len(source)] = source
    streaks = noise(rng, width=w, height=height, cell=30, octaves=4, stretch=5)
    wet = displace(flipped, dx=(streaks - 0.5) * 26, dy=(streaks - 0.5) * 60)
    across, down = grid(w, h)
    road = np.clip((0.9 * (down - vy) * 2.3 - np.abs(across - vx)) / 6, 0, 1) * (down > ground)
    full = picture.copy()
    full[ground:] = wet * 0.75 + np.array([10, 8, 26])
    picture = over(picture, full, mask=road)
    picture = picture + blur(np.clip(picture - 120, 0, 255), sigma=9) * 0.7
    canvas = Canvas(to_rgb(picture))
    px, py = 0.47 * w, 0.8 * h
    canvas.polygon([(px - 15, py), (px - 19, py - 70), (px + 19, py - 70), (px + 15, py)], (8, 6, 16))
    canvas.polygon(np.vstack([oval(px, py - 84, rx=62, ry=46)[32:], [(px + 62, py - 84)]]), (200, 30, 60))
    canvas.line([(px, py - 84), (px, py - 30)], (30, 20, 30), width=2)
    canvas.line([(px - 6, py), (px - 8, py + 46)], (8, 6, 16), width=8)
    canvas.line([(px + 6, py), (px + 10, py + 46)], (8, 6, 16), width=8)
    return to_rgb(canvas.image())


def _bridge(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    canvas = sky(job, "071a2c 0d3b4f 2a6f6b c9a35a", clouds=0.1)
    canvas.disc(0.2 * w, 0.24 * h, 46, colour=(255, 246, 214))
    x = 0.0
    while x < w:
        wide = rng.uniform(18, 40)
        _tower(
            canvas,
            rng,
            x=x,
            top=h * 0.62 - rng.uniform(10, 90),
            wide=wide,
            foot=h * 0.68,
            ink=(18, 42, 56),
            lit=0.3,
        )
        x += wide
    canvas.polygon([(0, 0.68 * h), (w, 0.68 * h), (w, h), (0, h)], (10, 34, 48))
    for _ in range(260):
        d = rng.uniform(0, 1)
        canvas.line(
            [(px := rng.uniform(0, w), 0.69 * h + 0.3 * h * d), (px + 10 + 40 * d, 0.69 * h + 0.3 * h * d)],
            vary(rng, (190, 170, 110), amount=30),
            width=1.3,
            alpha=0.5,
        )
    deck, towers = 0.6 * h, (0.3 * w, 0.75 * w)
    xs = np.linspace(-0.15 * w, 1.2 * w, 90)
    nearest = np.min([np.abs(xs - t) for t in towers], axis=0)
    cable = deck - 12 - 0.34 * h * (1 - np.clip(nearest / (0.225 * w), 0, 1)) ** 2
    canvas.line(np.column_stack([xs, cable]), (214, 84, 60), width=4)
    for px, py in zip(xs, cable, strict=True):
        canvas.line([(px, py), (px, deck)], (214, 84, 60), width=1)
        canvas.disc(px, deck - 5, 1.8, colour=(255, 230, 160))
    canvas.line([(0, deck), (w, deck)], (150, 48, 40), width=9)
    for t in towers:
        for dx in (-13, 13):
            canvas.line([(t + dx, deck - 0.37 * h), (t + dx, 0.76 * h)], (190, 66, 50), width=8)
        for k in range(5):
            canvas.line(
                [(t - 13, deck - 0.35 * h + k * 44), (t + 13, deck - 0.35 * h + k * 44)],
                (190, 66, 50),
                width=5,
            )
    return grain(canvas.image(), rng, strength=2)


def city(job: Commission) -> RGB:
    """Cities by night: a skyline on water, blocks from above, a wet street, a bridge."""
    return (_skyline, _blocks, _wet_street, _bridge)[job.variant](job)
