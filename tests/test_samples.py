"""The sample pictures, their tables and the script that draws them agree with each other."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
ARTWORKS = SAMPLES / "artworks"
EDITED = SAMPLES / "edited"
EDITS = set("recompressed cropped mirrored recoloured pasted retextured rotated text border".split())
REDRAWN = (
    "flow-field-2.jpg woodcut-2.jpg landscape-1.jpg tiling-1.png line-art-2.webp geometric-1.png city-2.jpg"
).split()


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def _pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".csv"}


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SAMPLES))
    return importlib.import_module("artstudio.catalogue")


def test_metadata_names_every_artwork_once() -> None:
    names = [row["file_name"] for row in _rows(ARTWORKS / "metadata.csv")]
    assert len(names) == len(set(names)) >= 48
    assert set(names) == _pictures(ARTWORKS)


def test_artworks_carry_every_kind_of_licence() -> None:
    rows = _rows(ARTWORKS / "metadata.csv")
    licences = {row["licence"] for row in rows}
    assert licences == {"CC0-1.0", "CC-BY-4.0", "LicenseRef-All-Rights-Reserved", ""}
    assert all(row["title"] and row["artist"] and row["caption"] and row["source"] for row in rows)
    assert len({row["artist"] for row in rows}) >= 15


def test_artworks_open_at_their_catalogued_size(catalogue: Any) -> None:
    for work in catalogue.works():
        with Image.open(ARTWORKS / work.file_name) as image:
            assert image.size == (work.width, work.height), work.file_name
            assert 512 <= max(image.size) <= 768, work.file_name


def test_truth_names_every_edited_picture_and_only_known_artworks() -> None:
    rows = _rows(EDITED / "truth.csv")
    names = [row["file_name"] for row in rows]
    assert len(names) == len(set(names))
    assert set(names) == _pictures(EDITED)
    artworks = _pictures(ARTWORKS)
    for row in rows:
        if row["edit"] in EDITS:
            assert row["reference"] in artworks, row
        else:
            assert row["edit"] in {"unrelated", "flat colour", "gradient"}, row
            assert row["reference"] == "", row
    assert {row["edit"] for row in rows} >= EDITS
    assert sum(row["reference"] == "" for row in rows) >= 16


def test_region_is_given_for_pasted_parts_only_and_lies_inside() -> None:
    for row in _rows(EDITED / "truth.csv"):
        assert bool(row["region"]) == (row["edit"] == "pasted"), row
        if row["region"]:
            x0, y0, x1, y1 = (float(side) for side in row["region"].split(","))
            assert 0 <= x0 < x1 <= 1, row
            assert 0 <= y0 < y1 <= 1, row


def test_samples_stay_under_ten_megabytes() -> None:
    files = [path for folder in (ARTWORKS, EDITED) for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 10_000_000


@pytest.mark.parametrize("name", REDRAWN)
def test_drawing_an_artwork_again_gives_the_stored_picture(catalogue: Any, name: str) -> None:
    work = next(work for work in catalogue.works() if work.file_name == name)
    drawn = work.draw().astype(np.int16)
    with Image.open(ARTWORKS / name) as image:
        stored = np.asarray(image.convert("RGB"), dtype=np.int16)
    # Lossy files differ from the drawing by their coding, PNG by rounding on other processors at most.
    assert np.abs(drawn - stored).mean() < (0.05 if name.endswith("png") else 9)
    assert np.array_equal(drawn, work.draw())


def test_metadata_agrees_with_the_catalogue(catalogue: Any) -> None:
    columns = ("file_name", "title", "artist", "licence", "source", "caption")
    listed = [{column: getattr(work, column) for column in columns} for work in catalogue.works()]
    assert _rows(ARTWORKS / "metadata.csv") == listed
