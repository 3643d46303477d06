"""Embeddings that others have written become an index: layouts, checks of the model, resuming, hostile files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from detector import Detector, Verdict, find_duplicates, import_embeddings, lookup
from detector.cli import app
from index import importing
from index.build import build_index
from index.embeddings import find_pairs, open_embeddings
from index.errors import DescriptorError, DetectorError, SourceError, UsageError
from index.images import read_image
from index.importing import UNSEEN, ImportOptions, unit_rows
from index.neural import ClipDescriptor
from index.reference_index import ReferenceIndex
from tests.conftest import SAMPLES, TINY_TOWER, save_clip_folder

parquet = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("pyarrow")

WIDTH = 256
PICTURES = sorted((SAMPLES / "artworks").glob("*-*.jpg"))


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float32]:
    """Rows of `PICTURES` by the bundled tower, not of unit length, as some tools leave them."""
    described = ClipDescriptor("bundled").describe([read_image(path) for path in PICTURES])
    return np.concatenate(described) * np.float32(7.5)


def table_of(names: list[str], **more: list[Any]) -> dict[str, list[Any]]:
    urls = [f"https://example.org/{name}.jpg?size=big" for name in names]
    return {
        "image_path": names,
        "caption": [f"the {name}" for name in names],
        "url": urls,
        "key": names,
        **more,
    }


def write_shard(folder: Path, number: int, rows: NDArray[Any], table: dict[str, list[Any]]) -> Path:
    """Write rows and table as clip-retrieval does; returns the folder."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
    parquet.write_table(arrow.table(table), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


@pytest.fixture
def laion(tmp_path: Path, rows: NDArray[np.float32]) -> Path:
    """Two shards over the sample artworks, float16."""
    names = [path.stem for path in PICTURES]
    half = len(names) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        more = {"artist": ["Ann Artist"] * len(names[part]), "LICENSE": ["CC-BY-4.0"] * len(names[part])}
        write_shard(tmp_path / "laion", number, rows[part].astype(np.float16), table_of(names[part], **more))
    return tmp_path / "laion"


def random_rows(count: int, width: int = WIDTH, seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def numbered(count: int) -> dict[str, list[Any]]:
    return table_of([f"{number:09d}" for number in range(count)])


def content(index: Path) -> tuple[NDArray[Any], list[tuple[str, str]]]:
    """Stored rows in order of references, and their places and digests."""
    with ReferenceIndex.open(index) as opened:
        stored = np.concatenate([block for block, _, _ in opened._rows(opened.specs[0]).blocks()])
        found = [opened.reference(number) for number in opened.reference_ids()]
        return stored, [(o.path, each[0].sha256) for each in found if each for o in each[1]]


# What comes of it


def test_rows_become_references_of_unit_length_with_their_credits(laion: Path, tmp_path: Path) -> None:
    report = import_embeddings(laion, tmp_path / "a.index", model="bundled")
    assert (report.added, report.rejected, report.compared) == (len(PICTURES), 0, 0)
    stored, _ = content(tmp_path / "a.index")
    assert stored.dtype == np.float16
    assert np.abs(np.linalg.norm(stored.astype(np.float32), axis=1) - 1).max() < 1e-3
    with ReferenceIndex.open(tmp_path / "a.index") as index:
        assert index.check() == []
        found = index.reference(index.reference_ids()[0])
        assert found is not None
        record, (place,) = found
        assert record.sha256.startswith(UNSEEN)
        assert place.path == (laion / "metadata" / "metadata_0.parquet").as_posix() + "::row 1"
        assert place.credits.source == f"https://example.org/{PICTURES[0].stem}.jpg?size=big"
        assert (place.credits.artist, place.credits.licence) == ("Ann Artist", "CC-BY-4.0")
        assert place.credits.caption == f"the {PICTURES[0].stem}"
        assert place.credits.extra["key"] == PICTURES[0].stem
        assert not index.can_verify


def test_a_replica_is_a_strong_resemblance_never_more(laion: Path, tmp_path: Path) -> None:
    import_embeddings(laion, tmp_path / "a.index", model="bundled")
    with Detector.open(tmp_path / "a.index") as detector:
        report = detector.check(PICTURES[7])
        other = detector.check(SAMPLES / "artworks" / "stained-glass-3.webp")
    assert report.verdict is Verdict.POSSIBLE
    assert report.matches[0].reference.occurrences[0].extra["key"] == PICTURES[7].stem
    assert report.matches[0].evidence.verification == "unverified"
    assert report.matches[0].p_value is not None
    assert report.matches[0].p_value < 0.05
    assert other.level < 2, "a work that is not in the index"


def test_a_recorded_digest_is_the_identity_and_the_same_file_is_a_verbatim_copy(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    names = [path.stem for path in PICTURES]
    digests = [read_image(path).sha256.upper() for path in PICTURES]
    write_shard(tmp_path / "set", 0, rows, table_of(names, sha256=digests))
    import_embeddings(tmp_path / "set", tmp_path / "a.index", model="clip:bundled")
    with Detector.open(tmp_path / "a.index") as detector:
        report = detector.check(PICTURES[2])
    assert report.level == 5
    assert report.matches[0].evidence.verification == "identical"


def test_one_address_listed_twice_is_one_reference_with_two_occurrences(tmp_path: Path) -> None:
    table = numbered(30)
    table["url"][9] = table["url"][4]
    write_shard(tmp_path / "set", 0, random_rows(30), table)
    report = import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    assert (report.added, report.occurrences) == (29, 30)


def test_without_address_or_digest_equal_rows_are_one_reference(tmp_path: Path) -> None:
    values = random_rows(30)
    values[9] = values[4] * 2
    write_shard(tmp_path / "set", 0, values, {"caption": [f"{n}" for n in range(30)]})
    report = import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    assert (report.added, report.occurrences) == (29, 30)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_every_kind_of_float_gives_the_same_rows(tmp_path: Path, dtype: str) -> None:
    values = random_rows(25).astype(np.float16)
    write_shard(tmp_path / "set", 0, values.astype(dtype), numbered(25))
    import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    expected = values.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(content(tmp_path / "a.index")[0] - expected).max() < 3e-4


def test_extreme_lengths_become_unit_rows_and_rows_without_direction_are_told() -> None:
    values = np.array([[3e38, 3e38], [1e-42, 0], [0, 0], [np.nan, 1], [np.inf, 1], [3, 4]], np.float32)
    unit, usable = unit_rows(values)
    assert usable.tolist() == [True, True, False, False, False, True]
    assert np.allclose(unit[[0, 1, 5]], [[0.7071, 0.7071], [1, 0], [0.6, 0.8]], atol=1e-3)
    assert not unit[~usable].any()


def test_rows_of_zeros_and_nans_are_rejected_and_listed(tmp_path: Path) -> None:
    values = random_rows(30)
    values[3], values[8, 0] = 0.0, np.nan
    write_shard(tmp_path / "set", 0, values, numbered(30))
    report = import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    assert (report.added, report.rejected) == (28, 2)
    assert [(r.locator[-5:], r.reason) for r in report.rejections] == [
        ("row 4", "bad_vector"),
        ("row 9", "bad_vector"),
    ]
    with ReferenceIndex.open(tmp_path / "a.index") as index:
        assert len(index.rejected()) == 2
    again = import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    assert (again.added, again.unchanged) == (0, 30)


# The model


def test_model_is_checked_on_pictures_given_and_recorded(laion: Path, tmp_path: Path) -> None:
    options = ImportOptions(pictures=(SAMPLES / "artworks",), compared=12)
    report = import_embeddings(laion, tmp_path / "a.index", model="bundled", options=options)
    assert report.compared == 12
    assert report.min_cosine is not None
    assert report.min_cosine > 0.999
    import_embeddings(laion, tmp_path / "a.index", model="bundled")  # with no pictures at hand
    with ReferenceIndex.open(tmp_path / "a.index") as index:
        (imported,) = index.info().imported
    assert (imported.source, imported.compared) == (laion.as_posix(), 12)


def test_model_is_checked_on_local_files_that_the_table_names(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    names = [path.stem for path in PICTURES]
    table = {**table_of(names), "image_path": [str(path) for path in PICTURES]}
    write_shard(tmp_path / "set", 0, rows, table)
    report = import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    assert report.compared == len(PICTURES)


def test_pictures_are_found_in_shards_by_key(laion: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for path in PICTURES[:5]:
            tar.add(path, arcname=path.name)
    options = ImportOptions(pictures=(tmp_path / "00000.tar",))
    assert import_embeddings(laion, tmp_path / "a.index", model="bundled", options=options).compared == 5


def test_rows_of_another_model_are_refused_before_anything_is_written(
    laion: Path, tmp_path: Path, tower_state: dict[str, Any]
) -> None:
    import open_clip
    import torch

    torch.manual_seed(1)
    config = {**TINY_TOWER, "embed_dim": WIDTH}
    other = {name: value.contiguous() for name, value in open_clip.model.CLIP(**config).state_dict().items()}
    folder = save_clip_folder(tmp_path / "other", other, config)
    options = ImportOptions(pictures=(SAMPLES / "artworks",), compared=8)
    with pytest.raises(UsageError, match=r"8 of 8 compared .* below 0\.98 .*nothing was imported"):
        import_embeddings(laion, tmp_path / "a.index", model=f"local-dir:{folder}", options=options)
    assert not (tmp_path / "a.index").exists()


def test_rows_in_another_order_than_the_tables_are_refused(tmp_path: Path, rows: NDArray[np.float32]) -> None:
    write_shard(tmp_path / "set", 0, np.roll(rows, 1, axis=0), table_of([path.stem for path in PICTURES]))
    options = ImportOptions(pictures=(SAMPLES / "artworks",))
    with pytest.raises(UsageError, match="in another order"):
        import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled", options=options)


def test_pictures_that_no_table_names_are_no_check(laion: Path, tmp_path: Path) -> None:
    options = ImportOptions(pictures=(SAMPLES / "edited",))
    with pytest.raises(UsageError, match="none of the pictures given"):
        import_embeddings(laion, tmp_path / "a.index", model="bundled", options=options)


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "set", 0, random_rows(5, 512), numbered(5))
    with pytest.raises(DescriptorError, match=r"gives rows of 256, .*rows of 512"):
        import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")


# Layouts


def test_embeddings_alone_take_a_list_of_any_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", random_rows(3))
    (tmp_path / "list.csv").write_text("url,painter\na,Ann\nb,Bea\nc,Cleo\n", encoding="utf-8")
    lines = "".join(json.dumps({"url": name, "painter": "Ann"}) + "\n" for name in "abc")
    (tmp_path / "list.jsonl").write_text(lines, encoding="utf-8")
    columns = importing.ColumnNames(artist="painter")
    for name in ("list.csv", "list.jsonl"):
        options = ImportOptions(tables=(tmp_path / name,), columns=columns)
        out = tmp_path / f"{name}.index"
        assert import_embeddings(tmp_path / "rows.npy", out, model="bundled", options=options).added == 3
        with ReferenceIndex.open(out) as index:
            assert len(index.find_occurrences(artist="Ann")) >= 1


def test_shards_go_by_their_numbers_and_other_names_by_their_stems(tmp_path: Path) -> None:
    for number in (10, 2):
        write_shard(tmp_path / "set", number, random_rows(2), numbered(2))
    pairs = find_pairs([tmp_path / "set"])
    assert [pair.embeddings.path.name for pair in pairs] == ["img_emb_2.npy", "img_emb_10.npy"]
    assert [pair.table.path.name for pair in pairs] == ["metadata_2.parquet", "metadata_10.parquet"]
    (tmp_path / "set" / "img_emb").rename(tmp_path / "set" / "embeddings")
    for folder in ("embeddings", "metadata"):
        for path in list((tmp_path / "set" / folder).iterdir()):
            path.rename(path.with_name(f"pd.{path.stem.rsplit('_', 1)[1].zfill(2)}{path.suffix}"))
    assert [pair.table.path.name for pair in find_pairs([tmp_path / "set"])] == [
        "pd.02.parquet",
        "pd.10.parquet",
    ]
    one = find_pairs([tmp_path / "set" / "embeddings" / "pd.10.npy"])
    assert [pair.table.path.name for pair in one] == ["pd.10.parquet"]


def test_embeddings_and_tables_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "set", 0, random_rows(5), numbered(4))
    with pytest.raises(SourceError, match=r"5 rows, but .*has 4: they do not belong together"):
        find_pairs([tmp_path / "set"])
    write_shard(tmp_path / "two", 0, random_rows(5), numbered(5))
    write_shard(tmp_path / "two", 1, random_rows(5), numbered(5))
    (tmp_path / "two" / "img_emb" / "img_emb_1.npy").unlink()
    with pytest.raises(UsageError, match=r"metadata_1\.parquet: has no embeddings \(img_emb_1\.npy\)"):
        find_pairs([tmp_path / "two"])
    write_shard(tmp_path / "two", 1, random_rows(5), numbered(5))
    (tmp_path / "two" / "metadata" / "metadata_0.parquet").unlink()
    with pytest.raises(UsageError, match=r"img_emb_0\.npy: no table says whose rows"):
        find_pairs([tmp_path / "two"])


def test_a_told_column_that_is_missing_is_named(laion: Path, tmp_path: Path) -> None:
    options = ImportOptions(columns=importing.ColumnNames(artist="painter"))
    with pytest.raises(SourceError, match=r"no column 'painter' \(--artist-column\)"):
        import_embeddings(laion, tmp_path / "a.index", model="bundled", options=options)
    assert not (tmp_path / "a.index").exists()


def hostile(path: Path, kind: str) -> None:
    if kind == "truncated":
        np.save(path, random_rows(50))
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "pickled":
        np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    elif kind == "bare pickle":
        path.write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94.")
    elif kind == "whole numbers":
        np.save(path, np.zeros((4, 4), np.int32))
    elif kind == "one row":
        np.save(path, np.zeros(4, np.float32))
    elif kind == "by columns":
        np.save(path, np.asfortranarray(random_rows(5)))
    elif kind == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "breaks off: its header says 50 rows, 47 are there"),
        ("pickled", "pickled Python objects"),
        ("bare pickle", "is no .npy file"),
        ("whole numbers", "holds int32"),
        ("one row", r"has the shape \(4,\)"),
        ("by columns", "stored by columns"),
        ("empty", "is no .npy file"),
    ],
)
def test_a_file_that_is_no_table_of_floats_is_refused_with_the_reason(
    tmp_path: Path, kind: str, words: str
) -> None:
    hostile(tmp_path / "rows.npy", kind)
    with pytest.raises(SourceError, match=words):
        open_embeddings(tmp_path / "rows.npy")


# The index afterwards


def test_such_an_index_is_cared_for_like_any_other(laion: Path, tmp_path: Path) -> None:
    index = tmp_path / "a.index"
    import_embeddings(laion, index, model="bundled")
    assert len(lookup(index, "Ann Artist").works) == len(PICTURES)
    with ReferenceIndex.open(index, writable=True) as opened:
        assert opened.remove(source_contains=f"/{PICTURES[3].stem}.jpg", erase=True) == (1, 1)
        assert opened.check() == []
    with ReferenceIndex.open(index) as opened:
        assert len(opened) == len(PICTURES) - 1
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    laion.rename(tmp_path / "elsewhere")  # other paths, the same addresses
    again = import_embeddings(tmp_path / "elsewhere", index, model="bundled")
    assert (again.added, again.rejected) == (0, 1)
    assert again.rejections[0].reason == "removed_on_request"
    back = import_embeddings(
        tmp_path / "elsewhere", index, model="bundled", options=ImportOptions(take_back=True)
    )
    assert back.added == 1


def test_nearly_equal_rows_are_duplicates(tmp_path: Path) -> None:
    values = random_rows(30)
    values[17] = values[5] + 0.01 * values[6]
    write_shard(tmp_path / "set", 0, values, numbered(30))
    import_embeddings(tmp_path / "set", tmp_path / "a.index", model="bundled")
    (cluster,) = find_duplicates(tmp_path / "a.index").clusters
    assert len(cluster.members) == 2


def test_pictures_added_later_are_described_with_that_model(laion: Path, tmp_path: Path) -> None:
    import_embeddings(laion, tmp_path / "a.index", model="bundled")
    work = SAMPLES / "artworks" / "stained-glass-3.webp"
    assert build_index(work, tmp_path / "a.index").added == 1
    with Detector.open(tmp_path / "a.index") as detector:
        assert detector.index.check() == []
        assert detector.check(work).level == 5


def test_an_index_of_pictures_takes_no_embeddings(laion: Path, tmp_path: Path) -> None:
    build_index(PICTURES[:2], tmp_path / "a.index", descriptors=("pdq", "clip:bundled"))
    with pytest.raises(UsageError, match=r"has pdq,clip:bundled and small copies.*name another --out"):
        import_embeddings(laion, tmp_path / "a.index", model="bundled")


def test_the_command_says_what_such_an_index_can_and_cannot(laion: Path, tmp_path: Path) -> None:
    index = str(tmp_path / "a.index")
    runner = CliRunner(env={"COLUMNS": "300"})
    command = ["index", "import-embeddings", str(laion), "--model", "bundled", "--out", index]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    for words in (f"Imported {len(PICTURES)} new references", "was not checked", "level 2 or below"):
        assert words in done.stdout
    assert (
        "was not checked against pictures" in runner.invoke(app, ["index", "info", "--index", index]).stdout
    )
    checked = runner.invoke(app, ["check", str(PICTURES[0]), "--index", index])
    assert "Strongly resembles" in checked.stdout
    assert "embeddings alone" in checked.stderr
    as_json = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    assert (as_json["unchanged"], as_json["descriptor"]) == (len(PICTURES), "clip:bundled")


# Kills and memory

SCRIPT = """
import sys
from pathlib import Path
from index.importing import ImportOptions, import_embeddings
import_embeddings(Path({source!r}), Path({out!r}), model="bundled", options=ImportOptions(batch_rows=40))
"""


def test_a_killed_import_goes_on_and_gives_the_same_index(tmp_path: Path) -> None:
    for number in range(2):
        table = table_of([f"{number}-{n}" for n in range(1000)])
        write_shard(tmp_path / "set", number, random_rows(1000, seed=number), table)
    out = tmp_path / "killed.index"
    script = SCRIPT.format(source=str(tmp_path / "set"), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=SAMPLES.parent)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(out.glob("vectors/*.ids.npy"))) >= 5:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    with ReferenceIndex.open(out) as index:
        committed = len(index)
    assert committed % 40 == 0
    report = import_embeddings(tmp_path / "set", out, model="bundled")
    assert (report.added, report.unchanged) == (2000 - committed, committed)
    import_embeddings(tmp_path / "set", tmp_path / "whole.index", model="bundled")
    stored, places = content(out)
    whole, whole_places = content(tmp_path / "whole.index")
    assert places == whole_places
    assert np.array_equal(stored, whole)
    with ReferenceIndex.open(out) as index, ReferenceIndex.open(tmp_path / "whole.index") as other:
        assert index.check() == []
        assert index.calibration() == other.calibration()


LIMITED = """
import resource
from pathlib import Path
from index import importing
from index.importing import ImportOptions, import_embeddings
from index.reference_index import ReferenceIndex
import_embeddings(Path({small!r}), Path({out!r}), model={model!r})  # everything is loaded and warm
# Files that are mapped to be read do not count: the system drops their pages whenever it wants.
in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
limit = in_use + {room}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    bytearray(Path({rows!r}).stat().st_size)
    raise SystemExit("the limit does not bite")
except MemoryError:
    pass
report = import_embeddings(Path({source!r}), Path({out!r}), model={model!r}, options=ImportOptions(batch_rows=1024))
with ReferenceIndex.open(Path({out!r}), writable=True) as index:
    print(report.added, len(index.store({model!r})), len(index.calibration()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_DATA")
def test_more_rows_than_memory_are_imported(tmp_path: Path) -> None:
    import open_clip

    width, count, room = 4096, 30_000, 96 << 20
    config = {**TINY_TOWER, "embed_dim": width}
    state = {name: value.contiguous() for name, value in open_clip.model.CLIP(**config).state_dict().items()}
    model = f"clip:local-dir:{save_clip_folder(tmp_path / 'wide', state, config)}"
    write_shard(
        tmp_path / "small", 0, random_rows(1100, width, seed=1), table_of([f"s{n}" for n in range(1100)])
    )
    block = random_rows(1000, width).astype(np.float16)
    (tmp_path / "set" / "img_emb").mkdir(parents=True)
    target = tmp_path / "set" / "img_emb" / "img_emb_0.npy"
    big = np.lib.format.open_memmap(target, mode="w+", dtype=np.float16, shape=(count, width))
    for start in range(0, count, len(block)):
        big[start : start + len(block)] = np.roll(block, start // len(block) + 1, axis=1)
    del big
    (tmp_path / "set" / "metadata").mkdir()
    parquet.write_table(arrow.table(numbered(count)), tmp_path / "set" / "metadata" / "metadata_0.parquet")
    assert target.stat().st_size > 2 * room
    names = {
        "small": str(tmp_path / "small"),
        "source": str(tmp_path / "set"),
        "out": str(tmp_path / "a.index"),
    }
    script = textwrap.dedent(LIMITED).format(**names, rows=str(target), model=model, room=room)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=SAMPLES.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # every thread has memory of its own
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    added, stored, calibrated = map(int, done.stdout.split())
    assert (added, stored, calibrated) == (count, count + 1100, 1)


def test_every_error_says_the_next_step(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", random_rows(2))
    for source, words in ((tmp_path / "missing", "Name a"), (tmp_path / "a.npy", "--metadata")):
        with pytest.raises(DetectorError, match=words):
            import_embeddings(source, tmp_path / "a.index", model="bundled")
    with pytest.raises(UsageError, match=r"holds no \.npy file"):
        import_embeddings(SAMPLES / "artworks", tmp_path / "a.index", model="bundled")
