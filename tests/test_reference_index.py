"""`index.reference_index`: the invariants of an index folder, tried from outside."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import reference_index, thumbnails
from index.catalog import OccurrenceRecord
from index.credits import Credits
from index.descriptors import create
from index.errors import (
    DescriptorError,
    IndexCorruptError,
    IndexLockedError,
    IndexMissingError,
    IndexVersionError,
    IndexWriteError,
    UsageError,
)
from index.images import read_image
from index.items import Rejected
from index.reference_index import MANIFEST, MERGE_ABOVE, NewReference, ReferenceIndex, _newest_to_merge

DESCRIPTORS = ("pdq", "phash", "keypoints")

ROOT = Path(__file__).resolve().parents[1]
FROZEN = Path(__file__).parent / "data" / "index-v1"
NAMES = ("botanical-1.jpg", "city-2.jpg", "line-art-1.png", "woodcut-1.jpg")
ARTIST = "Zebulon Quixworth-Ampersand"


def reference(picture: Path, path: str = "", *, artist: str = "", **credits: str) -> NewReference:
    read = read_image(picture)
    rows = {name: create(name).describe([read])[0] for name in DESCRIPTORS}
    occurrence = OccurrenceRecord(path or picture.name, Credits(artist=artist, **credits), 10, 20)  # type: ignore[arg-type]
    return NewReference(read.sha256, read.width, read.height, occurrence, rows, thumbnails.encode(read))


@pytest.fixture(scope="module")
def prepared(artworks: Path) -> list[NewReference]:
    return [reference(artworks / name) for name in NAMES]


@pytest.fixture
def folder(prepared: list[NewReference], tmp_path: Path) -> Path:
    path = tmp_path / "art.index"
    with ReferenceIndex.create(path, descriptors=DESCRIPTORS) as index:
        assert index.add(prepared) == 4
    return path


def found(index: ReferenceIndex, picture: Path) -> list[int]:
    (query,) = index.describe([read_image(picture)])
    return [c.reference_id for c in index.search(query) if c.similarities.get("pdq", 0) > 0.9]


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


# Creating, adding, searching


def test_what_was_added_is_found_again_after_opening(folder: Path, artworks: Path) -> None:
    with ReferenceIndex.open(folder) as index:
        assert len(index) == 4
        for number, name in enumerate(NAMES, start=1):
            assert found(index, artworks / name) == [number]
            record, occurrences = index.reference(number) or pytest.fail("gone")
            assert [o.path for o in occurrences] == [name]
            assert record.sha256 == read_image(artworks / name).sha256
            thumbnail = index.thumbnail(number)
            assert thumbnail is not None
            assert max(read_image(thumbnail).pixels.shape) == thumbnails.SIDE
        assert index.check() == []


def test_a_mirrored_query_finds_its_reference_and_says_so(folder: Path, artworks: Path) -> None:
    with ReferenceIndex.open(folder) as index:
        (query,) = index.describe([read_image(artworks / NAMES[1]).mirrored()])
        first = index.search(query)[0]
        assert first.reference_id == 2
        assert first.mirrored
        assert first.similarities["pdq"] > 0.95
        assert first.vote is not None
        assert len(index.search(query, k=2)) == 2


def test_info_counts_what_is_there(folder: Path) -> None:
    with ReferenceIndex.open(folder) as index:
        info = index.info()
    assert (info.references, info.occurrences, info.rejected, info.generation) == (4, 4, 0, 1)
    assert info.rows["pdq"] == info.rows["phash"] == 4
    assert 4 * 50 < info.rows["keypoints"] <= 4 * 400
    assert info.bytes_on_disk > 10_000
    assert info.thumbnails
    assert json.loads(json.dumps(info.to_dict()))["descriptors"][0]["name"] == "pdq"


def test_same_picture_under_two_paths_keeps_both(folder: Path, artworks: Path) -> None:
    again = reference(artworks / NAMES[0], "elsewhere/copy.jpg", artist="B")
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.add([again]) == 0
    with ReferenceIndex.open(folder) as index:
        assert len(index) == 4
        assert index.info().occurrences == 5
        assert index.info().rows["pdq"] == 4
        _, occurrences = index.reference(1) or pytest.fail("gone")
        assert [o.path for o in occurrences] == [NAMES[0], "elsewhere/copy.jpg"]
        assert occurrences[1].credits.artist == "B"
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.remove(path=NAMES[0]) == (1, 0)
        assert found(index, artworks / NAMES[0]) == [1]


def test_a_changed_file_at_the_same_path_replaces_the_picture(folder: Path, artworks: Path) -> None:
    changed = reference(artworks / "seascape-1.jpg", NAMES[0])
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.add([changed]) == 1
        assert found(index, artworks / NAMES[0]) == []
        assert found(index, artworks / "seascape-1.jpg") == [5]
        assert index.reference(1) is None
        assert (len(index), index.info().occurrences) == (4, 4)
        assert index.check() == []


def test_numbers_of_erased_references_are_never_used_again(folder: Path, artworks: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path=NAMES[3], erase=True)
    with ReferenceIndex.open(folder, writable=True) as index:
        index.add([reference(artworks / "seascape-1.jpg")])
        assert found(index, artworks / "seascape-1.jpg") == [5]


def test_adding_nothing_commits_nothing(folder: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.add([]) == 0
        assert index.generation == 1
        index.reject(Rejected("bad.jpg", "corrupt", "x"), size=3, mtime_ns=4)
        assert index.add([]) == 0
        assert index.generation == 2
        assert [r.locator for r in index.rejected()] == ["bad.jpg"]
        assert index.is_known("bad.jpg", 3, 4)
        assert not index.is_known("bad.jpg", 3, 5)
        assert index.is_known(NAMES[0], 10, 20)
        assert not index.is_known(NAMES[0], -1, 20)


def test_segments_are_merged_without_losing_a_row(tmp_path: Path, artworks: Path) -> None:
    paths = sorted(p for p in artworks.iterdir() if p.suffix != ".csv")[:30]
    with ReferenceIndex.create(tmp_path / "i", descriptors=("pdq",), thumbnails=False) as index:
        for path in paths:
            new = reference(path)
            index.add([NewReference(new.sha256, 1, 1, new.occurrence, {"pdq": new.rows["pdq"]})])  # type: ignore[index]
        before = [found(index, path) for path in paths]
        assert len(list((tmp_path / "i" / "vectors").glob("*.npy"))) > 50
        index.merge_small_segments()
        assert len(list((tmp_path / "i" / "vectors").glob("*.npy"))) == 2
        assert index.check() == []
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert [found(index, path) for path in paths] == before


def test_adding_and_removing_take_as_many_steps_in_a_large_index_as_in_a_small_one(tmp_path: Path) -> None:
    def new(number: int) -> NewReference:
        rows = {"pdq": np.full((1, 32), number % 256, np.uint8)}
        place = OccurrenceRecord(f"{number}/a.jpg", Credits())
        return NewReference(f"{number:064x}", 1, 1, place, rows)

    with ReferenceIndex.create(tmp_path / "i", descriptors=("pdq",), thumbnails=False) as index:
        steps: list[int] = []
        index._catalog._connection.set_progress_handler(lambda: steps.append(1), 10)

        def steps_of(action: Any) -> int:
            steps.clear()
            action()
            return len(steps)

        spent = []
        for start, count in ((0, 20), (1000, 2000)):
            index.add([new(start + number) for number in range(count)])
            spent.append(steps_of(lambda start=start: index.add([new(start + 5000)])))
        assert spent[1] < 1.5 * spent[0]
        assert index.remove(path="5") == (1, 1)
        assert index.remove(path="5") == (0, 0)
        # A picture that replaces another at its path leaves that one without an occurrence.
        index.add([NewReference("f" * 64, 1, 1, OccurrenceRecord("7/a.jpg", Credits()), new(3).rows)])
        assert not index.has(f"{7:064x}")
        assert index.check() == []


def test_few_additions_do_not_rewrite_a_large_segment_and_rows_stay_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def batch(start: int, count: int) -> list[NewReference]:
        rows = rng.integers(0, 256, (count, 1, 32), np.uint8)
        places = [OccurrenceRecord(f"{start + n}.jpg", Credits()) for n in range(count)]
        return [NewReference(f"{start + n:064x}", 1, 1, places[n], {"pdq": rows[n]}) for n in range(count)]

    with ReferenceIndex.create(tmp_path / "i", descriptors=("pdq",), thumbnails=False) as index:
        large = batch(0, 1000)
        index.add(large)
        files = {each.name: each.stat().st_mtime_ns for each in (tmp_path / "i" / "vectors").iterdir()}
        small = [new for turn in range(MERGE_ABOVE) for new in batch(1000 + 2 * turn, 2)]
        for start in range(0, len(small), 2):
            index.add(small[start : start + 2])
        index.merge_small_segments()
        segments = index._catalog.segments("pdq")
        assert [segment.rows for segment in segments] == [1000, 2 * MERGE_ABOVE]
        left = {each.name: each.stat().st_mtime_ns for each in (tmp_path / "i" / "vectors").iterdir()}
        assert files.items() <= left.items()
        store = index.store("pdq")
        for number, new in enumerate([*large, *small], start=1):
            assert new.rows is not None
            assert np.array_equal(store.rows_of(number), new.rows["pdq"])
        assert index.check() == []


def test_a_row_is_rewritten_at_most_as_often_as_the_index_doubles() -> None:
    segments: list[int] = []
    written = 0
    for _ in range(5000):
        segments.append(1)
        if len(segments) > MERGE_ABOVE:
            newest = _newest_to_merge(segments)
            segments[-newest:] = [sum(segments[-newest:])]
            written += segments[-1]
        assert len(segments) <= MERGE_ABOVE + 1
    assert sum(segments) == 5000
    assert written <= 5000 * np.log2(5000)


def test_one_batch_with_the_same_path_and_the_same_picture_twice_is_as_one_after_the_other(
    tmp_path: Path,
) -> None:
    def new(digest: str, path: str, value: int) -> NewReference:
        rows = {"pdq": np.full((1, 32), value, np.uint8)}
        return NewReference(digest * 64, 1, 1, OccurrenceRecord(path, Credits()), rows)

    batch = [
        new("a", "1.jpg", 1),
        new("b", "2.jpg", 2),
        new("a", "3.jpg", 1),
        new("c", "1.jpg", 3),
        new("d", "2.jpg", 4),
    ]
    states = []
    for name, portions in (("together", [batch]), ("singly", [[each] for each in batch])):
        with ReferenceIndex.create(tmp_path / name, descriptors=("pdq",), thumbnails=False) as index:
            assert sum(index.add(portion) for portion in portions) == 4
            assert index.check() == []
            states.append(
                [
                    (index.id_of(letter * 64), [place.path for place in found[1]] if found else None)
                    for letter in "abcd"
                    for found in [index.reference(index.id_of(letter * 64) or 0)]
                ]
            )
    assert states[0] == states[1]


# Removing


def test_removal_hides_at_once_and_needs_a_condition(folder: Path, artworks: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        with pytest.raises(UsageError, match="needs a path, an artist"):
            index.remove()
        assert index.remove(path="nothing/here") == (0, 0)
        assert index.remove(path=NAMES[1]) == (1, 1)
        assert found(index, artworks / NAMES[1]) == []
        assert index.thumbnail(2) is None
    with ReferenceIndex.open(folder) as index:
        assert found(index, artworks / NAMES[1]) == []
        assert found(index, artworks / NAMES[0]) == [1]
        assert index.check() == []


def test_removal_by_artist_folder_and_source(folder: Path, artworks: Path) -> None:
    new = [
        reference(artworks / "seascape-1.jpg", "a/b/one.jpg", artist="Éloïse STRASSE"),
        reference(artworks / "seascape-2.jpg", "a/b.tar::two.jpg", source="https://x.example/2"),
        reference(artworks / "seascape-3.jpg", "a/bc/three.jpg", source="https://x.example/3"),
    ]
    with ReferenceIndex.open(folder, writable=True) as index:
        index.add(new)
        assert index.remove(artist="éloïse straße") == (1, 1)
        assert index.remove(path="a/b.tar", source_contains="example/3") == (0, 0)
        assert index.remove(path="a/b.tar") == (1, 1)
        assert index.remove(path="a/b") == (0, 0)
        assert index.remove(source_contains="x.example") == (1, 1)
        assert len(index) == 4


@pytest.mark.parametrize("at_once", [True, False])
def test_erasing_leaves_no_byte_behind(folder: Path, artworks: Path, at_once: bool) -> None:
    new = reference(
        artworks / "seascape-1.jpg", "private/path-of-it.jpg", artist=ARTIST, title="Untitled Xq7"
    )
    with ReferenceIndex.open(folder, writable=True) as index:
        index.add([new])
    assert new.rows is not None
    assert new.thumbnail is not None
    traces = [ARTIST.encode(), b"path-of-it", b"Xq7", new.sha256.encode(), new.thumbnail[100:160]]
    traces += [rows[0].tobytes() for rows in new.rows.values()]
    assert all(trace in everything(folder) for trace in traces)
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.remove(artist=ARTIST, erase=at_once) == (1, 1)
        if not at_once:
            assert index.compact() == sum(len(rows) for rows in new.rows.values())
        assert not [trace for trace in traces if trace in everything(folder)]
        assert index.check() == []
    assert not [trace for trace in traces if trace in everything(folder)]
    with ReferenceIndex.open(folder) as index:
        assert found(index, artworks / NAMES[0]) == [1]
        assert index.check() == []


def test_removing_everything_leaves_a_working_empty_index(folder: Path, artworks: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path="", source_contains=None, artist="")
        for name in NAMES:
            index.remove(path=name)
        index.compact()
        assert len(index) == 0
        assert found(index, artworks / NAMES[0]) == []
        assert index.check() == []
        index.add([reference(artworks / NAMES[0])])
        assert found(index, artworks / NAMES[0]) == [5]


# One writer, many readers


def test_a_second_writer_is_told_who_holds_the_index(folder: Path) -> None:
    code = (
        "import sys; from index.errors import IndexLockedError; from index.reference_index import *\n"
        "try: ReferenceIndex.open(sys.argv[1], writable=True)\n"
        "except IndexLockedError as error: print(error); sys.exit(7)"
    )
    with ReferenceIndex.open(folder, writable=True):
        done = run_python(code, folder)
        assert done.returncode == 7, done.stderr
        assert f"process {os.getpid()} on " in done.stdout
        assert "Wait for it, or stop it" in done.stdout
        with pytest.raises(IndexLockedError, match=f"process {os.getpid()}"):
            ReferenceIndex.open(folder, writable=True)
        with pytest.raises(UsageError, match="an index is there already"):
            ReferenceIndex.create(folder)
    ReferenceIndex.open(folder, writable=True).close()


def test_a_writer_that_has_not_said_yet_who_it_is_is_waited_for(folder: Path) -> None:
    def say() -> None:
        (folder / "writer.lock").write_text("process 12 on host, detector, since today", encoding="utf-8")

    with ReferenceIndex.open(folder, writable=True):
        (folder / "writer.lock").write_text("", encoding="utf-8")
        timer = threading.Timer(0.2, say)
        timer.start()
        with pytest.raises(IndexLockedError, match="by another process \\(process 12 on host"):
            ReferenceIndex.open(folder, writable=True)
        timer.join()


def test_small_copies_that_a_writer_puts_back_are_not_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReferenceIndex.open(folder) as index:
        real, looks = index._thumbnails.digests, iter([True, False])
        monkeypatch.setattr(index._thumbnails, "digests", lambda: set() if next(looks, False) else real())
        assert index.check() == []
        monkeypatch.setattr(index._thumbnails, "digests", set)
        assert index.check() == ["4 references have no thumbnail"]


def test_a_writer_that_was_killed_leaves_no_lock(folder: Path, artworks: Path) -> None:
    code = (
        "import os, sys; from index.reference_index import *; from index.items import Rejected\n"
        "i = ReferenceIndex.open(sys.argv[1], writable=True); i.reject(Rejected('x', 'y')); i.add([])\n"
        "os._exit(9)"
    )
    assert run_python(code, folder).returncode == 9
    with ReferenceIndex.open(folder) as index:
        assert index.generation == 2
        assert found(index, artworks / NAMES[0]) == [1]
    with ReferenceIndex.open(folder, writable=True) as index:
        assert [r.locator for r in index.rejected()] == ["x"]


def test_a_reader_stays_on_its_generation_while_a_writer_works(folder: Path, artworks: Path) -> None:
    new = reference(artworks / "seascape-1.jpg")
    with ReferenceIndex.open(folder) as early:  # before any writer: nothing has been loaded yet
        with ReferenceIndex.open(folder, writable=True) as writer:
            writer.add([new])
            writer.remove(path=NAMES[0])
            writer.compact()
            with ReferenceIndex.open(folder) as late:
                assert (late.generation, len(late)) == (writer.generation, 4)
                assert found(late, artworks / "seascape-1.jpg") == [5]
                assert found(late, artworks / NAMES[0]) == []
        assert (early.generation, len(early)) == (1, 4)
        assert found(early, artworks / NAMES[0]) == [1]
        assert found(early, artworks / "seascape-1.jpg") == []
        assert (early.reference(1) or pytest.fail("gone"))[1][0].path == NAMES[0]
        with ReferenceIndex.open(folder, writable=True) as writer:  # a second one, the reader still there
            writer.add([reference(artworks / "seascape-2.jpg")])
        assert early.generation == 1
    with ReferenceIndex.open(folder) as index:
        assert len(index) == 5
        assert index.check() == []
    assert not list(folder.glob("*-wal"))


def test_readers_may_not_write(folder: Path) -> None:
    with ReferenceIndex.open(folder) as index:
        for act in (lambda: index.add([]), lambda: index.remove(path="x"), index.compact):
            with pytest.raises(UsageError, match="was opened for reading"):
                act()


def test_reading_changes_nothing_on_disk(folder: Path, artworks: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    contents = everything(folder)
    with ReferenceIndex.open(folder) as index:
        found(index, artworks / NAMES[0])
        index.check()
        index.info()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert everything(folder) == contents


def test_a_folder_that_cannot_be_written_to_is_read(
    folder: Path, artworks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if os.access(folder, os.W_OK):  # the super-user writes anywhere: have SQLite refuse instead
            real = sqlite3.connect

            def refusing(address: Any, **options: Any) -> sqlite3.Connection:
                if "mode=rw" in str(address):
                    raise sqlite3.OperationalError("unable to open database file")
                return real(address, **options)

            monkeypatch.setattr("index.catalog.sqlite3.connect", refusing)
        with ReferenceIndex.open(folder) as index:
            assert found(index, artworks / NAMES[0]) == [1]
            assert index.check() == []
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


# Folders that are no index, or a damaged one


def test_there_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, words in (("gone", "no such index"), ("empty", "is no index"), ("file", "is a file")):
        with pytest.raises(IndexMissingError, match=words) as caught:
            ReferenceIndex.open(tmp_path / name)
        assert caught.value.path == tmp_path / name
    with pytest.raises(IndexMissingError, match=r"Build one: detector index build PICTURES --out"):
        ReferenceIndex.open(tmp_path / "gone", writable=True)
    assert not (tmp_path / "gone").exists()


def test_an_index_of_a_newer_format_says_so(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format_version": 9}))
    with pytest.raises(
        IndexVersionError, match=r"has format 9; this version reads up to 1\. Run: pip"
    ) as caught:
        ReferenceIndex.open(folder)
    assert (caught.value.found, caught.value.supported) == (9, 1)


def test_a_catalogue_of_a_future_schema_is_refused_and_left_alone(folder: Path) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version = 77")
    connection.close()
    for writable in (False, True):
        with pytest.raises(IndexVersionError, match="has format 77"):
            ReferenceIndex.open(folder, writable=writable)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"format_version": "x"}', '{"format_version": 1}', "\x00\x01"),
        *('{"format_version": 1, "descriptors": [{}]}', '{"format_version": 1, "descriptors": 5}'),
        *('{"format_version": 0, "descriptors": []}', '{"format_version": null, "descriptors": []}'),
    ],
)
def test_a_garbled_manifest_says_so(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(IndexCorruptError, match=r"manifest\.json is garbled"):
        ReferenceIndex.open(folder)


def test_a_manifest_that_is_no_text_says_so(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IndexCorruptError, match=r"manifest\.json cannot be read"):
        ReferenceIndex.open(folder)


def test_a_missing_or_damaged_catalogue_says_so(folder: Path) -> None:
    catalog = folder / "catalog.sqlite"
    whole = catalog.read_bytes()
    for content in (b"", b"garbage" * 1000, whole[:100] + b"\xff" * 3000):
        catalog.write_bytes(content)
        with pytest.raises(IndexCorruptError, match=r"catalog\.sqlite"):
            ReferenceIndex.open(folder)
    catalog.unlink()
    segments = sorted((folder / "vectors").iterdir())
    for writable in (False, True):
        with pytest.raises(IndexCorruptError, match=r"is missing\. Restore it, or build the index anew"):
            ReferenceIndex.open(folder, writable=writable)
    assert not catalog.exists()
    assert sorted((folder / "vectors").iterdir()) == segments


def test_a_lost_manifest_never_makes_a_new_index_over_an_old_one(folder: Path) -> None:
    manifest = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).unlink()
    with pytest.raises(IndexCorruptError, match=r"whose manifest\.json is missing"):
        ReferenceIndex.create(folder, descriptors=("pdq",))
    (folder / MANIFEST).write_bytes(manifest)
    with ReferenceIndex.open(folder, writable=True) as index:
        assert len(index) == 4
        assert index.check() == []


def segment(folder: Path, descriptor: str = "pdq", suffix: str = ".npy") -> Path:
    return folder / "vectors" / f"{descriptor}-000001{suffix}"


@pytest.mark.parametrize("suffix", [".npy", ".ids.npy"])
def test_check_names_a_flipped_bit(folder: Path, suffix: str) -> None:
    data = bytearray(segment(folder, "phash", suffix).read_bytes())
    data[-3] ^= 1
    segment(folder, "phash", suffix).write_bytes(bytes(data))
    with ReferenceIndex.open(folder) as index:
        (problem,) = index.check()
        assert "phash-000001.npy is not what was committed" in problem


@pytest.mark.parametrize("suffix", [".npy", ".ids.npy"])
@pytest.mark.parametrize("kept", [0, 10, 100, -5])
def test_a_truncated_segment_is_named_and_search_says_what_to_do(
    folder: Path, artworks: Path, suffix: str, kept: int
) -> None:
    path = segment(folder, "pdq", suffix)
    path.write_bytes(path.read_bytes()[:kept])
    with ReferenceIndex.open(folder) as index:
        assert any("pdq-000001.npy" in problem for problem in index.check())
        with pytest.raises(IndexCorruptError, match=r"pdq-000001.*Run: detector index check --index"):
            found(index, artworks / NAMES[0])


def test_a_missing_segment_is_named(folder: Path, artworks: Path) -> None:
    segment(folder, "keypoints").unlink()
    with ReferenceIndex.open(folder) as index:
        assert index.check() == ["segment keypoints-000001.npy is missing"]
        with pytest.raises(IndexCorruptError, match=r"keypoints-000001.*detector index check"):
            found(index, artworks / NAMES[0])


class Trap:
    """An object whose unpickling would run code."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("suffix", [".npy", ".ids.npy"])
def test_a_pickle_in_a_segment_is_refused_not_run(folder: Path, artworks: Path, suffix: str) -> None:
    with segment(folder, "pdq", suffix).open("wb") as stream:
        np.save(stream, np.array([Trap()] * 4, object), allow_pickle=True)
    with ReferenceIndex.open(folder) as index:
        assert any("pdq-000001.npy" in problem for problem in index.check())
        with pytest.raises(IndexCorruptError):
            found(index, artworks / NAMES[0])
    assert not Trap.sprung


@pytest.mark.parametrize(
    "rows", [np.zeros((4, 32), np.float32), np.zeros((4, 31), np.uint8), np.zeros((3, 32), np.uint8)]
)
def test_rows_of_another_shape_or_type_are_refused(folder: Path, artworks: Path, rows: Any) -> None:
    np.save(segment(folder), rows)
    with ReferenceIndex.open(folder) as index, pytest.raises(IndexCorruptError, match="has another shape"):
        found(index, artworks / NAMES[0])


def test_damaged_thumbnails_are_named_by_check(folder: Path) -> None:
    (folder / "thumbnails.sqlite").write_bytes(b"garbage" * 2000)
    with ReferenceIndex.open(folder) as index:
        (problem,) = index.check()
        assert "thumbnails.sqlite cannot be read" in problem
    (folder / "thumbnails.sqlite").unlink()
    with ReferenceIndex.open(folder) as index:
        assert index.check() == ["4 references have no thumbnail"]
        assert index.thumbnail(1) is None


HALF_DONE = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
for number in range(50):
    connection.execute("INSERT INTO thumbnail VALUES (?, randomblob(9000))", (f"none-{number}",))
os._exit(9)
"""


def test_small_copies_that_a_killed_writer_left_half_done_are_read_as_before(folder: Path) -> None:
    with ReferenceIndex.open(folder) as index:
        before = index.thumbnail(1)
    assert run_python(HALF_DONE, folder / "thumbnails.sqlite").returncode == 9
    assert (folder / "thumbnails.sqlite-journal").stat().st_size > 0
    with ReferenceIndex.open(folder) as index:
        assert index.thumbnail(1) == before is not None
        assert index.check() == []
    assert not (folder / "thumbnails.sqlite-journal").exists()


def test_a_journal_of_a_change_that_was_never_made_is_swept_by_the_next_writer(folder: Path) -> None:
    journal = folder / "thumbnails.sqlite-journal"
    journal.write_bytes(bytes(512) + b"pages as they are in the file, too")
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
    assert journal.exists()
    with ReferenceIndex.open(folder, writable=True) as index:
        assert not journal.exists()
        assert index.check() == []


def test_small_copies_survive_a_power_cut_right_after_their_commit(folder: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        connection = index._thumbnails._connection
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA


def test_an_interrupted_erasure_is_completed_by_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: ReferenceIndex) -> int:
        raise KeyboardInterrupt

    with ReferenceIndex.open(folder, writable=True) as index:
        monkeypatch.setattr(ReferenceIndex, "compact", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.remove(path=NAMES[0], erase=True)
        monkeypatch.undo()
        assert (len(index), index.info().rows["pdq"]) == (3, 4)
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.remove(path=NAMES[0], erase=True) == (0, 0)
        assert index.info().rows["pdq"] == 3
        monkeypatch.setattr(ReferenceIndex, "compact", interrupt)
        assert index.remove(path=NAMES[0], erase=True) == (0, 0)  # nothing is left to complete


def test_compacting_gives_back_the_pages_of_small_copies_that_were_erased_before(folder: Path) -> None:
    with sqlite3.connect(folder / "thumbnails.sqlite") as connection:
        connection.execute("INSERT INTO thumbnail VALUES ('none', randomblob(200000))")
    with sqlite3.connect(folder / "thumbnails.sqlite") as connection:
        connection.execute("DELETE FROM thumbnail WHERE sha256 = 'none'")
    connection.close()
    before = (folder / "thumbnails.sqlite").stat().st_size
    with ReferenceIndex.open(folder, writable=True) as index:
        index.compact()
    assert (folder / "thumbnails.sqlite").stat().st_size < before - 150_000


def test_a_reader_whose_segments_were_merged_meanwhile_finds_no_damage(folder: Path) -> None:
    with ReferenceIndex.open(folder) as reader:
        with ReferenceIndex.open(folder, writable=True) as writer:
            writer.remove(path=NAMES[0], erase=True)
        assert len(list((folder / "vectors").glob("pdq-000001.npy"))) == 0
        assert len(reader) == 4
        assert reader.check() == []
    (folder / "vectors" / "pdq-000002.npy").unlink()
    with ReferenceIndex.open(folder) as reader:
        assert reader.check() == ["segment pdq-000002.npy is missing"]


def test_a_manifest_that_was_not_finished_is_swept_by_the_next_writer(folder: Path) -> None:
    (folder / f"{MANIFEST}.tmp").write_bytes(b"{")
    with ReferenceIndex.open(folder, writable=True):
        assert not (folder / f"{MANIFEST}.tmp").exists()


def test_an_index_made_by_another_program_in_the_meantime_is_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late.index"
    real = reference_index._acquire

    def acquire(path: Path) -> Any:
        if not path.exists() or not (path / MANIFEST).exists():
            shutil.copytree(folder, path, dirs_exist_ok=True)
        return real(path)

    monkeypatch.setattr(reference_index, "_acquire", acquire)
    with pytest.raises(UsageError, match="an index is there already"):
        ReferenceIndex.create(late, descriptors=("phash",))
    monkeypatch.undo()
    with ReferenceIndex.open(late, writable=True) as index:
        assert [spec.name for spec in index.specs] == list(DESCRIPTORS)
        assert index.check() == []


def test_unnamed_segments_are_swept_by_the_next_writer(folder: Path) -> None:
    before = {path.name for path in (folder / "vectors").iterdir()}
    for name in ("pdq-000009.npy", "pdq-000009.ids.npy", "keypoints-000002.npy"):
        (folder / "vectors" / name).write_bytes(b"half a segment")
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
    assert len(list((folder / "vectors").iterdir())) == len(before) + 3
    with ReferenceIndex.open(folder, writable=True) as index:
        assert {path.name for path in (folder / "vectors").iterdir()} == before
        assert index.check() == []


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        ReferenceIndex.create(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        ReferenceIndex.create(tmp_path / "holiday.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_creation_that_was_killed_is_taken_up_again(tmp_path: Path) -> None:
    code = (
        "import os, sys; import index.reference_index as r\n"
        "r._write_atomically = lambda *_: os._exit(9)\n"
        "r.ReferenceIndex.create(sys.argv[1])"
    )
    assert run_python(code, tmp_path / "i").returncode == 9
    assert list((tmp_path / "i").iterdir())
    with pytest.raises(IndexMissingError):
        ReferenceIndex.open(tmp_path / "i")
    with ReferenceIndex.create(tmp_path / "i") as index:
        assert index.check() == []


@pytest.mark.parametrize("names", [(), ("pdq", "dhash")])
def test_unusable_descriptors_make_no_folder(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises((UsageError, DescriptorError)):
        ReferenceIndex.create(tmp_path / "i", descriptors=names)
    assert not (tmp_path / "i").exists()


def test_repeated_descriptors_count_once(tmp_path: Path) -> None:
    with ReferenceIndex.create(tmp_path / "i", descriptors=("pdq", "phash", "pdq")) as index:
        assert [spec.name for spec in index.specs] == ["pdq", "phash"]


# Specs


def test_asking_for_a_descriptor_the_index_lacks_says_how_to_get_it(folder: Path) -> None:
    with ReferenceIndex.open(folder) as index, pytest.raises(DescriptorError) as caught:
        index.store("sscd:x.pt")
    assert "which has pdq, phash, keypoints. Build it anew with --descriptors" in str(caught.value)


@pytest.mark.parametrize("name", ["pdq", "phash", "keypoints"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "was built with version 2 of it, this is version 1"),
        ({"preprocessing": {"side": 1}}, "was built with other preprocessing. Build the index anew"),
        ({"weights_digest": "ab" * 32}, "was built with other weights"),
    ],
)
def test_rows_of_another_spec_are_never_compared(
    folder: Path, artworks: Path, name: str, change: dict[str, Any], words: str
) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    # Alone, so that no other descriptor's check can stand in for it.
    manifest["descriptors"] = [d | change for d in manifest["descriptors"] if d["name"] == name]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with ReferenceIndex.open(folder) as index, pytest.raises(DescriptorError, match=words) as caught:
        index.describe([read_image(artworks / NAMES[0])])
    assert caught.value.descriptor == name


def test_changed_weights_are_noticed(clip_folder: Path, tmp_path: Path, artworks: Path) -> None:
    from tests.conftest import save_clip_folder

    torch = pytest.importorskip("torch")
    model = Path(shutil.copytree(clip_folder, tmp_path / "model"))
    name = f"clip:local-dir:{model}"
    picture = read_image(artworks / NAMES[0])
    with ReferenceIndex.create(tmp_path / "i", descriptors=(name,), device="cpu") as index:
        row = index.descriptors()[name].describe([picture])[0]
        occurrence = OccurrenceRecord("a.jpg", Credits())
        index.add([NewReference(picture.sha256, 1, 1, occurrence, {name: row}, thumbnails.encode(picture))])
        assert index.check() == []
    with ReferenceIndex.open(tmp_path / "i", device="cpu") as index:
        (query,) = index.describe([picture])
        assert index.search(query)[0].similarities[name] == pytest.approx(1.0, abs=1e-3)
    from safetensors.torch import load_file

    state = load_file(model / "open_clip_model.safetensors")
    state["visual.proj"] = state["visual.proj"] + torch.tensor(0.5)
    shutil.rmtree(model)
    save_clip_folder(model, state)
    words = r"other weights \(SHA-256 [0-9a-f]{12}…, found [0-9a-f]{12}…\)"
    with (
        ReferenceIndex.open(tmp_path / "i", device="cpu") as index,
        pytest.raises(DescriptorError, match=words),
    ):
        index.describe([picture])


# Failing writes


@pytest.mark.parametrize("place", ["reference_index.write_segment", "segments.os.fsync"])
def test_a_full_disk_leaves_the_index_as_it_was(
    folder: Path, artworks: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    new = reference(artworks / "seascape-1.jpg")
    with ReferenceIndex.open(folder, writable=True) as index:
        with monkeypatch.context() as patch:
            patch.setattr(f"index.{place}", full)
            with pytest.raises(
                IndexWriteError, match=r"No space left on device\. Check permissions and free space"
            ):
                index.add([new])
        assert index.generation == 1
        assert len(index) == 4
        assert index.check() == []
        assert index.add([new]) == 1
    with ReferenceIndex.open(folder, writable=True) as index:
        assert found(index, artworks / "seascape-1.jpg") == [5]
        assert index.check() == []
        assert len(list((folder / "vectors").iterdir())) == 12


def test_an_interrupted_add_adds_nothing(
    folder: Path, artworks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    new = reference(artworks / "seascape-1.jpg")
    with ReferenceIndex.open(folder, writable=True) as index:
        with monkeypatch.context() as patch:
            patch.setattr("index.reference_index._sync_folder", interrupted)
            with pytest.raises(KeyboardInterrupt):
                index.add([new])
        assert len(index) == 4
        assert index.add([new]) == 1
        assert index.check() == []


# Old indexes


def test_an_index_of_format_1_opens_and_finds_its_pictures(tmp_path: Path, artworks: Path) -> None:
    assert FROZEN.is_dir(), "the frozen index is missing from tests/data"
    folder = Path(shutil.copytree(FROZEN, tmp_path / "old.index"))
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
        assert len(index) == 4
        for name in NAMES:
            (number,) = found(index, artworks / name)
            _, occurrences = index.reference(number) or pytest.fail("gone")
            assert occurrences[0].path == f"artworks/{name}"
            assert occurrences[0].credits.artist
        assert [r.reason for r in index.rejected()] == ["not_an_image"]
    with ReferenceIndex.open(folder, writable=True) as index:
        index.add([reference(artworks / "seascape-1.jpg")])
        index.compact()
        assert index.check() == []


# What hostile inputs found


@pytest.mark.parametrize(
    "text",
    [
        '{"format_version": 1e999, "descriptors": []}',
        "[" * 5_000,
        '{"format_version": 1, "descriptors": [{"name": "pdq", "version": 1, "kind": "bits", "width": 1e999}]}',
        '{"format_version": 1, "descriptors": [{"name": "pdq", "version": 1, "kind": "bits", "width": -5}]}',
    ],
)
def test_numbers_and_depth_without_end_are_a_garbled_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(IndexCorruptError, match="garbled"):
        ReferenceIndex.open(folder)


def run_sql(path: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE segment RENAME TO old", f"CREATE VIEW segment AS {ENDLESS} SELECT i AS id FROM n"),
        ("CREATE TRIGGER trap AFTER UPDATE ON fact BEGIN DELETE FROM occurrence; END",),
        ("CREATE TABLE more (a)",),
        ("DROP TABLE occurrence",),
    ],
)
def test_a_catalogue_with_other_tables_is_refused(
    folder: Path, statements: tuple[str, ...], writable: bool
) -> None:
    run_sql(folder / "catalog.sqlite", *statements)
    with pytest.raises(IndexCorruptError, match="other tables"):
        ReferenceIndex.open(folder, writable=writable)


def test_thumbnails_with_other_tables_are_refused_when_asked_for(folder: Path, artworks: Path) -> None:
    view = f"CREATE VIEW thumbnail AS {ENDLESS} SELECT i AS sha256, x'00' AS webp FROM n"
    run_sql(folder / "thumbnails.sqlite", "DROP TABLE thumbnail", view)
    with ReferenceIndex.open(folder) as index:
        assert found(index, artworks / NAMES[0])
        with pytest.raises(IndexCorruptError, match="other tables"):
            index.thumbnail(1)


@pytest.mark.parametrize("value", [2**40, "text", 1.5])
def test_a_thumbnail_that_is_no_bytes_is_not_made_into_some(folder: Path, value: Any) -> None:
    run_sql(folder / "thumbnails.sqlite", "UPDATE thumbnail SET webp = ?", values=(value,))
    with ReferenceIndex.open(folder) as index, pytest.raises(IndexCorruptError, match="no picture"):
        index.thumbnail(1)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("reference", "trim", "[1, 2]"),
        ("reference", "trim", "[" * 3_000),
        ("reference", "width", "wide"),
        ("occurrence", "extra", "[]"),
        ("occurrence", "extra", "{"),
        ("occurrence", "artist", b"\xff"),
        ("occurrence", "size", "x"),
    ],
)
def test_values_of_other_types_are_said_to_be_garbled(
    folder: Path, table: str, column: str, value: Any
) -> None:
    run_sql(folder / "catalog.sqlite", f"UPDATE {table} SET {column} = ?", values=(value,))
    with ReferenceIndex.open(folder) as index, pytest.raises(IndexCorruptError, match="garbled"):
        index.reference(1)


@pytest.mark.parametrize("file", ["../outside.npy", "/dev/zero", "pdq-1.npy", "a/pdq-000001.npy"])
def test_a_segment_lies_in_the_index_or_nowhere(folder: Path, file: str) -> None:
    run_sql(folder / "catalog.sqlite", "UPDATE segment SET file = ? WHERE descriptor = 'pdq'", values=(file,))
    with pytest.raises(IndexCorruptError, match="garbled"):
        ReferenceIndex.open(folder)


@pytest.mark.parametrize(
    "value", ['{"pdq": 5}', "[1]", '{"pdq": {"location": 1, "scale": 0, "samples": 1, "references": 1}}']
)
def test_a_garbled_calibration_says_so(folder: Path, value: str) -> None:
    run_sql(
        folder / "catalog.sqlite", "INSERT OR REPLACE INTO fact VALUES ('calibration', ?)", values=(value,)
    )
    with (
        ReferenceIndex.open(folder) as index,
        pytest.raises(IndexCorruptError, match="calibration is garbled"),
    ):
        index.calibration()


def test_garbled_records_of_sketches_leave_the_search_exact(folder: Path, artworks: Path) -> None:
    record = '{"pdq": {"file": "../../outside/x", "sha256": "", "ranked": -1, "measured": {}}}'
    run_sql(folder / "catalog.sqlite", "INSERT OR REPLACE INTO fact VALUES ('sketches', ?)", values=(record,))
    with ReferenceIndex.open(folder) as index:
        assert found(index, artworks / NAMES[0])
        assert any("sketches are garbled" in problem for problem in index.check())


@pytest.mark.parametrize(
    "data", [b"PK\x05\x06" + bytes(18), b"\x93NUMPY\1\0\xff\xff" + b"(" * 300, b"\x93NUMPY\x09\x09"]
)
def test_a_segment_with_a_hostile_header_says_so(folder: Path, data: bytes) -> None:
    next((folder / "vectors").glob("pdq-*.ids.npy")).write_bytes(data)
    with ReferenceIndex.open(folder) as index:
        assert any("cannot be read" in problem for problem in index.check())
        with pytest.raises(IndexCorruptError, match="cannot be read"):
            index.store("pdq")


def test_ids_of_another_shape_are_named_by_check(folder: Path) -> None:
    np.save(next((folder / "vectors").glob("pdq-*.ids.npy")), np.zeros((2, 2)))
    with ReferenceIndex.open(folder) as index:
        assert any("ids that are none" in problem for problem in index.check())


def test_an_emptied_catalogue_does_not_let_a_writer_delete_the_rows(folder: Path) -> None:
    (folder / "catalog.sqlite").write_bytes(b"")
    before = sorted((folder / "vectors").iterdir())
    with pytest.raises(IndexCorruptError, match="is empty"):
        ReferenceIndex.open(folder, writable=True)
    assert sorted((folder / "vectors").iterdir()) == before


def test_rows_stay_where_the_catalogue_names_others_that_are_not_there(folder: Path) -> None:
    other = "UPDATE segment SET file = 'pdq-000077.npy' WHERE descriptor = 'pdq'"
    run_sql(folder / "catalog.sqlite", other)
    before = sorted((folder / "vectors").iterdir())
    with ReferenceIndex.open(folder, writable=True):
        pass
    assert sorted((folder / "vectors").iterdir()) == before


def test_a_writer_deletes_no_file_that_no_writer_made(folder: Path) -> None:
    mine = folder / "vectors" / "my-own-rows.npy"
    mine.write_bytes(b"precious")
    with ReferenceIndex.open(folder, writable=True):
        pass
    assert mine.read_bytes() == b"precious"


LINKED = (
    MANIFEST,
    f"{MANIFEST}.tmp",
    "catalog.sqlite",
    "thumbnails.sqlite",
    "writer.lock",
    "writer.lock.held",
)


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights on Windows")
@pytest.mark.parametrize("name", [*LINKED, "vectors", "ann"])
def test_nothing_is_written_through_a_link(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    if (folder / name).exists():
        (folder / name).rename(outside)
    elif name == "ann":
        outside.mkdir()
        (outside / "diary.npy").write_bytes(b"precious")
    else:
        outside.write_bytes(b"precious")
    before = everything(outside) if outside.is_dir() else outside.read_bytes()
    (folder / name).symlink_to(outside)
    with pytest.raises(IndexWriteError, match="is a link"):
        ReferenceIndex.open(folder, writable=True)
    assert (everything(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights on Windows")
def test_an_index_of_links_can_be_read(folder: Path, tmp_path: Path, artworks: Path) -> None:
    linked = tmp_path / "linked.index"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = linked / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    with ReferenceIndex.open(linked) as index:
        assert found(index, artworks / NAMES[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", [MANIFEST, "catalog.sqlite", "vectors/pdq-000001.npy"])
def test_a_pipe_in_an_index_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)

    def use() -> None:
        with ReferenceIndex.open(folder) as index:
            index.store("pdq")

    with pytest.raises(IndexCorruptError):
        use()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_lock_is_not_waited_for(folder: Path) -> None:
    (folder / "writer.lock").unlink(missing_ok=True)
    os.mkfifo(folder / "writer.lock")
    with pytest.raises(IndexWriteError, match="a named pipe"):
        ReferenceIndex.open(folder, writable=True)


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights on Windows")
@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_reader_writes_through_no_link_beside_the_catalogue(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    outside = tmp_path / "diary.txt"
    outside.write_bytes(b"precious" * 9_000)
    (folder / f"catalog.sqlite{ending}").symlink_to(outside)
    with pytest.raises(IndexCorruptError, match="is a link"):
        ReferenceIndex.open(folder)
    assert outside.read_bytes() == b"precious" * 9_000


def test_an_artist_that_is_no_text_does_not_make_a_search_endless(folder: Path) -> None:
    run_sql(folder / "catalog.sqlite", "UPDATE occurrence SET artist = ?", values=(b"",))
    with ReferenceIndex.open(folder) as index, pytest.raises(IndexCorruptError, match="garbled"):
        index.find_occurrences(artist="Ann")


def test_check_names_a_missing_segment_beside_garbled_records_of_sketches(folder: Path) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("INSERT OR REPLACE INTO fact (key, value) VALUES ('sketches', '[1]')")
    connection.close()
    with ReferenceIndex.open(folder) as index:
        for rows in (folder / "vectors").glob("pdq-*.npy"):
            rows.unlink()
        problems = " ".join(index.check())
    assert "is missing" in problems
    assert "records of sketches are garbled" in problems
