"""Answers to look-ups, kept in memory for a while: pages work without scripts, and no upload ever reaches a disk."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.artists.report import FoundWork, LookupReport
    from detector.server.engine import CheckedPicture

MAX_BYTES = 256 * 1024 * 1024
"""Of all kept answers: some 500 with 16 previews each."""

MAX_AGE_S = 2 * 60 * 60.0
"""After an answer was last looked at: long enough to read, compare and fill in a form."""

BYTES_OF_WORK = 4 * 1024
"""What a found work may take: its occurrences, a match and its evidence. Replicas are the findings'."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer.

    Attributes:
        id: 128 random bits; who has it can read the answer, and nobody can guess it.
        report: What was found.
        pictures: The uploads as they were checked, by name: what is said of each, and its preview.
        size: Bytes that it takes, about.
    """

    id: str
    report: LookupReport
    pictures: dict[str, CheckedPicture] = field(default_factory=dict)
    size: int = 0

    def work(self, number: int) -> FoundWork | None:
        """Return a found work by its number, from 1, or None."""
        return self.report.works[number - 1] if 0 < number <= len(self.report.works) else None

    def preview(self, number: int) -> bytes:
        """Return the preview of an upload by its number, from 1; empty where there is none."""
        pictures = list(self.pictures.values())
        return pictures[number - 1].preview if 0 < number <= len(pictures) else b""

    def number_of(self, picture: str) -> int:
        """Return the number, from 1, of the upload of this name; 0 where there is no preview of it."""
        found = self.pictures.get(picture)
        return list(self.pictures).index(picture) + 1 if found is not None and found.preview else 0


class Results:
    """Keeps answers within bounds of bytes and of time; the one that was not looked at for longest goes first.

    For one event loop: nothing here waits or locks.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep none yet.

        Args:
            max_bytes: Of all answers together; the newest is kept whatever its size.
            max_age_s: How long one is kept after it was last looked at.
            clock: Seconds, ever rising.
        """
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._kept: OrderedDict[str, tuple[Result, float]] = OrderedDict()
        self._bytes = 0

    def keep(self, report: LookupReport, checked: Sequence[CheckedPicture] = ()) -> Result:
        """Keep an answer.

        Args:
            report: What was found.
            checked: The uploads, with previews.

        Returns:
            The answer, with the id that it is found by.
        """
        size = sum(len(one.preview) for one in checked) + BYTES_OF_WORK * (1 + len(report.works))
        pictures = {one.report.query: one for one in checked}
        result = Result(secrets.token_urlsafe(16), report, pictures, size)
        self._kept[result.id] = result, self._clock()
        self._bytes += size
        self._drop()
        return result

    def get(self, result_id: str) -> Result | None:
        """Return an answer, which is then kept for as long again; None where it is gone or never was."""
        self._drop()
        found = self._kept.get(result_id)
        if found is None:
            return None
        self._kept[result_id] = found[0], self._clock()
        self._kept.move_to_end(result_id)
        return found[0]

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def _drop(self) -> None:
        oldest = self._clock() - self._max_age_s
        while self._kept:
            result, looked_at = next(iter(self._kept.values()))
            if looked_at >= oldest and (self._bytes <= self._max_bytes or len(self._kept) == 1):
                return
            del self._kept[result.id]
            self._bytes -= result.size
