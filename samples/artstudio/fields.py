"""Pictures made of mathematics: flow fields, fractals, mandalas and tilings."""

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
    blur,
    colours,
    grain,
    grid,
    mix,
    noise,
    oval,
    ramp,
    to_rgb,
)


def _flow_angles(job: Commission) -> Field:
    rng, w, h = job.rng, job.width, job.height
    x, y = grid(w, h)
    wobble = noise(rng, width=w, height=h, cell=w / 2.2, octaves=2)
    if job.variant == 0:
        return wobble * 9
    if job.variant == 1:
        total = np.zeros((h, w), np.complex64)
        for cx, cy, turn in ((0.27, 0.3, 1), (0.72, 0.44, -1), (0.36, 0.8, -1)):
            dx, dy = x - cx * w, y - cy * h
            near = np.exp(-(dx**2 + dy**2) / (0.3 * w) ** 2)
            total += turn * near * np.exp(1j * (np.arctan2(dy, dx) + np.pi / 2 + 0.25))
        return np.asarray(np.angle(total + 0.12), dtype=np.float32)
    if job.variant == 2:
        around = np.arctan2(y - 0.95 * h, x - 0.5 * w)
        waves = np.sin(np.hypot(x - 0.5 * w, y - 0.95 * h) / 45)
        return np.asarray(around + 0.6 * waves + wobble * 0.7, dtype=np.float32)
    return (0.9 * np.sin(x / 70) + 0.5 * np.cos(y / 45) + wobble + np.pi / 2).astype(np.float32)


def flow_field(job: Commission) -> RGB:
    """Ribbons that follow a field of directions and never cross."""
    rng, w, h = job.rng, job.width, job.height
    ground, palette = [
        ("101a2b", "f4a261 e76f51 f1e3c6 2a9d8f 8ecae6 e9c46a"),
        ("f3ead7", "1d3557 c1121f 457b9d 22223b e09f3e 9a8c98"),
        ("2b0f1e", "ffba08 f48c06 dc2f02 9d0208 ffe8a1 6a4c93"),
        ("e8f1f2", "006d77 83c5be 13315c 0b2545 ee6c4d 8da9c4"),
    ][job.variant]
    widths = [(2, 4, 8, 14), (1.4, 2, 3), (3, 5, 9), (5, 9, 18)][job.variant]
    angles = _flow_angles(job)
    canvas = Canvas.plain(w, h, colour=colours(ground)[0])
    taken = np.zeros((h, w), np.uint8)
    inks = colours(palette)
    for turn in range(3600):
        size = (
            float(widths[-1 - min(turn // 400, len(widths) - 1)])
            if turn < 1600
            else float(rng.choice(widths))
        )
        gap = max(2, round(size * 0.75 + 1))
        points: list[tuple[float, float]] = []
        px, py = rng.uniform(0, w), rng.uniform(0, h)
        for _ in range(int(rng.integers(12, 90))):
            ix, iy = int(px), int(py)
            if (
                not (0 <= ix < w and 0 <= iy < h)
                or taken[max(iy - gap, 0) : iy + gap, max(ix - gap, 0) : ix + gap].any()
            ):
                break
            points.append((px, py))
            px, py = px + 4 * np.cos(angles[iy, ix]), py + 4 * np.sin(angles[iy, ix])
        if len(points) < 5:
            continue
        cv2.polylines(taken, [np.array(points, np.int32)], False, (255,), max(1, round(size)))
        centre = points[len(points) // 2]
        pick = (
            int((centre[1] / h * 3 + rng.uniform(0, 3)) % len(inks))
            if job.variant == 2
            else int(rng.integers(len(inks)))
        )
        canvas.line(points, inks[pick], width=size)
        if size > 7:
            canvas.line(points, mix(inks[pick], colours(ground)[0], share=0.35), width=1)
    return grain(canvas.image(), rng, strength=3)


def _julia(job: Commission, *, c: complex, zoom: float, stops: str) -> RGB:
    x, y = grid(job.width * 2, job.height * 2)
    scale = zoom / (job.height * 2)
    z = ((x - job.width) * scale + 1j * (y - job.height) * scale).astype(np.complex64) * np.exp(0.5j).astype(
        np.complex64
    )
    return _escape(job, z, start=np.full_like(z, c), stops=stops)


def _escape(job: Commission, z: NDArray[np.complex64], *, start: NDArray[np.complex64], stops: str) -> RGB:
    shape = z.shape
    count = np.full(z.size, 200, np.float32)
    trap = np.full(z.size, 9, np.float32)
    live, point, shift = np.arange(z.size), z.ravel(), start.ravel()
    for step in range(200):
        point = point * point + shift
        size = np.abs(point)
        trap[live] = np.minimum(trap[live], np.abs(size - 0.6))
        out = size > 30
        count[live[out]] = step + 1 - np.log2(np.log(size[out]))
        live, point, shift = live[~out], point[~out], shift[~out]
    inside = np.isin(np.arange(z.size), live, assume_unique=True).reshape(shape)
    tone = (np.sqrt(count.reshape(shape)) * 0.19 + 0.05) % 1
    picture = ramp(tone, colours(stops))
    picture *= np.where(inside, 0.12, 1 + 0.4 * np.exp(-trap.reshape(shape) * 9))[..., None]
    small = cv2.resize(picture, (job.width, job.height), interpolation=cv2.INTER_AREA)
    return to_rgb(small)


def _newton(job: Commission) -> RGB:
    x, y = grid(job.width * 2, job.height * 2)
    z = (((x - job.width * 0.9) + 1j * (y - job.height * 1.15)) * (2.4 / job.width)).astype(np.complex64)
    roots = np.exp(2j * np.pi * np.arange(5) / 5).astype(np.complex64)
    steps = np.zeros(z.shape, np.float32)
    for _ in range(24):
        fourth = (z * z) * (z * z)
        fourth = np.where(np.abs(fourth) < 1e-8, 1e-8, fourth)
        z = (z - (fourth * z - 1) / (5 * fourth) * (1 + 0.12j)).astype(np.complex64)
        far = np.min([np.abs(z - root) for root in roots], axis=0)
        steps += np.tanh(far * 1.5).astype(np.float32)
    owner = np.argmin([np.abs(z - root) for root in roots], axis=0)
    inks = np.array(colours("e63946 f1c453 2a6f97 83e377 5f0f40"), np.float32)
    light = 1.15 * np.exp(-steps * 0.11) + 0.12 * np.cos(steps * 4)
    picture = inks[owner] * light[..., None]
    return to_rgb(cv2.resize(picture, (job.width, job.height), interpolation=cv2.INTER_AREA))


def _ferns(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    maps = np.array(
        [
            [0, 0, 0, 0.16, 0, 0],
            [0.85, 0.04, -0.04, 0.85, 0, 1.6],
            [0.2, -0.26, 0.23, 0.22, 0, 1.6],
            [-0.15, 0.28, 0.26, 0.24, 0, 0.44],
        ]
    )
    glow = np.zeros((h, w, 3), np.float32)
    fronds = (
        (0.5, 1.0, 0.0, "b7e4c7"),
        (0.24, 0.74, 0.5, "52b788"),
        (0.78, 0.66, -0.55, "74c69d"),
        (0.12, 0.4, 0.9, "40916c"),
        (0.9, 0.36, -0.95, "d8f3a0"),
    )
    for cx, tall, lean, ink in fronds:
        p = np.zeros((6000, 2))
        density = np.zeros((h, w), np.float32)
        for step in range(130):
            m = maps[rng.choice(4, 6000, p=[0.01, 0.85, 0.07, 0.07])]
            p = np.column_stack(
                [
                    m[:, 0] * p[:, 0] + m[:, 1] * p[:, 1] + m[:, 4],
                    m[:, 2] * p[:, 0] + m[:, 3] * p[:, 1] + m[:, 5],
                ]
            )
            if step < 15:
                continue
            size = tall * h * 0.094
            fx = p[:, 0] * np.cos(lean) - p[:, 1] * np.sin(lean)
            fy = p[:, 1] * np.cos(lean) + p[:, 0] * np.sin(lean)
            ix, iy = (cx * w + fx * size).astype(int), (h * 0.985 - fy * size).astype(int)
            inside = (ix >= 0) & (ix < w) & (iy >= 0) & (iy < h)
            np.add.at(density, (iy[inside], ix[inside]), 1)
        light = np.log1p(density) / np.log1p(density.max())
        glow += light[..., None] * np.array(colours(ink)[0], np.float32) * 1.1
    _, y = grid(w, h)
    sky = ramp(
        y / h + 0.2 * noise(rng, width=w, height=h, cell=150) - 0.1, colours("0b132b 1c2541 12372a 081c15")
    )
    return to_rgb(sky + glow + blur(glow, sigma=9) * 0.5)


def fractal(job: Commission) -> RGB:
    """Julia and Mandelbrot sets, Newton basins, iterated ferns."""
    if job.variant == 0:
        return _julia(
            job, c=-0.8 + 0.156j, zoom=2.3, stops="03071e 370617 9d0208 e85d04 ffba08 fff3b0 3a86ff 03071e"
        )
    if job.variant == 1:
        return _newton(job)
    if job.variant == 2:
        return _ferns(job)
    x, y = grid(job.width * 2, job.height * 2)
    span = 0.012 / job.width
    start = (-0.7463 + (x - job.width) * span + 1j * (0.1102 + (y - job.height) * span)).astype(np.complex64)
    return _escape(
        job, np.zeros_like(start), start=start, stops="001219 005f73 94d2bd e9d8a6 ee9b00 9b2226 001219"
    )


def _mandala(job: Commission) -> RGB:
    w, h = job.width, job.height
    inks = colours("f2cc8f e07a5f 81b29a f4f1de c8553d 6d9dc5")
    canvas = Canvas.plain(w, h, colour=colours("252440")[0])
    cx, cy, reach = w / 2, h / 2, min(w, h) * 0.48
    rings = [
        (1.0, 32, 0),
        (0.86, 24, 1),
        (0.72, 24, 2),
        (0.58, 16, 3),
        (0.44, 16, 4),
        (0.3, 8, 5),
        (0.18, 8, 1),
    ]
    for share, petals, ink in rings:
        radius = reach * share
        canvas.ring(cx, cy, radius * 0.93, colour=inks[(ink + 2) % 6], width=1.5)
        for k in range(petals):
            angle = 2 * np.pi * (k + (ink % 2) / 2) / petals
            wide = np.pi / petals * 0.92
            outer, inner = radius, radius * 0.74
            tip = (cx + outer * np.cos(angle), cy + outer * np.sin(angle))
            for scale, tone in ((1.0, inks[ink]), (0.62, colours("252440")[0]), (0.38, inks[(ink + 3) % 6])):
                t = np.linspace(-1, 1, 13)
                r = inner + (outer - inner) * scale * (1 - np.abs(t) ** 1.5)
                a = angle + wide * scale * t
                canvas.polygon(np.column_stack([cx + r * np.cos(a), cy + r * np.sin(a)]), tone)
            canvas.disc(*tip, radius * 0.018 + 1, colour=inks[(ink + 1) % 6])
    for k in range(12):
        canvas.polygon(
            oval(
                cx + 22 * np.cos(k * np.pi / 6),
                cy + 22 * np.sin(k * np.pi / 6),
                rx=20,
                ry=6,
                turn=k * np.pi / 6,
            ),
            inks[k % 2 * 3],
        )
    canvas.disc(cx, cy, 12, colour=inks[1])
    return canvas.image()


def _star_tiles(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    side = 88.0
    deep, mid, gold, white, red = colours("0f4c5c 2c7da0 e9b44c f5efe0 9a031e")
    canvas = Canvas.plain(w, h, colour=white)
    for row in range(-1, int(h / side) + 2):
        for column in range(-1, int(w / side) + 2):
            cx, cy = (column + 0.5) * side, (row + 0.5) * side
            angle = np.arange(16) * np.pi / 8
            r = np.where(np.arange(16) % 2, 0.39, 0.52) * side
            fill = deep if (row + column) % 2 else mid
            canvas.polygon(np.column_stack([cx + r * np.cos(angle), cy + r * np.sin(angle)]), fill)
            for turn in range(8):
                a = turn * np.pi / 4 + np.pi / 8
                tone = gold if turn % 2 else red
                canvas.polygon(
                    oval(
                        cx + 0.27 * side * np.cos(a),
                        cy + 0.27 * side * np.sin(a),
                        rx=0.1 * side,
                        ry=0.045 * side,
                        turn=a,
                        steps=4,
                    ),
                    tone,
                )
            canvas.line(
                np.column_stack([cx + r * np.cos(angle), cy + r * np.sin(angle)]), gold, width=2, closed=True
            )
            canvas.disc(cx, cy, side * 0.1, colour=white)
            canvas.ring(cx, cy, side * 0.145, colour=white, width=1)
            canvas.polygon(oval(cx + side / 2, cy + side / 2, rx=0.2 * side, ry=0.2 * side, steps=4), red)
            canvas.polygon(oval(cx + side / 2, cy + side / 2, rx=0.1 * side, ry=0.1 * side, steps=8), gold)
    glaze = noise(rng, width=w, height=h, cell=130, octaves=5) * 0.35 + 0.8
    return to_rgb(canvas.image() * glaze[..., None])


def _truchet(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    side, (paper, ink, rose, sea) = 64, colours("faf3dd 2b2d42 ef476f 06a77d")
    canvas = Canvas.plain(w, h, colour=paper)
    for top in range(0, h, side):
        for left in range(0, w, side):
            flip = rng.random() < 0.5
            tone = (ink, ink, rose, sea)[int(rng.integers(4))]
            corners = (
                ((left, top, 0.0), (left + side, top + side, np.pi))
                if flip
                else ((left + side, top, np.pi / 2), (left, top + side, -np.pi / 2))
            )
            for cx, cy, begin in corners:
                a = begin + np.linspace(0, np.pi / 2, 24)
                for radius, width in ((side / 2, 15.0), (side / 6, 4.0), (side * 5 / 6, 4.0)):
                    arc = np.column_stack([cx + radius * np.cos(a), cy + radius * np.sin(a)])
                    canvas.line(arc, tone, width=width)
                    if width > 5:
                        canvas.line(arc, paper, width=3)
    return grain(canvas.image(), rng, strength=3)


def _hexagons(job: Commission) -> RGB:
    rng, w, h = job.rng, job.width, job.height
    field = noise(rng, width=w, height=h, cell=260, octaves=2)
    canvas = Canvas.plain(w, h, colour=colours("1b1b1e")[0])
    tops: list[Colour] = colours("ffcad4 f4acb7 9d8189 ffe5d9 d8e2dc")
    side = 34.0
    for row in range(-1, int(h / side / 1.5) + 2):
        for column in range(-1, int(w / side / 1.732) + 2):
            cx, cy = (column + row % 2 / 2) * side * 1.732, row * side * 1.5
            level = float(field[int(np.clip(cy, 0, h - 1)), int(np.clip(cx, 0, w - 1))])
            a = np.pi / 6 + np.arange(6) * np.pi / 3
            hexagon = np.column_stack([cx + side * np.cos(a), cy + side * np.sin(a)])
            top = tops[int(level * 4.99)]
            for face, dark in ((0, 0.55), (2, 0.28), (4, 0.0)):
                quad = np.vstack([[cx, cy], hexagon[(np.arange(3) + face) % 6]])
                canvas.polygon(quad, mix(top, (30, 20, 50), share=dark + 0.3 * (1 - level)))
                canvas.line(quad, (30, 20, 50), width=0.8, closed=True)
    return canvas.image()


def tiling(job: Commission) -> RGB:
    """Mandalas, star tiles, Truchet arcs and stacked cubes."""
    return (_mandala, _star_tiles, _truchet, _hexagons)[job.variant](job)
