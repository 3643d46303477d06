"""`index.build`: whatever happens on the way, the index is that of a build made in peace."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import index.build as build_module
import index.reference_index as reference_index
from index.build import CHUNK, BuildOptions, BuildProgress, build_index
from index.credits import NO_CREDITS
from index.errors import IndexWriteError, SourceError, UsageError
from index.images import read_image
from index.items import Rejected, Source, SourceItem
from index.reference_index import ReferenceIndex

ROOT = Path(__file__).resolve().parents[1]
HASHES = ("pdq", "phash")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small pictures in two folders, a broken one and an empty one."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    rng = np.random.default_rng(11)
    for number in range(40):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        name = f"{number:02d}.jpg" if number % 2 else f"more/{number:02d}.png"
        coarse.resize((180, 140), Image.Resampling.BICUBIC).save(folder / name)
    (folder / "17-broken.jpg").write_bytes((folder / "17.jpg").read_bytes()[:400])
    (folder / "more" / "empty.png").write_bytes(b"")
    return folder


def content(folder: Path) -> dict[str, Any]:
    """All that an index says, without what may differ between two equal ones (segments, generation)."""
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
        references = []
        for number in index.reference_ids():
            record, occurrences = index.reference(number) or pytest.fail("gone")
            rows = {spec.name: index.store(spec.name).rows_of(number).tobytes() for spec in index.specs}
            references.append((record, occurrences, rows, index.thumbnail(number)))
        return {"references": references, "rejected": index.rejected(), "specs": index.specs}


def searched(folder: Path, pictures: Path) -> list[Any]:
    paths = sorted(path for path in pictures.rglob("*.png") if path.stat().st_size)
    with ReferenceIndex.open(folder) as index:
        queries = index.describe([read_image(path) for path in paths])
        return [index.search(query) for query in queries]


@pytest.fixture(scope="module")
def peaceful(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peace") / "art.index"
    build_index(pictures, folder, options=BuildOptions(workers=1))
    return folder


# What is counted


def test_the_report_counts_and_lists_what_was_done(pictures: Path, tmp_path: Path) -> None:
    seen: list[BuildProgress] = []
    report = build_index(pictures, tmp_path / "i", descriptors=HASHES, on_progress=seen.append)
    assert (report.added, report.occurrences, report.unchanged, report.rejected) == (40, 40, 0, 2)
    assert (report.references, report.path) == (40, str(tmp_path / "i"))
    reasons = {Path(r.locator).name: r.reason for r in report.rejections}
    assert reasons == {"17-broken.jpg": "corrupt", "empty.png": "empty"}  # cut off within its tables
    assert json.loads(json.dumps(report.to_dict()))["rejections"][0].keys() == {"path", "reason", "detail"}
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert {r.locator: r.reason for r in index.rejected()} == {
            r.locator: r.reason for r in report.rejections
        }
        assert index.info().rejected == 2
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert (done[-1], seen[-1].total, seen[-1].rejected, seen[-1].added) == (42, 42, 2, 40)


def test_a_second_run_reads_nothing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(pictures, tmp_path / "i", descriptors=HASHES)
    before = content(tmp_path / "i")

    def read(self: SourceItem) -> bytes:
        raise AssertionError(f"{self.locator} was read")

    monkeypatch.setattr(SourceItem, "read", read)
    report = build_index(pictures, tmp_path / "i")
    assert (report.added, report.occurrences, report.unchanged, report.rejected) == (0, 0, 42, 0)
    assert content(tmp_path / "i") == before


def test_changed_new_and_mended_files_are_noticed(pictures: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    build_index(own, tmp_path / "i", descriptors=HASHES)
    shutil.copy(own / "01.jpg", own / "17-broken.jpg")  # mended: now a copy of another
    Image.open(own / "03.jpg").rotate(90).save(own / "05.jpg")  # changed
    Image.open(own / "07.jpg").rotate(90).save(own / "99.jpg")  # new
    report = build_index(own, tmp_path / "i")
    assert (report.added, report.occurrences, report.unchanged, report.rejected) == (2, 3, 40, 0)
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert (index.info().references, index.info().occurrences) == (41, 42)
        assert [Path(r.locator).name for r in index.rejected()] == ["empty.png"]
        assert index.check() == []


def test_the_same_picture_twice_is_one_reference(pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a.jpg", "b.jpg", "z.jpg"):
        shutil.copy(pictures / "01.jpg", own / name)
    shutil.copy(pictures / "03.jpg", own / "c.jpg")
    for size in (1, 2, 100):
        folder = tmp_path / f"i{size}"
        report = build_index(own, folder, descriptors=HASHES, options=BuildOptions(batch_size=size))
        assert (report.added, report.occurrences) == (2, 4)
        with ReferenceIndex.open(folder) as index:
            _, occurrences = index.reference(1) or pytest.fail("gone")
            assert [Path(o.path).name for o in occurrences] == ["a.jpg", "b.jpg", "z.jpg"]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_files_that_swap_their_names_keep_their_references(pictures: Path, tmp_path: Path, size: int) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number, name in enumerate(("a.jpg", "m.jpg", "z.jpg")):
        shutil.copy(pictures / f"0{2 * number + 1}.jpg", own / name)
    build_index(own, tmp_path / "i", descriptors=HASHES)
    moved = {"a.jpg": "z.jpg", "m.jpg": "a.jpg", "z.jpg": "m.jpg"}
    originals = {name: (own / name).read_bytes() for name in moved}
    for name, origin in moved.items():
        (own / name).write_bytes(originals[origin])
        os.utime(own / name, (1, 1_000_000 + len(name)))
    report = build_index(own, tmp_path / "i", options=BuildOptions(batch_size=size, workers=1))
    assert (report.occurrences, report.references) == (3, 3)
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.check() == []
        for name in moved:
            (query,) = index.describe([read_image(own / name)])
            _, occurrences = index.reference(index.search(query)[0].reference_id) or pytest.fail("gone")
            assert [Path(o.path).name for o in occurrences] == [name]


# Equal however it is made


def test_the_number_of_workers_does_not_show(pictures: Path, peaceful: Path, tmp_path: Path) -> None:
    build_index(pictures, tmp_path / "i", options=BuildOptions(workers=4, batch_size=7))
    assert content(tmp_path / "i") == content(peaceful)


def test_several_sources_are_read_in_order(pictures: Path, peaceful: Path, tmp_path: Path) -> None:
    report = build_index(
        [pictures / "more", pictures, pictures / "01.jpg"], tmp_path / "i", descriptors=HASHES
    )
    assert report.references == 40
    with ReferenceIndex.open(tmp_path / "i") as index:
        first = (index.reference(1) or pytest.fail("gone"))[1][0]
        assert Path(first.path).name == "00.png"


def test_a_batch_may_be_as_small_as_one(pictures: Path, peaceful: Path, tmp_path: Path) -> None:
    build_index(pictures, tmp_path / "i", options=BuildOptions(workers=2, batch_size=1))
    assert content(tmp_path / "i") == content(peaceful)
    assert len(list((tmp_path / "i" / "vectors").glob("pdq-*[0-9].npy"))) == 1  # merged at the end


def test_neural_rows_are_added_in_batches(pictures: Path, script_file: Path, tmp_path: Path) -> None:
    names = (f"sscd:{script_file}", "pdq")
    options = BuildOptions(device="cpu", batch_size=9, workers=2)
    report = build_index(pictures, tmp_path / "i", descriptors=names, options=options)
    assert report.added == 40
    with ReferenceIndex.open(tmp_path / "i", device="cpu") as index:
        assert index.info().rows == {names[0]: 80, "pdq": 80}  # whole pictures and their middle squares
        (query,) = index.describe([read_image(pictures / "01.jpg")])
        assert index.search(query)[0].similarities[names[0]] == pytest.approx(1, abs=1e-3)
        assert index.check() == []


# Interrupted


KILLED = """
import sys, time
from index import build, workers
real = workers.Describer.describe
def slowly(self, item):
    print("reading", flush=True)
    time.sleep(0.02)
    return real(self, item)
workers.Describer.describe = slowly
build.build_index(sys.argv[1], sys.argv[2], options=build.BuildOptions(workers=2, batch_size=3))
"""


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_build_killed_at_any_moment_goes_on_as_if_it_had_not_been(
    pictures: Path, peaceful: Path, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    chance = random.Random(seed)
    folder = tmp_path / "i"
    command = [sys.executable, "-c", KILLED, str(pictures), str(folder)]
    met = 0
    for _ in range(5):
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            met += process.stdout.readline() == b"reading\n"
            time.sleep(chance.uniform(0.0, 0.4))
            process.kill()
    assert met
    build_index(pictures, folder)
    assert content(folder) == content(peaceful), f"seed {seed}"
    assert searched(folder, pictures) == searched(peaceful, pictures), f"seed {seed}"


def test_a_large_index_is_calibrated_anew_when_a_tenth_was_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.searching.CALIBRATED_WITH_EACH", 20)
    folder, out = tmp_path / "pictures", tmp_path / "art.index"
    folder.mkdir()
    rng = np.random.default_rng(5)
    known = []
    for upto in (30, 32, 33, 34):
        for number in range(len(list(folder.iterdir())), upto):
            small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            small.resize((96, 96)).save(folder / f"{number}.png")
        build_index(folder, out, descriptors=HASHES)
        with ReferenceIndex.open(out) as index:
            known.append({null.references for null in index.calibration().values()})
    assert known == [{30}, {30}, {30}, {34}]


def test_a_build_interrupted_before_it_calibrates_does_so_the_next_time(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: ReferenceIndex) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReferenceIndex, "calibrate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_index(pictures, tmp_path / "i", descriptors=HASHES)
    monkeypatch.undo()
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.calibration_is_stale
        assert index.calibration() == {}
    assert build_index(pictures, tmp_path / "i").added == 0
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert not index.calibration_is_stale
        assert index.calibration().keys() == set(HASHES)
        generation = index.generation
    build_index(pictures, tmp_path / "i")
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.generation == generation


def test_pictures_whose_disk_was_away_are_read_when_it_is_back(pictures: Path, tmp_path: Path) -> None:
    own, away = Path(shutil.copytree(pictures, tmp_path / "own")), tmp_path / "away"

    def unmount(progress: BuildProgress) -> None:
        if progress.done >= 9 and own.exists():
            own.rename(away)

    options = BuildOptions(workers=1, batch_size=3)
    cut = build_index(own, tmp_path / "i", descriptors=HASHES, options=options, on_progress=unmount)
    assert cut.references < 40
    assert "missing" in {rejected.reason for rejected in cut.rejections}
    away.rename(own)
    assert build_index(own, tmp_path / "i", options=options).references == 40
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert sorted(r.reason for r in index.rejected()) == ["corrupt", "empty"]


@pytest.mark.parametrize("at", [1, 9, 30])
def test_an_interrupted_build_keeps_what_was_finished(
    pictures: Path, peaceful: Path, tmp_path: Path, at: int
) -> None:
    def interrupt(progress: BuildProgress) -> None:
        if progress.done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(pictures, tmp_path / "i", options=BuildOptions(workers=2), on_progress=interrupt)
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.check() == []
        kept = index.info()
        assert kept.occurrences + kept.rejected >= at - 1
    report = build_index(pictures, tmp_path / "i")
    assert report.unchanged == kept.occurrences + kept.rejected
    assert content(tmp_path / "i") == content(peaceful)


@pytest.mark.parametrize(
    ("module", "name", "writes"), [(os, "fsync", 13), (reference_index, "write_segment", 6)]
)
def test_a_full_disk_stops_the_build_and_the_same_command_goes_on(
    pictures: Path,
    peaceful: Path,
    tmp_path: Path,
    module: Any,
    name: str,
    writes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "i"
    ReferenceIndex.create(folder).close()
    real, calls = getattr(module, name), []

    def full(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > writes:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(IndexWriteError, match="the same command goes on from there"):
            build_index(pictures, folder, options=BuildOptions(batch_size=5, workers=1))
    with ReferenceIndex.open(folder) as index:
        assert index.check() == []
        assert 0 < len(index) < 40
    build_index(pictures, folder)
    assert content(folder) == content(peaceful)


def test_a_failing_progress_callback_does_not_hurt_the_index(pictures: Path, tmp_path: Path) -> None:
    def fail(progress: BuildProgress) -> None:
        if progress.done == 20:
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError):
        build_index(pictures, tmp_path / "i", descriptors=HASHES, on_progress=fail)
    report = build_index(pictures, tmp_path / "i")
    assert report.references == 40


# Refused


def test_sources_that_hold_nothing_make_no_index(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no picture")
    out = tmp_path / "i"
    for name in ("empty", "texts"):
        with pytest.raises(UsageError, match=r"no picture found\. Name a folder"):
            build_index(tmp_path / name, out)
    with pytest.raises(SourceError, match="does not exist"):
        build_index([tmp_path / "empty", tmp_path / "gone"], out)
    with pytest.raises(UsageError, match="name at least one"):
        build_index([], out)
    assert not out.exists()


def test_many_missing_files_do_not_hide_the_pictures_after_them(pictures: Path, tmp_path: Path) -> None:
    rows = [f"gone/{number}.jpg" for number in range(1200)] + [str(pictures / "01.jpg")]
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(rows) + "\n")
    report = build_index(tmp_path / "list.csv", tmp_path / "i", descriptors=HASHES)
    assert (report.added, report.rejected, len(report.rejections)) == (1, 1200, 1000)
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert len(index.rejected()) == 1200


def test_another_set_of_descriptors_is_refused(pictures: Path, tmp_path: Path) -> None:
    build_index(pictures / "01.jpg", tmp_path / "i", descriptors=HASHES)
    with pytest.raises(UsageError, match=r"has the descriptors pdq,phash, not pdq\. Leave --descriptors out"):
        build_index(pictures, tmp_path / "i", descriptors=("pdq",))
    report = build_index(pictures, tmp_path / "i", descriptors=("phash", "pdq"))
    assert report.references == 40


def test_the_folder_of_pictures_is_not_the_index(pictures: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    before = sorted(own.rglob("*"))
    for out in (own, own / "more" / ".."):
        with pytest.raises(UsageError, match="is the folder of pictures itself"):
            build_index(own, out)
    with pytest.raises(UsageError, match="holds other files"):
        build_index(own, own / "more")
    assert sorted(own.rglob("*")) == before


def test_an_index_inside_the_folder_of_pictures_is_not_read_as_pictures(
    pictures: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    first = build_index(own, own / "art.index")
    again = build_index(own, own / "art.index")
    assert (first.added, again.added, again.unchanged, again.rejected) == (40, 0, 42, 0)


# Odd inputs


def test_names_that_are_no_utf8_are_indexed(pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    try:
        shutil.copy(os.fsencode(pictures / "01.jpg"), os.fsencode(own) + b"/caf\xe9.jpg")
    except OSError as error:
        pytest.skip(f"such names cannot be made here: {error}")
    (own / "ünï \n'\" %.jpg").write_bytes((pictures / "03.jpg").read_bytes())
    report = build_index(own, tmp_path / "i", descriptors=HASHES)
    assert (report.added, report.rejected) == (2, 0)
    assert build_index(own, tmp_path / "i").unchanged == 2
    with ReferenceIndex.open(tmp_path / "i") as index:
        paths = [(index.reference(number) or pytest.fail("gone"))[1][0].path for number in (1, 2)]
        assert any("caf" in path for path in paths)
        assert all(path.encode() for path in paths)


def test_padding_of_img2dataset_shards_is_trimmed_before_describing(artworks: Path, tmp_path: Path) -> None:
    original = Image.open(artworks / "seascape-1.jpg").convert("RGB")
    original.thumbnail((256, 256))
    assert original.width != original.height
    square = Image.new("RGB", (256, 256), "white")
    square.paste(original, ((256 - original.width) // 2, (256 - original.height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=95)
    sidecar = {"key": "000000000", "status": "success", "caption": "a sea", "url": "https://x.example/s.jpg"}
    with tarfile.open(tmp_path / "00000.tar", "w") as shard:
        for name, data in (("jpg", buffer.getvalue()), ("json", json.dumps(sidecar).encode())):
            member = tarfile.TarInfo(f"000000000.{name}")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    build_index(tmp_path / "00000.tar", tmp_path / "i")
    with ReferenceIndex.open(tmp_path / "i") as index:
        record, occurrences = index.reference(1) or pytest.fail("gone")
        assert record.trim != (0.0, 0.0, 1.0, 1.0)
        assert occurrences[0].credits.caption == "a sea"
        assert occurrences[0].path.endswith("00000.tar::000000000.jpg")
        (query,) = index.describe([read_image(artworks / "seascape-1.jpg")])
        assert index.search(query)[0].similarities["pdq"] > 1 - 24 / 256


def test_thumbnails_may_be_left_out(pictures: Path, tmp_path: Path) -> None:
    build_index(pictures, tmp_path / "i", descriptors=HASHES, options=BuildOptions(thumbnails=False))
    assert not (tmp_path / "i" / "thumbnails.sqlite").exists()
    with ReferenceIndex.open(tmp_path / "i") as index:
        assert index.thumbnail(1) is None
        assert index.check() == []
        assert not index.info().thumbnails


def test_pictures_over_the_pixel_limit_are_rejected(pictures: Path, tmp_path: Path) -> None:
    options = BuildOptions(max_pixels=180 * 140 - 1)
    report = build_index(pictures, tmp_path / "i", descriptors=HASHES, options=options)
    assert (report.added, report.rejected) == (0, 42)
    assert {r.reason for r in report.rejections} >= {"too_many_pixels"}


class Endless(Source):
    """Many occurrences of one picture, counting how far ahead of the commits it was asked."""

    def __init__(self, picture: Path, count: int) -> None:
        super().__init__(picture)
        self._count = count
        self.asked = 0

    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        data = self.path.read_bytes()
        for number in range(self._count):
            self.asked = number + 1
            yield SourceItem(f"all/{number}.jpg", NO_CREDITS, self.path, len(data), 1, data=data)

    def describe(self) -> str:
        return "many"

    def count(self) -> int | None:
        return None


def test_a_long_source_is_streamed_not_listed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Endless(pictures / "01.jpg", 3000)
    monkeypatch.setattr(build_module, "open_source", lambda *_, **__: source)
    ahead: list[int] = []
    report = build_index(
        "all",
        tmp_path / "i",
        descriptors=HASHES,
        options=BuildOptions(workers=2, batch_size=50),
        on_progress=lambda progress: ahead.append(source.asked - progress.done),
    )
    assert (report.added, report.occurrences) == (1, 3000)
    assert max(ahead) <= (2 * 2 + 2) * CHUNK
