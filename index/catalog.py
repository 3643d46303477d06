"""The catalogue of an index: references, occurrences, rejected files, segments and requests, in SQLite.

A transaction here is the one commit point of an index folder: what it does not name does not exist.
Longer than 400 lines because all SQL about the catalogue stands in one place.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from index.credits import Credits
from index.errors import IndexCorruptError, IndexLockedError, IndexVersionError, IndexWriteError
from index.items import Rejected, in_utf8
from index.migrations import REQUESTS_SINCE, SCHEMA_VERSION, foreign_parts, migrate
from index.plain import odd_beside
from index.segments import STEM

FILE_NAME = "catalog.sqlite"
WRITER_CACHE_KB = 65_536
"""Digests come in no order, so that a commit touches pages all over their index: with SQLite's 2 MB, 330,000 references
in commits of 16,384 took 1.9 times as long."""

LOG_PAGES = 8_192
"""Pages of 4 KB in the write-ahead log before they go into the file: the same page of digests, changed by many
commits, is then written there once. 100,000 references took 0.86, 0.89 and 1.00 of the time with SQLite's 1,000."""

_ASKED = 500
"""Values in one question; SQLite before 3.32 takes up to 999."""

MAX_VALUE_BYTES = 256 * 1024 * 1024
"""Longest text that is read; SQLite's own limit lets four times as much be made of a few bytes."""

_SEGMENT = re.compile(rf"{STEM}\.npy")

_to_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode

TIMEOUT_S = 30.0
"""How long another connection's lock is waited for."""


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """A reference as stored.

    Attributes:
        id: Never used again after the reference is erased.
        sha256: Hex digest of its file.
        width: Of the picture as stored in its file, upright, in pixels.
        height: Likewise.
        trim: Fractions (left, top, right, bottom) of the picture that were described.
    """

    id: int
    sha256: str
    width: int
    height: int
    trim: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class OccurrenceRecord:
    """One place a reference came from.

    Attributes:
        path: The locator its source gave it; unique in an index.
        size: Bytes of the file at that time, -1 unknown.
        mtime_ns: When the file was last changed then, 0 unknown.
    """

    path: str
    credits: Credits
    size: int = -1
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One immutable file of rows, with its ids file beside it.

    Attributes:
        file: Name of the rows file under ``vectors/``; the ids are in the same name with ``.ids.npy``.
        rows: How many rows it holds.
        sha256: Hex digest of the bytes of rows file and ids file, in this order.
    """

    id: int
    descriptor: str
    file: str
    rows: int
    sha256: str


class Catalog:
    """A connection to one catalogue; safe to share between threads."""

    def __init__(self, folder: Path, *, writable: bool, create: bool = False) -> None:
        """Connect, and migrate when writable.

        Args:
            folder: The index folder.
            writable: Whether to change it: this process holds the index's lock, or files a removal request.
            create: Make the file when there is none.

        Raises:
            IndexVersionError: It was written by a newer version.
            IndexCorruptError: It is no catalogue.
            IndexWriteError: It cannot be written to, though asked to.
        """
        self.path = folder / FILE_NAME
        self._folder = folder
        self._lock = threading.RLock()
        self._writable = writable
        self._create = create
        if not create and not self.path.is_file():
            raise IndexCorruptError(
                folder, f"its {FILE_NAME} is missing. Restore it, or build the index anew"
            )
        if odd := odd_beside(self.path):  # a reader, too, writes there
            raise IndexCorruptError(folder, f"its {odd} is a link or no file. Delete that one")
        try:
            self._connection = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _connect(self) -> sqlite3.Connection:
        options: dict[str, Any] = {"check_same_thread": False, "isolation_level": None, "timeout": TIMEOUT_S}
        connection: sqlite3.Connection
        if self._writable:
            connection = sqlite3.connect(self.path, **options)
            return connection
        # Readers write nothing, but the last of them has to tidy the write-ahead log away.
        address = self.path.absolute().as_uri()
        try:
            connection = sqlite3.connect(f"{address}?mode=rw", uri=True, **options)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master")
                connection.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()
                raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            # A catalogue in a folder that cannot be written to: no writer can be at work there either.
            connection = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, **options)
        return connection

    def _prepare(self) -> None:
        run = self._connection.execute
        if sys.version_info >= (3, 11):
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        run("PRAGMA trusted_schema = OFF")
        # One read transaction: another process may migrate in the meantime. A reader holds it open, and so stays on
        # the generation it opened.
        run("BEGIN")
        found = int(run("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA_VERSION:
            raise IndexVersionError(self._folder, found, SCHEMA_VERSION)
        if found <= 0 and not self._create:
            raise IndexCorruptError(
                self._folder, f"its {FILE_NAME} is empty. Restore it, or build the index anew"
            )
        if found > 0 and (foreign := foreign_parts(self._connection, found)):
            raise IndexCorruptError(
                self._folder,
                f"its {FILE_NAME} has other tables than this program makes ({foreign[0][:60]!r}). Build the index anew",
            )
        self._schema = SCHEMA_VERSION if self._writable else found
        if self._writable:
            run("COMMIT")
            # For good: the mode cannot be changed while a reader is connected, as one may be at any time.
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = FULL")
            run("PRAGMA secure_delete = ON")
            run("PRAGMA foreign_keys = ON")
            run(f"PRAGMA cache_size = -{WRITER_CACHE_KB}")
            run(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            migrate(self._connection)
        else:
            run("SELECT value FROM fact WHERE key = 'generation'").fetchone()

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        text = str(error)
        if "locked" in text:
            return IndexLockedError(self._folder, "is in use by another program. Wait for it, then try again")
        if "disk is full" in text or "disk I/O" in text:
            return IndexWriteError(
                self._folder, f"cannot be written: {text}. Free some space; nothing is lost"
            )
        if "readonly" in text or "unable to open" in text:
            return IndexWriteError(self._folder, f"cannot be written: {text}. Check its permissions")
        return IndexCorruptError(
            self._folder, f"its {FILE_NAME} cannot be read ({text}). Restore it, or build the index anew"
        )

    def close(self) -> None:
        """Disconnect; the last to do so leaves one plain file behind."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self, *, new_generation: bool = True) -> Iterator[None]:
        """Run the block's changes as one commit.

        Args:
            new_generation: Raise the generation by one: what can be found has changed.

        Raises:
            IndexWriteError: The disk is full or the folder cannot be written to; nothing changed.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    if new_generation:
                        self._connection.execute(
                            "UPDATE fact SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'"
                        )
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def _number(self, query: str, values: Sequence[Any] = ()) -> int:
        rows = self._rows(query, values)
        try:
            return int(rows[0][0])
        except (IndexError, TypeError, ValueError) as error:
            raise self._garbled(query.partition(" FROM ")[2] or query) from error

    def _typed(self, rows: list[Any], *kinds: type, what: str) -> list[Any]:
        """Return rows whose values are of the types that they were stored with; SQLite would keep any in any column."""
        for place, kind in enumerate(kinds):  # in C: there may be millions of rows
            if not set(map(type, map(itemgetter(place), rows))) <= {kind}:
                raise self._garbled(what)
        return rows

    def _parsed(self, text: str, kind: type, what: str) -> Any:
        """Return a stored JSON value of a type."""
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._garbled(what) from error
        if not isinstance(value, kind):
            raise self._garbled(what)
        return value

    def _garbled(self, what: str) -> IndexCorruptError:
        return IndexCorruptError(
            self._folder,
            f"its {FILE_NAME} holds garbled values ({what}). Restore it, or build the index anew",
        )

    # Facts

    @property
    def generation(self) -> int:
        """How many commits the index has seen; removal requests are none."""
        return self._number("SELECT value FROM fact WHERE key = 'generation'")

    def fact(self, key: str) -> Any:
        """Return a stored JSON value, or None."""
        rows = self._rows("SELECT value FROM fact WHERE key = ?", (key,))
        return self._parsed(rows[0][0], object, f"fact {key}") if rows else None

    def set_fact(self, key: str, value: Any) -> None:
        """Store a JSON value; call inside `transaction`."""
        text = json.dumps(value, sort_keys=True)
        self._rows("INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)", (key, text))

    # References and occurrences

    @property
    def last_id(self) -> int:
        """The highest id that a reference was ever given, 0 where there was none."""
        return self._number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'reference'")

    def counts(self) -> tuple[int, int, int]:
        """Return how many references, occurrences and rejected files there are."""
        return (
            self._number("SELECT count(*) FROM reference"),
            self._number("SELECT count(*) FROM occurrence"),
            self._number("SELECT count(*) FROM rejected"),
        )

    def reference_ids(self) -> list[int]:
        """Return all ids, ascending."""
        return [int(row[0]) for row in self._rows("SELECT id FROM reference ORDER BY id")]

    def live_ranges(self) -> list[tuple[int, int]]:
        """Return the first and last id of each unbroken run of references, ascending."""
        count, first, last = self._rows("SELECT count(*), min(id), max(id) FROM reference")[0]
        if not count:
            return []
        ends: list[tuple[int, int]] = []
        if last - first + 1 != count:
            ends = self._rows(
                "SELECT id, next FROM (SELECT id, lead(id) OVER (ORDER BY id) AS next FROM reference) "
                "WHERE next > id + 1 ORDER BY id"
            )
        starts = [first, *(after for _, after in ends)]
        return list(zip(starts, [*(before for before, _ in ends), last], strict=True))

    def id_of(self, sha256: str) -> int | None:
        """Return the id of the reference with this digest, or None."""
        rows = self._rows("SELECT id FROM reference WHERE sha256 = ?", (sha256,))
        return int(rows[0][0]) if rows else None

    def reference(self, reference_id: int) -> ReferenceRecord | None:
        """Return a reference, or None where there is none with this id."""
        rows = self._rows(
            "SELECT id, sha256, width, height, trim FROM reference WHERE id = ?", (reference_id,)
        )
        if not rows:
            return None
        number, sha256, width, height, trim = self._typed(rows, int, str, int, int, str, what="reference")[0]
        return ReferenceRecord(number, sha256, width, height, self._trim(trim))

    def _trim(self, text: str) -> tuple[float, float, float, float]:
        if not text:
            return (0.0, 0.0, 1.0, 1.0)
        edges = self._parsed(text, list, "trim")
        if len(edges) != 4 or not all(isinstance(each, int | float) and 0.0 <= each <= 1.0 for each in edges):
            raise self._garbled("trim")
        return (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3]))

    def occurrences(self, reference_id: int) -> tuple[OccurrenceRecord, ...]:
        """Return the occurrences of a reference, in the order they were added."""
        columns = "path, size, mtime_ns, artist, title, licence, source, caption, extra"
        rows = self._rows(
            f"SELECT {columns} FROM occurrence WHERE reference_id = ? ORDER BY id", (reference_id,)
        )
        kinds = (str, int, int, str, str, str, str, str, str)
        return tuple(
            OccurrenceRecord(
                path, Credits(artist, title, licence, source, caption, self._extra(extra)), size, mtime_ns
            )
            for path, size, mtime_ns, artist, title, licence, source, caption, extra in self._typed(
                rows, *kinds, what="occurrence"
            )
        )

    def _extra(self, text: str) -> dict[str, str]:
        if text == "{}":
            return {}
        values = self._parsed(text, dict, "extra")
        if not all(isinstance(value, str) for value in values.values()):
            raise self._garbled("extra")
        return dict(values)

    def is_known(self, path: str, size: int, mtime_ns: int, *, but_rejected_as: str = "") -> bool:
        """Say whether this occurrence, or its rejection, is recorded with this size and time of change.

        Args:
            path: Of the occurrence.
            size: In bytes.
            mtime_ns: When its file was last changed.
            but_rejected_as: Rejections with this reason do not count.
        """
        if size < 0 or mtime_ns == 0:
            return False
        query = (
            "SELECT EXISTS (SELECT 1 FROM occurrence WHERE path = ?1 AND size = ?2 AND mtime_ns = ?3) OR EXISTS "
            "(SELECT 1 FROM rejected WHERE path = ?1 AND size = ?2 AND mtime_ns = ?3 AND reason <> ?4)"
        )
        return bool(self._number(query, (path, size, mtime_ns, but_rejected_as)))

    def known_among(
        self, paths: Sequence[str], size: int, mtime_ns: int, *, but_rejected_as: str = ""
    ) -> set[str]:
        """Return those of some paths that `is_known` says yes to, all with this size and time of change."""
        if size < 0 or mtime_ns == 0:
            return set()
        known: set[str] = set()
        for some in _portions(paths):
            places = ",".join("?" * len(some))
            query = f"SELECT path FROM occurrence WHERE path IN ({places}) AND size = ? AND mtime_ns = ?"
            known.update(str(row[0]) for row in self._rows(query, (*some, size, mtime_ns)))
            query = (
                f"SELECT path FROM rejected WHERE path IN ({places}) AND size = ? AND mtime_ns = ? "
                "AND reason <> ?"
            )
            known.update(str(row[0]) for row in self._rows(query, (*some, size, mtime_ns, but_rejected_as)))
        return known

    def ids_of(self, digests: Iterable[str]) -> dict[str, int]:
        """Return the ids of those references that are there, by digest."""
        found = self._matching("SELECT sha256, id FROM reference WHERE sha256 IN", digests)
        return {str(sha256): int(number) for sha256, number in found}

    def _matching(self, query: str, values: Iterable[Any]) -> Iterator[Any]:
        """Yield what a query that ends in ``IN`` finds, so many values a question as every SQLite takes."""
        for some in _portions(values):
            yield from self._rows(f"{query} ({','.join('?' * len(some))})", some)

    def _many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        with self._lock:
            try:
                self._connection.executemany(statement, values)
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def add_references(
        self, references: Sequence[tuple[str, int, int, tuple[float, float, float, float]]]
    ) -> range:
        """Insert references that are not there yet; call inside `transaction`.

        Args:
            references: Digest, width, height and trim of each.

        Returns:
            Their ids, in the same order, above all that were ever given.
        """
        first = self.last_id + 1
        ids = range(first, first + len(references))
        self._many(
            "INSERT INTO reference (id, sha256, width, height, trim) VALUES (?, ?, ?, ?, ?)",
            (
                (number, sha256, width, height, "" if trim == (0.0, 0.0, 1.0, 1.0) else json.dumps(trim))
                for number, (sha256, width, height, trim) in zip(ids, references, strict=True)
            ),
        )
        return ids

    def put_occurrences(self, placed: Iterable[tuple[int, OccurrenceRecord]]) -> list[int]:
        """Insert or replace occurrences, each under its path; call inside `transaction`.

        Args:
            placed: Ids of references and what is to be theirs; of one path given twice the last counts.

        Returns:
            The ids of references that a path belonged to before, where that was another one.
        """
        last: dict[str, tuple[int, OccurrenceRecord]] = {}
        bereft: list[int] = []
        for number, occurrence in placed:
            earlier = last.pop(occurrence.path, None)  # so that the last one also comes last
            if earlier is not None:
                bereft.append(earlier[0])
            last[occurrence.path] = number, occurrence
        query = "SELECT path, reference_id FROM occurrence WHERE path IN"
        before = {str(path): int(number) for path, number in self._matching(query, last)}
        bereft += (number for path, number in before.items() if number != last[path][0])
        if self._number("SELECT EXISTS (SELECT 1 FROM rejected)"):
            self._many("DELETE FROM rejected WHERE path = ?", ((path,) for path in last))
        self._many("DELETE FROM occurrence WHERE path = ?", ((path,) for path in before))
        self._many(
            "INSERT INTO occurrence (reference_id, path, size, mtime_ns, artist, title, licence, source, "
            "caption, extra) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_occurrence_values(number, occurrence) for number, occurrence in last.values()),
        )
        return bereft

    def put_rejected(self, rejected: Rejected, *, size: int = -1, mtime_ns: int = 0) -> None:
        """Record a file that could not become a reference; call inside `transaction`."""
        self._rows(
            "INSERT OR REPLACE INTO rejected (path, reason, detail, size, mtime_ns) VALUES (?, ?, ?, ?, ?)",
            (rejected.locator, rejected.reason, rejected.detail, size, mtime_ns),
        )

    def rejected(self, *, limit: int = -1) -> list[Rejected]:
        """Return recorded rejections, by path."""
        rows = self._rows("SELECT path, reason, detail FROM rejected ORDER BY path LIMIT ?", (limit,))
        return [Rejected(*row) for row in self._typed(rows, str, str, str, what="rejected")]

    def find_occurrences(
        self, *, path: str | None = None, artist: str | None = None, source_contains: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (path, reference id) of the occurrences that fit every given condition, by path.

        Args:
            path: An exact path, or a folder or shard that it lies in.
            artist: An exact artist, whatever its case.
            source_contains: A part of the source.
        """
        conditions, values = ["1"], []
        if path is not None:
            trunk = in_utf8(path).rstrip("/")
            # "0" comes after "/" and ";" after ":". Ranges, unlike beginnings, are looked up in the index of paths.
            conditions.append("(path = ? OR (path >= ? AND path < ?) OR (path >= ? AND path < ?))")
            values += [trunk, trunk + "/", trunk + "0", trunk + "::", trunk + ":;"]
        if artist is not None:
            names = [name for name in self._artists() if name.casefold() == artist.casefold()]
            conditions.append("artist IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(names))
        if source_contains is not None:
            conditions.append("instr(source, ?) > 0")
            values.append(in_utf8(source_contains))
        query = f"SELECT path, reference_id FROM occurrence WHERE {' AND '.join(conditions)} ORDER BY path"
        return [
            (path, number)
            for path, number in self._typed(self._rows(query, values), str, int, what="occurrence")
        ]

    def _artists(self) -> Iterator[str]:
        """Yield every artist once, from one to the next in their index: as many steps as there are artists."""
        query = "SELECT artist FROM occurrence WHERE artist > ? ORDER BY artist LIMIT 1"
        name = ""
        if self._rows("SELECT 1 FROM occurrence WHERE artist = '' LIMIT 1"):
            yield name
        while found := self._typed(self._rows(query, (name,)), str, what="artist"):
            name = found[0][0]
            yield name

    def named(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Yield (reference id, artist, extra columns) of the occurrences that have any, each triple once."""
        query = (
            "SELECT DISTINCT reference_id, artist, extra FROM occurrence WHERE artist != '' OR extra != '{}'"
        )
        rows = self._rows(query + " ORDER BY reference_id, artist, extra")
        for number, artist, extra in self._typed(rows, int, str, str, what="occurrence"):
            yield number, artist, self._extra(extra)

    def forget(self, paths: Iterable[str]) -> None:
        """Delete occurrences and rejections by path; call inside `transaction`."""
        for path in paths:
            self._rows("DELETE FROM occurrence WHERE path = ?", (path,))
            self._rows("DELETE FROM rejected WHERE path = ?", (path,))

    def drop_orphans(self, among: Iterable[int]) -> list[str]:
        """Delete those of some references that have no occurrence left; call inside `transaction`.

        Args:
            among: Ids of references that have lost one; so that the work does not grow with the index.

        Returns:
            Digests of the deleted.
        """
        digests: list[str] = []
        for number in sorted(set(among)):
            where = "id = ?1 AND NOT EXISTS (SELECT 1 FROM occurrence WHERE reference_id = ?1)"
            digests += [
                row[0] for row in self._rows(f"SELECT sha256 FROM reference WHERE {where}", (number,))
            ]
            self._rows(f"DELETE FROM reference WHERE {where}", (number,))
        return digests

    def digests(self) -> set[str]:
        """Return the digests of all references."""
        return {str(row[0]) for row in self._rows("SELECT sha256 FROM reference")}

    # Removal requests, and what erased pictures are known again by (`index.requests`)

    def requests(self, *, state: str | None = None, id_begins: str = "") -> list[tuple[Any, ...]]:
        """Return requests, newest first; none where the catalogue is older than they are.

        Returns:
            Rows of number, id, state, made, name, contact, statement, decided, reason.
        """
        if self._schema < REQUESTS_SINCE:
            return []
        query = (
            "SELECT number, id, state, made, name, contact, statement, decided, reason FROM request "
            "WHERE (?1 IS NULL OR state = ?1) AND substr(id, 1, length(?2)) = ?2 ORDER BY number DESC"
        )
        rows = self._rows(query, (state, id_begins))
        return [tuple(row) for row in self._typed(rows, int, *[str] * 8, what="request")]

    def requested(self, number: int) -> tuple[str, ...]:
        """Return the digests, or the keys of erased pictures, that a request names, sorted."""
        rows = self._rows("SELECT picture FROM requested WHERE number = ? ORDER BY picture", (number,))
        return tuple(str(row[0]) for row in rows)

    def add_request(self, texts: tuple[str, str, str, str, str], digests: Iterable[str]) -> None:
        """Insert an open request; call inside `transaction`.

        Args:
            texts: Its id, when it was made, name, contact, statement.
            digests: Of the references asked about.
        """
        with self._lock:
            cursor = self._connection.execute(
                "INSERT INTO request (id, state, made, name, contact, statement) "
                "VALUES (?, 'open', ?, ?, ?, ?)",
                texts,
            )
            number = cursor.lastrowid
            self._connection.executemany(
                "INSERT INTO requested (number, picture) VALUES (?, ?)", [(number, d) for d in digests]
            )

    def decide_request(self, request_id: str, state: str, *, decided: str, reason: str) -> None:
        """Record the decision on a request; call inside `transaction`."""
        self._rows(
            "UPDATE request SET state = ?, decided = ?, reason = ? WHERE id = ?",
            (state, decided, reason, request_id),
        )

    def forgotten(self) -> frozenset[str]:
        """Return the keys of pictures that are not to be taken in again."""
        if self._schema < REQUESTS_SINCE:
            return frozenset()
        return frozenset(str(row[0]) for row in self._rows("SELECT key FROM forgotten"))

    def forgotten_among(self, digests: Iterable[str], key_of: Callable[[str], str]) -> dict[str, str]:
        """Return the keys of those of some pictures that are not to be taken in again, by digest.

        Args:
            digests: Of the pictures.
            key_of: Gives the key of a digest; not asked where nothing was ever erased.
        """
        if self._schema < REQUESTS_SINCE or not self._number("SELECT EXISTS (SELECT 1 FROM forgotten)"):
            return {}
        keys = {digest: key_of(digest) for digest in digests}
        found = {
            str(row[0]) for row in self._matching("SELECT key FROM forgotten WHERE key IN", keys.values())
        }
        return {digest: key for digest, key in keys.items() if key in found}

    def remember_forgotten(self, keys: Mapping[str, str], made: str) -> None:
        """Keep keys of erased pictures, and put them in place of digests in requests; call inside `transaction`.

        Args:
            keys: By digest.
            made: The time of it.
        """
        for digest, key in keys.items():
            self._rows("INSERT OR IGNORE INTO forgotten (key, made) VALUES (?, ?)", (key, made))
            self._rows("UPDATE requested SET picture = ? WHERE picture = ?", (key, digest))

    def take_back(self, keys: Iterable[str]) -> None:
        """Forget that pictures were erased; call inside `transaction`."""
        for key in keys:
            self._rows("DELETE FROM forgotten WHERE key = ?", (key,))

    # Segments

    def segments(self, descriptor: str | None = None) -> list[SegmentRecord]:
        """Return the segments (of one descriptor), oldest first."""
        query = (
            "SELECT id, descriptor, file, rows, sha256 FROM segment "
            "WHERE ?1 IS NULL OR descriptor = ?1 ORDER BY id"
        )
        rows = self._typed(self._rows(query, (descriptor,)), int, str, str, int, str, what="segment")
        for _, _, file, count, _ in rows:
            if not _SEGMENT.fullmatch(file) or count < 1:
                raise self._garbled(f"segment {file[:80]}")
        return [SegmentRecord(*row) for row in rows]

    def add_segment(self, descriptor: str, file: str, rows: int, sha256: str) -> None:
        """Name a segment whose bytes are on disk; call inside `transaction`."""
        self._rows(
            "INSERT INTO segment (descriptor, file, rows, sha256) VALUES (?, ?, ?, ?)",
            (descriptor, file, rows, sha256),
        )

    def drop_segments(self, ids: Iterable[int]) -> None:
        """Forget segments; call inside `transaction`."""
        for number in ids:
            self._rows("DELETE FROM segment WHERE id = ?", (number,))

    # Care

    def problems(self) -> list[str]:
        """Return what SQLite's own integrity check and the foreign keys complain of."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check") if row[0] != "ok"]
        found += [
            f"{row[0]} row {row[1]} names no {row[2]}" for row in self._rows("PRAGMA foreign_key_check")
        ]
        return found

    def vacuum(self) -> None:
        """Rewrite the file without its free pages, and the log with what was deleted."""
        self._rows("VACUUM")
        self.empty_log()

    def empty_log(self) -> None:
        """Bring what the log holds into the file, and cut the log to nothing where no reader needs it."""
        # Beside a reader the log has to stay; waiting for it to leave would not help.
        self._rows("PRAGMA busy_timeout = 0")
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        self._rows(f"PRAGMA busy_timeout = {int(TIMEOUT_S * 1000)}")


def _portions(values: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(values)
    while some := list(islice(left, _ASKED)):
        yield some


def _occurrence_values(reference_id: int, occurrence: OccurrenceRecord) -> tuple[Any, ...]:
    named = occurrence.credits
    return (
        reference_id,
        occurrence.path,
        occurrence.size,
        occurrence.mtime_ns,
        named.artist,
        named.title,
        named.licence,
        named.source,
        named.caption,
        _to_json(named.extra) if named.extra else "{}",
    )
