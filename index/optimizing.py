"""Makes a large index fast: sketches of its unit rows, tuned on its own references to a recall asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import sketches
from index.descriptors import Kind
from index.errors import UsageError
from index.reference_index import ReferenceIndex
from index.segments import Rows
from index.sketches import Measured, SketchRecord
from index.vectors import Sketched, UnitStore, use_threads

MIN_ROWS = 50_000
"""Fewer rows are searched exactly in a few milliseconds."""

QUERIES = 200
"""Rows asked for while tuning; the standard error of a recall of 0.99 is 0.007."""

QUERY_COSINE = 0.75
"""Cosine of a tuning query to its own reference: a heavily edited copy's."""

FEWEST_RANKED, MOST_RANKED = 64, 8192
"""Rows ranked exactly for each row asked for: tuning doubles them from the one to the other."""

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Optimized:
    """What `optimize` did for one descriptor.

    Attributes:
        descriptor: Its name.
        rows: How many it has.
        sketches: Made now; None where it stays with the exact search.
        reason: Why it stays with the exact search, or an empty string.
    """

    descriptor: str
    rows: int
    sketches: SketchRecord | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "sketches": None if self.sketches is None else self.sketches.to_dict()}


def optimize(
    index: str | Path,
    *,
    target_recall: float = 0.99,
    memory_bytes: int | None = None,
    min_rows: int = MIN_ROWS,
    seed: int = 0,
    on_progress: Stage | None = None,
) -> tuple[Optimized, ...]:
    """Make and tune sketches for every descriptor of unit rows that has many.

    Args:
        index: The index folder.
        target_recall: Share of tuning queries, in (0, 1], whose first answer must be that of the exact search.
        memory_bytes: What the sketches of all descriptors together may take in memory; None for no bound.
        min_rows: Descriptors with fewer rows are searched exactly.
        seed: Of samples and planes.
        on_progress: Called with the stage's name, what is done and of how much.

    Returns:
        One for each descriptor of unit rows. Where no setting reaches the recall and is faster than the exact
        search, the exact search stays.

    Raises:
        UsageError: A number is out of range, or the memory is too little for any sketches.
    """
    if not 0.0 < target_recall <= 1.0:
        raise UsageError(f"target recall {target_recall} is not above 0 and at most 1. Example: 0.99")
    tell = on_progress or (lambda stage, done, total: None)
    with ReferenceIndex.open(index, writable=True) as opened:
        names = [spec.name for spec in opened.specs if spec.kind is Kind.UNIT]
        counts = {name: len(opened.rows(name)) for name in names}
        many = {name: count for name, count in counts.items() if count >= max(min_rows, 1)}
        least = sketches.needed_bytes(sum(many.values()), sketches.BITS[-1])
        if memory_bytes is not None and least > memory_bytes:
            raise UsageError(
                f"{index}: sketches need at least {least / 1e6:,.1f} MB of memory, not {memory_bytes / 1e6:,.1f}. "
                "Allow more with --memory"
            )
        bits = sketches.bits_within(sum(many.values()), memory_bytes) or sketches.BITS[-1]
        return tuple(
            _one(opened, name, bits, target_recall, seed, tell)
            if name in many
            else _exact(opened, name, count, f"so few rows are searched exactly (fewer than {min_rows:,})")
            for name, count in counts.items()
        )


def _exact(index: ReferenceIndex, name: str, count: int, reason: str) -> Optimized:
    if name in index.sketches():
        index.drop_sketches(name)
    return Optimized(name, count, None, reason)


def _one(index: ReferenceIndex, name: str, bits: int, target: float, seed: int, tell: Stage) -> Optimized:
    rows = index.rows(name)
    count = len(rows)
    made = sketches.make(
        rows, bits=bits, seed=seed, on_progress=lambda done, total: tell(f"sketching {name}", done, total)
    )
    last_id = int(max(part.ids[-1] for part in rows.parts if len(part.ids)))
    asked = _queries(rows, seed)
    tell(f"measuring {name}", 0, len(asked))
    before = use_threads(1)
    try:
        ranked, measured = _tuned(Sketched(made, last_id=last_id, ranked=FEWEST_RANKED), rows, asked, target)
    finally:
        use_threads(before)
    tell(f"measuring {name}", len(asked), len(asked))
    if measured.recall < target or measured.ms >= measured.exact_ms:
        reason = f"no sketches reach a recall of {target:g} faster than the exact search"
        return _exact(index, name, count, reason)
    record = index.put_sketches(name, made, ranked, measured, last_id=last_id)
    return Optimized(name, count, record)


def _tuned(sketched: Sketched, rows: Rows, asked: NDArray[np.float32], target: float) -> tuple[int, Measured]:
    """Let ever more rows be ranked until the recall is reached, or the exact search is no slower."""
    exact, exact_ms = _answers(UnitStore.over(rows), asked)
    store = UnitStore.over(rows, sketched)
    while True:
        found, ms = _answers(store, asked)
        measured = Measured(float((found == exact).mean()), len(asked), ms, exact_ms)
        if measured.recall >= target or ms >= exact_ms or sketched.ranked >= min(MOST_RANKED, len(rows)):
            return sketched.ranked, measured
        sketched.ranked *= 2


def _queries(rows: Rows, seed: int) -> NDArray[np.float32]:
    """Return rows of references turned away from them: float32, (at most `QUERIES`, width)."""
    taken = sketches.sample(rows, min(QUERIES, len(rows)), seed + 1)
    return sketches.turned(taken, cosine=QUERY_COSINE, seed=seed + 2)


def _answers(store: UnitStore, asked: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """Return the first answer to each row, int64, (Q,), and the median of a search in milliseconds."""
    first, seconds = [], []
    for row in asked:
        started = time.perf_counter()
        _, ids = store.search(row[None], 20)
        seconds.append(time.perf_counter() - started)
        first.append(int(ids[0, 0]))
    return np.asarray(first, np.int64), float(np.median(seconds)) * 1e3
