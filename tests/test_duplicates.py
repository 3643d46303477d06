"""What a training set holds more than once: proposals, clusters, what to drop, page and command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from detector import DuplicateReport, ReferenceIndex, build_index, find_duplicates, read_drop_list
from detector.duplicates import DuplicateCluster, Keep, Relation
from index.build import BuildOptions
from index.duplicates import mirror_bits
from index.errors import IndexMissingError, SourceError, UsageError
from index.images import read_image
from index.perceptual import PdqDescriptor, PhashDescriptor
from index.vectors import BitStore, UnitStore

ROOT = Path(__file__).resolve().parent.parent
ARTWORKS = sorted(
    p for p in (ROOT / "samples" / "artworks").iterdir() if p.suffix in {".jpg", ".png", ".webp"}
)


def busy(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A picture full of corners: rectangles of random places, sizes and colours."""
    random = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    for _ in range(140):
        x, y = int(random.integers(0, size[0] - 20)), int(random.integers(0, size[1] - 20))
        wide, high = (int(n) for n in random.integers(10, 70, 2))
        pixels[y : y + high, x : x + wide] = random.integers(0, 256, 3)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("works")
    works = {name: busy(seed) for seed, name in enumerate("abcdefgh")}
    for name, work in works.items():
        work.save(made / f"{name}.png")
    works["a"].resize((240, 180)).save(made / "a-half.jpg", quality=80)
    ImageEnhance.Brightness(works["a"]).enhance(0.8).save(made / "a-dark.jpg", quality=60)
    ImageOps.mirror(works["b"]).save(made / "b-mirror.jpg", quality=85)
    works["c"].crop((120, 90, 360, 270)).save(made / "c-crop.png")
    works["d"].save(made / "d-again.bmp")
    shutil.copy(made / "e.png", made / "e-same.png")
    pasted = busy(99, (640, 480))
    pasted.paste(works["f"].resize((240, 180)), (300, 200))
    pasted.save(made / "z-pasted.png")
    return made


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "works.index"
    build_index(folder, out, options=BuildOptions(workers=1))
    return out


@pytest.fixture(scope="module")
def report(index: Path) -> DuplicateReport:
    return find_duplicates(index)


def names(paths: list[str]) -> set[str]:
    return {Path(path).name for path in paths}


def files(cluster: DuplicateCluster) -> set[str]:
    return names([o.path for member in cluster.members for o in member.reference.occurrences])


def cluster_of(report: DuplicateReport, name: str) -> DuplicateCluster:
    return next(cluster for cluster in report if name in files(cluster))


def test_every_copy_is_found_with_what_it_repeats_and_nothing_else(report: DuplicateReport) -> None:
    assert sorted(map(sorted, map(files, report))) == [
        ["a-dark.jpg", "a-half.jpg", "a.png"],
        ["b-mirror.jpg", "b.png"],
        ["c-crop.png", "c.png"],
        ["d-again.bmp", "d.png"],
        ["e-same.png", "e.png"],
        ["f.png", "z-pasted.png"],
    ]


def test_the_most_repeated_comes_first_and_copies_are_counted_by_file(report: DuplicateReport) -> None:
    assert [cluster.copies for cluster in report] == [2, 1, 1, 1, 1, 1]
    assert [cluster.id for cluster in report] == [1, 2, 3, 4, 5, 6]
    assert "occurs 3 times" in report.clusters[0].meaning
    assert (report.references, report.occurrences) == (14, 15)


@pytest.mark.parametrize(
    ("name", "relation", "mirrored"),
    [
        ("a-half.jpg", Relation.NEAR_COPY, False),
        ("b-mirror.jpg", Relation.NEAR_COPY, True),
        ("c-crop.png", Relation.CROP, False),
        ("d-again.bmp", Relation.IDENTICAL, False),
        ("f.png", Relation.INSET, False),
    ],
)
def test_a_member_says_how_it_is_tied(
    report: DuplicateReport, name: str, relation: Relation, mirrored: bool
) -> None:
    tied = [m.tie for m in cluster_of(report, name).members if m.tie is not None]
    assert relation in {tie.relation for tie in tied}
    assert all(tie.level >= 3 and tie.score > 0.5 for tie in tied)
    assert tied[0].mirrored is mirrored


def test_dropping_leaves_one_of_each_and_keeps_what_shows_more(report: DuplicateReport, folder: Path) -> None:
    dropped = names(report.dropped_paths)
    left = {path.name for path in folder.iterdir()} - dropped
    assert {"c.png", "f.png", "g.png", "h.png", "z-pasted.png"} <= left
    assert len(left & {"a.png", "a-dark.jpg"}) == 1
    assert {"a-half.jpg", "c-crop.png"} <= dropped
    assert len(dropped & {"b.png", "b-mirror.jpg"}) == 1
    assert len(dropped & {"d.png", "d-again.bmp"}) == 1
    assert len(dropped & {"e.png", "e-same.png"}) == 1
    assert len(dropped) == 6


def test_the_kept_picture_is_the_largest_or_the_first(index: Path) -> None:
    best = cluster_of(find_duplicates(index, keep=Keep.BEST), "a.png").members[0]
    first = cluster_of(find_duplicates(index, keep="first", parts=False), "a.png").members[0]
    assert best.reference.width == 480
    assert best.kept
    assert Path(first.kept_path).name == "a-dark.jpg"
    with pytest.raises(UsageError, match="'best' or 'first'"):
        find_duplicates(index, keep="worst")


def test_without_parts_only_whole_pictures_are_found(index: Path) -> None:
    found = find_duplicates(index, parts=False)
    assert not found.parts
    everything = set().union(*map(files, found))
    assert "c-crop.png" not in everything
    assert {"a-half.jpg", "b-mirror.jpg", "d-again.bmp", "e-same.png"} <= everything


def test_an_open_index_stays_open(index: Path) -> None:
    with ReferenceIndex.open(index) as opened:
        assert len(find_duplicates(opened, parts=False)) == 4
        assert len(opened) == 14


def test_an_index_without_thumbnails_and_files_still_answers(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    out = tmp_path / "bare.index"
    build_index(moved, out, options=BuildOptions(workers=1, thumbnails=False))
    shutil.rmtree(moved)
    found = find_duplicates(out)
    assert {"a-dark.jpg", "a-half.jpg", "a.png"} == files(cluster_of(found, "a.png"))
    assert cluster_of(found, "b.png").members[1].tie is not None


def test_parts_need_keypoints_and_say_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "hashes.index"
    build_index(folder, out, descriptors=["pdq", "phash"], options=BuildOptions(workers=1))
    assert len(find_duplicates(out)) >= 3
    with pytest.raises(UsageError, match="has no keypoints"):
        find_duplicates(out, parts=True)


def test_unlike_works_give_no_group(tmp_path: Path) -> None:
    folder = tmp_path / "unlike"
    folder.mkdir()
    for seed in range(4):
        busy(seed).save(folder / f"{seed}.png")
    build_index(folder, tmp_path / "u.index", options=BuildOptions(workers=1))
    found = find_duplicates(tmp_path / "u.index")
    assert len(found) == 0
    assert found.summary == "In 4 training images, no picture was found a second time."


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError):
        find_duplicates(tmp_path / "none.index")


# ---------------------------------------------------------------- what it writes


def test_json_lines_hold_every_group(report: DuplicateReport, tmp_path: Path) -> None:
    report.save_jsonl(tmp_path / "d.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["format_version"] == 1 for line in lines)
    assert [path for line in lines for path in line["drop"]] == report.dropped_paths
    assert json.loads(json.dumps(report.to_dict()))["summary"] == report.summary


def test_a_drop_list_comes_back_as_it_was_whatever_the_names(
    report: DuplicateReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        "plain.jpg",
        "two\nlines.jpg",
        '"quoted".jpg',
        "un\udcffdecodable.jpg",
        " space .jpg",
        "a\u2028b",
        "é.jpg",
    ]
    monkeypatch.setattr(DuplicateReport, "dropped_paths", odd)
    report.save_drop_list(tmp_path / "drop.txt")
    assert read_drop_list(tmp_path / "drop.txt") == odd
    assert (tmp_path / "drop.txt").read_bytes().startswith(b"plain.jpg\n")
    (tmp_path / "drop.txt").write_bytes(b'"broken\n')
    with pytest.raises(SourceError):
        read_drop_list(tmp_path / "drop.txt")


def test_the_page_shows_every_picture_and_loads_nothing(report: DuplicateReport, tmp_path: Path) -> None:
    report.save_html(tmp_path / "d.html", command="detector duplicates <b>")
    page = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert report.summary in page
    assert page.count("data:image/webp") == sum(len(cluster.members) for cluster in report)
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert "<script" not in page
    assert "<b>" not in page.split("Command: ")[1][:60]
    assert "http" not in page.split("<main>")[1].split("</main>")[0]


# ---------------------------------------------------------------- rows


def test_pairs_of_a_store_are_those_of_brute_force() -> None:
    random = np.random.default_rng(1)
    rows = random.integers(0, 256, (600, 32), np.uint8)
    rows[300:310] = rows[:10]
    rows[300:305, 0] ^= 5
    owners = np.arange(600, dtype=np.int64) + 7
    found = {(min(a, b), max(a, b), d) for a, b, d in BitStore(rows, owners).pairs_within(31)}
    bits = np.unpackbits(rows, axis=1).astype(np.int64)
    away = (bits[:, None, :64] != bits[None, :, :64]).sum(2) + (bits[:, None, 64:] != bits[None, :, 64:]).sum(
        2
    )
    near = np.argwhere(np.triu(away <= 31, 1))
    assert found == {(int(a) + 7, int(b) + 7, int(away[a, b])) for a, b in near}


def test_ten_thousand_copies_of_a_picture_give_as_many_pairs() -> None:
    rows = np.repeat(np.arange(32, dtype=np.uint8)[None], 10_000, axis=0)
    pairs = list(BitStore(rows, np.arange(10_000, dtype=np.int64)).pairs_within(31))
    assert len(pairs) == 9_999


def test_pairs_above_a_cosine_are_those_of_brute_force() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(300, 16)).astype(np.float32)
    rows[200:220] = rows[:20] + 0.1 * random.normal(size=(20, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = {(min(a, b), max(a, b)) for a, b, _ in UnitStore(rows, np.arange(300)).pairs_above(0.95, most=50)}
    near = np.argwhere(np.triu(rows @ rows.T >= 0.95, 1))
    assert found == {(int(a), int(b)) for a, b in near}


@pytest.mark.parametrize("descriptor", [PdqDescriptor(), PhashDescriptor()])
def test_toggled_bits_are_about_the_hash_of_the_mirrored_picture(
    descriptor: PdqDescriptor | PhashDescriptor,
) -> None:
    for path in ARTWORKS[:8]:
        pictures = [read_image(path)]
        plain, mirrored = descriptor.describe(pictures)[0], descriptor.describe_mirrored(pictures)[0]
        if len(plain):
            off = int(np.unpackbits(plain[0] ^ mirror_bits(plain.shape[1]) ^ mirrored[0]).sum())
            assert off <= plain.shape[1] * 8 / 6


# ---------------------------------------------------------------- the command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detector", "duplicates", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_command_lists_groups_and_writes_files(index: Path, folder: Path, tmp_path: Path) -> None:
    page, drop = tmp_path / "d.html", tmp_path / "drop.txt"
    before = sorted(folder.iterdir())
    done = run("--index", index, "--html", page, "--drop", drop, "--limit", "2")
    assert done.returncode == 0, done.stderr
    assert "6 groups of near-duplicates" in done.stdout
    assert "4 more groups" in done.stdout
    assert page.exists()
    assert len(read_drop_list(drop)) == 6
    assert sorted(folder.iterdir()) == before


def test_the_command_gives_json_and_refuses_what_it_cannot_do(index: Path, tmp_path: Path) -> None:
    done = run("--index", index, "--no-parts", "--json")
    assert json.loads(done.stdout)["parts"] is False
    assert run("--index", tmp_path / "none.index").returncode == 2
    assert run("--index", index, "--keep", "worst").returncode == 2
    same = tmp_path / "x.txt"
    assert run("--index", index, "--drop", same, "--html", same).returncode == 2
