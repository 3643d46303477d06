"""Files of every format ever written are read, searched and added to as the code that wrote them did."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from detector.audit.log import LOG, Log
from detector.scoring import load_model
from index import migrations
from tests.benchmarks import upgrades


@pytest.mark.parametrize("what", upgrades.ATTEMPTS)
@pytest.mark.parametrize("name", upgrades.NAMES)
def test_an_index_of_an_earlier_format_is(name: str, what: str, tmp_path: Path) -> None:
    recorded = upgrades.unpacked(name, tmp_path / "old") | {"name": name}
    assert upgrades.ATTEMPTS[what](tmp_path / "old", recorded) == []


def test_every_frozen_file_is_tried_and_says_where_it_is_from() -> None:
    assert {path.stem for path in upgrades.FORMATS.glob("*.zip")} == set(upgrades.NAMES)
    for name in upgrades.NAMES:
        recorded = json.loads((upgrades.FORMATS / f"{name}.json").read_text(encoding="utf-8"))
        assert recorded["commit"]
        assert set(recorded["answers"]) == {
            f"queries/{p.name}" for p in (upgrades.FORMATS / "queries").iterdir()
        }


def test_a_newer_format_of_each_kind_is_refused_with_the_way_out(tmp_path: Path) -> None:
    problems = {what: upgrades.refused(call) for what, call in upgrades.newer(tmp_path / "newer")}
    assert len(problems) >= 10
    assert {what: said for what, said in problems.items() if said} == {}


def test_the_first_scoring_model_of_this_format_is_read() -> None:
    assert load_model(upgrades.FORMATS / "scoring.json").min_score > 0


def test_an_audit_goes_on_in_the_log_of_an_earlier_one(tmp_path: Path) -> None:
    shutil.copy(upgrades.FORMATS / LOG, tmp_path)
    with Log(tmp_path, upgrades.audit_identity()) as log:
        assert len(log.items) == 2
    assert (tmp_path / LOG).read_bytes() == (upgrades.FORMATS / LOG).read_bytes()


@pytest.mark.crash
@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9")
@pytest.mark.parametrize("statements", [0, 4, 8])
def test_a_killed_migration_is_complete_or_not_at_all(statements: int, tmp_path: Path) -> None:
    _, problems = upgrades.killed(tmp_path / "killed", statements)
    assert problems == []


# The harness notices what it is there for.


def test_a_reader_that_writes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = upgrades.unpacked("first", tmp_path / "old")
    answers = upgrades.answers

    def writing(folder: Path) -> object:
        with closing(sqlite3.connect(folder / "art.index" / "catalog.sqlite")) as catalogue:
            migrations.migrate(catalogue)
        return answers(folder)

    monkeypatch.setattr(upgrades, "answers", writing)
    assert any("files after reading" in problem for problem in upgrades.read(tmp_path / "old", recorded))


def test_another_answer_is_noticed(tmp_path: Path) -> None:
    recorded = upgrades.unpacked("first", tmp_path / "old")
    other = tmp_path / "old" / "queries" / "other.png"
    shutil.copy(tmp_path / "old" / "works" / "2.png", other)
    assert any("answers" in problem for problem in upgrades.read(tmp_path / "old", recorded))


def test_a_newer_format_that_is_taken_is_noticed() -> None:
    assert upgrades.refused(lambda: None) == ["it was taken as it is"]
