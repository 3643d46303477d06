"""Carlini et al.'s test without an index: groups of near-identical pictures across the seeds of one prompt.

arXiv:2301.13188, section 4.2: pictures of one prompt are nodes; two are joined where their distance, the largest L2
over 4×4 tiles, is small; prompts with a clique of 10 among 500 pictures are taken to be memorised. A model that has
not memorised a prompt gives other pictures with other seeds. The bound of the edges is not published.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILES = 4
"""A side, as in the paper: an equal background alone must not make two pictures near-identical."""


def tiled_distances(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the distances between pictures of one size: the root mean square difference of the worst of 4×4 tiles.

    Args:
        pictures: N arrays, uint8, (H, W, 3).

    Returns:
        float64, (N, N), 0–1, symmetric, zeros on the diagonal.
    """
    stack = np.stack(pictures).astype(np.float64) / 255.0
    count, height, width = stack.shape[:3]
    rows = np.linspace(0, height, TILES + 1).astype(int)
    columns = np.linspace(0, width, TILES + 1).astype(int)
    worst = np.zeros((count, count))
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            tile = stack[:, top:bottom, left:right].reshape(count, -1)
            for number in range(count - 1):
                squares = ((tile[number + 1 :] - tile[number]) ** 2).mean(axis=1)
                worst[number, number + 1 :] = np.maximum(worst[number, number + 1 :], squares)
    distances: NDArray[np.float64] = np.sqrt(worst + worst.T)
    return distances


def near_identical(distances: NDArray[Any], *, max_distance: float) -> list[int]:
    """Return the largest set found of pictures that are all near-identical to each other.

    Grown from each picture in turn by its nearest neighbours: a lower bound of the largest clique, whose search
    would take exponential time. So it never reports a group that is not there.

    Args:
        distances: float, (N, N), from `tiled_distances`.
        max_distance: Largest distance of a pair.

    Returns:
        Numbers of pictures, ascending; at least one where there are any.
    """
    near = np.asarray(distances) <= max_distance
    best: list[int] = []
    for start in range(len(near)):
        group = [start]
        allowed = near[start].copy()
        allowed[start] = False
        for other in np.argsort(distances[start], kind="stable"):
            if allowed[other]:
                group.append(int(other))
                allowed &= near[other]
                allowed[other] = False
        if len(group) > len(best):
            best = group
    return sorted(best)
