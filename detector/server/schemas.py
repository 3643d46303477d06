"""Shapes of the API's answers, for its description at `/docs`; the answers themselves come from `to_dict`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from index.requests import MAX_CONTACT, MAX_NAME, MAX_PICTURES, MAX_STATEMENT

MOST_ID = 2**53 - 1
"""Largest id: the largest whole number that JSON hands on exactly (RFC 8259, section 6)."""


def _whole(value: Any) -> Any:
    """Take 3.0 for 3, which JSON does not tell apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=1, le=MOST_ID), BeforeValidator(_whole)]
"""Of a training image."""


class Exact(BaseModel):
    """An object with these keys and no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorFacts(Exact):
    """Why a request was refused."""

    code: str = Field(description="Short machine-readable reason")
    message: str = Field(description="What failed and what to do")


class Error(Exact):
    """A request that was refused."""

    error: ErrorFacts


class Occurrence(Exact):
    """One place a training image came from; empty strings: not recorded."""

    path: str
    artist: str
    title: str
    licence: str
    source: str
    caption: str
    extra: dict[str, str]


class Reference(Exact):
    """An indexed training image."""

    id: int
    sha256: str
    width: int
    height: int
    occurrences: list[Occurrence]


class Evidence(Exact):
    """The measured facts behind a match; null: not measured."""

    pdq_distance: int | None
    phash_distance: int | None
    reference_frame: str
    cosine: float | None
    cosines: dict[str, float]
    votes: float | None
    matches: int | None
    inliers: int | None
    guided: int | None
    coverage: float | None
    reference_coverage: float | None
    aligned_similarity: float | None
    tiled_l2: float | None
    agreement: float | None
    exactness: float | None
    verification: str
    template: bool


class Match(Exact):
    """A training image that verification and scoring kept."""

    level: int = Field(
        ge=0, le=5, description="5 verbatim, 4 near copy, 3 partial copy, 2 resemblance, 1 weak"
    )
    score: float = Field(ge=0, le=1)
    p_value: float | None
    cleared: bool = Field(description="The server's policy allows this training image")
    mirrored: bool
    query_region: list[list[float]] = Field(description="Polygon, as shares of width and height")
    reference_region: list[list[float]]
    evidence: Evidence
    near_duplicates: int
    reference: Reference


class Generation(Exact):
    """How a picture was generated, as its file says."""

    tool: str
    prompt: str
    negative_prompt: str
    model: str
    sampler: str
    seed: int | None
    steps: int | None
    guidance: float | None
    strength: float | None
    source: str
    extra: dict[str, str]


class ImageReport(Exact):
    """What is said of one picture."""

    format_version: Literal[1]
    query: str = Field(description="Name of the upload")
    verdict: Literal["replica", "possible", "no_match", "unreadable"]
    level: int = Field(ge=0, le=5)
    score: float = Field(ge=0, le=1)
    reason: str | None
    sha256: str
    width: int
    height: int
    generation: Generation | None
    matches: list[Match]


class CheckAnswer(Exact):
    """One report a picture, in the order of the upload."""

    format_version: Literal[1]
    results: list[ImageReport]


class Contradiction(Exact):
    """An occurrence whose recorded licence differs from the artist's own."""

    path: str
    recorded: str
    stated: str
    words: str


class Replica(Exact):
    """A generated picture, from saved findings, that replicates a training image."""

    query: str
    level: int
    score: float
    findings: str
    sha256: str
    generation: Generation | None
    match: Match


class FoundWork(Exact):
    """A training image that was looked for and found."""

    reasons: list[Literal["name", "picture", "source"]]
    verified: bool
    reference: Reference
    near_duplicates: int
    contradictions: list[Contradiction]
    picture: str
    match: Match | None
    replicas: list[Replica]


class Unreadable(Exact):
    """An upload that could not be read."""

    picture: str
    reason: str


class SkippedLine(Exact):
    """A line of saved findings that could not be read."""

    file: str
    line: int
    reason: str


class IndexFacts(Exact):
    """Which state of which index was looked through."""

    path: str
    manifest_sha256: str
    generation: int
    references: int
    occurrences: int
    descriptors: list[dict[str, Any]]


class LookupAnswer(Exact):
    """Everything found for an artist."""

    format_version: Literal[1]
    summary: str
    name: str
    pictures: list[str]
    source_contains: str
    licence: str
    artists: list[str] = Field(description="Spellings that the name was taken to mean")
    suggestions: list[str] = Field(description="Spellings that are like it")
    works: list[FoundWork]
    unmatched: list[str] = Field(description="Pictures that nothing was found for")
    unreadable: list[Unreadable]
    findings: list[str]
    generated: int
    skipped: list[SkippedLine]
    index: IndexFacts
    scoring_sha256: str
    versions: dict[str, str]
    made: str
    command: str


class ReferenceAnswer(Exact):
    """One training image."""

    reference: Reference
    near_duplicates: int = Field(description="Others in the index that nearly equal it")


class Artist(Exact):
    """An artist of the index."""

    name: str
    works: int


class ArtistsAnswer(Exact):
    """Artists whose names are like what was typed."""

    artists: list[Artist]


class RemovalInput(Exact):
    """A request for removal."""

    reference_ids: list[Id] = Field(
        min_length=1, max_length=MAX_PICTURES, description="Training images, by id"
    )
    name: str = Field(min_length=1, max_length=MAX_NAME, description="Who asks")
    contact: str = Field(default="", max_length=MAX_CONTACT, description="How to reach them")
    statement: str = Field(default="", max_length=MAX_STATEMENT, description="What they say")


class RemovalAnswer(Exact):
    """A request for removal, filed."""

    id: str
    state: Literal["open", "accepted", "declined"]
    made: str
    references: int


class Health(Exact):
    """Whether the server can answer."""

    status: Literal["ok", "degraded"]
    generation: int
    message: str = Field(description="What is wrong, or empty")
