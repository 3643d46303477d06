"""What a part of the benchmark hands back, and how it is printed and written beside the facts of the run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DISTRIBUTIONS = (
    "replication-detector",
    "numpy",
    "opencv-python-headless",
    "faiss-cpu",
    "pillow",
    "imagehash",
    "pdqhash",
    "imagededup",
    "augly",
    "torch",
    "open_clip_torch",
    "timm",
)


@dataclass(frozen=True)
class Options:
    """How the benchmark runs.

    Attributes:
        data: Folder of pictures.
        out: Where tables, pictures and working files go.
        quick: A small run, to see that it works; its figures mean little.
        seed: Of every random choice.
        seconds: How long a server is kept under load.
        distractors: Pictures, or shards of them, that no query shows; None leaves some of `data` to be that.
    """

    data: Path
    out: Path
    quick: bool
    seed: int
    seconds: float = 30.0
    distractors: Path | None = None

    def scratch(self, part: str) -> Path:
        """Return a folder for working files, made if need be."""
        folder = self.out / "work" / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True)
class Table:
    """A Markdown table; cells are shown as they are, floats with three digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("| " + " | ".join("---" if n == 0 else "---:" for n in range(len(self.columns))) + " |")
        lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True)
class Bar:
    """A bound that a figure should keep."""

    what: str
    measured: str
    bound: str
    met: bool


@dataclass
class Result:
    """What one part measured."""

    part: str
    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    pictures: int = 0

    def bar(self, what: str, value: float, *, least: float | None = None, most: float | None = None) -> None:
        """Compare a figure with its bound."""
        bound = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
        met = value >= least if least is not None else most is not None and value <= most
        measured = f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
        self.bars.append(Bar(what, measured, bound, bool(met)))
        self.figures.setdefault("bars", {})[what] = value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value).replace("|", "\\|")


def progress(text: str) -> None:
    """Say on standard error what goes on."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what speed depends on, nothing that identifies the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": model,
        "cores": usable,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_at_start": None if load is None else round(load, 2),
    }


def versions() -> dict[str, str]:
    """Return the installed versions of what the figures depend on."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(result: Result, options: Options, facts: dict[str, Any]) -> str:
    """Write OUT/part.md and OUT/part.json; return the Markdown."""
    options.out.mkdir(parents=True, exist_ok=True)
    run = {
        "part": result.part,
        "command": f"python -m tests.benchmarks FOLDER --part {result.part}{' --quick' * options.quick}",
        "data": options.data.resolve().name,
        "pictures": result.pictures,
        "seed": options.seed,
        "quick": options.quick,
        **facts,
    }
    parts = [f"## {result.part}", "", _line(run), ""]
    for table in result.tables:
        parts += [table.markdown(), ""]
    if result.bars:
        rows = [(bar.what, bar.measured, bar.bound, "yes" if bar.met else "**no**") for bar in result.bars]
        parts += [Table("Bounds", ("what", "measured", "bound", "met"), rows).markdown(), ""]
    text = "\n".join(parts)
    (options.out / f"{result.part}.md").write_text(text, encoding="utf-8")
    tables = [
        {"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows]}
        for t in result.tables
    ]
    bars = [vars(bar) for bar in result.bars]
    values = {"run": run, "bars": bars, "figures": result.figures, "tables": tables}
    (options.out / f"{result.part}.json").write_text(
        json.dumps(values, indent=1, ensure_ascii=False, default=float) + "\n", encoding="utf-8"
    )
    return text


def _line(run: dict[str, Any]) -> str:
    where = run["machine"]
    named = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"`{run['command']}` · data: {run['data']}, {run['pictures']} pictures · seed {run['seed']} · "
        f"{where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']}, "
        f"load {where['load_at_start']} at start · {named}"
    )


def share(part: int, whole: int) -> str:
    """Return a share with its 95 % interval: ``0.973 (0.961–0.982)``."""
    from tests.benchmarks.measures import wilson

    if not whole:
        return "–"
    low, high = wilson(part, whole)
    return f"{part / whole:.3f} ({low:.3f}–{high:.3f})"


def joined(lines: Iterable[str]) -> str:
    """Join what is not empty."""
    return ", ".join(line for line in lines if line)
