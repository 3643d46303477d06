"""References in a folder and below it, with the tables, sidecars and shards that lie there."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from index.credits import NO_CREDITS, USUAL_COLUMNS, ColumnNames, CreditReader, Credits
from index.errors import SourceError, UsageError
from index.images import IMAGE_SUFFIXES, MAX_BYTES
from index.items import Rejected, Source, SourceItem, locator_of, missing_in_words, reason_of
from index.lists import ListSource, named_item
from index.shards import (
    COMPRESSED_DETAIL,
    COMPRESSED_SUFFIXES,
    MAX_SIDECAR_BYTES,
    SHARD_SUFFIX,
    ShardSource,
    parse_sidecar,
    sidecar_credits,
)
from index.tables import NEEDS_PYARROW, Row, Table, open_table

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables of the Hugging Face imagefolder convention; where two of them name a picture, the first wins."""

_SKIPPED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True, slots=True)
class _Enter:
    path: Path
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Leave:
    path: Path


def iter_folder(path: str | Path, *, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Iterator[Path | Rejected]:
    """Yield the pictures in a folder and below it.

    Sorted by name within each folder, folders in their place among the files. Names beginning with a dot and
    `__MACOSX` are left out; a linked folder is entered once, however many links lead to it.

    Args:
        path: The folder; a file is yielded as it is.
        suffixes: Lower-case endings to take.

    Yields:
        The pictures' paths, beginning with `path` as given; pipes, dangling links, folders without
        permission and the like as `Rejected`.

    Raises:
        UsageError: `path` does not exist.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path} {missing_in_words(path)} Name a folder of images or an image file.")
        yield path
        return
    for event in _walk(path, suffixes):
        if isinstance(event, Rejected) or (isinstance(event, Path) and event.suffix.lower() in suffixes):
            yield event


def _walk(root: Path, suffixes: Collection[str]) -> Iterator[Path | Rejected | _Enter | _Leave]:
    """Yield the files that are not hidden, entering and leaving folders; one listing a level is kept."""
    entered: set[tuple[int, int]] = set()
    stack: list[tuple[Path, Iterator[tuple[str, str]]]] = []

    def enter(folder: Path) -> Iterator[_Enter | Rejected]:
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in entered:
                return
            if status.st_ino:
                entered.add(identity)
            listing = _listing(folder, suffixes)
        except OSError as error:
            yield Rejected(locator_of(folder), *reason_of(error))
            return
        if not listing and folder != root and folder.suffix.lower() in suffixes:
            yield Rejected(locator_of(folder), "is_a_directory", "an empty folder with the name of a picture")
            return
        names = frozenset(name for name, kind in listing if kind == "file" and _beside(name))
        stack.append((folder, iter(listing)))
        yield _Enter(folder, names)

    yield from enter(root)
    while stack:
        folder, listing = stack[-1]
        name, kind = next(listing, ("", ""))
        if not name:
            stack.pop()
            yield _Leave(folder)
        elif kind == "folder":
            yield from enter(folder / name)
        elif kind == "file":
            yield folder / name
        else:
            reason = "missing" if kind == _DANGLING else "not_a_file"
            yield Rejected(locator_of(folder / name), reason, kind)


_DANGLING = "a link to nothing"


def _listing(folder: Path, suffixes: Collection[str]) -> list[tuple[str, str]]:
    """Return (name, "file", "folder" or what is wrong), sorted by name."""
    listing = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name in _SKIPPED:
                continue
            try:
                kind = "folder" if entry.is_dir() else "file" if entry.is_file() else ""
            except OSError:
                kind = ""
            if not kind:
                if os.path.splitext(name)[1].lower() not in suffixes:
                    continue
                kind = _DANGLING if entry.is_symlink() else "a pipe, socket or device"
            listing.append((name, kind))
    listing.sort()
    return listing


def _beside(name: str) -> bool:
    """Whether a file says something about others: a table, a sidecar; a shard, whose table is no list."""
    return name.lower().endswith((".json", ".txt", ".tar")) or name in METADATA_NAMES


def _key(name: str) -> str:
    """Return a relative path as it is compared with a table's: forward slashes, NFC, no leading ``./``."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    name = name.strip().replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name


class _FolderTable:
    """A metadata table: what it says about the files in and below its folder that have not been seen yet."""

    def __init__(self, folder: Path, table: Table, reader: CreditReader, columns: ColumnNames) -> None:
        path_column = table.path_column(columns)
        if path_column is None:
            raise table.no_path_error()
        self.folder = folder
        self.problems: list[Rejected] = []
        self._table = table
        self._prefix = len(folder.as_posix().rstrip("/")) + 1 if folder != Path(".") else 0
        self._rows: dict[str, tuple[int, Credits]] = {}
        self._more: dict[str, list[tuple[int, Credits]]] = {}
        omit = (*table.blobs, path_column)
        for row in table.rows(omit=table.blobs):
            cell = row.values.get(path_column) if isinstance(row, Row) else None
            if isinstance(row, Rejected):
                self.problems.append(row)
            elif not isinstance(cell, str) or not cell.strip():
                detail = f"nothing in column {path_column!r}"
                self.problems.append(Rejected(table.row_locator(row.number), "no_path", detail))
            else:
                said = (row.number, reader.read(row.values, omit))
                if self._rows.setdefault(_key(cell), said) is not said:
                    self._more.setdefault(_key(cell), []).append(said)

    def take(self, path: Path) -> list[tuple[int, Credits]]:
        """Return what the rows that name this file say, with their numbers, and forget them."""
        key = _key(path.as_posix()[self._prefix :])
        first = self._rows.pop(key, None)
        return [] if first is None else [first, *self._more.pop(key, [])]

    def left(self, max_bytes: int) -> Iterator[SourceItem | Rejected]:
        """Yield what the rows name that was not come across: mostly missing, or outside of the folder."""
        for name, (number, credits) in self._rows.items():
            locator = self._table.row_locator(number)
            yield named_item(self.folder, name, credits, locator, max_bytes)


class FolderSource(Source):
    """A folder of pictures; credits come from the nearest metadata table, then from sidecars."""

    def __init__(
        self, path: Path, *, columns: ColumnNames = USUAL_COLUMNS, max_bytes: int = MAX_BYTES
    ) -> None:
        """Check the folder and the tables at its top.

        Args:
            path: The folder.
            columns: Columns told by the user.
            max_bytes: Refuse pictures of more bytes.

        Raises:
            SourceError: It cannot be listed, or a metadata table at its top cannot be used.
        """
        super().__init__(path)
        self._columns = columns
        self._max_bytes = max_bytes
        try:
            names = {name for name, _ in _listing(path, ())}
        except OSError as error:
            raise SourceError(path, f"cannot be listed: {error.strerror or error}") from error
        self._tables = [open_table(path / name) for name in METADATA_NAMES if name in names]
        for table in self._tables:
            table.check_told(columns)
            if table.path_column(columns) is None:
                raise table.no_path_error()

    def describe(self) -> str:
        """Return "folder" with the tables at its top."""
        tables = [f"{table.path.name} with {table.count()} rows" for table in self._tables]
        return ", ".join(["folder", *tables])

    def count(self) -> int | None:
        """Return the number of pictures, unless there are shards that do not tell theirs."""
        total = 0
        reader = CreditReader(self._columns)
        listed: list[frozenset[str]] = []
        for event in _walk(self.path, IMAGE_SUFFIXES):
            if isinstance(event, _Leave):
                listed.pop()
            elif isinstance(event, _Enter):
                listed.append(event.names)
            elif isinstance(event, Rejected) or event.suffix.lower() in IMAGE_SUFFIXES:
                total += 1
            else:
                inner = self._inner(event, listed[-1], reader)
                if isinstance(inner, Source):
                    count = inner.count()
                    if count is None:
                        return None
                    total += count
        return total

    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        """Yield the pictures in order; rows that name no file here follow when their folder is done."""
        reader = CreditReader(self._columns)
        tables: list[_FolderTable] = []
        names: list[frozenset[str]] = []
        for event in _walk(self.path, IMAGE_SUFFIXES):
            if isinstance(event, Rejected):
                yield event
            elif isinstance(event, _Enter):
                names.append(event.names)
                for opened in self._open_tables(event, reader):
                    if isinstance(opened, Rejected):
                        yield opened
                    else:
                        yield from opened.problems
                        tables.append(opened)
            elif isinstance(event, _Leave):
                names.pop()
                while tables and tables[-1].folder == event.path:
                    yield from tables.pop().left(self._max_bytes)
            elif event.suffix.lower() in IMAGE_SUFFIXES:
                yield from self._items(event, names[-1], tables, reader)
            else:
                inner = self._inner(event, names[-1], reader)
                if isinstance(inner, Rejected):
                    yield inner
                elif inner is not None:
                    yield from inner
        told = self._columns.told()
        told.pop("path", None)
        for role, column in told.items():
            if role not in reader.found:
                detail = f"--{role}-column {column}: no table or sidecar in this folder has it"
                yield Rejected(locator_of(self.path), "unknown_column", detail)

    def _open_tables(self, folder: _Enter, reader: CreditReader) -> Iterator[_FolderTable | Rejected]:
        """Yield the folder's tables, the one that wins last."""
        for name in reversed(METADATA_NAMES):
            if name in folder.names:
                try:
                    table = open_table(folder.path / name)
                    yield _FolderTable(folder.path, table, reader, self._columns)
                except SourceError as error:
                    if NEEDS_PYARROW in str(error):
                        raise
                    yield Rejected(locator_of(folder.path / name), "bad_metadata", str(error))

    def _items(
        self, path: Path, names: frozenset[str], tables: list[_FolderTable], reader: CreditReader
    ) -> Iterator[SourceItem | Rejected]:
        locator = locator_of(path)
        try:
            status = os.stat(path)
        except OSError as error:  # gone since the listing
            yield Rejected(locator, *reason_of(error))
            return
        beside = self._sidecars(path, names, reader)
        said = [each for table in reversed(tables) for each in table.take(path)] or [(0, NO_CREDITS)]
        for place, (number, credits) in enumerate(said):
            yield SourceItem(
                locator if place == 0 else f"{locator}::row {number}",
                credits.filled_from(beside),
                path,
                status.st_size,
                status.st_mtime_ns,
                max_bytes=self._max_bytes,
            )

    def _sidecars(self, path: Path, names: frozenset[str], reader: CreditReader) -> Credits:
        """Return what a `.json` and a `.txt` of the same stem say, as img2dataset writes them."""
        stem = path.stem
        data = _small_file(path.with_name(stem + ".json")) if stem + ".json" in names else b""
        text = _small_file(path.with_name(stem + ".txt")) if stem + ".txt" in names else b""
        if not (data or text):
            return NO_CREDITS
        credits = sidecar_credits(reader, data, text)
        values = parse_sidecar(data)
        if credits.empty and not {"key", "status", "url"} & values.keys():
            return NO_CREDITS  # a JSON about something else
        return credits

    def _inner(self, path: Path, names: frozenset[str], reader: CreditReader) -> Source | Rejected | None:
        """Return a shard, or a Parquet file with pictures in it, that lies in the folder."""
        suffix = path.suffix.lower()
        if suffix == SHARD_SUFFIX:
            return ShardSource(path, columns=self._columns, max_bytes=self._max_bytes, reader=reader)
        if path.name.lower().endswith(COMPRESSED_SUFFIXES):
            return Rejected(locator_of(path), "compressed_shard", COMPRESSED_DETAIL)
        if suffix != ".parquet" or path.name in METADATA_NAMES or path.stem + SHARD_SUFFIX in names:
            return None
        try:
            inner = ListSource(path, max_bytes=self._max_bytes, reader=reader)
        except SourceError as error:
            # A table of something else is no candidate, like any .csv or .txt.
            needs = NEEDS_PYARROW in str(error)
            return Rejected(locator_of(path), "needs_pyarrow", NEEDS_PYARROW) if needs else None
        return inner if inner.holds_pictures else None


def _small_file(path: Path) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_SIDECAR_BYTES:
            return path.read_bytes()
    except OSError:
        pass
    return b""
