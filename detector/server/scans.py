"""`ScanTable`: saved findings as rows to filter, sort and page through, fifty thousand without pain."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.report import ImageReport
from detector.reports.cards import Finding
from detector.reports.jsonl import MAX_LINE_BYTES
from detector.reports.wording import described, file_name, folded, title_of

ROWS_OF_PAGE = 50

MAX_WORDS = 8
"""Of a search; those beyond it are left out."""

MAX_SEARCHED = 4000
"""Characters of a row that a search looks through: names of one picture that stands at many places are many."""

KINDS = ("replica", "possible", "cleared", "no_match", "unreadable")
"""What the rows are filtered by: verdicts, and what a policy cleared."""

SORTS = {
    "closest": "rank, score DESC, number",
    "name": "name, number",
    "artist": "artist = '', artist COLLATE NOCASE, rank, score DESC, number",
    "title": "title = '', title COLLATE NOCASE, rank, score DESC, number",
}
"""Orders of rows, each with an index of its own."""

_COLUMNS = "key, file, start, length, query, kind, level, score, artist, title, licence, reason, sha256"

_SCHEMA = f"""
CREATE TABLE row (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE, file INTEGER, start INTEGER, length INTEGER, query TEXT, kind TEXT,
    level INTEGER, score REAL, artist TEXT, title TEXT, licence TEXT, reason TEXT, sha256 TEXT,
    rank INTEGER, name TEXT, words TEXT
);
CREATE INDEX by_closest ON row ({SORTS["closest"]});
CREATE INDEX by_name ON row ({SORTS["name"]});
CREATE INDEX by_artist ON row ({SORTS["artist"]});
CREATE INDEX by_title ON row ({SORTS["title"]});
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One finding, as the table shows it.

    Attributes:
        key: What it is opened by; the same after the files were read again.
        file: Number of its file in `ScanTable.files`.
        query: Path or name of the generated picture, as in the findings.
        kind: One of `KINDS`.
        level: Of its leading match, 0–5.
        score: Likewise, 0–1.
        artist: Of the work that it replicates or resembles; empty where there is none, or none recorded.
        title: Likewise.
        licence: Likewise.
        reason: Code, where the findings say why.
        sha256: Of the generated picture's file, where the findings say.
    """

    key: str
    file: int
    start: int
    length: int
    query: str
    kind: str
    level: int
    score: float
    artist: str
    title: str
    licence: str
    reason: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows are wanted, in which order.

    Attributes:
        kind: One of `KINDS`; empty for all.
        level: 0–5, or -1 for all.
        text: Words that names of files, artists or titles hold.
        file: Number of a file, or -1 for all.
        sort: One of `SORTS`.
        page: From 1.
    """

    kind: str = ""
    level: int = -1
    text: str = ""
    file: int = -1
    sort: str = "closest"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of rows.

    Attributes:
        rows: Those of this page.
        total: How many there are on all pages.
        page: Which page it is: the last one where a later one was asked for.
        pages: How many there are, at least 1.
    """

    rows: tuple[Row, ...]
    total: int
    page: int
    pages: int


class ScanTable:
    """Rows of saved findings in memory; the findings themselves stay in their files and are read when opened.

    Attributes:
        files: The files, as they were named.
        counts: Rows of each of `KINDS`.
    """

    def __init__(self, files: Sequence[str]) -> None:
        """Read findings; lines that are none are left out, as `Findings.skipped` says.

        Args:
            files: Of JSON lines.

        Raises:
            OSError: One cannot be read.
        """
        self.files = tuple(files)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.executescript(_SCHEMA)
        rows = (row for number, file in enumerate(self.files) for row in _rows(file, number))
        seen: dict[str, int] = {}
        marks = ", ".join("?" * 16)
        with self._database:
            self._database.executemany(
                f"INSERT INTO row ({_COLUMNS}, rank, name, words) VALUES ({marks})",
                (_with_key_of_its_own(row, seen) for row in rows),
            )
            self._database.execute("ANALYZE")
        found = dict(self._all("SELECT kind, COUNT(*) FROM row GROUP BY kind", ()))
        self.counts = {kind: int(found.get(kind, 0)) for kind in KINDS}

    def __len__(self) -> int:
        """Return how many rows there are."""
        return sum(self.counts.values())

    def select(self, choice: Choice) -> Rows:
        """Return one page of the rows that are wanted.

        Args:
            choice: Unknown words in it choose nothing: all rows are shown, or the usual order.
        """
        where, values = _where(choice)
        total = int(self._all(f"SELECT COUNT(*) FROM row {where}", values)[0][0])
        pages = max(1, -(-total // ROWS_OF_PAGE))
        page = min(max(1, choice.page), pages)
        order = SORTS.get(choice.sort, SORTS["closest"])
        if not total:
            return Rows((), 0, 1, 1)
        found = self._all(
            f"SELECT {_COLUMNS} FROM row {where} ORDER BY {order} LIMIT ? OFFSET ?",
            (*values, ROWS_OF_PAGE, (page - 1) * ROWS_OF_PAGE),
        )
        return Rows(tuple(Row(*row) for row in found), total, page, pages)

    def row(self, key: str) -> Row | None:
        """Return a row by its key, or None."""
        found = self._all(f"SELECT {_COLUMNS} FROM row WHERE key = ?", (key,))
        return Row(*found[0]) if found else None

    def report(self, row: Row) -> ImageReport | None:
        """Return the finding of a row, read from its file; None where the file has changed."""
        try:
            with open(self.files[row.file], "rb") as file:
                file.seek(row.start)
                report = _report(file.read(row.length))
        except OSError:
            return None
        return report if report is not None and _storable(report.query) == row.query else None

    def close(self) -> None:
        """Free the rows."""
        with self._lock:
            self._database.close()

    def _all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def key_of(file: str, query: str, sha256: str) -> str:
    """Return what a finding is opened by: 20 hex digits that tell nothing of where it lies.

    Args:
        file: The file of findings, as it was named.
        query: As in the findings.
        sha256: Likewise.
    """
    return hashlib.sha256("\0".join((file, query, sha256)).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _where(choice: Choice) -> tuple[str, tuple[Any, ...]]:
    parts: list[tuple[str, Any]] = []
    if choice.kind in KINDS:
        parts.append(("kind = ?", choice.kind))
    if 0 <= choice.level <= 5:
        parts.append(("level = ?", choice.level))
    if choice.file >= 0:
        parts.append(("file = ?", choice.file))
    parts += [("instr(words, ?) > 0", word) for word in folded(choice.text).split()[:MAX_WORDS]]
    if not parts:
        return "", ()
    return "WHERE " + " AND ".join(part for part, _ in parts), tuple(value for _, value in parts)


def _rows(file: str, number: int) -> Iterator[tuple[Any, ...]]:
    start = 0
    with Path(file).open("rb") as stream:
        for raw in iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""):
            report = _report(raw)
            if report is not None:
                yield _row(report, file, number, start, len(raw))
            start += len(raw)


def _report(raw: bytes) -> ImageReport | None:
    try:
        return ImageReport.from_dict(json.loads(raw.decode("utf-8-sig")))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _row(report: ImageReport, file: str, number: int, start: int, length: int) -> tuple[Any, ...]:
    finding = Finding.of(report)
    kind, level, score, artist, title, licence = report.verdict.value, report.level, report.score, "", "", ""
    words = [report.query]
    if finding is not None:
        kind, level, score = finding.kind, finding.lead.level, finding.lead.score
        place = described(finding.lead.reference.occurrences)
        artist, title, licence = place.artist.strip(), title_of(place), ", ".join(finding.licences)
        for match in report.matches:
            for occurrence in match.reference.occurrences:
                words += [occurrence.artist, occurrence.title, file_name(occurrence.path)]
    searched = folded(" ".join(dict.fromkeys(word for word in words if word)))[:MAX_SEARCHED]
    rank = 10 * KINDS.index(kind) - level
    key = key_of(file, report.query, report.sha256)
    texts = (report.query, kind, level, score, artist, title, licence, report.reason or "", report.sha256)
    row = (key, number, start, length, *texts, rank, _padded(folded(report.query)), searched)
    return tuple(_storable(value) for value in row)


def _padded(name: str) -> str:
    """Return a name that sorts as people count: 2 before 10."""
    return re.sub(r"\d+", lambda found: found.group().zfill(12), name)


def _storable(value: Any) -> Any:
    """Return text without the lone surrogates that SQLite refuses: undecodable bytes of file names."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _with_key_of_its_own(row: tuple[Any, ...], seen: dict[str, int]) -> tuple[Any, ...]:
    """Return a row under a key that no other has: a file may hold a finding twice."""
    key = row[0]
    seen[key] = seen.get(key, 0) + 1
    return row if seen[key] == 1 else (f"{key}-{seen[key]}", *row[1:])
