"""Carlini et al.'s test without an index: groups of near-identical pictures across the seeds of one prompt.

arXiv:2301.13188, section 4.2: pictures of one prompt are nodes; two are joined where their distance, the largest L2
over 4×4 tiles, is small; prompts with a clique of 10 among 500 pictures are taken to be memorised. A model that has
not memorised a prompt gives other pictures with other seeds. The bound of the edges is not published.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def near_identical(distances: NDArray[Any], *, max_distance: float) -> list[int]:
    """Return the largest set found of pictures that are all near-identical to each other.

    Grown from each picture in turn by its nearest neighbours: a lower bound of the largest clique, whose search
    would take exponential time. So it never reports a group that is not there.

    Args:
        distances: float, (N, N), from `likeness.tiled_distances`.
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
