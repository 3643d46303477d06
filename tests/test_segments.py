"""Rows where they lie: searched, merged and compacted in segments, without a copy of them in memory."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import segments
from index.catalog import Catalog, OccurrenceRecord
from index.credits import Credits
from index.keypoints import ROW_BYTES, decode_vectors
from index.reference_index import NewReference, ReferenceIndex
from index.segments import Rows, ids_path, map_segment, write_segment
from index.vectors import BitStore, LocalStore, UnitStore

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]


def hashes(rng: np.random.Generator, count: int) -> Array:
    """Few bits, so that most distances are equal."""
    return rng.integers(0, 8, (count, 1), dtype=np.uint8)


def units(rng: np.random.Generator, count: int) -> Array:
    """Few directions, so that many rows are equal."""
    few = rng.normal(size=(6, 16))
    few /= np.linalg.norm(few, axis=1, keepdims=True)
    return few[rng.integers(0, 6, count)].astype(np.float16)


def alike(queries: Array, rows: Array) -> Array:
    if rows.dtype == np.uint8:
        away = np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(axis=2)
        return np.asarray(1.0 - away.astype(np.float32) / (rows.shape[1] * 8), np.float32)
    return np.asarray(queries.astype(np.float32) @ rows.astype(np.float32).T, np.float32)


class Kept:
    """Random references of one to four rows each, in segments; some references are gone."""

    def __init__(self, make: Callable[[np.random.Generator, int], Array], seed: int, count: int) -> None:
        self.rng = np.random.default_rng(seed)
        ids = np.sort(self.rng.permutation(3 * count)[:count]).astype(np.int64)
        self.owners = np.repeat(ids, self.rng.integers(1, 5, count))
        self.rows = make(self.rng, len(self.owners))
        here = ids[self.rng.random(count) < self.rng.random()]
        self.live = np.isin(self.owners, here)
        # A range may span numbers that no row has: only what lies between two of them is gone.
        self.ranges = [(int(i), int(i)) for i in here]
        cuts = sorted(self.rng.integers(0, len(self.owners) + 1, 4).tolist())
        edges = [0, *cuts, len(self.owners)]
        self.parts = [(self.rows[a:b], self.owners[a:b]) for a, b in pairwise(edges) if b > a]

    def over(self) -> Rows:
        return Rows(self.parts, width=self.rows.shape[1], dtype=self.rows.dtype, live=self.ranges)

    def first(self) -> Array:
        """Which live rows are the first of their reference."""
        return self.live & (np.r_[-1, self.owners[:-1]] != self.owners)


def expected(similarities: Array, owners: Array, k: int) -> tuple[Array, Array]:
    order = np.lexsort((np.broadcast_to(owners, similarities.shape), -similarities), axis=1)[:, :k]
    values, ids = np.take_along_axis(similarities, order, axis=1), owners[order]
    short = ((0, 0), (0, k - order.shape[1]))
    return np.pad(values, short, constant_values=-np.inf), np.pad(ids, short, constant_values=-1)


@pytest.mark.parametrize(("store_type", "make"), [(BitStore, hashes), (UnitStore, units)])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 80), k=st.integers(1, 40))
def test_search_over_segments_agrees_with_brute_force_over_what_is_left(
    store_type: Any, make: Any, seed: int, count: int, k: int
) -> None:
    kept = Kept(make, seed, count)
    queries = make(kept.rng, 5)
    store = store_type.over(kept.over())
    for mask, searched in ((kept.live, store), (kept.first(), store.wholes())):
        assert len(searched) == mask.sum()
        similarities = alike(queries, kept.rows[mask])
        if store_type is UnitStore:  # equal rows must be equal here too: BLAS sums them in other orders
            similarities = np.round(similarities, 5)
        values, ids = expected(similarities, kept.owners[mask], k)
        found = searched.search(queries, k)
        np.testing.assert_allclose(found[0], values, atol=1e-5)
        np.testing.assert_array_equal(found[1], ids)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), bound=st.integers(0, 8))
def test_within_and_pairs_pass_over_what_is_gone(seed: int, count: int, bound: int) -> None:
    kept = Kept(hashes, seed, count)
    store = BitStore.over(kept.over())
    query = hashes(kept.rng, 1)
    away = np.rint(8 * (1.0 - alike(query, kept.rows[kept.live])[0])).astype(int)
    near = [(int(i), int(d)) for i, d in zip(kept.owners[kept.live], away, strict=True) if d <= bound]
    assert store.within(query, bound) == sorted(near, key=lambda pair: (pair[1], pair[0]))
    copied = BitStore(kept.rows[kept.first()], kept.owners[kept.first()])
    assert list(store.wholes().pairs_within(bound)) == list(copied.pairs_within(bound))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_rows_of_a_reference_and_blocks_are_those_left(seed: int, count: int) -> None:
    kept = Kept(hashes, seed, count)
    rows = kept.over()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "BLOCK_BYTES", 7)
        blocks = list(rows.blocks())
    numbers = np.concatenate([n for _, _, n in blocks]) if blocks else np.zeros(0, np.int64)
    np.testing.assert_array_equal(numbers, np.flatnonzero(kept.live))
    for block, ids, here in blocks:
        np.testing.assert_array_equal(block, kept.rows[here])
        np.testing.assert_array_equal(ids, kept.owners[here])
    np.testing.assert_array_equal(rows.ids_at(numbers), kept.owners[numbers])
    np.testing.assert_array_equal(rows.rows_at(numbers), kept.rows[numbers])
    for number in range(-1, 3 * count + 1):
        mine = kept.live & (kept.owners == number)
        np.testing.assert_array_equal(rows.rows_of(number), kept.rows[mine])
        np.testing.assert_array_equal(rows.wholes().rows_of(number), kept.rows[mine][:1])


def test_many_gone_neighbours_do_not_hide_the_next_one() -> None:
    rows = np.zeros((3000, 8), np.uint8)
    rows[-1] = 1
    ids = np.arange(3000, dtype=np.int64)
    store = BitStore.over(Rows([(rows, ids)], width=8, dtype=np.uint8, live=[(2999, 2999)]))
    assert store.search(np.zeros((1, 8), np.uint8), 2)[1].tolist() == [[2999, -1]]
    unit = np.full((3000, 16), 0.25, np.float16)
    unit[-1, 0] = -0.25
    near = UnitStore.over(Rows([(unit, ids)], width=16, dtype=np.float16, live=[(2999, 2999)]))
    assert near.search(unit[:1], 2)[1].tolist() == [[2999, -1]]


def test_local_features_of_gone_references_are_never_met() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (400, ROW_BYTES), dtype=np.uint8)
    rows[:, 32:34] = 0  # one inverted list
    ids = np.repeat(np.arange(40, dtype=np.int64), 10)
    parts = [(rows[:200], ids[:200]), (rows[200:], ids[200:])]
    whole = LocalStore(rows, ids)
    store = LocalStore.over(Rows(parts, width=ROW_BYTES, dtype=np.uint8, live=[(0, 4), (30, 39)]))
    assert (len(whole), len(store)) == (400, 150)
    _, found = store.search(decode_vectors(rows[:50]), 8)
    met = np.unique(store.owners(found[found >= 0]))
    assert set(met.tolist()) <= {*range(5), *range(30, 40)}
    np.testing.assert_array_equal(store.places(np.array([399, 0])), whole.places(np.array([399, 0])))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_a_segment_written_in_blocks_is_what_numpy_writes(dtype: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows, ids = rng.integers(0, 100, (50, 12)).astype(dtype), np.arange(50, dtype=np.int64)
    path = tmp_path / "pdq-000001.npy"
    write_segment(path, ((rows[a : a + 7], ids[a : a + 7]) for a in range(0, 50, 7)), count=50, width=12)
    for file, array in ((path, rows), (ids_path(path), ids)):
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        assert file.read_bytes() == stream.getvalue()
    mapped = map_segment(path)
    assert all(isinstance(array, np.memmap) for array in mapped)


@pytest.mark.parametrize("here", [[], [1], [7], [1, 2, 3], [2, 3, 9], [1, 3, 5, 6, 7, 10]])
def test_live_ranges_are_the_unbroken_runs_of_ids(here: list[int], tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, writable=True, create=True)
    with catalog.transaction():
        for number in range(1, 11):
            catalog._rows(
                "INSERT INTO reference (id, sha256, width, height) VALUES (?, ?, 1, 1)", (number, str(number))
            )
        for number in set(range(1, 11)) - set(here):
            catalog._rows("DELETE FROM reference WHERE id = ?", (number,))
    runs = catalog.live_ranges()
    catalog.close()
    assert [n for first, last in runs for n in range(first, last + 1)] == here
    assert all(before[1] + 1 < after[0] for before, after in pairwise(runs))


# Memory, on Linux, where it can be read and bounded


UNDER_A_LIMIT = """
import resource, sys
import numpy as np
from index.catalog import OccurrenceRecord
from index.credits import Credits
from index.reference_index import NewReference, ReferenceIndex

folder, headroom = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)

def new(number, rows):
    values = rng.standard_normal((rows, 256), np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    place = OccurrenceRecord(f"{number:03d}/a.jpg", Credits())
    return NewReference(f"{number:064x}", 1, 1, place, {"clip:bundled": values}), values[:1].copy()

def limit():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    now = 1024 * int(status["VmData"].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (now + headroom, now + headroom))

with ReferenceIndex.create(folder, descriptors=("clip:bundled",), thumbnails=False) as index:
    index.add([new(0, 8)[0]])
    index.store("clip:bundled").search(np.eye(1, 256, dtype=np.float32), 3)
    index.compact()
    limit()
    queries = []
    for number in range(1, 81):
        made, query = new(number, 2000)
        queries.append(query)
        index.add([made])
    index.merge_small_segments()
    store = index.store("clip:bundled")
    assert store.search(np.concatenate(queries), 2)[1][:, 0].tolist() == list(range(2, 82))
    index.remove(path="003")
    assert index.compact() == 2000
    index.store("clip:bundled").wholes().search(queries[0], 2)
with ReferenceIndex.open(folder) as index:
    assert index.check() == []
    assert index.store("clip:bundled").search(queries[7], 1)[1].tolist() == [[9]]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_adding_merging_searching_and_compacting_need_a_fraction_of_the_rows_in_memory(
    tmp_path: Path,
) -> None:
    """80 MB of rows; what a process allocates besides mapped files is bounded 40 MB above its start."""
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path / "i"), str(40 << 20)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sum(p.stat().st_size for p in (tmp_path / "i" / "vectors").iterdir()) > 80e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads what is in memory as Linux shows it")
def test_opening_reads_no_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 256, (50_000, 32), dtype=np.uint8)
    with ReferenceIndex.create(tmp_path / "i", descriptors=("pdq",), thumbnails=False) as index:
        index.add([NewReference("a" * 64, 1, 1, OccurrenceRecord("a.jpg", Credits()), {"pdq": rows})])
    with ReferenceIndex.open(tmp_path / "i") as index:
        (rows_file,) = (tmp_path / "i" / "vectors").glob("pdq-*[0-9].npy")
        assert resident_kb(rows_file) == 0
        store = index.store("pdq")
        assert isinstance(store, BitStore)
        assert resident_kb(rows_file) == 0
        store.search(rows[:1], 1)
        assert resident_kb(rows_file) > 1500


def resident_kb(file: Path) -> int:
    """Return how many kilobytes of a mapped file this process has in memory."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(" ")
        if "-" in key and not key.endswith(":"):
            ours = str(file) in line
        elif ours and key == "Rss:":
            total += int(rest.split()[0])
    return total
