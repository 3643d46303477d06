"""`Detector` and its scans: what is found, what is not, in which order, and what a partial index says."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detector import Detector
from detector.report import ImageReport, Verdict
from detector.scan import Progress, ScanOptions
from index.build import BuildOptions, build_index
from index.errors import IndexMissingError, UsageError
from index.images import read_image
from index.reference_index import ReferenceIndex


@pytest.fixture(scope="module")
def detector(sample_index: Path) -> Any:
    with Detector.open(sample_index) as opened:
        yield opened


@pytest.fixture(scope="module")
def truth(edited: Path) -> dict[str, dict[str, str]]:
    with (edited / "truth.csv").open(encoding="utf-8", newline="") as stream:
        return {row["file_name"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def findings(detector: Detector, edited: Path) -> dict[str, ImageReport]:
    return {Path(report.query).name: report for report in detector.scan(edited)}


def first(report: ImageReport) -> str:
    return Path(report.matches[0].reference.occurrences[0].path).name if report.matches else ""


# What the samples must show


def test_every_edited_copy_is_a_replica_of_the_right_reference(
    findings: dict[str, ImageReport], truth: dict[str, dict[str, str]]
) -> None:
    edited = {name: row for name, row in truth.items() if row["reference"]}
    assert len(edited) == 27
    wrong = {
        name: (row["edit"], row["reference"], findings[name].verdict.value, first(findings[name]))
        for name, row in edited.items()
        if findings[name].verdict is not Verdict.REPLICA or first(findings[name]) != row["reference"]
    }
    assert not wrong


def test_no_unrelated_picture_is_flagged(
    findings: dict[str, ImageReport], truth: dict[str, dict[str, str]]
) -> None:
    unrelated = [name for name, row in truth.items() if not row["reference"]]
    flagged = {
        name: (truth[name]["edit"], findings[name].level, first(findings[name]))
        for name in unrelated
        if findings[name].verdict is not Verdict.NO_MATCH
    }
    assert not flagged
    assert len(unrelated) + 27 == len(findings) == len(truth)


def test_mirrored_copies_are_reported_as_mirrored(
    findings: dict[str, ImageReport], truth: dict[str, dict[str, str]]
) -> None:
    for name, row in truth.items():
        if row["reference"]:
            assert findings[name].matches[0].mirrored is (row["edit"] == "mirrored"), (name, row["edit"])


def test_a_pasted_part_is_shown_where_it_lies(
    findings: dict[str, ImageReport], truth: dict[str, dict[str, str]]
) -> None:
    for name, row in truth.items():
        if not row["region"]:
            continue
        left, top, right, bottom = (float(edge) for edge in row["region"].split(","))
        match = findings[name].matches[0]
        assert match.level == 3, name
        xs, ys = zip(*match.query_region, strict=True)
        width = max(0.0, min(right, max(xs)) - max(left, min(xs)))
        height = max(0.0, min(bottom, max(ys)) - max(top, min(ys)))
        shared = width * height
        union = (right - left) * (bottom - top) + (max(xs) - min(xs)) * (max(ys) - min(ys)) - shared
        assert shared / union > 0.5, (name, row["region"], match.query_region)


def test_every_reference_is_found_as_verbatim(detector: Detector, artworks: Path) -> None:
    for path in sorted(artworks.glob("[c-l]*-1.*")):
        report = detector.check(path)
        assert (report.verdict, report.level, report.score) == (Verdict.REPLICA, 5, 1.0), path.name
        assert first(report) == path.name
        match = report.matches[0]
        assert match.evidence.verification == "identical"
        assert not match.mirrored


def test_a_match_says_who_made_the_work_and_under_which_licence(detector: Detector, artworks: Path) -> None:
    with (artworks / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["file_name"] == "botanical-1.jpg")
    occurrence = detector.check(artworks / "botanical-1.jpg").matches[0].reference.occurrences[0]
    assert (occurrence.artist, occurrence.title) == (row["artist"], row["title"])
    assert occurrence.licence == row.get("licence", row.get("license"))


# What is taken


def test_a_path_bytes_an_image_and_an_array_give_the_same_finding(detector: Detector, edited: Path) -> None:
    path = edited / "0008.jpg"
    with Image.open(path) as image:
        image.load()
        inputs: list[Any] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
        reports = detector.check_many(inputs)
    assert [report.query for report in reports] == [path.as_posix()] * 2 + ["image 3", "image 4", "image 5"]
    assert {first(report) for report in reports} == {"expressionist-1.jpg"}
    assert {report.level for report in reports} == {reports[0].level}
    assert reports[0].matches == reports[2].matches
    assert detector.check(path, name="mine").query == "mine"
    assert detector.check(path) == reports[0]


def test_many_are_answered_in_order_with_the_unreadable_among_them(
    detector: Detector, artworks: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    inputs: list[Any] = [artworks / "city-1.jpg", tmp_path / "text.jpg", b"", artworks / "seascape-1.jpg"]
    inputs += [tmp_path / "gone.png", np.zeros((3, 3, 2)), tmp_path]
    reports = detector.check_many(inputs)
    assert [first(report) for report in reports] == ["city-1.jpg", "", "", "seascape-1.jpg", "", "", ""]
    assert [report.reason for report in reports] == [
        *(None, "not_an_image", "empty", None, "missing", "unsupported_array", "is_a_directory")
    ]
    assert [report.verdict for report in reports].count(Verdict.UNREADABLE) == 5
    assert detector.check_many([]) == []


def noise(width: int, height: int, *, grey: bool) -> Image.Image:
    rng = np.random.default_rng(width * height)
    shape = (height, width) if grey else (height, width, 3)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def too_plain() -> dict[str, Image.Image]:
    ramp = np.linspace(0, 255, 400)[None].repeat(300, 0)
    diagonal = (np.add.outer(np.linspace(0, 1, 300), np.linspace(0, 1, 400)) * 127).astype(np.uint8)
    y, x = np.mgrid[-1:1:300j, -1:1:400j]
    return {
        "white": Image.new("RGB", (400, 300), "white"),
        "black": Image.new("RGB", (400, 300)),
        "teal": Image.new("RGB", (512, 512), "teal"),
        "transparent": Image.new("RGBA", (400, 300), (0, 0, 0, 0)),
        "gradient": Image.fromarray(ramp.astype(np.uint8)),
        "diagonal": Image.fromarray(diagonal),
        "radial": Image.fromarray((255 - 120 * (x**2 + y**2)).clip(0, 255).astype(np.uint8)),
        "tiny": noise(12, 300, grey=False),
        "one pixel": Image.new("RGB", (1, 1), "red"),
        "grey noise": noise(512, 512, grey=True),
        "noise": noise(512, 512, grey=False),
        "large noise": noise(1200, 900, grey=False),
        "small noise": noise(128, 128, grey=False),
    }


@pytest.mark.parametrize("name", too_plain())
def test_nothing_comes_from_nothing(detector: Detector, name: str) -> None:
    report = detector.check(too_plain()[name], name=name)
    assert (report.verdict, report.reason, report.matches) == (Verdict.NO_MATCH, "too_little_detail", ())


def test_sparse_drawings_carry_enough(detector: Detector, artworks: Path) -> None:
    for path in sorted(artworks.glob("line-art-*")):
        assert detector.check(path).reason is None
    image = Image.new("RGB", (500, 500), "white")
    drawing = ImageDraw.Draw(image)
    drawing.line([(60, 400), (160, 120), (300, 330), (430, 90)], fill="black", width=4)
    drawing.ellipse((180, 180, 330, 420), outline="black", width=4)
    assert detector.check(image).reason is None


# Scans


def test_findings_come_in_the_folders_order_whatever_the_workers(
    detector: Detector, edited: Path, tmp_path: Path
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(edited.glob("000*")):
        shutil.copy(path, some)
    (some / "0010x-broken.jpg").write_bytes(b"no picture")
    written = []
    for workers, batch_size in ((1, 8), (4, 3), (2, 1)):
        jsonl = tmp_path / f"{workers}.jsonl"
        options = ScanOptions(workers=workers, batch_size=batch_size)
        detector.scan(some, jsonl=jsonl, options=options)
        written.append(jsonl.read_bytes())
    assert written[0] == written[1] == written[2]
    scan = detector.scan(some)
    assert [Path(report.query).name for report in scan] == sorted(path.name for path in some.iterdir())
    assert scan.summary.unreadable == 1


def test_a_resumed_scan_equals_a_whole_one(detector: Detector, edited: Path, tmp_path: Path) -> None:
    paths = sorted(edited.glob("000*"))
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    detector.scan(paths, jsonl=whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:4]) + lines[4][:50])  # as a kill in the middle of a line leaves it
    seen: list[Progress] = []
    report = detector.scan(paths, jsonl=cut, options=ScanOptions(resume=True), on_progress=seen.append)
    assert cut.read_bytes() == whole.read_bytes()
    assert [progress.done for progress in seen] == list(range(5, len(paths) + 1))
    assert seen[-1].total == len(paths) == len(report)
    detector.scan(paths, jsonl=cut, options=ScanOptions(resume=True))
    assert cut.read_bytes() == whole.read_bytes()


def test_an_interrupted_scan_leaves_whole_lines(detector: Detector, edited: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    paths, jsonl = sorted(edited.glob("000*")), tmp_path / "f.jsonl"
    with pytest.raises(KeyboardInterrupt):
        detector.scan(paths, jsonl=jsonl, on_progress=interrupt)
    assert jsonl.read_bytes().count(b"\n") == 3
    detector.scan(paths, jsonl=jsonl, options=ScanOptions(resume=True))
    detector.scan(paths, jsonl=tmp_path / "whole.jsonl")
    assert jsonl.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_scans_of_nothing_are_refused(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture found"):
        detector.scan(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        detector.scan(tmp_path / "gone")
    with pytest.raises(IndexMissingError):
        Detector.open(tmp_path / "gone.index")


# Indexes that lack something


NAMES = ("botanical-1.jpg", "city-2.jpg", "landscape-1.jpg", "woodcut-1.jpg", "seascape-2.jpg")


@pytest.fixture(scope="module")
def few(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few") / "pictures"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(artworks / name, folder)
    return folder


def recompressed(path: Path) -> bytes:
    import io

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").resize((300, 300 * image.height // image.width)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def test_without_keypoints_whole_copies_are_verified_by_their_pixels(few: Path, tmp_path: Path) -> None:
    build_index(few, tmp_path / "i", descriptors=("pdq", "phash"))
    with Detector.open(tmp_path / "i") as detector:
        for name in NAMES:
            report = detector.check(recompressed(few / name))
            assert (report.verdict, first(report)) == (Verdict.REPLICA, name)
            assert report.matches[0].evidence.verification in {"dense", "keypoints"}
            assert (report.matches[0].evidence.aligned_similarity or 0) > 0.5
            assert report.level >= 4


def test_without_thumbnails_and_files_keypoints_still_verify(few: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(few, tmp_path / "own"))
    build_index(own, tmp_path / "i", options=BuildOptions(thumbnails=False))
    shutil.rmtree(own)
    with Detector.open(tmp_path / "i") as detector:
        for name in NAMES:
            report = detector.check(recompressed(few / name))
            assert (report.verdict, first(report)) == (Verdict.REPLICA, name)
            assert report.matches[0].evidence.verification == "keypoints"
            assert report.matches[0].evidence.aligned_similarity is None
            assert len(report.matches[0].query_region) >= 3


def test_with_hashes_alone_a_copy_is_a_possible_one(few: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(few, tmp_path / "own"))
    options = BuildOptions(thumbnails=False)
    build_index(own, tmp_path / "i", descriptors=("pdq", "phash"), options=options)
    shutil.rmtree(own)
    with Detector.open(tmp_path / "i") as detector:
        for name in NAMES:
            report = detector.check(recompressed(few / name))
            assert (report.verdict, report.level, first(report)) == (Verdict.POSSIBLE, 2, name)
            assert report.matches[0].evidence.verification == "unverified"
            assert report.matches[0].query_region == ()
            assert detector.check(few / name).level == 5  # the very file needs no verification


def test_a_removed_reference_matches_no_more(few: Path, tmp_path: Path) -> None:
    build_index(few, tmp_path / "i")
    query = recompressed(few / NAMES[1])
    with Detector.open(tmp_path / "i") as before:
        assert first(before.check(query)) == NAMES[1]
        with ReferenceIndex.open(tmp_path / "i", writable=True) as index:
            assert index.remove(path=(few / NAMES[1]).as_posix()) == (1, 1)
        with Detector.open(tmp_path / "i") as after:
            for image in (query, few / NAMES[1]):
                report = after.check(image)
                assert NAMES[1] not in {Path(m.reference.occurrences[0].path).name for m in report.matches}
                assert report.verdict is Verdict.NO_MATCH
        assert first(before.check(query)) == NAMES[1]  # it stays on what it opened


def test_an_empty_index_matches_nothing(few: Path, tmp_path: Path) -> None:
    ReferenceIndex.create(tmp_path / "i").close()
    with Detector.open(tmp_path / "i") as detector:
        report = detector.check(few / NAMES[0])
        assert (report.verdict, report.matches, report.reason) == (Verdict.NO_MATCH, (), None)


def test_a_detector_may_be_shared_between_threads(detector: Detector, edited: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted(edited.glob("000*"))
    alone = [detector.check(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.check, paths)) == alone
    assert read_image(paths[0]).width > 0
