"""The Tab key: commands, options and values are proposed in bash, zsh and fish, without loading anything heavy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detector.commands import completing
from index.descriptors import DEFAULT_DESCRIPTORS
from index.requests import STATES
from tests.benchmarks.first_hour import tab_pressed
from tests.test_architecture import NOT_AT_START

ROOT = Path(__file__).resolve().parents[1]


def proposed(shell: str, line: str, cwd: Path) -> list[str]:
    """Ask as the scripts do that --install-completion writes; the last word of the line is the one begun."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "detector"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **tab_pressed(shell, line)},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "import time:" in line]
    assert len(imported) > 10
    heavy = NOT_AT_START - {"pydantic"}  # which newer Typers load themselves to complete a word
    assert not {name.split(".")[0] for name in imported} & heavy
    return done.stdout.splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "art.index").mkdir()
    (tmp_path / "art.index" / "manifest.json").write_text("{}")
    (tmp_path / "art.pictures").mkdir()
    (tmp_path / "more").mkdir()
    shutil.copytree(tmp_path / "art.index", tmp_path / "more" / "other.index")
    (tmp_path / "works.db").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("detector sc", {"scan"}),
        ("detector do", {"doctor"}),
        ("detector index ch", {"check"}),
        ("detector index requests ", {"list", "show", "accept", "decline"}),
        ("detector scan --fail", {"--fail-on"}),
        ("detector scan --fail-on ", set(completing.LEVELS)),
        ("detector scan pictures --index ", {"art.index", "works.db"}),
        ("detector scan pictures --index art.", {"art.index"}),
        ("detector scan pictures --index more/", {"more/other.index"}),
        ("detector scan --allow-licence CC0", {"CC0-1.0"}),
        ("detector scan --device ", {"cpu", "cuda", "mps"}),
        ("detector index build --descriptors p", {"pdq", "phash"}),
        ("detector index build --descriptors pdq,p", {"pdq,phash"}),
        ("detector duplicates --keep ", {"best", "first"}),
        ("detector index requests list --state ", set(STATES)),
        ("detector audit --dtype f", {"float32", "float16"}),
        ("detector scan --index missing/", set()),
        ("detector scan ", set()),
    ],
)
def test_bash_proposes(line: str, wanted: set[str], place: Path) -> None:
    assert set(filter(None, proposed("bash", line, place))) == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_propose_commands_with_what_they_do_and_values(shell: str, place: Path) -> None:
    commands = "\n".join(proposed(shell, "detector ", place))
    assert "scan" in commands
    assert "Check folders of generated pictures" in commands
    assert "never" in "\n".join(proposed(shell, "detector scan --fail-on ", place))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_takes_the_script_and_fills_in_the_word(place: Path) -> None:
    command = place / "detector"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m detector "$@"\n')
    command.chmod(0o755)
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = subprocess.run(
        [str(command)],
        env={**variables, "_DETECTOR_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pressed = f"{script}\nCOMP_WORDS=({command} scan x --index art.)\nCOMP_CWORD=4\n_detector_completion {command}\n"
    pressed += 'printf "%s\\n" "${COMPREPLY[@]}"\ncomplete -p detector\n'
    done = subprocess.run(
        ["bash", "--norc", "-c", pressed],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[0] == "art.index", done.stderr
    assert "-o default" in done.stdout  # where nothing is proposed, files are


def test_the_script_is_installed_in_an_empty_home(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "detector", "--install-completion", "bash"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.rglob("detector.sh"))


def test_what_is_proposed_exists() -> None:
    assert set(completing.DESCRIPTORS) >= set(DEFAULT_DESCRIPTORS)
    from detector.audit.options import DTYPES, Part
    from detector.commands.options import level_bound
    from detector.duplicates import Keep

    assert [level_bound(level) for level in completing.LEVELS] == [1, 2, 3, 4, 5, 6]
    source = (ROOT / "detector" / "commands" / "auditing.py").read_text(encoding="utf-8")
    for word in (*DTYPES, *(part.value for part in Part)):
        assert f'"{word}"' in source
    assert {keep.value for keep in Keep} == {"best", "first"}
