"""Speed of an index build, hash descriptors only, beside imagededup's PHash, same workers, in turns."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.encoders import HASHES, KEYPOINTS, PEER, THUMBNAILS
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import SUFFIXES

LARGE = (4000, 3000)
Times = dict[str, list[float]]


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("build")
    pairs = 2 if options.quick else 7
    small = copied(options.data, work / "pictures")
    large = enlarged(options.data, work / "large", 6 if options.quick else 40, options.seed)
    result = Result("build", pictures=small)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for title, folder, count, least in (
        ("the folder", work / "pictures", small, 1.0),
        (f"{LARGE[0]}×{LARGE[1]} JPEGs", work / "large", large, 2.0),
    ):
        progress(f"build: {title}, {count} pictures, {workers} workers, {pairs} pairs")
        warm = _warm(folder, work / "art.index", workers, pairs)
        inner, outer = _fresh(folder, work / "art.index", workers, pairs)
        rows = []
        for how, times in (
            ("warm", warm),
            ("fresh process", inner),
            ("fresh process, imports and all", outer),
        ):
            for name in times:
                ratios = np.asarray(times[PEER]) / np.asarray(times[name])
                middle = float(np.median(times[name]))
                rows.append((how, name, f"{middle:.2f}", f"{count / middle:.0f}", _reach(ratios)))
                result.figures[f"{title} / {how} / {name}"] = {
                    "seconds": times[name],
                    "ratio": float(np.median(ratios)),
                }
        note = (
            f"{count} pictures, {workers} workers each. Ratio: the peer's time over this one, median of the "
            "pairs run in turns (least–most); above 1 is faster than the peer. Ours decodes, hashes (pdq and "
            "phash), digests, reads credits and commits an index; the peer returns a dictionary of pHashes."
        )
        columns = ("run", "encoder", "median s", "pictures/s", "times as fast as the peer")
        result.tables.append(Table(f"Build from {title}", columns, rows, note))
        for how, times in (("warm", warm), ("fresh process", inner)):
            ratio = float(np.median(np.asarray(times[PEER]) / np.asarray(times[HASHES])))
            result.bar(f"{title}, {how}: times as fast as imagededup", ratio, least=least)
    return result


def _warm(folder: Path, out: Path, workers: int, pairs: int) -> Times:
    """In one process, after one unmeasured run of each: A B A B …, then the dearer variants of ours."""
    turns = [name for n in range(pairs + 1) for name in ((PEER, HASHES) if n % 2 else (HASHES, PEER))]
    runs, _ = _child(folder, out, workers, turns + [THUMBNAILS, KEYPOINTS] * pairs)
    times: Times = defaultdict(list)
    for name, seconds, _ in runs:
        times[name].append(seconds)
    return {name: values[1:] if name in (PEER, HASHES) else values for name, values in times.items()}


def _fresh(folder: Path, out: Path, workers: int, pairs: int) -> tuple[Times, Times]:
    """A new process each time: seconds without imports, and of the whole process."""
    inner: Times = {PEER: [], HASHES: []}
    outer: Times = {PEER: [], HASHES: []}
    for turn in range(pairs):
        for name in (PEER, HASHES) if turn % 2 else (HASHES, PEER):
            runs, seconds = _child(folder, out, workers, [name])
            inner[name].append(runs[0][1])
            outer[name].append(seconds)
    return inner, outer


def _child(
    folder: Path, out: Path, workers: int, names: Sequence[str]
) -> tuple[list[tuple[str, float, int]], float]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.benchmarks.encoders",
        str(folder),
        str(out),
        str(workers),
    ]
    started = time.perf_counter()
    done = subprocess.run([*command, *names], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    runs = [(str(name), float(s), int(count)) for name, s, count in json.loads(done.stdout.splitlines()[-1])]
    if len({count for _, _, count in runs}) != 1:
        raise RuntimeError(f"encoders disagree on how many pictures there are: {runs}")
    return runs, seconds


def _reach(ratios: np.ndarray) -> str:  # type: ignore[type-arg]
    return f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})"


def copied(source: Path, out: Path, most: int | None = None) -> int:
    """Copy the pictures alone, the first so many or all: the peer reads every file of a folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    found = [path for path in sorted(source.iterdir()) if path.suffix.lower() in SUFFIXES][:most]
    for path in found:
        shutil.copyfile(path, out / path.name)
    return len(found)


def enlarged(source: Path, out: Path, count: int, seed: int) -> int:
    """Write camera-sized JPEGs: pictures of the folder enlarged, with grain, at quality 90."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    found = [path for path in sorted(source.iterdir()) if path.suffix.lower() in SUFFIXES]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    noise = np.random.default_rng(seed)
    for number, path in enumerate(chosen):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC), np.int16)
        grain = noise.integers(-12, 13, pixels.shape[:2], np.int16)
        grained = np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8)
        Image.fromarray(grained).save(out / f"large-{number:03d}.jpg", quality=90)
    return len(chosen)
