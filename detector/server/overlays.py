"""Shared regions drawn on pictures, and the transformation that lays the training image over the other picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.report import Match, Point
from detector.reports.cards import MAX_CORNERS, region_paths

FloatArray = NDArray[np.float64]

MAX_AFFINE_ERROR = 0.004
"""Root mean square, as a share of the picture's side: up to here no perspective is fitted, which a few corners that
were cut off at the border would bend."""

MAX_ERROR = 0.03
"""Likewise: beyond it the corners fit no transformation, and the pictures are not laid over each other."""

MAX_STRETCH = 40.0
"""How much larger or smaller the training image may be drawn before what is seen would be a few blurred pixels."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A region to be drawn over a picture, in units of a view box.

    Attributes:
        view: ``0 0 width height``.
        outline: Path of the region.
        rest: Path of everything but the region.
        first: Path of a dot at its first corner, the same in both pictures.
    """

    view: str
    outline: str
    rest: str
    first: str


def overlay(region: Sequence[Point], width: int, height: int) -> Overlay | None:
    """Return how to draw a region, or None where there is none.

    Args:
        region: Corners, in shares of width and height.
        width: Of the picture, in pixels; only its ratio to `height` matters.
        height: Likewise.
    """
    if width <= 0 or height <= 0:
        return None
    wide, high = 1000.0, 1000.0 * height / width
    paths = region_paths(region, wide, high)
    if paths is None:
        return None
    outline, first = paths
    return Overlay(
        view=f"0 0 {wide:g} {high:.1f}",
        outline=outline,
        rest=f"M0 0H{wide:g}V{high:.1f}H0Z{outline}",
        first=first,
    )


def alignment(match: Match) -> tuple[float, ...] | None:
    """Return what lays a reference over the query, so that the shared regions coincide.

    Args:
        match: With regions; corner by corner the same.

    Returns:
        Nine numbers, a homography row by row, from shares of the reference's sides to shares of the query's; None
        where the regions give none that can be looked at.
    """
    here = np.array(match.query_region, np.float64).reshape(-1, 2)
    there = np.array(match.reference_region, np.float64).reshape(-1, 2)
    usable = len(here) == len(there) and 3 <= len(here) <= MAX_CORNERS
    if not usable or not (np.isfinite(here).all() and np.isfinite(there).all()):
        return None
    matrix = _fitted(there, here)
    if matrix is None or not _viewable(matrix, there):
        return None
    return tuple(round(float(value), 6) + 0.0 for value in matrix.ravel())


def _fitted(source: FloatArray, target: FloatArray) -> FloatArray | None:
    """Return the simplest transformation, float64, (3, 3), that takes one polygon to another."""
    affine = _affine(source, target)
    if affine is not None and _error(affine, source, target) <= MAX_AFFINE_ERROR:
        return affine
    bent = _homography(source, target) if len(source) > 4 else None
    best = min(
        (each for each in (affine, bent) if each is not None),
        key=lambda each: _error(each, source, target),
        default=None,
    )
    return best if best is not None and _error(best, source, target) <= MAX_ERROR else None


def _affine(source: FloatArray, target: FloatArray) -> FloatArray | None:
    rows = np.hstack([source, np.ones((len(source), 1))])
    solved, _, rank, _ = np.linalg.lstsq(rows, target, rcond=1e-6)
    return np.vstack([solved.T, [0.0, 0.0, 1.0]]) if rank == 3 else None


def _homography(source: FloatArray, target: FloatArray) -> FloatArray | None:
    """Direct linear transformation (Hartley and Zisserman, Multiple View Geometry, 2nd ed., algorithm 4.1).

    The coordinates are shares of sides already, which is as good as normalised.
    """
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    matrix: FloatArray = np.linalg.svd(np.array(rows, np.float64))[2][-1].reshape(3, 3)
    return matrix / matrix[2, 2] if abs(matrix[2, 2]) > 1e-9 else None


def _error(matrix: FloatArray, source: FloatArray, target: FloatArray) -> float:
    ends = np.hstack([source, np.ones((len(source), 1))]) @ matrix.T
    if not (ends[:, 2] > 1e-6).all():
        return math.inf
    return float(np.sqrt(np.mean(np.sum((ends[:, :2] / ends[:, 2:] - target) ** 2, axis=1))))


def _viewable(matrix: FloatArray, region: FloatArray) -> bool:
    """Say whether the whole reference stays before the eye, neither a line nor a thousandfold of its size."""
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64) @ matrix.T
    if not (corners[:, 2] > 0.05).all():
        return False
    scales = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return bool(scales[0] < MAX_STRETCH and scales[1] > 1 / MAX_STRETCH)
