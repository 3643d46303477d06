"""How near the best match of an unrelated picture is in this very index: a null distribution per descriptor.

Each sampled reference's best *other* neighbour, near-duplicates left out, is what an unrelated picture of the
same kind would find. An extreme-value distribution fitted to those gives the p-value of a match; since each
sample is already a maximum over the whole gallery, gallery size and homogeneity are in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.vectors import BitStore, LocalStore, UnitStore

if TYPE_CHECKING:
    from index.searching import Searchable

MAX_SAMPLES = 400
"""References sampled for bit strings and unit rows; the standard error of the fit's place is a twentieth of
its spread."""

MIN_SAMPLES = 20
"""Fewer references than this say too little: no p-value is given."""

NEIGHBOURS = 24
"""How many neighbours are looked through for the best that is no near-duplicate."""

NEAR_DUPLICATE_SIMILARITY: dict[str, float] = {"pdq": 1.0 - 31 / 256, "phash": 1.0 - 6 / 64}
"""Similarity from which a neighbour is left out as a near-duplicate; PDQ's is the field's standard bound."""

NEAR_DUPLICATE_COSINE = 0.9

MIN_P_VALUE = 1e-12


@dataclass(frozen=True, slots=True)
class Null:
    """A Gumbel distribution of the best unrelated similarity.

    Attributes:
        location: Its mode, in the descriptor's similarity.
        scale: Its scale, in the same unit.
        samples: References it was fitted on.
        references: Size of the gallery then.
    """

    location: float
    scale: float
    samples: int
    references: int

    def p_value(self, similarity: float, references: int, *, states: int = 2) -> float:
        """Return the chance that an unrelated picture's best match is at least this similar.

        Args:
            similarity: Of the match.
            references: Size of the gallery now: a maximum over more references lies higher by
                `scale` times the logarithm of the growth.
            states: Mirror states that were searched; the null was fitted on one.
        """
        growth = max(references, 1) / max(self.references, 1) * states
        place = self.location + self.scale * math.log(max(growth, 1e-6))
        exponent = min((similarity - place) / self.scale, 700.0)
        chance = -math.expm1(-math.exp(-exponent)) if exponent > -30 else 1.0
        return float(min(1.0, max(MIN_P_VALUE, chance)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Null:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: It is something else.
        """
        found = cls(
            float(values["location"]),
            float(values["scale"]),
            int(values["samples"]),
            int(values["references"]),
        )
        if not (math.isfinite(found.location) and 0.0 < found.scale < math.inf and found.references >= 0):
            raise ValueError("no distribution")
        return found


def fit_gumbel(maxima: Sequence[float], *, references: int) -> Null | None:
    """Fit a Gumbel distribution by L-moments (Hosking 1990, https://doi.org/10.1111/j.2517-6161.1990.tb01775.x).

    The type with a lighter tail (Weibull) often fits bounded similarities better; Gumbel's heavier tail makes
    p-values too large rather than too small.

    Args:
        maxima: One similarity a sample.
        references: Size of the gallery.

    Returns:
        None for fewer than `MIN_SAMPLES` values.
    """
    values = np.sort(np.asarray(maxima, np.float64))
    count = len(values)
    if count < MIN_SAMPLES:
        return None
    mean = float(values.mean())
    weighted = float((np.arange(count) * values).sum() / (count * (count - 1)))
    second = 2.0 * weighted - mean
    scale = max(second / math.log(2.0), 1e-4)
    return Null(mean - 0.5772156649015329 * scale, scale, count, references)


def calibrate(index: Searchable, *, seed: int = 0) -> dict[str, Null]:
    """Fit the null distribution of each descriptor of an index from its own references.

    Args:
        index: Opened; nothing is written.
        seed: Of the sample.

    Returns:
        By descriptor name; descriptors with too few references are missing, and so are local features,
        whose agreement has a chance of its own that geometry gives.
    """
    found: dict[str, Null] = {}
    ids = np.asarray(index.reference_ids(), np.int64)
    if len(ids) < MIN_SAMPLES:
        return found
    order = np.random.default_rng(seed).permutation(ids)
    for spec in index.specs:
        store = index.store(spec.name)
        if isinstance(store, LocalStore):
            continue
        bound = NEAR_DUPLICATE_SIMILARITY.get(spec.name, NEAR_DUPLICATE_COSINE)
        maxima = _maxima(store, order[:MAX_SAMPLES], bound)
        null = fit_gumbel(maxima, references=len(ids))
        if null is not None:
            found[spec.name] = null
    return found


def _maxima(store: BitStore | UnitStore, ids: NDArray[np.int64], bound: float) -> list[float]:
    rows, owners = [], []
    for number in ids.tolist():
        own = store.rows_of(number)
        if len(own):
            rows.append(own[0])
            owners.append(number)
    if not rows:
        return []
    similarities, neighbours = store.search(np.stack(rows), NEIGHBOURS)
    others = (neighbours != np.asarray(owners)[:, None]) & (neighbours >= 0) & (similarities < bound)
    best = np.where(others, similarities, -np.inf).max(axis=1)
    return [float(value) for value in best[np.isfinite(best)]]
