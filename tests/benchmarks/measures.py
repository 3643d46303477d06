"""Measures over scored predictions, with confidence intervals. Pure functions.

Micro-average precision and recall at 90 % precision as in ISC2021 (Douze et al. 2021, arXiv 2106.09672): all
predictions of all queries in one ranking, every query with a reference counting once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """One (query, reference) with its score; only the order of scores counts."""

    query: int
    score: float
    true: bool


def wilson(part: int, whole: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    if whole == 0:
        return 0.0, 1.0
    p = part / whole
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * np.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole)) / (1 + z * z / whole)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _curve(scores: Floats, true: Floats, weights: Floats, positives: float) -> tuple[Floats, Floats]:
    """Precision and recall at the end of each block of equal scores, best first."""
    order = np.argsort(-scores, kind="stable")
    scores, true, weights = scores[order], true[order], weights[order]
    ends = np.append(np.nonzero(np.diff(scores))[0], len(scores) - 1)
    hits = np.cumsum(true * weights)[ends]
    taken = np.cumsum(weights)[ends]
    return hits / np.maximum(taken, 1e-12), hits / max(positives, 1e-12)


def average_precision(precision: Floats, recall: Floats) -> float:
    """Return the area under the steps of a precision-recall curve."""
    return float(np.sum(np.diff(recall, prepend=0.0) * precision)) if len(recall) else 0.0


def recall_at(precision: Floats, recall: Floats, least: float = 0.9) -> float:
    """Return the largest recall at a bound whose precision is at least `least`."""
    good = recall[precision >= least]
    return float(good.max()) if len(good) else 0.0


@dataclass(frozen=True)
class Ranked:
    """Micro-average precision and recall at 90 % precision, each with its 95 % interval."""

    positives: int
    average: float
    average_interval: tuple[float, float]
    recall: float
    recall_interval: tuple[float, float]

    def cells(self) -> tuple[str, str]:
        """Return both as table cells."""
        return _with(self.average, self.average_interval), _with(self.recall, self.recall_interval)


def _with(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"


def rank(
    predictions: Sequence[Prediction],
    queries: Sequence[int],
    positives: Sequence[int],
    *,
    seed: int,
    draws: int = 400,
) -> Ranked:
    """Measure predictions over some queries.

    Args:
        predictions: Of any queries; those of others are left out.
        queries: Numbers of the queries that count, unrelated ones included.
        positives: Those among them that have a reference.
        seed: Of the bootstrap over queries.
        draws: Bootstrap samples.
    """
    place = {query: n for n, query in enumerate(queries)}
    kept = [p for p in predictions if p.query in place]
    owner = np.array([place[p.query] for p in kept], np.int64)
    scores = np.array([p.score for p in kept], np.float64)
    true = np.array([p.true for p in kept], np.float64)
    positive = np.zeros(len(queries), np.float64)
    positive[[place[q] for q in positives]] = 1.0

    def measure(counts: Floats) -> tuple[float, float]:
        if not len(kept):
            return 0.0, 0.0
        curve = _curve(scores, true, counts[owner], float(positive @ counts))
        return average_precision(*curve), recall_at(*curve)

    average, recall = measure(np.ones(len(queries)))
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [
            measure(
                np.bincount(generator.integers(0, len(queries), len(queries)), minlength=len(queries)) * 1.0
            )
            for _ in range(draws)
        ]
    )
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return Ranked(
        len(positives), average, (float(low[0]), float(high[0])), recall, (float(low[1]), float(high[1]))
    )


@dataclass(frozen=True)
class Bin:
    """Scores that lie together: how many, their mean, and the share that is true."""

    count: int
    score: float
    true: float


def bins(scores: Sequence[float], labels: Sequence[bool], *, number: int = 15, equal_mass: bool) -> list[Bin]:
    """Group scores into bins of equal width, or of equal numbers."""
    values = np.asarray(scores, np.float64)
    truth = np.asarray(labels, np.float64)
    if not len(values):
        return []
    if equal_mass:
        groups = np.array_split(np.argsort(values, kind="stable"), min(number, len(values)))
    else:
        places = np.minimum((values * number).astype(int), number - 1)
        groups = [np.nonzero(places == n)[0] for n in range(number)]
    return [Bin(len(g), float(values[g].mean()), float(truth[g].mean())) for g in groups if len(g)]


def calibration_error(grouped: Sequence[Bin]) -> float:
    """Return the expected calibration error: mean distance of score and truth, weighted by number."""
    total = sum(b.count for b in grouped)
    return sum(b.count * abs(b.score - b.true) for b in grouped) / total if total else 0.0


def interval(
    measure: Callable[[NDArray[np.int64]], float], count: int, *, seed: int, draws: int = 400
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a measure over indices 0…count-1."""
    if count == 0:
        return 0.0, 0.0
    generator = np.random.default_rng(seed)
    drawn = [measure(generator.integers(0, count, count)) for _ in range(draws)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
