"""References inside WebDataset and img2dataset `.tar` shards, read by offset, one member at a time."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from index.credits import (
    NO_CREDITS,
    USUAL_COLUMNS,
    ColumnNames,
    CreditReader,
    Credits,
    clean_text,
    find_column,
)
from index.errors import SourceError
from index.images import IMAGE_SUFFIXES, MAX_BYTES
from index.items import Rejected, Source, SourceItem, locator_of, reason_of
from index.lists import not_there
from index.plain import read_file
from index.tables import NEEDS_PYARROW, Table, open_table

SHARD_SUFFIX = ".tar"

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Endings of tars that cannot be read by offset."""

MAX_SIDECAR_BYTES = 1024 * 1024
"""A `.json` or `.txt` beside a picture may be this long; a longer one is not about that picture."""

_BLOCK = 512
_MAX_HEADER = 1024 * 1024
_DIGITS = re.compile(rb"\d{65}")
_PEEKED_GROUPS = 50


@dataclass(slots=True)
class _Group:
    """Consecutive members of one stem."""

    stem: str
    images: list[tarfile.TarInfo] = field(default_factory=list)
    json: tuple[int, int] | None = None
    text: tuple[int, int] | None = None


class ShardSource(Source):
    """One tar: pictures with a `.json` or `.txt` of the same stem each, or a `.parquet` beside the tar."""

    def __init__(
        self,
        path: Path,
        *,
        columns: ColumnNames = USUAL_COLUMNS,
        max_bytes: int = MAX_BYTES,
        reader: CreditReader | None = None,
    ) -> None:
        """Look at the tar's beginning and at the table beside it.

        Args:
            path: The tar.
            columns: Columns told by the user.
            max_bytes: Refuse pictures of more bytes.
            reader: That of the folder it lies in, which then answers for told columns; a tar that cannot
                be read at all is then yielded as `Rejected`.

        Raises:
            SourceError: It cannot be read, is compressed, or no picture in it has a told column.
        """
        super().__init__(path)
        self._columns = columns
        self._max_bytes = max_bytes
        self._table: Table | None = None
        self._table_problem: Rejected | None = None
        table_path = path.with_suffix(".parquet")
        if table_path.is_file():
            try:
                table = open_table(table_path)
            except SourceError as error:
                reason = "needs_pyarrow" if NEEDS_PYARROW in str(error) else "broken_table"
                self._table_problem = Rejected(locator_of(table_path), reason, str(error))
            else:
                self._table = table if "key" in table.columns else None
        self._reader = reader
        if reader is None:
            self._check()

    def _check(self) -> None:
        if self.path.name.lower().endswith(COMPRESSED_SUFFIXES):
            raise SourceError(self.path, COMPRESSED_DETAIL)
        names: dict[str, None] = dict.fromkeys(self._table.columns if self._table else ())
        try:
            with open(self.path, "rb") as file:
                groups = _groups(self.path)
                for place, group in enumerate(islice(groups, _PEEKED_GROUPS)):
                    if isinstance(group, Rejected):
                        if place == 0 and group.reason == "broken_shard":
                            raise SourceError(self.path, group.detail)
                        break
                    names.update(dict.fromkeys(parse_sidecar(_slice(file, group.json))))
        except OSError as error:
            raise SourceError(self.path, f"cannot be read: {error.strerror or error}") from error
        for role, told in self._columns.told().items():
            if role != "path" and names and find_column(names, told) is None:
                listed = ", ".join(map(repr, names))
                raise SourceError(self.path, f"has no {told!r} (--{role}-column); it has {listed}")

    def describe(self) -> str:
        """Return the kind of shard and the table beside it."""
        return f"shard, with {self._table.path.name}" if self._table else "shard"

    def count(self) -> int | None:
        """Return the rows of the table beside it, or what img2dataset's `_stats.json` says; else None."""
        if self._table is not None:
            return self._table.count()
        try:
            stats_path = self.path.with_name(f"{self.path.stem}_stats.json")
            count = json.loads(read_file(stats_path, max_bytes=MAX_SIDECAR_BYTES))["successes"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return count if isinstance(count, int) and 0 <= count < 2**53 else None

    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        """Yield the pictures in the order of the tar, then what the table has and the tar has not."""
        if self._table_problem is not None:
            yield self._table_problem
        reader = self._reader or CreditReader(self._columns)
        rows: dict[str, Credits] = {}
        if self._table is not None:
            for row in self._table.rows(omit=self._table.blobs):
                if isinstance(row, Rejected):
                    yield row
                else:
                    rows[str(row.values.get("key"))] = reader.read(row.values)
        unseen = dict.fromkeys(rows)
        complete = True
        try:
            with open(self.path, "rb") as file:
                mtime_ns = os.fstat(file.fileno()).st_mtime_ns
                strays: dict[str, _Group] | None = None
                for group in _groups(self.path):
                    if isinstance(group, Rejected):
                        complete = complete and group.reason not in ("broken_shard", "truncated")
                        yield group
                        continue
                    key = group.stem.rpartition("/")[2]
                    if group.images and group.json is None and key not in rows:
                        strays = _strays(self.path) if strays is None else strays
                        stray = strays.get(group.stem, group)
                        group.json, group.text = stray.json, group.text or stray.text
                    credits = NO_CREDITS
                    if group.images:
                        credits = sidecar_credits(reader, _slice(file, group.json), _slice(file, group.text))
                        credits = credits.filled_from(rows.get(key, NO_CREDITS))
                        unseen.pop(key, None)
                    for member in group.images:
                        yield self._item(member, credits, mtime_ns)
        except OSError as error:
            yield Rejected(locator_of(self.path), *reason_of(error))
            return
        if complete:  # of a broken shard, what is missing is not known
            for key in unseen:
                detail = f"in {self.path.with_suffix('.parquet').name}, not in the shard"
                yield not_there(f"{locator_of(self.path)}::{clean_text(key)}", rows[key], "missing", detail)

    def _item(self, member: tarfile.TarInfo, credits: Credits, mtime_ns: int) -> SourceItem | Rejected:
        locator = _member_locator(self.path, member)
        if not member.isreg() or member.issparse():
            return Rejected(locator, "not_a_file", "a link, device or sparse file inside a tar")
        return SourceItem(
            locator,
            credits,
            self.path,
            member.size,
            mtime_ns,
            member.offset_data,
            max_bytes=self._max_bytes,
        )


COMPRESSED_DETAIL = (
    "a compressed tar cannot be read member by member; decompress it first, for example with gunzip"
)


def _member_locator(path: Path, member: tarfile.TarInfo) -> str:
    name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return f"{locator_of(path)}::{name}"


class _BoundedHeaders:
    """A tar's file as tarfile reads it: headers alone, which for a long name or attributes are as long as they say.

    Python before 3.11.10 also looks for a word behind digits in a way that takes the square of their number.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        """Read what is to be a header.

        Raises:
            tarfile.ReadError: It is none that a program would write.
        """
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes; the limit is {_MAX_HEADER}")
        data = self._read(size)
        if size > _BLOCK and _DIGITS.search(data):
            raise tarfile.ReadError("a header with a number of more than 64 digits")
        return data


def _headers(path: Path) -> Iterator[tarfile.TarInfo | Rejected]:
    """Yield the tar's members without keeping them, and what is broken, which ends it."""
    locator = locator_of(path)
    last = -1
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _BoundedHeaders(file)), mode="r:") as tar:
                while (member := tar.next()) is not None:
                    vars(tar)["members"].clear()  # it would keep every header it has read
                    if member.size < 0 or tar.offset <= last:  # tarfile before 3.11.14 loops for ever here
                        yield Rejected(locator, "broken_shard", f"impossible header at byte {member.offset}")
                        return
                    last = tar.offset
                    if member.isreg() and member.offset_data + member.size > size:
                        detail = f"the shard ends inside it, at byte {size}; what followed is lost"
                        yield Rejected(_member_locator(path, member), "truncated", detail)
                        return
                    yield member
                end = tar.offset
        except (tarfile.TarError, ValueError, EOFError, RecursionError, MemoryError, OverflowError) as error:
            detail = f"not a tar, or broken after byte {max(last, 0)}: {error}"
            yield Rejected(locator, "broken_shard", detail)
            return
        file.seek(end)
        block = file.read(_BLOCK)
        if block.strip(b"\0"):
            yield Rejected(locator, "broken_shard", f"no tar header at byte {end}; what follows is lost")
        elif not block:
            yield Rejected(locator, "truncated", f"no end mark at byte {end}; members may be lost")


def _groups(path: Path) -> Iterator[_Group | Rejected]:
    """Yield runs of members with the same stem."""
    group: _Group | None = None
    for member in _headers(path):
        if isinstance(member, Rejected):
            if group is not None:
                yield group
            yield member
            return
        if member.isdir() or _is_hidden(member.name):
            continue
        stem, dot, ending = member.name.rpartition(".")
        suffix = (dot + ending).lower()
        if suffix not in IMAGE_SUFFIXES and suffix not in (".json", ".txt"):
            continue
        if group is None or group.stem != stem:
            if group is not None:
                yield group
            group = _Group(stem)
        if suffix in IMAGE_SUFFIXES:
            group.images.append(member)
        elif member.isreg() and member.size <= MAX_SIDECAR_BYTES:
            place = (member.offset_data, member.size)
            if suffix == ".json":
                group.json = place
            else:
                group.text = place
    if group is not None:
        yield group


def _strays(path: Path) -> dict[str, _Group]:
    """Return the sidecars that do not stand beside their picture, as in a tar packed in no order."""
    strays: dict[str, _Group] = {}
    for group in _groups(path):
        if isinstance(group, _Group) and not group.images:
            other = strays.setdefault(group.stem, group)
            other.json, other.text = other.json or group.json, other.text or group.text
    return strays


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)


def _slice(file: BinaryIO, place: tuple[int, int] | None) -> bytes:
    if place is None:
        return b""
    file.seek(place[0])
    return file.read(place[1])


def parse_sidecar(data: bytes) -> dict[str, object]:
    """Return the object in a `.json` beside a picture; empty when there is none that can be read."""
    if not data:
        return {}
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def sidecar_credits(reader: CreditReader, data: bytes, text: bytes) -> Credits:
    """Return the credits that stand beside a picture.

    Args:
        reader: Knows the columns.
        data: Bytes of the `.json`, empty when there is none.
        text: Bytes of the `.txt`, its caption; empty when there is none.

    Returns:
        The credits; those of the `.json` win.
    """
    values = parse_sidecar(data)
    credits = reader.read(values) if values else NO_CREDITS
    if text and not credits.caption:
        credits = credits.filled_from(Credits(caption=clean_text(text.decode("utf-8", "replace"))))
    return credits
