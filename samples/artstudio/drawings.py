"""Drawings: botanical plates grown from L-systems and spare line drawings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from artstudio.canvas import (
    RGB,
    Canvas,
    Commission,
    colours,
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

_PLANTS = (
    ({"X": "F[+X]F[-X]+X", "F": "FF"}, 6, 22.0, "3d5a40", "c1121f"),
    ({"X": "F-[[X]+X]+F[+FX]-X", "F": "FF"}, 5, 24.0, "4a5d23", "e09f3e"),
    ({"F": "FF+[+F-F-F]-[-F+F+F]"}, 4, 23.0, "5a3e2b", "6a994e"),
    ({"X": "F[-X][+X]FX", "F": "FF"}, 6, 27.0, "31572c", "5f3dc4"),
)
_PLATES = ("I.  Ramosa rubra", "II.  Spica aurea", "III.  Arbor lenta", "IV.  Viola stricta")


def botanical(job: Commission) -> RGB:
    """Plates of plants grown from L-systems on old paper."""
    rng, w, h = job.rng, job.width, job.height
    rules, depth, bend, stem, bloom = _PLANTS[job.variant]
    word = "X" if "X" in rules else "F"
    for _ in range(depth):
        word = "".join(rules.get(letter, letter) for letter in word)
    x, y = grid(w, h)
    age = noise(rng, width=w, height=h, cell=180, octaves=5)
    edge = np.hypot(x / w - 0.5, y / h - 0.5)
    canvas = Canvas(to_rgb(ramp(age * 0.5 + 0.7 - edge * 0.8, colours("c9a875 e8d8b0 f6ecd2"))))
    place, heading = np.zeros(2), -np.pi / 2
    stack: list[tuple[NDArray[np.float64], float]] = []
    parts: list[tuple[float, float, float, float, int]] = []
    tips = []
    for letter in word:
        if letter == "F":
            turn = heading + rng.normal(0, 0.03)
            ahead = place + np.array([np.cos(turn), np.sin(turn)])
            parts.append((place[0], place[1], ahead[0], ahead[1], len(stack)))
            place = ahead
        elif letter in "+-":
            heading += np.radians(bend) * (1 if letter == "+" else -1) * rng.uniform(0.75, 1.25)
        elif letter == "[":
            stack.append((place, heading))
        elif letter == "]":
            tips.append((place[0], place[1], heading))
            place, heading = stack.pop()
    lines = np.array(parts)
    low, high = lines[:, :2].min(axis=0), lines[:, :2].max(axis=0)
    scale = min(w * 0.74 / (high[0] - low[0]), h * 0.72 / (high[1] - low[1]))
    shift = np.array([w / 2, h * 0.84]) - np.array([(low[0] + high[0]) / 2, high[1]]) * scale
    ink, flower = colours(stem)[0], colours(bloom)[0]
    for px, py, qx, qy, level in lines:
        ends = np.array([(px, py), (qx, qy)]) * scale + shift
        canvas.line(
            ends,
            vary(rng, mix(ink, (150, 160, 80), share=level / 12), amount=12),
            width=max(0.8, 4.2 - level * 0.75),
        )
    picks = rng.choice(len(tips), min(len(tips), 420), replace=False)
    for k in picks:
        tx, ty = np.array(tips[k][:2]) * scale + shift
        turn = tips[k][2]
        if k % 3 == 0:
            for j in range(5):
                a = turn + j * 2 * np.pi / 5
                canvas.polygon(
                    oval(tx + 4 * np.cos(a), ty + 4 * np.sin(a), rx=4.2, ry=2.4, turn=a, steps=14),
                    vary(rng, flower, amount=26),
                    alpha=0.85,
                )
            canvas.disc(tx, ty, 1.6, colour=(250, 220, 120))
        else:
            canvas.polygon(
                oval(tx, ty, rx=7, ry=2.6, turn=turn, steps=14),
                vary(rng, mix(ink, (140, 170, 90), share=0.4), amount=20),
                alpha=0.85,
            )
    canvas.text(w / 2, h * 0.92, _PLATES[job.variant], size=20, colour=(70, 50, 36))
    canvas.line([(20, 20), (w - 20, 20), (w - 20, h - 20), (20, h - 20)], (110, 84, 56), width=1, closed=True)
    return grain(canvas.image(), rng, strength=4)


def _cat(canvas: Canvas, w: int, h: int) -> None:
    ink = (26, 26, 30)
    back = [
        (0.3, 0.86),
        (0.26, 0.7),
        (0.33, 0.54),
        (0.42, 0.43),
        (0.44, 0.33),
        (0.43, 0.2),
        (0.48, 0.27),
        (0.55, 0.27),
        (0.6, 0.2),
        (0.59, 0.34),
        (0.56, 0.42),
        (0.58, 0.56),
        (0.62, 0.72),
        (0.61, 0.86),
        (0.5, 0.87),
        (0.3, 0.86),
        (0.16, 0.84),
        (0.12, 0.74),
        (0.17, 0.68),
        (0.2, 0.74),
    ]
    canvas.line(smooth(np.array(back) * (w, h), steps=16), ink, width=4)
    for dx in (0.485, 0.55):
        canvas.line(
            smooth([((dx - 0.016) * w, 0.345 * h), (dx * w, 0.335 * h), ((dx + 0.016) * w, 0.345 * h)]),
            ink,
            width=3,
        )
    canvas.polygon([(0.507 * w, 0.375 * h), (0.528 * w, 0.375 * h), (0.518 * w, 0.39 * h)], (214, 90, 80))
    for side in (-1, 1):
        for k in range(2):
            canvas.line(
                [
                    (0.518 * w + side * 18, (0.39 + 0.012 * k) * h),
                    (0.518 * w + side * 66, (0.375 + 0.03 * k) * h),
                ],
                ink,
                width=1.5,
            )


def _pot_plant(canvas: Canvas, w: int, h: int) -> None:
    ink = (34, 40, 34)
    canvas.disc(0.58 * w, 0.36 * h, 0.24 * w, colour=(242, 196, 170))
    for lean, tall in ((-0.24, 0.5), (-0.1, 0.66), (0.05, 0.72), (0.2, 0.58), (0.3, 0.4)):
        stem = smooth(
            [
                (0.48 * w, 0.72 * h),
                ((0.48 + lean * 0.4) * w, (0.72 - tall * 0.4) * h),
                ((0.48 + lean) * w, (0.78 - tall) * h),
            ]
        )
        canvas.line(stem, ink, width=2.5)
        turn = float(np.arctan2(stem[-1, 1] - stem[-6, 1], stem[-1, 0] - stem[-6, 0]))
        leaf = oval(stem[-1, 0], stem[-1, 1], rx=0.1 * w, ry=0.038 * w, turn=turn)
        canvas.polygon(leaf, (150, 184, 150))
        canvas.line(leaf, ink, width=2.5, closed=True)
        canvas.line(
            [
                stem[-1] - 0.09 * w * np.array([np.cos(turn), np.sin(turn)]),
                stem[-1] + 0.08 * w * np.array([np.cos(turn), np.sin(turn)]),
            ],
            ink,
            width=1.5,
        )
    pot = np.array([(0.34, 0.7), (0.62, 0.7), (0.58, 0.9), (0.38, 0.9)]) * (w, h)
    canvas.polygon(pot, (250, 246, 238))
    canvas.line(pot, ink, width=3, closed=True)
    canvas.line([(0.1 * w, 0.9 * h), (0.9 * w, 0.9 * h)], ink, width=2)


def _profile(canvas: Canvas, w: int, h: int) -> None:
    ink = (28, 34, 66)
    canvas.polygon(oval(0.3 * w, 0.42 * h, rx=0.22 * w, ry=0.22 * h), (245, 178, 160))
    face = [
        (0.2, 0.3),
        (0.32, 0.14),
        (0.56, 0.1),
        (0.7, 0.2),
        (0.72, 0.34),
        (0.73, 0.42),
        (0.8, 0.52),
        (0.73, 0.55),
        (0.75, 0.6),
        (0.72, 0.63),
        (0.74, 0.66),
        (0.7, 0.7),
        (0.71, 0.76),
        (0.62, 0.79),
        (0.54, 0.77),
        (0.53, 0.88),
        (0.62, 0.95),
    ]
    canvas.line(smooth(np.array(face) * (w, h), steps=16), ink, width=3.5)
    hair = [
        (0.7, 0.2),
        (0.52, 0.26),
        (0.42, 0.42),
        (0.44, 0.56),
        (0.36, 0.66),
        (0.24, 0.62),
        (0.18, 0.46),
        (0.2, 0.3),
    ]
    canvas.line(smooth(np.array(hair) * (w, h), steps=16), ink, width=3.5)
    canvas.line(
        smooth(np.array([(0.36, 0.66), (0.37, 0.8), (0.26, 0.92), (0.12, 0.96)]) * (w, h)), ink, width=3.5
    )
    canvas.line(
        smooth(np.array([(0.6, 0.42), (0.65, 0.4), (0.69, 0.43), (0.64, 0.45), (0.6, 0.42)]) * (w, h)),
        ink,
        width=3,
    )
    canvas.line(smooth(np.array([(0.57, 0.36), (0.64, 0.33), (0.7, 0.36)]) * (w, h)), ink, width=3)


def _cup(canvas: Canvas, w: int, h: int) -> None:
    ink = (40, 30, 30)
    canvas.polygon(np.array([(0.3, 0.55), (0.66, 0.55), (0.6, 0.82), (0.36, 0.82)]) * (w, h), (238, 120, 84))
    canvas.line(
        np.array([(0.3, 0.55), (0.66, 0.55), (0.6, 0.82), (0.36, 0.82)]) * (w, h), ink, width=4, closed=True
    )
    canvas.line(
        smooth(np.array([(0.65, 0.6), (0.76, 0.6), (0.76, 0.73), (0.62, 0.75)]) * (w, h)), ink, width=4
    )
    for k in range(3):
        ys = np.linspace(0.18, 0.5, 30) * h
        canvas.line(np.column_stack([(0.4 + 0.08 * k) * w + 12 * np.sin(ys / 26 + k), ys]), ink, width=3)
    canvas.line([(0.15 * w, 0.84 * h), (0.85 * w, 0.84 * h)], ink, width=4)


def line_art(job: Commission) -> RGB:
    """A few lines on plain paper: a cat, a pot plant, a profile, a cup."""
    paper = colours("fbf7f0 f6f1e7 faf3f0 f3efe4")[job.variant]
    canvas = Canvas.plain(job.width, job.height, colour=paper)
    (_cat, _pot_plant, _profile, _cup)[job.variant](canvas, job.width, job.height)
    return canvas.image()
