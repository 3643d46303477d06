"""Hostile inputs by the ten thousand: each is answered or refused with a reason, in bounded time and memory.

Inputs are tried in processes that are watched from here, so that one that crashes or hangs is counted and the next
one is tried. What fails is kept in `failures/` of the working folder, with what makes it again.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tests.benchmarks.attacks import CHANGED, CRASHED
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.targets import ANSWERED, CASE, INDEX, KINDS, QUERY, REFUSED, SMALL_INDEX, TOWER
from tests.benchmarks.workload import SUFFIXES

INPUTS = 20_000
QUICK_INPUTS = 2_000
WORKERS = 2
REFERENCES = 24

MOST_SECONDS = 5.0
"""Of processor time on one input."""

MOST_WAIT_S = 60.0
"""On the clock, on a machine that may be busy: a process that says nothing for so long hangs."""

START_S = 300.0
MOST_MB = 1_000.0

HUNG, BLOATED = "hung", "bloated"
FAILURES = (CRASHED, HUNG, BLOATED, CHANGED)


@dataclass(frozen=True)
class Verdict:
    """What became of one input."""

    kind: str
    number: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    mb: float = 0.0


def run(options: Options) -> Result:
    """Measure."""
    inputs = QUICK_INPUTS if options.quick else INPUTS
    work = options.scratch("fuzzing")
    shutil.rmtree(work / "failures", ignore_errors=True)
    progress(f"fuzzing: seed {options.seed}, {inputs} inputs")
    make_world(options.data, work / "world")
    verdicts = attack(work, plan(inputs), seed=options.seed)
    return judged(verdicts, work, seed=options.seed, least=0 if options.quick else INPUTS)


def plan(inputs: int) -> list[tuple[str, int]]:
    """Return which inputs are tried: kind and number, at least so many in all, at least three of a kind."""
    total = sum(kind.share for kind in KINDS.values())
    counts = {name: max(3, -int(-inputs * kind.share // total)) for name, kind in KINDS.items()}
    # Kinds in turns: a run that is cut short has seen every one of them.
    rounds = max(counts.values())
    return [(name, n) for n in range(rounds) for name, count in counts.items() if n < count]


def make_world(pictures: Path, world: Path) -> None:
    """Make the sound things that hostile inputs are made from."""
    from detector import build_index
    from tests.conftest import TINY_TOWER, save_clip_folder

    if (world / "made").exists():
        return
    shutil.rmtree(world, ignore_errors=True)
    world.mkdir(parents=True)
    chosen = sorted(path for path in pictures.iterdir() if path.suffix.lower() in SUFFIXES)[: REFERENCES + 1]
    shutil.copy(chosen[0], world / "query.source")
    _query(chosen[0], world / QUERY)
    build_index(chosen, world / INDEX)
    _sketch(world / INDEX)
    build_index(chosen[:6], world / SMALL_INDEX, descriptors=["pdq", "phash"])
    _tower(world / TOWER, TINY_TOWER, save_clip_folder)
    (world / "made").touch()


def _sketch(folder: Path) -> None:
    """Make sketches, which so few rows would do without."""
    from index import sketches
    from index.reference_index import ReferenceIndex

    with ReferenceIndex.open(folder, writable=True) as index:
        name = next(spec.name for spec in index.specs if spec.name.startswith("clip"))
        made = sketches.make(index.rows(name), bits=64)
        measured = sketches.Measured(recall=1.0, queries=1, ms=1.0, exact_ms=1.0)
        index.put_sketches(name, made, 5, measured, last_id=max(index.reference_ids()))


def _query(source: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(source) as image:
        image.convert("RGB").resize((320, 240)).save(target)


def _tower(folder: Path, config: dict[str, Any], save: Any) -> None:
    import open_clip
    import torch

    torch.manual_seed(7)
    state = open_clip.model.CLIP(**config).state_dict()
    save(folder, {name: tensor.contiguous() for name, tensor in state.items()})


def attack(work: Path, planned: list[tuple[str, int]], *, seed: int, workers: int = WORKERS) -> list[Verdict]:
    """Try inputs in watched processes.

    Args:
        work: Where the world is, and where failures are kept.
        planned: Kind and number of each.
        seed: Of all of them.
        workers: Processes at a time.
    """
    shares = [planned[place::workers] for place in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda n: list(_share(work, shares[n], seed, n)), range(workers))
        return list(chain.from_iterable(done))


def _share(work: Path, planned: list[tuple[str, int]], seed: int, worker: int) -> Iterator[Verdict]:
    case = work / f"worker-{worker}"
    case.mkdir(parents=True, exist_ok=True)
    (case / "verdicts.jsonl").unlink(missing_ok=True)
    words = ("-m", "tests.benchmarks.attacks", str(work / "world"), str(seed), "--case", str(case))
    child = Watched((sys.executable, *words), case / "log.txt")
    try:
        for place, (kind, number) in enumerate(planned):
            verdict = child.tried(kind, number)
            with (case / "verdicts.jsonl").open(
                "a", encoding="utf-8"
            ) as file:  # a run that is cut short has said much
                file.write(json.dumps(vars(verdict)) + "\n")
            if verdict.outcome in FAILURES:
                _keep(work / "failures", case / CASE, verdict, seed)
            if worker == 0 and place % 500 == 499:
                progress(f"fuzzing: {place + 1} of {len(planned)} in the first of the processes")
            yield verdict
    finally:
        child.stop()


class Watched:
    """A process that tries inputs, started again where one ends it."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Prepare; the process starts with the first input.

        Args:
            command: Of the process, which speaks as `tests.benchmarks.attacks` does.
            log: Takes what it writes to standard error.
        """
        self._command = list(command)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def tried(self, kind: str, number: int, *, wait_s: float = MOST_WAIT_S, again: int = 2) -> Verdict:
        """Try one input, so many times again where it takes long, and say what became of it."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{kind} {number}\n".encode())
            process.stdin.flush()
            self._line(process, START_S)
            line = self._line(process, wait_s)
        except TimeoutError:
            self.stop()
            return Verdict(kind, number, HUNG, f"no answer after {wait_s:g} s", wait_s)
        except (EOFError, BrokenPipeError):
            process.wait()
            self.stop()
            said = self._log.read_text(errors="replace")[-2000:]
            return Verdict(kind, number, CRASHED, f"ended with {process.returncode}: {said}")
        found = json.loads(line)
        verdict = Verdict(kind, number, **found)
        if verdict.outcome not in FAILURES:
            if verdict.seconds > MOST_SECONDS and again:  # others may have had the machine's caches
                return self.tried(kind, number, wait_s=wait_s, again=again - 1)
            if verdict.seconds > MOST_SECONDS:
                return Verdict(kind, number, HUNG, "", verdict.seconds, verdict.mb)
            if verdict.mb > MOST_MB:
                return Verdict(kind, number, BLOATED, "", verdict.seconds, verdict.mb)
        return verdict

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    bufsize=0,  # what is waited for is never in a buffer of ours
                )
            if self._line(self._process, START_S) != b"ready\n":
                raise RuntimeError(f"{self._log}: the process that tries inputs did not start")
        return self._process

    def _line(self, process: subprocess.Popen[bytes], wait_s: float) -> bytes:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(wait_s):
                raise TimeoutError
        line = process.stdout.readline()
        if not line:
            raise EOFError
        return line

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _keep(failures: Path, case: Path, verdict: Verdict, seed: int) -> None:
    folder = failures / f"{verdict.kind}-{verdict.number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Pipes and devices stay where they are; the command makes them again.
    subprocess.run(["cp", "-a", str(case), str(folder)], check=False, capture_output=True)
    world = failures.parent / "world"
    again = f"python -m tests.benchmarks.attacks {world} {seed} --once {verdict.kind} {verdict.number}"
    text = f"{verdict.outcome}, {verdict.seconds:.1f} s, {verdict.mb:.0f} MB\n{again}\n\n{verdict.detail}\n"
    (folder / "verdict.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def judged(verdicts: list[Verdict], work: Path, *, seed: int, least: int) -> Result:
    """Return the table, a row a kind, and the bars."""
    result = Result("fuzzing")
    counts = {name: Counter(v.outcome for v in verdicts if v.kind == name) for name in KINDS}
    rows = []
    for name, kind in KINDS.items():
        found, mine = counts[name], [v for v in verdicts if v.kind == name]
        slowest, largest = max(v.seconds for v in mine), max(v.mb for v in mine)
        outcomes = [found[o] for o in (ANSWERED, REFUSED, *FAILURES)]
        rows.append((kind.title, len(mine), *outcomes, f"{slowest:.1f}", f"{largest:.0f}"))
    total = Counter(v.outcome for v in verdicts)
    outcomes = [total[o] for o in (ANSWERED, REFUSED, *FAILURES)]
    rows.append(("all", len(verdicts), *outcomes, "", ""))
    columns = ("input", "tried", ANSWERED, REFUSED, *FAILURES, "slowest, s", "most memory, MB")
    note = (
        "Answered: read, in part where a part is broken. Refused: an error of the project's own, with its reason. "
        "Crashed: anything else raised, or the process ended. "
        f"Hung: more than {MOST_SECONDS:g} s of processor time, or no answer for {MOST_WAIT_S:g} s. "
        f"Bloated: more than {MOST_MB:g} MB above what the process held. Changed: an index that was read has other "
        "bytes, a build lost what was there, or a file outside of the index is another. An index holds no faiss "
        "file: the project never writes or parses one; sketches and rows are plain arrays."
    )
    result.tables.append(Table(f"{len(verdicts)} hostile inputs, seed {seed}", columns, rows, note))
    if least:
        result.bar("bad inputs tried", len(verdicts), least=least)
    for outcome in FAILURES:
        result.bar(outcome, total[outcome], most=0)
    result.figures["failures"] = [vars(v) for v in verdicts if v.outcome in FAILURES]
    if result.figures["failures"]:
        progress(f"fuzzing: what failed is kept in {work / 'failures'}")
    return result
