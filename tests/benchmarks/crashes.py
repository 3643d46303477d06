"""Crash safety: every operation killed, cut off from power and starved of disk at its writes; trouble around it.

The work is done by a process of its own (this module as a program), into which the recorder is preloaded. After each
fault the index is read, the same command is run again, and the outcome compared with that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import errno
import gc
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.crashing import Subject, Tally
from tests.benchmarks.operations import operations, warm_up
from tests.benchmarks.powercuts import Loss
from tests.benchmarks.recording import Mode, Recorder, compiled
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.surroundings import Surroundings
from tests.benchmarks.world import FIRST, SECOND, make_world

MEMORY_DISK = Path("/dev/shm")
ROOM = 1 << 28
"""Bytes free on a disk in memory for it to be used."""

TOWER_KILLS = 60
SHOWN_NOTES = 5

COLUMNS = ("lost", "unclean", "stuck", "differing", "crashed")


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        kills: Boundaries of each operation to kill it at, spread evenly; 0 for all.
        torn: Likewise, within writes.
        cuts: Moments of each operation to cut the power at.
        failures: Boundaries from which on the disk is full, and as many at which one call fails.
        random_kills: Over all operations.
        rounds: Of jumping clocks, and of several writers.
        readers_s: Seconds that readers read while a writer writes.
        tower: Interrupt a build with the bundled tower too, at no more than `TOWER_KILLS` writes: it is slow.
        only: Operations by name, and nothing around them; empty for everything.
    """

    kills: int
    torn: int
    cuts: int
    failures: int
    random_kills: int
    rounds: int
    readers_s: float
    tower: bool
    only: tuple[str, ...] = ()


FULL = Plan(0, 12, 25, 15, 200, 12, 60.0, True)
QUICK = Plan(8, 2, 4, 3, 20, 3, 10.0, True)


def run(options: Options) -> Result:
    """Measure."""
    plan = QUICK if options.quick else FULL
    tallies = measure(options.scratch("crashes"), plan, seed=options.seed)
    tallies = [tally for tally in tallies if tally.faults or tally.bad]
    result = Result("crashes", pictures=FIRST + SECOND)
    rows = [
        (t.operation, t.fault, t.faults, t.states, *(getattr(t, name) for name in COLUMNS)) for t in tallies
    ]
    note = (
        "States: different outcomes that were read, run again and compared; of searches with readers. Lost: "
        "something committed is gone, or is neither as before nor as after. Not clean: check() complains, or files "
        "stay behind. Differing: the same command again fails or gives another index. No words: an error that is "
        "no DetectorError. A power cut keeps what was synced, and of the rest nothing, the names, the bytes, some "
        "sectors and names at random, or all (the strict reading of POSIX), for SQLite's files like all others."
    )
    columns = (
        "operation",
        "fault",
        "faults",
        "states",
        "lost",
        "not clean",
        "stuck",
        "differing",
        "no words",
    )
    result.tables.append(Table(f"Interrupted operations, seed {options.seed}", columns, rows, note))
    result.figures["notes"] = [text for tally in tallies for text in tally.notes]
    for name, words in zip(COLUMNS, columns[4:], strict=True):
        result.bar(words, sum(getattr(tally, name) for tally in tallies), most=0)
    counted = dict.fromkeys(("killed at a write", "killed at a random time", "power cut"), 0)
    for tally in tallies:
        if tally.fault in counted:
            counted[tally.fault] += tally.faults
    floors = (100, 20, 300) if options.quick else (2000, 200, 2000)
    for (what, number), least in zip(counted.items(), floors, strict=True):
        result.bar(what, number, least=least)
    return result


def measure(scratch: Path, plan: Plan, *, seed: int, sabotage: str = "") -> list[Tally]:
    """Interrupt everything, in processes of their own.

    Args:
        scratch: For working files, where there is no disk in memory.
        plan: How much.
        seed: Of every random choice.
        sabotage: Name of a function of this module that breaks the product first, to see that it is noticed.

    Returns:
        What each kind of fault did to each operation.

    Raises:
        RuntimeError: There is no compiler for the recorder, or an operation fails undisturbed.
    """
    on_disk = not (os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > ROOM)
    work = scratch if on_disk else MEMORY_DISK / f"detector-crashes-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    tallies = []
    try:
        environment = {**os.environ, "LD_PRELOAD": str(compiled(scratch)), "OMP_NUM_THREADS": "1"}
        for tower in (False, True) if plan.tower else (False,):
            told = scratch / "tallies.json"
            told.unlink(missing_ok=True)
            command = [sys.executable, "-m", "tests.benchmarks.crashes", str(work / "here"), str(told)]
            command += [json.dumps(asdict(plan)), str(seed), sabotage, *(["--tower"] if tower else [])]
            subprocess.run(
                command,
                check=True,
                env=environment,
                cwd=Path(__file__).resolve().parents[2],
                stdout=subprocess.DEVNULL,
            )
            tallies += [Tally(**values) for values in json.loads(told.read_text(encoding="utf-8"))]
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"the process that interrupts ended with {error.returncode}") from error
    finally:
        if not on_disk:
            shutil.rmtree(work, ignore_errors=True)
    return tallies


# In the process of its own


def _tallies(work: Path, plan: Plan, *, seed: int, tower: bool) -> Iterator[Tally]:
    shutil.rmtree(work, ignore_errors=True)
    world = make_world(work / "world", seed=seed)
    warm_up(world, tower=tower)
    gc.freeze()  # so that forked children leave the parent's memory alone
    recorder, rng = Recorder(), random.Random(seed)
    chosen = [each for each in operations(tower=tower) if not plan.only or each.name in plan.only]
    kills = plan.kills or TOWER_KILLS if tower else plan.kills
    for number, operation in enumerate(chosen):
        subject = Subject(operation, world, work / "subject")
        writes, calls = subject.count(recorder, Mode.LOG), subject.count(recorder, Mode.FAIL_ONCE)
        times = plan.random_kills // len(chosen) + (number < plan.random_kills % len(chosen))
        yield subject.killed(recorder, _spread(writes, kills, rng), Mode.KILL)
        yield subject.killed(recorder, _spread(writes, plan.torn, rng), Mode.TEAR)
        yield subject.killed_at_times(rng, times)
        yield subject.power_cuts(recorder, rng, losses=tuple(Loss), most=plan.cuts)
        yield subject.failed(recorder, _spread(writes, plan.failures, rng), Mode.FULL, errno.ENOSPC)
        yield subject.failed(recorder, _spread(calls, plan.failures, rng), Mode.FAIL_ONCE, errno.EIO)
        yield subject.failed(recorder, [1], Mode.READ_ONLY, errno.EROFS)
    if not (tower or plan.only):
        around = Surroundings(world, work / "around", seed=seed)
        yield around.vanishing_source()
        yield around.jumping_clock(recorder, plan.rounds)
        yield around.several_writers(plan.rounds)
        yield around.no_permission()
        yield around.readers(plan.readers_s)
    gc.unfreeze()


def _spread(last: int, number: int, rng: random.Random) -> list[int]:
    """Return numbers from 1 to the last: all, or so many, one from each of as many equal stretches."""
    if number == 0 or number >= last:
        return list(range(1, last + 1))
    bounds = [last * n // number for n in range(number + 1)]
    return [rng.randint(low + 1, high) for low, high in itertools.pairwise(bounds)]


def forget_to_sync() -> None:
    """Break the product: folders are never synced."""
    from index import reference_index

    reference_index._sync_folder = lambda folder: None


def forget_to_calibrate() -> None:
    """Break the product: what an interrupted build left uncalibrated stays so."""
    from index.reference_index import ReferenceIndex

    opened: dict[int, int] = {}
    real = ReferenceIndex.__init__

    def remember(self: ReferenceIndex, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        opened[id(self)] = self._catalog.last_id

    ReferenceIndex.__init__ = remember  # type: ignore[method-assign]
    ReferenceIndex._added_since_calibration = (  # type: ignore[method-assign]
        lambda self: self._catalog.last_id - opened[id(self)]
    )


def forget_to_sync_rows() -> None:
    """Break the product: the bytes of segments are never synced."""
    from index import reference_index

    real = reference_index.write_segment

    def late(rows_path: Path, *given: object, **options: object) -> None:
        real(rows_path, *given, **options)  # type: ignore[arg-type]
        content = rows_path.read_bytes()
        rows_path.write_bytes(content)  # the same bytes, not synced

    reference_index.write_segment = late  # type: ignore[assignment]


SABOTAGES: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (forget_to_sync, forget_to_calibrate, forget_to_sync_rows)
}


def main() -> None:
    """Do the work of `measure`, and write the tallies down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("told", type=Path)
    parser.add_argument("plan", type=json.loads)
    parser.add_argument("seed", type=int)
    parser.add_argument("sabotage")
    parser.add_argument("--tower", action="store_true")
    given = parser.parse_args()
    if given.sabotage:
        SABOTAGES[given.sabotage]()
    tallies = []
    for tally in _tallies(given.work, Plan(**given.plan), seed=given.seed, tower=given.tower):
        progress(f"crashes: {tally.operation}, {tally.fault}: {tally.faults} faults, {tally.bad} bad")
        for text in tally.notes[:SHOWN_NOTES]:
            progress(f"crashes: {text}")
        tallies.append(asdict(tally))
    given.told.write_text(json.dumps(tallies), encoding="utf-8")


if __name__ == "__main__":
    main()
