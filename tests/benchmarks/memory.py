"""Peak memory of `detector scan` over many files against few: it must not grow with the folder."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import SUFFIXES

FEW, MANY = 500, 50_000
MOST_MB = 300.0


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("memory")
    many = 2_000 if options.quick else MANY
    found = _small_pictures(options.data, work / "few", FEW, options.seed)
    _linked(work / "few", work / "many", many)
    shutil.rmtree(work / "art.index", ignore_errors=True)
    detector = [sys.executable, "-m", "detector"]
    build = [
        "index",
        "build",
        str(options.data),
        "--out",
        str(work / "art.index"),
        "--descriptors",
        "pdq,phash",
    ]
    subprocess.run([*detector, *build], check=True, stdout=subprocess.DEVNULL)
    rows, peaks = [], {}
    for name, count in (("few", FEW), ("many", many)):
        progress(f"memory: a scan of {count} files")
        scan = [
            "scan",
            str(work / name),
            "--index",
            str(work / "art.index"),
            "--jsonl",
            str(work / f"{name}.jsonl"),
            "--quiet",
        ]
        peak, seconds = _peak_mb([*detector, *scan])
        with (work / f"{name}.jsonl").open(encoding="utf-8") as stream:
            lines = sum(1 for _ in stream)
        if lines != count:
            raise RuntimeError(f"the scan wrote {lines} lines for {count} files")
        peaks[name] = peak
        rows.append((count, f"{peak:.0f}", f"{seconds:.1f}", f"{count / seconds:.0f}"))
    difference = peaks["many"] - peaks["few"]
    note = (
        f"Difference: {difference:+.0f} MB. Descriptors pdq and phash, no model; {found} small JPEGs, linked."
    )
    result = Result("memory", pictures=found)
    columns = ("files", "peak resident MB", "s", "files/s")
    result.tables.append(Table("Memory of `detector scan`, child processes included", columns, rows, note))
    result.bar("MB that the large scan takes beyond the small one", difference, most=MOST_MB)
    result.figures["peak_mb"] = peaks
    return result


def _peak_mb(command: list[str]) -> tuple[float, float]:
    """Run a command; return the peak of its resident memory, children included, and its seconds."""
    started = time.monotonic()
    peak = 0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        watched = psutil.Process(child.pid)
        while True:
            try:
                child.wait(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, _resident(watched))
        said.seek(0)
        error = said.read().decode(errors="replace")
    if child.returncode not in (0, 1):
        raise RuntimeError(f"detector scan ended with {child.returncode}: {error[-500:]}")
    return peak / 1e6, time.monotonic() - started


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            # The kernel's own high-water mark misses nothing between two looks, where there is one.
            total += _high_water(one.pid) or one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def _high_water(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _small_pictures(source: Path, out: Path, count: int, seed: int) -> int:
    """Write small distinct JPEGs: windows of the folder's pictures."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    found = [path for path in sorted(source.iterdir()) if path.suffix.lower() in SUFFIXES]
    rng = random.Random(seed)
    for number in range(count):
        with Image.open(found[number % len(found)]) as image:
            whole = image.convert("RGB")
        side = max(16, int(min(whole.size) * rng.uniform(0.3, 0.9)))
        x, y = rng.randint(0, whole.width - side), rng.randint(0, whole.height - side)
        size = rng.randint(64, 128)
        whole.crop((x, y, x + side, y + side)).resize((size, size)).save(
            out / f"{number:05d}.jpg", quality=85
        )
    return count


def _linked(source: Path, out: Path, count: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    paths = sorted(source.iterdir())
    for number in range(count):
        path, target = paths[number % len(paths)], out / f"{number:06d}.jpg"
        try:
            os.link(path, target)
        except OSError:  # no hard links here, or too many of one file
            shutil.copyfile(path, target)
