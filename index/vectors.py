"""Stores of rows and their nearest-neighbour search; the only importer of faiss. Higher is more alike.

Exact now. The seam for larger galleries is `open_store`: callers see `search`, and not the type behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index import keypoints
from index.descriptors import Kind

PROBED_LISTS = 4
"""Inverted lists visited per feature; 8 found no more parts in 380 works and took 1.4 times as long."""

_BLOCK = 256
"""Rows compared with all others at a time, where all pairs of a store are sought."""


class Store(Protocol):
    """Rows of references, the first of each that of the whole picture; search for the most alike."""

    def __len__(self) -> int: ...

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the k most alike references of each query row.

        Args:
            queries: (Q, width), dtype as stored.
            k: At least 1.

        Returns:
            Similarities, float32, (Q, k), highest first, and reference ids, int64, (Q, k). Where fewer than k
            rows exist, the rest has similarity -inf and id -1. Equal similarities come in order of id.
        """


class BitStore:
    """Packed bit strings under Hamming distance. Similarity is 1 - distance / bits, in [0, 1]."""

    def __init__(self, rows: NDArray[np.uint8], owners: NDArray[np.int64]) -> None:
        """Take rows, uint8, (N, bytes), and their references' ids, int64, (N,)."""
        import faiss

        order = np.argsort(owners, kind="stable")
        self._owners = np.ascontiguousarray(owners[order])
        self.bits = rows.shape[1] * 8
        self._rows: NDArray[np.uint8] = np.ascontiguousarray(rows[order])
        self._index = faiss.IndexBinaryFlat(self.bits)
        if len(rows):
            self._index.add(self._rows)

    def __len__(self) -> int:
        return len(self._owners)

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Store.search`."""
        if not len(self) or not len(queries):
            return _nothing(len(queries), k)
        found = self._index.search(np.ascontiguousarray(queries, np.uint8), min(k, len(self)))
        distances, positions = _padded(found[0].astype(np.float32), found[1].astype(np.int64), k, np.inf)
        return _ordered(1.0 - distances / self.bits, positions, self._owners)

    def rows_of(self, reference_id: int) -> NDArray[np.uint8]:
        """Return the rows of a reference, uint8, (N, bytes); none for an unknown one."""
        low, high = np.searchsorted(self._owners, (reference_id, reference_id + 1))
        return self._rows[low:high]

    def within(self, row: NDArray[np.uint8], max_distance: int) -> list[tuple[int, int]]:
        """Return (reference id, distance) of all rows within a Hamming distance of one row, nearest first."""
        # faiss takes the bound as "below".
        query = np.ascontiguousarray(row.reshape(1, -1))
        _, distances, positions = self._index.range_search(query, max_distance + 1)
        found = zip(self._owners[positions].tolist(), distances.tolist(), strict=True)
        return sorted(((int(i), int(d)) for i, d in found), key=lambda pair: (pair[1], pair[0]))

    def wholes(self) -> BitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        first = _first_of_each(self._owners)
        return BitStore(self._rows[first], self._owners[first])

    def pairs_within(
        self, max_distance: int, *, toggled: NDArray[np.uint8] | None = None, most: int = 32
    ) -> Iterator[tuple[int, int, int]]:
        """Yield pairs of references whose rows are near each other, block by block: memory stays flat.

        Of equal rows each is paired with the first of them only, and of a row's other neighbours only the
        `most` nearest are paired: ten thousand copies of one picture give ten thousand pairs, not 50 million.

        Args:
            max_distance: Largest Hamming distance.
            toggled: uint8, (bytes,): bits to toggle in one row of each pair; None pairs the rows as they are.
            most: Neighbours a row.

        Yields:
            (reference id, reference id, distance); a pair may come twice, never a reference with itself.
        """
        import faiss

        if not len(self):
            return
        rows, first, group = np.unique(self._rows, axis=0, return_index=True, return_inverse=True)
        owners = self._owners[first]
        if toggled is None:
            heads = owners[group.reshape(-1)]
            for one, other in zip(heads.tolist(), self._owners.tolist(), strict=True):
                if one != other:
                    yield one, other, 0
        index = faiss.IndexBinaryFlat(self.bits)
        index.add(rows)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            asked = block if toggled is None else block ^ toggled
            bounds, distances, positions = index.range_search(np.ascontiguousarray(asked), max_distance + 1)
            for number, owner in enumerate(owners[start : start + _BLOCK].tolist()):
                mine = slice(int(bounds[number]), int(bounds[number + 1]))
                others, away = owners[positions[mine]], distances[mine]
                kept = np.flatnonzero(others != owner)
                for at in kept[np.lexsort((others[kept], away[kept]))][:most].tolist():
                    yield owner, int(others[at]), int(away[at])


class UnitStore:
    """Rows of unit length under cosine, kept as float16. Similarity is the cosine, in [-1, 1]."""

    def __init__(self, rows: NDArray[Any], owners: NDArray[np.int64]) -> None:
        """Take rows, float16 or float32, (N, width), unit length, and their references' ids, int64, (N,)."""
        import faiss

        order = np.argsort(owners, kind="stable")
        self._owners = np.ascontiguousarray(owners[order])
        kind = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        for start in range(0, len(rows), 65536):
            self._index.add(np.ascontiguousarray(rows[order[start : start + 65536]], np.float32))

    def __len__(self) -> int:
        return len(self._owners)

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Store.search`."""
        if not len(self) or not len(queries):
            return _nothing(len(queries), k)
        asked = np.ascontiguousarray(queries, np.float32)
        values, ids = self._nearest(asked, k + 1)
        # faiss leaves open which of equal rows come first: where they go on past k, ask until all are in.
        open_ends, reach = np.flatnonzero(values[:, k - 1] == values[:, k]), k + 1
        values, ids = values[:, :k].copy(), ids[:, :k].copy()
        while open_ends.size and reach < len(self):
            reach = min(4 * reach, len(self))
            wide, wide_ids = self._nearest(asked[open_ends], reach)
            values[open_ends], ids[open_ends] = wide[:, :k], wide_ids[:, :k]
            open_ends = open_ends[wide[:, k - 1] == wide[:, -1]]
        return values, ids

    def _nearest(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = self._index.search(queries, min(k, len(self)))
        values, positions = _padded(found[0].astype(np.float32), found[1].astype(np.int64), k, -np.inf)
        return _ordered(values, positions, self._owners)

    def rows_of(self, reference_id: int) -> NDArray[np.float32]:
        """Return the rows of a reference, float32, rounded to float16, (N, width); none for an unknown id."""
        low, high = np.searchsorted(self._owners, (reference_id, reference_id + 1))
        found = [self._index.reconstruct(int(place)) for place in range(low, high)]
        return np.asarray(found, np.float32).reshape(len(found), self._index.d)

    def wholes(self) -> UnitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        first = _first_of_each(self._owners)
        rows = (
            np.stack([self._index.reconstruct(int(place)) for place in first])
            if len(first)
            else np.zeros((0, self._index.d), np.float32)
        )
        return UnitStore(rows, self._owners[first])

    def pairs_above(self, min_similarity: float, *, most: int = 16) -> Iterator[tuple[int, int, float]]:
        """Yield pairs of references among each row's `most` nearest, block by block: memory stays flat.

        Args:
            min_similarity: Smallest cosine.
            most: Neighbours a row.

        Yields:
            (reference id, reference id, cosine); a pair may come twice, never a reference with itself.
        """
        for start in range(0, len(self), _BLOCK):
            count = min(_BLOCK, len(self) - start)
            similarities, ids = self.search(self._index.reconstruct_n(start, count), most + 1)
            owners = self._owners[start : start + count]
            near = (similarities >= min_similarity) & (ids != owners[:, None])
            for row, column in np.argwhere(near).tolist():
                yield int(owners[row]), int(ids[row, column]), float(similarities[row, column])


class LocalStore:
    """Many coded local features a reference, in an inverted file (`index.keypoints` says what a row holds).

    Attributes:
        owners: int64, (N,): the reference of each row; rows of one reference lie together.
    """

    def __init__(self, rows: NDArray[np.uint8], owners: NDArray[np.int64]) -> None:
        """Take rows, uint8, (N, `keypoints.ROW_BYTES`), and their references' ids, int64, (N,)."""
        import faiss

        order = np.argsort(owners, kind="stable")
        self.owners: NDArray[np.int64] = np.ascontiguousarray(owners[order])
        self._rows: NDArray[np.uint8] = np.ascontiguousarray(rows[order])
        self._starts: dict[int, tuple[int, int]] = {}
        ids, first, counts = np.unique(self.owners, return_index=True, return_counts=True)
        for owner, start, count in zip(ids.tolist(), first.tolist(), counts.tolist(), strict=True):
            self._starts[owner] = (start, start + count)
        book = keypoints.codebook()
        self._coarse = faiss.IndexFlatL2(128)
        self._coarse.add(book.coarse)
        index = faiss.IndexIVFPQ(self._coarse, 128, keypoints.LIST_COUNT, keypoints.CODE_BYTES, 8)
        index.by_residual = False
        faiss.copy_array_to_vector(np.ascontiguousarray(book.code.ravel()), index.pq.centroids)
        index.is_trained = True
        index.nprobe = PROBED_LISTS
        self._index = index
        self._fill()

    def _fill(self) -> None:
        import faiss

        if not len(self._rows):
            return
        lists = keypoints.decode_lists(self._rows)
        order = np.argsort(lists, kind="stable")
        bounds = np.searchsorted(lists[order], np.arange(keypoints.LIST_COUNT + 1))
        for number in range(keypoints.LIST_COUNT):
            mine = order[bounds[number] : bounds[number + 1]]
            if len(mine):
                codes = np.ascontiguousarray(self._rows[mine, : keypoints.CODE_BYTES])
                ids = np.ascontiguousarray(mine, np.int64)
                self._index.invlists.add_entries(
                    number, len(mine), faiss.swig_ptr(ids), faiss.swig_ptr(codes)
                )
        self._index.ntotal = len(self._rows)

    def __len__(self) -> int:
        return len(self.owners)

    def search(self, vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the k nearest rows of each feature.

        Args:
            vectors: float32, (Q, 128), RootSIFT.
            k: At least 1.

        Returns:
            Squared distances, float32, (Q, k), smallest first, and row numbers, int64, (Q, k); -1 and inf
            where fewer than k rows were met.
        """
        distances, rows = self._index.search(np.ascontiguousarray(vectors, np.float32), k)
        missing = rows < 0
        distances[missing] = np.inf
        return distances, rows

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the places of rows: float32, (N, 4), see `keypoints.Features`."""
        return keypoints.decode_places(self._rows[rows])

    def rows_of(self, reference_id: int) -> NDArray[np.uint8]:
        """Return all rows of a reference: uint8, (N, `keypoints.ROW_BYTES`); none for an unknown one."""
        start, end = self._starts.get(reference_id, (0, 0))
        return self._rows[start:end]


def open_store(
    kind: Kind, rows: NDArray[Any], owners: NDArray[np.int64]
) -> BitStore | UnitStore | LocalStore:
    """Make the store for rows of a kind."""
    if kind is Kind.BITS:
        return BitStore(rows, owners)
    if kind is Kind.UNIT:
        return UnitStore(rows, owners)
    return LocalStore(rows, owners)


def use_threads(count: int) -> None:
    """Let searches called from this thread use at most `count` threads of their own."""
    import faiss

    faiss.omp_set_num_threads(count)


def _first_of_each(owners: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(owners, return_index=True)[1].astype(np.int64)


def _nothing(queries: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def _padded(
    values: NDArray[np.float32], positions: NDArray[np.int64], k: int, fill: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    short = k - values.shape[1]
    if short <= 0:
        return values, positions
    pad = ((0, 0), (0, short))
    return np.pad(values, pad, constant_values=fill), np.pad(positions, pad, constant_values=-1)


def _ordered(
    similarities: NDArray[np.float32], positions: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ids = np.where(positions >= 0, owners[np.maximum(positions, 0)], -1)
    order = np.lexsort((ids, -similarities), axis=1)
    return (
        np.take_along_axis(similarities, order, axis=1).astype(np.float32),
        np.take_along_axis(ids, order, axis=1),
    )
