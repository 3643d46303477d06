"""Sketches of unit rows: a few bits each, by which the rows worth ranking exactly are found among very many.

A row's sketch says on which side of random planes through the middle of all rows it lies: the share of bits in which
two sketches differ is near their angle over π (Charikar 2002, https://doi.org/10.1145/509907.509965). All sketches are
compared, 32 bytes of a row instead of hundreds, and the nearest are ranked by the stored rows themselves.

A cache beside the segments, made by `detector index optimize`: plain arrays that are mapped into memory and checked for
their shapes, never a file that another library parses. They name references, not rows, so they outlive merged segments;
references added later are searched exactly beside them. Damage here can lose a match and cannot make one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.segments import STEM, Rows, map_array

BITS = (256, 128, 64)
"""Bits a sketch, the best first; the most that the memory allows are taken."""

_ID_BYTES = 8
_MIDDLE_SAMPLE = 10_000
_ARRAYS = ("planes", "middle", "bits", "ids")


@dataclass(frozen=True, slots=True)
class Measured:
    """What `optimize` measured on the index's own references.

    Attributes:
        recall: Share of queries whose first answer is that of the exact search.
        queries: How many were asked.
        ms: Median of one row's search, one thread.
        exact_ms: Median of the exact search of the same rows, in the same run.
    """

    recall: float
    queries: int
    ms: float
    exact_ms: float


@dataclass(frozen=True, slots=True)
class SketchRecord:
    """What the catalogue keeps of one descriptor's sketches.

    Attributes:
        file: Stem of their files under ``ann/``.
        sha256: Of those files' bytes, one after the other.
        last_id: Highest reference they cover.
        rows: How many there are.
        ranked: Rows ranked exactly for each row asked for.
        measured: When they were made.
        memory_bytes: What they take in memory.
    """

    file: str
    sha256: str
    last_id: int
    rows: int
    ranked: int
    measured: Measured
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "measured"}
        return {**values, "measured": {n: getattr(self.measured, n) for n in self.measured.__slots__}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SketchRecord:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError: It is something else.
        """
        found = cls(**{**values, "measured": Measured(**values["measured"])})
        whole = (found.last_id, found.rows, found.ranked, found.memory_bytes, found.measured.queries)
        shares = (found.measured.recall, found.measured.ms, found.measured.exact_ms)
        if not all(type(value) is int and 0 <= value < 2**63 for value in whole) or not all(
            type(value) in (int, float) and math.isfinite(value) for value in shares
        ):
            raise ValueError("numbers of sketches are none")
        if found.ranked < 1 or not re.fullmatch(STEM, found.file):
            raise ValueError("no record of sketches")
        return found


@dataclass(frozen=True, slots=True)
class Sketches:
    """Sketches of rows.

    Attributes:
        planes: float32, (bits, width): normals of the planes.
        middle: float32, (width,): the mean of rows.
        bits: uint8, (N, bits / 8), packed.
        ids: int64, (N,): the reference of each row, ascending.
    """

    planes: NDArray[np.float32]
    middle: NDArray[np.float32]
    bits: NDArray[np.uint8]
    ids: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes in memory once read."""
        return sum(int(getattr(self, name).nbytes) for name in _ARRAYS)

    def of(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the sketches of other rows, float, (Q, width): uint8, (Q, bits / 8)."""
        return _sketched(rows, self.planes, self.middle)

    def without(self, gone: NDArray[np.bool_]) -> Sketches:
        """Return the same without some rows: bool, (N,)."""
        return Sketches(self.planes, self.middle, self.bits[~gone], self.ids[~gone])


def bits_within(rows: int, memory_bytes: int | None) -> int | None:
    """Choose how many bits a sketch has.

    Args:
        rows: How many there are.
        memory_bytes: What sketches may take; None for no bound.

    Returns:
        The most that fits; None where even the fewest do not.
    """
    for bits in BITS:
        if memory_bytes is None or needed_bytes(rows, bits) <= memory_bytes:
            return bits
    return None


def needed_bytes(rows: int, bits: int) -> int:
    """Return what sketches of so many bits take in memory, with their references."""
    return rows * (bits // 8 + _ID_BYTES)


def make(
    rows: Rows, *, bits: int, seed: int = 0, on_progress: Callable[[int, int], None] | None = None
) -> Sketches:
    """Sketch rows, block by block.

    Args:
        rows: float16, unit length, at least one.
        bits: A multiple of 8.
        seed: Of the planes.
        on_progress: Called with rows sketched so far and all of them.
    """
    count = len(rows)
    rng = np.random.default_rng(seed)
    # Planes at right angles to each other tell more than any others; there are no more of those than columns.
    sets = [
        np.linalg.qr(rng.standard_normal((rows.width, rows.width)))[0] for _ in range(-(-bits // rows.width))
    ]
    planes = np.concatenate(sets)[:bits].astype(np.float32)
    middle = sample(rows, min(_MIDDLE_SAMPLE, count), seed).mean(axis=0, dtype=np.float64).astype(np.float32)
    made, owners, done = np.empty((count, bits // 8), np.uint8), np.empty(count, np.int64), 0
    for block, ids, _ in rows.blocks():
        here = slice(done, done + len(ids))
        made[here], owners[here] = _sketched(block, planes, middle), ids
        done += len(ids)
        if on_progress is not None:
            on_progress(done, count)
    return Sketches(planes, middle, made, owners)


def _sketched(
    rows: NDArray[Any], planes: NDArray[np.float32], middle: NDArray[np.float32]
) -> NDArray[np.uint8]:
    return np.packbits((rows.astype(np.float32) - middle) @ planes.T > 0, axis=1)


def sample(rows: Rows, size: int, seed: int) -> NDArray[np.float32]:
    """Return rows chosen at random: float32, (size, width), in their order."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), size, replace=False))
    taken, before = [], 0
    for block, _, _ in rows.blocks():
        low, high = np.searchsorted(chosen, (before, before + len(block))).tolist()
        taken.append(block[chosen[low:high] - before].astype(np.float32))
        before += len(block)
    return np.concatenate(taken)


def turned(rows: NDArray[np.float32], *, cosine: float, seed: int) -> NDArray[np.float32]:
    """Turn rows towards other rows of the same index: what an edited copy of a picture looks like to a tower.

    Args:
        rows: float32, (N, width), unit length.
        cosine: To the row itself afterwards.
        seed: Of the choice of the others.
    """
    others = rows[np.random.default_rng(seed).permutation(len(rows))]
    aside = others - (others * rows).sum(axis=1, keepdims=True) * rows
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-6)
    mixed = cosine * rows + math.sqrt(1.0 - cosine**2) * aside
    unit: NDArray[np.float32] = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return unit


def paths(folder: Path, stem: str) -> list[Path]:
    """Return the files of sketches by the stem of their names."""
    return [folder / f"{stem}.{name}.npy" for name in _ARRAYS]


def save(sketches: Sketches, folder: Path, stem: str) -> None:
    """Write sketches and flush them to disk."""
    for path, name in zip(paths(folder, stem), _ARRAYS, strict=True):
        with path.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(getattr(sketches, name)), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())


def load(folder: Path, stem: str, *, width: int) -> Sketches:
    """Map sketches into memory.

    Raises:
        OSError, ValueError, EOFError: A file is missing, garbled or does not fit the others.
    """
    mapped = [np.asarray(map_array(path)) for path in paths(folder, stem)]
    found = Sketches(*mapped)
    bits = len(found.planes)
    fits = (
        found.planes.shape == (bits, width)
        and bits > 0
        and found.middle.shape == (width,)
        and found.ids.ndim == 1
        and found.bits.shape == (len(found.ids), bits // 8)
        and [array.dtype for array in mapped] == [np.float32, np.float32, np.uint8, np.int64]
        and all(array.flags.c_contiguous for array in mapped)
    )
    if not fits:
        raise ValueError(f"{stem}: its arrays do not fit each other")
    return found
