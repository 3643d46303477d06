"""Start-up: `detector --help` and `import detector`, beside an empty Python."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

from tests.benchmarks.results import Options, Result, Table, progress

MOST_S = 0.5
HEAVY = (
    "torch",
    "faiss",
    "cv2",
    "diffusers",
    "open_clip",
    "transformers",
    "numpy",
    "PIL",
    "fastapi",
    "ray",
    "pymilvus",
)
FORBIDDEN = ("torch", "faiss", "cv2", "diffusers")


def run(options: Options) -> Result:
    """Measure."""
    runs = 3 if options.quick else 10
    python = sys.executable
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import detector'": [python, "-c", "import detector"],
        "detector --help": [python, "-m", "detector", "--help"],
        "detector scan --help": [python, "-m", "detector", "scan", "--help"],
    }
    progress(f"startup: {runs} runs each, in turns, after one unmeasured")
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                spent[name].append(time.perf_counter() - started)
    result = Result("startup")
    rows = [(name, f"{np.median(v):.3f}", f"{min(v):.3f}", f"{max(v):.3f}") for name, v in spent.items()]
    script = f"import sys, json, detector; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    loaded = json.loads(
        subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout
    )
    note = f"`import detector` loads of {', '.join(HEAVY)}: {', '.join(loaded) or 'none'}."
    result.tables.append(Table("Start-up", ("command", "median s", "least s", "most s"), rows, note))
    result.bar("detector --help, s", float(np.median(spent["detector --help"])), most=MOST_S)
    result.bar("heavy libraries that import detector loads", float(len(set(loaded) & set(FORBIDDEN))), most=0)
    result.figures = {**result.figures, "seconds": spent, "loaded": loaded}
    return result
