"""The command line: exit codes, what is on stdout and stderr, and what a newcomer gets wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from detector import __version__
from detector.cli import app
from detector.commands.progress import Lines, Pace, rate_in_words
from detector.report import ImageReport
from index.build import build_index

COPIES = {
    "0003.webp": "flow-field-2.jpg",  # CC0
    "0013.jpg": "geometric-1.png",  # CC BY
    "0033.webp": "still-life-2.jpg",  # all rights reserved
}
UNRELATED = ("0005.jpg", "0029.jpg")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
BANNED = ("Traceback", "infring", "is original", "is safe")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def place(artworks: Path, edited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few references (`art`), queries (`gen`, all matching or not; `none`), and an index."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("art", "gen", "none"):
        (folder / name).mkdir()
    with (artworks / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file_name"] in COPIES.values()]
    with (folder / "art" / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(artworks / row["file_name"], folder / "art")
    for name in (*COPIES, *UNRELATED):
        shutil.copy(edited / name, folder / "gen")
    (folder / "gen" / "broken.jpg").write_bytes((edited / "0010.jpg").read_bytes()[:2000])
    for name in UNRELATED:
        shutil.copy(edited / name, folder / "none")
    build_index(folder / "art", folder / "art.index")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder, and make sure of what holds for all of them."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str | Path) -> Ran:
        arguments = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["detector", *arguments])
        result = CliRunner().invoke(app, arguments)
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        assert result.exit_code in (0, 1, 2, 130)
        for words_ in BANNED:
            assert words_ not in result.output
        return Ran(result.exit_code, result.stdout, result.stderr)

    return invoke


def python_m(*words: str | Path, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "detector", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        **options,
    )


def digest_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of an index; those that SQLite keeps while one is open hold nothing."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm")))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


# Help


@pytest.mark.parametrize(
    "command",
    ["", "scan", "check", "report", "demo", "version", "index", *(f"index {name}" for name in
     ("build", "add", "remove", "info", "check", "compact", "optimize"))],
)  # fmt: skip
def test_every_command_explains_itself_with_examples(command: str, run: Run) -> None:
    shown = run(*command.split(), "--help")
    assert shown.code == 0
    if command != "index":
        assert "detector " in shown.out
    if command not in ("", "index"):
        assert "Examples:" in shown.out
        for option in ("--quiet", "--json", "--debug"):
            assert option in shown.out


def test_help_is_quick_to_load(record_property: Callable[[str, object], None], place: Path) -> None:
    started = time.perf_counter()
    done = python_m("--help", cwd=place)
    out, _ = done.communicate(timeout=60)
    record_property("seconds", round(time.perf_counter() - started, 3))  # reported; nothing hangs on it
    assert done.returncode == 0
    assert "index" in out
    heavy = "numpy PIL torch faiss cv2 diffusers open_clip imagehash pdqhash scipy sqlite3".split()
    script = f"import sys, detector.cli; sys.exit(str([n for n in {heavy} if n in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert loaded.stderr.strip() == "[]"


def test_version_as_command_and_option(run: Run) -> None:
    assert run("version").out == run("--version").out == f"detector {__version__}\n"
    assert run("version", "--json").value == {"version": __version__}


@pytest.mark.parametrize(
    "words", [["nonsense"], ["scan"], ["scan", "x", "--frobnicate"], ["index", "build", "x"]]
)
def test_usage_errors_exit_with_2(words: list[str], run: Run) -> None:
    assert run(*words).code == 2


# index


def test_build_says_what_it_did_and_what_it_could_not_use(place: Path, run: Run) -> None:
    shutil.copytree(place / "art", "art")
    for number in range(12):
        Path(f"art/bad{number:02}.jpg").write_bytes(b"no picture")
    built = run("index", "build", "art", "--out", "my.index", "--workers", "1")
    assert built.code == 0
    assert "Added 3 new references" in built.out
    assert "12 files could not be used" in built.out
    assert "art/bad00.jpg: is not a picture" in built.out
    assert "… and 2 more: detector index info --rejected --index my.index" in built.out
    assert "detector scan GENERATED --index my.index" in built.err
    again = run("index", "build", "art", "--out", "my.index", "--quiet")
    assert "Added 0 new references" in again.out
    assert "15 files known already" in again.out
    assert again.err == ""
    listed = run("index", "info", "--rejected", "--index", "my.index")
    assert len(listed.out.splitlines()) == 13
    assert len(run("index", "info", "--rejected", "--index", "my.index", "--json").value) == 12


def test_build_as_json(place: Path, run: Run) -> None:
    build = ["index", "build", place / "art", "--out", "my.index", "--descriptors", "phash"]
    built = run(*build, "--no-thumbnails", "--json")
    assert built.err == ""
    assert built.value["added"] == 3
    assert built.value["bytes_on_disk"] > 0
    held = run("index", "info", "--index", "my.index", "--json").value
    assert [d["name"] for d in held["descriptors"]] == ["phash"]
    assert held["thumbnails"] is False


def test_told_columns_are_used(place: Path, run: Run) -> None:
    shutil.copytree(place / "art", "art")
    text = Path("art/metadata.csv").read_text(encoding="utf-8")
    Path("art/metadata.csv").write_text(text.replace("artist", "painter", 1), encoding="utf-8")
    build = ["index", "build", "art", "--out", "my.index", "--descriptors", "phash"]
    assert run(*build, "--artist-column", "painter").code == 0
    gone = run("index", "remove", "--index", "my.index", "--artist", "ines marlowe", "--yes", "--json")
    assert gone.value["occurrences"] == 1


def test_add_needs_an_index_and_adds_to_it(place: Path, run: Run) -> None:
    missing = run("index", "add", place / "art", "--index", "none.index")
    assert missing.code == 2
    assert not Path("none.index").exists()
    shutil.copytree(place / "art.index", "my.index")
    added = run("index", "add", place / "none", "--out", "my.index")
    assert added.code == 0
    assert "Added 2 new references" in added.out


def test_info_check_and_compact(place: Path, run: Run) -> None:
    shutil.copytree(place / "art.index", "my.index")
    assert "references" in run("index", "info", "--index", "my.index").out
    assert run("index", "check", "--index", "my.index").code == 0
    removed = run(
        "index", "remove", "--index", "my.index", "--path", place / "art" / "geometric-1.png", "--yes"
    )
    assert "1 picture gone" in removed.out
    assert run("index", "compact", "--index", "my.index", "--json").value["rows_erased"] > 0
    segment = next(p for p in Path("my.index/vectors").glob("pdq-*.npy") if ".ids" not in p.name)
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    damaged = run("index", "check", "--index", "my.index")
    assert damaged.code == 2
    assert segment.name in damaged.out
    assert run("index", "check", "--index", "my.index", "--json").value["problems"]


def test_remove_asks_or_needs_yes(place: Path, run: Run) -> None:
    shutil.copytree(place / "art.index", "my.index")
    before = run("index", "info", "--index", "my.index", "--json").value["references"]
    asked = run("index", "remove", "--index", "my.index", "--artist", "Ines Marlowe")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert run("index", "remove", "--index", "my.index", "--yes").code == 2
    nothing = run("index", "remove", "--index", "my.index", "--artist", "Nobody", "--yes")
    assert nothing.code == 0
    assert run("index", "info", "--index", "my.index", "--json").value["references"] == before
    erased = run("index", "remove", "--index", "my.index", "--artist", "Ines Marlowe", "--erase", "--yes")
    assert "overwritten" in erased.out
    assert run("index", "info", "--index", "my.index", "--json").value["references"] == before - 1


# scan


def test_scan_shows_findings_writes_files_and_exits_with_1(place: Path, run: Run) -> None:
    done = run(
        "scan", place / "gen", "--index", place / "art.index",
        "--html", "r.html", "--csv", "f.csv", "--jsonl", "f.jsonl",
    )  # fmt: skip
    assert done.code == 1
    assert "3 of 6 generated pictures replicate a training image in this index." in done.out
    assert "Three Eddies — Ines Marlowe" in done.out
    assert "broken.jpg: the file breaks off in the middle" in done.out
    assert "says nothing about pictures that are not in the index" in done.out
    assert "Open r.html" in done.err
    assert all(line == line.rstrip() for line in done.out.splitlines())
    assert len(Path("f.jsonl").read_bytes().splitlines()) == 6
    assert "Three Eddies" in Path("r.html").read_text(encoding="utf-8")
    assert "Three Eddies" in Path("f.csv").read_text(encoding="utf-8-sig")
    again = run(
        "scan", place / "gen", "--index", place / "art.index", "--html", "r.html", "--quiet", "--limit", "1"
    )
    assert again.code == 1
    assert again.err == ""
    assert "… and 2 more" in again.out


def test_nothing_found_exits_with_0_and_says_what_that_means(place: Path, run: Run) -> None:
    done = run("scan", place / "none", "--index", place / "art.index")
    assert done.code == 0
    assert done.out.splitlines() == [
        "None of the 2 generated pictures has a match in this index.",
        "“No match in this index” says nothing about pictures that are not in the index.",
    ]


def test_only_unreadable_pictures_are_an_error(place: Path, run: Run) -> None:
    done = run("scan", place / "gen" / "broken.jpg", "--index", place / "art.index")
    assert done.code == 2
    assert "None of the 1 generated picture could be read." in done.out


def test_scan_as_json_is_one_value_and_nothing_else(place: Path, run: Run) -> None:
    done = run("scan", place / "gen", "--index", place / "art.index", "--json")
    assert done.code == 1
    assert done.err == ""
    assert done.value["flagged"] == 3
    assert done.value["fail_on"] == 3
    assert done.value["summary"]["queries"] == 6
    reports = [ImageReport.from_dict(values) for values in done.value["findings"]]
    found = {
        Path(r.query).name: Path(r.best.reference.occurrences[0].path).name
        for r in reports
        if r.level > 2 and r.best
    }
    assert found == COPIES


@pytest.mark.parametrize(
    ("bound", "code"),
    [("1", 1), ("3", 1), ("6", 0), ("never", 0), ("NEVER", 0), ("7", 2), ("0", 2), ("x", 2)],
)
def test_fail_on_sets_the_exit_code(bound: str, code: int, place: Path, run: Run) -> None:
    query = place / "gen" / "0003.webp"
    assert run("scan", query, "--index", place / "art.index", "--fail-on", bound, "-q").code == code


def test_allowed_licences_clear_matches(place: Path, run: Run) -> None:
    scan = ["scan", place / "gen", "--index", place / "art.index"]
    some = run(*scan, "--allow-licence", "CC0-1.0", "--json")
    assert (some.code, some.value["flagged"]) == (1, 2)
    more = run(*scan, "--allow-licence", "CC0-1.0", "--allow-licence", "CC-BY-*", "--json")
    assert (more.code, more.value["flagged"]) == (1, 1)
    Path("policy.toml").write_text('allow = ["public-domain"]\nartists = ["Alder Finch"]\n', encoding="utf-8")
    everything = run(*scan, "--allow-licence", "CC-BY-*", "--policy", "policy.toml")
    assert everything.code == 0
    assert "only training images that your policy clears" in everything.out
    assert "cleared" in everything.out


# report


def test_report_judges_again_without_scanning(place: Path, run: Run) -> None:
    run(
        "scan",
        place / "gen",
        "--index",
        place / "art.index",
        "--jsonl",
        "f.jsonl",
        "--allow-licence",
        "CC0-1.0",
    )
    before = Path("f.jsonl").read_bytes()
    assert run("report", "f.jsonl", "--json").value["flagged"] == 2
    assert run("report", "f.jsonl", "--allow-licence", "CC-BY-4.0", "--json").value["flagged"] == 2
    cleared = run("report", "f.jsonl", "--allow-licence", "public-domain,CC-BY-4.0", "--json").value
    assert cleared["flagged"] == 1
    assert sum(m["cleared"] for f in cleared["findings"] for m in f["matches"]) == 2
    assert run("report", "f.jsonl", "--fail-on", "never").code == 0
    page = run("report", "f.jsonl", "--index", place / "art.index", "--html", "r.html", "--csv", "f.csv")
    assert page.code == 1
    assert "data:image/" in Path("r.html").read_text(encoding="utf-8")
    assert Path("f.jsonl").read_bytes() == before


def test_report_refuses_the_wrong_index(place: Path, run: Run) -> None:
    run("scan", place / "gen", "--index", place / "art.index", "--jsonl", "f.jsonl")
    run("index", "build", place / "none", "--out", "other.index", "--descriptors", "phash")
    wrong = run("report", "f.jsonl", "--index", "other.index", "--html", "r.html")
    assert wrong.code == 2
    assert "was not made with other.index" in wrong.err
    assert not Path("r.html").exists()


def test_a_cut_off_last_line_is_left_out_and_said_once(place: Path, run: Run) -> None:
    run("scan", place / "gen", "--index", place / "art.index", "--jsonl", "f.jsonl")
    data = Path("f.jsonl").read_bytes()
    Path("f.jsonl").write_bytes(data[:-40])
    read = run("report", "f.jsonl", "--html", "r.html")
    assert read.code == 1
    assert read.err.count("line 6 is cut off") == 1
    assert "of 5 generated pictures" in read.out


# check


def test_check_shows_a_card_with_evidence_credit_and_licence(place: Path, run: Run) -> None:
    done = run(
        "check", place / "gen" / "0013.jpg", place / "gen" / "0005.jpg", "--index", place / "art.index"
    )
    assert done.code == 1
    assert "Quarter Turns" in done.out
    assert "matching points" in done.out
    assert "CC BY 4.0 asks for credit" in done.out
    assert "No match in this index." in done.out
    assert (
        run("check", place / "gen" / "0013.jpg", "--index", place / "art.index", "--fail-on", "never").code
        == 0
    )
    assert run("check", place / "gen" / "broken.jpg", "--index", place / "art.index").code == 2


def test_check_as_json_is_a_list_of_reports(place: Path, run: Run) -> None:
    done = run(
        "check",
        place / "gen" / "0003.webp",
        "--index",
        place / "art.index",
        "--allow-licence",
        "CC0-1.0",
        "--json",
    )
    assert done.code == 0
    (values,) = done.value
    report = ImageReport.from_dict(values)
    assert report.matches[0].cleared
    assert report.verdict.value == "no_match"


# demo


def test_demo_says_what_to_do_where_its_samples_are_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("detector.commands.scanning.SAMPLES", (tmp_path / "nowhere",))
    done = run("demo")
    assert done.code == 2
    assert "Install it anew" in done.err
    assert not Path("detector-demo").exists()


def test_demo_indexes_scans_and_writes_a_page(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place / "art", "samples/artworks")
    shutil.copytree(place / "gen", "samples/generated")
    monkeypatch.setattr("detector.commands.scanning.SAMPLES", (Path("nowhere"), Path("samples")))
    done = run("demo")
    assert done.code == 0
    assert "3 of 6 generated pictures replicate" in done.out
    assert Path("detector-demo/report.html").stat().st_size > 10_000
    assert run("demo", "--json").value["flagged"] == 0  # the demo flags nothing


# What a newcomer gets wrong: exit code 2, one line, the index as it was


def wrong_inputs() -> list[tuple[str, str]]:
    """Command lines (A artworks, G generated pictures, I the index), and what the message must hold."""
    return [
        ("scan nothere --index I", "does not exist"),
        ("scan empty --index I", "no picture found"),
        ("scan G --index nothere", "detector index build"),
        ("scan G --index empty", "is no index"),
        ("scan G --index G", "is no index"),
        ("scan G --index file.txt", "not an index"),
        ("scan I --index I", "is the index itself"),
        ("scan G --index I --resume", "--jsonl"),
        ("scan G --index I --html empty", "is a folder"),
        ("scan G --index I --html nothere/r.html", "does not exist"),
        ("scan G --index I --html r.png", "name of a picture"),
        ("scan G --index I --csv I/f.csv", "inside the index"),
        ("scan G --index I --csv r --html r", "is the file of --html too"),
        ("scan G --index I --jsonl file.txt", "holds something else than findings"),
        ("scan G --index I --jsonl file.txt --resume", "file.txt"),
        ("scan G --index I --policy nothere.toml", "nothere.toml"),
        ("scan G --index I --allow-licence CC-BUY", "CC-BUY"),
        ("scan G --index I --allow-licence unknown", "unknown"),
        ("scan G --index I --scoring file.txt", "scoring model"),
        ("check nothere.jpg --index I", "does not exist"),
        ("check G --index I", "detector scan"),
        ("report nothere.jsonl", "cannot be read"),
        ("report file.txt", "is not JSON"),
        ("report newer.jsonl", "format_version 9"),
        ("report newer.jsonl --html newer.jsonl", "is the file of the findings too"),
        ("index build nothere --out new", "does not exist"),
        ("index build empty --out new", "no picture found"),
        ("index build G --out G", "is the folder of pictures itself"),
        ("index build G --out file.txt", "is a file"),
        ("index build G --out file.txt/new", "cannot be written"),
        ("index build G --out new --descriptors pdq,frob", "unknown descriptor"),
        ("index build G --out new --descriptors ,", "no descriptor"),
        ("index build G --out new --descriptors sscd:nothere.pt", "nothere.pt"),
        ("index build A --out new --artist-column painter", "painter"),
        ("index build G --out I --descriptors phash", "Leave --descriptors out"),
        ("index build G --out newer.index", "has format 9"),
        ("index add G --index newer.index", "pip install -U"),
        ("index info --index newer.index", "has format 9"),
        ("index check --index nothere", "no such index"),
        ("index compact --index nothere", "no such index"),
        ("index remove --index I --yes", "--path"),
    ]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), wrong_inputs(), ids=[line for line, _ in wrong_inputs()])
def test_wrong_input_gets_one_clear_line(line: str, said: str, place: Path, run: Run) -> None:
    shutil.copytree(place / "art.index", "newer.index")
    manifest = Path("newer.index/manifest.json")
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"format_version": 1', '"format_version": 9')
    )
    Path("empty").mkdir()
    Path("file.txt").write_text("my notes\n", encoding="utf-8")
    Path("newer.jsonl").write_text('{"format_version": 9}\n', encoding="utf-8")
    index = place / "art.index"
    before = digest_of(index)
    words: list[str | Path] = [
        {"A": place / "art", "G": place / "none", "I": index}.get(word, word)
        if not word.startswith("I/")
        else index / word[2:]
        for word in line.split()
    ]
    done = run(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert digest_of(index) == before
    assert not Path("new").exists()
    assert Path("file.txt").read_text(encoding="utf-8") == "my notes\n"


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    done = python_m("scan", "x", "--index", "nothere", "--debug", cwd=tmp_path)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "Traceback" in err
    assert "error: nothere: no such index" in err


def test_unexpected_errors_are_one_line_too(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("detector.detector.Detector.scan", fail)
    done = run("scan", place / "none", "--index", place / "art.index")
    assert done.code == 2
    assert (
        done.err
        == "error: unexpected KeyError: 'surprise'. Run it again with --debug, and report what it prints, "
        "with detector doctor --json\n"
    )


def test_a_segment_that_is_damaged_stops_a_scan_before_findings_are_touched(place: Path, run: Run) -> None:
    shutil.copytree(place / "art.index", "my.index")
    segment = next(p for p in Path("my.index/vectors").glob("pdq-*.npy") if ".ids" not in p.name)
    segment.write_bytes(segment.read_bytes()[:-8])
    run("scan", place / "none", "--index", place / "art.index", "--jsonl", "f.jsonl")
    before = Path("f.jsonl").read_bytes()
    done = run("scan", place / "none", "--index", "my.index", "--jsonl", "f.jsonl")
    assert done.code == 2
    assert "detector index check" in done.err
    assert Path("f.jsonl").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows names are not bytes")
def test_names_that_are_not_utf8_and_hostile_ones_are_shown_harmlessly(place: Path, run: Run) -> None:
    Path("gen").mkdir()
    for name in (b"caf\xe9.webp", b"red\x1b[31m.webp", b"line\nbreak.webp"):
        try:
            shutil.copy(os.fsencode(place / "gen" / "0003.webp"), b"gen/" + name)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    done = run(
        "scan",
        "gen",
        "--index",
        place / "art.index",
        "--html",
        "r.html",
        "--csv",
        "f.csv",
        "--jsonl",
        "f.jsonl",
    )
    assert done.code == 1
    assert "caf\\xe9.webp" in done.out
    assert "\x1b" not in done.out
    assert run("report", "f.jsonl", "--json").value["flagged"] == 3


@pytest.mark.skipif(os.name == "nt", reason="no limit on the size of files there")
@pytest.mark.parametrize("option", ["--html", "--csv", "--jsonl"])
def test_a_full_disk_is_one_clear_line_and_leaves_the_index(option: str, place: Path, tmp_path: Path) -> None:
    # A limit on the size of files acts like a full disk: a write fails in the middle.
    import resource

    before = digest_of(place / "art.index")
    done = python_m(
        "scan", place / "gen", "--index", place / "art.index", option, "r.out",
        cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )  # fmt: skip
    _, err = done.communicate(timeout=120)
    if option != "--jsonl":  # the temporary findings file is the first to fail
        assert "cannot be written" in err
    assert done.returncode == 2
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert digest_of(place / "art.index") == before
    assert not list(tmp_path.glob(".*"))


# Interruption


@pytest.fixture(scope="session")
def many(place: Path) -> Path:
    """More queries than workers take up at once."""
    folder = place / "many"
    folder.mkdir()
    for number in range(6):
        for name in (*COPIES, "broken.jpg"):
            shutil.copy(place / "gen" / name, folder / f"{number:02}-{name}")
    return folder


INTERRUPTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit it ignored
from detector.commands.progress import Ticker

real, number, at = Ticker.update, signal.Signals[sys.argv.pop(1)], int(sys.argv.pop(1))

def update(self, done, total, note=""):
    real(self, done, total, note)
    if done == at:
        os.kill(os.getpid(), number)

Ticker.update = update
from detector.cli import main
main()
"""


def interrupted(*words: str | Path, cwd: Path, at: int, by: str = "SIGINT") -> Ran:
    """Run a command in a process of its own that gets a signal when it has dealt with so many pictures."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", INTERRUPTING, by, str(at), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent like this there")
def test_ctrl_c_keeps_findings_and_resume_ends_as_if_nothing_had_happened(
    place: Path, many: Path, tmp_path: Path, run: Run
) -> None:
    scan = ["scan", many, "--index", place / "art.index", "--workers", "2", "--jsonl"]
    stopped = interrupted(*scan, "f.jsonl", cwd=tmp_path, at=9)
    assert stopped.code == 130
    assert stopped.out == ""
    assert f"detector scan {many} --index" in stopped.err
    assert "--jsonl f.jsonl --resume" in stopped.err
    kept = [json.loads(line) for line in Path("f.jsonl").read_bytes().splitlines()]
    assert 9 <= len(kept) < 24
    whole = run(*scan, "whole.jsonl", "--json").value["summary"]
    resumed = run(*scan, "f.jsonl", "--resume", "--json").value["summary"]
    assert Path("f.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert {**whole, "seconds": 0} == {**resumed, "seconds": 0}


def test_resume_after_a_line_that_is_cut_off(place: Path, run: Run) -> None:
    scan = ["scan", place / "gen", "--index", place / "art.index", "--jsonl", "f.jsonl"]
    run(*scan)
    whole = Path("f.jsonl").read_bytes()
    Path("f.jsonl").write_bytes(whole[:-100])
    assert run(*scan, "--resume").code == 1
    assert Path("f.jsonl").read_bytes() == whole


@pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent like this there")
def test_sigterm_without_a_findings_file_says_how_to_keep_them(
    place: Path, many: Path, tmp_path: Path
) -> None:
    stopped = interrupted("scan", many, "--index", place / "art.index", cwd=tmp_path, at=2, by="SIGTERM")
    assert stopped.code == 130
    assert "findings were not kept" in stopped.err
    assert "--jsonl findings.jsonl" in stopped.err


@pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent like this there")
def test_ctrl_c_while_building_keeps_what_was_committed(artworks: Path, tmp_path: Path, run: Run) -> None:
    build = ["index", "build", artworks, "--out", "my.index", "--batch-size", "4", "--descriptors", "phash"]
    stopped = interrupted(*build, cwd=tmp_path, at=20)
    assert stopped.code == 130
    assert "Run the same command again to go on" in stopped.err
    kept = run("index", "info", "--index", "my.index", "--json").value["references"]
    assert 16 <= kept < 60
    finished = run(*build, "--json").value
    assert finished["references"] == 60
    assert finished["added"] == 60 - kept


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
def test_a_closed_pipe_is_quiet_and_keeps_the_exit_code(place: Path, tmp_path: Path) -> None:
    done = python_m("scan", place / "gen", "--index", place / "art.index", "--quiet", cwd=tmp_path)
    assert done.stdout is not None
    assert done.stderr is not None
    done.stdout.close()
    err = done.stderr.read()
    done.stderr.close()
    assert done.wait(timeout=60) == 1
    assert err == ""


# Progress


def test_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    pace.add(0.0, 0)
    assert pace.in_words(0, 100) == ""
    pace.add(0.5, 5000)
    assert pace.in_words(5000, 9000) == ""
    for second in range(1, 60):
        pace.add(float(second), 5000 + 20 * second)
    assert pace.per_second() == pytest.approx(20, rel=0.01)
    assert pace.in_words(6180, 6380) == " · 20 a second · 10 s left"
    assert [rate_in_words(rate) for rate in (1234.5, 2.54, 0.2)] == [
        "1,234 a second",
        "2.5 a second",
        "12 a minute",
    ]


def test_plain_lines_come_every_ten_per_cent_or_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    now = [0.0]
    with Lines("Scanning", "pictures", Console(stderr=True, width=200), clock=lambda: now[0]) as ticker:
        for done in range(1, 1001):
            now[0] += 0.03
            ticker.update(done, 1000, "3 found")
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 11
    assert lines[0].startswith("Scanning: 100 of 1,000 pictures · 33 a second · 27 s left · 3 found")
