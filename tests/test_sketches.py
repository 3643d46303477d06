"""Sketches: what they propose is ranked exactly, they outlive changes of the index, and nothing depends on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.commands.optimizing import bytes_from_words
from index import descriptors as registry
from index import sketches
from index.catalog import OccurrenceRecord
from index.credits import NO_CREDITS
from index.descriptors import DescriptorSpec, Kind
from index.errors import UsageError
from index.images import Picture
from index.optimizing import optimize
from index.reference_index import NewReference, ReferenceIndex
from index.segments import Rows
from index.sketches import SketchRecord
from index.vectors import Sketched, UnitStore

Array = np.ndarray[Any, Any]
WIDTH, COUNT = 64, 3000


class Given:
    """A descriptor whose rows tests make up."""

    spec = DescriptorSpec("given", 1, Kind.UNIT, WIDTH)

    def describe(self, pictures: list[Picture]) -> list[Array]:
        raise NotImplementedError

    describe_mirrored = describe


def made(count: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(number: int, row: Array) -> NewReference:
    place = OccurrenceRecord(f"made/{number}.png", NO_CREDITS, 1, 1)
    return NewReference(f"{number:064x}", 8, 8, place, {"given": row[None]})


@pytest.fixture
def rows() -> Array:
    return made(COUNT)


@pytest.fixture
def folder(tmp_path: Path, rows: Array, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of `COUNT` references with made-up rows, in two segments, optimized."""
    monkeypatch.setattr(registry, "create", lambda name, device=None: Given())
    path = tmp_path / "art.index"
    with ReferenceIndex.create(path, descriptors=["given"], thumbnails=False, squares=False) as index:
        index.add([reference(number, row) for number, row in enumerate(rows[:2000])])
        index.add([reference(number + 2000, row) for number, row in enumerate(rows[2000:])])
    # On a busy machine the exact search of so few rows may be as fast: sketches are made for the test all the same.
    monkeypatch.setattr("index.optimizing._answers", _answers_in_no_time())
    (done,) = optimize(path, min_rows=1)
    assert isinstance(done.sketches, SketchRecord)
    return path


def _answers_in_no_time() -> Any:
    from index.optimizing import _answers

    def answers(store: UnitStore, asked: Array) -> tuple[Array, float]:
        return _answers(store, asked)[0], 1.0 if store._sketched is None else 0.5

    return answers


def first(index: ReferenceIndex, row: Array) -> int:
    return int(index.store("given").search(row[None], 5)[1][0, 0])


def is_sketched(index: ReferenceIndex) -> bool:
    store = index.store("given")
    return isinstance(store, UnitStore) and store._sketched is not None


@pytest.mark.parametrize("bits", sketches.BITS)
@pytest.mark.parametrize("whole", [False, True])
def test_where_every_row_is_ranked_answers_are_those_of_the_exact_search(bits: int, whole: bool) -> None:
    rows = made(400).astype(np.float16)
    ids = np.repeat(np.arange(0, 600, 3), 2).astype(np.int64)
    live = [(0, 90), (150, 597)]
    segments = [(rows[:250], ids[:250]), (rows[250:], ids[250:])]
    kept = Rows(segments, width=WIDTH, dtype=np.float16, live=live, whole=whole)
    covered = sketches.make(Rows([segments[0]], width=WIDTH, dtype=np.float16), bits=bits)
    sketched = Sketched(covered, last_id=int(ids[249]), ranked=250)
    exact, listed = UnitStore.over(kept), UnitStore.over(kept, sketched)
    for k in (1, 7, 500):
        for queries in (made(9, 1), rows[:9].astype(np.float32)):
            wanted, found = exact.search(queries, k), listed.search(queries, k)
            np.testing.assert_array_equal(wanted[1], found[1])
            np.testing.assert_array_equal(wanted[0], found[0])


def test_edited_rows_are_found_by_few_and_recall_is_recorded(folder: Path, rows: Array) -> None:
    asked = sketches.turned(rows, cosine=0.75, seed=5)
    with ReferenceIndex.open(folder) as index:
        assert is_sketched(index)
        found = index.store("given").search(asked[:300], 3)[1][:, 0]
        record = index.info().sketches["given"]
    best = (asked[:300] @ rows.astype(np.float16).astype(np.float32).T).argmax(axis=1) + 1
    assert (found == best).mean() >= 0.98
    assert record.ranked < COUNT
    assert record.measured.recall >= 0.99
    assert record.measured.queries == 200


def test_references_added_later_are_found_without_optimizing_again(folder: Path) -> None:
    later = made(3, seed=9)
    with ReferenceIndex.open(folder, writable=True) as index:
        index.add([reference(COUNT + number, row) for number, row in enumerate(later)])
    with ReferenceIndex.open(folder) as index:
        assert is_sketched(index)
        assert [first(index, row) for row in later] == [COUNT + 1, COUNT + 2, COUNT + 3]


def test_merged_segments_need_no_new_sketches(folder: Path, rows: Array) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path="made/5.png")
        index.compact()
        assert index.check() == []
    with ReferenceIndex.open(folder) as index:
        assert is_sketched(index)
        assert first(index, rows[7]) == 8
        assert first(index, rows[5]) != 6


def test_erased_references_leave_the_sketches_too(folder: Path, rows: Array) -> None:
    with ReferenceIndex.open(folder) as index:
        stored = sketches.load(folder / "ann", index.sketches()["given"].file, width=WIDTH)
        bits = stored.of(rows[41:42])[0].tobytes()
        assert sum(bits in file.read_bytes() for file in (folder / "ann").iterdir()) == 1
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path="made/41.png", erase=True)
    assert not any(bits in file.read_bytes() for file in (folder / "ann").iterdir())
    with ReferenceIndex.open(folder) as index:
        stored = sketches.load(folder / "ann", index.sketches()["given"].file, width=WIDTH)
        assert 42 not in stored.ids
        assert len(stored.ids) == COUNT - 1


@pytest.mark.parametrize("harm", ["missing", "cut", "swapped", "garbage"])
def test_damaged_sketches_are_passed_over_and_check_says_so(folder: Path, rows: Array, harm: str) -> None:
    bits, ids = sorted((folder / "ann").glob("*.bits.npy"))[0], sorted((folder / "ann").glob("*.ids.npy"))[0]
    if harm == "missing":
        bits.unlink()
    elif harm == "cut":
        bits.write_bytes(bits.read_bytes()[:-100])
    elif harm == "swapped":
        data = bits.read_bytes()
        bits.write_bytes(ids.read_bytes())
        ids.write_bytes(data)
    else:
        bits.write_bytes(b"\x93NUMPY" + bytes(range(200)))
    with ReferenceIndex.open(folder) as index:
        assert not is_sketched(index)
        assert first(index, rows[7]) == 8
        (problem,) = index.check()
    assert "detector index optimize" in problem
    optimize(folder, min_rows=1)
    with ReferenceIndex.open(folder) as index:
        assert is_sketched(index)
        assert index.check() == []


def test_changed_bits_lose_matches_at_most(folder: Path, rows: Array) -> None:
    path = next((folder / "ann").glob("*.ids.npy"))
    data = bytearray(path.read_bytes())
    data[128:] = np.random.default_rng(3).bytes(len(data) - 128)
    path.write_bytes(bytes(data))
    with ReferenceIndex.open(folder) as index:
        values, ids = index.store("given").search(rows[:50], 5)
        assert len(index.check()) == 1
    exact = (rows[:50] @ rows.T).astype(np.float32)
    for row, (some, owners) in enumerate(zip(values, ids, strict=True)):
        for value, owner in zip(some[owners >= 0], owners[owners >= 0], strict=True):
            assert value == pytest.approx(exact[row, owner - 1], abs=2e-3)


def test_small_indexes_stay_with_the_exact_search(folder: Path) -> None:
    (done,) = optimize(folder)
    assert done.sketches is None
    assert "fewer than" in done.reason
    assert list((folder / "ann").iterdir()) == []


def test_memory_bounds_the_bits_and_too_little_is_told(folder: Path) -> None:
    (done,) = optimize(folder, min_rows=1, memory_bytes=COUNT * 24, target_recall=0.5)
    assert done.sketches is not None
    with ReferenceIndex.open(folder) as index:
        stored = sketches.load(folder / "ann", index.sketches()["given"].file, width=WIDTH)
    assert stored.bits.shape == (COUNT, 16)
    with pytest.raises(UsageError, match=r"at least 0\.0 MB"):
        optimize(folder, min_rows=1, memory_bytes=1000)
    with pytest.raises(UsageError, match=r"target recall 2\.0"):
        optimize(folder, target_recall=2.0)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), ("7", 7), ("2TiB", 2 * 10**12)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert bytes_from_words(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "8 G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        bytes_from_words(text)
