"""What a guard says of one picture: findings, tries, what was done, what it took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from detector.report import ImageReport, Match, Verdict
from detector.reports.wording import described, headline, level_in_words, plain, title_of
from detector.rights import licence_sentence

FORMAT_VERSION = 1
"""Version of the JSON form of a `GuardReport`."""


class Action(Enum):
    """What was done about a picture."""

    NONE = "none"
    """No match counts: it is as the pipeline made it."""
    ANNOTATED = "annotated"
    """A match counts; the picture is as the pipeline made it."""
    BLANKED = "blanked"
    """A match counts; a black picture is in its place."""
    REGENERATED = "regenerated"
    """A match counted; a later try is in its place."""
    RAISED = "raised"
    """A match counts; the call raised `ReplicationError`."""


@dataclass(frozen=True, slots=True)
class Try:
    """One picture that a pipeline made.

    Attributes:
        finding: What was found, with how it was generated.
        seed: Of its generator, or None where that is not known.
        check_s: What checking took, in seconds; of pictures checked together an equal share.
        generation_s: What generating took, likewise.
    """

    finding: ImageReport
    seed: int | None
    check_s: float
    generation_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "seed": self.seed,
            "check_s": self.check_s,
            "generation_s": self.generation_s,
            "finding": self.finding.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What a guard says of one picture of a call.

    Attributes:
        action: What was done about it.
        tries: Every picture made for its place, in order; the first is what the call made.
    """

    action: Action
    tries: tuple[Try, ...]

    @property
    def finding(self) -> ImageReport:
        """What was found in the last try: the picture that was returned, unless it was blacked out."""
        return self.tries[-1].finding

    @property
    def verdict(self) -> Verdict:
        """The finding's verdict."""
        return self.finding.verdict

    @property
    def level(self) -> int:
        """The finding's level, 0–5; cleared matches do not count."""
        return self.finding.level

    @property
    def matches(self) -> tuple[Match, ...]:
        """The finding's matches, closest first, cleared ones included."""
        return self.finding.matches

    @property
    def check_s(self) -> float:
        """What checking took, all tries together, in seconds."""
        return sum(each.check_s for each in self.tries)

    @property
    def generation_s(self) -> float:
        """What generating took, all tries together, in seconds."""
        return sum(each.generation_s for each in self.tries)

    @property
    def sentences(self) -> tuple[str, ...]:
        """For each match: which work, whose, how close, and what its licence asks for."""
        return tuple(
            f"{match_in_words(match)}. {licence_sentence(match.reference)}" for match in self.matches
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `finding` is a line of findings as scans write them."""
        return {
            "format_version": FORMAT_VERSION,
            "action": self.action.value,
            "check_s": self.check_s,
            "generation_s": self.generation_s,
            "sentences": list(self.sentences),
            "finding": self.finding.to_dict(),
            "tries": [each.to_dict() for each in self.tries],
        }

    def save(self, image: Any, path: str | Path) -> None:
        """Save a picture with its findings and how it was generated in its metadata.

        Args:
            image: The picture as the pipeline returned it: PIL, an array (H, W, C) or a tensor (C, H, W), 0–1.
            path: Where to; its ending chooses PNG, JPEG or WebP.

        Raises:
            UsageError: Another ending, or the file cannot be written.
        """
        from detector.guarding.pictures import as_pil
        from detector.metadata import write_picture

        finding = self.finding
        if finding.generation is not None:
            extra = finding.generation.extra | {"guard": self.action.value, "tries": str(len(self.tries))}
            finding = replace(finding, generation=replace(finding.generation, extra=extra))
        write_picture(as_pil(image), path, finding)


def match_in_words(match: Match) -> str:
    """Return ``Replicates “Tidewater” by Ines Marlowe (CC0-1.0), level 4 near copy``."""
    place = described(match.reference.occurrences)
    words = "Replicates" if match.level >= 3 else headline(match.level)
    by = f" by {place.artist.strip()}" if place.artist.strip() else ""
    licence = place.licence.strip() or "licence not recorded"
    cleared = ", cleared by the policy" if match.cleared else ""
    return plain(f"{words} “{title_of(place)}”{by} ({licence}), level {level_in_words(match.level)}{cleared}")
