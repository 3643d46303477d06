"""Finds edited works in an index of half of them: share reported by kind of edit, and where time goes."""

from __future__ import annotations

import csv
import random
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector import Detector, Verdict, build_index
from tests.benchmarks import queries, stages
from tests.benchmarks.measures import wilson
from tests.benchmarks.results import Options, Result, Table, progress, share

WHOLE_BOUND, PART_BOUND, UNRELATED_BOUND = 0.97, 0.80, 1 / 200


@dataclass
class _Tally:
    count: int = 0
    found: int = 0
    possible: int = 0
    replica: int = 0

    def __iadd__(self, other: _Tally) -> _Tally:
        self.count += other.count
        self.found += other.found
        self.possible += other.possible
        self.replica += other.replica
        return self


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("finding")
    number = 240 if options.quick else 2000
    progress(f"finding: making {number} queries")
    queries.make(options.data, work / "set", queries=number, unrelated=number // 4, seed=options.seed)
    shutil.rmtree(work / "art.index", ignore_errors=True)
    built = build_index(work / "set" / "references", work / "art.index")
    with (work / "set" / "truth.csv").open(encoding="utf-8", newline="") as stream:
        truth = {row["file_name"]: row for row in csv.DictReader(stream)}
    result = Result("finding", pictures=2 * built.references)
    with Detector.open(work / "art.index") as detector:
        started = time.perf_counter()
        tallies, misses = _judge(detector, work / "set" / "queries", truth)
        seconds = time.perf_counter() - started
        sample = random.Random(options.seed).sample(sorted(truth), 40 if options.quick else 200)
        progress(f"finding: stages of {len(sample)} queries on one thread")
        spent, verified = stages.time_stages(detector, [work / "set" / "queries" / name for name in sample])
    whole = _sum(tallies, queries.WHOLE)
    parts = _sum(tallies, queries.PARTS)
    unrelated = tallies[queries.UNRELATED]
    rows = [_row(name.replace("_", " "), tally) for name, tally in tallies.items()]
    rows += [_row("**whole-picture edits**", whole), _row("**pasted and cropped**", parts)]
    columns = (
        "edit",
        "n",
        "replica, right reference first",
        "possible",
        "missed",
        "replica, wrong reference",
    )
    result.tables.append(
        Table(
            f"{number} queries against {built.references} references",
            columns,
            rows,
            "Shares: 95 % Wilson interval.",
        )
    )
    ms = np.asarray(spent[stages.TOTAL]) * 1e3
    note = (
        f"A check takes {np.median(ms):.1f} ms (median; p95 {np.percentile(ms, 95):.1f} ms) on one thread; "
        f"the scan of all {number} took {seconds:.1f} s on all cores, {number / seconds:.1f} a second. "
        f"{len(verified)} candidates verified for {len(sample)} queries, "
        f"{np.mean([wall for wall, _ in verified] or [0]) * 1e3:.1f} ms each."
    )
    columns = ("stage", "mean ms", "median ms", "p95 ms", "share")
    result.tables.append(
        Table(f"Time per query, {len(sample)} queries", columns, stages.rows_of(spent), note)
    )
    result.bar("whole-picture edits found", whole.found / max(whole.count, 1), least=WHOLE_BOUND)
    result.bar("pasted and cropped found", parts.found / max(parts.count, 1), least=PART_BOUND)
    result.bar(
        "unrelated reported replica", unrelated.replica / max(unrelated.count, 1), most=UNRELATED_BOUND
    )
    result.figures |= {
        "misses": misses,
        "edits": {name: vars(tally) for name, tally in tallies.items()},
        "stages_ms": {name: float(np.mean(v)) * 1e3 for name, v in spent.items()},
        "check_ms": {"median": float(np.median(ms)), "p95": float(np.percentile(ms, 95))},
        "unrelated_interval": wilson(unrelated.replica, unrelated.count),
    }
    return result


def _judge(
    detector: Detector, folder: Path, truth: dict[str, dict[str, str]]
) -> tuple[dict[str, _Tally], list[dict[str, object]]]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    misses: list[dict[str, object]] = []
    scan = detector.scan(folder)
    for report in scan:
        row = truth[Path(report.query).name]
        tally = tallies[row["edit"]]
        tally.count += 1
        best = report.best
        first = Path(best.reference.occurrences[0].path).name if best else ""
        replica = report.verdict is Verdict.REPLICA
        if row["reference"]:
            right = first == row["reference"]
            tally.found += replica and right
            tally.replica += replica and not right
            tally.possible += report.verdict is Verdict.POSSIBLE
            wrong = not (replica and right)
        else:
            tally.replica += replica
            tally.possible += report.verdict is Verdict.POSSIBLE
            wrong = replica
        if wrong:
            said = {"verdict": report.verdict.value, "score": report.score, "first": first}
            misses.append(
                {"query": row["file_name"], "edit": row["edit"], "reference": row["reference"], **said}
            )
    return dict(sorted(tallies.items())), misses


def _sum(tallies: dict[str, _Tally], edits: tuple[queries.Edit, ...]) -> _Tally:
    total = _Tally()
    for edit in edits:
        total += tallies[edit.__name__]
    return total


def _row(name: str, tally: _Tally) -> tuple[object, ...]:
    missed = tally.count - tally.found - tally.possible - tally.replica
    if name == queries.UNRELATED:
        return (
            name,
            tally.count,
            "–",
            tally.possible,
            "–",
            f"{tally.replica} = {share(tally.replica, tally.count)}",
        )
    return name, tally.count, share(tally.found, tally.count), tally.possible, missed, tally.replica
