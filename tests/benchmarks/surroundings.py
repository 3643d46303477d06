"""What goes wrong around an index: sources that vanish, clocks that jump, other writers, readers, no permission."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from index.build import BuildOptions, BuildProgress, build_index
from index.errors import DetectorError, IndexLockedError
from index.reference_index import ReferenceIndex
from tests.benchmarks.contents import Seen, differing, seen
from tests.benchmarks.crashing import LONGEST_S, Outcome, Tally, in_child, plain
from tests.benchmarks.operations import NAMES
from tests.benchmarks.recording import Recorder
from tests.benchmarks.world import FIRST, SECOND, World

READERS = 20
OVER = "over"
"""File that tells the readers to stop."""

NOBODY = 65534
YEARS = 365 * 86_400

_options = BuildOptions(workers=1, batch_size=3)


class Surroundings:
    """A world, and where to work."""

    def __init__(self, world: World, scratch: Path, *, seed: int) -> None:
        """Build what the others are compared with."""
        self.world = world
        self.scratch = scratch
        self.rng = random.Random(seed)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        self.first = scratch / "first.index"
        self.both = scratch / "both.index"
        self._peaceful(self.first, [world.first])
        self._peaceful(self.both, [world.first, world.second])
        self.wanted = self._seen(self.both)

    def _peaceful(self, out: Path, sources: list[Path]) -> None:
        outcome = in_child(lambda: build_index(sources, out, descriptors=NAMES, options=_options) and None)
        if outcome.how != "done":
            raise RuntimeError(f"in peace: {outcome}")

    def _seen(self, folder: Path) -> Seen:
        outcome = in_child(lambda: seen(folder, self.world))
        if outcome.how != "done":
            raise RuntimeError(f"{folder}: {outcome}")
        return plain(outcome.value)

    def _judged(self, work: Callable[[], dict[str, list[str]]]) -> Outcome:
        return in_child(work)

    # A source that goes away

    def vanishing_source(self) -> Tally:
        """Take the folder of pictures away after each number of pictures; bring it back; the same command again."""
        tally = Tally("build", "source folder disappears")
        for after in range(FIRST + SECOND):
            tally.faults += 1
            tally.judge(f"after {after} pictures", self._judged(lambda after=after: self._vanish(after)))
        return tally

    def _vanish(self, after: int) -> dict[str, list[str]]:
        case = self.scratch / f"vanish-{after}"
        source, away, out = case / "pictures", case / "away", case / "art.index"
        case.mkdir()
        shutil.copytree(self.world.first, source)
        peace = case / "peace.index"
        build_index(source, peace, descriptors=NAMES, options=_options)
        wanted = seen(peace, self.world)
        problems: dict[str, list[str]] = {"lost": [], "unclean": [], "differing": [], "crashed": []}

        def take_away(progress: BuildProgress) -> None:
            if progress.done >= after and source.exists():
                source.rename(away)

        try:
            build_index(source, out, descriptors=NAMES, options=_options, on_progress=take_away)
        except DetectorError:
            pass
        except Exception:
            problems["crashed"].append(traceback.format_exc()[-900:])
        if away.exists():
            away.rename(source)
        build_index(source, out, descriptors=NAMES, options=_options)
        now = seen(out, self.world)
        problems["unclean"] += now["check"]
        problems["differing"] += differing(plain(now), plain(wanted))
        shutil.rmtree(case)
        return problems

    # Clocks

    def jumping_clock(self, recorder: Recorder, rounds: int) -> Tally:
        """Let the clock and the pictures' times of change jump by years, between runs and within them."""
        tally = Tally("build, add, remove, requests", "clock jumps")
        for number in range(rounds):
            jumps = [self.rng.choice((-60, -3, -0.1, 0.1, 3, 60)) for _ in range(6)]
            tally.faults += len(jumps)
            tally.judge(f"{jumps}", self._judged(lambda j=jumps, n=number: self._jump(recorder, n, j)))
        return tally

    def _jump(self, recorder: Recorder, number: int, jumps: list[float]) -> dict[str, list[str]]:
        case = self.scratch / f"clock-{number}"
        shutil.copytree(self.world.folder, case / "world")
        world = replace(self.world, folder=case / "world")
        out = case / "art.index"
        left = iter(jumps * 4)

        def jump(*_: Any) -> None:
            recorder.set_clock(int(next(left) * YEARS))
            for path in (*world.first.iterdir(), *world.second.iterdir()):
                if self.rng.random() < 0.2:
                    when = self.rng.choice((0, 1, 2**31, time.time() + 60 * YEARS))
                    os.utime(path, (when, when))

        halfway = [False]

        def jump_within(progress: BuildProgress) -> None:
            if progress.done >= 4 and not halfway[0]:
                halfway[0] = True
                jump()

        problems: dict[str, list[str]] = {"lost": [], "unclean": [], "differing": [], "crashed": []}
        try:
            jump()
            build_index(world.first, out, descriptors=NAMES, options=_options, on_progress=jump_within)
            jump()
            build_index(world.second, out, options=_options)
            jump()
            build_index([world.first, world.second], out, options=_options)
            now = seen(out, world)
            problems["unclean"] += now["check"]
            problems["differing"] += differing(
                _untimed(now, case / "world"), _untimed(self.wanted, self.world.folder)
            )
            jump()
            with ReferenceIndex.open(out, writable=True) as index:
                index.remove(artist="Artist 1", erase=True)
                problems["unclean"] += index.check()
        except DetectorError as error:
            problems["differing"].append(str(error))
        except Exception:
            problems["crashed"].append(traceback.format_exc()[-900:])
        shutil.rmtree(case)
        return problems

    # Others

    def several_writers(self, rounds: int) -> Tally:
        """Start several writers at once, on a new index and on one that is there."""
        tally = Tally("build, add, remove", "several writers at once")
        for number in range(rounds):
            case = self.scratch / f"writers-{number}"
            case.mkdir()
            out = case / "art.index"
            if number % 2:
                shutil.copytree(self.first, out)
            told = [case / f"told-{n}" for n in range(6)]
            children = [
                _started(lambda n=n, path=path, out=out: self._write(out, n, path))
                for n, path in enumerate(told)
            ]
            tally.stuck += _ended(children)
            problems = self._judged(lambda out=out, told=told: self._written(out, told))
            tally.faults += len(children)
            tally.judge(f"round {number}", problems)
            shutil.rmtree(case)
        return tally

    def _write(self, out: Path, number: int, told: Path) -> None:
        time.sleep(self.rng.uniform(0.0, 0.05) * (number > 2))
        sources = [self.world.first, self.world.second][: 1 + number % 2]
        try:
            build_index(sources, out, descriptors=NAMES, options=_options)
            said = ["done", ""]
        except IndexLockedError as error:
            said = ["locked", str(error)]
        except DetectorError as error:
            said = ["refused", str(error)]
        except BaseException:
            said = ["crashed", traceback.format_exc()[-900:]]
        told.write_text(json.dumps(said), encoding="utf-8")

    def _written(self, out: Path, told: list[Path]) -> dict[str, list[str]]:
        problems: dict[str, list[str]] = {"lost": [], "unclean": [], "differing": [], "crashed": []}
        said = [json.loads(path.read_text(encoding="utf-8")) for path in told if path.exists()]
        problems["crashed"] += [text for how, text in said if how == "crashed"]
        if not any(how == "done" for how, _ in said):
            problems["lost"].append(f"nobody could write: {said}")
        for how, text in said:
            if how == "locked" and not re.search(r"by another process \(process \d+ on ", text):
                problems["unclean"].append(f"the holder is not named: {text}")
            if how == "refused" and "an index is there already" not in text:
                problems["unclean"].append(text)
        build_index([self.world.first, self.world.second], out, options=_options)
        now = seen(out, self.world)
        problems["unclean"] += now["check"]
        problems["differing"] += differing(plain(now), self.wanted)
        return problems

    def readers(self, seconds: float) -> Tally:
        """Let many readers open, search and compare while a writer adds, erases, compacts and merges."""
        tally = Tally("add, remove --erase, compact, merge", f"{READERS} readers meanwhile")
        case = self.scratch / "readers"
        case.mkdir()
        out = case / "art.index"
        shutil.copytree(self.both, out)
        until = time.monotonic() + seconds
        told = [case / f"told-{n}" for n in range(READERS)]
        children = [_started(lambda path=path, n=n: self._read(out, n, path)) for n, path in enumerate(told)]
        writer = in_child(lambda: self._rewrite(out, until), kill_after=seconds + LONGEST_S)
        (case / OVER).touch()
        tally.stuck += _ended(children)
        contents: dict[int, set[str]] = {}
        for path in told:
            if not path.exists():
                tally.crashed += 1
                tally.notes.append(f"{tally.fault}: {path.name} left no word")
                continue
            report = json.loads(path.read_text(encoding="utf-8"))
            tally.faults += report["opened"]
            tally.states += report["searches"]
            tally.crashed += len(report["failed"])
            tally.differing += len(report["changed"])
            tally.notes += [f"{tally.fault}: {text}" for text in (report["failed"] + report["changed"])[:3]]
            for generation, key in report["contents"]:
                contents.setdefault(generation, set()).add(key)
        torn = [generation for generation, keys in contents.items() if len(keys) > 1]
        tally.lost += len(torn)
        tally.notes += [
            f"{tally.fault}: generation {generation} was seen in two ways" for generation in torn[:3]
        ]
        if writer.how != "done":
            tally.crashed += 1
            tally.notes.append(f"{tally.fault}: the writer: {writer.how} {writer.value}")
        tally.judge("afterwards", self._judged(lambda: {"unclean": seen(out, self.world)["check"]}))
        shutil.rmtree(case)
        return tally

    def _rewrite(self, out: Path, until: float) -> int:
        rounds = 0
        while rounds == 0 or time.monotonic() < until:
            with ReferenceIndex.open(out, writable=True) as index:
                index.remove(artist=f"Artist {rounds % 4}", erase=True)
            build_index([self.world.first, self.world.second], out, options=replace(_options, take_back=True))
            with ReferenceIndex.open(out, writable=True) as index:
                index.remove(artist=f"Artist {(rounds + 1) % 4}")
                index.compact()
                index.merge_small_segments()
            build_index([self.world.first, self.world.second], out, options=replace(_options, take_back=True))
            rounds += 1
        return rounds

    def _read(self, out: Path, number: int, told: Path) -> None:
        rng = random.Random(number)
        report: dict[str, Any] = {"opened": 0, "searches": 0, "failed": [], "changed": [], "contents": []}
        while not (out.parent / OVER).exists():
            try:
                with ReferenceIndex.open(out) as index:
                    report["opened"] += 1
                    key = _contents(index)
                    report["contents"].append((index.generation, key))
                    for _ in range(rng.randrange(1, 6)):
                        for query in self.world.queries[NAMES]:
                            found = index.search(query)
                            report["searches"] += 1
                            if not found or any(index.reference(each.reference_id) is None for each in found):
                                report["changed"].append(
                                    f"generation {index.generation}: a candidate is gone"
                                )
                        time.sleep(rng.uniform(0, 0.02))
                    if rng.random() < 0.3:
                        report["changed"] += [f"check: {text}" for text in index.check()]
                    if _contents(index) != key:
                        report["changed"].append(f"generation {index.generation} changed under a reader")
            except BaseException:
                report["failed"].append(traceback.format_exc()[-900:])
        told.write_text(json.dumps(report), encoding="utf-8")

    def no_permission(self) -> Tally:
        """Take the permission to write away: reading goes on, writing is refused in words, nothing changes."""
        tally = Tally("search, add, remove, compact", "no permission to write")
        case = self.scratch / "forbidden"
        case.mkdir()
        out = case / "art.index"
        shutil.copytree(self.both, out)
        for path in (*out.rglob("*"), out):
            path.chmod(0o555 if path.is_dir() else 0o444)
        tally.faults += 1
        tally.judge("", in_child(lambda: self._forbidden(out)))
        for path in (out, *out.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(case)
        return tally

    def _forbidden(self, out: Path) -> dict[str, list[str]]:
        problems: dict[str, list[str]] = {"lost": [], "unclean": [], "differing": [], "crashed": []}
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        if os.access(out, os.W_OK):
            problems["crashed"].append("the folder can be written to: nothing was tested")
        problems["lost"] += differing(plain(seen(out, self.world)), self.wanted)
        for name, work in (
            ("add", lambda: build_index(self.world.second, out, options=_options)),
            ("remove", lambda: ReferenceIndex.open(out, writable=True)),
        ):
            try:
                work()
                problems["differing"].append(f"{name} was not refused")
            except DetectorError as error:
                if "permission" not in str(error).lower():
                    problems["unclean"].append(f"{name}: {error}")
            except Exception:
                problems["crashed"].append(f"{name}: {traceback.format_exc()[-900:]}")
        problems["lost"] += differing(plain(seen(out, self.world)), self.wanted)
        return problems


def _started(work: Callable[[], None]) -> int:
    """Fork a child that does something; return its process id."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


def _ended(children: list[int]) -> int:
    """Wait for children; kill those that do not end, and return how many those are."""
    until, stuck = time.monotonic() + LONGEST_S, 0
    for child in children:
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                stuck += 1
                break
            time.sleep(0.01)
    return stuck


def _contents(index: ReferenceIndex) -> str:
    """Return a key of what a reader sees: references, occurrences, rows."""
    digest = hashlib.sha256()
    for number in index.reference_ids():
        digest.update(repr(index.reference(number)).encode())
    for spec in index.specs:
        for block, ids, _ in index.rows(spec.name).blocks():
            digest.update(block.tobytes() + ids.tobytes())
    return digest.hexdigest()[:16]


def _untimed(found: Seen, world: Path) -> Seen:
    """Leave out times of change, and where the pictures lie."""
    values = plain(found)
    values["references"] = {
        digest: [
            shape,
            sorted([os.path.relpath(place[0], world), place[1], place[3]] for place in places),
            *more,
        ]
        for digest, (shape, places, *more) in values["references"].items()
    }
    values["rejected"] = [[os.path.relpath(path, world), reason] for path, reason in values["rejected"]]
    return values
