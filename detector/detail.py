"""Whether a picture carries enough to be a copy of anything: flat, graded, blank, tiny and noisy ones do not."""

from __future__ import annotations

import numpy as np
from PIL import Image

from index.images import Picture

MIN_SIDE = 16
"""Shorter side, in pixels of the original, below which nothing can be recognised."""

MIN_STRUCTURE = 2.0
"""Least standard deviation, in grey levels (0–255) at 32×32, of what a smooth surface does not explain.

Noise averages out at 32×32 and gradients are explained, so both fall below; of 760 artworks none does."""


def structure(picture: Picture) -> float:
    """Return how much of a picture a quadratic surface leaves unexplained: grey levels, 0–127."""
    small = picture.to_pil().convert("L").resize((32, 32), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64).ravel()
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    terms = [np.ones(1024), x.ravel(), y.ravel(), (x * y).ravel(), (x**2).ravel(), (y**2).ravel()]
    design = np.column_stack(terms)
    solution, *_ = np.linalg.lstsq(design, grey, rcond=None)
    return float((grey - design @ solution).std())


def has_too_little_detail(picture: Picture) -> bool:
    """Say whether a picture carries too little to be a copy of anything."""
    return min(picture.width, picture.height) < MIN_SIDE or structure(picture) < MIN_STRUCTURE
