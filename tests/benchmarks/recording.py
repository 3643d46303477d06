"""The recorder that is preloaded into the crash tests' process (`recorder.c`): compiled, armed, its log read."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")


class Mode(IntEnum):
    """What happens at the boundary that is waited for."""

    LOG = 0
    KILL = 1
    TEAR = 2
    """Half of a write is done, then the process is killed."""

    FAIL_ONCE = 3
    FULL = 4
    """Half of a write is done; that, and all that takes space from then on, fails."""

    READ_ONLY = 5
    """Every change fails."""


class Kind(IntEnum):
    """Kinds of what is logged."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9
    OPEN = 10
    MARK = 11


@dataclass(frozen=True, slots=True)
class Entry:
    """One logged call.

    Attributes:
        inode: Of the file or folder it changed.
        offset: Where a write began; the value of a mark.
        length: Bytes written, or the new size.
        path: Absolute; empty for marks.
        second: New name of a renamed or linked file.
        data: Bytes written.
    """

    kind: Kind
    inode: int = 0
    offset: int = 0
    length: int = 0
    path: str = ""
    second: str = ""
    data: bytes = b""


_HEAD = struct.Struct("<B7xQqqII")


def compiler() -> str | None:
    """Return the C compiler, or None where the recorder cannot be made: none there, or no Linux."""
    if not sys.platform.startswith("linux"):
        return None
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compiled(folder: Path) -> Path:
    """Compile the recorder into a folder, once."""
    found = compiler()
    if found is None:
        raise RuntimeError("the crash tests need Linux and a C compiler (cc)")
    library = folder / f"recorder-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if not library.exists():
        command = [found, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
    return library


class Recorder:
    """The preloaded recorder of this process."""

    def __init__(self) -> None:
        """Find it; it was preloaded when the process started."""
        library = ctypes.CDLL(None)
        if not hasattr(library, "recorder_arm"):
            raise RuntimeError("the recorder is not preloaded: set LD_PRELOAD to what `compiled` returns")
        self._arm, self._disarm, self._mark = (
            library.recorder_arm,
            library.recorder_disarm,
            library.recorder_mark,
        )
        self._arm.argtypes = [
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._disarm.restype = ctypes.c_long
        self._clock = library.recorder_clock
        self._clock.argtypes = [ctypes.c_int64]
        self._mark.argtypes = [ctypes.c_int64]

    def arm(self, root: Path, *, mode: Mode, at: int = 0, error: int = 0, log: Path | None = None) -> None:
        """Watch a folder in this process from now on.

        Args:
            root: All changes below it are numbered from 1.
            mode: What to do at number `at`.
            at: A number; 0 for never.
            error: errno of what fails.
            log: Where to log to.
        """
        if self._arm(os.fsencode(root), os.fsencode(log) if log else None, at, int(mode), error):
            raise RuntimeError(f"{root}: cannot be watched")

    def disarm(self) -> int:
        """Stop watching; return how many boundaries there were."""
        return int(self._disarm())

    def set_clock(self, seconds: int) -> None:
        """Let this process's clock be so many seconds ahead, or behind."""
        self._clock(seconds)

    def mark(self, value: int) -> None:
        """Log a value between the calls."""
        self._mark(value)


def entries(log: Path) -> Iterator[Entry]:
    """Yield what was logged, in order."""
    data = log.read_bytes()
    place = 0
    while place < len(data):
        kind, inode, offset, length, first, second = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        path = os.fsdecode(data[place : place + first])
        place += first
        other = os.fsdecode(data[place : place + second])
        place += second
        written = length if kind == Kind.WRITE else 0
        yield Entry(Kind(kind), inode, offset, length, path, other, data[place : place + written])
        place += written
