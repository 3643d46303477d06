"""How fast pictures are described end to end (read, decode, hashes, tower), beside what that cannot exceed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from PIL import Image

from detector import build_index
from index.build import BuildOptions
from index.descriptors import BatchedDescriptor, create
from index.images import read_image
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import works_of

SIDE = 512
DRAFT = 256
"""Long side at which a build decodes for the hashes and an input of 128 pixels."""

NAMES = ("pdq", "phash", "clip:bundled")
LEAST_PER_SECOND = 250
LEAST_SHARE = 0.85


def speed(result: Result, options: Options) -> None:
    """Measure a build of 512-pixel JPEGs and its limits in turns."""
    folder = options.scratch("describing")
    paths = _jpegs(options.data, folder / "jpegs", 64 if options.quick else 512)
    workers = os.cpu_count() or 1
    tower = create("clip:bundled")
    assert isinstance(tower, BatchedDescriptor)
    inputs = [tower.prepare(read_image(path, draft_side=DRAFT)) for path in paths]
    hashers = [create(name) for name in NAMES[:2]]
    pictures = [read_image(path, draft_side=DRAFT) for path in paths]

    def built() -> None:
        shutil.rmtree(folder / "art.index", ignore_errors=True)
        build_index(
            folder / "jpegs",
            folder / "art.index",
            descriptors=NAMES,
            options=BuildOptions(thumbnails=False, workers=workers),
        )

    def each(work: Callable[[Path], object]) -> Callable[[], None]:
        def go() -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(work, paths, chunksize=8))

        return go

    def hashed() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda picture: [hasher.describe([picture]) for hasher in hashers], pictures))

    ways: dict[str, Callable[[], object]] = {
        "end to end": built,
        "decoding alone": each(lambda path: read_image(path, draft_side=DRAFT)),
        "hashes alone": hashed,
        "tower alone": lambda: tower.describe_prepared(inputs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(2 if options.quick else 6):
        progress(f"embedding: speed, turn {turn + 1}")
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    rates = {name: len(paths) / median(took[1:]) for name, took in seconds.items()}
    sum_of_parts = 1 / sum(1 / rates[name] for name in ways if name != "end to end")
    slower = min(rates["decoding alone"], rates["tower alone"])
    rows = [(name, f"{rate:.0f}", f"{rates['end to end'] / rate:.2f}") for name, rate in rates.items()]
    rows.append(
        (
            "decoding, hashes and tower, one after the other",
            f"{sum_of_parts:.0f}",
            f"{rates['end to end'] / sum_of_parts:.2f}",
        )
    )
    note = (
        f"{len(paths)} JPEGs of {SIDE} pixels, {workers} workers, medians in turns. Everything runs on the same cores: "
        "what decoding and hashing take, the tower lacks. The last row is what these cores can do at best."
    )
    columns = ("what", "pictures a second", "end to end, as a share of it")
    result.tables.append(Table("Describing", columns, rows, note))
    result.bar("pictures a second, end to end", rates["end to end"], least=LEAST_PER_SECOND)
    result.bar("share of the slower limit", rates["end to end"] / slower, least=LEAST_SHARE)
    result.figures["describing"] = {name: round(rate, 1) for name, rate in rates.items()}


def _jpegs(data: Path, out: Path, count: int) -> list[Path]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    works = works_of(data)
    paths = []
    for number in range(count):
        image: Image.Image = works[number % len(works)].open()
        turned = number // len(works)
        image = image.rotate(90 * turned, expand=True)
        scale = SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        paths.append(out / f"{number:05d}.jpg")
        image.resize(size, Image.Resampling.LANCZOS).save(paths[-1], quality=90)
    return paths
