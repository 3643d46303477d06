"""What a check or a scan found, as frozen values: `Match`, `ImageReport`, and their parts.

Everything here converts to plain JSON values and back without loss (`to_dict`, `from_dict`); a line of
findings in JSONL is one `ImageReport`. Writers for people and programs live in `detector.reports`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from detector.generation import Generation, finite_number, number_in, share_of_one, whole_number

FORMAT_VERSION = 1
"""Version of the JSON form of an `ImageReport`."""

Point = tuple[float, float]
"""A corner as fractions of width and height, 0–1, origin top left."""

LEVEL_WORDS: dict[int, str] = {
    5: "verbatim copy",
    4: "near copy",
    3: "partial copy",
    2: "strong resemblance, not verified",
    1: "weak resemblance",
    0: "no resemblance",
}


class Verdict(Enum):
    """What is said of one query."""

    REPLICA = "replica"
    POSSIBLE = "possible"
    NO_MATCH = "no_match"
    UNREADABLE = "unreadable"


def verdict_of_level(level: int) -> Verdict:
    """Return the verdict that a level (0–5) stands for: replica from 3 on, possible at 2."""
    if level >= 3:
        return Verdict.REPLICA
    return Verdict.POSSIBLE if level == 2 else Verdict.NO_MATCH


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place a reference came from. Empty strings mean: not recorded.

    Attributes:
        path: Path, or ``shard.tar::member``, as given at build time.
        extra: Every other column of the list it came from, as given.
    """

    path: str
    artist: str = ""
    title: str = ""
    licence: str = ""
    source: str = ""
    caption: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "path": self.path,
            "artist": self.artist,
            "title": self.title,
            "licence": self.licence,
            "source": self.source,
            "caption": self.caption,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Occurrence:
        """Read what `to_dict` wrote; absent keys are empty."""
        texts = {
            k: str(values.get(k) or "") for k in ("path", "artist", "title", "licence", "source", "caption")
        }
        return cls(**texts, extra={str(k): str(v) for k, v in dict(values.get("extra") or {}).items()})


@dataclass(frozen=True, slots=True)
class Reference:
    """An indexed training image, with every place it came from.

    Attributes:
        id: Its number in the index.
        sha256: Hex digest of its file.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
    """

    id: int
    sha256: str
    width: int
    height: int
    occurrences: tuple[Occurrence, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "occurrences": [o.to_dict() for o in self.occurrences],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reference:
        """Read what `to_dict` wrote."""
        return cls(
            id=whole_number(values["id"]),
            sha256=str(values.get("sha256", "")),
            width=whole_number(values.get("width", 0)),
            height=whole_number(values.get("height", 0)),
            occurrences=tuple(Occurrence.from_dict(o) for o in values.get("occurrences", [])),
        )


WHOLE_PICTURE, SQUARE = "whole", "middle square"
"""What of a reference `Evidence.reference_frame` names."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The measured facts behind a match. None means: not measured.

    Attributes:
        pdq_distance: Differing bits of 256, smaller is more alike, of the better mirror state.
        phash_distance: Differing bits of 64, likewise.
        reference_frame: What of the reference these distances are to: ``whole``, or ``middle square``, which most
            trainers crop pictures to and which the index then has rows of.
        cosines: Cosine in [-1, 1] for each neural descriptor, by its name.
        votes: Local features of the query whose nearest features in the whole index lie in this reference.
        matches: Feature pairs between the two pictures that pass the ratio test.
        inliers: Those among them that one geometric transformation explains.
        guided: All feature pairs that look alike and lie where that transformation says.
        coverage: Share of the query's area inside the shared region, 0–1.
        reference_coverage: Share of the reference's area inside the shared region, 0–1.
        aligned_similarity: Structural similarity inside the overlap after alignment, -1–1.
        tiled_l2: Largest tile's root mean square difference after alignment, 0–1, smaller is more alike.
        agreement: Share of the structured part of the shared region that shows the same, 0–1.
        exactness: Share of the structured part of the shared region with the same strokes at the same places, 0–1.
        verification: How the match was verified: ``identical`` (the same file), ``keypoints``, ``dense``,
            ``none`` (tried, failed) or ``unverified`` (nothing to verify with).
        template: True where all but one region is the same (Webster 2023).
    """

    pdq_distance: int | None = None
    phash_distance: int | None = None
    cosines: dict[str, float] = field(default_factory=dict)
    votes: float | None = None
    matches: int | None = None
    inliers: int | None = None
    guided: int | None = None
    coverage: float | None = None
    reference_coverage: float | None = None
    aligned_similarity: float | None = None
    tiled_l2: float | None = None
    agreement: float | None = None
    exactness: float | None = None
    verification: str = "unverified"
    template: bool = False
    reference_frame: str = WHOLE_PICTURE

    @property
    def cosine(self) -> float | None:
        """The largest cosine over neural descriptors, or None."""
        return max(self.cosines.values(), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "pdq_distance": self.pdq_distance,
            "phash_distance": self.phash_distance,
            "reference_frame": self.reference_frame,
            "cosine": self.cosine,
            "cosines": dict(self.cosines),
            "votes": self.votes,
            "matches": self.matches,
            "inliers": self.inliers,
            "guided": self.guided,
            "coverage": self.coverage,
            "reference_coverage": self.reference_coverage,
            "aligned_similarity": self.aligned_similarity,
            "tiled_l2": self.tiled_l2,
            "agreement": self.agreement,
            "exactness": self.exactness,
            "verification": self.verification,
            "template": self.template,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evidence:
        """Read what `to_dict` wrote; absent keys mean: not measured."""
        numbers = {
            k: number_in(values, k)
            for k in cls.__slots__
            if k not in ("cosines", "verification", "template", "reference_frame")
        }
        return cls(
            **numbers,
            cosines={
                str(k): finite_number(v)
                for k, v in dict(values.get("cosines") or {}).items()
                if v is not None
            },
            verification=str(values.get("verification") or "unverified"),
            template=bool(values.get("template", False)),
            reference_frame=str(values.get("reference_frame") or WHOLE_PICTURE),
        )


@dataclass(frozen=True, slots=True)
class Match:
    """A reference that verification and scoring kept for a query.

    Attributes:
        level: Replication level, 0–5.
        score: Calibrated, 0–1, higher is more alike.
        p_value: Chance that an unrelated picture has a best match as close as this in this index, or None.
        cleared: The rights policy allows this reference.
        mirrored: The query shows it mirrored left to right.
        query_region: Polygon of the shared region in the query, or empty.
        reference_region: The same in the reference, corner by corner.
        near_duplicates: Other references of the index that are near-duplicates of this one.
    """

    level: int
    score: float
    evidence: Evidence
    reference: Reference
    p_value: float | None = None
    cleared: bool = False
    mirrored: bool = False
    query_region: tuple[Point, ...] = ()
    reference_region: tuple[Point, ...] = ()
    near_duplicates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "level": self.level,
            "score": self.score,
            "p_value": self.p_value,
            "cleared": self.cleared,
            "mirrored": self.mirrored,
            "query_region": [list(p) for p in self.query_region],
            "reference_region": [list(p) for p in self.reference_region],
            "evidence": self.evidence.to_dict(),
            "near_duplicates": self.near_duplicates,
            "reference": self.reference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Match:
        """Read what `to_dict` wrote."""

        def polygon(key: str) -> tuple[Point, ...]:
            return tuple((finite_number(x), finite_number(y)) for x, y in values.get(key) or ())

        return cls(
            level=whole_number(values["level"], most=5),
            score=share_of_one(values["score"]),
            evidence=Evidence.from_dict(values.get("evidence", {})),
            reference=Reference.from_dict(values["reference"]),
            p_value=number_in(values, "p_value"),
            cleared=bool(values.get("cleared", False)),
            mirrored=bool(values.get("mirrored", False)),
            query_region=polygon("query_region"),
            reference_region=polygon("reference_region"),
            near_duplicates=whole_number(values.get("near_duplicates", 0)),
        )


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What is said of one query.

    Attributes:
        query: Path of the query, or a name given by the caller.
        verdict: `Verdict` over all matches that are not cleared.
        level: Highest level among matches that are not cleared, 0–5.
        score: Highest score among those, 0–1.
        reason: Why there is no verdict or no match, e.g. ``too_little_detail``, ``truncated``; or None.
        matches: Closest first, cleared ones included.
        width: Of the query, in pixels; 0 where unreadable.
        height: Of the query, in pixels; 0 where unreadable.
        generation: How it was generated, where that is recorded.
    """

    query: str
    verdict: Verdict
    level: int = 0
    score: float = 0.0
    reason: str | None = None
    matches: tuple[Match, ...] = ()
    sha256: str = ""
    width: int = 0
    height: int = 0
    generation: Generation | None = None

    @property
    def best(self) -> Match | None:
        """The closest match, cleared or not, or None."""
        return self.matches[0] if self.matches else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: one line of findings."""
        return {
            "format_version": FORMAT_VERSION,
            "query": self.query,
            "verdict": self.verdict.value,
            "level": self.level,
            "score": self.score,
            "reason": self.reason,
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "generation": None if self.generation is None else self.generation.to_dict(),
            "matches": [m.to_dict() for m in self.matches],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageReport:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: The values have another format version, or miss a key.
        """
        if values.get("format_version") != FORMAT_VERSION:
            found = values.get("format_version")
            raise ValueError(f"findings have format_version {found!r}; this version reads {FORMAT_VERSION}")
        try:
            return cls(
                query=str(values["query"]),
                verdict=Verdict(values["verdict"]),
                level=whole_number(values.get("level", 0), most=5),
                score=share_of_one(values.get("score", 0.0)),
                reason=None if values.get("reason") is None else str(values["reason"]),
                matches=tuple(Match.from_dict(m) for m in values.get("matches", [])),
                sha256=str(values.get("sha256", "")),
                width=whole_number(values.get("width", 0)),
                height=whole_number(values.get("height", 0)),
                generation=Generation.from_dict(values["generation"]) if values.get("generation") else None,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"findings line misses or garbles a value: {error}") from error

    def with_cleared(self, cleared: tuple[bool, ...]) -> ImageReport:
        """Return the same findings with other matches cleared, verdict, level and score following.

        Args:
            cleared: One flag a match, in their order.
        """
        matches = tuple(replace(m, cleared=flag) for m, flag in zip(self.matches, cleared, strict=True))
        if self.verdict is Verdict.UNREADABLE:
            return self
        counting = [m for m in matches if not m.cleared]
        level = max((m.level for m in counting), default=0)
        score = max((m.score for m in counting), default=0.0)
        return replace(self, matches=matches, level=level, score=score, verdict=verdict_of_level(level))


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """Counts over a scan.

    Attributes:
        queries: All pictures looked at, unreadable ones included.
        replica: Queries with that verdict; the three below likewise.
        cleared: Queries whose every match of level 2 or more is cleared.
        seconds: Wall time of the scan; 0 where only re-read.
    """

    queries: int = 0
    replica: int = 0
    possible: int = 0
    no_match: int = 0
    unreadable: int = 0
    cleared: int = 0
    seconds: float = 0.0
