"""`Detector`: one picture, many pictures or a folder against an index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from detector.detail import has_too_little_detail
from detector.generation import Generation
from detector.geometry import chance_of
from detector.metadata import GenerationLists, filled_from, read_generation
from detector.report import (
    Evidence,
    ImageReport,
    Match,
    Occurrence,
    Reference,
    Verdict,
    verdict_of_level,
)
from detector.rights import Policy, judge
from detector.scoring import ScoringModel, shipped_model
from detector.verify import Verified, Verifier
from index.build import build_index
from index.calibration import MIN_P_VALUE
from index.errors import UnreadableImageError
from index.images import ImageInput, Picture, read_bytes, read_image
from index.locations import open_index
from index.searching import Candidate, Query, Searchable

if TYPE_CHECKING:
    from detector.scan import ScanOptions, ScanProgress, ScanReport

__all__ = ["Detector", "Plausible", "build_index"]

STRONG_CHANCE = 1e-3
"""p-value up to which the likeness of a neural descriptor alone is a strong resemblance (level 2)."""

STRONG_COSINE = 0.95
"""The same by cosine, of what is plausible: a small index gives no small p-values. Unrelated works come up to 0.8 with
CLIP."""

MAX_MATCHES = 10
"""Matches kept a query."""


@dataclass(frozen=True, slots=True)
class Plausible:
    """Which candidates are worth verifying; a picture without one costs nothing more.

    Attributes:
        min_pairs: Agreeing pairs of local features.
        max_pdq: Largest PDQ distance, of 256 bits; unrelated pictures lie near 128.
        max_phash: Largest pHash distance, of 64 bits; unrelated pictures lie near 32.
        max_chance: Largest chance that an unrelated picture has as high a cosine of a neural descriptor in this
            index, by its self-calibration.
        min_cosine: Smallest cosine, in an index too small to calibrate.
        top: Candidates verified at most.
    """

    min_pairs: int = 4
    max_pdq: int = 76
    max_phash: int = 10
    max_chance: float = 0.05
    min_cosine: float = 0.8
    top: int = 10

    def admits(self, candidate: Candidate, chances: Mapping[str, float]) -> bool:
        """Say whether a candidate is worth verifying.

        Args:
            candidate: From a search.
            chances: From `ReferenceIndex.p_values` for it.
        """
        if candidate.vote is not None and candidate.vote.pairs >= self.min_pairs:
            return True
        for name, similarity in candidate.similarities.items():
            if name == "pdq":
                close = similarity >= 1.0 - self.max_pdq / 256.0
            elif name == "phash":
                close = similarity >= 1.0 - self.max_phash / 64.0
            elif name in chances:
                close = chances[name] <= self.max_chance
            else:
                close = similarity >= self.min_cosine
            if close:
                return True
        return False


class Detector:
    """Says of pictures whether they replicate a reference of one index. May be shared between threads."""

    def __init__(
        self,
        index: Searchable,
        *,
        policy: Policy | None = None,
        scoring: ScoringModel | None = None,
        plausible: Plausible | None = None,
    ) -> None:
        """Wrap an open index.

        Args:
            index: Opened for reading.
            policy: Which licences clear a match; None clears nothing.
            scoring: A model fitted on your own pairs; None takes the shipped one.
            plausible: Which candidates are verified.
        """
        self.index = index
        self.policy = policy or Policy()
        self.scoring = scoring or shipped_model()
        self.plausible = plausible or Plausible()
        self._verifier = Verifier(index)
        self._lists = GenerationLists()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        policy: Policy | None = None,
        scoring: ScoringModel | None = None,
        device: str | None = None,
    ) -> Detector:
        """Open an index for checking: a folder, or a place in Milvus (`index.locations`).

        Raises:
            IndexMissingError, IndexVersionError, IndexCorruptError: See `ReferenceIndex.open`.
        """
        return cls(open_index(path, device=device), policy=policy, scoring=scoring)

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, image: ImageInput, *, name: str | None = None) -> ImageReport:
        """Check one picture.

        Args:
            image: A path, encoded bytes, a PIL image, or an array (see `index.images.from_array`).
            name: What to call it in the report; a path names itself.

        Returns:
            The findings; an unreadable picture has the verdict ``unreadable`` and a reason.
        """
        return self.check_many([image], names=None if name is None else [name])[0]

    def check_many(
        self,
        images: Iterable[ImageInput],
        *,
        names: Sequence[str] | None = None,
        lists: GenerationLists | None = None,
    ) -> list[ImageReport]:
        """Check several pictures; neural descriptors see them as one batch.

        Args:
            images: As for `check`.
            names: What to call them in the reports; None takes their paths.
            lists: What lists in and above the pictures' folders say of their generation; None: those in them.

        Returns:
            One report a picture, in order.
        """
        inputs = list(images)
        lists = lists or self._lists
        called = [_name(image, names, number) for number, image in enumerate(inputs)]
        reports: list[ImageReport | None] = [None] * len(inputs)
        pictures, places, generations = [], [], []
        for number, image in enumerate(inputs):
            try:
                encoded = read_bytes(image) if isinstance(image, (str, os.PathLike)) else image
                pictures.append(read_image(encoded, locator=called[number]))
                generations.append(_generation(image, encoded, lists))
                places.append(number)
            except UnreadableImageError as error:
                reports[number] = unreadable(called[number], error.reason)
        checked = self.check_pictures(pictures, names=[called[number] for number in places])
        for number, report, generation in zip(places, checked, generations, strict=True):
            reports[number] = replace(report, generation=generation)
        return [report for report in reports if report is not None]

    def check_pictures(self, pictures: Sequence[Picture], *, names: Sequence[str]) -> list[ImageReport]:
        """Check pictures that were decoded elsewhere; neural descriptors see them as one batch.

        Args:
            pictures: From `index.images.read_image`.
            names: What to call them in the reports.

        Returns:
            One report a picture, in order.
        """
        described = self.index.describe(pictures)
        return [self._judge(name, query) for name, query in zip(names, described, strict=True)]

    def scan(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        jsonl: str | Path | None = None,
        options: ScanOptions | None = None,
        on_progress: ScanProgress | None = None,
    ) -> ScanReport:
        """Check folders of pictures; memory does not grow with them.

        Args:
            paths: Folders, searched through, or pictures.
            jsonl: Where findings go, a line a picture; None keeps them in a temporary file.
            options: Workers, batch size, resuming.
            on_progress: Called once a picture, from the calling thread.

        Returns:
            The findings, iterable as often as wanted, with writers for HTML, CSV and JSONL.

        Raises:
            UsageError: A path is missing, or there is no picture.
        """
        from detector.scan import scan

        return scan(self, paths, jsonl=jsonl, options=options, on_progress=on_progress)

    def evidence_for(self, image: ImageInput, reference: str) -> Evidence:
        """Measure what a picture and one reference share, as a scan would; empty where search proposes no such pair.

        Args:
            image: As for `check`.
            reference: A path as in the index, its last part, or a SHA-256 digest.

        Raises:
            UnreadableImageError: The picture cannot be read.
        """
        query = self.index.describe([read_image(image)])[0]
        for candidate in self.worth_verifying(query):
            found = self.index.reference(candidate.reference_id)
            if found is None:
                continue
            names = {found[0].sha256, *(o.path for o in found[1])}
            names |= {path.rsplit("/", 1)[-1] for path in names}
            if reference in names:
                return self._verifier.verify(query, candidate).evidence
        return Evidence()

    def worth_verifying(self, query: Query) -> list[Candidate]:
        """Search, and return the candidates that `plausible` admits, best fused rank first."""
        found = self.index.search(query)
        admitted = [c for c in found if self.plausible.admits(c, self.index.p_values(c))]
        return admitted[: self.plausible.top]

    def _judge(self, name: str, query: Query) -> ImageReport:
        picture = query.picture
        facts = {"sha256": picture.sha256, "width": picture.width, "height": picture.height}
        if has_too_little_detail(picture):
            return ImageReport(name, Verdict.NO_MATCH, reason="too_little_detail", **facts)  # type: ignore[arg-type]
        candidates = self.worth_verifying(query)
        found = [self._match(candidate, self._verifier.verify(query, candidate)) for candidate in candidates]
        matches = sorted(
            (match for match in found if match is not None and match.level > 0),
            key=lambda m: (-m.level, -m.score, -(m.evidence.cosine or 0.0), m.reference.id),
        )[:MAX_MATCHES]
        level = max((m.level for m in matches), default=0)
        report = ImageReport(
            name,
            verdict_of_level(level),
            level=level,
            score=max((m.score for m in matches), default=0.0),
            matches=tuple(matches),
            **facts,  # type: ignore[arg-type]
        )
        return judge(report, self.policy)

    def _p_value(self, candidate: Candidate, verified: Verified) -> float | None:
        """The smallest over descriptors and geometry, times their number (Bonferroni): an upper bound."""
        chances = list(self.index.p_values(candidate).values())
        evidence = verified.evidence
        if evidence.inliers is not None and evidence.matches is not None:
            chances.append(chance_of(evidence.matches, evidence.inliers, references=self.index.size))
        return max(MIN_P_VALUE, min(1.0, min(chances) * len(chances))) if chances else None

    def _unverified_level(self, candidate: Candidate, evidence: Evidence) -> int:
        """Level by neural descriptors alone, where there is nothing to verify with: 2, or 1 for any plausible one.

        Scores are fitted where hashes, features or pixels can be compared; embeddings alone have none of these.
        """
        if evidence.verification != "unverified" or evidence.cosine is None:
            return 0
        chances = self.index.p_values(candidate)
        least = min((chances[name] for name in evidence.cosines if name in chances), default=None)
        weak = (
            evidence.cosine >= self.plausible.min_cosine
            if least is None
            else least <= self.plausible.max_chance
        )
        strong = evidence.cosine >= STRONG_COSINE or (least is not None and least <= STRONG_CHANCE)
        return int(weak) + int(weak and strong)

    def _match(self, candidate: Candidate, verified: Verified) -> Match | None:
        reference = reference_of(self.index, candidate.reference_id)
        if reference is None:
            return None
        level = max(
            self.scoring.level(verified.evidence), self._unverified_level(candidate, verified.evidence)
        )
        return Match(
            level=level,
            score=self.scoring.score(verified.evidence),
            evidence=verified.evidence,
            p_value=self._p_value(candidate, verified),
            reference=reference,
            mirrored=verified.mirrored,
            query_region=verified.query_region,
            reference_region=verified.reference_region,
            near_duplicates=self.index.near_duplicates(reference.id) if level >= 2 else 0,
        )


def reference_of(index: Searchable, reference_id: int) -> Reference | None:
    """Return a reference as findings show it, or None where it is gone."""
    found = index.reference(reference_id)
    if found is None:
        return None
    record, occurrences = found
    places = tuple(
        Occurrence(
            path=o.path,
            artist=o.credits.artist,
            title=o.credits.title,
            licence=o.credits.licence,
            source=o.credits.source,
            caption=o.credits.caption,
            extra=dict(o.credits.extra),
        )
        for o in occurrences
    )
    return Reference(record.id, record.sha256, record.width, record.height, places)


def _generation(image: ImageInput, encoded: ImageInput, lists: GenerationLists) -> Generation | None:
    """Return how a picture was generated: as its file says, gaps filled by a list beside it."""
    own = read_generation(encoded) if isinstance(encoded, bytes) else None
    return filled_from(own, lists.about(image)) if isinstance(image, (str, os.PathLike)) else own


def unreadable(name: str, reason: str) -> ImageReport:
    """Return the report of a picture that could not be read."""
    return ImageReport(name, Verdict.UNREADABLE, reason=reason)


def _name(image: ImageInput, names: Sequence[str] | None, number: int) -> str:
    if names is not None:
        return names[number]
    if isinstance(image, (str, Path)):
        return Path(image).as_posix()
    return f"image {number + 1}"
