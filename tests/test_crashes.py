"""Crash safety, with the pieces of the benchmark: operations interrupted at some of their writes, nothing lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.benchmarks import recording
from tests.benchmarks.crashes import Plan, measure
from tests.benchmarks.crashing import Tally
from tests.benchmarks.powercuts import Disk, Loss, written
from tests.benchmarks.recording import Entry, Kind

SEED = 20261121
SOME = Plan(kills=3, torn=1, cuts=1, failures=1, random_kills=20, rounds=2, readers_s=4.0, tower=False)

needs_recorder = pytest.mark.skipif(
    recording.compiler() is None, reason="file calls are recorded on Linux, with a C compiler (cc)"
)


# What a power cut leaves


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    return folder.resolve()


def left(disk: Disk, loss: Loss) -> dict[str, bytes | None]:
    return disk.survivors(loss, random.Random(3))


def test_bytes_are_there_for_sure_once_their_file_was_synced_and_names_once_their_folder_was(
    root: Path,
) -> None:
    disk = Disk(root)
    path = str(root / "new")
    disk.apply(Entry(Kind.CREATE, inode=7, path=path))
    disk.apply(Entry(Kind.WRITE, inode=7, offset=0, length=4, data=b"data"))
    assert left(disk, Loss.ALL) == {"old": b"old"}
    assert left(disk, Loss.DATA) == {"old": b"old", "new": b"\0\0\0\0"}
    assert left(disk, Loss.NONE) == {"old": b"old", "new": b"data"}
    disk.apply(Entry(Kind.SYNC, inode=7, path=path))
    assert left(disk, Loss.ALL) == {"old": b"old"}
    assert left(disk, Loss.DATA) == {"old": b"old", "new": b"data"}
    disk.apply(Entry(Kind.SYNC, inode=1, length=1, path=str(root)))
    assert left(disk, Loss.ALL) == {"old": b"old", "new": b"data"}


def test_a_rename_may_survive_where_the_bytes_do_not_and_the_other_way_round(root: Path) -> None:
    inode = (root / "old").stat().st_ino
    disk = Disk(root)
    disk.apply(Entry(Kind.WRITE, inode=inode, offset=1, length=1, data=b"N"))
    disk.apply(Entry(Kind.RENAME, inode=inode, path=str(root / "old"), second=str(root / "new")))
    assert left(disk, Loss.ALL) == {"old": b"old"}
    assert left(disk, Loss.DATA) == {"new": b"old"}
    assert left(disk, Loss.NAMES) == {"old": b"oNd"}
    disk.apply(Entry(Kind.TRUNCATE, inode=inode, length=1))
    disk.apply(Entry(Kind.UNLINK, inode=inode, path=str(root / "new")))
    assert left(disk, Loss.NAMES) == {"old": b"o"}
    assert left(disk, Loss.NONE) == {}


def test_what_lies_in_a_folder_that_is_gone_is_gone(root: Path, tmp_path: Path) -> None:
    disk = Disk(root)
    disk.apply(Entry(Kind.MKDIR, inode=5, path=str(root / "made")))
    disk.apply(Entry(Kind.CREATE, inode=6, path=str(root / "made" / "file")))
    disk.apply(Entry(Kind.SYNC, inode=5, length=1, path=str(root / "made")))
    assert left(disk, Loss.ALL) == {"old": b"old"}
    disk.apply(Entry(Kind.SYNC, inode=1, length=1, path=str(root)))
    written(left(disk, Loss.ALL), tmp_path / "again")
    assert (tmp_path / "again" / "made" / "file").read_bytes() == b""


# Operations interrupted


def counted(tallies: list[Tally]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tally in tallies:
        found[tally.fault] = found.get(tally.fault, 0) + tally.faults
    return found


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(1200)  # a minute on two idle cores
@needs_recorder
def test_operations_interrupted_anywhere_lose_nothing_and_the_same_command_completes_them(
    tmp_path: Path,
) -> None:
    tallies = measure(tmp_path, SOME, seed=SEED)
    assert [note for tally in tallies for note in tally.notes] == []
    assert [f"{tally.operation}, {tally.fault}" for tally in tallies if tally.bad] == []
    faults = counted(tallies)
    assert faults["killed at a write"] >= 40
    assert faults["killed at a random time"] == 20
    assert faults["power cut"] >= 100
    assert faults["disk full from a write on"] >= 15
    assert faults["20 readers meanwhile"] >= 20


@pytest.mark.slow
@pytest.mark.crash
@needs_recorder
@pytest.mark.parametrize(
    ("sabotage", "operation", "noticed"),
    [
        ("forget_to_sync", "build", "power cut"),
        ("forget_to_sync_rows", "add", "power cut"),
        ("forget_to_calibrate", "build", "killed at a write"),
    ],
)
def test_a_broken_product_is_noticed(sabotage: str, operation: str, noticed: str, tmp_path: Path) -> None:
    kills = 16 if noticed == "killed at a write" else 1
    plan = Plan(
        kills=kills,
        torn=1,
        cuts=6,
        failures=1,
        random_kills=0,
        rounds=0,
        readers_s=0,
        tower=False,
        only=(operation,),
    )
    tallies = measure(tmp_path, plan, seed=SEED, sabotage=sabotage)
    assert sum(tally.bad for tally in tallies if tally.fault == noticed) > 0
