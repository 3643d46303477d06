"""Stores whose rows lie in Milvus: it proposes rows, and the local stores say how alike those are, to the last bit.

Milvus sums in another order than faiss, and with another index than FLAT it leaves rows out. What it proposes is
therefore scored again from the rows themselves; more are asked for until none left out could be among the first k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.milvus_server import Server, from_vector, to_query
from index.vectors import BitStore, UnitStore

MOST = 16_384
"""Results of one search, at most: https://milvus.io/docs/limitations.md."""

SLACK = 1e-4
"""Difference of the cosines of Milvus and of faiss that cannot be: float32 sums of 2,048 products differ by 1e-6."""

FIELDS = ("reference", "number", "row")


class ServerRows:
    """The rows of one descriptor in their collection, as the two stores need them."""

    def __init__(
        self,
        server: Server,
        collection: str,
        *,
        bits: bool,
        native: bool,
        width: int,
        living: Callable[[Sequence[int]], set[int]],
        whole: bool = False,
    ) -> None:
        """Keep where rows are.

        Args:
            server: Connected.
            collection: Of the rows.
            bits: Whether they are bit strings.
            native: Whether they are stored as such (`Server.make`).
            width: Columns of a row: bytes, or floats.
            living: Returns those of some references that are there.
            whole: Let only the first row of each reference count.
        """
        self.server, self.collection, self.bits, self.native = server, collection, bits, native
        self.width, self.living, self.whole = width, living, whole

    def wholes(self) -> ServerRows:
        """Return the same rows with only the first of each reference counting."""
        return ServerRows(
            self.server, self.collection, bits=self.bits, native=self.native, width=self.width,
            living=self.living, whole=True,
        )  # fmt: skip

    @property
    def condition(self) -> str:
        """Which rows count, as Milvus filters."""
        return "number == 0" if self.whole else ""

    def __len__(self) -> int:
        return self.server.count(self.collection, self.condition)

    def decoded(self, value: Any) -> NDArray[Any]:
        """Return a row as the local stores have it."""
        return from_vector(value, bits=self.bits, native=self.native)

    def rows_of(self, reference_id: int) -> NDArray[Any]:
        """Return the rows of a reference in their order, (N, width); none for an unknown one."""
        found = []
        if self.living([reference_id]):
            condition = f"reference == {reference_id}"
            found = list(self.server.iterate(self.collection, condition, FIELDS))
        if self.whole:
            found = [each for each in found if not each["number"]]
        rows = [self.decoded(each["row"]) for each in sorted(found, key=lambda each: int(each["number"]))]
        return np.stack(rows) if rows else np.zeros((0, self.width), np.uint8 if self.bits else np.float16)

    def nearest(self, query: NDArray[Any], reach: int) -> tuple[NDArray[Any], NDArray[np.int64], float]:
        """Return the rows nearest to one query.

        Returns:
            Rows, (N, width); their references, int64, (N,), ascending; and the value, ±1 products or negated
            distances for bits, that no row left out exceeds: -inf where none was left out.
        """
        asked = to_query(query, bits=self.bits, native=self.native)
        hits = self.server.nearest(self.collection, [asked], reach, condition=self.condition, fields=FIELDS)[
            0
        ]
        last = -np.inf
        if len(hits) >= reach:
            last = hits[-1][0] * (-1.0 if self.bits and self.native else 1.0)
        alive = self.living([int(entity["reference"]) for _, entity in hits])
        kept = [entity for _, entity in hits if int(entity["reference"]) in alive]
        kept.sort(key=lambda entity: (int(entity["reference"]), int(entity["number"])))
        width = np.zeros((0, self.width), np.uint8 if self.bits else np.float16)
        rows = np.stack([self.decoded(entity["row"]) for entity in kept]) if kept else width
        return rows, np.asarray([int(entity["reference"]) for entity in kept], np.int64), last

    def everything(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return all rows that count and their references; memory holds them all."""
        rows, owners, numbers = [], [], []
        for each in self.server.iterate(self.collection, self.condition or "number >= 0", FIELDS):
            rows.append(self.decoded(each["row"]))
            owners.append(int(each["reference"]))
            numbers.append(int(each["number"]))
        alive = self.living(owners)
        order = [at for at in np.lexsort((numbers, owners)).tolist() if owners[at] in alive]
        if not order:
            return np.zeros((0, self.width), np.uint8 if self.bits else np.float16), np.zeros(0, np.int64)
        return np.stack([rows[at] for at in order]), np.asarray([owners[at] for at in order], np.int64)


def _search(
    rows: ServerRows,
    queries: NDArray[Any],
    k: int,
    scored: Callable[[NDArray[Any], NDArray[np.int64]], BitStore | UnitStore],
    bound: Callable[[float], float],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search as the local stores do; see `index.vectors.Store.search`.

    Args:
        rows: Where they are.
        queries: (Q, width).
        k: At least 1.
        scored: Makes the local store over proposed rows.
        bound: Turns a value of Milvus into the highest similarity it can stand for.
    """
    values = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    for number in range(len(queries)):
        reach = min(MOST, k + max(8, k // 2))
        while True:
            found, owners, last = rows.nearest(queries[number], reach)
            if len(owners):
                store = scored(found, owners)
                values[number : number + 1], ids[number : number + 1] = store.search(
                    queries[number : number + 1], k
                )
            # A row left out may be as alike as the last of these, and come before it by its id.
            certain = last == -np.inf or bound(last) < values[number, -1]
            if certain or reach >= MOST:
                break
            reach = min(MOST, reach * 4)
    return values, ids


class MilvusBits(BitStore):
    """Bit strings in Milvus."""

    def __init__(self, rows: ServerRows) -> None:
        """Keep where the rows are."""
        self._server_rows = rows
        self.bits = rows.width * 8

    def __len__(self) -> int:
        return len(self._server_rows)

    def _bound(self, value: float) -> float:
        """Negated distance, or sum of ±1 products: bits - 2 * distance, which float32 holds exactly."""
        native = self._server_rows.native
        return 1.0 + value / self.bits if native else (1.0 + value / self.bits) / 2.0

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `index.vectors.Store.search`."""
        return _search(self._server_rows, queries, k, BitStore, self._bound)

    def rows_of(self, reference_id: int) -> NDArray[np.uint8]:
        """Return the rows of a reference, uint8, (N, bytes); none for an unknown one."""
        return self._server_rows.rows_of(reference_id)

    def within(self, row: NDArray[np.uint8], max_distance: int) -> list[tuple[int, int]]:
        """Return (reference id, distance) of all rows within a Hamming distance of one row, nearest first.

        Milvus gives at most `MOST` rows a search: of more than that, the nearest.
        """
        reach = 64
        while True:
            rows, owners, last = self._server_rows.nearest(row.reshape(-1), reach)
            if last == -np.inf or (1.0 - self._bound(last)) * self.bits > max_distance + 0.5 or reach >= MOST:
                break
            reach = min(MOST, reach * 4)
        return BitStore(rows, owners).within(row, max_distance) if len(owners) else []

    def wholes(self) -> BitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        return MilvusBits(self._server_rows.wholes())

    def pairs_within(
        self, max_distance: int, *, toggled: NDArray[np.uint8] | None = None, most: int = 32
    ) -> Iterator[tuple[int, int, int]]:
        """Yield pairs of references whose rows are near each other; see `BitStore.pairs_within`."""
        rows, owners = self._server_rows.everything()
        if len(owners):
            yield from BitStore(rows, owners).pairs_within(max_distance, toggled=toggled, most=most)


class MilvusUnits(UnitStore):
    """Rows of unit length in Milvus, rounded to float16 as in a local index."""

    def __init__(self, rows: ServerRows) -> None:
        """Keep where the rows are."""
        self._server_rows = rows

    def __len__(self) -> int:
        return len(self._server_rows)

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `index.vectors.Store.search`."""
        # A server that stores float16 takes queries in it, too, which moves the cosine by up to 2e-3.
        slack = 2e-3 if self._server_rows.native else SLACK
        return _search(self._server_rows, queries, k, UnitStore, lambda value: value + slack)

    def rows_of(self, reference_id: int) -> NDArray[np.float32]:
        """Return the rows of a reference, float32, rounded to float16, (N, width); none for an unknown id."""
        return self._server_rows.rows_of(reference_id).astype(np.float32)

    def wholes(self) -> UnitStore:
        """Return a store of the first row of each reference: that of the whole picture."""
        return MilvusUnits(self._server_rows.wholes())

    def pairs_above(self, min_similarity: float, *, most: int = 16) -> Iterator[tuple[int, int, float]]:
        """Yield pairs of references among each row's `most` nearest; see `UnitStore.pairs_above`."""
        rows, owners = self._server_rows.everything()
        if len(owners):
            yield from UnitStore(rows, owners).pairs_above(min_similarity, most=most)
