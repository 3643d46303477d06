"""What a look-up found, as frozen values: `LookupReport`, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.generation import Generation
from detector.report import Match, Reference

if TYPE_CHECKING:
    from PIL.Image import Image

    from index.searching import Searchable

FORMAT_VERSION = 1
"""Version of the JSON form of a `LookupReport`."""

VERIFIED_LEVEL = 3
"""From this level on a match is verified: what `detector.report.verdict_of_level` calls a replica."""

MIN_LEVEL = 2
"""Matches from this level on are shown: at 2 they could not be verified, and are called so."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One generated picture, read from saved findings, that replicates or strongly resembles a reference.

    Attributes:
        query: Path or name of the generated picture, as in the findings.
        level: Replication level, 2–5; 2 could not be verified.
        score: Calibrated, 0–1.
        match: The finding itself.
        findings: The file that it was read from.
        generation: How the picture was generated, where that is recorded.
        sha256: Hex digest of the picture's file, where that is recorded.
    """

    query: str
    level: int
    score: float
    match: Match
    findings: str
    generation: Generation | None = None
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "query": self.query,
            "level": self.level,
            "score": self.score,
            "findings": self.findings,
            "sha256": self.sha256,
            "generation": None if self.generation is None else self.generation.to_dict(),
            "match": self.match.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Replica:
        """Read what `to_dict` wrote."""
        return cls(
            query=str(values["query"]),
            level=int(values["level"]),
            score=float(values["score"]),
            match=Match.from_dict(values["match"]),
            findings=str(values.get("findings", "")),
            generation=Generation.from_dict(values["generation"]) if values.get("generation") else None,
            sha256=str(values.get("sha256", "")),
        )


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One occurrence whose recorded licence differs from the artist's own.

    Attributes:
        path: Of the occurrence.
        recorded: The licence as recorded.
        stated: The licence that the artist states.
        words: What differs, in a sentence.
    """

    path: str
    recorded: str
    stated: str
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"path": self.path, "recorded": self.recorded, "stated": self.stated, "words": self.words}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Contradiction:
        """Read what `to_dict` wrote."""
        return cls(**{key: str(values.get(key, "")) for key in ("path", "recorded", "stated", "words")})


@dataclass(frozen=True, slots=True)
class FoundWork:
    """A reference that was found, and everything there is to say of it.

    Attributes:
        reasons: Why it is here: ``name``, ``picture``, ``source``, in this order.
        near_duplicates: Other references of the index that nearly equal it.
        contradictions: Occurrences whose recorded licence differs from the one stated.
        replicas: Generated pictures that replicate it, the closest first.
        match: What the artist's picture, as query, and the reference share; None unless found by picture.
        picture: Name of that picture, or an empty string.
    """

    reference: Reference
    reasons: tuple[str, ...] = ()
    near_duplicates: int = 0
    contradictions: tuple[Contradiction, ...] = ()
    replicas: tuple[Replica, ...] = ()
    match: Match | None = None
    picture: str = ""

    @property
    def verified(self) -> bool:
        """Whether more than an unverified resemblance (level 2) of a picture leads here."""
        return self.reasons != ("picture",) or (self.match is not None and self.match.level >= VERIFIED_LEVEL)

    @property
    def copies(self) -> int:
        """How often the index holds it: its occurrences and its near-duplicates."""
        return len(self.reference.occurrences) + self.near_duplicates

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "reasons": list(self.reasons),
            "verified": self.verified,
            "reference": self.reference.to_dict(),
            "near_duplicates": self.near_duplicates,
            "contradictions": [each.to_dict() for each in self.contradictions],
            "picture": self.picture,
            "match": None if self.match is None else self.match.to_dict(),
            "replicas": [each.to_dict() for each in self.replicas],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FoundWork:
        """Read what `to_dict` wrote."""
        return cls(
            reference=Reference.from_dict(values["reference"]),
            reasons=tuple(str(reason) for reason in values.get("reasons", [])),
            near_duplicates=int(values.get("near_duplicates", 0)),
            contradictions=tuple(Contradiction.from_dict(each) for each in values.get("contradictions", [])),
            replicas=tuple(Replica.from_dict(each) for each in values.get("replicas", [])),
            match=Match.from_dict(values["match"]) if values.get("match") else None,
            picture=str(values.get("picture", "")),
        )


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What tells one state of an index from another.

    Attributes:
        path: As given.
        manifest_sha256: Hex digest of its ``manifest.json``.
        generation: Commits that it had seen.
        references: How many distinct pictures it holds.
        occurrences: At how many places.
        descriptors: Its descriptors: ``name``, ``version``, ``weights_digest``.
    """

    path: str
    manifest_sha256: str
    generation: int
    references: int
    occurrences: int = 0
    descriptors: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "path": self.path,
            "manifest_sha256": self.manifest_sha256,
            "generation": self.generation,
            "references": self.references,
            "occurrences": self.occurrences,
            "descriptors": [dict(each) for each in self.descriptors],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IndexFacts:
        """Read what `to_dict` wrote."""
        return cls(
            path=str(values.get("path", "")),
            manifest_sha256=str(values.get("manifest_sha256", "")),
            generation=int(values.get("generation", 0)),
            references=int(values.get("references", 0)),
            occurrences=int(values.get("occurrences", 0)),
            descriptors=tuple(dict(each) for each in values.get("descriptors", [])),
        )


@dataclass(frozen=True, slots=True)
class LookupReport:
    """The answer to an artist.

    Attributes:
        name: Artist that was asked for, or an empty string.
        pictures: Names of the pictures that were given.
        source_contains: Part of a source that was asked for, or an empty string.
        licence: The artist's own licence as stated, or an empty string.
        works: What was found: works with replicas first.
        artists: Spellings in the index that the name was taken to mean.
        suggestions: Spellings that are like the name and were not taken to mean it.
        unmatched: Pictures that nothing was found for.
        unreadable: Pictures that could not be read, with the reason.
        findings: Files of saved findings that were looked through.
        generated: Generated pictures in those.
        skipped: Lines of them that could not be read: ``(file, line, reason)``.
        index: Which index was looked through.
        scoring_sha256: Digest of the model that scores and levels come from.
        versions: Of this program and of what the figures hang on.
        made: When, ISO 8601 in UTC.
        command: Command line that asked, or an empty string.
        picture_files: Pictures whose names are paths here, so that a dossier can show them; not kept in JSON.
    """

    name: str
    index: IndexFacts
    pictures: tuple[str, ...] = ()
    source_contains: str = ""
    licence: str = ""
    works: tuple[FoundWork, ...] = ()
    artists: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    findings: tuple[str, ...] = ()
    generated: int = 0
    skipped: tuple[tuple[str, int, str], ...] = ()
    scoring_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    made: str = ""
    command: str = ""
    picture_files: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def summary(self) -> str:
        """The answer in a sentence or two."""
        from detector.artists.words import summary_in_words

        return summary_in_words(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "summary": self.summary,
            "name": self.name,
            "pictures": list(self.pictures),
            "source_contains": self.source_contains,
            "licence": self.licence,
            "artists": list(self.artists),
            "suggestions": list(self.suggestions),
            "works": [work.to_dict() for work in self.works],
            "unmatched": list(self.unmatched),
            "unreadable": [{"picture": name, "reason": reason} for name, reason in self.unreadable],
            "findings": list(self.findings),
            "generated": self.generated,
            "skipped": [{"file": f, "line": number, "reason": why} for f, number, why in self.skipped],
            "index": self.index.to_dict(),
            "scoring_sha256": self.scoring_sha256,
            "versions": dict(self.versions),
            "made": self.made,
            "command": self.command,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LookupReport:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: The values have another format version, or miss a key.
        """
        if values.get("format_version") != FORMAT_VERSION:
            found = values.get("format_version")
            raise ValueError(f"the report has format_version {found!r}; this version reads {FORMAT_VERSION}")
        try:
            texts = ("name", "source_contains", "licence", "scoring_sha256", "made", "command")
            lists = ("pictures", "artists", "suggestions", "unmatched", "findings")
            read: dict[str, Any] = {key: str(values.get(key, "")) for key in texts}
            read |= {key: tuple(str(each) for each in values.get(key, [])) for key in lists}
            return cls(
                **read,
                index=IndexFacts.from_dict(values["index"]),
                works=tuple(FoundWork.from_dict(each) for each in values.get("works", [])),
                unreadable=tuple((str(e["picture"]), str(e["reason"])) for e in values.get("unreadable", [])),
                generated=int(values.get("generated", 0)),
                skipped=tuple(
                    (str(e["file"]), int(e["line"]), str(e["reason"])) for e in values.get("skipped", [])
                ),
                versions={str(k): str(v) for k, v in dict(values.get("versions", {})).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the report misses or garbles a value: {error}") from error

    def save_bundle(
        self, path: str | Path, *, index: Searchable, pictures: Mapping[str, Image | bytes] | None = None
    ) -> None:
        """Write the evidence as one zip file, to take away and to check; the same report gives the same bytes.

        Args:
            path: File to write; it appears whole or not at all.
            index: The index, open, for its small copies of the references.
            pictures: The artist's pictures by name, where they did not come from files.

        Raises:
            UsageError: The file cannot be written.
        """
        from detector.artists.bundle import write_bundle

        write_bundle(self, path, index=index, pictures=pictures or {})

    def save_html(
        self, path: str | Path, *, index: Searchable, pictures: Mapping[str, Image | bytes] | None = None
    ) -> None:
        """Write the dossier alone: one self-contained page that prints well.

        Args:
            path: File to write; it appears whole or not at all.
            index: As for `save_bundle`.
            pictures: Likewise.

        Raises:
            UsageError: The file cannot be written.
        """
        from detector.artists.dossier import write_html

        write_html(self, path, index=index, pictures=pictures or {})
