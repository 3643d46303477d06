"""Whether a picture carries enough to be a copy of anything: flat, graded, blank, tiny and noisy ones do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.images import Picture

MIN_SIDE = 16
"""Shorter side, in pixels of the original, below which nothing can be recognised."""

MIN_STRUCTURE = 2.0
"""Least standard deviation, in grey levels (0–255) at 32×32, of what a smooth surface does not explain.

Gradients are explained and fine noise averages out, so both fall below; of 760 artworks the least has 5.2."""

MAX_NOISE_RATIO = 2.0
"""Structure over what noise of the picture's own contrast would leave at 32×32: about 1 for noise."""

MAX_NOISE_CORRELATION = 0.2
"""Correlation of neighbours at 32×32 up to which that may be noise; noise has 0.1 at most."""


def structure(picture: Picture) -> float:
    """Return how much of a picture a quadratic surface leaves unexplained: grey levels, 0–127."""
    return float(_unexplained(picture.to_pil().convert("L")).std())


def _unexplained(grey_image: Image.Image) -> NDArray[np.float64]:
    grey = np.asarray(grey_image.resize((32, 32), Image.Resampling.BOX), np.float64).ravel()
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    terms = [np.ones(1024), x.ravel(), y.ravel(), (x * y).ravel(), (x**2).ravel(), (y**2).ravel()]
    design = np.column_stack(terms)
    solution, *_ = np.linalg.lstsq(design, grey, rcond=None)
    return np.asarray((grey - design @ solution).reshape(32, 32), np.float64)


def has_too_little_detail(picture: Picture) -> bool:
    """Say whether a picture carries too little to be a copy of anything."""
    if min(picture.width, picture.height) < MIN_SIDE:
        return True
    grey = picture.to_pil().convert("L")
    left = _unexplained(grey)
    found = float(left.std())
    if found < MIN_STRUCTURE:
        return True
    pixels_a_cell = max(1.0, grey.width * grey.height / 1024)
    if found > MAX_NOISE_RATIO * float(np.asarray(grey).std()) / pixels_a_cell**0.5:
        return False
    across, down = (left[:, 1:] * left[:, :-1]).mean(), (left[1:] * left[:-1]).mean()
    return bool(max(abs(across), abs(down)) < MAX_NOISE_CORRELATION * found**2)
