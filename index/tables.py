"""Rows of CSV, TSV, JSON Lines and Parquet tables, streamed; the only importer of pyarrow."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from index.credits import ColumnNames, find_column, usual_path_column
from index.errors import SourceError
from index.items import Rejected, locator_of
from index.plain import must_be_file

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
"""File name endings of the tables that can be read."""

NEEDS_PYARROW = "Parquet needs pyarrow. Run: pip install 'replication-detector[parquet]'"

_MAX_CELL = 16 * 1024 * 1024
_MAX_LINE = 16 * 1024 * 1024
"""Bytes: parsed, JSON of many small values takes up to forty times the memory."""

_MAX_ROW = 32 * 1024 * 1024
"""Characters of a CSV's row: one quote that is never closed would make a row of the rest of the file."""

_MOST_PASSED_OVER = 8
"""Times `_MAX_ROW` that are passed over in search of a row's end."""

_PEEKED_LINES = 1000
_BATCH_ROWS = 64
_BATCH_ROWS_WITHOUT_BLOBS = 1024
_BLOB_NAMES = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        number: 1 for the first row below the header.
        values: Column → value.
    """

    number: int
    values: dict[str, Any]


class Table(ABC):
    """A table of references.

    Attributes:
        path: Its file.
        columns: Its columns in order; of JSON Lines those of the first thousand rows.
        blobs: Columns that can hold the pictures themselves, likeliest first.
    """

    path: Path
    columns: tuple[str, ...]
    blobs: tuple[str, ...] = ()

    @abstractmethod
    def rows(self, *, omit: Collection[str] = ()) -> Iterator[Row | Rejected]:
        """Yield the rows in order; those that cannot be read, as `Rejected`. `omit` need not be read."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of rows (of JSON Lines: of lines)."""

    def row_locator(self, number: int) -> str:
        """Return the name of a row: ``table.csv::row 17``."""
        return f"{locator_of(self.path)}::row {number}"

    def check_told(self, columns: ColumnNames) -> None:
        """Raise `SourceError` when the user named a column that this table lacks."""
        for role, told in columns.told().items():
            if find_column(self.columns, told) is None:
                raise SourceError(
                    self.path,
                    f"has no column {told!r} (--{role}-column); its columns are {self.listed_columns()}",
                )

    def path_column(self, columns: ColumnNames) -> str | None:
        """Return the column that names the files: as told, else the best usual name that is no blob."""
        if columns.path is not None:
            return find_column(self.columns, columns.path)
        return usual_path_column(each for each in self.columns if each not in self.blobs)

    def no_path_error(self) -> SourceError:
        """Return the error for a table in which no column names the files."""
        return SourceError(
            self.path,
            f"no column names the image files (looked for file_name, path, …); its columns are "
            f"{self.listed_columns()}. Name one with --path-column; the first row of a CSV names its columns",
        )

    def listed_columns(self) -> str:
        """Return the columns for a message, at most thirty."""
        more = f", … ({len(self.columns)} in all)" if len(self.columns) > 30 else ""
        return ", ".join(repr(each[:60]) for each in self.columns[:30]) + more if self.columns else "none"


def open_table(path: Path) -> Table:
    """Return the table in a file, by its ending.

    Args:
        path: A file ending in one of `TABLE_SUFFIXES`.

    Returns:
        The table; its rows have not been read yet.

    Raises:
        SourceError: It cannot be read, is broken, or needs pyarrow, which is not installed.
    """
    suffix = path.suffix.lower()
    try:
        must_be_file(path)
        if suffix == ".parquet":
            return _ParquetTable(path)
        if suffix in (".jsonl", ".ndjson"):
            return _JsonLinesTable(path)
        return _CsvTable(path)
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error


class _CsvTable(Table):
    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            start = file.read(65536)
        self._encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        first = start.decode(self._encoding, "ignore").lstrip("\r\n").partition("\n")[0]
        counts = {each: first.count(each) for each in (",", ";", "\t")}
        self._delimiter = max(counts, key=lambda each: (counts[each], each == "\t" and path.suffix == ".tsv"))
        header = next((cells for cells in self._cells() if isinstance(cells, list)), [])
        self.columns = _distinct(header)

    def _cells(self) -> Iterator[list[str] | str]:
        """Yield the cells of each record that is not blank, or what is wrong with it."""
        if csv.field_size_limit() < _MAX_CELL:
            csv.field_size_limit(_MAX_CELL)
        errors = "surrogateescape" if self._encoding == "utf-8-sig" else "replace"
        with open(self.path, encoding=self._encoding, errors=errors, newline="") as file:
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=self._delimiter)
            while True:
                lines.taken = 0
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield str(error)
                    continue
                if cells is None:
                    return
                if any(cells):
                    yield cells

    def rows(self, *, omit: Collection[str] = ()) -> Iterator[Row | Rejected]:
        records = self._cells()
        next(records, None)
        for number, cells in enumerate(records, 1):
            if isinstance(cells, str):
                yield Rejected(self.row_locator(number), "bad_row", cells)
                continue
            values: dict[str, Any] = dict(zip(self.columns, cells, strict=False))
            for place in range(len(self.columns), len(cells)):
                values[f"column {place + 1}"] = cells[place]
            yield Row(number, values)

    def count(self) -> int:
        return max(0, sum(1 for _ in self._cells()) - 1)


class _Lines:
    """The lines of a CSV, none of them, and no row of several, longer than `_MAX_ROW`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.taken = 0  # characters since the row began
        self._given_up = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        """Return the next line; goes on behind one that is too long, unless it is longer than any table's."""
        line = "" if self._given_up else self._file.readline(_MAX_ROW)
        if not line:
            raise StopIteration
        self.taken += len(line)
        whole = line.endswith(("\n", "\r")) or len(line) < _MAX_ROW
        passed_over = 0
        while not whole and (rest := self._file.readline(_MAX_ROW)):
            whole = rest.endswith(("\n", "\r"))
            passed_over += 1
            if not whole and passed_over == _MOST_PASSED_OVER:
                self._given_up = True
                raise csv.Error(
                    f"a row of more than {_MAX_ROW * passed_over} characters: no table; the rest is not read"
                )
        if self.taken >= _MAX_ROW:
            raise csv.Error(f"a row of more than {_MAX_ROW} characters")
        return line


class _JsonLinesTable(Table):
    def __init__(self, path: Path) -> None:
        self.path = path
        names: dict[str, None] = {}
        for row in islice(self.rows(), _PEEKED_LINES):
            if isinstance(row, Row):
                names.update(dict.fromkeys(row.values))
        self.columns = tuple(names)

    def _lines(self) -> Iterator[bytes | str]:
        """Yield the lines that are not blank, or what is wrong with one."""
        with open(self.path, "rb") as file:
            first = True
            while line := file.readline(_MAX_LINE):
                if first and line.startswith(b"\xef\xbb\xbf"):
                    line = line[3:]
                first = False
                if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                    while (rest := file.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield f"a line of more than {_MAX_LINE} bytes"
                elif line := line.strip():
                    yield line

    def rows(self, *, omit: Collection[str] = ()) -> Iterator[Row | Rejected]:
        for number, line in enumerate(self._lines(), 1):
            problem = line if isinstance(line, str) else ""
            values: Any = None
            if not problem:
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    problem = f"not JSON: {error}"
                else:
                    problem = "" if isinstance(values, dict) else "not a JSON object"
            if problem:
                yield Rejected(self.row_locator(number), "bad_row", problem)
            else:
                yield Row(number, values)

    def count(self) -> int:
        return sum(1 for _ in self._lines())


class _ParquetTable(Table):
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise SourceError(path, NEEDS_PYARROW) from error
        self._arrow: Any = pyarrow
        try:
            with self._open() as file:
                schema = file.schema_arrow
                self._rows = int(file.metadata.num_rows)
        # Garbled files make pyarrow raise its own errors, OSError, ValueError, OverflowError, MemoryError, …
        except Exception as error:
            raise SourceError(
                path, f"is not a Parquet file that can be read: {error}. Write it anew, or leave it out"
            ) from error
        self.columns = tuple(dict.fromkeys(schema.names))
        blobs = [each.name for each in schema if self._is_blob(each.type)]
        self.blobs = tuple(sorted(blobs, key=_blob_rank))

    def _open(self) -> Any:
        return self._arrow.parquet.ParquetFile(self.path, buffer_size=1024 * 1024, pre_buffer=False)

    def _is_blob(self, kind: Any) -> bool:
        types = self._arrow.types
        if types.is_struct(kind):
            return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def rows(self, *, omit: Collection[str] = ()) -> Iterator[Row | Rejected]:
        wanted = [column for column in self.columns if column not in omit]
        batch_rows = _BATCH_ROWS if set(self.blobs) & set(wanted) else _BATCH_ROWS_WITHOUT_BLOBS
        number = 0
        try:
            with self._open() as file:
                for batch in file.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, values)
        except Exception as error:  # as above; values out of range raise likewise
            lost = f"rows {number + 1} to {self._rows} cannot be read: {error}"
            yield Rejected(locator_of(self.path), "broken_table", lost)

    def count(self) -> int:
        return self._rows


def _blob_rank(column: str) -> int:
    name = column.casefold()
    return _BLOB_NAMES.index(name) if name in _BLOB_NAMES else len(_BLOB_NAMES)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return the header's names with blank ones named by their place and repeated ones numbered."""
    seen: dict[str, None] = {}
    next_number: dict[str, int] = {}  # a hundred thousand columns of one name are numbered in one go
    for place, name in enumerate(names, 1):
        name = name.strip() or f"column {place}"
        unique = name
        while unique in seen:
            number = next_number.get(name, 2)
            unique, next_number[name] = f"{name} {number}", number + 1
        seen[unique] = None
    return tuple(seen)
