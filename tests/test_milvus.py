"""An index in Milvus: one suite of behaviours for folders and Milvus Lite, and what is Milvus' own."""

from __future__ import annotations

import builtins
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="needs the milvus extra")
pytest.importorskip("milvus_lite", reason="needs milvus-lite, which Windows has not")

from detector import build_index, cli, find_duplicates, lookup
from index.catalog import OccurrenceRecord
from index.credits import Credits
from index.errors import DescriptorError, IndexConnectionError, IndexMissingError, UsageError
from index.items import Rejected
from index.locations import AnyIndex, local_folder, open_index, open_or_create, parse_location
from index.milvus_server import from_vector, to_vector
from index.reference_index import NewReference, ReferenceIndex
from index.vectors import BitStore, UnitStore

pytestmark = [pytest.mark.milvus, pytest.mark.slow]

DESCRIPTORS = ("pdq", "phash", "clip:bundled")
SEED = 11
COUNT = 60


def described(number: int, path: str, *, rows: bool = True, artist: str = "Ada") -> NewReference:
    """A made-up picture: hashes with ties, squares for every third, no pdq row for every seventh."""
    rng = np.random.default_rng(SEED + number)
    count = 2 if number % 3 == 0 else 1
    unit = rng.standard_normal((1, 256)).astype(np.float32)
    bits = {"pdq": 32, "phash": 8}
    made: dict[str, Any] = {
        name: rng.integers(0, 64, (count, width), dtype=np.uint8) for name, width in bits.items()
    }
    if number % 7 == 0:
        made["pdq"] = made["pdq"][:0]
    made["clip:bundled"] = unit / np.linalg.norm(unit)
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    place = OccurrenceRecord(path, Credits(artist, f"No. {number}", extra={"k": "é"}), 10 + number, 1000)
    return NewReference(digest, 64, 48, place, made if rows else None, thumbnail=b"webp%d" % number)


@pytest.fixture(params=["folder", "milvus"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a new index goes, once for each back end."""
    return tmp_path / ("art.index" if request.param == "folder" else "art.db")


def made(place: Path, count: int = COUNT) -> AnyIndex:
    index = open_or_create(place, descriptors=DESCRIPTORS)
    assert index.add([described(n, f"a/{n}.png") for n in range(count)]) == count
    return index


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_search_agrees_with_brute_force_on_ids_and_scores(place: Path, name: str) -> None:
    with made(place) as index:
        ids = {n: index.id_of(described(n, "").sha256) for n in range(COUNT)}
        assert None not in ids.values()
        pairs = [(row, ids[n]) for n in range(COUNT) for row in described(n, "").rows[name]]  # type: ignore[index]
        rows, owners = np.stack([p[0] for p in pairs]), np.asarray([p[1] for p in pairs])
        brute = UnitStore(rows, owners) if name.startswith("clip") else BitStore(rows, owners)
        queries = np.stack([rows[3], rows[17], rows[40]])
        for k in (1, 5, 20, 200):
            values, found = index.store(name).search(queries, k)
            expected, expected_ids = brute.search(queries, k)
            np.testing.assert_array_equal(values, expected)
            np.testing.assert_array_equal(found, expected_ids)
        assert len(index.store(name)) == len(rows)


def test_near_rows_and_rows_of_a_reference_agree_with_brute_force(place: Path) -> None:
    with made(place) as index:
        store = index.store("pdq")
        assert isinstance(store, BitStore)
        number = index.id_of(described(3, "").sha256)
        assert number is not None
        np.testing.assert_array_equal(store.rows_of(number), described(3, "").rows["pdq"])  # type: ignore[index]
        assert len(store.wholes().rows_of(number)) == 1
        row = store.rows_of(number)[0]
        for bound in (0, 60, 70, 256):
            expected = []
            for n in range(COUNT):
                for other in described(n, "").rows["pdq"]:  # type: ignore[index]
                    away = int(np.unpackbits(row ^ other).sum())
                    if away <= bound:
                        expected.append((index.id_of(described(n, "").sha256), away))
            assert store.within(row, bound) == sorted(expected, key=lambda pair: (pair[1], pair[0]))


def test_what_was_added_is_read_back_by_another_opening(place: Path) -> None:
    with made(place) as index:
        index.reject(Rejected("a/broken.png", "truncated", "why"), size=3, mtime_ns=4)
        index.add([])
        index.calibrate()
        nulls = index.calibration()
    with open_index(place) as index:
        number = index.id_of(described(5, "").sha256)
        assert number is not None
        record, places = index.reference(number)  # type: ignore[misc]
        assert (record.sha256, record.width, record.height) == (described(5, "").sha256, 64, 48)
        assert places == (described(5, "a/5.png").occurrence,)
        assert index.thumbnail(number) == b"webp5"
        assert index.counts() == (COUNT, COUNT, 1)
        assert index.rejected() == [Rejected("a/broken.png", "truncated", "why")]
        assert index.is_known("a/broken.png", 3, 4)
        assert not index.is_known("a/broken.png", 3, 5)
        assert index.is_known("a/5.png", 15, 1000)
        assert not index.is_known("a/5.png", 16, 1000)
        assert set(index.calibration()) == set(DESCRIPTORS) == set(nulls)
        assert index.check() == []
        assert index.info().rows["clip:bundled"] == COUNT
        with pytest.raises(UsageError, match="opened for reading"):
            index.remove(path="a/5.png")


def test_same_picture_under_two_paths_keeps_both(place: Path) -> None:
    with made(place, 8) as index:
        assert index.add([described(2, "b/again.png", rows=False)]) == 0
        number = index.id_of(described(2, "").sha256)
        assert number is not None
        assert [p.path for p in index.reference(number)[1]] == ["a/2.png", "b/again.png"]  # type: ignore[index]
        assert index.remove(path="a/2.png") == (1, 0)
        assert index.has(described(2, "").sha256)


def test_a_path_with_another_picture_drops_the_old_one(place: Path) -> None:
    with made(place, 8) as index:
        index.add([described(50, "a/2.png")])
        assert not index.has(described(2, "").sha256)
        assert index.counts()[:2] == (8, 8)
        assert index.check() == []


def test_adding_again_changes_nothing(place: Path) -> None:
    with made(place, 8) as index:
        assert index.add([described(n, f"a/{n}.png") for n in range(8)]) == 0
        assert index.counts()[:2] == (8, 8)
        assert len(index.store("clip:bundled")) == 8


def test_removed_references_are_found_no_more_and_erased_ones_not_taken_back(place: Path) -> None:
    with made(place, 12) as index:
        gone = index.id_of(described(4, "").sha256)
        assert gone is not None
        query = described(4, "").rows["clip:bundled"]  # type: ignore[index]
        assert index.store("clip:bundled").search(query, 1)[1][0, 0] == gone
        assert index.remove(path="a/4.png", erase=True) == (1, 1)
        assert gone not in index.store("clip:bundled").search(query, 12)[1]
        assert index.reference(gone) is None
        assert index.thumbnail(gone) is None
        with pytest.raises(UsageError, match="removed on request"):
            index.add([described(4, "a/4.png")])
        assert index.add([described(4, "a/4.png")], take_back=True) == 1
        assert index.remove(artist="ADA") == (12, 12)
        assert len(index) == 0


def test_other_weights_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(place, 2).close()
    with open_index(place) as index:
        changed = [
            type(s)(s.name, s.version, s.kind, s.width, s.preprocessing, "0" * 64) if s.weights_digest else s
            for s in index.specs
        ]
        index.specs = tuple(changed)
        with pytest.raises(DescriptorError, match="built with other weights"):
            index.descriptors()


def main(words: list[str]) -> int:
    """Run a command line in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["detector", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


class KilledError(BaseException):
    """Stands for a kill: nothing of the writer runs after it."""


@pytest.mark.parametrize("after", [1, 2, 4, 5, 6, 8, 10])
def test_a_writer_killed_after_any_write_leaves_an_index_that_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    place = tmp_path / "art.db"
    index = made(place, 6)
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > after:
                raise KilledError
            return real(*args, **kwargs)

        return call

    batch = [described(n, f"a/{n}.png") for n in (20, 21, 22)] + [described(23, "a/1.png")]
    with monkeypatch.context() as patch:
        client = index._server._client  # type: ignore[union-attr]
        patch.setattr(client, "upsert", dying(client.upsert))
        patch.setattr(client, "delete", dying(client.delete))
        try:
            index.add(batch)
            index.remove(path="a/3.png")
        except KilledError:
            pass
    index.close()
    with open_index(place) as reader:
        live = set(reader.reference_ids())
        for name in DESCRIPTORS:
            query = described(20, "").rows[name]  # type: ignore[index]
            if len(query):
                assert set(reader.store(name).search(query, 20)[1].ravel().tolist()) - {-1} <= live
    with open_index(place, writable=True) as index:
        assert index.check() == []
        index.add(batch)
        index.remove(path="a/3.png")
        assert index.check() == []
        digests = {described(n, "").sha256 for n in (0, 2, 4, 5, 20, 21, 22, 23)}
        assert index.digests() == digests


def test_rows_whose_reference_is_not_there_are_not_found(tmp_path: Path) -> None:
    with made(tmp_path / "art.db", 10) as index:
        number = index.id_of(described(1, "").sha256)
        assert number is not None
        index._server.delete("training_images", [number])  # type: ignore[union-attr]
        index._alive.clear()  # type: ignore[union-attr]
        query = described(1, "").rows["clip:bundled"]  # type: ignore[index]
        assert number not in index.store("clip:bundled").search(query, 10)[1]
        assert len(index.check()) == 4


def test_pictures_whose_digests_begin_alike_get_ids_of_their_own(tmp_path: Path) -> None:
    with open_or_create(tmp_path / "art.db", descriptors=("pdq",)) as index:
        first, second = ("ab" * 31 + last for last in ("00", "01"))
        place, rows = described(1, "a").occurrence, described(3, "").rows
        assert rows is not None
        made_up = {"pdq": rows["pdq"]}
        one = NewReference(first, 1, 1, place, made_up)
        other = NewReference(second, 1, 1, described(1, "b").occurrence, made_up)
        assert index.add([one]) == 1
        assert index.add([other]) == 1
        ids = index.id_of(first), index.id_of(second)
        assert None not in ids
        assert ids[0] != ids[1]


@pytest.mark.parametrize("native", [False, True])
def test_rows_survive_their_form_in_milvus(native: bool) -> None:
    rng = np.random.default_rng(SEED)
    bits = rng.integers(0, 256, 32, dtype=np.uint8)
    unit = rng.standard_normal(512).astype(np.float16)
    for row, is_bits in ((bits, True), (unit, False)):
        sent = to_vector(row, bits=is_bits, native=native)
        got = [bytes(np.asarray(sent).tobytes()) if not is_bits else sent] if native else list(sent)
        np.testing.assert_array_equal(from_vector(got, bits=is_bits, native=native), row)


# The same scan on both


@pytest.fixture(scope="module")
def both(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An index over the sample references in a folder and in Milvus Lite."""
    folder = tmp_path_factory.mktemp("both")
    places = {"folder": folder / "art.index", "milvus": folder / "art.db"}
    for place in places.values():
        assert build_index(artworks, place, descriptors=DESCRIPTORS).references == 60
    return places


def findings(index: Path, pictures: list[Path], jsonl: Path) -> list[Any]:
    words = [
        "scan",
        *map(str, pictures),
        "--index",
        str(index),
        "--jsonl",
        str(jsonl),
        "--quiet",
        "--fail-on",
        "never",
    ]
    assert main(words) == 0
    lines = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    return [without_ids(line) for line in lines if "query" in line or "matches" in line]


def without_ids(value: Any) -> Any:
    """Leave out what differs from index to index: ids, and the order of equal matches that follows from them."""
    if isinstance(value, dict):
        kept = {k: without_ids(v) for k, v in value.items() if k != "id"}
        if isinstance(kept.get("matches"), list):  # of a query, not of its evidence, which has a number there
            kept["matches"] = sorted(kept["matches"], key=lambda m: json.dumps(m, sort_keys=True))
        return kept
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def test_the_same_scan_on_both_gives_the_same_findings(
    both: dict[str, Path], artworks: Path, edited: Path, tmp_path: Path
) -> None:
    pictures = [artworks.parent / "generated", edited]
    local = findings(both["folder"], pictures, tmp_path / "local.jsonl")
    remote = findings(both["milvus"], pictures, tmp_path / "remote.jsonl")
    assert len(local) > 40
    assert any(line["matches"] for line in local)
    assert remote == local


def test_calibration_is_the_same_on_both(both: dict[str, Path]) -> None:
    found = []
    for place in both.values():
        with open_index(place) as index:
            found.append(index.calibration())
    # The sample that nulls are fitted on is drawn by id; with 60 references it is all of them.
    for name in DESCRIPTORS:
        assert found[0][name].location == pytest.approx(found[1][name].location, abs=1e-9)
        assert found[0][name].scale == pytest.approx(found[1][name].scale, abs=1e-9)


def test_a_second_build_goes_on_and_describes_nothing(both: dict[str, Path], artworks: Path) -> None:
    again = build_index(artworks, both["milvus"])
    assert (again.added, again.unchanged) == (0, 60)


def test_artists_and_duplicates_are_the_same_on_both(both: dict[str, Path]) -> None:
    works, clusters = [], []
    for place in both.values():
        with open_index(place) as index:
            artist = next(name for _, name, _ in sorted(index.named(), key=lambda each: each[1]) if name)
            report = lookup(index, name=artist)
            works.append(sorted(work.reference.sha256 for work in report.works))
            clusters.append(len(find_duplicates(index).clusters))
    assert works[0] == works[1] != []
    assert clusters[0] == clusters[1]


# Locations and errors


@pytest.mark.parametrize(
    ("text", "server", "collection"),
    [
        ("milvus://h:1/art", "h:1", "art"),
        (Path("milvus://h:1/art"), "h:1", "art"),
        ("milvus://h/art", "h:19530", "art"),
        ("some/art.db", "", "training_images"),
        ("some/art.db/mine", "", "mine"),
        ("art.index", "", ""),
    ],
)
def test_a_location_is_read_from_text_or_path(text: str | Path, server: str, collection: str) -> None:
    found = parse_location(text)
    assert (found.server, found.collection) == (server, collection)


@pytest.mark.parametrize("text", ["milvus://h:1", "milvus://me:pw@h:1/a", "milvus://h:1/a-b", "a.db/1x"])
def test_locations_that_cannot_be_say_why(text: str) -> None:
    with pytest.raises(UsageError, match=r"\. |letters|Write|token") as caught:
        parse_location(text)
    assert "pw" not in str(caught.value)


def test_no_server_is_told_soon_and_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert main(["index", "info", "--index", "milvus://127.0.0.1:9/art"]) != 0
    said = capsys.readouterr().err
    assert "no Milvus server answers at 127.0.0.1:9" in said
    assert "milvus://127.0.0.1:9/art" in said
    assert "Traceback" not in said
    assert time.monotonic() - began < 60  # not a hang; the bound says nothing of speed


def test_without_pymilvus_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pymilvus":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(IndexConnectionError, match=r'pip install "replication-detector\[milvus\]"'):
        open_index("milvus://127.0.0.1:9/art")


def test_what_is_missing_or_something_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError, match="no such index"):
        open_index(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "file.db").write_bytes(b"SQLite format 3")
    with pytest.raises(UsageError, match="a file of another kind"):
        open_index(tmp_path / "file.db")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "folder.db" / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="other files"):
        open_or_create(tmp_path / "folder.db")


def test_a_strange_collection_is_refused_and_left_alone(tmp_path: Path) -> None:
    from pymilvus import MilvusClient

    place = tmp_path / "art.db"
    made(place, 2).close()
    with open_index(place) as index:
        client: MilvusClient = index._server._client  # type: ignore[union-attr]
        client.create_collection("theirs", dimension=4)
    for opening in (open_index, open_or_create):
        with pytest.raises(UsageError, match="collection of something else"):
            opening(place / "theirs")


def test_a_folder_index_named_db_is_a_folder(tmp_path: Path) -> None:
    ReferenceIndex.create(tmp_path / "old.db", descriptors=("pdq",)).close()
    with open_index(tmp_path / "old.db") as index:
        assert isinstance(index, ReferenceIndex)


def test_keypoints_and_folder_work_are_refused_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--descriptors pdq"):
        open_or_create(tmp_path / "art.db", descriptors=("pdq", "keypoints"))
    with pytest.raises(UsageError, match="detector index build"):
        local_folder("milvus://h:1/a", "serving")


def test_a_large_small_copy_is_left_out(tmp_path: Path) -> None:
    with open_or_create(tmp_path / "art.db", descriptors=("pdq",)) as index:
        new = described(1, "a.png")
        large = NewReference(new.sha256, 1, 1, new.occurrence, new.rows, thumbnail=b"x" * 60_000)
        assert index.add([large]) == 1
        number = index.id_of(new.sha256)
        assert number is not None
        assert index.thumbnail(number) is None


def test_the_check_command_answers_from_milvus(
    both: dict[str, Path], edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next(iter(sorted(edited.glob("*.jpg")) or sorted(edited.glob("*.png"))))
    assert main(["check", str(picture), "--index", str(both["milvus"]), "--json", "--fail-on", "never"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["index", "check", "--index", str(both["milvus"])]) == 0
