"""Every store passes one contract: it agrees with brute force on ids and scores, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.descriptors import Kind
from index.images import read_image
from index.keypoints import ROW_BYTES, decode_vectors, encode, extract
from index.segments import Rows
from index.vectors import BitStore, LocalStore, UnitStore, open_store

Array = np.ndarray[Any, Any]


def random_bits(rng: np.random.Generator, count: int) -> Array:
    return rng.integers(0, 256, (count, 8), dtype=np.uint8)


def random_units(rng: np.random.Generator, count: int) -> Array:
    values = rng.normal(size=(count, 12))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def bit_similarity(queries: Array, rows: Array) -> Array:
    away = np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(axis=2)
    return np.asarray(1.0 - away.astype(np.float32) / (rows.shape[1] * 8), np.float32)


def unit_similarity(queries: Array, rows: Array) -> Array:
    """On the stored rows, which are rounded to float16; sums are in float32."""
    return np.asarray(queries.astype(np.float32) @ rows.astype(np.float32).T, np.float32)


KINDS: dict[str, tuple[Any, Callable[..., Array], Callable[[Array, Array], Array], float]] = {
    "bits": (BitStore, random_bits, bit_similarity, 0.0),
    "unit": (UnitStore, random_units, unit_similarity, 1e-6),
}


def brute_force(similarities: Array, owners: Array, k: int) -> tuple[Array, Array]:
    values = np.full((len(similarities), k), -np.inf, np.float32)
    ids = np.full((len(similarities), k), -1, np.int64)
    for number, row in enumerate(similarities):
        order = sorted(range(len(owners)), key=lambda i: (-row[i], owners[i]))[:k]
        values[number, : len(order)], ids[number, : len(order)] = row[order], owners[order]
    return values, ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "k"), [(1, 1), (1, 5), (7, 3), (7, 7), (7, 20), (300, 20), (700, 1)])
def test_agrees_with_brute_force_on_ids_and_scores(kind: str, count: int, k: int) -> None:
    store_type, make, similarity, tolerance = KINDS[kind]
    rng = np.random.default_rng(count * 100 + k)
    rows, owners = make(rng, count), rng.permutation(5 * count)[:count].astype(np.int64)
    queries = np.concatenate([make(rng, 40), rows[:5]])
    values, ids = store_type(rows, owners).search(queries, k)
    expected_values, expected_ids = brute_force(similarity(queries, rows), owners, k)
    assert (values.dtype, ids.dtype, values.shape, ids.shape) == (
        np.float32,
        np.int64,
        (len(queries), k),
        (len(queries), k),
    )
    np.testing.assert_allclose(values, expected_values, atol=tolerance)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 5, 12, 20, 30, 39, 40, 50])
def test_equal_rows_come_in_order_of_id_also_across_the_bound(kind: str, k: int) -> None:
    store_type, make, similarity, tolerance = KINDS[kind]
    rng = np.random.default_rng(k)
    few = make(rng, 4)
    rows = few[rng.integers(0, 4, 40)]
    owners = rng.permutation(1000)[:40].astype(np.int64)
    values, ids = store_type(rows, owners).search(few, k)
    expected_values, expected_ids = brute_force(similarity(few, rows), owners, k)
    np.testing.assert_allclose(values, expected_values, atol=tolerance)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_size_and_order_are_ignored(kind: str) -> None:
    store_type, make, _, tolerance = KINDS[kind]
    rng = np.random.default_rng(5)
    rows, queries = make(rng, 200), make(rng, 77)
    owners = np.arange(200, dtype=np.int64)
    store = store_type(rows, owners)
    together = store.search(queries, 9)
    singly = [store.search(query[None], 9) for query in queries]
    for place in (0, 1):
        np.testing.assert_allclose(
            together[place], np.concatenate([s[place] for s in singly]), atol=tolerance
        )
    backwards = store.search(queries[::-1], 9)
    np.testing.assert_array_equal(together[1], backwards[1][::-1])
    shuffled = rng.permutation(200)
    other = store_type(rows[shuffled], owners[shuffled]).search(queries, 9)
    np.testing.assert_array_equal(other[1], together[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_and_no_queries_give_nothing(kind: str) -> None:
    store_type, make, _, _ = KINDS[kind]
    rng = np.random.default_rng(6)
    rows = make(rng, 3)
    empty = store_type(rows[:0], np.zeros(0, np.int64))
    assert len(empty) == 0
    values, ids = empty.search(rows, 4)
    assert (values == -np.inf).all()
    assert (ids == -1).all()
    assert values.shape == ids.shape == (3, 4)
    values, ids = store_type(rows, np.arange(3)).search(rows[:0], 4)
    assert values.shape == ids.shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_arrays_are_neither_changed_nor_needed_again(kind: str) -> None:
    store_type, make, _, _ = KINDS[kind]
    rng = np.random.default_rng(7)
    rows, owners = make(rng, 30), np.arange(30, dtype=np.int64)
    kept, queries = rows.copy(), rows.copy()
    store = store_type(rows, owners)
    before = store.search(queries, 3)
    np.testing.assert_array_equal(rows, kept)
    rows[:] = 0
    owners[:] = 99
    after = store.search(queries, 3)
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_reference_are_those_given(kind: str) -> None:
    store_type, make, _, _ = KINDS[kind]
    rng = np.random.default_rng(8)
    rows, owners = make(rng, 50), rng.permutation(500)[:50].astype(np.int64)
    store = store_type(rows, owners)
    for row, owner in zip(rows, owners.tolist(), strict=True):
        np.testing.assert_array_equal(store.rows_of(owner), row[None].astype(store.rows_of(owner).dtype))
    assert store.rows_of(501).shape == (0, rows.shape[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 70))
def test_bits_agree_with_brute_force_where_most_distances_are_equal(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows, queries = rng.integers(0, 4, (count, 1), dtype=np.uint8), rng.integers(0, 4, (3, 1), dtype=np.uint8)
    owners = rng.permutation(count).astype(np.int64)
    values, ids = BitStore(rows, owners).search(queries, k)
    expected_values, expected_ids = brute_force(bit_similarity(queries, rows), owners, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(ids, expected_ids)


@pytest.mark.parametrize("bound", [0, 1, 5, 20, 31, 64])
def test_within_is_exact_at_its_bound(bound: int) -> None:
    rng = np.random.default_rng(9)
    row = random_bits(rng, 1)
    rows = np.repeat(row, 65, axis=0)
    for number in range(65):  # row n is n bits away
        bits = np.unpackbits(rows[number])
        bits[rng.permutation(64)[:number]] ^= 1
        rows[number] = np.packbits(bits)
    store = BitStore(rows, np.arange(100, 165, dtype=np.int64))
    expected = [(100 + number, number) for number in range(bound + 1)]
    assert store.within(row[0], bound) == expected
    assert store.within(row, bound) == expected


def test_within_an_empty_store_is_nothing() -> None:
    assert BitStore(np.zeros((0, 8), np.uint8), np.zeros(0, np.int64)).within(np.zeros(8, np.uint8), 9) == []


def test_cosines_are_those_of_rows_rounded_to_float16() -> None:
    rng = np.random.default_rng(10)
    exact = rng.normal(size=(100, 256))
    exact = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
    store = UnitStore(exact, np.arange(100, dtype=np.int64))
    values, ids = store.search(exact, 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(100))
    rounded = (exact * exact.astype(np.float16).astype(np.float32)).sum(axis=1)
    np.testing.assert_allclose(values[:, 0], rounded, atol=1e-6)
    np.testing.assert_allclose(values[:, 0], 1.0, atol=5e-4)


@pytest.fixture(scope="module")
def local_rows(artworks: Any) -> tuple[Array, Array]:
    names = ("botanical-1.jpg", "city-2.jpg", "woodcut-1.jpg")
    rows = [encode(extract(read_image(artworks / name), max_features=400)) for name in names]
    owners = np.repeat([7, 3, 900], [len(r) for r in rows]).astype(np.int64)
    return np.concatenate(rows), owners


def test_every_local_row_finds_itself(local_rows: tuple[Array, Array]) -> None:
    rows, owners = local_rows
    store = LocalStore(rows, owners)
    assert len(store) == len(rows)
    order = np.argsort(owners, kind="stable")
    np.testing.assert_array_equal(store.owners(np.arange(len(rows))), owners[order])
    distances, found = store.search(decode_vectors(rows[order]), 1)
    # The code of what a code stands for is that code: nothing but a probe of another list can miss it.
    itself = found[:, 0] == np.arange(len(rows))
    same_code = (rows[order][np.maximum(found[:, 0], 0), :32] == rows[order][:, :32]).all(axis=1)
    assert (itself | same_code).mean() > 0.95
    assert np.median(distances) < 1e-6


def test_local_distances_are_those_to_the_decoded_rows(local_rows: tuple[Array, Array]) -> None:
    rows, owners = local_rows
    store = LocalStore(rows, owners)
    ordered = rows[np.argsort(owners, kind="stable")]
    queries = decode_vectors(rows[:50]) + np.float32(0.01)
    distances, found = store.search(queries, 4)
    met = found >= 0
    expected = ((queries[:, None] - decode_vectors(ordered)[np.maximum(found, 0)]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances[met], expected[met], atol=1e-4)
    assert (np.diff(np.where(met, distances, 1e9), axis=1) >= 0).all()


def test_local_search_finds_the_nearest_of_the_probed_lists(local_rows: tuple[Array, Array]) -> None:
    rows, owners = local_rows
    decoded = decode_vectors(rows[np.argsort(owners, kind="stable")])
    _, found = LocalStore(rows, owners).search(decoded, 2)
    everything = ((decoded[:, None] - decoded[None]) ** 2).sum(axis=2) if len(decoded) < 300 else None
    if everything is None:
        some = np.arange(0, len(decoded), 10)
        everything = ((decoded[some][:, None] - decoded[None]) ** 2).sum(axis=2)
        found = found[some]
    nearest = everything.argmin(axis=1)
    assert (found[:, 0] == nearest).mean() > 0.95


def test_local_batch_size_and_missing_rows(local_rows: tuple[Array, Array]) -> None:
    rows, owners = local_rows
    store = LocalStore(rows[:5], owners[:5])
    queries = decode_vectors(rows[:5])
    distances, found = store.search(queries, 9)
    assert distances.shape == found.shape == (5, 9)
    assert np.isinf(distances[found < 0]).all()
    assert np.isfinite(distances[found >= 0]).all()
    singly = [store.search(query[None], 9) for query in queries]
    np.testing.assert_array_equal(np.concatenate([f for _, f in singly]), found)
    np.testing.assert_array_equal(np.concatenate([d for d, _ in singly]), distances)


def test_local_rows_of_a_reference_are_those_given(local_rows: tuple[Array, Array]) -> None:
    rows, owners = local_rows
    store = LocalStore(rows, owners)
    for owner in (3, 7, 900):
        np.testing.assert_array_equal(store.rows_of(owner), rows[owners == owner])
    assert store.rows_of(4).shape == (0, ROW_BYTES)
    assert store.places(np.array([0, 1])).shape == (2, 4)


def test_an_empty_local_store_finds_nothing(local_rows: tuple[Array, Array]) -> None:
    store = LocalStore(np.zeros((0, ROW_BYTES), np.uint8), np.zeros(0, np.int64))
    distances, found = store.search(decode_vectors(local_rows[0][:3]), 4)
    assert (found == -1).all()
    assert np.isinf(distances).all()
    assert len(store) == 0


def test_the_kind_decides_the_store(local_rows: tuple[Array, Array]) -> None:
    bits, units = Rows([], width=8, dtype=np.uint8), Rows([], width=8, dtype=np.float16)
    assert isinstance(open_store(Kind.BITS, bits), BitStore)
    assert isinstance(open_store(Kind.UNIT, units), UnitStore)
    assert isinstance(open_store(Kind.LOCAL, Rows([], width=ROW_BYTES, dtype=np.uint8)), LocalStore)
