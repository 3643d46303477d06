"""Where references come from: folders, CSV/JSONL/Parquet lists, WebDataset and img2dataset tar shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from index.credits import NO_CREDITS, USUAL_COLUMNS, ColumnNames, Credits
from index.errors import SourceError
from index.folders import FolderSource, iter_folder
from index.images import IMAGE_SUFFIXES, MAX_BYTES
from index.items import Rejected, Source, SourceItem, locator_of, missing_in_words
from index.lists import ListSource
from index.shards import COMPRESSED_SUFFIXES, SHARD_SUFFIX, ShardSource
from index.tables import TABLE_SUFFIXES

__all__ = [
    "ColumnNames",
    "Credits",
    "Rejected",
    "Source",
    "SourceItem",
    "iter_folder",
    "locator_of",
    "open_source",
]


class FileSource(Source):
    """One picture."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Keep the picture's path and the limit on its bytes."""
        super().__init__(path)
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        """Yield the one picture."""
        status = os.stat(self.path)
        yield SourceItem(
            locator_of(self.path),
            NO_CREDITS,
            self.path,
            status.st_size,
            status.st_mtime_ns,
            max_bytes=self._max_bytes,
        )

    def describe(self) -> str:
        """Return what it is."""
        return "one image file"

    def count(self) -> int | None:
        """Return 1."""
        return 1


def open_source(
    path: str | Path, *, columns: ColumnNames = USUAL_COLUMNS, max_bytes: int = MAX_BYTES
) -> Source:
    """Open a folder, list, shard or image file as a source of references.

    Args:
        path: A folder; a `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` list; a `.tar` shard; a picture.
        columns: Columns to read credits and paths from, where they do not have their usual names.
        max_bytes: Refuse to read pictures of more bytes than this.

    Returns:
        The source. Iterating it streams `SourceItem` and `Rejected`, in the same order every time.

    Raises:
        SourceError: There is no such file, it is none of these, it cannot be read, it lacks a told column, or
            no column names the files.
    """
    if not str(path):  # as of a shell variable that is not set; it would mean the working folder
        raise SourceError("''", "is empty. Name a folder, a list, a .tar shard or an image file")
    path = Path(path)
    try:
        is_folder = path.is_dir()
        exists = is_folder or path.exists()
    except (OSError, ValueError) as error:
        raise SourceError(path, f"cannot be reached: {error}") from error
    if not exists:
        raise SourceError(
            path, f"{missing_in_words(path)} Name a folder of images, a list, a .tar shard or an image file"
        )
    if is_folder:
        return FolderSource(path, columns=columns, max_bytes=max_bytes)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise SourceError(
            path, "is neither a file nor a folder. Name a folder of images, a list or a .tar shard"
        )
    if suffix in TABLE_SUFFIXES:
        return ListSource(path, columns=columns, max_bytes=max_bytes)
    if suffix == SHARD_SUFFIX or path.name.lower().endswith(COMPRESSED_SUFFIXES):
        return ShardSource(path, columns=columns, max_bytes=max_bytes)
    if suffix in IMAGE_SUFFIXES:
        return FileSource(path, max_bytes=max_bytes)
    lists = " ".join(sorted(TABLE_SUFFIXES))
    raise SourceError(
        path,
        f"is not a source this version reads. Name a folder, a list ({lists}), a .tar shard or an image file",
    )
