"""`detector.processes`: a scan by worker processes finds what one by threads finds, and outlives its workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detector import Detector, processes
from detector import scan as scanning
from detector.scan import ScanOptions
from index.build import BuildOptions, build_index
from index.reference_index import ReferenceIndex

ROOT = Path(__file__).resolve().parents[1]
BY_PROCESSES = ScanOptions(workers=2, batch_size=4, processes=True)


@pytest.fixture(scope="module")
def detector(sample_index: Path) -> Iterator[Detector]:
    with Detector.open(sample_index) as opened:
        yield opened


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pools of processes that scans start, which they do here for any number of pictures."""
    pools: list[Any] = []
    start = processes.start

    def kept(*arguments: Any) -> Any:
        pools.append(start(*arguments))
        return pools[-1]

    monkeypatch.setattr(processes, "start", kept)
    monkeypatch.setattr(scanning, "PROCESSES_FROM", 1)
    return pools


@pytest.fixture
def expected(detector: Detector, edited: Path, tmp_path: Path) -> bytes:
    detector.scan(edited, jsonl=tmp_path / "threads.jsonl", options=ScanOptions(workers=2))
    return (tmp_path / "threads.jsonl").read_bytes()


@pytest.mark.slow
def test_findings_are_those_of_threads_byte_for_byte(
    detector: Detector, edited: Path, tmp_path: Path, started: list[Any], expected: bytes
) -> None:
    detector.scan(edited, jsonl=tmp_path / "found.jsonl", options=BY_PROCESSES)
    assert len(started) == 1
    assert (tmp_path / "found.jsonl").read_bytes() == expected


@pytest.mark.slow
def test_a_scan_outlives_its_workers(
    detector: Detector, edited: Path, tmp_path: Path, started: list[Any], expected: bytes
) -> None:
    def kill(progress: Any) -> None:
        if progress.done == 1:
            for process in started[0]._processes.values():
                os.kill(process.pid, signal.SIGKILL)

    found = detector.scan(edited, jsonl=tmp_path / "found.jsonl", options=BY_PROCESSES, on_progress=kill)
    assert found.summary.queries == 45
    assert (tmp_path / "found.jsonl").read_bytes() == expected


@pytest.mark.slow
def test_an_index_that_changed_meanwhile_is_searched_as_it_is_open_here(
    own_index: Path, edited: Path, started: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with Detector.open(own_index) as opened:
        references = len(opened.index)
        with ReferenceIndex.open(own_index, writable=True) as writing:
            writing.remove(artist="Lien Abara")
        found = opened.scan(edited, options=BY_PROCESSES)
        assert found.summary.queries == 45
        assert len(opened.index) == references
    assert len(started) == 1
    assert capfd.readouterr().err == ""


def test_threads_do_few_pictures_and_all_that_a_script_asks_for(
    detector: Detector, edited: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = sorted(edited.glob("*.png"))[:2]
    detector.scan(some, options=ScanOptions(workers=2))
    detector.scan(some, options=ScanOptions(workers=1, processes=True))
    monkeypatch.setattr(scanning, "PROCESSES_FROM", 3)
    detector.scan(some, options=ScanOptions(workers=2, processes=True))
    assert not started


def test_a_model_that_only_torch_runs_is_shared_by_threads(
    edited: Path, tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.neural.open_tower", lambda *_: None)
    (tmp_path / "works").mkdir()
    shutil.copy(sorted(edited.glob("*.png"))[0], tmp_path / "works")
    build_index(tmp_path / "works", tmp_path / "art.index", options=BuildOptions(workers=1))
    with Detector.open(tmp_path / "art.index") as opened:
        opened.scan(tmp_path / "works", options=BY_PROCESSES)
        assert not processes.can_share(opened)
    assert not started


@pytest.fixture
def scanning_many(sample_index: Path, artworks: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A scan of many pictures from the command line, in a process group of its own; its workers have been started."""
    for number in range(3):
        shutil.copytree(artworks, tmp_path / "many" / str(number))
    command = [sys.executable, "-m", "detector", "scan", str(tmp_path / "many"), "--index", str(sample_index)]
    with subprocess.Popen(
        [*command, "--workers", "2", "--quiet", "--jsonl", "found.jsonl"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # in the background it is inherited ignored
    ) as parent:
        wait_for(lambda: len(children_of(parent.pid)) >= 2 or None)
        yield parent
        if parent.poll() is None:
            parent.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("seconds", [0.0, 0.3, 3.0])
def test_an_interrupt_ends_all_without_a_word_from_workers(
    seconds: float, scanning_many: subprocess.Popen[str]
) -> None:
    children = children_of(scanning_many.pid)
    time.sleep(seconds)
    os.killpg(scanning_many.pid, signal.SIGINT)
    _, said = scanning_many.communicate(timeout=60)
    assert scanning_many.returncode == 130
    assert "Go on with" in said
    assert "Traceback" not in said, said
    assert "KeyboardInterrupt" not in said
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children) or None)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed(scanning_many: subprocess.Popen[str]) -> None:
    time.sleep(2)
    children = children_of(scanning_many.pid)
    scanning_many.kill()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children) or None)


def children_of(parent: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def wait_for(asked: Any, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while (answer := asked()) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    return answer
