"""What verification costs: time a verified candidate, and the slowdown of a scan of unrelated pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector import Detector
from tests.benchmarks import stages
from tests.benchmarks.results import Result, Table, progress
from tests.benchmarks.workload import UNRELATED, Query

MOST_MS, MOST_SLOWDOWN = 25.0, 0.10


def verification(
    result: Result, detector: Detector, queries: Sequence[Query], folder: Path, *, quick: bool
) -> None:
    """Measure on one thread: candidates of edited and unrelated queries, then scans with it on and off."""
    progress("judgement: what verification costs")
    edited = [folder / q.name for q in queries if q.reference][:: 4 if quick else 16]
    unrelated = [folder / q.name for q in queries if q.group == UNRELATED][: 20 if quick else 300]
    rows = []
    everything: list[float] = []
    for title, paths in (("edited", edited), ("unrelated", unrelated)):
        _, verified = stages.time_stages(detector, paths)
        everything += [wall for wall, _ in verified]
        ms, busy = np.asarray(verified or [(0.0, 0.0)]).T * 1e3
        spread = (ms.mean(), np.median(ms), np.percentile(ms, 95), busy.mean())
        rows.append((title, len(paths), len(verified), *(f"{value:.1f}" for value in spread)))
    columns = ("queries", "n", "candidates verified", "mean ms each", "median ms", "p95 ms", "mean CPU ms")
    result.tables.append(Table("Verification, one thread", columns, rows))
    result.bar("ms per verified candidate", float(np.mean(everything or [0.0])) * 1e3, most=MOST_MS)
    on, off = _paired(detector, unrelated, rounds=3 if quick else 7)
    ratios = np.asarray(on) / np.asarray(off)
    slower = float(np.median(ratios)) - 1.0
    reach = f"from {ratios.min():.3f} to {ratios.max():.3f}"
    note = f"{len(ratios)} pairs, on and off in turns, one thread; ratio of each pair {reach}."
    rows = [(len(unrelated), f"{np.median(off):.2f}", f"{np.median(on):.2f}", f"{slower:+.1%}")]
    columns = ("unrelated pictures", "off, s", "on, s", "slower by")
    result.tables.append(Table("A scan of unrelated pictures, verification off and on", columns, rows, note))
    result.bar("slowdown by verification, unrelated pictures", slower, most=MOST_SLOWDOWN)


def _paired(detector: Detector, paths: Sequence[Path], *, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of whole passes with verification on and off, in turns."""
    without = Detector(
        detector.index,
        scoring=detector.scoring,
        plausible=dataclasses.replace(detector.plausible, top=0),
    )
    spent: dict[bool, list[float]] = {True: [], False: []}
    with stages.one_thread():
        for turn in range(rounds):
            for verifies in (True, False) if turn % 2 else (False, True):
                used = detector if verifies else without
                started = time.perf_counter()
                for path in paths:
                    used.check(path)
                spent[verifies].append(time.perf_counter() - started)
    return spent[True], spent[False]
