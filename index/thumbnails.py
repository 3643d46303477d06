"""Small WebP copies of references, in an SQLite file of their own, for verification and for reports."""

from __future__ import annotations

import io
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from index.errors import IndexCorruptError, IndexWriteError
from index.images import Picture

FILE_NAME = "thumbnails.sqlite"
SIDE = 320
"""Long side in pixels: what verification compares at, and what a report shows."""

MAX_BYTES = 16 * 1024 * 1024
"""Longest thumbnail that is read: more than one of raw pixels has."""

QUALITY = 75
_TABLE = "CREATE TABLE thumbnail (sha256 TEXT PRIMARY KEY, webp BLOB NOT NULL)"

METHOD = 1
"""WebP effort. 0 is a quarter faster and 12 % larger; 4, the default, takes three times as long."""


def encode(picture: Picture) -> bytes:
    """Return a picture's thumbnail as WebP."""
    image = picture.to_pil().copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()


class Thumbnails:
    """The thumbnails of one index, by digest of the reference. Written before the catalogue commits."""

    def __init__(self, folder: Path, *, writable: bool) -> None:
        """Connect to the file, making it when writable; without one there are no thumbnails."""
        self._folder = folder
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._checked = False
        path = folder / FILE_NAME
        options: dict[str, Any] = {"check_same_thread": False, "timeout": 30.0}
        try:
            if writable:
                self._connection = sqlite3.connect(path, **options)
                self._connection.execute("PRAGMA secure_delete = ON")
                # EXTRA, not FULL: the catalogue counts on what was put here, and with FULL a power cut that brings
                # the rollback journal back undoes the last commit (https://sqlite.org/pragma.html#pragma_synchronous).
                self._connection.execute("PRAGMA synchronous = EXTRA")
                self._connection.execute(_TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))
                if path.with_name(f"{path.name}-journal").exists():
                    # A killed writer had begun it and changed nothing yet: SQLite overwrites it with the next change
                    # and deletes it then, which may be never.
                    self._connection.execute("PRAGMA user_version = 0")
            elif path.is_file():
                # Readers write nothing, but have to undo what a writer that was killed left half done.
                address = path.absolute().as_uri()
                try:
                    self._connection = sqlite3.connect(f"{address}?mode=rw", uri=True, **options)
                except sqlite3.OperationalError:  # a folder that cannot be written to
                    self._connection = sqlite3.connect(f"{address}?mode=ro", uri=True, **options)
                self._connection.execute("PRAGMA query_only = ON")
        except sqlite3.DatabaseError as error:
            self.close()
            raise self._translated(error) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse views that compute without end, and triggers: a file of thumbnails has the one table.

        Asked before the first use, not on opening: an index is of use without its thumbnails.
        """
        if self._checked:
            return
        if sys.version_info >= (3, 11):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
        connection.execute("PRAGMA trusted_schema = OFF")
        found = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        if found != [_TABLE]:
            raise sqlite3.DatabaseError("it has other tables than this program makes")
        self._checked = True

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        text = str(error)
        if any(words in text for words in ("disk is full", "disk I/O", "readonly", "unable to open")):
            return IndexWriteError(
                self._folder, f"cannot be written: {text}. Free some space or fix permissions"
            )
        return IndexCorruptError(
            self._folder,
            f"its {FILE_NAME} cannot be read ({text}). Delete that file: matching goes on without thumbnails",
        )

    def _run(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        if self._connection is None:
            return []
        with self._lock:
            try:
                self._check(self._connection)
                return self._connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def get(self, sha256: str) -> bytes | None:
        """Return the thumbnail of a reference as WebP, or None."""
        rows = self._run("SELECT webp FROM thumbnail WHERE sha256 = ?", (sha256,))
        if not rows:
            return None
        if not isinstance(rows[0][0], bytes):  # of a number, bytes() would make as many zeros
            raise self._translated(sqlite3.DatabaseError("a thumbnail is no picture"))
        return rows[0][0]

    def put(self, thumbnails: Iterable[tuple[str, bytes]]) -> None:
        """Store thumbnails and commit.

        Raises:
            IndexWriteError: The disk is full or the folder cannot be written to.
        """
        if self._connection is None:
            return
        with self._lock:
            try:
                self._check(self._connection)
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO thumbnail (sha256, webp) VALUES (?, ?)", thumbnails
                    )
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def digests(self) -> set[str]:
        """Return the digests that have a thumbnail."""
        return {str(row[0]) for row in self._run("SELECT sha256 FROM thumbnail")}

    def keep_only(self, digests: set[str]) -> int:
        """Erase thumbnails of all other references, bytes included. Returns how many."""
        gone = self.digests() - digests
        # Free pages without anything to erase: another one was interrupted before it gave them back.
        if self._connection is not None and (gone or self._run("PRAGMA freelist_count")[0][0]):
            with self._lock:
                try:
                    with self._connection:
                        self._connection.executemany(
                            "DELETE FROM thumbnail WHERE sha256 = ?", [(digest,) for digest in gone]
                        )
                    self._connection.execute("VACUUM")
                except sqlite3.DatabaseError as error:
                    raise self._translated(error) from error
        return len(gone)

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
