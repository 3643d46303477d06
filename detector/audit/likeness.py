"""How alike two pictures of the same frame and size are, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TILES = 4
"""A side, as in Carlini et al. 2023 (arXiv:2301.13188): an equal background alone must not make pictures alike."""

FLAT = 3.0
"""Standard deviation, of 255, below which a tile has nothing to correlate; noise of JPEG alone reaches 1 to 2."""


def tiled_distances(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the distances between pictures of one size: the root mean square difference of the worst of 4×4 tiles.

    Args:
        pictures: N arrays, uint8, (H, W, 3).

    Returns:
        float64, (N, N), 0–1, symmetric, zeros on the diagonal.
    """
    stack = np.stack(pictures).astype(np.float64) / 255.0
    count, height, width = stack.shape[:3]
    worst = np.zeros((count, count))
    for rows, columns in _tiles(height, width):
        tile = stack[:, rows, columns].reshape(count, -1)
        for number in range(count - 1):
            squares = ((tile[number + 1 :] - tile[number]) ** 2).mean(axis=1)
            worst[number, number + 1 :] = np.maximum(worst[number, number + 1 :], squares)
    distances: NDArray[np.float64] = np.sqrt(worst + worst.T)
    return distances


def tiled_correlation(work: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return how far another picture shows the same structure as a work: mean correlation of grey values over tiles.

    Brightness, contrast and colour make no difference to it, and noise has none: pictures that a model has washed out
    or darkened alike are not alike for that. Tiles in which the work is flat are left out.

    Args:
        work: uint8, (H, W, 3).
        other: The same size.

    Returns:
        -1–1; 0 where the work is flat everywhere.
    """
    grey, there = work.mean(axis=2), other.mean(axis=2)
    found = []
    for rows, columns in _tiles(*grey.shape):
        one, two = grey[rows, columns].ravel(), there[rows, columns].ravel()
        spread = float(one.std())
        if spread >= FLAT:
            shared = float(((one - one.mean()) * (two - two.mean())).mean())
            found.append(shared / (spread * max(float(two.std()), 1e-3)))
    return float(np.mean(found)) if found else 0.0


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    rows = np.linspace(0, height, TILES + 1).astype(int).tolist()
    columns = np.linspace(0, width, TILES + 1).astype(int).tolist()
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            yield slice(top, bottom), slice(left, right)
