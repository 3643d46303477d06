"""The same input gives the same findings byte for byte, and the same index row for row, however the work is divided.

Every run is a process of its own, with its own number of workers and threads, size of batches, order of files and
PYTHONHASHSEED; the default descriptors, the bundled tower among them.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index.descriptors import Kind
from index.reference_index import ReferenceIndex
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import SUFFIXES

GENERATED = Path(__file__).resolve().parents[2] / "samples" / "generated"
QUICK_WORKS, QUICK_QUERIES = 12, 8
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Way:
    """How the work of one run is divided.

    Attributes:
        order: Of the files named: ``given``, ``reversed``, ``shuffled``; or ``folder``, which names their folder.
        batch_size: Of a build; 0 leaves the option out.
    """

    workers: int
    threads: int = 1
    hash_seed: int = 0
    order: str = "folder"
    batch_size: int = 0

    def __str__(self) -> str:
        parts = [f"{self.workers} workers", f"{self.threads} threads", f"hash seed {self.hash_seed}"]
        parts += [f"files {self.order}"] if self.order != "folder" else []
        parts += [f"batches of {self.batch_size}"] if self.batch_size else []
        return ", ".join(parts)


SCANS = (
    Way(1),
    Way(2, hash_seed=1),
    Way(4, hash_seed=2),
    Way(1, threads=2),
    Way(2, threads=4, hash_seed=3),
    Way(2, order="reversed"),
    Way(4, threads=2, order="shuffled", hash_seed=4),
)
BUILDS = (
    Way(1),
    Way(2, hash_seed=1),
    Way(4, threads=2, hash_seed=2),
    Way(2, threads=4, batch_size=7),
    Way(1, batch_size=1, hash_seed=3),
)
QUICK_SCANS, QUICK_BUILDS = (SCANS[0], SCANS[4], SCANS[6]), (BUILDS[0], BUILDS[2], BUILDS[3])


def detector(way: Way, *words: str | Path) -> None:
    """Run a command in the way given.

    Raises:
        RuntimeError: It failed.
    """
    counts = dict.fromkeys(THREADS, str(way.threads))
    done = subprocess.run(
        [sys.executable, "-m", "detector", *map(str, words), "--workers", str(way.workers), "--quiet"],
        env={**os.environ, **counts, "PYTHONHASHSEED": str(way.hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{words}: {done.stderr[-500:]}")


def build(works: Path, out: Path, way: Way) -> Path:
    """Build an index of a folder."""
    shutil.rmtree(out, ignore_errors=True)
    more = ("--batch-size", str(way.batch_size)) if way.batch_size else ()
    detector(way, "index", "build", works, "--out", out, *more)
    return out


def scan(queries: Path, index: Path, out: Path, way: Way, seed: int) -> list[bytes]:
    """Scan a folder, or its files in another order; return the lines of findings, in the order of the files' names."""
    out.unlink(missing_ok=True)
    names: list[Path] = [queries]
    if way.order != "folder":
        names = sorted(queries.iterdir(), reverse=way.order == "reversed")
        if way.order == "shuffled":
            random.Random(seed).shuffle(names)
    detector(way, "scan", *names, "--index", index, "--jsonl", out)
    lines = out.read_bytes().splitlines(keepends=True)
    if way.order != "folder":  # findings come in the order of the files that were named
        lines = [line for _, line in sorted(zip(names, lines, strict=True))]
    return lines


def content(folder: Path) -> dict[str, Any]:
    """What an index holds, by the number of each reference: digest, places with credits, rows, bytes of rows."""
    with ReferenceIndex.open(folder) as index:
        numbers = index.reference_ids()
        entries = {number: index.reference(number) for number in numbers}
        held: dict[str, Any] = {
            "references": {
                n: (e[0].sha256, e[0].width, e[0].height, e[0].trim) for n, e in entries.items() if e
            },
            "occurrences": {
                n: [(o.path, o.size, str(o.credits)) for o in e[1]] for n, e in entries.items() if e
            },
            "thumbnails": {n: hashlib.sha256(index.thumbnail(n) or b"").hexdigest() for n in numbers},
            "calibration": {name: null.to_dict() for name, null in index.calibration().items()},
        }
        for spec in index.specs:
            rows: dict[int, list[bytes]] = {}
            for block, ids, _ in index.rows(spec.name).blocks():
                for row, number in zip(np.asarray(block), np.asarray(ids).tolist(), strict=True):
                    rows.setdefault(number, []).append(row.tobytes())
            held[f"rows of {spec.name}"] = rows
        return held


def furthest(first: Path, second: Path) -> float:
    """The largest difference of a number in the float rows of two indexes of the same works."""
    most = 0.0
    with ReferenceIndex.open(first) as one, ReferenceIndex.open(second) as other:
        for spec in one.specs:
            if spec.kind is Kind.UNIT:
                both = [
                    np.concatenate(
                        [np.asarray(block, np.float32) for block, _, _ in index.rows(spec.name).blocks()]
                    )
                    for index in (one, other)
                ]
                most = max(most, float(np.abs(both[0] - both[1]).max()))
    return most


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say what differs between the contents of two indexes."""
    said = []
    for name, values in wanted.items():
        if found.get(name) == values:
            continue
        keys = set(values) | set(found.get(name, ()))
        other = sorted(str(key) for key in keys if found.get(name, {}).get(key) != values.get(key))
        said.append(f"{name}: {len(other)} of {len(keys)} (the first is {other[0]})")
    return said


def laid_out(folder: Path, pictures: Sequence[Path]) -> Path:
    """Copy pictures into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in pictures:
        shutil.copy2(path, folder)
    return folder


def run(options: Options) -> Result:
    """Compare."""
    work = options.scratch("determinism")
    works = [path for path in sorted(options.data.iterdir()) if path.suffix.lower() in SUFFIXES]
    queries = sorted(GENERATED.glob("*.png"))
    scans, builds = SCANS, BUILDS
    if options.quick:
        works, queries = works[:: max(1, len(works) // QUICK_WORKS)], queries[:QUICK_QUERIES]
        scans, builds = QUICK_SCANS, QUICK_BUILDS
    result = Result("determinism", pictures=len(works))
    source, asked = laid_out(work / "works", works), laid_out(work / "queries", queries)

    rows, others, apart = [], 0, 0.0
    first: dict[str, Any] = {}
    lines: list[bytes] = []
    for number, way in enumerate(builds):
        index = build(source, work / f"{number}.index", way)
        held = content(index)
        found = scan(asked, index, work / f"{number}.jsonl", scans[0], options.seed)
        if not number:
            first, lines = held, found
        problems = differing(held, first)
        changed = sum(a != b for a, b in zip(found, lines, strict=True))
        problems += [f"findings: {changed} of {len(lines)}"] if changed else []
        apart = max(apart, furthest(index, work / "0.index"))
        others += bool(problems)
        rows.append((str(way), "; ".join(problems) or "none"))
        progress(f"determinism: build by {way}: {problems or 'the same'}")
    note = f"{len(works)} works; each index is scanned for {len(queries)} queries. Compared with the first run's: "
    note += "numbers, digests, places, credits, rows, small copies, calibration, and the bytes of findings."
    result.tables.append(Table("Builds", ("how", "differences"), rows, note))

    rows, unlike = [], 0
    for number, way in enumerate(scans):
        found = scan(asked, work / "0.index", work / f"scan-{number}.jsonl", way, options.seed)
        changed = sum(a != b for a, b in zip(found, lines, strict=True))
        unlike += bool(changed)
        rows.append((str(way), f"{changed} of {len(lines)}"))
        progress(f"determinism: scan by {way}: {changed} lines differ")
    note = f"{len(queries)} queries against the first index; lines of findings that differ from the first scan's."
    result.tables.append(Table("Scans", ("how", "lines that differ"), rows, note))
    result.figures["largest difference of a stored number"] = apart
    result.bar("builds compared", len(builds), least=3 if options.quick else 5)
    result.bar("builds that differ", others, most=0)
    result.bar("scans compared", len(scans), least=3 if options.quick else 7)
    result.bar("scans that differ", unlike, most=0)
    return result
