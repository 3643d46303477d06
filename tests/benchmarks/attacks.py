"""The process that tries hostile inputs, one after the other, and measures what each one takes.

`python -m tests.benchmarks.attacks WORLD SEED` takes lines "KIND NUMBER", and answers each with "made" and then a line
of JSON.
The same seed, kind and number make the same input; `--once KIND NUMBER` tries one and shows what it raises.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index.errors import DetectorError
from tests.benchmarks import hostile_files
from tests.benchmarks.targets import CASE, KINDS, QUERY, REFUSED, Altered, World, command

CRASHED, CHANGED = "crashed", "changed"

MOST_DATA = 6 << 30
"""Bytes a process may come to hold, so that a bomb does not take the machine with it."""


def attempt(
    world: World, seed: int, kind: str, number: int, *, on_made: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Make an input and use it.

    Args:
        world: The sound things, and where the input is made.
        seed: Of all inputs.
        kind: Of `KINDS`.
        number: Of the input.
        on_made: Called between the two: making is not charged to the input.

    Returns:
        ``outcome``, ``detail``, ``seconds`` of processor time, ``mb`` of memory that it took at its height.
    """
    shutil.rmtree(world.case, ignore_errors=True)
    world.case.mkdir(parents=True)
    path = KINDS[kind].make(random.Random(f"{seed} {kind} {number}"), world.case, world)
    on_made()
    before = reset_peak()
    started = time.process_time()
    detail = ""
    try:
        outcome = KINDS[kind].use(path, world)
    except DetectorError as error:
        outcome, detail = REFUSED, str(error)[:200]
    except Altered as error:
        outcome, detail = CHANGED, str(error)
    except Exception:
        outcome, detail = CRASHED, traceback.format_exc()[-3000:]
    seconds = time.process_time() - started
    return {"outcome": outcome, "detail": detail, "seconds": seconds, "mb": (peak() - before) / 1e6}


def reset_peak() -> int:
    """Let the kernel measure the height of memory anew; return the bytes held now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Return the most bytes of memory held since `reset_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux: memory is not measured
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_DATA, MOST_DATA))


def prepare(world: World) -> None:
    """Load what is loaded once, so that no input is charged with it."""
    from detector.scoring import shipped_model

    warnings.simplefilter("ignore")
    hostile_files.SCORING.update(shipped_model().to_dict())
    world.detector.check(world.root / QUERY)
    _ = world.query
    command("check", world.root / QUERY, "--index", world.small_index)


def main() -> None:
    """Try what standard input asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.attacks")
    parser.add_argument("world", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--case", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("KIND", "NUMBER"))
    chosen = parser.parse_args()
    world = World(chosen.world, (chosen.case or chosen.world / "once") / CASE)
    if not chosen.once:
        answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit_memory()
    prepare(world)
    if chosen.once:
        found = attempt(world, chosen.seed, chosen.once[0], int(chosen.once[1]))
        print(found.pop("detail"), found, world.case, sep="\n")
        return
    print("ready", file=answers)
    for line in sys.stdin:
        kind, number = line.split()
        found = attempt(world, chosen.seed, kind, int(number), on_made=lambda: print("made", file=answers))
        print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main()
