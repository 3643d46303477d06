"""The statistics of an audit: shares, rankings, ranks among controls, trends. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

CONFIDENCE = 0.95
Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))

SIGNIFICANT = 0.05
"""Bound of p-values, and of the share of false discoveries."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval (Wilson 1927, https://doi.org/10.2307/2276774).

    Attributes:
        hits: How many.
        total: Of how many; 0: nothing was measured, and the interval says nothing.
        share: 0–1.
        low: Lower end of the interval.
        high: Upper end.
    """

    hits: int
    total: int
    share: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def rate(hits: int, total: int) -> Rate:
    """Return a share with its Wilson interval."""
    if total == 0:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    share = hits / total
    spread = Z * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    middle, scale = share + Z**2 / (2 * total), 1 + Z**2 / total
    low, high = (middle - spread) / scale, (middle + spread) / scale
    # At the ends the formula gives 0 and 1 but for rounding.
    return Rate(hits, total, share, low if hits else 0.0, high if hits < total else 1.0)


@dataclass(frozen=True, slots=True)
class Auc:
    """How well a measure tells members from controls: the chance that a member's is the higher one.

    Attributes:
        value: 0–1; 0.5 is no difference. Ties count half.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Of the one-sided Mann–Whitney test that members' are higher.
        members: How many.
        controls: How many.
    """

    value: float
    low: float
    high: float
    p_value: float
    members: int
    controls: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def auc(members: Sequence[float], controls: Sequence[float]) -> Auc | None:
    """Compare two samples by ranks.

    The interval is Newcombe's method 5 (2006, https://doi.org/10.1002/sim.2324): it keeps its width where all
    members lie above all controls, which DeLong's and the bootstrap do not.

    Args:
        members: Higher is what is expected of members.
        controls: The same of works that the model never saw.

    Returns:
        None where either is empty.
    """
    m, n = len(members), len(controls)
    if not m or not n:
        return None
    found = stats.mannwhitneyu(members, controls, alternative="greater")
    value = float(found.statistic) / (m * n)
    return Auc(value, *_newcombe(value, m, n), float(found.pvalue), m, n)


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Solve |value - θ| = z·√V(θ) on either side of the value, by halving."""
    size = (m + n) / 2 - 1

    def beyond(theta: float) -> bool:
        variance = theta * (1 - theta) / (m * n)
        variance *= 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(value - theta) > Z * math.sqrt(variance)

    ends = []
    for end in (0.0, 1.0):
        outside, inside = end, value
        if not beyond(outside):
            ends.append(end)
            continue
        for _ in range(60):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def rank_p_value(value: float, controls: Sequence[float]) -> float:
    """Return the share of controls that reach a value, the work itself counted among them.

    ``(1 + controls ≥ value) / (1 + controls)``: exact where the work and the controls were drawn alike (Phipson &
    Smyth 2010, https://doi.org/10.2202/1544-6115.1585). Never below 1 / (1 + number of controls).
    """
    return (1 + sum(other >= value for other in controls)) / (1 + len(controls))


def controls_needed(works: int, *, at: int) -> int:
    """Return how many controls it takes for `at` of `works` works to be significant after `adjusted`.

    The smallest p-value is 1 / (controls + 1), and the bound of the `at` smallest is `at` / `works` × 0.05. For one
    work alone it is 19.
    """
    return math.ceil(round(works / (max(at, 1) * SIGNIFICANT), 9)) - 1


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Benjamini & Hochberg 1995), in the same order.

    Of works whose adjusted value is at most 0.05, at most 5 % are expected to be there by chance.
    """
    if not p_values:
        return []
    return [float(value) for value in stats.false_discovery_control(p_values, method="bh")]


@dataclass(frozen=True, slots=True)
class Trend:
    """Whether one thing rises with another over works.

    Attributes:
        rho: Spearman's rank correlation, -1–1.
        p_value: Two-sided.
        works: How many.
    """

    rho: float
    p_value: float
    works: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def trend(first: Sequence[float], second: Sequence[float]) -> Trend | None:
    """Return Spearman's rank correlation, or None where one of the two does not vary or there are under 3 works.

    One value a work, so that the seeds of one work, which are not independent, do not count as many.
    """
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    found = stats.spearmanr(first, second)
    return Trend(float(found.statistic), float(found.pvalue), len(first))
