"""Files that appear whole or not at all: write beside the target, fsync, `os.replace`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from index.errors import UsageError


def write_error(path: Path | str, error: OSError) -> UsageError:
    """Return what to raise where `path` cannot be written: the place, the cause, the next step."""
    cause = error.strerror or type(error).__name__
    return UsageError(
        f"{path}: cannot be written ({cause}). Name another file, or make room or rights for it."
    )


@contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without an error.

    A symbolic link keeps pointing where it did; its target is replaced.

    Raises:
        UsageError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path}: is a folder. Name a file to write to.")
    beside = target.parent / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
