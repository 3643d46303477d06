"""A newcomer's first hour, each line a process of its own: help, plain mistakes, the Tab key, the wheel installed anew.

The home folder is empty and no network can be reached. Mistakes are those of `mistakes.py`, each made beside all the
others in one of as many folders as there are cores.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from detector.cli import app
from tests.benchmarks.mistakes import (
    FINE,
    MISTAKES,
    SAMPLES,
    complaints,
    make_place,
    plain_complaints,
    words_of,
)
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.wheels import ROOT, build_wheel, install

HUNG_S = 120.0
"""Longest that a line may take; the demo builds and scans in it."""

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2
"""Linux prctl(2) and capabilities(7): what lets the superuser read and write all."""

QUICK_STEP = 12
"""A quick run makes every so many of the mistakes."""

CLOSED = (
    ("scan closed --index I", "closed: no permission to read"),
    ("index build A --out closed/X", "closed/X/manifest.json: Permission denied"),
    ("scan G --index closed", "'closed' is not readable"),
)
TABS = (
    ("detector sc", "scan"),
    ("detector index ch", "check"),
    ("detector scan --fail", "--fail-on"),
    ("detector scan --fail-on ", "never"),
    ("detector scan G --index ", "I"),
    ("detector index build --descriptors p", "pdq"),
    ("detector audit --dtype f", "float16"),
)
SHELLS = ("bash", "zsh", "fish")

# After `pip install`, in an empty folder to which a few pictures were copied: line, exit code, words.
FIRST_LINES: list[tuple[str, int, str]] = [
    ("--version", 0, "detector "),
    ("doctor", 0, "found"),
    ("demo", 0, "28 of 37 generated pictures replicate"),
    ("index build pictures --out my.index", 0, "3 references"),
    ("index info --index my.index", 0, "references"),
    ("index check --index my.index", 0, "as it was committed"),
    ("scan outputs --index my.index --jsonl found.jsonl --html page.html", 1, "1 of 2"),
    ("check outputs/0024.png --index my.index", 1, "copy"),
    ("report found.jsonl --index my.index --html again.html", 1, "again.html"),
    ("duplicates --index my.index", 0, "no picture was found a second time"),
    ("artist Abara --index my.index", 0, "a name is found only where one is recorded"),
    ("index remove --index my.index --path pictures/poster-2.jpg --yes", 0, "forgotten"),
]


@dataclass(frozen=True)
class Told:
    """How a line ended: its exit code (None where it was stopped), what it printed on both streams, seconds."""

    ended: int | None
    said: str
    seconds: float


@dataclass
class Tally:
    """What one kind of lines came to; `bad` holds (line, what is wrong with its answer)."""

    what: str
    tried: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def add(self, line: str, told: Told, wrong: Iterable[str]) -> None:
        """Count a line."""
        self.tried += 1
        self.slowest = max(self.slowest, (told.seconds, line))
        self.bad += [(line, text) for text in (["hung"] if told.ended is None else wrong)]

    def count(self, beginning: str) -> int:
        """Return how many lines have a complaint that begins so."""
        return len({line for line, text in self.bad if text.startswith(beginning)})


def tell(
    words: Sequence[str],
    place: Path,
    *,
    command: Sequence[str] = (sys.executable, "-m", "detector"),
    privileged: bool = True,
    **variables: str,
) -> Told:
    """Run a line in a folder, with an empty home and without network.

    Args:
        words: Arguments.
        place: The working folder.
        command: What is run.
        privileged: False takes from a superuser what lets him read and write all (Linux).
        variables: More of the environment.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
        own = {"HOME": home, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT), **nowhere}
        try:
            done = subprocess.run(
                [*command, *words],
                cwd=place,
                env={**os.environ, **own, **variables},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=HUNG_S,
                check=False,
                preexec_fn=None if privileged else _obey_permissions,
            )
        except subprocess.TimeoutExpired:
            return Told(None, "", time.monotonic() - begun)
    return Told(done.returncode, done.stdout + done.stderr, time.monotonic() - begun)


def _obey_permissions() -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE)
    prctl(_PR_CAPBSET_DROP, _CAP_DAC_READ_SEARCH)


def tab_pressed(shell: str, line: str) -> dict[str, str]:
    """Return the variables by which the scripts of `--install-completion` ask what may end a line."""
    return {
        "_DETECTOR_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def every_command(command: Any = None, name: str = "detector") -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) of each command and group below one; below the program itself without one."""
    command = typer.main.get_command(app) if command is None else command
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, f"{name} {child}")


def run(options: Options) -> Result:
    """Measure."""
    step = QUICK_STEP if options.quick else 1
    scratch = Path(tempfile.mkdtemp(prefix="first-hour-"))
    try:
        tallies = [_helps(scratch, step)]
        progress("first_hour: mistakes")
        tallies += _mistakes(scratch, step)
        if sys.platform == "linux":
            tallies.append(_no_permission(scratch / "place-0"))
        progress("first_hour: the Tab key")
        tallies.append(_tabs(scratch / "place-0"))
        progress("first_hour: the wheel")
        tallies.append(_wheel(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result = Result("first_hour")
    columns = ("what", "lines", "tracebacks", "other exit codes", "poor words", "hung", "slowest")
    result.tables.append(Table("A newcomer's first hour", columns, [_row(tally) for tally in tallies], NOTE))
    bad = [(line, text) for tally in tallies for line, text in tally.bad]
    if bad:
        result.tables.append(Table("Lines answered badly", ("line", "what is wrong"), bad))
    result.figures["bad"] = bad
    result.bar("lines tried", sum(tally.tried for tally in tallies), least=1)
    for what, beginning in KINDS:
        result.bar(f"lines {what}", sum(tally.count(beginning) for tally in tallies), most=0)
    return result


KINDS = (
    ("ended in a traceback", "a traceback"),
    ("with another exit code", "exit code"),
    ("that lack what failed or the next step", ("does not say", "names nothing", "goes on")),
    ("hung", "hung"),
)
NOTE = (
    "Each line is a process of its own with an empty home folder and no network. Every answer to a mistake must end "
    "with the documented exit code, name the value at fault and say what to do next; the words looked for are in "
    f"`tests/benchmarks/mistakes.py`. Hung: over {HUNG_S:.0f} s. The wheel is built from the tracked files and "
    "installed in a new environment outside the checkout; the packages it needs are lent to it."
)


def _row(tally: Tally) -> tuple[object, ...]:
    return (
        tally.what,
        tally.tried,
        *(tally.count(text) for _, text in KINDS),
        f"{tally.slowest[0]:.1f} s: `{tally.slowest[1]}`",
    )


def _helps(scratch: Path, step: int) -> Tally:
    """`--help` and `-h` of every command: the same, with a usage line and every option that the command takes."""
    tally = Tally("help of every command, in both spellings")
    commands = list(every_command())[::step]
    asked = [[*name.split()[1:], flag] for name, _ in commands for flag in ("--help", "-h")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        told = list(pool.map(lambda words: tell(words, scratch), asked))
    for (name, command), long, short in zip(commands, told[::2], told[1::2], strict=True):
        options = [
            max(one.opts, key=len)
            for one in command.params
            if one.param_type_name == "option" and not one.hidden
        ]
        wrong = [] if long.said == short.said else ["does not say the same with -h"]
        wrong += [f"does not say {option}" for option in options if option not in long.said]
        for flag, one in (("--help", long), ("-h", short)):
            tally.add(f"{name} {flag}", one, wrong + _plain(one, 0, "Usage:"))
    return tally


def _mistakes(scratch: Path, step: int) -> list[Tally]:
    """All the plain mistakes, and what only looks like one; one folder for each core."""
    wrong, fine = Tally("plain mistakes"), Tally("what only looks like a mistake")
    cores = os.cpu_count() or 1
    places = [scratch / f"place-{number}" for number in range(cores)]
    for place in places:
        place.mkdir()
        make_place(place)
    shares = [MISTAKES[::step][number::cores] for number in range(cores)]
    shares[-1] = [*shares[-1], *FINE[::step]]  # some of them change the index: they come after
    with ThreadPoolExecutor(cores) as pool:
        for share in pool.map(_made, places, shares):
            for entry, told in share:
                line, code, words = entry
                tally = fine if entry in FINE else wrong
                tally.add(line, told, complaints(line, code, words, ended=told.ended, said=told.said))
    return [wrong, fine]


def _made(place: Path, entries: Sequence[tuple[str, int, str]]) -> list[tuple[tuple[str, int, str], Told]]:
    answers = []
    for entry in entries:
        answers.append((entry, tell(words_of(entry[0]), place)))
        # Pictures that cannot be used leave an index that lists them.
        shutil.rmtree(place / "X", ignore_errors=True)
    return answers


def _no_permission(place: Path) -> Tally:
    """Folders that may not be read or written."""
    (place / "closed").mkdir(mode=0o000)
    tally = Tally("folders without permission")
    for line, words in CLOSED:
        told = tell(line.split(), place, privileged=False)
        tally.add(line, told, _plain(told, 2, words))
    return tally


def _tabs(place: Path) -> Tally:
    """What the scripts of `--install-completion` ask for."""
    tally = Tally("the Tab key in bash, zsh and fish")
    for shell in SHELLS:
        for line, wanted in TABS:
            told = tell([], place, **tab_pressed(shell, line))
            tally.add(f"{shell}: {line}", told, _plain(told, 0, wanted))
    return tally


def _wheel(scratch: Path) -> Tally:
    """The wheel in a new environment: what README does first, in an empty folder."""
    tally = Tally("the wheel, newly installed")
    folder = scratch / "wheel"
    folder.mkdir()
    program = install(build_wheel(folder), folder / "environment") / "detector"
    place = scratch / "empty"
    for name, pictures in (
        ("pictures", ("artworks/stained-glass-3.webp", "artworks/poster-2.jpg", "artworks/city-3.jpg")),
        ("outputs", ("edited/0024.png", "edited/0005.jpg")),
    ):
        (place / name).mkdir(parents=True)
        for picture in pictures:
            shutil.copy(SAMPLES / picture, place / name)
    for line, code, words in FIRST_LINES:
        told = tell(line.split(), place, command=[str(program)], PYTHONPATH="")
        tally.add(line, told, _plain(told, code, words))
    return tally


def _plain(told: Told, code: int, words: str) -> list[str]:
    return plain_complaints(code, words, ended=told.ended, said=told.said)
