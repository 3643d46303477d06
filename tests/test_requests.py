"""Removal requests, and what an index still knows of a work once it is erased: nothing but a key."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from detector.cli import app
from index import requests as filing
from index.build import BuildOptions, build_index
from index.catalog import Catalog
from index.errors import IndexCorruptError, IndexMissingError, IndexVersionError, UsageError
from index.images import read_image
from index.migrations import SCHEMA_VERSION
from index.reference_index import ReferenceIndex
from index.requests import file_request, forgotten_key, requests

ROOT = Path(__file__).resolve().parents[1]
FROZEN = Path(__file__).parent / "data" / "index-v1"
ASKED = "city-2.jpg"
NAMES = (ASKED, "botanical-1.jpg", "line-art-1.png", "stained-glass-3.webp", "woodcut-1.jpg")
QUICK = ("pdq", "phash", "keypoints")


def lay_out(artworks: Path, folder: Path) -> Path:
    """Copy some artworks with their metadata."""
    folder.mkdir()
    for name in NAMES:
        shutil.copy2(artworks / name, folder)
    with (artworks / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if row["file_name"] in NAMES)
    return folder


@pytest.fixture(scope="module")
def art(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five works with their credits."""
    return lay_out(artworks, tmp_path_factory.mktemp("works") / "art")


@pytest.fixture(scope="module")
def built(art: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "art.index"
    assert build_index(art, folder, descriptors=QUICK).added == len(NAMES)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """An index of these works without neural rows; a test may write to it."""
    return Path(shutil.copytree(built, tmp_path / "own.index"))


def digest(path: Path) -> str:
    return read_image(path).sha256


def found(index: ReferenceIndex, picture: Path) -> list[int]:
    (query,) = index.describe([read_image(picture)])
    return [c.reference_id for c in index.search(query) if c.similarities.get("pdq", 0) > 0.9]


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


def run(*words: str | Path) -> Ran:
    """Run a command line."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


# Erasing leaves nothing


def windows(data: bytes, length: int) -> set[bytes]:
    """Return every run of some length in which more than a few different bytes occur."""
    runs = {data[start : start + length] for start in range(len(data) - length + 1)}
    return {found for found in runs if len(set(found)) > length // 5}


@dataclass
class Traces:
    """What a reference leaves in the files of an index, and in those of no other reference."""

    texts: dict[str, bytes]
    runs: dict[str, tuple[int, set[bytes]]]

    @classmethod
    def of(cls, folder: Path, sha256: str) -> Traces:
        with ReferenceIndex.open(folder) as index:
            number = index.id_of(sha256)
            assert number is not None
            _, (place,) = index.reference(number) or pytest.fail("gone")
            texts = {
                "digest": sha256.encode(),
                "digest, raw": bytes.fromhex(sha256),
                "path": place.path.encode(),
                "file name": Path(place.path).name.encode(),
                "title": place.credits.title.encode(),
                "caption": place.credits.caption.encode(),
                "source": place.credits.source.encode(),
            }
            runs = {}
            for spec in index.specs:
                blocks = list(index._rows(spec).blocks())
                rows, owners = (np.concatenate(column) for column in list(zip(*blocks, strict=True))[:2])
                length = min(40, spec.width * rows.itemsize)  # a row of bits, or 20 half floats of a tower
                own = windows(rows[owners == number].tobytes(), length)
                runs[spec.name] = length, own - windows(rows[owners != number].tobytes(), length)
            pictures = {i: index.thumbnail(i) or b"" for i in index.reference_ids()}
            others = b"".join(data for i, data in pictures.items() if i != number)
            runs["thumbnail"] = 64, windows(pictures[number], 64) - windows(others, 64)
        return cls(texts, runs)

    def in_folder(self, folder: Path) -> dict[str, float]:
        """Return, for each kind of trace, the share that some file under a folder holds."""
        files = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
        shares = {name: float(any(text in data for data in files)) for name, text in self.texts.items()}
        for name, (length, wanted) in self.runs.items():
            seen = set()
            for data in files:
                seen |= {
                    run for start in range(len(data) - length + 1)
                    if (run := data[start : start + length]) in wanted
                }  # fmt: skip
            shares[name] = len(seen) / len(wanted)
        return shares


def accepted(folder: Path, sha256: str) -> None:
    filed = file_request(folder, [sha256], name="Juno", contact="juno@example.org", statement="Mine.")
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.accept_request(filed.id, reason="as asked") == (1, 1)


def removed(folder: Path, sha256: str) -> None:
    file_request(folder, [sha256], name="Juno", contact="juno@example.org")  # open: it keeps no digest either
    path = str(lookup_path(folder, sha256))
    assert run("index", "remove", "--index", folder, "--path", path, "--erase", "--yes").code == 0


def lookup_path(folder: Path, sha256: str) -> str:
    with ReferenceIndex.open(folder) as index:
        _, places = index.reference(index.id_of(sha256) or 0) or pytest.fail("gone")
        return places[0].path


@pytest.mark.parametrize("erase", [accepted, removed])
def test_of_an_erased_work_no_file_of_the_index_holds_a_byte(
    erase: Callable[[Path, str], None], artworks: Path, tmp_path: Path
) -> None:
    art = lay_out(artworks, tmp_path / "art")
    folder = tmp_path / "art.index"
    build_index(art, folder)  # all default descriptors, the tower's float16 rows among them
    sha256 = digest(art / ASKED)
    traces = Traces.of(folder, sha256)
    before = traces.in_folder(folder)
    assert before.pop("digest, raw") == 0.0
    assert set(before) > {"pdq", "phash", "keypoints", "clip:bundled", "thumbnail", "title", "path", "digest"}
    assert min(before.values()) > 0.9, before  # runs over two pages of SQLite are the rest
    erase(folder, sha256)
    assert set(traces.in_folder(folder).values()) == {0.0}, traces.in_folder(folder)
    assert not list(folder.glob("*-wal"))
    assert not (folder / "ann").exists()
    (kept,) = requests(folder)
    assert kept.sha256s == (forgotten_key(sha256),)
    with ReferenceIndex.open(folder) as index:
        assert len(index) == len(NAMES) - 1
        assert index.id_of(sha256) is None
        assert found(index, art / ASKED) == []
        assert index.check() == []
        assert found(index, art / NAMES[1])


def test_a_taken_back_work_is_as_if_it_had_never_been_removed(folder: Path, art: Path) -> None:
    sha256 = digest(art / ASKED)
    accepted(folder, sha256)
    report = build_index(art, folder, options=BuildOptions(take_back=True))
    assert (report.added, report.rejected) == (1, 0)
    with ReferenceIndex.open(folder) as index:
        assert found(index, art / ASKED)
        assert index.forgotten() == frozenset()
    assert build_index(art, folder).unchanged == len(NAMES)


def test_an_erased_work_stays_out_of_later_builds(folder: Path, art: Path, tmp_path: Path) -> None:
    accepted(folder, digest(art / ASKED))
    report = build_index(art, folder)
    assert (report.added, report.rejected, report.unchanged) == (0, 1, len(NAMES) - 1)
    assert [(r.locator, r.reason) for r in report.rejections] == [
        ((art / ASKED).as_posix(), "removed_on_request")
    ]
    (tmp_path / "more").mkdir()
    shutil.copy(art / ASKED, tmp_path / "more" / "under another name.jpg")
    assert build_index(tmp_path / "more", folder).rejections[0].reason == "removed_on_request"
    assert build_index(art, folder).unchanged == len(NAMES)  # it is not read again
    with ReferenceIndex.open(folder) as index:
        assert [r.reason for r in index.rejected()] == ["removed_on_request"] * 2
        assert len(index) == len(NAMES) - 1
        assert index.check() == []
    # Taking back reaches what was passed over already, and nothing else that was rejected.
    assert build_index(art, folder, options=BuildOptions(take_back=True)).added == 1
    with ReferenceIndex.open(folder) as index:
        assert [Path(r.locator).name for r in index.rejected()] == ["under another name.jpg"]
    assert build_index(art, tmp_path / "new.index", descriptors=QUICK).added == len(NAMES)


def test_nothing_adds_an_erased_work_unasked(folder: Path, art: Path) -> None:
    from tests.test_reference_index import reference

    new = reference(art / ASKED)
    accepted(folder, new.sha256)
    with ReferenceIndex.open(folder, writable=True) as index:
        with pytest.raises(UsageError, match=r"city-2\.jpg: was removed on request.*take_back=True"):
            index.add([new])
        assert len(index) == len(NAMES) - 1
        assert index.add([new], take_back=True) == 1
        assert index.forgotten() == frozenset()


def test_removal_without_erasing_is_not_remembered(folder: Path, art: Path) -> None:
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path=(art / ASKED).as_posix())
        index.compact()
        assert index.forgotten() == frozenset()
    assert build_index(art, folder).added == 1


def test_a_work_at_two_places_goes_from_both(folder: Path, art: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(art / ASKED, tmp_path / "more" / "again.jpg")
    build_index(tmp_path / "more", folder)
    filed = file_request(folder, [digest(art / ASKED)], name="Juno")
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.accept_request(filed.id) == (2, 1)


# Filing


def test_a_request_is_kept_as_given_and_changes_no_generation(folder: Path, art: Path) -> None:
    pictures = [digest(art / ASKED).upper(), digest(art / NAMES[1]), digest(art / NAMES[1])]
    with ReferenceIndex.open(folder) as index:
        before = index.generation
    filed = file_request(folder, pictures, name=" Jü\0no \n", contact="j@x.example", statement="a\nb \ud800")
    assert requests(folder) == [filed]
    assert filed.sha256s == tuple(sorted({text.lower() for text in pictures}))
    assert (filed.state, filed.decided, filed.reason) == ("open", "", "")
    assert (filed.name, filed.statement) == ("Jüno", "a\nb ?")
    assert len(filed.id) == 16
    assert int(filed.id, 16) >= 0
    assert filed.made.endswith("+00:00")
    assert len(filed.made) == 25
    assert json.loads(json.dumps(filed.to_dict()))["sha256s"] == list(filed.sha256s)
    with ReferenceIndex.open(folder) as index:
        assert index.generation == before
        assert index.info().open_requests == 1
        assert index.check() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256s": []}, "names no picture"),
        ({"sha256s": ["ab" * 32]}, "holds no reference with the digest abab"),
        ({"sha256s": ["%", "_", "x" * 9000]}, "nor 2 others"),
        ({"sha256s": [f"{n:064x}" for n in range(filing.MAX_PICTURES + 1)]}, "2,001 pictures; the limit is"),
        ({"name": "  "}, "has no name. Say who asks"),
        ({"name": "x" * 201}, "the name has 201 characters; the limit is 200"),
        ({"contact": "x" * 255}, "the contact has 255"),
        ({"statement": "x" * 4001}, "the statement has 4,001"),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused(
    folder: Path, art: Path, change: dict[str, Any], words: str
) -> None:
    given = {"sha256s": [digest(art / ASKED)], "name": "Juno"} | change
    with pytest.raises(UsageError, match=words):
        file_request(folder, given.pop("sha256s"), **given)
    assert requests(folder) == []


def test_the_same_request_is_filed_once_while_it_is_open(folder: Path, art: Path) -> None:
    one, other = digest(art / ASKED), digest(art / NAMES[1])
    first = file_request(folder, [one, other], name="Juno", contact="j@x.example")
    again = file_request(folder, [other, one], name="J.", contact=" j@x.example", statement="twice")
    assert again == first
    assert file_request(folder, [one], name="Juno", contact="j@x.example") != first
    assert file_request(folder, [one, other], name="Juno", contact="k@x.example") != first
    assert len(requests(folder)) == 3
    nameless = file_request(folder, [one], name="Juno")  # nobody is shown what somebody else wrote
    assert file_request(folder, [one], name="Karl") != nameless
    assert file_request(folder, [one], name="Juno", statement="again") == nameless
    with ReferenceIndex.open(folder, writable=True) as index:
        index.decline_request(first.id, reason="no")
    assert file_request(folder, [one, other], name="Juno", contact="j@x.example") != first


def test_open_requests_are_bounded(folder: Path, art: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "MAX_OPEN", 2)
    one = digest(art / ASKED)
    first, _ = (file_request(folder, [one], name="Juno", contact=str(n)) for n in range(2))
    with pytest.raises(UsageError, match="2 removal requests wait for a decision"):
        file_request(folder, [one], name="Juno", contact="third")
    assert file_request(folder, [one], name="Juno", contact="0") == first
    with ReferenceIndex.open(folder, writable=True) as index:
        index.decline_request(first.id, reason="no")
    file_request(folder, [one], name="Juno", contact="third")


def test_requests_come_newest_first_and_by_state(folder: Path, art: Path) -> None:
    one = digest(art / ASKED)
    filed = [file_request(folder, [one], name="Juno", contact=str(n)) for n in range(3)]
    with ReferenceIndex.open(folder, writable=True) as index:
        index.decline_request(filed[1].id, reason="no")
    assert [r.id for r in requests(folder)] == [f.id for f in reversed(filed)]
    assert [r.id for r in requests(folder, state="open")] == [filed[2].id, filed[0].id]
    assert [r.reason for r in requests(folder, state="declined")] == ["no"]
    assert requests(folder, state="accepted") == []
    with pytest.raises(UsageError, match=r"Give open, accepted, declined"):
        requests(folder, state="done")


def test_there_is_no_index_to_ask_of(tmp_path: Path) -> None:
    for act in (lambda: requests(tmp_path / "no"), lambda: file_request(tmp_path, ["ab"], name="J")):
        with pytest.raises(IndexMissingError, match="Build one"):
            act()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "catalog.sqlite").write_bytes(b"garbage" * 999)
    with pytest.raises(IndexCorruptError):
        file_request(tmp_path, ["ab"], name="J")


# Deciding


def test_a_decided_request_is_decided(folder: Path, art: Path) -> None:
    one, other = digest(art / ASKED), digest(art / NAMES[1])
    no, yes = (file_request(folder, [picture], name="Juno") for picture in (one, other))
    with ReferenceIndex.open(folder, writable=True) as index:
        with pytest.raises(UsageError, match="with a reason"):
            index.decline_request(no.id, reason=" ")
        with pytest.raises(UsageError, match="the reason has 4,001"):
            index.accept_request(no.id, reason="x" * 4001)
        index.decline_request(no.id, reason="in the public domain")
        with pytest.raises(UsageError, match="was declined on"):
            index.decline_request(no.id, reason="again")
        index.accept_request(yes.id)
        with pytest.raises(UsageError, match="was accepted on"):
            index.decline_request(yes.id, reason="too late")
        assert index.accept_request(yes.id, reason="twice") == (0, 0)
        assert index.accept_request(no.id) == (1, 1)  # minds change
        states = [(r.state, r.reason) for r in index.requests()]
    assert states == [("accepted", ""), ("accepted", "")]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("", "has no removal request ''"), ("zz", "'zz'"), ("%", "'%'"), ("ab", "beginning of 2 ids")],
)
def test_unknown_and_ambiguous_ids_are_refused(
    folder: Path, art: Path, wanted: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["ab00000000000000", "ab10000000000000"])
    monkeypatch.setattr(filing.secrets, "token_hex", lambda _: next(ids))
    for n in range(2):
        file_request(folder, [digest(art / ASKED)], name="Juno", contact=str(n))
    with ReferenceIndex.open(folder, writable=True) as index:
        with pytest.raises(UsageError, match=words):
            index.accept_request(wanted)
        assert len(index) == len(NAMES)
    assert filing.request(folder, "AB1").contact == "1"


def test_readers_may_not_decide(folder: Path, art: Path) -> None:
    filed = file_request(folder, [digest(art / ASKED)], name="Juno")
    with ReferenceIndex.open(folder) as index:
        for act in (
            lambda: index.accept_request(filed.id),
            lambda: index.decline_request(filed.id, reason="x"),
        ):
            with pytest.raises(UsageError, match="was opened for reading"):
                act()


def test_accepting_remembers_what_was_removed_before(folder: Path, art: Path) -> None:
    filed = file_request(folder, [digest(art / ASKED)], name="Juno")
    with ReferenceIndex.open(folder, writable=True) as index:
        index.remove(path=(art / ASKED).as_posix())
        assert index.accept_request(filed.id) == (0, 0)
    assert build_index(art, folder).rejections[0].reason == "removed_on_request"


# At the same time


def test_filing_waits_for_a_commit_and_not_for_the_writer(folder: Path, art: Path) -> None:
    one = digest(art / ASKED)
    with ReferenceIndex.open(folder, writable=True) as writer, ThreadPoolExecutor(1) as pool:
        file_request(folder, [one], name="Juno", contact="while the lock is held")
        with writer._catalog.transaction():
            waiting = pool.submit(file_request, folder, [one], name="Juno", contact="while it commits")
            with pytest.raises(StillWaiting):
                waiting.result(timeout=0.3)
        assert waiting.result(timeout=60).contact == "while it commits"
        writer.remove(path=(art / NAMES[1]).as_posix(), erase=True)
    assert len(requests(folder)) == 2
    assert not list(folder.glob("*-wal"))


def test_filing_works_while_an_index_is_built(folder: Path, art: Path, artworks: Path) -> None:
    one = digest(art / ASKED)
    filed = []

    def told(_: object) -> None:
        filed.append(file_request(folder, [one], name="Juno", contact=str(len(filed))).id)

    report = build_index(
        [artworks / "city-1.jpg", artworks / "city-3.jpg"],
        folder,
        options=BuildOptions(batch_size=1, workers=1),
        on_progress=told,
    )
    assert report.added == 2
    assert len(filed) >= 4
    assert {r.id for r in requests(folder)} == set(filed)
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []


def test_of_200_filed_at_once_none_is_lost(folder: Path, art: Path) -> None:
    one = digest(art / ASKED)
    code = (
        "import sys; from index.requests import file_request\n"
        "for n in range(20): file_request(sys.argv[1], [sys.argv[2]], name='J', contact=f'process {n}')"
    )
    with ThreadPoolExecutor(16) as pool:
        process = pool.submit(run_python, code, folder, one)
        filed = list(
            pool.map(lambda n: file_request(folder, [one], name="Juno", contact=f"thread {n}"), range(180))
        )
        assert process.result().returncode == 0, process.result().stderr
    kept = requests(folder)
    assert len({r.id for r in kept}) == len(kept) == 200
    assert {r.id for r in filed} <= {r.id for r in kept}
    assert {r.contact for r in kept} == {
        *(f"thread {n}" for n in range(180)),
        *(f"process {n}" for n in range(20)),
    }


def test_a_reader_of_an_older_generation_sees_fresh_requests(folder: Path, art: Path) -> None:
    one = digest(art / ASKED)
    traces = Traces.of(folder, one)
    with ReferenceIndex.open(folder) as reader:
        before = reader.generation
        filed = file_request(folder, [one], name="Juno")
        assert reader.requests() == [filed]
        with ReferenceIndex.open(folder, writable=True) as writer:
            writer.accept_request(filed.id)
        assert filing.find_traces(folder)  # this reader keeps the log
        assert [r.state for r in reader.requests()] == ["accepted"]
        assert reader.generation == before
        assert found(reader, art / ASKED)
    assert not filing.find_traces(folder)
    assert set(traces.in_folder(folder).values()) == {0.0}
    with ReferenceIndex.open(folder) as late:
        assert found(late, art / ASKED) == []


KILLED = """
import os, sys
from index.catalog import Catalog
from index.reference_index import ReferenceIndex
setattr({place}, lambda *_, **__: os._exit(9))
with ReferenceIndex.open(sys.argv[1], writable=True) as index:
    index.accept_request(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("place", "visible"),
    [
        ("Catalog, 'decide_request'", False),
        ("Catalog, 'remember_forgotten'", False),
        ("ReferenceIndex, 'compact'", True),
        ("ReferenceIndex, '_merge'", True),
        ("Catalog, 'vacuum'", True),
    ],
)
def test_an_accept_that_was_killed_shows_all_or_nothing_and_is_completed_by_another(
    folder: Path, art: Path, place: str, visible: bool
) -> None:
    sha256 = digest(art / ASKED)
    traces = Traces.of(folder, sha256)
    filed = file_request(folder, [sha256], name="Juno")
    assert run_python(KILLED.format(place=place), folder, filed.id).returncode == 9
    (kept,) = requests(folder)
    assert kept.state == ("accepted" if visible else "open")
    with ReferenceIndex.open(folder) as index:
        assert bool(found(index, art / ASKED)) is not visible
        assert len(index) == len(NAMES) - visible
        assert index.forgotten() == ({forgotten_key(sha256)} if visible else frozenset())
        assert index.check() == []
    with ReferenceIndex.open(folder, writable=True) as index:
        assert index.accept_request(filed.id) == ((0, 0) if visible else (1, 1))
    assert set(traces.in_folder(folder).values()) == {0.0}
    assert [r.state for r in requests(folder)] == ["accepted"]


# Indexes from before there were requests


@pytest.fixture
def old(tmp_path: Path) -> Path:
    assert FROZEN.is_dir(), "the frozen index is missing from tests/data"
    return Path(shutil.copytree(FROZEN, tmp_path / "old.index"))


def test_an_old_index_is_read_as_it_is(old: Path) -> None:
    with ReferenceIndex.open(old) as index:
        assert index.requests() == requests(old) == []
        assert index.info().open_requests == 0
        assert index.forgotten() == frozenset()
    assert version_of(old) == 1
    assert "no removal requests" in run("index", "requests", "list", "--index", old).out


def test_filing_brings_an_old_index_to_the_new_schema_beside_its_reader(old: Path, artworks: Path) -> None:
    with ReferenceIndex.open(old) as reader:
        filed = file_request(old, [digest(artworks / ASKED)], name="Juno")
        assert version_of(old) == SCHEMA_VERSION
        assert reader.requests() == [filed]
        assert reader.check() == []
    with ReferenceIndex.open(old, writable=True) as index:
        assert index.accept_request(filed.id) == (1, 1)
        assert index.check() == []


def test_an_old_index_is_brought_to_the_new_schema_once_however_many_ask(old: Path) -> None:
    barrier = threading.Barrier(8)

    def connected(_: int) -> int:
        barrier.wait(timeout=60)
        catalog = Catalog(old, writable=True)
        try:
            return len(catalog.requests())
        finally:
            catalog.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(connected, range(8))) == [0] * 8
    assert version_of(old) == SCHEMA_VERSION
    with ReferenceIndex.open(old) as index:
        assert index.check() == []


def test_a_newer_catalogue_takes_no_request(folder: Path) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version = 77")
    connection.close()
    with pytest.raises(IndexVersionError, match="has format 77"):
        file_request(folder, ["ab"], name="J")


def version_of(folder: Path) -> int:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


# On the command line


@pytest.fixture
def near(folder: Path, art: Path, tmp_path: Path) -> Path:
    """An index with a near-duplicate of a work: the same picture, written anew."""
    (tmp_path / "more").mkdir()
    copy = tmp_path / "more" / "written anew.png"
    Image.open(art / ASKED).convert("RGB").save(copy)
    build_index(copy.parent, folder)
    return folder


@pytest.mark.parametrize("command", ["", "list", "show", "accept", "decline"])
def test_every_command_explains_itself(command: str) -> None:
    shown = run("index", "requests", *command.split(), "--help")
    assert shown.code == 0
    assert "request" in shown.out
    for words in ("Examples:", "--index", "--json", "--quiet", "--debug") if command else ():
        assert words in shown.out


def test_no_requests_are_said_in_words(folder: Path) -> None:
    listed = run("index", "requests", "list", "--index", folder)
    assert (listed.code, listed.out) == (0, f"{folder}: no removal requests.\n")
    assert (
        "no open removal requests"
        in run("index", "requests", "list", "--index", folder, "--state", "open").out
    )
    assert run("index", "requests", "list", "--index", folder, "--json").value == []
    assert "removal requests" not in run("index", "info", "--index", folder).out


def test_requests_are_listed_and_named_by_info(folder: Path, art: Path) -> None:
    filed = file_request(
        folder,
        [digest(art / ASKED)],
        name="Ju\x1b[31mno",
        contact="j@x.example",
        statement="One.\nTwo. " * 90,
    )
    listed = run("index", "requests", "list", "--index", folder)
    assert listed.code == 0
    heading, row, *_ = listed.out.splitlines()
    assert heading.split()[:4] == ["id", "filed", "state", "pictures"]
    assert row.split()[:4] == [filed.id[:8], filed.made[:10], "open", "1"]
    assert "Ju\\x1b[31mno, j@x.example" in row
    assert "\x1b" not in listed.out
    assert "1 removal request (1 open)." in listed.out
    assert f"requests show {filed.id[:8]} --index" in listed.err
    assert run("index", "requests", "list", "--index", folder, "--json").value == [filed.to_dict()]
    info = run("index", "info", "--index", folder).out
    assert "1 open" in info
    assert "detector index requests list --state open --index" in info
    assert run("index", "info", "--index", folder, "--json").value["open_requests"] == 1


def test_a_request_is_shown_with_its_pictures_and_their_near_duplicates(near: Path, art: Path) -> None:
    filed = file_request(near, [digest(art / ASKED)], name="Juno", statement="One.\nTwo.")
    shown = run("index", "requests", "show", filed.id[:5], "--index", near)
    assert shown.code == 0
    for words in ("Juno", "Two.", "not given", "Ten Thousand Windows", ASKED, "1 near-duplicate", "anew.png"):
        assert words in shown.out
    assert f"requests accept {filed.id[:8]}" in shown.err
    value = run("index", "requests", "show", filed.id, "--index", near, "--json").value
    (picture,) = value["pictures"]
    assert [Path(path).name for path in picture["near_duplicates"]] == ["written anew.png"]
    assert value["id"] == filed.id


def test_accepting_asks_erases_and_names_what_stays(near: Path, art: Path) -> None:
    filed = file_request(near, [digest(art / ASKED)], name="Juno")
    accept = ("index", "requests", "accept", filed.id[:6], "--index", near)
    asked = run(*accept)
    assert (asked.code, requests(near)) == (2, [filed])
    assert "--yes" in asked.err
    done = run(*accept, "--yes", "--reason", "used without a licence")
    assert done.code == 0
    assert "1 picture erased, 1 occurrence forgotten" in done.out
    assert "1 near-duplicate stays in this index" in done.out
    (command,) = [line for line in done.out.splitlines() if line.startswith("To erase one too: ")]
    assert command.endswith("written anew.png' --erase")
    assert "No later build into this index takes them in" in done.out
    again = run(*accept)
    assert again.code == 0
    assert "was accepted before" in again.out
    shown = run("index", "requests", "show", filed.id, "--index", near)
    assert "accepted on" in shown.out
    assert "used without a licence" in shown.out
    assert "1 picture erased" in shown.out
    passed = run("index", "build", art, "--out", near)
    assert "1 file could not be used" in passed.out
    assert f"{ASKED}: was removed on request and is not taken in again (--take-back would)" in passed.out
    assert ASKED in run("index", "info", "--rejected", "--index", near).out
    assert run("index", "build", art, "--out", near, "--take-back", "--json").value["added"] == 1
    assert "taken back" in run("index", "requests", "show", filed.id, "--index", near).out


def test_accepting_beside_a_reader_says_that_its_log_stays(folder: Path, art: Path) -> None:
    filed = file_request(folder, [digest(art / ASKED)], name="Juno")
    with ReferenceIndex.open(folder):
        done = run("index", "requests", "accept", filed.id, "--index", folder, "--yes")
    assert done.code == 0
    assert "another program is reading" in done.err
    assert "detector index compact" in done.err


def test_declining_needs_a_reason(folder: Path, art: Path) -> None:
    filed = file_request(folder, [digest(art / ASKED)], name="Juno")
    decline = ("index", "requests", "decline", filed.id[:4], "--index", folder)
    refused = run(*decline)
    assert refused.code == 2
    assert refused.err == "error: a request is declined with a reason. Give --reason TEXT\n"
    done = run(*decline, "--reason", "in the public domain", "--json")
    assert (done.value["state"], done.value["reason"]) == ("declined", "in the public domain")
    with ReferenceIndex.open(folder) as index:
        assert len(index) == len(NAMES)


def test_removing_with_erase_says_that_it_is_remembered(folder: Path, art: Path) -> None:
    path = (art / ASKED).as_posix()
    gone = run("index", "remove", "--index", folder, "--path", path, "--erase", "--yes")
    assert "No later build into this index takes them in again (--take-back would)." in gone.out
    kept = run("index", "remove", "--index", folder, "--path", (art / NAMES[1]).as_posix(), "--yes")
    assert "--take-back" not in kept.out


@pytest.mark.parametrize("line", ["show", "accept", "decline"])
@pytest.mark.parametrize("wanted", ["zz", "0123", "x" * 500])
def test_a_wrong_id_gets_one_clear_line(folder: Path, line: str, wanted: str) -> None:
    more = {"accept": ["--yes"], "decline": ["--reason", "no"]}.get(line, [])
    done = run("index", "requests", line, wanted, "--index", folder, *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "has no removal request" in done.err
    assert "detector index requests list" in done.err
