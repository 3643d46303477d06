"""Checking what was generated, and deciding which pictures count: one rule for guard, safety checker and block."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from detector.detector import Detector
from detector.guarding.pictures import blacked, readable, replaced
from detector.guarding.report import Action, GuardReport, Try, match_in_words
from detector.report import ImageReport, Verdict
from index.errors import ReplicationError, UsageError

MIN_LEVEL = 3
"""Level from which a picture counts as a replica (`detector.report.verdict_of_level`)."""


class OnMatch(Enum):
    """What is done with a picture that replicates a training image."""

    ANNOTATE = "annotate"
    """Return it; its report says what was found."""
    BLANK = "blank"
    """Return a black picture in its place."""
    REGENERATE = "regenerate"
    """Make it again from other seeds; a black picture where every try replicates."""
    RAISE = "raise"
    """Raise `ReplicationError` instead of returning anything."""

    @property
    def action(self) -> Action:
        """What a report says that was done."""
        return {
            OnMatch.ANNOTATE: Action.ANNOTATED,
            OnMatch.BLANK: Action.BLANKED,
            OnMatch.REGENERATE: Action.REGENERATED,
            OnMatch.RAISE: Action.RAISED,
        }[self]


def policy_of(on_match: OnMatch | str) -> OnMatch:
    """Return a policy by its name.

    Raises:
        UsageError: There is none of this name.
    """
    try:
        return OnMatch(on_match)
    except ValueError:
        choices = ", ".join(each.value for each in OnMatch)
        raise UsageError(f"on_match={on_match!r} is no choice. Give one of: {choices}") from None


def opened(detector: Any) -> tuple[Detector, bool]:
    """Return a detector, and whether it was opened here and is to be closed by whoever asked.

    Args:
        detector: A `Detector`, or the path of an index.

    Raises:
        UsageError: It is neither.
        IndexFolderError: The index cannot be opened.
    """
    if isinstance(detector, Detector):
        return detector, False
    if isinstance(detector, (str, Path)):
        return Detector.open(detector), True
    raise UsageError(
        f"{detector!r:.60} is no detector. Give Detector.open(INDEX), or the path of an index: guard(pipe, INDEX)"
    )


def valid_level(min_level: int) -> int:
    """Return a bound for the level.

    Raises:
        UsageError: It is no level from 1 to 5.
    """
    if min_level not in range(1, 6):
        raise UsageError(
            f"min_level={min_level!r} is no level. Give 1 to 5: 3 stops replicas, 2 also resemblance not verified"
        )
    return min_level


def check(detector: Detector, images: Any, *, generation_s: float = 0.0) -> list[Try]:
    """Check pictures as one batch; seeds and generation are for the caller to add.

    Args:
        detector: With its policy: cleared matches do not count.
        images: As for `readable`.
        generation_s: What generating one of them took, in seconds.
    """
    pictures = readable(images)
    names = [f"image {number}" for number in range(1, len(pictures) + 1)]
    begun = time.perf_counter()
    findings = detector.check_many(pictures, names=names)
    each = (time.perf_counter() - begun) / max(1, len(pictures))
    return [Try(finding, None, each, generation_s) for finding in findings]


def judged(
    detector: Detector,
    images: Any,
    *,
    policy: OnMatch,
    min_level: int,
    callback: Callable[[GuardReport], object] | None,
) -> tuple[GuardReport, ...]:
    """Check pictures of which there is one try each, and tell a callback.

    Args:
        detector: As for `check`.
        images: As for `readable`.
        policy: What is to be done about those that count.
        min_level: From which level they do.
        callback: Called with each report.
    """
    reports = tuple(
        GuardReport(policy.action if counts(each.finding, min_level) else Action.NONE, (each,))
        for each in check(detector, images)
    )
    if callback is not None:
        for report in reports:
            callback(report)
    return reports


def blanked(images: Any, reports: tuple[GuardReport, ...]) -> Any:
    """Return pictures, black in place of those whose report says `Action.BLANKED`."""
    changes = {
        at: blacked(images[at]) for at, report in enumerate(reports) if report.action is Action.BLANKED
    }
    return replaced(images, changes)


def counts(finding: ImageReport, min_level: int) -> bool:
    """Say whether a finding is one to act upon; what could not be checked is."""
    return finding.level >= min_level or finding.verdict is Verdict.UNREADABLE


def raise_replication(reports: tuple[GuardReport, ...], *, advice: str) -> None:
    """Raise where the action of a report is `Action.RAISED`.

    Raises:
        ReplicationError: One is.
    """
    said = [
        f"image {number} of {len(reports)} {_why(report.finding)}"
        for number, report in enumerate(reports, start=1)
        if report.action is Action.RAISED
    ]
    if said:
        raise ReplicationError(f"{'; '.join(said)}. {advice}", reports)


def _why(finding: ImageReport) -> str:
    counting = next((match for match in finding.matches if not match.cleared), None)
    if counting is None:
        return f"could not be checked ({finding.reason})"
    words = match_in_words(counting)
    return words[:1].lower() + words[1:]
