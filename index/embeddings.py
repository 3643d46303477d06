"""Embeddings that others have written: `.npy` files, the tables that name their rows, and how the two belong together.

clip-retrieval writes ``img_emb/img_emb_0.npy`` and ``metadata/metadata_0.parquet``, row for row the same pictures
(https://github.com/rom1504/clip-retrieval); other sets have ``embeddings/NAME.npy`` and ``metadata/NAME.parquet``, or
both in one folder. Rows are read in blocks, not mapped: memory and address space stay flat whatever a file's size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import SourceError, UsageError
from index.plain import must_be_file
from index.tables import TABLE_SUFFIXES, Table, open_table

SUFFIX = ".npy"

EMBEDDING_FOLDERS = ("img_emb", "embeddings")
"""Where clip-retrieval, and sets such as PD12M, keep them; ``text_emb`` beside them is of captions."""

TABLE_FOLDER = "metadata"

_PREFIX = re.compile(r"^(img_emb|image_emb|img_embeddings?|embeddings?|metadata)[_.-]?(?=.)", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")

_READABLE = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One `.npy` file of rows, its header read and compared with the file's size.

    Attributes:
        path: The file.
        rows: How many rows.
        width: Columns of a row.
        dtype: float16, float32 or float64, of either byte order.
        offset: Where the first row begins, in bytes.
    """

    path: Path
    rows: int
    width: int
    dtype: np.dtype[Any]
    offset: int

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Read rows.

        Args:
            start: The first, from 0.
            count: How many, within the file.

        Returns:
            float32, or float64 where the file has that: (count, width).

        Raises:
            SourceError: The file cannot be read, or has become shorter.
        """
        size = self.width * self.dtype.itemsize
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset + start * size)
                values = np.fromfile(file, self.dtype, count * self.width)
        except OSError as error:
            raise SourceError(self.path, f"cannot be read: {error.strerror or error}") from error
        if len(values) < count * self.width:
            raise SourceError(self.path, f"has become shorter than its {self.rows:,} rows. Restore it")
        wide = np.float64 if self.dtype.itemsize == 8 else np.float32
        return values.reshape(count, self.width).astype(wide)


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows and the table that says whose they are, row for row."""

    embeddings: Embeddings
    table: Table


def open_embeddings(path: Path) -> Embeddings:
    """Read the header of a `.npy` file.

    Raises:
        SourceError: It is none, holds Python objects, is no table of floats, or ends before its last row.
    """
    # numpy's own reader maps the file, which takes address space; only its header is wanted.
    form = np.lib.format
    try:
        must_be_file(path)
        with open(path, "rb") as file:
            version = form.read_magic(file)
            read = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}.get(version)
            if read is None:
                raise SourceError(
                    path, f"has version {version} of the .npy format; save it anew with np.save"
                )
            shape, by_columns, dtype = read(file)
            offset = file.tell()
            size = file.seek(0, 2)
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error
    except SourceError:
        raise
    except Exception as error:
        # A header is a Python literal: its tokenizer and parser raise whatever they like.
        raise SourceError(
            path, f"is no .npy file ({error}). Pickled arrays are not read; save rows with np.save"
        ) from error
    if dtype.hasobject:
        raise SourceError(path, "holds pickled Python objects, which are not read. Save floats with np.save")
    if dtype.newbyteorder("=") not in _READABLE:
        raise SourceError(path, f"holds {dtype}; embeddings are float16, float32 or float64")
    if len(shape) != 2 or shape[0] < 0 or shape[1] < 1:
        raise SourceError(path, f"has the shape {shape}; embeddings are (rows, width)")
    if by_columns and min(shape) > 1:
        raise SourceError(path, "is stored by columns. Save np.ascontiguousarray(rows) with np.save")
    rows, width = int(shape[0]), int(shape[1])
    told = rows * width * dtype.itemsize
    if size - offset < told:
        there = max(0, size - offset) // (width * dtype.itemsize)
        raise SourceError(
            path, f"breaks off: its header says {rows:,} rows, {there:,} are there. Copy or download it again"
        )
    return Embeddings(path, rows, width, dtype, offset)


def find_pairs(sources: Sequence[Path], *, tables: Sequence[Path] = ()) -> list[Pair]:
    """Find embeddings and the tables that belong to them; what comes in order of their numbers is one shard each.

    Args:
        sources: `.npy` files, or folders of them: themselves, or with ``img_emb`` or ``embeddings`` in them.
        tables: CSV, JSON lines or Parquet files, or folders of them; none looks beside the embeddings, and in
            ``metadata`` there.

    Returns:
        At least one pair; rows and table of each are equally long.

    Raises:
        UsageError: There are no embeddings, or one lacks its counterpart.
        SourceError: A file cannot be used, or the two of a pair differ in length.
    """
    arrays = [path for source in sources for path in _arrays(source)]
    listed = [path for each in tables for path in _listed(each)]
    if not listed:
        listed = list(dict.fromkeys(path for source in sources for path in _beside(source)))
    pairs = [Pair(open_embeddings(array), open_table(table)) for array, table in _matched(arrays, listed)]
    for pair in pairs:
        rows, named = pair.embeddings.rows, pair.table.count()
        if rows != named:
            raise SourceError(
                pair.embeddings.path,
                f"has {rows:,} rows, but {pair.table.path} has {named:,}: they do not belong together. "
                "Name the right table with --metadata",
            )
    return pairs


def _arrays(source: Path) -> list[Path]:
    if not source.exists():
        raise UsageError(f"{source}: does not exist. Name a .npy file, or a folder of them")
    if source.is_file():
        if source.suffix.lower() != SUFFIX:
            raise UsageError(
                f"{source}: is no .npy file. Name the embeddings, and their table with --metadata"
            )
        return [source]
    for folder in (*(source / name for name in EMBEDDING_FOLDERS), source):
        found = _in_order(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
        if found:
            return found
    raise UsageError(
        f"{source}: holds no .npy file, nor do {' or '.join(EMBEDDING_FOLDERS)} in it. Name a .npy file, or a folder "
        "of them"
    )


def _listed(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"--metadata {path}: does not exist. Name a table, or a folder of them")
    return [path] if path.is_file() else _tables_in(path)


def _beside(source: Path) -> list[Path]:
    folder = source.parent if source.is_file() else source
    within = folder.parent if folder.name in EMBEDDING_FOLDERS else folder
    for place in (within / TABLE_FOLDER, folder):
        found = _tables_in(place) if place.is_dir() else []
        if source.is_file():  # of all the shards there, its own
            found = [path for path in found if _key(path) == _key(source)] or found[: len(found) == 1]
        if found:
            return found
    return []


def _tables_in(folder: Path) -> list[Path]:
    return _in_order(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)


def _matched(arrays: Sequence[Path], tables: Sequence[Path]) -> list[tuple[Path, Path]]:
    if len(arrays) == len(tables) == 1:
        return [(arrays[0], tables[0])]
    by_key: dict[str, list[Path]] = {}
    for table in tables:
        by_key.setdefault(_key(table), []).append(table)
    pairs = []
    for array in arrays:
        fitting = by_key.get(_key(array), [])
        if not fitting:
            raise UsageError(
                f"{array}: no table says whose rows these are; looked for metadata_{_key(array)}.parquet. Name it "
                "with --metadata"
            )
        pairs.append((array, fitting.pop(0)))
    left = [path for paths in by_key.values() for path in paths]
    if left:
        raise UsageError(
            f"{left[0]}: has no embeddings (img_emb_{_key(left[0])}.npy)"
            + (f", nor have {len(left) - 1:,} more" if len(left) > 1 else "")
            + ". Bring them, or name the embeddings and tables that belong together"
        )
    return pairs


def _key(path: Path) -> str:
    """Return what the names of embeddings and table have in common: ``0`` of ``img_emb_0`` and ``metadata_0``."""
    return _PREFIX.sub("", path.stem)


def _in_order(paths: Iterator[Path] | Sequence[Path]) -> list[Path]:
    def rank(path: Path) -> tuple[tuple[int, str], ...]:
        return tuple((int(p), "") if p.isdigit() else (-1, p) for p in _DIGITS.split(path.name))

    return sorted(paths, key=rank)
