"""Stores of rows and their nearest-neighbour search. Higher is more alike.

Exact, or for unit rows with the help of sketches (`index.sketches`): callers see `search`, and not the type behind it.
Rows are searched where they lie: faiss gets views of the mapped segment files, and the system keeps in memory what it
can. Longer than 400 lines because it is the only importer of faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index import keypoints
from index.descriptors import Kind
from index.segments import Part, Rows
from index.sketches import Sketches

PROBED_LISTS = 2
"""Inverted lists visited per feature. 4 gave the very same findings, scores and levels in 1,476 checks of edits and
photographs, and took 1.2 times as long among 380 works, 1.9 times among 10,000; 1 misses parts (CONTRIBUTING)."""

_BLOCK = 256
"""Rows compared with all others at a time, where all pairs of a store are sought."""

_WHOLE_REACH = 4
"""Where only the first row of each reference counts, this many times as many are asked for at first: one for the
whole picture and one for its middle square, in both of two references."""

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


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
        """Copy rows, uint8, (N, bytes), and their references' ids, int64, (N,)."""
        self._take(Rows.of(rows, owners))

    @classmethod
    def over(cls, rows: Rows) -> BitStore:
        """Return a store over rows, uint8, where they are."""
        store = cls.__new__(cls)
        store._take(rows)
        return store

    def _take(self, rows: Rows) -> None:
        self._rows = rows
        self._count = len(rows)
        self.bits = rows.width * 8
        self._indexes = [(part, _flat(part.rows)) for part in rows.parts if len(part.ids)]

    def __len__(self) -> int:
        return self._count

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Store.search`."""
        asked = np.ascontiguousarray(queries, np.uint8)
        found = []
        for part, index in self._indexes:

            def nearest(some: NDArray[np.uint8], reach: int, index: Any = index) -> Found:
                distances, places = index.search(some, reach)
                return 1.0 - distances.astype(np.float32) / self.bits, places

            # Of equal distances faiss keeps the first rows, which have the smallest ids.
            found.append(_search_part(self._rows, part, nearest, asked, k, ties_in_order=True))
        return _merged(found, len(queries), k)

    def rows_of(self, reference_id: int) -> NDArray[np.uint8]:
        """Return the rows of a reference, uint8, (N, bytes); none for an unknown one."""
        return self._rows.rows_of(reference_id)

    def within(self, row: NDArray[np.uint8], max_distance: int) -> list[tuple[int, int]]:
        """Return (reference id, distance) of all rows within a Hamming distance of one row, nearest first."""
        # faiss takes the bound as "below".
        query = np.ascontiguousarray(row.reshape(1, -1))
        found: list[tuple[int, int]] = []
        for part, index in self._indexes:
            _, distances, places = index.range_search(query, max_distance + 1)
            kept = self._rows.counts(part, places)
            ids = part.ids[places[kept]].tolist()
            found += zip(ids, (int(d) for d in distances[kept].tolist()), strict=True)
        return sorted(found, key=lambda pair: (pair[1], pair[0]))

    def wholes(self) -> BitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        return BitStore.over(self._rows.wholes())

    def pairs_within(
        self, max_distance: int, *, toggled: NDArray[np.uint8] | None = None, most: int = 32
    ) -> Iterator[tuple[int, int, int]]:
        """Yield pairs of references whose rows are near each other.

        Memory holds every bit string, and distances block by block. Of equal rows each is paired with the first
        of them only, and of a row's other neighbours only the `most` nearest are paired: ten thousand copies of
        one picture give ten thousand pairs, not 50 million.

        Args:
            max_distance: Largest Hamming distance.
            toggled: uint8, (bytes,): bits to toggle in one row of each pair; None pairs the rows as they are.
            most: Neighbours a row.

        Yields:
            (reference id, reference id, distance); a pair may come twice, never a reference with itself.
        """
        if not len(self):
            return
        blocks = [(np.asarray(rows), np.asarray(ids)) for rows, ids, _ in self._rows.blocks()]
        given, all_owners = (np.concatenate(column) for column in zip(*blocks, strict=True))
        rows, first, group = np.unique(given, axis=0, return_index=True, return_inverse=True)
        owners = all_owners[first]
        if toggled is None:
            heads = owners[group.reshape(-1)]
            for one, other in zip(heads.tolist(), all_owners.tolist(), strict=True):
                if one != other:
                    yield one, other, 0
        index = _flat(rows)
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


class Sketched:
    """Sketches ready to be searched, where they are."""

    def __init__(self, sketches: Sketches, *, last_id: int, ranked: int) -> None:
        """Take sketches of the references up to `last_id`; propose `ranked` rows for each row asked for."""
        self.last_id = last_id
        self.ranked = ranked
        self._sketches = sketches
        self._index = _flat(sketches.bits)

    def nearest(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the references of the rows with the nearest sketches, `ranked` or 4 k of them: int64, (Q, K)."""
        reach = min(max(self.ranked, 4 * k), len(self._sketches.ids))
        _, places = self._index.search(self._sketches.of(queries), reach)
        found: NDArray[np.int64] = self._sketches.ids[places]
        return found


class UnitStore:
    """Rows of unit length under cosine, kept as float16. Similarity is the cosine, in [-1, 1].

    With sketches, `search` may miss a reference; the similarities of what it finds are exact.
    """

    def __init__(self, rows: NDArray[Any], owners: NDArray[np.int64]) -> None:
        """Copy rows, float16 or float32, (N, width), unit length, and their references' ids, int64, (N,)."""
        self._take(Rows.of(rows.astype(np.float16), owners))

    @classmethod
    def over(cls, rows: Rows, sketched: Sketched | None = None) -> UnitStore:
        """Return a store over rows, float16, unit length, where they are."""
        store = cls.__new__(cls)
        store._take(rows, sketched)
        return store

    def _take(self, rows: Rows, sketched: Sketched | None = None) -> None:
        self._rows = rows
        self._count = len(rows)
        self._sketched = sketched
        self._exactly = rows if sketched is None else rows.after(sketched.last_id)
        self._indexes = [(part, _half_floats(part.rows)) for part in self._exactly.parts if len(part.ids)]

    def __len__(self) -> int:
        return self._count

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Store.search`."""
        asked = np.ascontiguousarray(queries, np.float32)
        # faiss leaves open which of equal rows come first.
        found = [
            _search_part(self._exactly, part, index.search, asked, k, ties_in_order=False)
            for part, index in self._indexes
        ]
        if self._sketched is not None:
            found.insert(0, self._ranked(self._sketched, asked, k))
        return _merged(found, len(queries), k)

    def _ranked(self, sketched: Sketched, queries: NDArray[np.float32], k: int) -> Found:
        values, ids = _nothing(len(queries), k)
        for number, proposed in enumerate(sketched.nearest(queries, k)):
            rows, owners = self._rows.rows_of_all(np.unique(proposed))
            if len(owners):
                # By the same sums as the exact search, so that both give the same similarities.
                near, places = _half_floats(rows).search(queries[number : number + 1], len(owners))
                best = _best(near, owners[places], k)
                width = best[0].shape[1]
                values[number, :width], ids[number, :width] = best[0][0], best[1][0]
        return values, ids

    def rows_of(self, reference_id: int) -> NDArray[np.float32]:
        """Return the rows of a reference, float32, rounded to float16, (N, width); none for an unknown id."""
        return self._rows.rows_of(reference_id).astype(np.float32)

    def wholes(self) -> UnitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        return UnitStore.over(self._rows.wholes(), self._sketched)

    def pairs_above(self, min_similarity: float, *, most: int = 16) -> Iterator[tuple[int, int, float]]:
        """Yield pairs of references among each row's `most` nearest, block by block: memory stays flat.

        Args:
            min_similarity: Smallest cosine.
            most: Neighbours a row.

        Yields:
            (reference id, reference id, cosine); a pair may come twice, never a reference with itself.
        """
        for rows, ids, _ in self._rows.blocks():
            for start in range(0, len(ids), _BLOCK):
                owners = ids[start : start + _BLOCK]
                similarities, others = self.search(rows[start : start + _BLOCK], most + 1)
                near = (similarities >= min_similarity) & (others != owners[:, None])
                for row, column in np.argwhere(near).tolist():
                    yield int(owners[row]), int(others[row, column]), float(similarities[row, column])


class LocalStore:
    """Many coded local features a reference, in an inverted file (`index.keypoints` says what a row holds).

    The inverted file is in memory: `keypoints.CODE_BYTES` and 8 bytes a row. Places stay where the rows lie.
    """

    def __init__(self, rows: NDArray[np.uint8], owners: NDArray[np.int64]) -> None:
        """Copy rows, uint8, (N, `keypoints.ROW_BYTES`), and their references' ids, int64, (N,)."""
        self._take(Rows.of(rows, owners))

    @classmethod
    def over(cls, rows: Rows) -> LocalStore:
        """Return a store over rows, uint8, where they are."""
        store = cls.__new__(cls)
        store._take(rows)
        return store

    def _take(self, rows: Rows) -> None:
        import faiss

        self._rows = rows
        self._count = len(rows)
        book = keypoints.codebook()
        self._coarse = faiss.IndexFlatL2(128)
        self._coarse.add(book.coarse)
        index = faiss.IndexIVFPQ(self._coarse, 128, keypoints.LIST_COUNT, keypoints.CODE_BYTES, 8)
        index.by_residual = False
        faiss.copy_array_to_vector(np.ascontiguousarray(book.code.ravel()), index.pq.centroids)
        index.is_trained = True
        index.nprobe = PROBED_LISTS
        self._index = index
        for block, _, numbers in rows.blocks():
            self._fill(block, numbers)
        index.ntotal = self._count

    def _fill(self, rows: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
        import faiss

        lists = keypoints.decode_lists(rows)
        order = np.argsort(lists, kind="stable")
        bounds = np.searchsorted(lists[order], np.arange(keypoints.LIST_COUNT + 1))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            mine = order[bounds[number] : bounds[number + 1]]
            codes = np.ascontiguousarray(rows[mine, : keypoints.CODE_BYTES])
            ids = np.ascontiguousarray(numbers[mine])
            self._index.invlists.add_entries(number, len(mine), faiss.swig_ptr(ids), faiss.swig_ptr(codes))

    def __len__(self) -> int:
        return self._count

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
        return keypoints.decode_places(self._rows.rows_at(rows))

    def owners(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the references of rows: int64, (N,)."""
        return self._rows.ids_at(rows)

    def rows_of(self, reference_id: int) -> NDArray[np.uint8]:
        """Return all rows of a reference: uint8, (N, `keypoints.ROW_BYTES`); none for an unknown one."""
        return self._rows.rows_of(reference_id)


def open_store(kind: Kind, rows: Rows, sketched: Sketched | None = None) -> BitStore | UnitStore | LocalStore:
    """Make the store for rows of a kind, where they are; unit rows may have sketches."""
    if kind is Kind.BITS:
        return BitStore.over(rows)
    if kind is Kind.UNIT:
        return UnitStore.over(rows, sketched)
    return LocalStore.over(rows)


def use_threads(count: int) -> int:
    """Let searches called from this thread use at most `count` threads of their own; return how many it was before."""
    import faiss

    before = int(faiss.omp_get_max_threads())
    faiss.omp_set_num_threads(count)
    return before


def _flat(rows: NDArray[np.uint8]) -> Any:
    """Return a faiss index over bit strings, (N, bytes), without copying them: they must outlive it."""
    import faiss

    index = faiss.IndexBinaryFlat(rows.shape[1] * 8)
    index.xb = _view(rows, index.xb)
    index.ntotal = len(rows)
    return index


def _half_floats(rows: NDArray[np.float16]) -> Any:
    """Return a faiss index over float16 rows, (N, width), without copying them: they must outlive it."""
    import faiss

    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexScalarQuantizer(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.codes = _view(rows, index.codes)
    index.ntotal = len(rows)
    return index


def _view(rows: NDArray[Any], empty: Any) -> Any:
    import faiss

    # An index that owns nothing has the empty owner which a view of foreign memory needs.
    return faiss.MaybeOwnedVectorUInt8.create_view(
        faiss.swig_ptr(rows.view(np.uint8).reshape(-1)), rows.nbytes, empty.owner
    )


def _search_part(
    rows: Rows,
    part: Part,
    nearest: Callable[[NDArray[Any], int], Found],
    queries: NDArray[Any],
    k: int,
    *,
    ties_in_order: bool,
) -> Found:
    """Find the k most alike rows that count of one part, asking for more until they are certain.

    Args:
        rows: Of which this is a part.
        part: The part, not empty.
        nearest: Returns similarities, highest first, and places in the part of so many rows, whether they count or
            not.
        queries: (Q, width), contiguous.
        k: At least 1.
        ties_in_order: Whether `nearest` takes the first of rows that are equally alike.

    Returns:
        As `Store.search`.
    """
    values, ids = _nothing(len(queries), k)
    count = len(part.ids)
    reach = min(count, (_WHOLE_REACH if rows.whole else 1) * k + (not ties_in_order))
    waiting = np.arange(len(queries))
    while waiting.size:
        near, places = nearest(queries[waiting], reach)
        kept = rows.counts(part, places)
        near_ids = np.where(kept, part.ids[places], -1)
        ordered = _best(np.where(kept, near, -np.inf), near_ids, k)
        width = ordered[0].shape[1]
        values[waiting, :width], ids[waiting, :width] = ordered
        if reach == count:
            break
        last = values[waiting, k - 1]
        still = np.isneginf(last) if ties_in_order else last <= near[:, -1]
        waiting = waiting[still]
        reach = min(4 * reach, count)
    return values, ids


def _merged(found: list[Found], queries: int, k: int) -> Found:
    if len(found) == 1:
        return found[0]
    if not found:
        return _nothing(queries, k)
    values, ids = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
    return _best(values, ids, k)


def _best(values: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> Found:
    order = np.lexsort((ids, -values), axis=1)[:, :k]
    best = np.take_along_axis(values, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return best[0].astype(np.float32), best[1]


def _nothing(queries: int, k: int) -> Found:
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
