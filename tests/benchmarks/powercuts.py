"""What a disk holds after a power cut: a recorded run replayed, without what was not synced, or with some of it.

The model is the strict one of POSIX. A file's bytes are sure to be there once the file was synced; a name (created,
renamed, removed) once its folder was. Anything else may be there or not, each sector and each name by itself, except
that a rename is one change. Real file systems lose less.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.benchmarks.recording import Entry, Kind

SECTOR = 512


class Loss(Enum):
    """What of the unsynced is gone."""

    ALL = "all that was not synced"
    DATA = "data not synced, names kept"
    NAMES = "names not synced, data kept"
    SOME = "some of what was not synced"
    NONE = "nothing"


@dataclass(slots=True)
class _File:
    """One file: what is sure to be there, and changes since: writes (place, bytes) and sizes (new size, None)."""

    sure: bytearray = field(default_factory=bytearray)
    later: list[tuple[int, bytes | None]] = field(default_factory=list)


FOLDER = -1


class Disk:
    """A folder as a power cut would leave it, at any moment of a recorded run."""

    def __init__(self, root: Path) -> None:
        """Take the folder as it is now as safely on disk."""
        self._root = root.resolve()
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._changes: list[tuple[Entry, int]] = []
        self._current: dict[int, int] = {}
        self._next = 0
        for entry in sorted(self._root.rglob("*")):
            if entry.is_dir():
                self._names[str(entry)] = FOLDER
            else:
                self._names[str(entry)] = self._file(entry.stat().st_ino, entry.read_bytes())

    def _file(self, inode: int, content: bytes = b"") -> int:
        """Give an inode's file a number of its own: inodes are used again."""
        self._next += 1
        self._current[inode] = self._next
        self._files[self._next] = _File(bytearray(content))
        return self._next

    def apply(self, entry: Entry) -> None:
        """Let one recorded call happen."""
        kind = entry.kind
        if kind is Kind.CREATE:
            self._changes.append((entry, self._file(entry.inode)))
        elif kind is Kind.WRITE:
            self._files[self._current[entry.inode]].later.append((entry.offset, entry.data))
        elif kind is Kind.TRUNCATE:
            self._files[self._current[entry.inode]].later.append((entry.length, None))
        elif kind is Kind.SYNC and entry.length:
            self._sync_names(entry.path)
        elif kind is Kind.SYNC:
            file = self._files[self._current[entry.inode]]
            for change in file.later:
                _change(file.sure, *change)
            file.later.clear()
        elif kind in (Kind.RENAME, Kind.UNLINK, Kind.MKDIR, Kind.RMDIR, Kind.LINK):
            number = FOLDER if kind in (Kind.MKDIR, Kind.RMDIR) else self._current.get(entry.inode, FOLDER)
            self._changes.append((entry, number))

    def _sync_names(self, folder: str) -> None:
        left = []
        for entry, number in self._changes:
            if folder in (os.path.dirname(entry.path), os.path.dirname(entry.second)):
                _rename(self._names, entry, number)
            else:
                left.append((entry, number))
        self._changes = left

    def survivors(self, loss: Loss, rng: random.Random) -> dict[str, bytes | None]:
        """Return what is there after a power cut now: contents by path below the root, None for folders."""
        names = dict(self._names)
        for entry, number in self._changes:
            if loss in (Loss.DATA, Loss.NONE) or (loss is Loss.SOME and rng.random() < 0.5):
                _rename(names, entry, number)
        contents: dict[int, bytes] = {}
        found: dict[str, bytes | None] = {}
        for path, number in sorted(names.items()):
            above = os.path.dirname(path)
            if above != str(self._root) and above not in found:
                continue  # its folder is gone
            if number == FOLDER:
                found[path] = None
            else:
                if number not in contents:
                    contents[number] = self._content(self._files[number], loss, rng)
                found[path] = contents[number]
        return {os.path.relpath(path, self._root): content for path, content in found.items()}

    def _content(self, file: _File, loss: Loss, rng: random.Random) -> bytes:
        content = bytearray(file.sure)
        for place, data in file.later:
            if loss in (Loss.NAMES, Loss.NONE):
                _change(content, place, data)
            elif loss is Loss.DATA and data is not None:
                # The size is there, the bytes are not: the classic after a rename without a sync.
                content.extend(bytes(max(0, place + len(data) - len(content))))
            elif loss is Loss.SOME and data is None:
                if rng.random() < 0.5:
                    _change(content, place, data)
            elif loss is Loss.SOME and data is not None:
                self._some(content, place, data, rng)
        return bytes(content)

    @staticmethod
    def _some(content: bytearray, place: int, data: bytes, rng: random.Random) -> None:
        kept = rng.choice(("all", "none", "each"))
        start = 0
        while start < len(data):
            stop = min(len(data), (place + start) // SECTOR * SECTOR + SECTOR - place)
            if kept == "all" or (kept == "each" and rng.random() < 0.5):
                _change(content, place + start, data[start:stop])
            start = stop


def _change(content: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        del content[place:]
        content.extend(bytes(place - len(content)))
        return
    content.extend(bytes(max(0, place - len(content))))
    content[place : place + len(data)] = data


def _rename(names: dict[str, int], entry: Entry, number: int) -> None:
    """Do what a call did to names."""
    if entry.kind in (Kind.CREATE, Kind.MKDIR):
        names[entry.path] = number
    elif entry.kind in (Kind.UNLINK, Kind.RMDIR):
        names.pop(entry.path, None)
    elif entry.kind is Kind.LINK:
        names[entry.second] = number
    else:
        names.pop(entry.path, None)
        names[entry.second] = number


def written(contents: dict[str, bytes | None], root: Path) -> None:
    """Make a folder of what survived."""
    root.mkdir(parents=True)
    for name, content in contents.items():  # folders come before what is in them
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def boundaries(log: Sequence[Entry]) -> list[int]:
    """Return the places in a log right after each change, sync or mark."""
    return [place + 1 for place, entry in enumerate(log) if entry.kind is not Kind.OPEN]
