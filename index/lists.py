"""References named by, or held in, a table: one row, one occurrence."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from index.credits import USUAL_COLUMNS, ColumnNames, CreditReader, Credits, as_text, clean_text
from index.images import IMAGE_SUFFIXES, MAX_BYTES
from index.items import Rejected, Source, SourceItem, kind_of, locator_of, reason_of
from index.tables import Row, open_table

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:(//|[^/\\]*base64,)")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
_MAX_NAME = 32_768
"""Characters: no system has longer paths, and the other spellings of megabytes would take for ever to find."""


class ListSource(Source):
    """A CSV, JSON Lines or Parquet table with a column of paths, or a Parquet table with pictures in it."""

    def __init__(
        self,
        path: Path,
        *,
        columns: ColumnNames = USUAL_COLUMNS,
        max_bytes: int = MAX_BYTES,
        reader: CreditReader | None = None,
    ) -> None:
        """Open the table and find its columns.

        Args:
            path: The table's file.
            columns: Columns told by the user.
            max_bytes: Refuse pictures of more bytes.
            reader: That of the folder it lies in, which then answers for told columns.

        Raises:
            SourceError: The table cannot be read, lacks a told column, or no column names the files.
        """
        super().__init__(path)
        self._columns = columns
        self._max_bytes = max_bytes
        self._table = open_table(path)
        self._reader = reader
        if reader is None:
            self._table.check_told(columns)
        self._path_column = self._table.path_column(columns)
        self._blob = self._table.blobs[0] if self._table.blobs and columns.path is None else None
        if self._path_column is None and self._blob is None:
            raise self._table.no_path_error()

    @property
    def holds_pictures(self) -> bool:
        """True when the pictures are in the table itself."""
        return self._blob is not None

    def describe(self) -> str:
        """Return the kind of list, its rows and where its pictures are."""
        where = f"pictures in column {self._blob!r}" if self._blob else f"paths in {self._path_column!r}"
        return f"list with {self._table.count()} rows, {where}"

    def count(self) -> int | None:
        """Return the number of rows."""
        return self._table.count()

    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        """Yield one item a row; a file named a second time gets the row's number added to its locator."""
        reader = self._reader or CreditReader(self._columns)
        seen: set[str] = set()
        mtime_ns = os.stat(self.path).st_mtime_ns
        omit = set(self._table.blobs) - {self._blob}
        not_credits = {*self._table.blobs, self._path_column or ""} if self._blob is None else {self._blob}
        for row in self._table.rows(omit=omit):
            if isinstance(row, Rejected):
                yield row
                continue
            credits = reader.read(row.values, not_credits)
            if self._blob is not None:
                yield self._held(row, credits, mtime_ns)
                continue
            cell = row.values.get(self._path_column or "")
            item = self._named(row, cell, credits)
            if isinstance(item, SourceItem):
                if item.locator in seen:
                    item = replace(item, locator=f"{item.locator}::row {row.number}")
                else:
                    seen.add(item.locator)
            yield item

    def _held(self, row: Row, credits: Credits, mtime_ns: int) -> SourceItem | Rejected:
        locator = self._table.row_locator(row.number)
        value = row.values.get(self._blob or "")
        name = ""
        if isinstance(value, Mapping):  # Hugging Face: {"bytes": …, "path": …}
            name = as_text(value.get("path"))
            data = value.get("bytes")
            if data is None and name:
                return named_item(self.path.parent, name, credits, locator, self._max_bytes)
        else:
            data = value
        if not isinstance(data, bytes):
            return not_there(locator, credits, "missing", f"the row has nothing in column {self._blob!r}")
        if name:
            credits = credits.filled_from(Credits(extra={f"{self._blob}.path": name}))
        return SourceItem(
            locator, credits, self.path, len(data), mtime_ns, data=data, max_bytes=self._max_bytes
        )

    def _named(self, row: Row, cell: Any, credits: Credits) -> SourceItem | Rejected:
        locator = self._table.row_locator(row.number)
        if isinstance(cell, Mapping):  # Hugging Face in JSON Lines: {"path": …}
            cell = cell.get("path")
        if not isinstance(cell, str) or not cell.strip():
            return not_there(locator, credits, "no_path", f"nothing in column {self._path_column!r}")
        return named_item(self.path.parent, cell.strip(), credits, locator, self._max_bytes)


def named_item(
    folder: Path, name: str, credits: Credits, row_locator: str, max_bytes: int
) -> SourceItem | Rejected:
    """Return the occurrence that a row names.

    Args:
        folder: What relative names are relative to.
        name: The path as the row has it; backslashes and other Unicode forms of it are tried, too.
        credits: What the row says.
        row_locator: Name of the row, for names that are no path.
        max_bytes: Limit passed on to the item.

    Returns:
        The item, or why there is none.
    """
    if len(name) > _MAX_NAME:
        return Rejected(row_locator, "bad_path", f"a name of {len(name):,} characters; paths are shorter")
    if _URL.match(name):
        try:
            parts = urlsplit(name) if name.startswith("file://") else None
        except ValueError as error:
            return Rejected(row_locator, "bad_path", f"{clean_text(name[:200])} is no address ({error})")
        if parts is None or parts.netloc not in ("", "localhost"):
            detail = f"{clean_text(name[:200])} is not a local file; download it first, for example with img2dataset"
            return Rejected(row_locator, "not_local", detail)
        name = url2pathname(parts.path)
    status: os.stat_result | None = None
    path = folder / name
    failure = ("missing", "no such file")
    for spelling in _spellings(name):
        try:
            status = os.stat(folder / spelling)
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                failure = reason_of(error)
            continue
        path = folder / spelling
        break
    locator = locator_of(path)
    if status is None:
        return not_there(locator, credits, *failure)
    if not stat.S_ISREG(status.st_mode):
        return Rejected(locator, "not_a_file", kind_of(status.st_mode))
    if _SUFFIX.search(path.name) and path.suffix.lower() not in IMAGE_SUFFIXES:
        return Rejected(locator, "unsupported_extension", f"{path.suffix} is not a supported picture format")
    return SourceItem(locator, credits, path, status.st_size, status.st_mtime_ns, max_bytes=max_bytes)


def _spellings(name: str) -> Iterator[str]:
    yield name
    tried = {name}
    slashed = name.replace("\\", "/")
    for each in (slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)):
        if each not in tried:
            tried.add(each)
            yield each


def not_there(locator: str, credits: Credits, reason: str, detail: str) -> Rejected:
    """Return why there is no picture; a row that img2dataset could not download says so itself."""
    if reason in ("missing", "no_path"):
        status = credits.extra.get("status", "")
        if status and status != "success":
            return Rejected(locator, "not_downloaded", credits.extra.get("error_message", "") or status)
    return Rejected(locator, reason, detail)
