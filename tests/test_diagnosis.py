"""`detector doctor`: says what works and what does not, is stopped by nothing that is broken, and names nobody."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detector import diagnosis
from detector.diagnosis import DISTRIBUTION, Fact, State, diagnose
from detector.probing import Answer, ask

ROOT = Path(__file__).resolve().parents[1]


def doctor(*words: str, path: Path | None = None, cwd: Path | None = None, **variables: str) -> Any:
    """Run `detector doctor`, with modules in `path` found before any others."""
    places = [str(place) for place in (path, ROOT) if place is not None]
    return subprocess.run(
        [sys.executable, "-m", "detector", "doctor", *words],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def by_name(answer: str) -> dict[str, dict[str, str]]:
    return {fact["name"]: fact for fact in json.loads(answer)["facts"]}


@pytest.mark.slow
def test_an_installation_that_works_and_a_good_index(sample_index: Path) -> None:
    done = doctor("--index", str(sample_index))
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (DISTRIBUTION, "Python", "torch", "clip:bundled", "AVIF", "free disk", "the copy was found"):
        assert word in done.stdout
    assert "60 references" in done.stdout
    assert "The main job works" in done.stdout


@pytest.mark.slow
def test_an_answer_names_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home" / "ann-example"
    place = home / "art.index"
    place.mkdir(parents=True)
    done = doctor("--json", "--index", str(place), HOME=str(home), USERPROFILE=str(home), LOGNAME="tmpuser")
    assert done.returncode == 1
    found = by_name(done.stdout)["art.index"]
    assert found["state"] == "broken"
    assert found["value"].startswith("~")
    assert "detector index build" in found["value"]
    assert str(tmp_path) not in done.stdout
    assert "ann-example" not in done.stdout
    assert socket.gethostname() not in done.stdout


def test_the_accounts_name_is_left_out_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    hide = diagnosis._nameless()
    assert hide("/media/ann/disk/art.index: annual") == "/media/…/disk/art.index: annual"
    assert hide(f"{Path.home()}/x and {Path.home()}") == "~/x and ~"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("PIL", "raise OSError('libjpeg.so.62: cannot open')", "libjpeg.so.62: cannot open"),
        ("torch", "import os; os.abort()", "SIGABRT"),
        ("numpy", "1 / 0", "ZeroDivisionError"),
        ("cv2", "import sys; sys.exit(3)", "SystemExit"),
    ],
)
def test_a_broken_package_is_reported_and_not_raised(
    module: str, code: str, said: str, tmp_path: Path
) -> None:
    if said == "SIGABRT" and os.name == "nt":
        said = "exit code"
    (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
    done = doctor("--json", path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    name = {"PIL": "pillow", "cv2": "opencv-python-headless"}.get(module, module)
    found = by_name(done.stdout)
    assert found[name]["state"] == "broken"
    assert said in found[name]["value"]
    assert "pip install" in found[name]["step"]
    assert found["rapidfuzz"]["state"] == "good"  # what has nothing to do with it is still looked at
    # The main job needs no torch: OpenCV runs the bundled tower.
    assert found["index two pictures, check one"]["state"] == ("good" if module == "torch" else "broken")


def answered(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Answer]) -> None:
    """Let the other process say that all is well but for some."""

    def instead(tasks: list[str], say: Any) -> dict[str, Answer]:
        good = {
            "devices": Answer([]),
            "models": Answer([]),
            "codecs": Answer({"readable": ["JPEG"], "lacking": []}),
            "trial": Answer({"verdict": "replica", "level": 5}),
        }
        return {task: good.get(task, Answer()) for task in tasks} | changes

    monkeypatch.setattr(diagnosis, "ask", instead)


def test_a_missing_extra_is_named_with_its_use_and_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {})
    wanted = (["torch"], {"server": ["no-such-server"], "ray": []})
    monkeypatch.setattr(diagnosis, "_requirements", lambda: wanted)
    found = diagnose()
    assert found.works
    fact = next(fact for fact in found.facts if fact.area == "uses")
    assert fact.state is State.MISSING
    assert "detector serve" in fact.name
    assert "no-such-server" in fact.value
    assert f'pip install "{DISTRIBUTION}[server]"' in fact.step


def test_a_missing_package_that_is_needed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {})
    monkeypatch.setattr(diagnosis, "_requirements", lambda: (["no-such-package"], {}))
    found = diagnose()
    assert not found.works
    assert (
        Fact(
            "packages",
            "no-such-package",
            "is not installed",
            State.BROKEN,
            "Install it: pip install no-such-package",
        )
        in found.facts
    )


def test_a_copy_that_is_not_found_again_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {"trial": Answer({"verdict": "no_match", "level": 0})})
    assert not diagnose().works


def test_a_format_that_cannot_be_read_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {"codecs": Answer({"readable": ["JPEG"], "lacking": ["AVIF"]})})
    found = diagnose()
    assert found.works
    fact = next(fact for fact in found.facts if fact.name == "picture formats")
    assert fact.state is State.WARNING
    assert "AVIF" in fact.step


def test_extras_and_needs_are_those_of_the_package() -> None:
    needed, extras = diagnosis._requirements()
    assert {"torch", "numpy", "open_clip_torch"} <= set(needed)
    assert set(extras) == set(diagnosis.USES)
    assert "fastapi" in extras["server"]
    assert "pytest" not in needed


@pytest.mark.parametrize("damage", ["missing", "file", "newer", "empty"])
def test_an_index_that_is_none_fails_with_the_next_step(damage: str, tmp_path: Path) -> None:
    place = tmp_path / "art.index"
    if damage == "file":
        place.write_bytes(b"no folder")
    elif damage == "newer":
        place.mkdir()
        (place / "manifest.json").write_text('{"format_version": 99, "descriptors": []}', encoding="utf-8")
    elif damage == "empty":
        place.mkdir()
    answer = ask([f"index {place}"], lambda text: None)[f"index {place}"]
    fact = diagnosis._index(str(place), answer)
    assert fact.state is State.BROKEN
    wanted = {"file": "is a file", "newer": "pip install -U"}.get(damage, "detector index build")
    assert wanted in fact.value
