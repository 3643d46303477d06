"""Hostile inputs by the thousand, and whether the harness that tries them would notice a failure."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.errors import DetectorError, UsageError
from tests.benchmarks import atheris_targets, attacks, fuzzing, targets
from tests.benchmarks.fuzzing import Verdict, Watched
from tests.benchmarks.results import Options
from tests.benchmarks.targets import ANSWERED, KINDS, REFUSED, Altered, Kind, World

SEED = 20261121

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are watched through Linux' own files"),
]

CHILD = """
import json, os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    kind, number = line.split()
    print("made", flush=True)
    if kind == "sleep":
        time.sleep(600)
    if kind == "abort":
        os.abort()
    found = {"outcome": "answered", "detail": "", "seconds": 0.1, "mb": 1.0}
    found |= {"long": {"seconds": 9.0}, "large": {"mb": 2000.0}, "changed": {"outcome": "changed"}}.get(kind, {})
    print(json.dumps(found), flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched((sys.executable, "-c", CHILD), tmp_path / "log.txt")
    yield watched
    watched.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_hostile_inputs_are_answered_or_refused(artworks: Path, tmp_path: Path) -> None:
    result = fuzzing.run(Options(artworks, tmp_path, quick=True, seed=SEED))
    failed = [
        f"{v['kind']} {v['number']}: {v['outcome']}: {v['detail'][-500:]}" for v in result.figures["failures"]
    ]
    assert not failed, "\n".join(failed)
    *_, (title, tried, *_) = result.tables[0].rows
    assert title == "all"
    assert tried >= 2_000


def test_inputs_are_the_same_for_the_same_seed_and_number(tmp_path: Path) -> None:
    world = World(tmp_path, tmp_path / "case")
    for name in ("broken", "lying", "told", "polyglots", "csv", "jsonl", "tar", "embeddings", "findings"):
        made = []
        for place in ("one", "other"):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            KINDS[name].make(random.Random(f"{SEED} {name} 3"), folder, world)
            made.append([path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()])
        assert made[0] == made[1], name


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("sound", "answered"),
        ("sleep", "hung"),
        ("long", "hung"),
        ("abort", "crashed"),
        ("large", "bloated"),
        ("changed", "changed"),
    ],
)
def test_a_process_that_hangs_crashes_or_swells_is_noticed_and_the_next_input_tried(
    child: Watched, kind: str, outcome: str
) -> None:
    assert child.tried(kind, 1, wait_s=1.0).outcome == outcome
    assert child.tried("sound", 2, wait_s=30.0).outcome == "answered"


def _raises(error: Exception) -> Kind:
    def use(path: Path, world: World) -> str:
        raise error

    return Kind("", 1, KINDS["broken"].make, use)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UsageError("no"), REFUSED),
        (ValueError("no"), "crashed"),
        (MemoryError(), "crashed"),
        (RecursionError(), "crashed"),
        (Altered("no"), "changed"),
    ],
)
def test_only_an_error_of_the_projects_own_is_a_refusal(
    error: Exception, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "broken", _raises(error))
    found = attacks.attempt(World(tmp_path, tmp_path / "case"), SEED, "broken", 1)
    assert found["outcome"] == outcome


def test_memory_that_is_given_back_counts_all_the_same() -> None:
    before = attacks.reset_peak()
    held = b"x" * 300_000_000
    del held
    assert attacks.peak() - before > 250_000_000
    assert attacks.reset_peak() - before < 150_000_000


def test_an_index_that_is_changed_by_reading_it_is_noticed(
    own_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.reference_index import ReferenceIndex

    def spoiling(self: ReferenceIndex) -> list[str]:
        (self.path / "manifest.json").write_text("{}")
        return []

    monkeypatch.setattr(ReferenceIndex, "check", spoiling)
    monkeypatch.setattr(targets, "_searched", lambda index, world: None)
    with pytest.raises(Altered):
        targets.read_index(own_index, World(tmp_path, tmp_path / "case"))


@pytest.mark.parametrize("outcome", fuzzing.FAILURES)
def test_one_failure_misses_a_bar(outcome: str, tmp_path: Path) -> None:
    verdicts = [Verdict(kind, 0, ANSWERED) for kind in KINDS]
    sound = fuzzing.judged(verdicts, tmp_path, seed=SEED, least=0)
    assert all(bar.met for bar in sound.bars)
    failed = fuzzing.judged([*verdicts, Verdict("broken", 1, outcome)], tmp_path, seed=SEED, least=0)
    assert [bar.what for bar in failed.bars if not bar.met] == [outcome]


def test_every_kind_is_planned_and_the_count_is_kept() -> None:
    planned = fuzzing.plan(2_000)
    assert {kind for kind, _ in planned} == set(KINDS)
    assert len(planned) == len(set(planned)) >= 2_000


@pytest.mark.parametrize("name", sorted(atheris_targets.TARGETS))
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xd8\xff", b"\x93NUMPY\1\0", bytes(1024)])
def test_targets_of_a_fuzzer_led_by_coverage_answer_or_refuse(name: str, data: bytes) -> None:
    with contextlib.suppress(DetectorError):
        atheris_targets.TARGETS[name](data)
