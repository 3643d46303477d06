"""One operation interrupted in every way: killed at each write, at random times, by power cuts, by full disks.

Runs inside the process that `recorder.c` is preloaded into. Every run and every check of an index is a forked child,
so that nothing of a killed one is left in memory, and a stuck one can be told.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from index.catalog import Catalog
from index.errors import DetectorError
from tests.benchmarks import powercuts
from tests.benchmarks.contents import Seen, differing, leavings, lost, seen
from tests.benchmarks.operations import Operation
from tests.benchmarks.powercuts import Disk, Loss
from tests.benchmarks.recording import Entry, Kind, Mode, Recorder, entries
from tests.benchmarks.world import World

LONGEST_S = 60.0
"""An operation or a check that takes longer is stuck: they take less than a second each."""


@dataclass
class Tally:
    """What one kind of fault did to one operation.

    Attributes:
        faults: Injected.
        states: Different states of the disk that were checked.
        lost: Times that something committed was gone, or something appeared that nobody put there.
        unclean: Times that `check` complained, or files were left behind.
        stuck: Times that the operation, or what came after, did not end.
        differing: Times that the same command did not end well, or gave another index than the undisturbed one.
        crashed: Times that an error without words for a user came out.
        notes: What was wrong, with the fault's number.
    """

    operation: str
    fault: str
    faults: int = 0
    states: int = 0
    lost: int = 0
    unclean: int = 0
    stuck: int = 0
    differing: int = 0
    crashed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """Everything that should not be, together."""
        return self.lost + self.unclean + self.stuck + self.differing + self.crashed

    def judge(self, at: str, found: Outcome) -> None:
        """Count what a check found."""
        self.states += 1
        if found.how != "done":
            setattr(self, "stuck" if found.how == "stuck" else "crashed", 1 + self._count(found.how))
            self.notes.append(f"{self.operation}, {self.fault}, {at}: {found.how}: {found.value}")
            return
        for what, problems in found.value.items():
            if problems:
                setattr(self, what, getattr(self, what) + 1)
                self.notes.append(f"{self.operation}, {self.fault}, {at}: {what}: {'; '.join(problems[:3])}")

    def _count(self, how: str) -> int:
        return self.stuck if how == "stuck" else self.crashed


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        how: ``done``, ``refused`` (an error in words), ``crashed`` (any other), ``killed`` or ``stuck``.
        value: What it returned, or the error.
    """

    how: str
    value: Any = None


def in_child(work: Callable[[], Any], *, kill_after: float | None = None) -> Outcome:
    """Run something in a forked child.

    Args:
        work: Returns JSON values.
        kill_after: Seconds after which the child is killed.

    Returns:
        How it ended.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.setpgid(0, 0)
        try:
            answer = ["done", work()]
        except DetectorError as error:
            answer = ["refused", str(error)]
        except BaseException:
            answer = ["crashed", traceback.format_exc()[-1500:]]
        with os.fdopen(writing, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writing)
    told = b""
    until = time.monotonic() + (LONGEST_S if kill_after is None else kill_after)
    late = False
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while True:
            if not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                late = True
                break
            part = stream.read(65536)
            if not part:
                break
            told += part
    if late:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if late and kill_after is None:
        return Outcome("stuck", f"after {LONGEST_S:g} s")
    try:
        how, value = json.loads(told)
    except ValueError:
        return Outcome("killed")
    return Outcome(how, value)


class Subject:
    """An operation with the index it starts from, and what that is before and after it."""

    def __init__(self, operation: Operation, world: World, scratch: Path) -> None:
        """Prepare, and run it undisturbed."""
        self.operation = operation
        self.world = world
        self._scratch = scratch
        self._number = 0
        self.start = scratch / "start"
        shutil.rmtree(scratch, ignore_errors=True)
        self.start.mkdir(parents=True)
        self._must(lambda: operation.prepare(world, self._index(self.start)) and None)
        there = (self._index(self.start) / "manifest.json").exists()
        self.before: Seen | None = self._must(lambda: self._seen(self.start)) if there else None
        whole = self.case()
        started = time.monotonic()
        self._must(lambda: operation.run(world, self._index(whole)) and None)
        self.seconds = time.monotonic() - started
        self.after: Seen = self._must(lambda: self._seen(whole))
        problems = self.after["check"] + leavings(
            whole, self._index(whole), erases=operation.erases, now=self.after
        )
        if problems:
            raise RuntimeError(f"{operation.name}, undisturbed: {problems}")
        shutil.rmtree(whole)

    @staticmethod
    def _must(work: Callable[[], Any]) -> Any:
        outcome = in_child(work)
        if outcome.how != "done":
            raise RuntimeError(f"in peace: {outcome.how}: {outcome.value}")
        return outcome.value

    def _seen(self, case: Path) -> Seen:
        return plain(seen(self._index(case), self.world))

    @staticmethod
    def _index(case: Path) -> Path:
        return case / "art.index"

    def case(self) -> Path:
        """Return a new folder with the index as it is before the operation."""
        self._number += 1
        return Path(shutil.copytree(self.start, self._scratch / f"case-{self._number}"))

    def run(self, case: Path) -> None:
        """Run the operation here."""
        self.operation.run(self.world, self._index(case))

    def check(self, case: Path, *, generation: int = 0, finished: bool = False) -> Outcome:
        """Look at an interrupted index as a reader, run the command again, look once more; in a child.

        Args:
            case: Removed afterwards.
            generation: Commits that had returned.
            finished: The operation had, so that all of it must be there.
        """
        outcome = in_child(lambda: self._check(case, generation, finished))
        shutil.rmtree(case)
        return outcome

    def _check(self, case: Path, generation: int, finished: bool) -> dict[str, list[str]]:
        folder = self._index(case)
        problems: dict[str, list[str]] = {"lost": [], "unclean": [], "differing": [], "crashed": []}
        if self.before is not None or generation or finished or (folder / "manifest.json").exists():
            try:
                now = self._seen(case)
            except DetectorError as error:
                problems["lost"].append(f"cannot be read: {error}")
            except Exception:
                problems["crashed"].append(f"reading: {traceback.format_exc()[-900:]}")
            else:
                problems["unclean"] += now["check"]
                problems["lost"] += lost(now, self.before, self.after)
                if now["generation"] < generation:
                    problems["lost"].append(f"generation {now['generation']} after commit {generation}")
                if finished:
                    problems["lost"] += [f"finished, and {text}" for text in differing(now, self.after)]
                    if self.operation.erases:
                        left = leavings(case, folder, erases=True, now=now)
                        problems["lost"] += [
                            f"finished, and {text}" for text in left if "sqlite-" not in text
                        ]
        try:
            self.run(case)
        except DetectorError as error:
            problems["differing"].append(f"the same command again: {error}")
            return problems
        except Exception:
            problems["crashed"].append(f"the same command again: {traceback.format_exc()[-900:]}")
            return problems
        now = self._seen(case)
        problems["unclean"] += [f"afterwards, {text}" for text in now["check"]]
        problems["unclean"] += leavings(case, folder, erases=self.operation.erases, now=now)
        problems["differing"] += differing(now, self.after)
        return problems

    # The faults

    def count(self, recorder: Recorder, mode: Mode) -> int:
        """Return how many boundaries the undisturbed operation has."""
        case = self.case()

        def work() -> int:
            recorder.arm(case, mode=mode)
            self.run(case)
            return recorder.disarm()

        number = int(self._must(work))
        shutil.rmtree(case)
        return number

    def killed(self, recorder: Recorder, places: Iterable[int], mode: Mode) -> Tally:
        """Kill it before each of some boundaries, or in the middle of the write there."""
        words = "killed at a write" if mode is Mode.KILL else "killed within a write"
        tally = Tally(self.operation.name, words)
        for at in places:
            case = self.case()
            outcome = in_child(lambda case=case, at=at: self._armed(recorder, case, mode, at))
            tally.faults += outcome.how == "killed"
            if outcome.how in ("stuck", "crashed"):
                tally.judge(f"{at}", outcome)
            tally.judge(f"{at}", self.check(case, finished=outcome.how == "done"))
        return tally

    def _armed(self, recorder: Recorder, case: Path, mode: Mode, at: int, error: int = 0) -> None:
        recorder.arm(case, mode=mode, at=at, error=error)
        try:
            self.run(case)
        finally:
            recorder.disarm()

    def killed_at_times(self, rng: random.Random, number: int) -> Tally:
        """Kill it at random times."""
        tally = Tally(self.operation.name, "killed at a random time")
        for _ in range(number):
            moment = rng.uniform(0.0, 1.1 * self.seconds)
            case = self.case()
            outcome = in_child(lambda case=case: self.run(case), kill_after=moment)
            tally.faults += 1
            tally.judge(f"{moment:.4f} s", self.check(case, finished=outcome.how == "done"))
        return tally

    def failed(self, recorder: Recorder, places: Iterable[int], mode: Mode, error: int) -> Tally:
        """Let a call fail, or all that takes space from there on."""
        words = {
            Mode.FULL: "disk full from a write on",
            Mode.FAIL_ONCE: f"one call fails ({errno.errorcode[error]})",
            Mode.READ_ONLY: "read-only folder",
        }[mode]
        tally = Tally(self.operation.name, words)
        for at in places:
            case = self.case()
            outcome = in_child(lambda case=case, at=at: self._armed(recorder, case, mode, at, error))
            tally.faults += 1
            if outcome.how in ("stuck", "crashed", "killed"):
                tally.judge(f"{at}", outcome)
            tally.judge(f"{at}", self.check(case, finished=outcome.how == "done"))
        return tally

    def record(self, recorder: Recorder) -> tuple[Disk, list[Entry]]:
        """Run it once under the recorder; return the disk before it, and all that it did to it."""
        case = self.case()
        disk = Disk(case)
        log = self._scratch / "log"

        def work() -> None:
            with _commits_marked(recorder):
                recorder.arm(case, mode=Mode.LOG, log=log)
                self.run(case)
                recorder.disarm()

        self._must(work)
        shutil.rmtree(case)
        return disk, list(entries(log))

    def power_cuts(
        self, recorder: Recorder, rng: random.Random, *, losses: Sequence[Loss], most: int | None = None
    ) -> Tally:
        """Cut the power after each call that changed or synced something; look at every different outcome.

        Args:
            recorder: Records one undisturbed run, which is then replayed.
            rng: Of what survives.
            losses: What is lost, for each moment.
            most: Moments, chosen at random; None for all.
        """
        tally = Tally(self.operation.name, "power cut")
        disk, log = self.record(recorder)
        moments = powercuts.boundaries(log)
        chosen = set(moments if most is None or most >= len(moments) else rng.sample(moments, most))
        chosen.add(len(log))
        known: set[str] = set()
        generation = 0
        for place in range(len(log) + 1):
            if place:
                disk.apply(log[place - 1])
                if log[place - 1].kind is Kind.MARK:
                    generation = log[place - 1].offset
            if place not in chosen:
                continue
            for loss in losses:
                contents = disk.survivors(loss, rng)
                finished = place == len(log)
                tally.faults += 1
                key = _fingerprint(contents, generation, finished)
                if key in known:
                    continue
                known.add(key)
                case = self._scratch / f"cut-{place}-{loss.name}-{len(known)}"
                powercuts.written(contents, case)
                tally.judge(
                    f"{place} of {len(log)}, lost: {loss.value}",
                    self.check(case, generation=generation, finished=finished),
                )
        return tally


def plain(values: Seen) -> Seen:
    """Return values as JSON gives them back, so that they compare."""
    found: Seen = json.loads(json.dumps(values))
    return found


@contextmanager
def _commits_marked(recorder: Recorder) -> Iterator[None]:
    """Log the generation after each commit that has returned."""
    real = Catalog.transaction

    @contextmanager
    def marked(self: Catalog, *, new_generation: bool = True) -> Iterator[None]:
        with real(self, new_generation=new_generation):
            yield
        recorder.mark(self.generation)

    Catalog.transaction = marked  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Catalog.transaction = real  # type: ignore[method-assign]


def _fingerprint(contents: dict[str, bytes | None], generation: int, finished: bool) -> str:
    digest = hashlib.sha256(f"{generation} {finished}".encode())
    for name, content in contents.items():
        if not name.endswith("-shm"):  # rebuilt from the log by whoever comes first
            digest.update(f"\0{name}\0{content is None}\0".encode() + (content or b""))
    return digest.hexdigest()
