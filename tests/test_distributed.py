"""`detector.distributed`: the same index and findings from a Ray cluster as from one process, whatever dies."""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from detector import Detector, distributed
from detector.cli import app
from detector.scan import ScanOptions
from index.build import BuildOptions, BuildProgress, build_index
from index.errors import DetectorError, UsageError
from index.reference_index import ReferenceIndex

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
RAY = pytest.mark.ray
SLOW = pytest.mark.slow


def contents(folder: Path) -> dict[str, Any]:
    """All that an index says: ids, sizes, occurrences with credits, thumbnails, rows, rejections, calibration."""
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
        found: dict[str, Any] = {
            "rejected": [(r.locator, r.reason, r.detail) for r in index.rejected()],
            "calibration": index.calibration(),
            "specs": index.specs,
        }
        for number in index.reference_ids():
            rows = {s.name: index.store(s.name).rows_of(number).tobytes() for s in index.specs}
            found[str(number)] = (index.reference(number), index.thumbnail(number), rows)
        return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The sample artworks, files that cannot be read, a picture twice, and a shard."""
    folder = tmp_path_factory.mktemp("sources")
    artworks = folder / "artworks"
    artworks.mkdir()
    pictures = sorted(p for p in (SAMPLES / "artworks").iterdir() if p.suffix != ".csv")
    for path in (*pictures[::3], SAMPLES / "artworks" / "metadata.csv"):
        shutil.copy2(path, artworks)
    first = min(artworks.glob("*.jpg"))
    shutil.copy(first, artworks / "zz-again.jpg")
    (artworks / "broken.jpg").write_bytes(first.read_bytes()[:300])
    (artworks / "empty.png").write_bytes(b"")
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for number, picture in enumerate(sorted((SAMPLES / "edited").glob("*.png"))[:6]):
            shard.add(picture, f"{number:04}.png")
    return [artworks, folder / "shard.tar"]


@pytest.fixture(scope="module")
def alone(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index that this process makes by itself."""
    folder = tmp_path_factory.mktemp("alone") / "art.index"
    build_index(sources, folder, options=BuildOptions(workers=1))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers on this machine, for all tests here."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Workers find the deadly work below, and the checkout under test.
        folders = (str(SAMPLES.parent), str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        with distributed._connected("local", 2):
            yield ray


@RAY
@SLOW
def test_two_workers_make_the_index_of_one_process(
    cluster: Any, sources: list[Path], alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[BuildProgress] = []
    report = distributed.build_index(
        sources, tmp_path / "art.index", options=BuildOptions(workers=2), on_progress=steps.append
    )
    assert contents(tmp_path / "art.index") == contents(alone)
    assert {"corrupt", "empty"} <= {each.reason for each in report.rejections}
    assert steps[-1].done == report.occurrences + report.rejected
    assert capfd.readouterr().out == ""


@RAY
@SLOW
def test_a_worker_killed_in_the_middle_loses_nothing(
    cluster: Any, sources: list[Path], alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill_one(progress: BuildProgress) -> None:
        pids = workers_at_work()
        if len(killed) < 2 and progress.done >= 10 * (len(killed) + 1) and pids:
            assert os.getpid() not in pids
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    options = BuildOptions(workers=2, batch_size=8)
    distributed.build_index(sources, tmp_path / "art.index", options=options, on_progress=kill_one)
    assert len(killed) == 2
    assert contents(tmp_path / "art.index") == contents(alone)
    assert capfd.readouterr().out == ""


def workers_at_work() -> list[int]:
    """Return the processes of living actors."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended since
            if process.name().startswith("ray::_Hand"):
                found.append(process.pid)
    return sorted(found)


@RAY
@SLOW
def test_a_picture_that_kills_its_workers_is_rejected_and_the_others_kept(
    cluster: Any, sources: list[Path], alone: Path, tmp_path: Path
) -> None:
    deadly = min(sources[0].glob("*.jpg")).name
    work = DeadlyWork(deadly)
    crew = distributed._Crew(2, {"num_cpus": 1}, work)
    paths = sorted(sources[0].glob("*.jpg"))
    try:
        chunks = [paths[start : start + 4] for start in range(0, len(paths), 4)]
        results = [each for future in [crew.submit(len, c) for c in chunks] for each in future.result()]
    finally:
        crew.shutdown()
    expected = [distributed.WORKER_DIED if path.name == deadly else path.name for path in paths]
    assert [name for name, _ in results] == expected
    assert os.getpid() not in {pid for _, pid in results}


class DeadlyWork(distributed._Checking):
    """Names pictures; one of them takes the process down."""

    def __init__(self, deadly: str) -> None:
        values = {"folder": os.getcwd(), "version": distributed.__version__, "index": deadly, "lists": None}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return DeadlyWork, (self.index,)

    def for_actors(self) -> DeadlyWork:
        return self

    def prepare(self) -> None:
        pass

    def run(self, parcels: list[Any]) -> list[Any]:
        if any(parcel.item.name == self.index for parcel in parcels):
            os.kill(os.getpid(), signal.SIGKILL)
        return [(parcel.item.name, os.getpid()) for parcel in parcels]

    def refuse(self, item: Any, error: Any) -> Any:
        return error.reason, 0


@RAY
@SLOW
def test_findings_are_those_of_a_local_scan_to_the_byte(
    cluster: Any, sample_index: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "generated"
    queries.mkdir()
    for name in ("0001.png", "0006.png", "0012.png", "0027.png", "0033.png", "metadata.csv"):
        if (SAMPLES / "generated" / name).exists():
            shutil.copy(SAMPLES / "generated" / name, queries)
    (queries / "broken.png").write_bytes(b"no picture")
    with Detector.open(sample_index) as detector:
        detector.scan(queries, jsonl=tmp_path / "here.jsonl")
        options = ScanOptions(workers=2, batch_size=2)
        distributed.scan(detector, queries, jsonl=tmp_path / "there.jsonl", options=options)
        lines = (tmp_path / "here.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "half.jsonl").write_bytes(b"".join(lines[:2]))
        again = ScanOptions(workers=2, resume=True)
        distributed.scan(detector, queries, jsonl=tmp_path / "half.jsonl", options=again)
    assert len(lines) == 6
    assert (tmp_path / "there.jsonl").read_bytes() == b"".join(lines)
    assert (tmp_path / "half.jsonl").read_bytes() == b"".join(lines)


@RAY
@SLOW
def test_bytes_are_sent_where_a_worker_does_not_see_the_file(
    cluster: Any, sources: list[Path], alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    read = distributed._Describing.read

    def elsewhere(self: Any, item: Any) -> Any:
        return distributed._Parcel(item, Path("/nowhere") / item.path.name, item.size, item.mtime_ns)

    def noted(self: Any, item: Any) -> bytes:
        sent.append(item.locator)
        return read(self, item)

    monkeypatch.setattr(distributed._Describing, "pack", elsewhere)
    monkeypatch.setattr(distributed._Describing, "read", noted)
    report = distributed.build_index(sources, tmp_path / "art.index", options=BuildOptions(workers=2))
    assert len(sent) == report.occurrences + 2  # the broken and the empty file
    assert contents(tmp_path / "art.index") == contents(alone)


@RAY
@SLOW
def test_an_index_that_workers_cannot_open_stops_the_scan_at_once(
    cluster: Any, own_index: Path, tmp_path: Path
) -> None:
    with Detector.open(own_index) as detector:
        detector.index.descriptors()
        for spec in detector.index.specs:
            detector.index.store(spec.name)
        own_index.rename(tmp_path / "moved.index")
        with pytest.raises(DetectorError, match="Ray worker cannot do this"):
            distributed.scan(detector, SAMPLES / "generated" / "0001.png")


# The command line


def test_missing_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *words: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *words, **more)

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r'pip install "replication-detector\[ray\]"'):
        distributed.build_index(SAMPLES / "artworks", tmp_path / "art.index")


@RAY
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "nothing answers"),
        ("ray://127.0.0.1:1", "nothing answers"),
        ("somewhere", "is no address"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_written(
    address: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    out = tmp_path / "art.index"
    words = ["index", "build", str(SAMPLES / "artworks"), "--out", str(out), "--ray", address]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not out.exists()
