"""The exception tree: every error this project raises on purpose.

DetectorError
├── UsageError                 the caller asked for something that cannot be (bad option, missing folder)
├── UnreadableImageError       one image could not be read; scans and builds turn it into a record
├── SourceError                a list, shard or metadata file of references cannot be used
├── ReplicationError           a guarded pipeline made an image that replicates a training image
├── DescriptorError            a descriptor is unknown or does not fit what it is asked for
│   └── WeightsError           its weights are missing, changed, or cannot be loaded
└── IndexFolderError           an index cannot be used, be it a folder or in Milvus
    ├── IndexMissingError      there is no index where one was named
    ├── IndexVersionError      its format is newer than, or unknown to, this version
    ├── IndexCorruptError      its parts contradict each other
    ├── IndexLockedError       another process is writing to it
    ├── IndexWriteError        its folder cannot be written (no permission, disk full)
    └── IndexConnectionError   Milvus does not answer, or refuses
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

GARBLED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading JSON that somebody else wrote, or garbled, into values may raise."""


class DetectorError(Exception):
    """Base of all errors raised on purpose; its text names the value and the next step."""


class UsageError(DetectorError):
    """The caller asked for something that cannot be done as asked."""


class UnreadableImageError(DetectorError):
    """One image could not be read.

    Attributes:
        locator: Path or other name of the image.
        reason: Short machine-readable reason, e.g. ``truncated``, ``not_an_image``, ``too_many_pixels``.
        detail: The decoder's own words, for people.
    """

    def __init__(self, locator: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{locator}: {reason}" + (f" ({detail})" if detail else ""))
        self.locator = locator
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str, str]]:
        """Pass from a worker process with all three facts, not the message alone."""
        return type(self), (self.locator, self.reason, self.detail)


class SourceError(DetectorError):
    """A list, shard or metadata file of references cannot be used.

    Attributes:
        path: The file or folder in question.
    """

    def __init__(self, path: Path | str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = Path(path)


class ReplicationError(DetectorError):
    """A guarded pipeline made an image that replicates a training image, and its policy is to raise.

    Attributes:
        reports: What the guard says of every image of the call, in order (`detector.GuardReport`).
    """

    def __init__(self, message: str, reports: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.reports = reports


class DescriptorError(DetectorError):
    """A descriptor is unknown, or an index and a query disagree about it.

    Attributes:
        descriptor: Its name as asked for.
    """

    def __init__(self, descriptor: str, message: str) -> None:
        super().__init__(f"{descriptor}: {message}")
        self.descriptor = descriptor


class WeightsError(DescriptorError):
    """Weights of a descriptor are missing, changed, or cannot be loaded."""


class IndexFolderError(DetectorError):
    """An index folder cannot be used.

    Attributes:
        path: The index folder.
    """

    def __init__(self, path: Path | str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = Path(path)


class IndexMissingError(IndexFolderError):
    """There is no index where one was named."""


class IndexVersionError(IndexFolderError):
    """The index has a format that this version cannot read.

    Attributes:
        found: Its format version.
        supported: The newest format version this code reads.
    """

    def __init__(self, path: Path | str, found: int, supported: int) -> None:
        super().__init__(
            path,
            f"has format {found}; this version reads up to {supported}. "
            "Run: pip install -U replication-detector",
        )
        self.found = found
        self.supported = supported


class IndexCorruptError(IndexFolderError):
    """Parts of the index contradict each other."""


class IndexLockedError(IndexFolderError):
    """Another process is writing to the index."""


class IndexWriteError(IndexFolderError):
    """The index folder cannot be written to."""


class IndexConnectionError(IndexFolderError):
    """Milvus, which holds the index, is not installed, does not answer, or refuses what it is asked."""
