"""Runs the benchmark: `python -m tests.benchmarks FOLDER [--part …] [--quick] [--out .bench]`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from tests.benchmarks.queries import SEED
from tests.benchmarks.results import Options, machine, progress, versions, write

PARTS = (
    "finding",
    "judgement",
    "embedding",
    "build",
    "memory",
    "kills",
    "startup",
    "lookup",
    "serving",
    "scale",
    "throughput",
    "parts",
    "crashes",
    "fuzzing",
    "upgrades",
    "determinism",
    "first_hour",
    "rules",
)
TOGETHER = "trust"
"""The last six of them in one run."""


def main() -> int:
    """Parse, run the parts, print and write their tables.

    Returns:
        0 where every bound was kept, 1 where one was missed, 2 where the folder cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure on a folder of pictures."
    )
    parser.add_argument("folder", type=Path, help="pictures; metadata.csv beside them may name artists")
    parser.add_argument(
        "--part",
        default=",".join(PARTS),
        help=f"of {','.join((*PARTS, TOGETHER))}; several with commas; without it, all but {TOGETHER}",
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--out", type=Path, default=Path(".bench"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long part serving lets clients ask")
    parser.add_argument(
        "--distractors",
        type=Path,
        help="for part parts: a folder of pictures or tar shards that no query shows",
    )
    chosen = parser.parse_args()
    if not chosen.folder.is_dir():
        print(f"{chosen.folder}: no such folder", file=sys.stderr)
        return 2
    wanted = chosen.part.split(",")
    if unknown := set(wanted) - {*PARTS, TOGETHER}:
        print(
            f"no part called {', '.join(sorted(unknown))}; there are {', '.join((*PARTS, TOGETHER))}",
            file=sys.stderr,
        )
        return 2
    options = Options(
        chosen.folder, chosen.out, chosen.quick, chosen.seed, chosen.seconds, chosen.distractors
    )
    missed = 0
    for name in wanted:
        facts = {"machine": machine(), "versions": versions()}
        started = time.monotonic()
        result = importlib.import_module(f"tests.benchmarks.{name}").run(options)
        facts["seconds"] = round(time.monotonic() - started, 1)
        print(write(result, options, facts), flush=True)
        late = [bar.what for bar in result.bars if not bar.met]
        missed += len(late)
        progress(f"{name}: {facts['seconds']} s" + (f"; bound missed: {', '.join(late)}" if late else ""))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
