"""Findings as a CSV file for spreadsheets: one row a match, one row for a query without any.

Columns, in this order (new ones are only ever added at the end):

=====================  ===========================================================================
query                  path of the picture under test
verdict                ``replica``, ``possible``, ``no_match`` or ``unreadable``, over all matches not cleared
level, score           of the query: highest among its matches that are not cleared
reason                 why there is no verdict or no match, in words
rank                   1 for the closest match; empty where there is none, as all that follow
match_level            0–5, of this match
match_level_words      the same in words
match_score            0–1, higher is more alike
p_value                chance that an unrelated picture comes this close in this index
cleared, mirrored      ``yes`` or ``no``
artist, title,         of the reference; several places it came from are joined by `` | ``
licence, source,
reference_path
reference_id           its number in the index
reference_sha256       digest of its file
near_duplicates        other references that are near-duplicates of it
pdq_distance …         the evidence, as in `detector.report.Evidence`; empty: not measured
generator              what recorded how the query was generated; empty: not recorded, as all that follow
prompt, model, seed,   how it was generated, as in `detector.report.Generation`
sampler, steps,
guidance, strength
source_picture         name of the picture that went in
=====================  ===========================================================================

The file is UTF-8 with a byte order mark (spreadsheets need it). No text can start a formula: one that could
is preceded by an apostrophe (https://owasp.org/www-community/attacks/CSV_Injection). Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from detector.generation import Generation
from detector.report import LEVEL_WORDS, ImageReport, Match
from detector.reports.atomic import replacing
from detector.reports.wording import reason_in_words

COLUMNS = (
    "query",
    "verdict",
    "level",
    "score",
    "reason",
    "rank",
    "match_level",
    "match_level_words",
    "match_score",
    "p_value",
    "cleared",
    "mirrored",
    "artist",
    "title",
    "licence",
    "source",
    "reference_path",
    "reference_id",
    "reference_sha256",
    "near_duplicates",
    "pdq_distance",
    "phash_distance",
    "reference_frame",
    "cosine",
    "votes",
    "matches",
    "inliers",
    "coverage",
    "reference_coverage",
    "aligned_similarity",
    "tiled_l2",
    "verification",
    "template",
    "generator",
    "prompt",
    "model",
    "seed",
    "sampler",
    "steps",
    "guidance",
    "strength",
    "source_picture",
)

Cell = str | int | float | None

# What spreadsheets take for the start of a formula, full-width forms included, after anything that they skip.
# A semicolon, tab or line break starts a cell where the list separator of the country is not the comma.
_FORMULA = re.compile(
    "((?:^|[;\t\r\n])[\\s\u200b-\u200f\u2060\ufeff]*)(?=[=+\\-@|%\uff1d\uff0b\uff0d\uff20])"
)


def write_csv(findings: Iterable[ImageReport], path: Path | str) -> int:
    """Write all findings; memory does not grow with their number.

    Args:
        findings: Reports, in the order of the rows.
        path: File to write; it appears whole or not at all.

    Returns:
        The number of rows, without the header.

    Raises:
        UsageError: The file cannot be written.
    """
    rows = 0
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for report in findings:
            for row in _rows(report):
                writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in row])
                rows += 1
        text.flush()
        text.detach()
    return rows


def guarded(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    guarded_text = _FORMULA.sub(r"\1'", text.replace("\0", "\ufffd"))
    return "'" + guarded_text if guarded_text[:1] in ("\t", "\r", "\n") else guarded_text


def _rows(report: ImageReport) -> Iterator[list[Cell]]:
    reason = reason_in_words(report.reason) if report.reason else ""
    head: list[Cell] = [report.query, report.verdict.value, report.level, report.score, reason]
    made = _generation_cells(report.generation)
    if not report.matches:
        yield [*head, *[None] * (len(COLUMNS) - len(head) - len(made)), *made]
    for rank, match in enumerate(report.matches, start=1):
        yield [*head, rank, *_match_cells(match), *made]


def _generation_cells(made: Generation | None) -> list[Cell]:
    made = made or Generation()
    cells: list[Cell] = [made.tool, made.prompt, made.model, made.seed, made.sampler]
    return [*cells, made.steps, made.guidance, made.strength, made.source]


def _match_cells(match: Match) -> list[Cell]:
    evidence = match.evidence
    places = match.reference.occurrences
    return [
        match.level,
        LEVEL_WORDS.get(match.level, ""),
        match.score,
        match.p_value,
        _yes(match.cleared),
        _yes(match.mirrored),
        _joined(o.artist for o in places),
        _joined(o.title for o in places),
        _joined(o.licence for o in places),
        _joined(o.source for o in places),
        _joined(o.path for o in places),
        match.reference.id,
        match.reference.sha256,
        match.near_duplicates,
        evidence.pdq_distance,
        evidence.phash_distance,
        evidence.reference_frame,
        evidence.cosine,
        evidence.votes,
        evidence.matches,
        evidence.inliers,
        evidence.coverage,
        evidence.reference_coverage,
        evidence.aligned_similarity,
        evidence.tiled_l2,
        evidence.verification,
        _yes(evidence.template),
    ]


def _joined(values: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(v for v in values if v))


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
