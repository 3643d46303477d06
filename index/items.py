"""One occurrence of a picture in a source, how its bytes are read, and what a source is."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from index.credits import Credits
from index.errors import UnreadableImageError
from index.images import MAX_BYTES


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One occurrence of a picture: its name, its credits, and where its bytes are. Small, and can be pickled.

    Attributes:
        locator: Stable name of this occurrence: the path as given with ``/``, ``shards/0000.tar::key.jpg`` or
            ``table.parquet::row 17``.
        credits: What the source says about it.
        path: The file that holds its bytes.
        size: Number of bytes, -1 when unknown.
        mtime_ns: When the file (the shard, the table) was last changed; 0 when unknown.
        offset: Where in the file its bytes begin; -1 when they are the whole file.
        data: The bytes themselves, where the source has them in its hands anyway (Parquet); None otherwise.
        max_bytes: Refuse to read more than this.
    """

    locator: str
    credits: Credits
    path: Path
    size: int = -1
    mtime_ns: int = 0
    offset: int = -1
    data: bytes | None = field(default=None, repr=False)
    max_bytes: int = MAX_BYTES

    def read(self) -> bytes:
        """Return the encoded picture.

        Returns:
            Its bytes, at least one.

        Raises:
            UnreadableImageError: With reason ``missing``, ``permission_denied``, ``not_a_file``,
                ``too_large``, ``empty``, ``truncated`` or ``read_error``.
        """
        try:
            data = self._read()
        except (OSError, ValueError) as error:
            reason, detail = reason_of(error)
            raise UnreadableImageError(self.locator, reason, detail) from error
        if len(data) > self.max_bytes:
            raise self._too_large(len(data))
        if not data:
            raise UnreadableImageError(self.locator, "empty", "it has no bytes")
        if self.offset >= 0 and len(data) < self.size:
            raise UnreadableImageError(self.locator, "truncated", f"{len(data)} of {self.size} bytes")
        return data

    def _read(self) -> bytes:
        if self.data is not None:
            return self.data
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise UnreadableImageError(self.locator, "not_a_file", kind_of(status.st_mode))
        size = self.size if self.offset >= 0 else status.st_size
        if size > self.max_bytes:
            raise self._too_large(size)
        with open(self.path, "rb") as file:
            if self.offset >= 0:
                file.seek(self.offset)
                return file.read(size)
            return file.read(self.max_bytes + 1)

    def _too_large(self, size: int) -> UnreadableImageError:
        return UnreadableImageError(self.locator, "too_large", f"{size} bytes; the limit is {self.max_bytes}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something named by a source that cannot be a reference.

    Attributes:
        locator: Its name, like `SourceItem.locator`.
        reason: Short machine-readable reason: ``missing``, ``permission_denied``, ``not_a_file``,
            ``is_a_directory``, ``unsupported_extension``, ``not_local``, ``not_downloaded``, ``no_path``,
            ``bad_path``, ``bad_row``, ``bad_metadata``, ``truncated``, ``broken_shard``, ``broken_table``,
            ``compressed_shard``, ``needs_pyarrow``, ``unknown_column``, ``bad_vector``,
            ``removed_on_request``, ``read_error``.
        detail: The same for people, with the next step where there is one.
    """

    locator: str
    reason: str
    detail: str = ""


class Source(ABC):
    """Somewhere references come from. Iterating streams it, in the same order every time.

    Attributes:
        path: The folder, list, shard or file.
    """

    def __init__(self, path: Path) -> None:
        """Keep the path; subclasses check here what can be checked at once."""
        self.path = path

    @abstractmethod
    def __iter__(self) -> Iterator[SourceItem | Rejected]:
        """Yield what is there, one at a time."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line for people, such as "folder, metadata.csv with 760 rows"."""

    @abstractmethod
    def count(self) -> int | None:
        """Return about how many items iteration yields, for progress; None when that is dear to know."""


def missing_in_words(path: Path) -> str:
    """Say that a path does not exist, and what to do where it is an address of the web."""
    # A Path folds the two slashes of an address.
    address = path.parts[:1] in (("http:",), ("https:",))
    return "does not exist." + " Web addresses are not fetched: download it first." * address


def locator_of(path: Path) -> str:
    """Return a path as a locator: as given, with ``/``; bytes that are not UTF-8 are written in hex."""
    return in_utf8(path.as_posix())


def in_utf8(text: str) -> str:
    """Return a text as it is stored: bytes of a file name or an argument that are not UTF-8 are written in hex."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half characters that never were bytes, as in JSON's "\\ud800"
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def kind_of(mode: int) -> str:
    """Return in words what a file mode says that is not a regular file."""
    for test, words in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return words
    return "not a regular file"


def reason_of(error: OSError | ValueError) -> tuple[str, str]:
    """Return (reason, detail) of a failure to reach or read a file."""
    detail = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing", "no such file"
    if isinstance(error, PermissionError):
        return "permission_denied", detail
    if isinstance(error, IsADirectoryError):
        return "not_a_file", "a folder"
    if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return "bad_path", detail
    if error.errno == errno.ELOOP:
        return "missing", "a link that leads back to itself"
    return "read_error", detail
