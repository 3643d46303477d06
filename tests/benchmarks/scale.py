"""Search over very many references, from made-up rows with planted near-duplicates, one core, beside faiss in memory.

Rows are structured as those of pictures are: clusters of things alike, far from each other. A planted query is a
reference's own rows with so many bits toggled, and its vector turned by a known angle, so that the right answer and
how near it lies are known. Children measure, one process each: what is in memory is what the search needs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
from numpy.typing import NDArray

from index.catalog import OccurrenceRecord
from index.credits import NO_CREDITS
from index.optimizing import optimize
from index.reference_index import NewReference, ReferenceIndex
from index.searching import Query
from index.segments import map_segment
from tests.benchmarks import growing
from tests.benchmarks.results import Options, Result, Table, progress, share

HASHES = {"pdq": 256, "phash": 64}
TOWER = "clip:bundled"
WINDOW_ROWS = 6
"""Rows of a query's whole and its five windows, as `ReferenceIndex.describe` makes them; its mirror image has one."""

CLUSTER = 20
"""References that are alike, on average."""

CLUSTER_FLIPS = 0.2
"""Share of bits that a reference and the middle of its cluster differ in: two of one cluster differ in a third, and
are no near-duplicates (PDQ's bound is 31 of 256)."""

CLUSTER_NOISE = 0.9
"""Length of what a reference's vector has of its own, beside the cluster's of 1: cosines of about 0.55 in a cluster."""

LEVELS = {
    "near": ({"pdq": 8, "phash": 2}, 0.98),
    "edited": ({"pdq": 31, "phash": 6}, 0.9),
    "far": ({"pdq": 60, "phash": 12}, 0.8),
}
"""How far planted queries are from their reference: bits by hash, cosine."""

BATCH = 1_000
FEW = 2_000
FEW_QUERIES = 30
REFERENCES, QUICK_REFERENCES = 1_000_000, 50_000
MOST_MS, LEAST_RECALL, MOST_MEMORY = 5.0, 0.99, 1.3


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("scale")
    count = QUICK_REFERENCES if options.quick else REFERENCES
    folder = work / "art.index"
    shutil.rmtree(folder, ignore_errors=True)
    asked = 60 if options.quick else 100
    progress(f"scale: {count:,} references")
    seconds = build(folder, work / "queries.npz", count, asked, options.seed)
    exact, peer = (_child(role, folder, work / "queries.npz") for role in ("exact", "faiss"))
    started = time.perf_counter()
    optimized = optimize(folder, min_rows=FEW)
    progress(f"scale: optimized in {time.perf_counter() - started:.0f} s")
    ours = _child("ours", folder, work / "queries.npz")
    result = Result("scale", pictures=0)
    result.tables += [_adding(seconds), _times(count, exact, ours, peer), _recalls(ours, peer)]
    first, last = _per_reference(seconds)
    result.bar(
        "adding rows alone: the last tenth, in times of the first 2,000",
        last / first,
        most=growing.MOST_GROWTH,
    )
    growing.measure(result, options, work)
    result.bar("complete search, median ms on one core", ours["complete"][0], most=MOST_MS)
    planted = sum(ours["found"][level] for level in LEVELS)
    exact = sum(peer["found"][level] for level in LEVELS)
    result.bar(
        "planted ones found first, in times of faiss exact", planted / max(exact, 1), least=LEAST_RECALL
    )
    arithmetic = ours["bytes"] / 1e6
    result.bar("memory, in times of rows and ids", ours["resident_mb"] / arithmetic, most=MOST_MEMORY)
    result.figures |= {
        "ours": ours,
        "exact": exact,
        "optimized": [each.to_dict() for each in optimized],
        "faiss": peer,
        "add_seconds": seconds,
    }
    return result


# Making


def _made(
    count: int, width: int, seed: int
) -> Iterator[tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]]:
    """Yield bits by hash, uint8 of 0 and 1, (BATCH, bits), and unit vectors, float32, (BATCH, width)."""
    rng = np.random.default_rng(seed)
    clusters = max(1, count // CLUSTER)
    middles = {
        name: rng.integers(0, 256, (clusters, bits // 8), dtype=np.uint8) for name, bits in HASHES.items()
    }
    centres = rng.standard_normal((clusters, width), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        chosen = rng.integers(0, clusters, size)
        bits = {
            name: np.unpackbits(middles[name][chosen], axis=1)
            ^ (rng.random((size, width_), np.float32) < CLUSTER_FLIPS).astype(np.uint8)
            for name, width_ in HASHES.items()
        }
        own = rng.standard_normal((size, width), np.float32) * np.float32(CLUSTER_NOISE / width**0.5)
        vectors = centres[chosen] + own
        yield bits, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(folder: Path, queries: Path, count: int, asked: int, seed: int) -> list[float]:
    """Make the index and its queries; return the seconds of each `ReferenceIndex.add` of `BATCH`."""
    rng = np.random.default_rng(seed + 1)
    chosen = np.sort(rng.permutation(count)[: asked * len(LEVELS)])
    kept: dict[str, list[NDArray[Any]]] = {name: [] for name in (*HASHES, TOWER)}
    seconds = []
    with ReferenceIndex.create(
        folder, descriptors=(*HASHES, TOWER), thumbnails=False, squares=False
    ) as index:
        width = index.spec(TOWER).width
        for number, (bits, vectors) in enumerate(_made(count, width, seed)):
            start = number * BATCH
            packed = {name: np.packbits(values, axis=1) for name, values in bits.items()}
            batch = [
                NewReference(
                    f"{start + at:064x}",
                    512,
                    512,
                    OccurrenceRecord(f"made/{start + at}.jpg", NO_CREDITS, 1, 1),
                    {
                        **{name: rows[at : at + 1] for name, rows in packed.items()},
                        TOWER: vectors[at : at + 1],
                    },
                )
                for at in range(len(vectors))
            ]
            before = time.perf_counter()
            index.add(batch)
            seconds.append(time.perf_counter() - before)
            mine = chosen[(chosen >= start) & (chosen < start + len(vectors))] - start
            for name, values in bits.items():
                kept[name].append(values[mine])
            kept[TOWER].append(vectors[mine])
            if (start + BATCH) % 100_000 == 0:
                progress(f"scale: {start + BATCH:,} added")
        before = time.perf_counter()
        index.merge_small_segments()
        progress(f"scale: merged in {time.perf_counter() - before:.1f} s")
    _plant(queries, chosen, {name: np.concatenate(rows) for name, rows in kept.items()}, rng)
    return seconds


def _plant(path: Path, chosen: NDArray[Any], rows: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
    levels = np.arange(len(chosen)) % len(LEVELS)
    saved: dict[str, NDArray[Any]] = {"right": chosen + 1, "level": levels}
    for name, bits in HASHES.items():
        toggled = rows[name].copy()
        for at, level in enumerate(levels):
            distance = list(LEVELS.values())[level][0][name]
            toggled[at, rng.permutation(bits)[:distance]] ^= 1
        saved[name] = np.packbits(toggled, axis=1)
        saved[f"{name} mirrored"] = rng.integers(0, 256, saved[name].shape, dtype=np.uint8)
    vectors = rows[TOWER]
    aside = rng.standard_normal(vectors.shape, np.float32)
    aside -= (aside * vectors).sum(axis=1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosines = np.asarray([cosine for _, cosine in LEVELS.values()], np.float32)[levels][:, None]
    turned = cosines * vectors + np.sqrt(1 - cosines**2) * aside
    saved[TOWER] = turned
    # Windows and the mirror image show something of the picture, but are other pictures to a tower.
    others = rng.standard_normal((WINDOW_ROWS, *vectors.shape), np.float32) / vectors.shape[1] ** 0.5
    others = 0.6 * turned + 0.8 * others
    saved["others"] = others / np.linalg.norm(others, axis=2, keepdims=True)
    np.savez(path, **saved)


# Measuring


def _child(role: str, folder: Path, queries: Path) -> dict[str, Any]:
    progress(f"scale: {role}")
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "tests.benchmarks.scale", role, str(folder), str(queries)]
    done = subprocess.run(
        command, env={**os.environ, **single}, check=True, stdout=subprocess.PIPE, text=True
    )
    return cast(dict[str, Any], json.loads(done.stdout))


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    return float(np.percentile(seconds, 50)) * 1e3, float(np.percentile(seconds, 95)) * 1e3


def _ours(folder: Path, asked: dict[str, NDArray[Any]], most: int) -> dict[str, Any]:
    rss = psutil.Process().memory_info
    before = rss().rss
    started = time.perf_counter()
    index = ReferenceIndex.open(folder)
    opened = time.perf_counter() - started
    found, seconds = dict.fromkeys(LEVELS, 0), []
    for at in range(most):
        rows = {name: (asked[name][at : at + 1], asked[f"{name} mirrored"][at : at + 1]) for name in HASHES}
        others = asked["others"][:, at]
        rows[TOWER] = np.concatenate([asked[TOWER][at : at + 1], others[1:]]), others[:1]
        query = Query(cast(Any, None), rows, None)
        started = time.perf_counter()
        candidates = index.search(query)
        seconds.append(time.perf_counter() - started)
        level = list(LEVELS)[asked["level"][at]]
        found[level] += int(bool(candidates) and candidates[0].reference_id == int(asked["right"][at]))
    singly: dict[str, Any] = {}
    recall: dict[str, dict[str, int]] = {}
    for name in (*HASHES, TOWER):
        store = index.store(name)
        singly[name], recall[name] = _searched(
            asked, name, lambda row, s=store: int(s.search(row, 20)[1][0, 0])
        )
    arithmetic = sum(p.stat().st_size for p in [*(folder / "vectors").iterdir(), *folder.glob("ann/*")])
    return {
        "open_s": opened,
        "first_s": seconds[0],
        "complete": _percentiles(seconds[1:]),
        "singly": singly,
        "recall": recall,
        "found": found,
        "resident_mb": (rss().rss - before) / 1e6,
        "bytes": arithmetic,
    }


def _searched(
    asked: dict[str, NDArray[Any]], name: str, first: Any
) -> tuple[tuple[float, float], dict[str, int]]:
    seconds, recall = [], dict.fromkeys(LEVELS, 0)
    for at, right in enumerate(asked["right"].tolist()):
        row = np.ascontiguousarray(asked[name][at : at + 1])
        started = time.perf_counter()
        best = first(row)
        seconds.append(time.perf_counter() - started)
        recall[list(LEVELS)[asked["level"][at]]] += int(best == right)
    return _percentiles(seconds), recall


def _faiss(folder: Path, asked: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Everything in memory, exact, floats at full width: as faiss's own introduction has it."""
    import faiss

    before = psutil.Process().memory_info().rss
    singly, recall = {}, {}
    for name in (*HASHES, TOWER):
        slug = "clip_bundled-*" if name == TOWER else f"{name}-*"
        files = sorted(p for p in (folder / "vectors").glob(slug) if not p.name.endswith(".ids.npy"))
        rows = [map_segment(path) for path in files]
        width = rows[0][0].shape[1]
        index = faiss.IndexFlatIP(width) if name == TOWER else faiss.IndexBinaryFlat(8 * width)
        for block, _ in rows:
            for start in range(0, len(block), 65536):
                part = block[start : start + 65536]
                index.add(part.astype(np.float32) if name == TOWER else np.ascontiguousarray(part))
        ids = np.concatenate([numbers for _, numbers in rows])
        singly[name], recall[name] = _searched(
            asked, name, lambda row, i=index, n=ids: int(n[i.search(row, 20)[1][0, 0]])
        )
        del rows
    found = {level: max(recall[name][level] for name in recall) for level in LEVELS}
    resident = (psutil.Process().memory_info().rss - before) / 1e6
    return {"singly": singly, "recall": recall, "found": found, "resident_mb": resident}


# Showing


def _per_reference(seconds: list[float]) -> tuple[float, float]:
    tenth = max(1, len(seconds) // 10)
    first = float(np.mean(seconds[: max(1, FEW // BATCH)]))
    return first / BATCH * 1e6, float(np.mean(seconds[-tenth:])) / BATCH * 1e6


def _adding(seconds: list[float]) -> Table:
    first, last = _per_reference(seconds)
    rows = [("the first 2,000", f"{first:.0f}"), ("the last tenth", f"{last:.0f}")]
    note = f"`ReferenceIndex.add`, {BATCH:,} described references a commit, {sum(seconds):.0f} s in all."
    return Table("Adding", ("", "µs a reference"), rows, note)


def _times(count: int, exact: dict[str, Any], ours: dict[str, Any], peer: dict[str, Any]) -> Table:
    def cell(times: list[float]) -> str:
        return f"{times[0]:.2f} / {times[1]:.2f}"

    rows = [
        (name, *(cell(each["singly"][name]) for each in (exact, ours, peer))) for name in (*HASHES, TOWER)
    ]
    rows.append(("complete search", cell(exact["complete"]), cell(ours["complete"]), ""))
    rows.append(("resident MB", *(f"{each['resident_mb']:.0f}" for each in (exact, ours, peer))))
    note = (
        f"One query row at a time, 20 neighbours, one core. A complete search has two rows of each hash and "
        f"{1 + WINDOW_ROWS} of the tower. Opening: {ours['open_s'] * 1e3:.0f} ms, the first search "
        f"{ours['first_s'] * 1e3:.0f} ms; rows and ids on disk: {ours['bytes'] / 1e6:.0f} MB."
    )
    columns = ("median / p95 ms", "index", "the same, optimized", "faiss, exact, in memory")
    return Table(f"Searching {count:,} references", columns, rows, note)


def _recalls(ours: dict[str, Any], peer: dict[str, Any]) -> Table:
    rows = []
    for level, (bits, cosine) in LEVELS.items():
        total = ours["asked"][level]
        for name in (*HASHES, TOWER):
            how = f"{level}: {name}, " + (f"cosine {cosine}" if name == TOWER else f"{bits[name]} bits")
            both = (share(found["recall"][name][level], total) for found in (ours, peer))
            rows.append((how, *both))
        rows.append((f"{level}: complete search", share(ours["found"][level], total), ""))
    return Table("Planted near-duplicates found first", ("", "index", "faiss, exact"), rows)


def main() -> None:
    """Measure one side in this process and print it as JSON."""
    role, folder, queries = sys.argv[1:]
    with np.load(queries, allow_pickle=False) as stored:
        asked = {name: stored[name] for name in stored.files}
    if role == "faiss":
        measured = _faiss(Path(folder), asked)
    else:
        # The exact search takes so long that a part of the queries tells enough.
        measured = _ours(Path(folder), asked, len(asked["right"]) if role == "ours" else FEW_QUERIES)
    counts = np.bincount(asked["level"], minlength=len(LEVELS)).tolist()
    print(json.dumps({**measured, "asked": dict(zip(LEVELS, counts, strict=True))}))


if __name__ == "__main__":
    main()
