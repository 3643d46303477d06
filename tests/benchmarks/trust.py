"""Everything that says whether this can be relied on, in one run; writes RELIABILITY.md beside this file."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

from tests.benchmarks.results import Options, Result, Table, machine, progress, versions, write

CHAPTERS = {
    "crashes": "Kills, power cuts, full disks",
    "upgrades": "Files of earlier and later formats",
    "determinism": "The same input, the same output",
    "fuzzing": "Broken and hostile files",
    "first_hour": "A newcomer's first hour",
    "rules": "Rules for code and documents",
}
RELIABILITY = Path(__file__).with_name("RELIABILITY.md")

INTRODUCTION = """# Reliability

What was done to this program on purpose, how often, and what came of it. Written by one command, from a folder of
pictures; nothing here is typed by hand:

```
python -m tests.benchmarks samples/artworks --part trust
```

CI runs small versions of the same code (`tests/test_fuzzing.py`, `test_crashes.py`, `test_upgrades.py`,
`test_determinism.py`, `test_first_hour.py`) on every change.

"""


def run(options: Options) -> Result:
    """Measure; where this is no quick run, write `RELIABILITY`."""
    result = Result("trust")
    facts = {"machine": machine(), "versions": versions()}
    overview, tables = [], []
    for name, title in CHAPTERS.items():
        progress(f"trust: {name}")
        started = time.monotonic()
        chapter = importlib.import_module(f"tests.benchmarks.{name}").run(options)
        seconds = time.monotonic() - started
        said = "; ".join(f"{bar.what}: {bar.measured}" for bar in chapter.bars)
        overview.append(
            (title, said, f"{seconds:.0f} s", "yes" if all(b.met for b in chapter.bars) else "**no**")
        )
        tables += chapter.tables
        result.bars += chapter.bars
        result.figures[name] = chapter.figures
        result.pictures = max(result.pictures, chapter.pictures)
        columns = ("what", "figures", "took", "all bounds kept")
        result.tables = [Table("At a glance", columns, overview), *tables]
        if not options.quick:  # after each chapter: the whole takes long
            text = write(result, options, facts)
            RELIABILITY.write_text(INTRODUCTION + text.rstrip() + "\n", encoding="utf-8")
    return result
