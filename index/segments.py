"""Rows of one descriptor as they lie in segment files: mapped into memory, read block by block, never as a whole.

A segment is two files that never change: ``NAME.npy`` (rows) and ``NAME.ids.npy`` (the reference of each row,
ascending, also from one segment to the next: ids are given in order and never again). Rows of gone references stay
in the files until they are rewritten, and are passed over here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.plain import must_be_file

STEM = r"[A-Za-z0-9_-]{1,60}-\d{6,}"
"""Pattern of names of files of rows and of sketches, without their endings: a descriptor and a number."""

BLOCK_BYTES = 1 << 22
"""Bytes of rows that are looked at, copied or written at a time."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one segment.

    Attributes:
        rows: float16 or uint8, (N, width).
        ids: int64, (N,), ascending.
        start: Number of its first row among all rows of the descriptor.
        before: The reference of the row before it, in another part, or -1.
    """

    rows: NDArray[Any]
    ids: NDArray[np.int64]
    start: int
    before: int


class Rows:
    """All rows of a descriptor that belong to references still there, in order of reference.

    Attributes:
        parts: One a segment; they also hold the rows of gone references.
        total: Rows in them, those of gone references included.
        width: Columns of a row.
        dtype: Of the rows.
        whole: Whether only the first row of each reference counts: that of the whole picture.
    """

    def __init__(
        self,
        segments: Sequence[tuple[NDArray[Any], NDArray[np.int64]]],
        *,
        width: int,
        dtype: Any,
        live: Sequence[tuple[int, int]] | None = None,
        whole: bool = False,
    ) -> None:
        """Take segments as `map_segment` returns them.

        Args:
            segments: In the order in which they were written.
            width: Columns of a row.
            dtype: Of the rows.
            live: First and last id of each unbroken run of references that are there; None for all.
            whole: Let only the first row of each reference count.
        """
        parts, start, before = [], 0, -1
        for rows, ids in segments:
            # Plain arrays over the same memory: indexing a np.memmap costs ten times as much.
            parts.append(Part(np.asarray(rows), np.asarray(ids), start, before))
            start += len(ids)
            before = int(ids[-1]) if len(ids) else before
        self.parts: tuple[Part, ...] = tuple(parts)
        self.total = start
        self.width = width
        self.dtype = np.dtype(dtype)
        self.whole = whole
        self._live = live
        runs = np.asarray([] if live is None else live, np.int64).reshape(-1, 2)
        self._firsts, self._lasts = np.ascontiguousarray(runs[:, 0]), np.ascontiguousarray(runs[:, 1])

    @classmethod
    def of(cls, rows: NDArray[Any], owners: NDArray[np.int64]) -> Rows:
        """Copy rows that are in memory, (N, width), with their references' ids, int64, (N,), in any order."""
        order = np.argsort(owners, kind="stable")
        copied = np.ascontiguousarray(rows[order]), np.ascontiguousarray(owners[order], np.int64)
        return cls([copied], width=rows.shape[1], dtype=rows.dtype)

    def wholes(self) -> Rows:
        """Return the same rows with only the first of each reference counting."""
        segments = [(part.rows, part.ids) for part in self.parts]
        return Rows(segments, width=self.width, dtype=self.dtype, live=self._live, whole=True)

    def __len__(self) -> int:
        if self.whole:
            return sum(len(ids) for _, ids, _ in self.blocks())
        if self._live is None:
            return self.total
        bounds = (
            (np.searchsorted(part.ids, self._firsts), np.searchsorted(part.ids, self._lasts, side="right"))
            for part in self.parts
        )
        return sum(int((high - low).sum()) for low, high in bounds)

    def counts(self, part: Part, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which rows of a part count: bool, of the shape of `places`, which are numbers within the part."""
        ids = part.ids[places]
        kept = np.ones(ids.shape, np.bool_)
        if self._live is not None:
            run = np.searchsorted(self._firsts, ids, side="right") - 1
            kept = run >= 0
            kept[kept] = ids[kept] <= self._lasts[run[kept]]
        if self.whole:
            kept &= np.where(places > 0, part.ids[np.maximum(places - 1, 0)], part.before) != ids
        return kept

    def blocks(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield what counts, `BLOCK_BYTES` of it at a time.

        Yields:
            Rows, (N, width); their references' ids, int64, (N,); their numbers among all rows, int64, (N,).
        """
        step = max(1, BLOCK_BYTES // max(1, self.width * self.dtype.itemsize))
        for part in self.parts:
            for start in range(0, len(part.ids), step):
                places = np.arange(start, min(start + step, len(part.ids)))
                kept = self.counts(part, places)
                if kept.all():
                    here = slice(start, start + len(places))
                    yield part.rows[here], part.ids[here], part.start + places
                elif kept.any():
                    places = places[kept]
                    yield part.rows[places], part.ids[places], part.start + places

    def rows_of(self, reference_id: int) -> NDArray[Any]:
        """Return the rows of a reference, (N, width); none for an unknown or gone one."""
        found = []
        for part in self.parts:
            low, high = np.searchsorted(part.ids, (reference_id, reference_id + 1)).tolist()
            places = np.arange(low, high)
            found.append(part.rows[places[self.counts(part, places)]])
        return np.concatenate(found) if found else np.zeros((0, self.width), self.dtype)

    def rows_of_all(self, ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the rows of some references, (N, width), and to which of them each belongs, int64, (N,).

        Args:
            ids: int64, ascending, each once; unknown and gone ones have no rows.
        """
        found, owners = [np.zeros((0, self.width), self.dtype)], [np.zeros(0, np.int64)]
        for part in self.parts:
            low, high = (np.searchsorted(part.ids, ids, side=side) for side in ("left", "right"))
            counts = high - low
            places = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
            places = places[self.counts(part, places)]
            found.append(part.rows[places])
            owners.append(part.ids[places])
        return np.concatenate(found), np.concatenate(owners)

    def after(self, reference_id: int) -> Rows:
        """Return the same rows without those of references up to one."""
        starts = [int(np.searchsorted(part.ids, reference_id, side="right")) for part in self.parts]
        segments = [
            (p.rows[n:], p.ids[n:]) for p, n in zip(self.parts, starts, strict=True) if n < len(p.ids)
        ]
        return Rows(segments, width=self.width, dtype=self.dtype, live=self._live, whole=self.whole)

    def ids_at(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the references of rows by their numbers among all rows: int64, of the shape of `numbers`."""
        ids = np.empty(numbers.shape, np.int64)
        for part, mine, places in self._split(numbers):
            ids[mine] = part.ids[places]
        return ids

    def rows_at(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows by their numbers, int64, (N,), among all rows: (N, width)."""
        rows = np.empty((len(numbers), self.width), self.dtype)
        for part, mine, places in self._split(numbers):
            rows[mine] = part.rows[places]
        return rows

    def _split(
        self, numbers: NDArray[np.int64]
    ) -> Iterator[tuple[Part, NDArray[np.bool_], NDArray[np.int64]]]:
        for part in self.parts:
            mine = (numbers >= part.start) & (numbers < part.start + len(part.ids))
            if mine.any():
                yield part, mine, numbers[mine] - part.start


def ids_path(rows_path: Path) -> Path:
    """Return where the ids of a segment are, from where its rows are."""
    return rows_path.with_name(rows_path.name.removesuffix(".npy") + ".ids.npy")


def map_segment(rows_path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map a segment into memory; nothing but the two headers is read.

    Returns:
        Its rows and its ids, of whatever shape and dtype the files have.

    Raises:
        OSError, ValueError, EOFError: The files are missing or garbled.
    """
    return map_array(rows_path), map_array(ids_path(rows_path))


def map_array(path: Path) -> NDArray[Any]:
    """Map the one array of a `.npy` file into memory.

    Raises:
        OSError, ValueError, EOFError: The file is missing or garbled.
    """
    must_be_file(path)
    with path.open("rb") as file:
        if file.read(6) != np.lib.format.MAGIC_PREFIX:  # np.load would unpack an archive, too
            raise ValueError(f"{path.name} is no .npy file")
    try:
        with np.errstate(all="ignore"):
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise
    # A header is a Python literal: what cannot be parsed, or makes an impossible shape, raises whatever it likes.
    except Exception as error:
        raise ValueError(f"{path.name} has a garbled header: {error!r}") from error
    return mapped


def write_segment(
    rows_path: Path, blocks: Iterable[tuple[NDArray[Any], NDArray[np.int64]]], *, count: int, width: int
) -> None:
    """Write a segment and flush it to disk; memory holds one block of it.

    Args:
        rows_path: Where its rows go; its ids go to `ids_path` of it.
        blocks: Rows, float16 or uint8, (N, width), all of one dtype, and ids, int64, (N,).
        count: Rows in all blocks, at least 1.
        width: Columns of a row.
    """
    with rows_path.open("wb") as rows_file, ids_path(rows_path).open("wb") as ids_file:
        for number, (rows, ids) in enumerate(blocks):
            if not number:
                _write_header(rows_file, rows.dtype, (count, width))
                _write_header(ids_file, np.dtype(np.int64), (count,))
            rows_file.write(np.ascontiguousarray(rows).data)
            ids_file.write(np.ascontiguousarray(ids, np.int64).data)
        for stream in (rows_file, ids_file):
            stream.flush()
            os.fsync(stream.fileno())


def _write_header(stream: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
