"""Start-up: `--help`, `import detector`, a check of one picture; beside an empty Python and the import of open_clip."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import numpy as np

from index.build import build_index
from tests.benchmarks.build import copied
from tests.benchmarks.results import Options, Result, Table, progress

MOST_S = 0.5
WORKS = 50
CHECK, LIBRARIES = "detector check PICTURE", "import torch, open_clip"
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
    folder = options.scratch("startup")
    copied(options.data, folder / "pictures", WORKS)
    shutil.rmtree(folder / "art.index", ignore_errors=True)
    build_index(folder / "pictures", folder / "art.index")
    one = [str(min((folder / "pictures").iterdir())), "--index", str(folder / "art.index")]
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import detector'": [python, "-c", "import detector"],
        "detector --help": [python, "-m", "detector", "--help"],
        "detector scan --help": [python, "-m", "detector", "scan", "--help"],
        CHECK: [python, "-m", "detector", "check", *one],
        LIBRARIES: [python, "-c", LIBRARIES],
    }
    progress(f"startup: {runs} runs each, in turns, after one unmeasured")
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
            if done.returncode != int(name == CHECK):  # the picture is in the index
                raise RuntimeError(f"{name}: exit code {done.returncode}")
            if turn:
                spent[name].append(time.perf_counter() - started)
    result = Result("startup", pictures=WORKS)
    rows = [(name, f"{np.median(v):.3f}", f"{min(v):.3f}", f"{max(v):.3f}") for name, v in spent.items()]
    script = f"import sys, json, detector; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    loaded = json.loads(
        subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout
    )
    share = float(np.median(np.divide(spent[CHECK], spent[LIBRARIES])))
    note = f"`import detector` loads of {', '.join(HEAVY)}: {', '.join(loaded) or 'none'}."
    result.tables.append(Table("Start-up", ("command", "median s", "least s", "most s"), rows, note))
    result.bar("detector --help, s", float(np.median(spent["detector --help"])), most=MOST_S)
    result.bar("one picture checked, in times of that import", share, most=1)
    result.bar("heavy libraries that import detector loads", float(len(set(loaded) & set(FORBIDDEN))), most=0)
    result.figures = {**result.figures, "seconds": spent, "loaded": loaded}
    return result
