"""Which pictures a training set holds more than once, how each repeats another, and which files to drop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.report import Evidence, Point, Reference
from detector.reports.atomic import replacing
from index.errors import SourceError, UsageError

if TYPE_CHECKING:
    from detector.scoring import ScoringModel
    from index.searching import Searchable

FORMAT_VERSION = 1
"""Version of the JSON form of a `DuplicateReport` and of a `DuplicateCluster`."""

MAX_REFERENCES_WITH_PARTS = 5000
"""Up to this many references shared parts are sought unless told otherwise: a picture takes 30 ms among 760,
and more among more."""

DuplicateProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class Keep(Enum):
    """Which of several whole copies stays: the ``best`` (most pixels, then best credits) or the ``first``."""

    BEST = "best"
    FIRST = "first"


class Relation(Enum):
    """How a picture repeats the one that it was compared with."""

    IDENTICAL = "identical"
    NEAR_COPY = "near_copy"
    CROP = "crop"
    INSET = "inset"
    CONTAINS = "contains"
    PART = "part"
    TEMPLATE = "template"

    @property
    def repeats(self) -> bool:
        """Whether the other picture shows nearly all of this one, and no smaller: it can be dropped."""
        return self in (Relation.IDENTICAL, Relation.NEAR_COPY, Relation.CROP)


RELATION_WORDS: dict[Relation, str] = {
    Relation.IDENTICAL: "the same pixels in another file",
    Relation.NEAR_COPY: "near copy",
    Relation.CROP: "a crop of it",
    Relation.INSET: "shown in it, smaller",
    Relation.CONTAINS: "shows all of it, and more",
    Relation.PART: "shares a part with it",
    Relation.TEMPLATE: "the same but for one region",
}


@dataclass(frozen=True, slots=True)
class Tie:
    """What ties a member to another of its cluster.

    Attributes:
        to: Id of the reference that it was compared with.
        relation: How it repeats that one.
        level: Replication level, 2–5; 2 where the index keeps nothing to verify with and hashes decided.
        score: 0–1, higher is more alike.
        mirrored: It shows the other one mirrored left to right.
        evidence: What was measured, with this member as the query.
        region: Polygon of what is shared, in this member.
        region_there: The same in the other one.
    """

    to: int
    relation: Relation
    level: int
    score: float
    mirrored: bool
    evidence: Evidence
    region: tuple[Point, ...] = ()
    region_there: tuple[Point, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "to": self.to,
            "relation": self.relation.value,
            "level": self.level,
            "score": self.score,
            "mirrored": self.mirrored,
            "evidence": self.evidence.to_dict(),
            "region": [list(point) for point in self.region],
            "region_there": [list(point) for point in self.region_there],
        }


@dataclass(frozen=True, slots=True)
class DuplicateMember:
    """A reference of a cluster.

    Attributes:
        reference: The picture, with every place it came from.
        kept: It is to stay, at one of its places.
        kept_path: That place; empty where the picture is to be dropped.
        tie: What ties it to the cluster; None for the picture that the others were compared with.
    """

    reference: Reference
    kept: bool
    kept_path: str
    tie: Tie | None = None

    @property
    def dropped_paths(self) -> list[str]:
        """Every place but the one to keep."""
        return [o.path for o in self.reference.occurrences if o.path != self.kept_path]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "reference": self.reference.to_dict(),
            "kept": self.kept,
            "kept_path": self.kept_path,
            "tie": self.tie.to_dict() if self.tie is not None else None,
        }


@dataclass(frozen=True, slots=True)
class DuplicateCluster:
    """One picture and everything in the index that repeats it.

    Attributes:
        id: Its place in the report, from 1.
        members: The one to keep first, then by level and score.
        keep: Id of the reference to keep.
        copies: k, how often the training set repeats it: occurrences of all members, less one.
    """

    id: int
    members: tuple[DuplicateMember, ...]
    keep: int
    copies: int

    @property
    def occurrences(self) -> int:
        """How many files the cluster holds."""
        return self.copies + 1

    @property
    def dropped_paths(self) -> list[str]:
        """The files to drop, in the members' order."""
        return [path for member in self.members for path in member.dropped_paths]

    @property
    def is_one_work(self) -> bool:
        """Whether every member is the same picture or a crop of it."""
        return all(member.tie is None or member.tie.relation.repeats for member in self.members)

    @property
    def meaning(self) -> str:
        """Say what the cluster means for memorisation."""
        times = "twice" if self.occurrences == 2 else f"{self.occurrences:,} times"
        what = "This work" if self.is_one_work else "This work, or a part of it,"
        return (
            f"{what} occurs {times} in the training set. Repeated pictures are the ones that diffusion "
            "models memorise most readily (Carlini et al. 2023; Webster et al. 2023)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: one line of the JSONL."""
        return {
            "format_version": FORMAT_VERSION,
            "id": self.id,
            "copies": self.copies,
            "keep": self.keep,
            "drop": self.dropped_paths,
            "meaning": self.meaning,
            "members": [member.to_dict() for member in self.members],
        }


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What an index holds more than once, the most repeated first.

    Attributes:
        index: Path of the index.
        references: Distinct pictures in it.
        occurrences: Files in it.
        keep: Which of several copies stays.
        parts: Whether shared parts were sought too, not only whole pictures.
        clusters: By copies, largest first.
        seconds: How long it took.
    """

    index: str
    references: int
    occurrences: int
    keep: Keep
    parts: bool
    clusters: tuple[DuplicateCluster, ...]
    seconds: float = 0.0

    def __iter__(self) -> Iterator[DuplicateCluster]:
        """Go through the clusters."""
        return iter(self.clusters)

    def __len__(self) -> int:
        """Return the number of clusters."""
        return len(self.clusters)

    @property
    def repeated(self) -> int:
        """How many files the clusters hold."""
        return sum(cluster.occurrences for cluster in self.clusters)

    @property
    def dropped_paths(self) -> list[str]:
        """The files to drop, cluster by cluster."""
        return [path for cluster in self.clusters for path in cluster.dropped_paths]

    @property
    def staying(self) -> int:
        """How many pictures beyond one a cluster stay, as they show more than what they share."""
        return sum(max(0, sum(m.kept for m in c.members) - 1) for c in self.clusters)

    @property
    def summary(self) -> str:
        """Say in a sentence or two what was found."""
        total = "1 training image" if self.occurrences == 1 else f"{self.occurrences:,} training images"
        if not self.clusters:
            return f"In {total}, no picture was found a second time."
        groups, verb = ("1 group", "holds") if len(self) == 1 else (f"{len(self):,} groups", "hold")
        dropped = len(self.dropped_paths)
        said = f"In {total}, {groups} of near-duplicates {verb} {self.repeated:,} images"
        if not dropped:
            return f"{said}; each shows more than what it shares, so none is listed to drop."
        if self.staying:
            return f"{said}; {dropped:,} can be dropped, {self.staying:,} more share a part and stay."
        return f"{said}; dropping {dropped:,} leaves one of each."

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "index": self.index,
            "references": self.references,
            "occurrences": self.occurrences,
            "keep": self.keep.value,
            "parts": self.parts,
            "seconds": round(self.seconds, 3),
            "summary": self.summary,
            "drop": self.dropped_paths,
            "clusters": [cluster.to_dict() for cluster in self.clusters],
        }

    def save_jsonl(self, path: str | Path) -> None:
        """Write one JSON line a cluster.

        Raises:
            UsageError: The file cannot be written.
        """
        with replacing(path) as file:
            for cluster in self.clusters:
                file.write(json.dumps(cluster.to_dict(), allow_nan=False).encode("ascii") + b"\n")

    def save_html(self, path: str | Path, *, title: str = "Duplicates", command: str = "") -> None:
        """Write one self-contained page, with the pictures that the index keeps.

        Raises:
            UsageError: The file cannot be written.
            IndexMissingError: The index is no longer at its place.
        """
        from detector.reports.duplicates_page import write_html
        from index.locations import open_index

        with open_index(self.index) as index:
            write_html(self, path, thumbnail=index.thumbnail, title=title, command=command)

    def save_drop_list(self, path: str | Path) -> None:
        """Write the files to drop, one a line, as UTF-8; nothing is deleted.

        A line is a path as it is. Only where a path holds a line break, cannot be written as UTF-8, or begins
        with a quotation mark, its line is a JSON string, so that a line that begins with ``"`` always is one.
        `read_drop_list` reads both.

        Raises:
            UsageError: The file cannot be written.
        """
        with replacing(path) as file:
            for dropped in self.dropped_paths:
                file.write(_line(dropped).encode("utf-8") + b"\n")


def _line(path: str) -> str:
    odd = len(path.splitlines()) != 1 or path != path.splitlines()[0] or path.startswith('"')
    return json.dumps(path) if odd or any("\ud800" <= c <= "\udfff" for c in path) else path


def read_drop_list(path: str | Path) -> list[str]:
    """Read what `DuplicateReport.save_drop_list` wrote.

    Raises:
        SourceError: The file cannot be read, or holds something else.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8").split("\n")
        return [str(json.loads(line)) if line.startswith('"') else line for line in lines if line]
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(path, f"cannot be read as a drop list: {error}") from error


def find_duplicates(
    index: str | Path | Searchable,
    *,
    parts: bool | None = None,
    keep: Keep | str = Keep.BEST,
    scoring: ScoringModel | None = None,
    on_progress: DuplicateProgress | None = None,
) -> DuplicateReport:
    """Find what a training set holds more than once.

    Stored hashes and vectors propose, and every member is then verified against the picture that it is said
    to repeat: local features and a transformation, then aligned pixels of the thumbnails. Where neither those
    nor the files are there, local features decide, and hashes at PDQ's standard bound.

    Args:
        index: Path of an index, or an open one.
        parts: Seek crops and pasted parts too; None does up to `MAX_REFERENCES_WITH_PARTS` references. Needs
            the descriptor ``keypoints``.
        keep: Which of several whole copies stays.
        scoring: A model fitted on your own pairs; None takes the shipped one.
        on_progress: Called from this thread.

    Returns:
        The clusters, the most repeated first.

    Raises:
        UsageError: `keep` is no such choice, or `parts` are asked of an index without ``keypoints``.
        IndexMissingError, IndexVersionError, IndexCorruptError: See `ReferenceIndex.open`.
    """
    from detector.clusters import grouped
    from detector.scoring import shipped_model
    from index.locations import open_index
    from index.searching import Searchable

    try:
        policy = Keep(keep)
    except ValueError as error:
        raise UsageError(f"keep is {keep!r}: give 'best' or 'first'") from error
    started = time.monotonic()
    opened = nullcontext(index) if isinstance(index, Searchable) else open_index(index)
    with opened as source:
        able = any(spec.name == "keypoints" for spec in source.specs)
        if parts and not able:
            raise UsageError(
                f"{source.name}: has no keypoints, which shared parts are found by. Leave out --parts, or "
                "build the index anew with --descriptors pdq,phash,keypoints"
            )
        info = source.info()
        with_parts = able and (info.references <= MAX_REFERENCES_WITH_PARTS if parts is None else parts)
        clusters = grouped(
            source, scoring or shipped_model(), parts=with_parts, keep=policy, on_progress=on_progress
        )
        return DuplicateReport(
            index=source.name,
            references=info.references,
            occurrences=info.occurrences,
            keep=policy,
            parts=with_parts,
            clusters=clusters,
            seconds=time.monotonic() - started,
        )
