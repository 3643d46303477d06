"""Speed of a scan of camera-sized JPEGs, whole chain, beside its limits and beside what tutorials put together.

All run in turns on the same cores and the same files, with a gallery that each side has described before; the scan in
worker processes that it starts each time, imagededup in processes of its own, the rest in this process. The script is
one as tutorials write it: imagehash, open_clip with the bundled tower's weights, faiss.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector import Detector, build_index
from detector.scan import PROCESSES_FROM, ScanOptions
from index.build import BuildOptions
from index.descriptors import create
from index.images import Picture, read_image
from index.keypoints import use_threads
from index.neural import BUNDLED
from index.regions import windows_of
from index.torch_tower import threads_as_before
from tests.benchmarks.build import LARGE, copied, enlarged
from tests.benchmarks.results import Options, Result, Table, progress

OURS, DECODING, TOWER = "scan", "decoding alone", "tower alone"
DEDUP, SCRIPT = "imagededup PHash, encode and find", "script of imagehash, open_clip and faiss"
LEAST_SHARE, LEAST_TIMES = 0.85, 2.0
SCRIPT_BATCHES = (1, 32)
NEAR = 10
"""Bits up to which the peers call two pHashes alike; imagededup's default."""


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("throughput")
    count, turns = (8, 2) if options.quick else (PROCESSES_FROM, 3)
    references = copied(options.data, work / "pictures", 60 if options.quick else 500)
    asked = enlarged(options.data, work / "large", count, options.seed)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    paths = sorted((work / "large").iterdir())
    ways = _ways(work, paths, workers)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        progress(f"throughput: turn {turn} of {turns}")
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    result = Result("throughput", pictures=references)
    _show(result, {name: asked / median(took[1:]) for name, took in seconds.items()}, workers, paths)
    result.figures["seconds"] = seconds
    return result


def _ways(work: Path, paths: Sequence[Path], workers: int) -> dict[str, Callable[[], object]]:
    folder = work / "art.index"
    shutil.rmtree(folder, ignore_errors=True)
    build_index(work / "pictures", folder, options=BuildOptions(workers=workers))
    detector = Detector.open(folder)

    def scanned() -> None:
        detector.scan(work / "large", options=ScanOptions(workers=workers, processes=True))

    def decoded() -> list[Picture]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(read_image, paths))

    ways: dict[str, Callable[[], object]] = {
        OURS: scanned,
        DECODING: decoded,
        TOWER: _tower(decoded(), workers),
        DEDUP: _dedup(work / "pictures", work / "large", workers),
    }
    for size in SCRIPT_BATCHES:
        ways[_script_name(size)] = _script(sorted((work / "pictures").iterdir()), paths, size, workers)
    return ways


def _script_name(size: int) -> str:
    return f"{SCRIPT}, batches of {size}"


def _tower(pictures: list[Picture], workers: int) -> Callable[[], None]:
    """What a scan has the tower do: each picture, its windows and its mirror image."""
    use_threads(1)
    tower = create("clip:bundled")
    parts = [pictures[start : start + 4] for start in range(0, len(pictures), 4)]

    def some(part: list[Picture]) -> None:
        tower.describe(part)
        tower.describe_mirrored(part)
        for picture in part:
            tower.describe(windows_of(picture))

    def go() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(some, parts))

    return go


def _dedup(gallery: Path, asked: Path, workers: int) -> Callable[[], None]:
    from imagededup.methods import PHash

    logging.disable(logging.INFO)
    peer = PHash(verbose=False)
    known = peer.encode_images(image_dir=str(gallery), num_enc_workers=workers)

    def go() -> None:
        found = peer.encode_images(image_dir=str(asked), num_enc_workers=workers)
        peer.find_duplicates(
            encoding_map={**known, **found}, max_distance_threshold=NEAR, num_dist_workers=workers
        )

    return go


def _script(gallery: Sequence[Path], asked: Sequence[Path], size: int, workers: int) -> Callable[[], None]:
    import faiss
    import imagehash
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{BUNDLED}")
    model.eval()

    def described(paths: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        vectors, hashes = [], []
        for start in range(0, len(paths), size):
            inputs: list[Any] = []
            for path in paths[start : start + size]:
                image = Image.open(path).convert("RGB")
                hashes.append(np.ravel(imagehash.phash(image).hash))
                inputs.append(preprocess(image))
            with torch.no_grad():
                rows = model.encode_image(torch.stack(inputs))
                rows /= rows.norm(dim=-1, keepdim=True)
            vectors.append(rows.numpy())
        return np.concatenate(vectors), np.stack(hashes)

    vectors, hashes = described(gallery)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)

    def go() -> None:
        torch.set_num_threads(workers)
        found, theirs = described(asked)
        index.search(found, 10)
        for row in theirs:
            np.flatnonzero((hashes != row).sum(axis=1) <= NEAR)
        threads_as_before()

    return go


def _show(result: Result, rates: dict[str, float], workers: int, paths: Sequence[Path]) -> None:
    ours = rates[OURS]
    rows = [(name, f"{rate:.1f}", f"{1000 / rate:.1f}", f"{ours / rate:.2f}") for name, rate in rates.items()]
    together = 1 / (1 / rates[DECODING] + 1 / rates[TOWER])
    rows.append(
        (
            "decoding and tower, one after the other",
            f"{together:.1f}",
            f"{1000 / together:.1f}",
            f"{ours / together:.2f}",
        )
    )
    size = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    note = (
        f"{len(paths)} JPEGs of {LARGE[0]}×{LARGE[1]}, {size:.1f} MB each, {result.pictures} references, {workers} "
        "workers, medians in turns after one unmeasured. The scan also finds keypoints and verifies candidates. "
        "Everything runs on the same cores, so that no scan can exceed the last row."
    )
    columns = ("what", "pictures a second", "ms a picture", "scan, in times of it")
    result.tables.append(Table("Scanning camera-sized JPEGs", columns, rows, note))
    script = max(rates[_script_name(batch)] for batch in SCRIPT_BATCHES)
    result.bar("share of the slower limit", ours / min(rates[DECODING], rates[TOWER]), least=LEAST_SHARE)
    result.bar("times as fast as imagededup", ours / rates[DEDUP], least=LEAST_TIMES)
    result.bar("times as fast as the script", ours / script, least=LEAST_TIMES)
    result.figures["pictures_per_second"] = {name: round(rate, 2) for name, rate in rates.items()}
