"""`index.workers`: processes where forking is sound, threads elsewhere, and nobody can tell from the index."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index import descriptors, workers
from index.build import BuildOptions, build_index
from index.errors import DetectorError, UnreadableImageError
from index.images import Picture, read_image
from index.reference_index import ReferenceIndex
from index.sources import open_source
from index.workers import THREADED_LIBRARIES, Describer, can_fork, describe_all

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTORS = ("pdq", "phash", "keypoints")
"""Without a neural one, which loads a library with threads."""

forks = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight small pictures, one of them twice, and a broken one."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for number in range(48):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        coarse.resize((144, 108), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    (folder / "again.png").write_bytes((folder / "07.png").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "07.png").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def peaceful(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peace") / "art.index"
    build_index(pictures, folder, descriptors=DESCRIPTORS, options=BuildOptions(workers=1))
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """By digest: places, size, thumbnail and all rows; ids, which say the order, beside them."""
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
        found: dict[str, Any] = {"rejected": [(r.locator, r.reason, r.detail) for r in index.rejected()]}
        for number in index.reference_ids():
            known = index.reference(number)
            assert known is not None
            record, occurrences = known
            rows = {s.name: index.store(s.name).rows_of(number).tobytes() for s in index.specs}
            places = sorted(o.path for o in occurrences)
            found[record.sha256] = (
                number,
                record.width,
                record.height,
                places,
                index.thumbnail(number),
                rows,
            )
        return found


def script(text: str, *words: str | Path) -> str:
    """Run Python in a process of its own, where nothing heavy is loaded, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


# Whether to fork


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process as it starts: one thread, no library with threads of its own."""
    monkeypatch.setattr(workers, "THREADED_LIBRARIES", tuple(f"{name}_absent" for name in THREADED_LIBRARIES))
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        pytest.skip(f"another suite left threads running: {others}")
    return monkeypatch


@forks
def test_a_bare_process_can_fork(bare: pytest.MonkeyPatch) -> None:
    assert can_fork()


@forks
def test_a_second_thread_speaks_against_forking(bare: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        done.set()
        thread.join()
    assert can_fork()


@forks
@pytest.mark.parametrize("name", THREADED_LIBRARIES)
def test_a_library_with_threads_speaks_against_forking(bare: pytest.MonkeyPatch, name: str) -> None:
    bare.setitem(sys.modules, f"{name}_absent", ModuleType(name))
    assert not can_fork()


def test_libraries_with_threads_are_torch_faiss_and_opencv() -> None:
    assert set(THREADED_LIBRARIES) == {"torch", "faiss", "cv2"}


def test_other_systems_do_not_fork(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(sys, "platform", "darwin")
    assert not can_fork()


class Means:
    """A batched descriptor: the mean colour of a picture at two by two pixels."""

    batched = True

    def __init__(self, *, in_workers: bool) -> None:
        self.in_workers = in_workers
        self.batches: list[int] = []

    def prepare(self, picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(picture.to_pil().resize((2, 2)))

    def describe_prepared(self, inputs: list[Any]) -> list[Any]:
        self.batches.append(len(inputs))
        return [one.mean(axis=(0, 1), dtype=np.float32)[None] for one in inputs]


@pytest.mark.parametrize(("count", "models"), [(1, False), (2, True)])
def test_one_worker_or_inputs_to_hand_over_mean_threads(
    bare: pytest.MonkeyPatch, count: int, models: bool
) -> None:
    bare.setattr(workers, "can_fork", lambda: True)
    batched: Any = {"means": Means(in_workers=True)} if models else {}
    with workers.start(count, Describer({}, set(), False, batched, True, False, 256, 10**8)) as pool:
        assert isinstance(pool, ThreadPoolExecutor)


# What comes back


@forks
def test_processes_and_threads_describe_alike(pictures: Path) -> None:
    said = script(
        """
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import astuple, replace
from index import descriptors, workers
from index.sources import open_source

items = list(open_source(sys.argv[1]))
made = {name: descriptors.create(name) for name in ("pdq", "phash", "keypoints")}
describer = workers.Describer(made, set(), True, {}, True, False, 256, 10**8)
found = []
for kind in (ProcessPoolExecutor, ThreadPoolExecutor):
    with workers.start(2, describer) as pool:
        assert isinstance(pool, kind), pool
        found.append(pool.submit(workers.describe_all, items).result())
    import cv2  # so that the next are threads

assert len(items) == len(found[0]) == len(found[1]) == 50
for one, other in zip(*found):
    assert one.item == other.item and one.sha256 == other.sha256 and one.thumbnail == other.thumbnail
    assert one.credits == other.credits and str(one.error) == str(other.error)
    assert one.rows.keys() == other.rows.keys()
    for name in one.rows:
        assert one.rows[name].dtype == other.rows[name].dtype
        assert one.rows[name].tobytes() == other.rows[name].tobytes(), name
    if one.error is None:
        assert one.thumbnail and (one.picture.width, one.picture.height) == (144, 108)
        assert one.picture.pixels.size == other.picture.pixels.size == 0
print([one.error.reason for one in found[0] if one.error])
""",
        pictures,
    )
    assert len(json.loads(said.replace("'", '"'))) == 1


@pytest.mark.parametrize("in_workers", [True, False])
@pytest.mark.parametrize(("squares", "regions"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_worker_prepares_pictures_for_models_and_describes_where_that_is_faster(
    pictures: Path, in_workers: bool, squares: bool, regions: bool
) -> None:
    items = [item for item in open_source(pictures) if "0" in Path(item.locator).stem]
    model: Any = Means(in_workers=in_workers)
    with workers.start(
        1, Describer({}, set(), False, {"means": model}, squares, regions, 256, 10**8)
    ) as pool:
        found = pool.submit(describe_all, items).result()
    rows = 1 + squares + 5 * regions
    if not in_workers:
        assert not model.batches
        assert all(len(d.inputs["means"]) == rows for d in found)
        workers.describe_batch("means", model, found)
        assert model.batches == [rows * len(items)]
    else:  # so many at once whatever the number of pictures
        assert model.batches == [workers.GROUP] * math.ceil(rows * len(items) / workers.GROUP)
    for described, item in zip(found, items, strict=True):
        assert described.inputs == {}
        assert described.rows["means"].shape == (rows, 3)
        whole = model.describe_prepared([model.prepare(read_image(item.read()))])[0]
        assert np.allclose(described.rows["means"][:1], whole)


def test_a_worker_skips_what_is_known_and_keeps_no_pixels(pictures: Path) -> None:
    items = [item for item in open_source(pictures) if "0" in Path(item.locator).stem]
    made = {"pdq": descriptors.create("pdq")}

    def described(known: set[str]) -> list[workers.Described]:
        with workers.start(1, Describer(made, known, False, {}, True, False, 256, 10**8)) as pool:
            return pool.submit(describe_all, items).result()

    first = described(set())
    assert all(d.picture is not None and d.picture.pixels.size == 0 for d in first)
    assert all(d.thumbnail is None for d in first)
    again = described({first[0].sha256})
    assert again[0].picture is None
    assert again[0].sha256 == first[0].sha256
    assert again[0].rows == {}
    assert again[1].rows["pdq"].tobytes() == first[1].rows["pdq"].tobytes()


@pytest.mark.parametrize("detail", ["", "broken data stream, at byte 17"])
def test_an_unreadable_image_keeps_its_facts_between_processes(detail: str) -> None:
    error = UnreadableImageError("shard.tar::a (1).jpg", "truncated", detail)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is UnreadableImageError
        assert isinstance(back, DetectorError)
        assert (back.locator, back.reason, back.detail) == (error.locator, error.reason, detail)
        assert str(back) == str(error)


# Builds


@forks
def test_forked_workers_build_the_index_that_one_thread_builds(
    pictures: Path, peaceful: Path, tmp_path: Path
) -> None:
    out = tmp_path / "forked.index"
    said = script(
        """
import sys
from index import build, workers
kinds = []
started = lambda *args: (kinds.append(workers.start(*args)), kinds[-1])[1]
options = build.BuildOptions(workers=2, batch_size=10)
names = ("pdq", "phash", "keypoints")
report = build.build_index(sys.argv[1], sys.argv[2], descriptors=names, options=options, start_workers=started)
print(type(kinds[0]).__name__, report.added, report.occurrences, report.rejected)
""",
        pictures,
        out,
    )
    assert said.split() == ["ProcessPoolExecutor", "48", "49", "1"]
    assert contents(out) == contents(peaceful)


@forks
def test_killed_workers_end_a_build_in_words_and_the_next_one_goes_on(
    pictures: Path, peaceful: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed.index"
    said = script(
        """
import multiprocessing, sys
from index import build
from index.errors import UsageError

def kill(progress):
    if progress.added >= 8:  # later pictures have not been handed out yet
        for child in multiprocessing.active_children():
            child.kill()  # the pool may have reaped it since

try:
    options = build.BuildOptions(workers=2, batch_size=4)
    names = ("pdq", "phash", "keypoints")
    build.build_index(sys.argv[1], sys.argv[2], descriptors=names, options=options, on_progress=kill)
except UsageError as error:
    print(error)
""",
        pictures,
        out,
    )
    assert "a worker process died" in said
    assert "What was committed is kept" in said
    assert "--workers 1" in said
    with ReferenceIndex.open(out) as index:
        kept = len(index)
        assert index.check() == []
    assert 8 <= kept < 48
    report = build_index(pictures, out, options=BuildOptions(workers=1))
    assert report.added == 48 - kept
    assert report.unchanged >= kept
    assert contents(out) == contents(peaceful)
