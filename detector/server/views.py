"""What pages show, made ready for their templates: pictures with regions, works, generated replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detector.artists.report import VERIFIED_LEVEL
from detector.artists.words import copies_in_words, memorisation_in_words, replicas_in_words
from detector.report import Match, Occurrence, Point, Reference
from detector.reports.cards import MAX_PLACES
from detector.reports.wording import (
    NOT_RECORDED,
    described,
    evidence_in_words,
    generation_in_words,
    near_duplicates_in_words,
    reconstruction_note,
    region_in_words,
    title_of,
)
from detector.rights import licence_sentence, opt_out_sentences
from detector.server.engine import Engine
from detector.server.holdings import Holdings
from detector.server.overlays import Overlay, alignment, overlay
from detector.server.scans import key_of

if TYPE_CHECKING:
    from detector.artists.report import FoundWork, LookupReport, Replica
    from detector.detector import Detector
    from detector.server.results import Result

MAX_REPLICAS = 24
"""Generated pictures that the page of a work shows; all of them are in the table of scans and in the bundle."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on a page, or why there is none.

    Attributes:
        src: Its address; empty where there is none.
        alt: What it shows, in words.
        width: Of the picture itself, in pixels.
        height: Likewise.
        region: To be drawn over it, or None.
        missing: Why there is none.
    """

    src: str
    alt: str
    width: int
    height: int
    region: Overlay | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two pictures and what was measured between them.

    Attributes:
        label: What the first picture is called: ``Your picture`` or ``Generated picture``.
        query: The first picture.
        reference: The training image.
        matrix: What lays the second over the first (see `alignment`), as text; empty where nothing does.
        match: The match itself.
        region: What is shared, in words.
        evidence: Measured facts, as sentences.
    """

    label: str
    query: Picture
    reference: Picture
    matrix: str
    match: Match
    region: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """A training image in words.

    Attributes:
        title: As recorded, else its file's name.
        artist: As recorded.
        licences: As recorded, distinct.
        places: The first occurrences.
        more: Occurrences beyond those.
        rights: What the licence asks, in a sentence.
        opt_outs: Opt-outs that the work carries, as sentences.
        near: What its near-duplicates mean; empty where there are none.
    """

    title: str
    artist: str
    licences: tuple[str, ...]
    places: tuple[Occurrence, ...]
    more: int
    rights: str
    opt_outs: tuple[str, ...]
    near: str


@dataclass(frozen=True, slots=True)
class Card:
    """One work of an answer.

    Attributes:
        number: In the answer, from 1.
        work: As it was found.
        facts: In words.
        picture: Its small copy.
        places: At how many places of the training set it stands.
        replicas: Generated pictures that replicate it.
        closest: Level of the closest of those, or 0.
        alike: Generated pictures that resemble it, not verified.
    """

    number: int
    work: FoundWork
    facts: WorkFacts
    picture: Picture
    places: int
    replicas: int
    closest: int
    alike: int


@dataclass(frozen=True, slots=True)
class ShownReplica:
    """One generated picture that replicates a work.

    Attributes:
        replica: As the findings say.
        key: What its finding is opened by.
        picture: Its small copy, where the file is at hand.
        made: How it was generated, in words.
    """

    replica: Replica
    key: str
    picture: Picture
    made: str


def facts_of(reference: Reference, near_duplicates: int) -> WorkFacts:
    """Say of a training image what is recorded."""
    place = described(reference.occurrences)
    licences = dict.fromkeys(o.licence.strip() or NOT_RECORDED for o in reference.occurrences)
    return WorkFacts(
        title=title_of(place),
        artist=place.artist.strip(),
        licences=tuple(licences) or (NOT_RECORDED,),
        places=reference.occurrences[:MAX_PLACES],
        more=max(0, len(reference.occurrences) - MAX_PLACES),
        rights=licence_sentence(reference),
        opt_outs=opt_out_sentences(reference.occurrences),
        near=near_duplicates_in_words(near_duplicates),
    )


async def small_copies(engine: Engine, references: Iterable[Reference]) -> dict[str, int]:
    """Return, by digest, under which id the index now has a small copy of each reference; those without are left out.

    By digest, for an index that was built anew in the same place gives its ids to other pictures.
    """
    digests = [reference.sha256 for reference in references]

    def read(detector: Detector) -> dict[str, int]:
        found = {digest: detector.index.id_of(digest) for digest in digests}
        return {
            digest: number
            for digest, number in found.items()
            if number is not None and detector.index.thumbnail(number) is not None
        }

    return await engine.read(read)


def reference_picture(reference: Reference, copies: dict[str, int], region: Sequence[Point] = ()) -> Picture:
    """Return a training image's small copy, with a region."""
    place = described(reference.occurrences)
    by = f" by {place.artist.strip()}" if place.artist.strip() else ""
    number = copies.get(reference.sha256)
    return Picture(
        src=f"/v1/references/{number}/thumbnail" if number is not None else "",
        alt=f"Training image: {title_of(place)}{by}",
        width=reference.width or 1,
        height=reference.height or 1,
        region=overlay(region, reference.width, reference.height),
        missing="" if number is not None else "the index holds no small copy of it, or not any more",
    )


def upload_picture(result: Result, name: str, region: Sequence[Point] = ()) -> Picture:
    """Return the preview of an upload, with a region."""
    number = result.number_of(name)
    report = result.pictures[name].report if name in result.pictures else None
    width, height = (report.width, report.height) if report is not None else (0, 0)
    return Picture(
        src=f"/results/{result.id}/pictures/{number}" if number else "",
        alt=f"Your picture {name}",
        width=width or 1,
        height=height or 1,
        region=overlay(region, width, height),
        missing="" if number else "it is not held any more",
    )


def comparison(label: str, query: Picture, reference: Picture, match: Match) -> Comparison:
    """Return two pictures that share something, ready to be compared."""
    matrix = alignment(match)
    return Comparison(
        label=label,
        query=query,
        reference=reference,
        matrix=" ".join(f"{value:g}" for value in matrix) if matrix is not None else "",
        match=match,
        region=region_in_words(match),
        evidence=tuple(evidence_in_words(match)),
    )


def cards(works: Sequence[tuple[int, FoundWork]], copies: dict[str, int]) -> list[Card]:
    """Return works as cards.

    Args:
        works: With their numbers in the answer.
        copies: What `small_copies` says of them.
    """
    made = []
    for number, work in works:
        verified = [replica.level for replica in work.replicas if replica.level >= VERIFIED_LEVEL]
        made.append(
            Card(
                number=number,
                work=work,
                facts=facts_of(work.reference, work.near_duplicates),
                picture=reference_picture(work.reference, copies),
                places=len(work.reference.occurrences),
                replicas=len(verified),
                closest=max(verified, default=0),
                alike=len(work.replicas) - len(verified),
            )
        )
    return made


async def shown_replicas(holdings: Holdings, work: FoundWork) -> list[ShownReplica]:
    """Return the closest generated pictures of a work."""
    table = await holdings.scans()
    shown = []
    for replica in work.replicas[:MAX_REPLICAS]:
        key = key_of(replica.findings, replica.query, replica.sha256)
        row = table.row(key)
        there = bool(row is not None and await holdings.copy_of(table, row))
        made = generation_in_words(replica.generation) if replica.generation is not None else ""
        if replica.generation is not None and replica.generation.is_reconstruction:
            made += f" {reconstruction_note(replica.generation, replica.match)}"
        picture = scan_picture(key, replica.query, there=there)
        shown.append(ShownReplica(replica, key if row is not None else "", picture, made.strip()))
    return shown


def scan_picture(
    key: str, query: str, *, there: bool, size: tuple[int, int] = (1, 1), region: Sequence[Point] = ()
) -> Picture:
    """Return a generated picture of the findings, with a region.

    Args:
        key: Of its row.
        query: Its path or name.
        there: Its file is at hand.
        size: Its width and height, in pixels.
        region: To be drawn.
    """
    return Picture(
        src=f"/scans/{key}/picture" if there else "",
        alt=f"Generated picture {query}",
        width=size[0] or 1,
        height=size[1] or 1,
        region=overlay(region, *size),
        missing="" if there else "its file is not at its place any more, or is not the one that was scanned",
    )


def sentences_of(work: FoundWork, report: LookupReport) -> list[str]:
    """Return what there is to say of a work, in words."""
    said = (copies_in_words(work), memorisation_in_words(work), replicas_in_words(work, report))
    return [each for each in said if each]
