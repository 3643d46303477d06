"""Files that earlier code wrote, opened, searched, scanned, added to and checked by this one; newer ones refused.

The frozen files and the script that made them are in tests/data/formats; what each must answer was recorded by the old
code itself. A reader may not change a byte of an index; a writer migrates it, completely or not at all.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from detector.artists import lookup
from detector.audit.log import LOG, Log
from detector.detector import Detector
from detector.duplicates import find_duplicates
from detector.rights import Policy
from detector.scan import read_report
from detector.scoring import load_model
from index.build import build_index
from index.errors import DetectorError
from index.migrations import SCHEMA_VERSION
from index.reference_index import ReferenceIndex
from tests.benchmarks.results import Options, Result, Table, progress

FORMATS = Path(__file__).resolve().parents[1] / "data" / "formats"
NAMES = ("first", "squares", "requests", "imported", "sketches")
ERASED = "works/3.png"
"""Erased from the index “requests” by the code that made it."""

STATEMENTS = 9
"""Of the migration to schema 2, at most: moments at which it is killed."""

Attempt = Callable[[Path, dict[str, Any]], list[str]]


def unpacked(name: str, folder: Path) -> dict[str, Any]:
    """Lay out a frozen index with its pictures in an empty folder; return what was recorded beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(FORMATS / f"{name}.zip") as archive:
        archive.extractall(folder)
    for part in ("works", "queries"):
        shutil.copytree(FORMATS / part, folder / part)
    recorded = json.loads((FORMATS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(recorded)


def digest(folder: Path) -> dict[str, str]:
    """Digests of an index's files; what SQLite keeps beside one that is open is none of them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.endswith(("-wal", "-shm")) and not path.name.startswith("writer.lock")
    }


def answers(folder: Path) -> dict[str, Any]:
    """What this code says of the queries, in the form that make.py recorded."""
    with Detector.open(folder / "art.index") as detector:
        paths = sorted((folder / "queries").iterdir())
        found = {}
        for path, report in zip(paths, detector.check_many(paths), strict=True):
            best = [[match.reference.sha256, match.level] for match in report.matches[:1]]
            found[f"queries/{path.name}"] = {
                "verdict": report.verdict.value,
                "level": report.level,
                "best": best,
            }
        return found


def _compared(what: str, found: Any, wanted: Any) -> list[str]:
    return [] if found == wanted else [f"{what}: {found!r} instead of {wanted!r}"]


def audit_identity() -> dict[str, Any]:
    """What the frozen audit was of, as its log says."""
    head = json.loads((FORMATS / LOG).read_text(encoding="utf-8").splitlines()[0])
    return dict(head["identity"])


# What is tried with each frozen index


def read(folder: Path, recorded: dict[str, Any]) -> list[str]:
    """A reader opens, checks, searches, lists and looks up; no byte changes."""
    place = folder / "art.index"
    before = digest(place)
    with ReferenceIndex.open(place) as index:
        problems = [f"check: {text}" for text in index.check()]
        info = index.info()
        if len(index) != info.references or not len(index):
            problems.append(f"{len(index)} references, info says {info.references}")
        places = [entry for entry in map(index.reference, index.reference_ids()) if entry]
        if not all(occurrences and occurrences[0].path for _, occurrences in places):
            problems.append("a reference has no occurrence")
        index.requests()
        index.rejected()
    problems += _compared("answers", answers(folder), recorded["answers"])
    find_duplicates(place)
    lookup(place, "Ann Artist")
    return problems + _compared("files after reading", digest(place), before)


def scan(folder: Path, recorded: dict[str, Any]) -> list[str]:
    """A scan writes the findings that were recorded, and goes on in the findings that the old code wrote."""
    place, file = folder / "art.index", folder / "new.jsonl"
    with Detector.open(place) as detector:
        verdicts = [found.verdict.value for found in detector.scan(folder / "queries", jsonl=file)]
    wanted = [recorded["answers"][name]["verdict"] for name in sorted(recorded["answers"])]
    return _compared("verdicts", verdicts, wanted)


def findings(folder: Path, recorded: dict[str, Any]) -> list[str]:
    """The old findings are read: judged again, as a page, and by the look-up of an artist."""
    file = folder / "findings.jsonl"
    with ReferenceIndex.open(folder / "art.index") as index:
        report = read_report(file, index=index)
        wanted = [recorded["answers"][found.query]["verdict"] for found in report]
        problems = _compared("verdicts", [found.verdict.value for found in report], wanted)
        report.save_html(folder / "page.html")
        report.save_csv(folder / "table.csv")
    looked = lookup(folder / "art.index", "Ann Artist", findings=[file])
    if looked.works and not any(work.replicas for work in looked.works):
        problems.append("the look-up does not show what replicates the artist's work")
    return problems


def write(folder: Path, recorded: dict[str, Any]) -> list[str]:
    """A writer migrates, adds, removes, compacts and calibrates; what was there answers as before."""
    place = folder / "art.index"
    with ReferenceIndex.open(place, writable=True) as index:
        problems = [f"check after migrating: {text}" for text in index.check()]
        imports = bool(index.imported())
        size = len(index)
    problems += _compared("schema", _schema(place), SCHEMA_VERSION)
    problems += _compared("answers of the migrated", answers(folder), recorded["answers"])
    if imports:  # embeddings alone: pictures cannot be added to it
        return problems
    report = build_index(folder / "queries" / "other.png", place)
    problems += _compared("added", report.added, 1)
    found = answers(folder)
    wanted = {name: value for name, value in recorded["answers"].items() if name != "queries/other.png"}
    problems += _compared("answers beside a new picture", {n: found[n] for n in wanted}, wanted)
    problems += _compared("level of the new picture", found["queries/other.png"]["level"], 5)
    with ReferenceIndex.open(place, writable=True) as index:
        index.remove(path=str(folder / "queries" / "other.png"), erase=True)
        index.compact()
        index.calibrate()
        problems += [f"check after compacting: {text}" for text in index.check()]
        problems += _compared("references in the end", len(index), size)
    return problems + _compared("answers in the end", answers(folder), recorded["answers"])


def kept(folder: Path, recorded: dict[str, Any]) -> list[str]:
    """What only some formats have is still there: requests, what was erased, imports, sketches, windows."""
    place = folder / "art.index"
    name = str(recorded["name"])
    problems: list[str] = []
    with ReferenceIndex.open(place, writable=True) as index:
        if name == "requests":
            problems += _compared("requests", [each.name for each in index.requests()], ["Ann Artist"])
        if name == "imported":
            problems += _compared("imports", len(index.imported()), 1)
        if name == "sketches":
            problems += _compared("sketches", list(index.sketches()), ["clip:bundled"])
        if name == "squares":
            problems += _compared("windows and squares", (index.has_regions, index.has_squares), (True, True))
    if name == "requests":  # a build of the same pictures passes over what was erased
        build_index(folder / "works", place)
        with ReferenceIndex.open(place) as index:
            paths = [entry[1][0].path for entry in map(index.reference, index.reference_ids()) if entry]
        problems += [f"{path} is back" for path in paths if path.endswith(Path(ERASED).name)]
    return problems


ATTEMPTS: dict[str, Attempt] = {
    "read": read,
    "scanned": scan,
    "findings read": findings,
    "written to": write,
    "kept what it held": kept,
}


def _schema(place: Path) -> int:
    with closing(sqlite3.connect(place / "catalog.sqlite")) as catalogue:
        return int(catalogue.execute("PRAGMA user_version").fetchone()[0])


# Newer formats


def _raised(path: Path, by: int = 1) -> None:
    values = json.loads(
        path.read_text(encoding="utf-8").splitlines()[0] if path.suffix == ".jsonl" else path.read_text()
    )
    values["format_version"] += by
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")


def newer(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield (what has a format of one more, a call that must refuse it)."""
    unpacked("requests", folder)
    place = folder / "art.index"
    manifest, catalogue = folder / "manifest.index", folder / "catalogue.index"
    for copy in (manifest, catalogue):
        shutil.copytree(place, copy)
    _raised(manifest / "manifest.json")
    with closing(sqlite3.connect(catalogue / "catalog.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for what, copy in (("manifest", manifest), ("catalogue", catalogue)):
        yield f"{what}, by a reader", lambda copy=copy: ReferenceIndex.open(copy)  # type: ignore[misc]
        yield f"{what}, by a writer", lambda copy=copy: ReferenceIndex.open(copy, writable=True)  # type: ignore[misc]
        yield f"{what}, by a build", lambda copy=copy: build_index(folder / "works", copy)  # type: ignore[misc]
    lines = folder / "newer.jsonl"
    shutil.copy(folder / "findings.jsonl", lines)
    _raised(lines)
    yield "findings, by a report", lambda: list(read_report(lines))
    yield "findings, by a look-up", lambda: lookup(place, "Ann Artist", findings=[lines])
    model = folder / "newer.json"
    shutil.copy(FORMATS / "scoring.json", model)
    _raised(model)
    yield "scoring model", lambda: load_model(model)
    log, identity = folder / "audit" / LOG, audit_identity()
    log.parent.mkdir()
    shutil.copy(FORMATS / LOG, log)
    _raised(log)
    yield "audit's log", lambda: Log(log.parent, identity).__enter__()
    policy = folder / "newer.toml"
    policy.write_text("format_version = 2\nallow = []\n", encoding="utf-8")
    yield "policy", lambda: Policy.from_file(policy)


def refused(call: Callable[[], object]) -> list[str]:
    """Say what is wrong with how a call refuses a newer format."""
    try:
        call()
    except DetectorError as error:
        return [] if "pip install -U" in str(error) else [f"no way out in: {error}"]
    return ["it was taken as it is"]


# A migration that is killed

KILLED = """
import os, signal, sqlite3, sys
from index import migrations
number = [0]
def told(statement):
    number[0] += 1
    if number[0] > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
connection = sqlite3.connect(sys.argv[1] + "/catalog.sqlite", isolation_level=None)
connection.set_trace_callback(told)
migrations.migrate(connection)
"""


def killed(folder: Path, statements: int) -> tuple[bool, list[str]]:
    """Kill the migration of the first format after so many statements.

    Returns:
        Whether it was still at work, and what is wrong with what it left.
    """
    recorded = unpacked("first", folder)
    place = folder / "art.index"
    done = subprocess.run([sys.executable, "-c", KILLED, str(place), str(statements)], check=False)
    was_killed = done.returncode == -signal.SIGKILL
    problems = [] if was_killed or done.returncode == 0 else [f"the migration ended with {done.returncode}"]
    with closing(sqlite3.connect(place / "catalog.sqlite")) as catalogue:
        version = int(catalogue.execute("PRAGMA user_version").fetchone()[0])
        tables = {row[0] for row in catalogue.execute("SELECT name FROM sqlite_master")}
    newest = {"request", "requested", "forgotten"}
    if (version == 1 and tables & newest) or (version == SCHEMA_VERSION and not newest <= tables):
        problems.append(f"schema {version} with the tables {sorted(tables)}")
    problems += [f"read as it is: {text}" for text in read(folder, recorded)]
    return was_killed, problems + write(folder, recorded)


def run(options: Options) -> Result:
    """Try all of it."""
    work = options.scratch("upgrades")
    rows, failed, tried = [], 0, 0
    for name in NAMES:
        for what, attempt in ATTEMPTS.items():
            recorded = unpacked(name, work / "try") | {"name": name}
            try:
                problems = attempt(work / "try", recorded)
            except Exception as error:  # whatever is raised is what came of it
                problems = [f"{type(error).__name__}: {error}"]
            tried, failed = tried + 1, failed + bool(problems)
            rows.append((name, recorded["commit"], what, "; ".join(problems) or "as recorded"))
            progress(f"upgrades: {name} {what}: {problems or 'as recorded'}")
    refusals = [(what, refused(call)) for what, call in newer(work / "newer")]
    wrong = [(what, "; ".join(problems)) for what, problems in refusals if problems]
    moments = list(range(STATEMENTS))
    if options.quick:
        moments = sorted(random.Random(options.seed).sample(moments, 3))
    kills, torn = 0, 0
    for statements in moments:
        was_killed, problems = killed(work / "killed", statements)
        kills, torn = kills + was_killed, torn + bool(problems)
        progress(f"upgrades: migration killed after {statements} statements: {problems or 'whole'}")
    result = Result("upgrades", pictures=len(list((FORMATS / "works").glob("*.png"))))
    columns = ("frozen index", "written by", "tried", "came out")
    note = f"{len(NAMES)} frozen indexes with their findings, {tried} upgrades tried; seed {options.seed}."
    result.tables.append(Table("Upgrades", columns, rows, note))
    shown = [(what, "; ".join(problems) or "with the way out") for what, problems in refusals]
    result.tables.append(Table("Newer formats", ("what", "refused"), shown))
    result.bar("upgrades tried", tried, least=len(NAMES) * len(ATTEMPTS))
    result.bar("upgrades that failed or answered otherwise", failed, most=0)
    result.bar("newer formats taken, or refused without a way out", len(wrong), most=0)
    result.bar("migrations killed at work", kills, least=1 if options.quick else STATEMENTS - 2)
    result.bar("killed migrations that left half", torn, most=0)
    return result
