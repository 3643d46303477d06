"""Middle squares: what trainers crop pictures to is described, searched, verified and said beside the whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from detector import Detector
from detector.cli import app
from detector.report import Evidence
from detector.reports.wording import evidence_in_words
from index.build import BuildOptions, build_index
from index.duplicates import near_pairs
from index.images import read_image
from index.reference_index import MANIFEST, ReferenceIndex
from index.regions import middle_square, square_of


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def soft(work: Path) -> Image.Image:
    """The middle square as a small model gives it back: 128 pixels, blurred, with a little noise."""
    image = opened(work)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = image.crop((left, top, left + side, top + side)).resize((128, 128), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(5).normal(0, 4, (128, 128, 3))
    pixels = np.asarray(small.filter(ImageFilter.GaussianBlur(2.2)), np.float64) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def without(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of hashes, built without middle squares."""
    folder = tmp_path_factory.mktemp("without") / "i"
    build_index(artworks, folder, descriptors=("pdq", "phash"), options=BuildOptions(squares=False))
    return folder


@pytest.fixture(scope="module")
def wide(artworks: Path) -> Path:
    """A work twice as wide as high, or nearly."""
    shapes = {path: opened(path).size for path in artworks.iterdir() if path.suffix in (".jpg", ".png")}
    return max(sorted(shapes), key=lambda path: shapes[path][0] / shapes[path][1])


@pytest.mark.parametrize(
    ("frame", "square"),
    [
        ((100, 100), None),
        ((100, 107), None),
        ((107, 100), None),
        ((100, 108), (4, 0, 100)),
        ((108, 100), (0, 4, 100)),
        ((1, 3), (1, 0, 1)),
        ((1, 1), None),
        ((480, 640), (80, 0, 480)),
    ],
)
def test_middle_square_of_a_frame(frame: tuple[int, int], square: tuple[int, int, int] | None) -> None:
    assert middle_square(*frame) == square


def test_only_pictures_that_are_not_square_have_a_second_row(artworks: Path, sample_index: Path) -> None:
    with ReferenceIndex.open(sample_index) as index:
        seen = set()
        for number in index.reference_ids():
            found = index.reference(number)
            assert found is not None
            rows = {name: len(index.store(name).rows_of(number)) for name in ("pdq", "phash", "clip:bundled")}
            square = middle_square(found[0].height, found[0].width) is None
            assert set(rows.values()) == {1 if square else 2}
            seen.add(square)
        assert seen == {True, False} or seen == {False}
        picture = read_image(next(iter(sorted(artworks.glob("*.jpg")))))
        part = square_of(picture)
        descriptor = index.descriptors()["pdq"]
        if part is not None:
            number = index.search(index.describe([picture])[0])[0].reference_id
            assert np.array_equal(index.store("pdq").rows_of(number)[1:], descriptor.describe([part])[0])


def test_a_models_middle_square_is_found_and_lies_in_the_middle(
    wide: Path, sample_index: Path, without: Path, artworks: Path, tmp_path: Path
) -> None:
    with_squares = tmp_path / "with"
    build_index(artworks, with_squares, descriptors=("pdq", "phash"))
    given_back = soft(wide)
    with Detector.open(without) as plain, Detector.open(with_squares) as aware:
        before, after = plain.check(given_back), aware.check(given_back)
    match = after.best
    assert match is not None
    assert Path(match.reference.occurrences[0].path).name == wide.name
    assert match.evidence.reference_frame == "middle square"
    assert match.evidence.pdq_distance is not None
    assert match.evidence.pdq_distance <= 31
    assert match.level >= 3
    xs = [x for x, _ in match.reference_region]
    width, height = opened(wide).size
    left = (1 - height / width) / 2
    assert min(xs) == pytest.approx(left, abs=0.06)
    assert max(xs) == pytest.approx(1 - left, abs=0.06)
    assert before.best is None or (before.best.evidence.pdq_distance or 256) > match.evidence.pdq_distance


def test_the_whole_is_said_to_be_the_whole(wide: Path, sample_index: Path) -> None:
    small = opened(wide).resize((300, 170))
    with Detector.open(sample_index) as detector:
        match = detector.check(small).best
    assert match is not None
    assert match.evidence.reference_frame == "whole"


def test_words_and_json_name_the_frame(sample_index: Path, wide: Path) -> None:
    with Detector.open(sample_index) as detector:
        match = detector.check(soft(wide)).best
    assert match is not None
    assert "to the middle square of the work" in " ".join(evidence_in_words(match))
    values = match.evidence.to_dict()
    assert values["reference_frame"] == "middle square"
    assert Evidence.from_dict(values) == match.evidence
    del values["reference_frame"]  # as a scan of an earlier version has it
    assert Evidence.from_dict(values).reference_frame == "whole"


def test_a_work_and_a_crop_of_another_are_no_near_duplicates(wide: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    image = opened(wide)
    image.save(pictures / "work.png")
    side = image.height
    left = (image.width - side) // 2
    image.crop((left, 0, left + side, side)).save(pictures / "square.png")
    build_index(pictures, tmp_path / "i")
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert [index.near_duplicates(number) for number in index.reference_ids()] == [0, 0]
        for name in ("pdq", "phash"):
            assert list(near_pairs(index.store(name), name)) == []


def test_an_index_without_squares_goes_on_without(without: Path, wide: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(without, tmp_path / "i"))
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    assert manifest.pop("squares") is False
    (folder / MANIFEST).write_text(json.dumps(manifest))  # as an earlier version wrote it
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    opened(wide).rotate(180).save(fresh / "turned.png")
    build_index(fresh, folder)
    with ReferenceIndex.open(folder) as index:
        assert not index.has_squares
        assert index.check() == []
        info = index.info()
        assert info.rows["pdq"] == info.references
    said = CliRunner().invoke(app, ["index", "info", "--index", str(folder)])
    assert "not described" in said.output


def test_squares_can_be_left_out(artworks: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app,
        [
            "index",
            "build",
            str(artworks),
            "--out",
            str(tmp_path / "i"),
            "--descriptors",
            "pdq",
            "--no-squares",
        ],
    )
    assert told.exit_code == 0, told.output
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.info().rows["pdq"] == len(index)
