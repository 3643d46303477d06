"""Score normalisation: how much nearer a reference is than pictures that have nothing to do with the query.

Some queries (a face, a sunset, a white page) are near to everything. A similarity minus the mean similarity to the
query's nearest neighbours in a background set of unrelated pictures compares across queries; in the SSCD paper it
lifts µAP from 0.61 to 0.72 (Pizzi et al. 2022, arXiv:2202.10261, section 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
"""Nearest background pictures whose similarities are averaged."""


@dataclass(frozen=True, eq=False)
class Background:
    """Rows of pictures that belong to no index.

    Attributes:
        rows: float32, (N, width), of unit length.
    """

    rows: NDArray[np.float32]

    def nearness(self, queries: NDArray[np.float32], *, neighbours: int = NEIGHBOURS) -> NDArray[np.float32]:
        """Return how near the background comes to queries: what to take off their similarities.

        Args:
            queries: float32, (N, width), of unit length.
            neighbours: Nearest background rows that are averaged.

        Returns:
            float32, (N,): mean cosine to the nearest rows.
        """
        similarities = queries @ self.rows.T
        k = min(neighbours, len(self.rows))
        nearest = np.partition(similarities, -k, axis=1)[:, -k:]
        return np.asarray(nearest.mean(axis=1), np.float32)


@lru_cache(maxsize=4)
def read_background(path: Path) -> Background | None:
    """Read a background set, float16 rows in a ``.npy`` file; None where there is none."""
    if not path.is_file():
        return None
    rows = np.load(path, allow_pickle=False).astype(np.float32)
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return Background(rows / lengths)
