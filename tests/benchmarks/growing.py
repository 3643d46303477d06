"""What a picture costs to add to a small index and to a large one: the whole command, pixels, calibration and all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from index.reference_index import ReferenceIndex
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import SUFFIXES

SMALL, LARGE, QUICK_LARGE = 2_000, 100_000, 10_000
PICTURES, QUICK_PICTURES = 500, 60
TURNS = 3
MOST_GROWTH = 1.1


def measure(result: Result, options: Options, work: Path) -> None:
    """Add the same real pictures to copies of both indexes, in turns; one process each, as users do."""
    from tests.benchmarks.scale import build

    sizes = (SMALL, QUICK_LARGE if options.quick else LARGE)
    for size in sizes:
        shutil.rmtree(work / f"{size}.index", ignore_errors=True)
        build(work / f"{size}.index", work / f"{size}.npz", size, 1, options.seed)
        with ReferenceIndex.open(work / f"{size}.index", writable=True) as index:
            index.calibrate()  # as the build that made it would have
    pictures = work / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    found = sorted(path for path in options.data.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in found[: QUICK_PICTURES if options.quick else PICTURES]:
        shutil.copy(path, pictures)
    count = len(list(pictures.iterdir()))
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(TURNS + 1):
        progress(f"scale: adding {count} pictures, turn {turn} of {TURNS}")
        for size in sizes if turn % 2 else sizes[::-1]:
            copy = work / "copy.index"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(work / f"{size}.index", copy)
            command = [sys.executable, "-m", "detector", "index", "add", str(pictures), "--out", str(copy)]
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[size].append(time.perf_counter() - started)
    rows = [
        (f"{size:,}", f"{median(took[1:]):.1f}", f"{median(took[1:]) / count * 1e3:.1f}")
        for size, took in seconds.items()
    ]
    note = (
        f"`detector index add` of {count} pictures from beginning to end, described with pdq, phash and the "
        f"bundled tower, {TURNS} turns after one unmeasured, medians."
    )
    result.tables.append(Table("Adding pictures", ("references before", "s", "ms a picture"), rows, note))
    pairs = [large / small for small, large in zip(*(seconds[size][1:] for size in sizes), strict=True)]
    result.bar(f"adding pictures to {sizes[1]:,}, in times of to {SMALL:,}", median(pairs), most=MOST_GROWTH)
    result.figures["adding_pictures_s"] = {str(size): took for size, took in seconds.items()}
