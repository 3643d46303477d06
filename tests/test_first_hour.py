"""A newcomer's first hour: every command's help, and the plain mistakes with each; a table of lines, codes and words.

Each mistake ends with the documented exit code, without a traceback, and says what failed, the value and the next step.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from detector.cli import app
from index.build import build_index
from tests.benchmarks.first_hour import every_command, tell
from tests.benchmarks.mistakes import (
    FINE,
    MISTAKES,
    SAMPLES,
    complaints,
    make_place,
    plain_complaints,
    words_of,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the lines speak of."""
    folder = tmp_path_factory.mktemp("hour")
    make_place(folder)
    return folder


@pytest.fixture
def told(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Run a line in that folder, with an empty home and no network, and make sure of what holds for all."""
    if os.name == "nt":
        pytest.skip("pipes and links that lead to themselves are not made there")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> Any:
        words = words_of(line)
        monkeypatch.setattr(sys, "argv", ["detector", *words])
        done = CliRunner().invoke(app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        assert not plain_complaints(done.exit_code, "", ended=done.exit_code, said=done.output), done.output
        return done

    return run


@pytest.mark.parametrize(("line", "code", "words"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_answered_with_what_failed_and_the_next_step(
    line: str, code: int, words: str, told: Callable[[str], Any], here: Path
) -> None:
    done = told(line)
    assert not complaints(line, code, words, ended=done.exit_code, said=done.output), done.output
    if (here / "X").exists():  # pictures that cannot be used leave an index that lists them
        assert line.startswith("index build junk")
        shutil.rmtree(here / "X")


@pytest.mark.parametrize(("line", "code", "words"), FINE, ids=[line for line, _, _ in FINE])
def test_what_only_looks_like_a_mistake_is_done(
    line: str, code: int, words: str, told: Callable[[str], Any]
) -> None:
    done = told(line)
    assert not complaints(line, code, words, ended=done.exit_code, said=done.output), done.output


def test_a_file_whose_name_is_not_utf8_can_be_removed(told: Callable[[str], Any], tmp_path: Path) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.webp")
    try:
        shutil.copy(SAMPLES / "artworks" / "stained-glass-3.webp", folder / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index = tmp_path / "named.index"
    build_index(folder, index, descriptors=["phash"])
    done = told(f"index remove --index {index} --path {shlex.quote(str(folder / name))} --yes")
    assert done.exit_code == 0
    assert "1 occurrence forgotten" in done.stdout
    done = told(f"index remove --index {index} --artist {shlex.quote(name)} --source-contains {name} --yes")
    assert "0 occurrences" in done.stdout


COMMANDS = [name.removeprefix("detector").strip() for name, _ in every_command()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_in_both_spellings(command: str, told: Callable[[str], Any]) -> None:
    long, short = told(f"{command} --help"), told(f"{command} -h")
    assert long.exit_code == short.exit_code == 0
    assert long.stdout == short.stdout
    assert "Usage:" in long.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no head, and pipes end otherwise")
@pytest.mark.parametrize("line", ["--help", "scan --help", "index info --index I", "scan G --index I --json"])
def test_a_reader_that_leaves_early_sees_no_complaint(line: str, here: Path) -> None:
    done = subprocess.run(
        f'"{sys.executable}" -m detector {line} | head -n 2',
        shell=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a superuser gives up his rights by a call of Linux")
def test_no_permission_is_said_with_the_path(here: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    for line in (f"scan {closed} --index I", f"index build A --out {closed}/X", f"scan G --index {closed}"):
        done = tell(line.split(), here, privileged=False)
        assert done.ended == 2, done.said
        assert str(closed) in done.said
        assert "ermission" in done.said
