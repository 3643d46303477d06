"""References from folders, lists and shards."""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import pickle
import socket
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from index.credits import CreditReader
from index.errors import SourceError, UnreadableImageError, UsageError
from index.sources import ColumnNames, Credits, Rejected, Source, SourceItem, iter_folder, open_source
from index.tables import Row, open_table


def picture(shade: int = 0, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 128, 64)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, data: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((data or picture()) if isinstance(data, bytes) else data.encode())
    return path


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def as_json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def items(source: Source) -> dict[str, SourceItem]:
    """Name below the source → item; asserts that locators are unique."""
    found = [each for each in source if isinstance(each, SourceItem)]
    names = [each.locator.removeprefix(source.path.as_posix()).lstrip("/:") for each in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def rejected(source: Source) -> dict[str, str]:
    return {Path(each.locator).name: each.reason for each in source if isinstance(each, Rejected)}


# Credits


def test_own_credits_win_and_empty_ones_are_filled() -> None:
    own = Credits(artist="A", extra={"k": "own"})
    filled = own.filled_from(Credits(artist="B", title="T", extra={"k": "other", "l": "2"}))
    assert filled == Credits(artist="A", title="T", extra={"k": "own", "l": "2"})


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("Author Name", "artist"),
        ("photographer", "artist"),
        ("LICENSE", "licence"),
        ("license-url", "licence"),
        ("page_url", "source"),
        ("TEXT", "caption"),
        ("Name", "title"),
    ],
)
def test_usual_column_names_are_known_in_any_spelling(column: str, field: str) -> None:
    assert CreditReader().read({column: "x"}) == Credits(**{field: "x"})


def test_best_column_that_says_something_wins_and_the_rest_is_kept() -> None:
    credits = CreditReader().read({"author": "B", "artist": "", "creator": "C", "note": "n"})
    assert credits == Credits(artist="B", extra={"creator": "C", "note": "n"})
    assert CreditReader().read({"author": "B", "artist": "A"}) == Credits(artist="A", extra={"author": "B"})


def test_told_column_stands_alone_for_its_field() -> None:
    credits = CreditReader(ColumnNames(artist="Painter Name")).read({"painter_name": "P", "artist": "A"})
    assert credits == Credits(artist="P", extra={"artist": "A"})


def test_values_that_are_no_text_become_text_or_nothing() -> None:
    row = {
        "artist": ["A", "B"],
        "creator": None,
        "title": math.nan,
        "license": {"name": "CC0", "url": "u"},
        "size": {"w": 1, "h": [2]},
        "n": 3,
        "bytes": b"..",
    }
    credits = CreditReader().read(row)
    assert credits == Credits(artist="A, B", licence="CC0", extra={"size": '{"w":1,"h":[2]}', "n": "3"})


def test_text_can_always_be_stored() -> None:
    credits = CreditReader().read({"artist": "a\x00\x1b[31mb\ud800", "caption": "two\nlines"})
    credits.artist.encode()
    assert credits.artist == "a[31mb\ufffd"
    assert credits.caption == "two\nlines"


def test_exif_kept_by_img2dataset_names_the_artist() -> None:
    credits = CreditReader().read({"exif": '{"Image Artist": "Ada", "Image Copyright": "CC BY 4.0"}'})
    assert (credits.artist, credits.licence) == ("Ada", "CC BY 4.0")


# Folders


def test_folder_is_recursive_sorted_and_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a/z.png",
        "a/y.webp",
        "c.jpeg",
        ".git/h.jpg",
        "__MACOSX/i.jpg",
        "._c.jpg",
        "n.txt",
    ):
        write(tmp_path / name)
    names = [
        each.relative_to(tmp_path).as_posix() for each in iter_folder(tmp_path) if isinstance(each, Path)
    ]
    assert names == ["a/y.webp", "a/z.png", "b.JPG", "c.jpeg"]
    assert list(items(open_source(tmp_path))) == names
    assert open_source(tmp_path).count() == 4


def test_item_reads_its_bytes_and_says_when_they_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    (item,) = items(open_source(tmp_path)).values()
    assert item.read() == path.read_bytes()
    assert (item.size, item.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert item.locator == path.as_posix()
    assert pickle.loads(pickle.dumps(item)) == item


def test_locators_are_the_path_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "art/a.jpg")
    write(tmp_path / "art/metadata.csv", "file_name,artist\na.jpg,Ada\n")
    monkeypatch.chdir(tmp_path)
    for given, locator in (("art", "art/a.jpg"), ("./art/", "art/a.jpg"), (".", "art/a.jpg")):
        (item,) = [each for each in open_source(given) if isinstance(each, SourceItem)]
        assert (item.locator, item.credits.artist) == (locator, "Ada")


@pytest.mark.skipif(os.name == "nt", reason="POSIX file kinds")
def test_special_files_are_rejected_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "empty.jpg").mkdir()
    write(tmp_path / "folder.jpg/inside.jpg")
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jpg")
            source = open_source(tmp_path)
            assert rejected(source) == {
                "pipe.jpg": "not_a_file",
                "socket.jpg": "not_a_file",
                "dangling.jpg": "missing",
                "round.jpg": "missing",
                "empty.jpg": "is_a_directory",
            }
    finally:
        os.chdir(here)
    assert list(items(source)) == ["folder.jpg/inside.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_linked_folders_are_entered_once_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "outside/o.jpg")
    write(tmp_path / "root/a/x.jpg")
    (tmp_path / "root/a/up").symlink_to("..")
    (tmp_path / "root/b").symlink_to("../outside")
    (tmp_path / "root/c").symlink_to("../outside")
    assert list(items(open_source(tmp_path / "root"))) == ["a/x.jpg", "b/o.jpg"]


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all"
)
def test_folder_without_permission_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    (tmp_path / "closed").mkdir(mode=0)
    assert rejected(open_source(tmp_path)) == {"closed": "permission_denied"}


@pytest.mark.skipif(os.name == "nt", reason="paths may not be that long there")
def test_deeply_nested_folders_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    deep = Path(*["d"] * 400)
    write(tmp_path / deep / "a.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        found = list(iter_folder(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert found == [tmp_path / deep / "a.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are no UTF-8")
def test_names_that_are_no_utf8_have_a_storable_locator_and_can_be_read(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(picture())
    (item,) = items(open_source(tmp_path)).values()
    assert item.locator.endswith("/caf\\xe9.jpg")
    assert item.read() == picture()


def test_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        list(iter_folder(tmp_path / "none"))
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "none")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder_metadata_credits_its_files(tmp_path: Path, kind: str) -> None:
    for name in ("a.jpg", "sub/b.jpg", "c.jpg"):
        write(tmp_path / name)
    rows = [
        {"file_name": "a.jpg", "artist": "Ada", "license": "CC0-1.0", "year": "1901"},
        {"file_name": "./sub/b.jpg", "artist": "Bo", "license": "", "year": ""},
        {"file_name": "gone.jpg", "artist": "Cy", "license": "", "year": ""},
    ]
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        write(tmp_path / "metadata.csv", "\n".join(lines))
    elif kind == "jsonl":
        write(tmp_path / "metadata.jsonl", "\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    source = open_source(tmp_path)
    assert source.describe() == f"folder, metadata.{kind} with 3 rows"
    found = items(source)
    assert found["a.jpg"].credits == Credits(artist="Ada", licence="CC0-1.0", extra={"year": "1901"})
    assert found["sub/b.jpg"].credits.artist == "Bo"
    assert found["c.jpg"].credits == Credits()
    assert rejected(source) == {"gone.jpg": "missing"}
    assert rejected(source) == {"gone.jpg": "missing"}, "a second pass gives the same"


def test_nearest_metadata_wins(tmp_path: Path) -> None:
    write(tmp_path / "sub/a.jpg")
    write(tmp_path / "sub/b.jpg")
    write(tmp_path / "metadata.csv", "file_name,artist\nsub/a.jpg,outer\nsub/b.jpg,outer\n")
    write(tmp_path / "sub/metadata.csv", "file_name,artist\na.jpg,inner\n")
    found = items(open_source(tmp_path))
    assert [each.credits.artist for each in found.values()][1] == "outer"
    assert found["sub/a.jpg"].credits.artist == "inner"


def test_row_that_another_table_has_overruled_is_not_reported_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    write(tmp_path / "metadata.csv", "file_name,artist\na.jpg,csv\n")
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.jpg", "artist": "jsonl"}')
    found = items(open_source(tmp_path))
    assert [each.credits.artist for each in found.values()] == ["csv", "jsonl"]


def test_file_named_by_two_rows_is_two_occurrences(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    table = "file_name,caption\na.jpg,one\na.jpg,two\n"
    write(tmp_path / "metadata.csv", table)
    for source in (open_source(tmp_path), open_source(tmp_path / "metadata.csv")):
        found = [each for each in source if isinstance(each, SourceItem)]
        assert [each.credits.caption for each in found] == ["one", "two"]
        assert found[1].locator == found[0].locator + "::row 2"


def test_nested_metadata_that_cannot_be_used_is_rejected_and_its_pictures_stay(tmp_path: Path) -> None:
    write(tmp_path / "sub/a.jpg")
    write(tmp_path / "sub/metadata.csv", "a,b\n1,2\n")
    source = open_source(tmp_path)
    assert rejected(source) == {"metadata.csv": "bad_metadata"}
    assert list(items(source)) == ["sub/a.jpg"]


def test_img2dataset_sidecars_credit_their_picture(tmp_path: Path) -> None:
    write(tmp_path / "00000/000.jpg")
    write(tmp_path / "00000/000.json", as_json(url="http://x/1", key="000", status="success", LICENSE="?"))
    write(tmp_path / "00000/000.txt", "a caption")
    write(tmp_path / "00000/001.jpg")
    write(tmp_path / "00000/001.json", as_json(workflow={"nodes": 3}))
    write(tmp_path / "00000/002.jpg")
    write(tmp_path / "00000/002.json", "{broken")
    found = items(open_source(tmp_path))
    assert found["00000/000.jpg"].credits == Credits(
        licence="?", source="http://x/1", caption="a caption", extra={"key": "000", "status": "success"}
    )
    assert found["00000/001.jpg"].credits == Credits()
    assert found["00000/002.jpg"].credits == Credits()


def test_folder_of_shards_and_parquet_is_read_through(tmp_path: Path) -> None:
    write_tar(tmp_path / "0000.tar", [("a.jpg", picture()), ("a.json", as_json(author="Ada"))])
    (tmp_path / "1.tar.gz").write_bytes(b"\x1f\x8b")
    pq.write_table(pa.table({"key": ["a"], "caption": ["c"]}), tmp_path / "0000.parquet")
    pq.write_table(pa.table({"image": [{"bytes": picture(), "path": "x.jpg"}]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "unrelated.parquet")
    source = open_source(tmp_path, columns=ColumnNames(artist="author"))
    found = items(source)
    assert list(found) == ["0000.tar::a.jpg", "train.parquet::row 1"]
    assert found["0000.tar::a.jpg"].credits == Credits(artist="Ada", caption="c", extra={"key": "a"})
    assert rejected(source) == {"1.tar.gz": "compressed_shard"}
    assert source.count() == 2


def test_told_column_that_a_folder_lacks_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    assert rejected(open_source(tmp_path, columns=ColumnNames(artist="painter"))) == {
        tmp_path.name: "unknown_column"
    }
    write(tmp_path / "metadata.csv", "file_name,artist\na.jpg,A\n")
    with pytest.raises(
        SourceError, match=r"'painter' \(--artist-column\); its columns are 'file_name', 'artist'"
    ):
        open_source(tmp_path, columns=ColumnNames(artist="painter"))


# Lists


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", 'path,artist,title\nimg/a.jpg,Åsa,"x, y"\n'),
        ("list.csv", "\ufeffpath;artist;title\r\nimg/a.jpg;Åsa;x, y\r\n\r\n"),
        ("list.tsv", "path\tartist\ttitle\nimg\\a.jpg\tÅsa\tx, y\n"),
        ("list.jsonl", '\ufeff{"path": "img/a.jpg", "artist": "Åsa", "title": "x, y"}\n\n'),
        ("list.ndjson", '{"image": {"path": "img/a.jpg"}, "artist": "Åsa", "title": "x, y"}'),
    ],
)
def test_list_in_any_usual_dialect(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "img/a.jpg")
    source = open_source(write(tmp_path / name, text))
    (item,) = list(source)
    assert isinstance(item, SourceItem)
    assert item.credits == Credits(artist="Åsa", title="x, y")
    assert item.locator == (tmp_path / "img/a.jpg").as_posix()
    assert source.count() == 1
    assert source.describe().startswith("list with 1 rows, paths in '")


def test_spreadsheet_encodings_are_understood(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    text = "path,artist\na.jpg,Åsa\n"
    for name, encoding in (("u.csv", "utf-16"), ("w.csv", "cp1252")):
        (item,) = open_source(write(tmp_path / name, text.encode(encoding)))
        assert isinstance(item, SourceItem)
        assert item.credits.artist == "Åsa"


def test_list_rows_that_name_no_picture_are_rejected_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "ok.jpg")
    write(tmp_path / "notes.pdf")
    write(tmp_path / "no_ending")
    (tmp_path / "dir.jpg").mkdir()
    cells = [
        "ok.jpg",
        "gone.jpg",
        "notes.pdf",
        "no_ending",
        "dir.jpg",
        "https://x.org/a.jpg",
        '""',
        "x" * 5000,
    ]
    path = write(tmp_path / "list.csv", "file,artist\n" + "".join(f"{cell},A\n" for cell in cells))
    found = list(open_source(path))
    assert [each.reason if isinstance(each, Rejected) else "" for each in found] == [
        *("", "missing", "unsupported_extension", "", "not_a_file", "not_local", "no_path", "bad_path"),
    ]
    assert found[6].locator == f"{path.as_posix()}::row 7"


def test_failed_downloads_are_rejected_with_their_error(tmp_path: Path) -> None:
    row = as_json(path="0.jpg", url="u", status="failed_to_download", error_message="HTTP 404")
    (found,) = open_source(write(tmp_path / "l.jsonl", row))
    assert found == Rejected((tmp_path / "0.jpg").as_posix(), "not_downloaded", "HTTP 404")


def test_broken_lines_are_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    deep = b"[" * 100_000
    path = write(
        tmp_path / "l.jsonl", b'{"path": "a.jpg"}\nnot json\n[1]\n' + deep + b'\n{"path": "a.jpg"}\n'
    )
    found = list(open_source(path))
    assert [getattr(each, "reason", "") for each in found] == ["", "bad_row", "bad_row", "bad_row", ""]


def test_csv_with_repeated_and_blank_headers_keeps_every_cell(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    (item,) = open_source(write(tmp_path / "l.csv", "path,tag,tag,\na.jpg,1,2,3,4\n"))
    assert isinstance(item, SourceItem)
    assert item.credits.extra == {"tag": "1", "tag 2": "2", "column 4": "3", "column 5": "4"}


def test_list_without_a_path_column_says_how_to_name_one(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "where,artist\na.jpg,A\n")
    write(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match=r"its columns are 'where', 'artist'.*--path-column"):
        open_source(path)
    with pytest.raises(SourceError, match=r"no column 'nowhere' \(--path-column\); its columns are 'where'"):
        open_source(path, columns=ColumnNames(path="nowhere"))
    assert len(items(open_source(path, columns=ColumnNames(path="where")))) == 1


def test_empty_lists_are_source_errors(tmp_path: Path) -> None:
    for name in ("l.csv", "l.jsonl", "l.parquet"):
        path = tmp_path / name
        path.touch()
        with pytest.raises(SourceError):
            open_source(path)


def test_unknown_kind_of_file_is_a_source_error_with_the_kinds_there_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\.csv .*\.parquet"):
        open_source(write(tmp_path / "a.docx"))


def test_single_picture_is_a_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    (item,) = open_source(path)
    assert isinstance(item, SourceItem)
    assert item.read() == picture()


def test_absolute_paths_and_file_urls_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "å b.jpg")
    rows = [{"path": str(path)}, {"path": path.as_uri()}]
    table = write(tmp_path / "lists/l.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert [each.read() for each in open_source(table) if isinstance(each, SourceItem)] == [picture()] * 2


# Parquet


def test_parquet_with_pictures_inside(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": picture(1), "path": "one.jpg"}, "text": "one", "score": 0.5},
        {"image": {"bytes": None, "path": None}, "text": "none", "score": None},
        {"image": None, "text": "none", "score": None},
        {"image": {"bytes": picture(2), "path": None}, "text": "two", "score": None},
    ]
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(rows * 100), path, row_group_size=7)
    source = open_source(path)
    found = list(source)
    assert source.count() == len(found) == 400
    first, second = found[0], found[3]
    assert isinstance(first, SourceItem)
    assert isinstance(second, SourceItem)
    assert first.credits == Credits(caption="one", extra={"score": "0.5", "image.path": "one.jpg"})
    assert first.locator == f"{path.as_posix()}::row 1"
    assert second.read() == picture(2)
    assert found[1] == Rejected(
        f"{path.as_posix()}::row 2", "missing", "the row has nothing in column 'image'"
    )


def test_parquet_of_img2dataset_tells_failed_downloads(tmp_path: Path) -> None:
    rows = [
        {"key": "0", "jpg": picture(), "status": "success", "error_message": None, "url": "u"},
        {"key": "1", "jpg": None, "status": "failed_to_download", "error_message": "HTTP 500", "url": "v"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "0.parquet")
    first, second = open_source(tmp_path / "0.parquet")
    assert isinstance(first, SourceItem)
    assert first.credits == Credits(source="u", extra={"key": "0", "status": "success"})
    assert isinstance(second, Rejected)
    assert (second.reason, second.detail) == ("not_downloaded", "HTTP 500")


def test_parquet_with_paths(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    pq.write_table(pa.table({"image_path": ["a.jpg", None], "artist": ["A", "B"]}), tmp_path / "l.parquet")
    first, second = open_source(tmp_path / "l.parquet")
    assert isinstance(first, SourceItem)
    assert first.credits == Credits(artist="A")
    assert isinstance(second, Rejected)
    assert second.reason == "no_path"


def test_broken_parquet_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a Parquet file"):
        open_source(write(tmp_path / "l.parquet", "PAR1 nothing of that kind PAR1"))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "0.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SourceError, match=r"pip install 'replication-detector\[parquet\]'"):
        open_source(tmp_path / "0.parquet")
    write_tar(tmp_path / "0.tar", [("a.jpg", picture())])
    source = open_source(tmp_path)
    assert rejected(source) == {"0.parquet": "needs_pyarrow"}
    assert list(items(source)) == ["0.tar::a.jpg"]


# Shards


def test_shard_pairs_pictures_with_their_sidecars(tmp_path: Path) -> None:
    members = [
        ("0.json", as_json(author="Ada", licence="CC0-1.0", kind="map")),
        ("0.webp", picture(1, "WEBP")),
        ("sub/1.jpg", picture(2)),
        ("sub/1.txt", b"a caption"),
        ("sub/1.json", as_json(url="u")),
        ("2.jpg", picture(3)),
        ("._2.jpg", b"mac"),
        ("readme.md", b"-"),
    ]
    path = write_tar(tmp_path / "s.tar", members)
    source = open_source(path)
    found = items(source)
    assert list(found) == ["0.webp", "sub/1.jpg", "2.jpg"]
    assert found["0.webp"].credits == Credits(artist="Ada", licence="CC0-1.0", extra={"kind": "map"})
    assert found["sub/1.jpg"].credits == Credits(source="u", caption="a caption")
    assert found["2.jpg"].credits == Credits()
    assert [each.read() for each in found.values()] == [picture(1, "WEBP"), picture(2), picture(3)]
    assert found["2.jpg"].mtime_ns == path.stat().st_mtime_ns
    assert source.count() is None
    assert not rejected(source)


def test_shard_packed_in_no_order_still_finds_its_sidecars(tmp_path: Path) -> None:
    members = [("a.jpg", picture()), ("b.jpg", picture()), ("b.json", as_json(artist="B"))]
    path = write_tar(tmp_path / "s.tar", [*members, ("a.json", as_json(artist="A")), ("a.txt", b"text")])
    found = items(open_source(path))
    assert found["a.jpg"].credits == Credits(artist="A", caption="text")
    assert found["b.jpg"].credits.artist == "B"


def test_table_beside_a_shard_supplies_columns_and_failed_downloads(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "00000.tar", [("000000000.jpg", picture()), ("000000000.txt", b"txt")])
    rows = [
        {"key": "000000000", "url": "u", "status": "success", "error_message": None, "width": 256},
        {"key": "000000001", "url": "v", "status": "failed_to_download", "error_message": "x", "width": None},
        {"key": "000000002", "url": "w", "status": "success", "error_message": None, "width": 256},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    source = open_source(path)
    (item, failed, gone) = list(source)
    assert isinstance(item, SourceItem)
    assert item.credits == Credits(
        source="u", caption="txt", extra={"key": "000000000", "status": "success", "width": "256"}
    )
    assert isinstance(failed, Rejected)
    assert isinstance(gone, Rejected)
    assert (failed.locator, failed.reason) == (f"{path.as_posix()}::000000001", "not_downloaded")
    assert gone.reason == "missing"
    assert (source.describe(), source.count()) == ("shard, with 00000.parquet", 3)


def test_stats_of_img2dataset_give_the_count(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "00000.tar", [("0.jpg", picture())])
    write(tmp_path / "00000_stats.json", as_json(count=9, successes=7))
    assert open_source(path).count() == 7


@pytest.mark.parametrize("where", ["in a member", "at a header", "no end mark"])
def test_broken_shard_yields_what_comes_before_the_break(tmp_path: Path, where: str) -> None:
    path = write_tar(tmp_path / "s.tar", [(f"{place}.jpg", picture(place)) for place in range(4)])
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2]
        last = tar.getmembers()[3]
    if where == "in a member":
        del data[third.offset_data + 100 :]
    elif where == "at a header":
        data[third.offset : third.offset + 100] = b"\xee" * 100
    else:
        del data[last.offset_data + 1024 :]
    path.write_bytes(data)
    found = list(open_source(path))
    *good, bad = found
    assert len(good) == (4 if where == "no end mark" else 2)
    assert [each.read() for each in good if isinstance(each, SourceItem)] == [
        picture(place) for place in range(len(good))
    ]
    assert isinstance(bad, Rejected)
    assert bad.reason == ("broken_shard" if where == "at a header" else "truncated")


def test_tar_header_with_a_negative_size_ends_the_shard(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("0.jpg", picture()), ("1.jpg", picture())])
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[1].offset
    header = data[offset : offset + 512]
    header[124:136] = b"\xff" * 10 + (-2048).to_bytes(2, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[offset : offset + 512] = header
    path.write_bytes(data)
    found = list(open_source(path))
    assert [type(each) for each in found] == [SourceItem, Rejected]


def test_file_that_is_no_tar_is_a_source_error_and_in_a_folder_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar", "this is no tar" * 100)
    with pytest.raises(SourceError, match="not a tar"):
        open_source(path)
    assert rejected(open_source(tmp_path)) == {"s.tar": "broken_shard"}


def test_compressed_tar_is_a_source_error_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "s.tar.gz"
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(SourceError, match="gunzip"):
        open_source(path)


def test_links_inside_a_shard_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    (found,) = open_source(path)
    assert isinstance(found, Rejected)
    assert found.reason == "not_a_file"


def test_told_column_that_a_shard_lacks_is_a_source_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("0.jpg", picture()), ("0.json", as_json(author="Ada"))])
    with pytest.raises(SourceError, match=r"'painter' \(--artist-column\); it has 'author'"):
        open_source(path, columns=ColumnNames(artist="painter"))


# Reading


def test_reading_tells_why_it_cannot(tmp_path: Path) -> None:
    write(tmp_path / "big.jpg", b"x" * 1001)
    write(tmp_path / "gone.jpg")
    (tmp_path / "empty.jpg").touch()
    write(tmp_path / "folder.jpg")
    found = items(open_source(tmp_path, max_bytes=1000))
    (tmp_path / "gone.jpg").unlink()
    (tmp_path / "folder.jpg").unlink()
    (tmp_path / "folder.jpg").mkdir()
    reasons = {}
    for name, item in found.items():
        with pytest.raises(UnreadableImageError) as caught:
            item.read()
        reasons[name] = caught.value.reason
        assert caught.value.locator == item.locator
    assert reasons == {
        "big.jpg": "too_large",
        "empty.jpg": "empty",
        "folder.jpg": "not_a_file",
        "gone.jpg": "missing",
    }


def test_members_that_cannot_be_read_tell_why(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s.tar", [("big.jpg", b"x" * 1001), ("empty.jpg", b""), ("cut.jpg", b"y" * 900)]
    )
    found = items(open_source(path, max_bytes=1000))
    with open(path, "r+b") as file:
        file.truncate(found["cut.jpg"].offset + 10)
    reasons = []
    for item in found.values():
        with pytest.raises(UnreadableImageError) as caught:
            item.read()
        reasons.append(caught.value.reason)
    assert reasons == ["too_large", "empty", "truncated"]


# What hostile inputs found


def only(source: Source) -> Rejected:
    (found,) = source
    assert isinstance(found, Rejected)
    return found


def test_a_hundred_thousand_columns_of_one_name_are_numbered_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "file_name," + "a," * 100_000 + "\na.jpg,1\n")
    columns = open_table(path).columns
    assert columns[1] == "a"
    assert columns[100_000] == "a 100000"


def test_a_numbered_column_does_not_take_the_name_of_another(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "a,a 2,a,a,a 2\n")
    assert open_table(path).columns == ("a", "a 2", "a 3", "a 4", "a 2 2")


@pytest.mark.parametrize("long", ["x" * 5_000, '"' + "x\n" * 2_000, "x\r" + "y" * 5_000])
def test_a_row_without_an_end_is_one_bad_row_and_the_next_is_read(
    long: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.tables._MAX_ROW", 1_000)
    path = write(tmp_path / "list.csv", f"file_name,artist\na.jpg,Ann\n{long}\nb.jpg,Ben\n")
    rows = list(open_table(path).rows())
    assert isinstance(rows[0], Row)
    assert rows[0].values == {"file_name": "a.jpg", "artist": "Ann"}
    assert any(isinstance(row, Rejected) and row.reason == "bad_row" for row in rows)
    assert isinstance(rows[-1], Row)
    assert rows[-1].values["file_name"].endswith("b.jpg")


@pytest.mark.parametrize("name", ["file://[", "file://[x]/a.jpg", "e\u0301\u0316" * 20_000])
def test_a_name_that_no_file_can_have_is_rejected(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "list.jsonl", json.dumps({"file_name": name}))
    assert only(open_source(path)).reason == "bad_path"


def test_half_characters_in_names_and_addresses_can_be_stored(tmp_path: Path) -> None:
    lines = [json.dumps({"file_name": name}) for name in ("\ud800.jpg", "https://example.org/\ud800")]
    found = list(open_source(write(tmp_path / "list.jsonl", "\n".join(lines))))
    assert [each.reason for each in found if isinstance(each, Rejected)] == ["bad_path", "not_local"]
    for each in found:
        assert isinstance(each, Rejected)
        f"{each.locator} {each.detail}".encode()


def test_lists_in_lists_do_not_end_a_build(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    nested = "[" * 900 + '"Ann"' + "]" * 900
    path = write(
        tmp_path / "list.jsonl", '{"file_name": "a.jpg", "artist": ' + nested + ', "note": ' + nested + "}"
    )
    (found,) = open_source(path)
    assert isinstance(found, SourceItem) or found.reason == "bad_row"


@pytest.mark.parametrize("said", ["1e999", "-5", '"5"', "[" * 5_000, "9" * 4_000])
def test_a_count_that_is_none_is_not_believed(said: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("a.jpg", picture())])
    write(tmp_path / "0_stats.json", '{"successes": ' + said + "}")
    source = open_source(path)
    assert source.count() is None
    assert len(list(source)) == 1


@pytest.mark.parametrize("size", [2**31, 3 * 1024 * 1024])
def test_a_header_of_gigabytes_is_not_read(size: int, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, size
    path = tmp_path / "0.tar"
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(size + 4096)  # no bytes on disk
    with pytest.raises(SourceError, match="a header of"):
        open_source(path)


def test_digits_without_end_in_a_header_are_not_searched(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    data = b"1" * 500_000
    header.type, header.size = tarfile.XHDTYPE, len(data)
    path = write(tmp_path / "0.tar", header.tobuf(tarfile.GNU_FORMAT) + data + bytes(2048))
    with pytest.raises(SourceError, match="64 digits"):
        open_source(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["metadata.csv", "list.jsonl", "list.parquet"])
def test_a_list_that_is_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError):
        open_source(tmp_path / name)


def test_a_file_of_one_endless_row_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.tables._MAX_ROW", 1_000)
    path = write(tmp_path / "list.csv", "file_name,artist\na.jpg,Ann\n" + "x" * 50_000 + "\nb.jpg,Ben\n")
    first, last = open_table(path).rows()
    assert isinstance(first, Row)
    assert isinstance(last, Rejected)
    assert "the rest is not read" in last.detail
