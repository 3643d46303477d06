"""The same input gives the same findings and the same index, however the work is divided among workers and threads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import determinism
from tests.benchmarks.results import Options


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_findings_and_indexes_do_not_depend_on_how_the_work_is_divided(
    artworks: Path, tmp_path: Path
) -> None:
    result = determinism.run(Options(artworks, tmp_path, quick=True, seed=20261121))
    assert result.bars
    assert [bar for bar in result.bars if not bar.met] == []
    assert result.figures["largest difference of a stored number"] == 0.0


def test_an_index_of_other_rows_is_noticed(sample_index: Path, own_index: Path) -> None:
    before = determinism.content(sample_index)
    assert determinism.differing(determinism.content(own_index), before) == []
    (segment,) = (own_index / "vectors").glob("phash-*1.npy")
    rows = np.load(segment)
    rows[0, 0] ^= 1
    np.save(segment, rows)
    (said,) = determinism.differing(determinism.content(own_index), before)
    assert said.startswith("rows of phash: 1 of ")


def test_a_tower_that_answers_otherwise_is_measured(sample_index: Path, own_index: Path) -> None:
    (segment,) = (own_index / "vectors").glob("clip_bundled-*1.npy")
    rows = np.load(segment)
    rows[0, 0] += np.float16(0.25)
    np.save(segment, rows)
    assert determinism.furthest(sample_index, own_index) == pytest.approx(0.25, abs=0.01)


def test_findings_in_another_order_of_files_are_compared_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (queries / name).write_bytes(b"")

    def pretended(way: determinism.Way, *words: str | Path) -> None:
        files = [Path(word) for word in words if isinstance(word, Path)]
        named = [path.name for path in files if path.suffix == ".png"] or sorted(
            p.name for p in queries.iterdir()
        )
        files[-1].write_text("".join(f"{name}\n" for name in named))

    monkeypatch.setattr(determinism, "detector", pretended)
    wanted = [b"a.png\n", b"b.png\n", b"c.png\n"]
    for order in ("folder", "reversed", "shuffled"):
        way = determinism.Way(1, order=order)
        assert determinism.scan(queries, tmp_path / "i", tmp_path / "f.jsonl", way, 3) == wanted
    shutil.rmtree(queries)
