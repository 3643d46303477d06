"""Plain files and folders: nothing of an index is read from a pipe or a device, or written through a link.

A folder that somebody else made can hold a pipe, which waits for ever, a device, which never ends, or a link, through
which a writer would change a file that lies elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from index.errors import IndexWriteError
from index.items import kind_of


def must_be_file(path: Path) -> int:
    """Return the size of a regular file, or of the one that a link leads to, in bytes.

    Raises:
        OSError: There is none, or it is a folder, a pipe or a device.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"is {kind_of(status.st_mode)}, not a file", str(path))
    return status.st_size


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: As of `must_be_file`, or it cannot be read, or is larger than `max_bytes`.
    """
    size = must_be_file(path)
    if size > max_bytes:
        raise OSError(errno.EFBIG, f"has {size:,} bytes; the limit is {max_bytes:,}", str(path))
    return path.read_bytes()


def must_be_plain(folder: Path, *, files: Iterable[str], folders: Iterable[str]) -> None:
    """Check what a writer is about to open: those of some names that are there are no links, pipes or devices.

    Raises:
        IndexWriteError: One is.
    """
    for names, wanted, what in ((files, stat.S_ISREG, "a plain file"), (folders, stat.S_ISDIR, "a folder")):
        for name in names:
            try:
                mode = os.lstat(folder / name).st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not wanted(mode):
                found = "a link" if stat.S_ISLNK(mode) else kind_of(mode)
                raise IndexWriteError(
                    folder,
                    f"cannot be written: its {name} is {found}, not {what}. Write to a copy of your own: "
                    f"cp -rL {folder} COPY",
                )


def odd_beside(database: Path) -> str:
    """Return the name of a file that SQLite would write beside a database, if it is a link, a pipe or a device."""
    for ending in ("-wal", "-shm", "-journal"):
        beside = database.with_name(database.name + ending)
        try:
            mode = os.lstat(beside).st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            return beside.name
    return ""
