"""Lists beside generated pictures: `metadata.csv`, `.jsonl`, `.parquet` as in the HF imagefolder convention."""

from __future__ import annotations

import logging
import os
import stat
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.generation import Generation
from detector.provenance.settings import filled_from, generation_from, says_something
from index.credits import USUAL_COLUMNS, normalised
from index.errors import SourceError
from index.folders import METADATA_NAMES
from index.tables import Row, open_table

MAX_LIST_BYTES = 512 * 1024 * 1024
"""A larger list is not read: what it says would have to be kept in memory."""

_KEPT_FOLDERS = 8
"""Folders whose lists are kept; a scan goes through one after the other."""

_CAPTIONS = ("caption", "text")

_Tables = tuple[tuple[Path, int, int], ...]

_log = logging.getLogger("detector")


class GenerationLists:
    """What the lists in folders say about the pictures there; each is read once, and again when it has changed.

    May be shared by threads.

    A list stands in the folder of a picture, or in one above it up to a folder named here. Its rows name files
    by `file_name`, and say how they were generated in columns of the usual names (`detector.provenance.settings`).
    A `caption` or `text` is a prompt only in a row with a seed and without a prompt.
    """

    def __init__(self, within: Sequence[str | Path] = ()) -> None:
        """Prepare; nothing is read yet.

        Args:
            within: Folders whose own lists hold for what lies below them too, as for a scan of them.
        """
        self._within = {Path(path).absolute() for path in within}
        self._lock = threading.Lock()
        self._lists: OrderedDict[Path, tuple[_Tables, dict[str, Generation]]] = OrderedDict()

    def about(self, path: str | os.PathLike[str]) -> Generation | None:
        """Return what lists say about a picture, or None. The nearest list wins; others fill its gaps."""
        file = Path(path).absolute()
        found: Generation | None = None
        for folder in self._folders(file):
            said = self._list(folder).get(_key(file.relative_to(folder).as_posix()))
            found = filled_from(found, said)
        return found

    def _folders(self, file: Path) -> list[Path]:
        """Return the picture's folder and those above it, up to one that was named."""
        above = list(file.parents)
        ends = [place for place, folder in enumerate(above) if folder in self._within]
        return above[: max(ends, default=0) + 1]

    def _list(self, folder: Path) -> dict[str, Generation]:
        tables = _tables_in(folder)
        if not tables:
            return {}
        with self._lock:
            kept = self._lists.get(folder)
            if kept is None or kept[0] != tables:
                kept = self._lists[folder] = tables, _read_lists(tables)
            self._lists.move_to_end(folder)
            if len(self._lists) > _KEPT_FOLDERS:
                self._lists.popitem(last=False)
            return kept[1]


def _tables_in(folder: Path) -> _Tables:
    """Return the lists that a folder has, each with its size and the time of its last change."""
    found = []
    for name in METADATA_NAMES:
        try:
            status = os.stat(folder / name)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((folder / name, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _read_lists(tables: _Tables) -> dict[str, Generation]:
    """Read a folder's lists; one that cannot be read is named in the log and left out."""
    found: dict[str, Generation] = {}
    for path, size, _ in tables:
        try:
            if size > MAX_LIST_BYTES:
                raise SourceError(path, f"is larger than {MAX_LIST_BYTES // 2**20} MiB")
            _read_list(path, found)
        except (SourceError, OSError, UnicodeError) as error:
            said = str(error).rstrip(".")
            _log.warning("%s. How pictures were generated is not taken from it.", said)
    return found


def _read_list(path: Path, found: dict[str, Generation]) -> None:
    table = open_table(path)
    column = table.path_column(USUAL_COLUMNS)
    if column is None:
        return
    for row in table.rows(omit=table.blobs):
        if isinstance(row, Row):
            name = row.values.get(column)
            said = _said(row.values, (column, *table.blobs)) if isinstance(name, str) else None
            if said is not None:
                found.setdefault(_key(str(name)), said)


def _said(values: dict[str, Any], omit: tuple[str, ...]) -> Generation | None:
    """Return what a row says, or None for one about something else: an artwork, a training image."""
    told = {name: value for name, value in values.items() if value not in ("", None)}
    generation = generation_from(told, omit=omit)
    if generation.seed is not None and not generation.prompt:
        caption = next((name for name in told if normalised(name) in _CAPTIONS and name not in omit), None)
        if caption is not None:
            renamed = {"prompt" if name == caption else name: value for name, value in told.items()}
            generation = generation_from(renamed, omit=omit)
    return generation if says_something(generation) else None


def _key(name: str) -> str:
    """Return a relative path as lists and folders spell it alike: forward slashes, NFC, no leading ``./``."""
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    while name.startswith("./"):
        name = name[2:]
    return name
