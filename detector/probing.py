"""What `detector.diagnosis` has another process try: a package that crashes takes down that process alone.

Every task is answered in one line of JSON, after a line that says that it has begun.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 300.0
"""How long the other process may take for all that is left to try."""

SIDE = 256
"""Of the pictures of the trial, in pixels."""


def answer(tasks: Sequence[str]) -> None:
    """Do tasks one after the other and write what came of each to standard output.

    Args:
        tasks: ``import MODULE``, ``codecs``, ``devices``, ``models``, ``trial FOLDER`` or ``index PATH``.
    """
    # Packages print when they are imported: what they write goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        for task in tasks:
            _tell(lines, {"begun": task})
            kind, _, rest = task.partition(" ")
            try:
                found: dict[str, Any] = {"task": task, "value": _TASKS[kind](rest)}
            except BaseException as error:  # whatever a package raises when it is imported is the finding
                if isinstance(error, KeyboardInterrupt):
                    raise
                found = {"task": task, "error": f"{type(error).__name__}: {error}"}
            _tell(lines, found)


def _tell(lines: Any, value: dict[str, Any]) -> None:
    lines.write(json.dumps(value) + "\n")
    lines.flush()


def _import(name: str) -> None:
    importlib.import_module(name)


def _codecs(_: str) -> dict[str, list[str]]:
    """Say which of the formats that this program reads the installed Pillow can decode."""
    from PIL import Image, features

    from index.images import FORMATS

    Image.init()
    needs = {"JPEG": "jpg", "PNG": "zlib", "WEBP": "webp", "AVIF": "avif"}
    readable = [n for n in FORMATS if n in Image.OPEN and (n not in needs or features.check(needs[n]))]
    return {"readable": readable, "lacking": [name for name in FORMATS if name not in readable]}


def _devices(_: str) -> list[str]:
    from index.torch_tower import accelerators

    return accelerators()


def _models(_: str) -> list[str]:
    from index.hub import cached_models

    return cached_models()


def _trial(folder: str) -> dict[str, Any]:
    """Index two made-up pictures and check one of them, which must be found."""
    from detector.detector import Detector
    from index.build import build_index

    with tempfile.TemporaryDirectory(dir=folder or None) as scratch:
        pictures = Path(scratch, "pictures")
        pictures.mkdir()
        for seed in (1, 2):
            (pictures / f"{seed}.bmp").write_bytes(_made_up(seed))
        index = Path(scratch, "trial.index")
        build_index(pictures, index)
        with Detector.open(index) as detector:
            report = detector.check(pictures / "1.bmp")
    return {"verdict": report.verdict.value, "level": report.level}


def _made_up(seed: int) -> bytes:
    """Return a picture of overlapping rectangles, as the bytes of a BMP file."""
    import numpy as np

    random = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for _ in range(120):
        top, left = random.integers(0, SIDE - 16, 2)
        height, width = random.integers(6, 64, 2)
        pixels[top : top + height, left : left + width] = random.integers(0, 256, 3)
    head = struct.pack("<2sIII", b"BM", 54 + pixels.nbytes, 0, 54)
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, pixels.nbytes, 0, 0, 0, 0)
        + pixels.tobytes()
    )


def _index(path: str) -> dict[str, Any]:
    from index.locations import open_index

    with open_index(path) as opened:
        found = opened.info()
        opened.descriptors()  # as a scan does: loads weights, and compares them with those of the build
        opened.calibration()
    return {
        "references": found.references,
        "rejected": found.rejected,
        "open_requests": found.open_requests,
        "format_version": found.format_version,
        "descriptors": [spec.name for spec in found.descriptors],
        "bytes_on_disk": found.bytes_on_disk,
    }


_TASKS: dict[str, Callable[[str], Any]] = {
    "import": _import,
    "codecs": _codecs,
    "devices": _devices,
    "models": _models,
    "trial": _trial,
    "index": _index,
}


# Where it is asked for


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a task: a value, or an error in words."""

    value: Any = None
    error: str = ""


def ask(tasks: Sequence[str], say: Callable[[str], None]) -> dict[str, Answer]:
    """Have `answer` do tasks in another process; where it dies of one, yet another does those that are left.

    Args:
        tasks: See `answer`.
        say: Told what goes on.

    Returns:
        What came of each task.
    """
    answers: dict[str, Answer] = {}
    say("Trying packages, devices and a small index …")
    while left := [task for task in tasks if task not in answers]:
        output, end = _run(left)
        begun = ""
        for line in output.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if "begun" in told:
                begun = told["begun"]
            else:
                answers[told["task"]] = Answer(told.get("value"), told.get("error", ""))
        missed = begun if begun and begun not in answers else ""
        if missed or not output:
            answers[missed or left[0]] = Answer(error=end)
    return answers


def _run(tasks: Sequence[str]) -> tuple[str, str]:
    """Run `detector.probing` on tasks.

    Returns:
        What it wrote, and how it ended, in words.
    """
    # Where this process found its modules, and nowhere else: a stranger's module in the working folder is not run.
    script = (
        f"import sys; sys.path[:] = {sys.path!r}\nfrom detector.probing import answer; answer(sys.argv[1:])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, *tasks],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return _text(late.stdout), f"no answer within {TIMEOUT_S:.0f} s"
    except OSError as error:
        return "", f"Python could not be started: {error}"
    last = (_text(done.stderr).strip().splitlines() or [""])[-1][:200]
    said = f": {last}" if last else ""
    return _text(done.stdout), f"the process that tried it ended with {_code_in_words(done.returncode)}{said}"


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _code_in_words(code: int) -> str:
    import signal

    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
