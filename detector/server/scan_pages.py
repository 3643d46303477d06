"""The pages of saved findings: a table of all of them, and one opened."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from detector.reports.cards import Finding
from detector.reports.wording import generation_in_words, reason_in_words, reconstruction_note
from detector.server.engine import Engine
from detector.server.holdings import Holdings, holdings_of
from detector.server.problems import NotFound
from detector.server.rendering import page
from detector.server.scans import KINDS, SORTS, Choice, Row, ScanTable
from detector.server.views import comparison, facts_of, reference_picture, scan_picture, small_copies

router = APIRouter()

KIND_WORDS = {
    "replica": "Replicas",
    "possible": "Possible",
    "cleared": "Cleared",
    "no_match": "No match",
    "unreadable": "Unreadable",
}
SORT_WORDS = {"closest": "Closest first", "name": "File", "artist": "Artist", "title": "Title"}

MAX_TEXT = 200
"""Characters of a search."""


@router.get("/scans")
async def table(
    request: Request,
    kind: str = "",
    level: str = "",
    q: str = "",
    file: str = "",
    sort: str = "closest",
    number: int = 1,
) -> Response:
    """Show one page of the findings that are wanted. What is given and means nothing chooses nothing."""
    scans = await _scans(request)
    choice = Choice(
        kind=kind if kind in KINDS else "",
        level=int(level) if level in ("0", "1", "2", "3", "4", "5") else -1,
        text=q[:MAX_TEXT],
        file=int(file) if file.isascii() and file.isdigit() and int(file[:9]) < len(scans.files) else -1,
        sort=sort if sort in SORTS else "closest",
        page=number,
    )
    rows = await asyncio.to_thread(scans.select, choice)
    findings = await _engine(request).findings()

    def link(**changed: str | int) -> str:
        asked = {
            "kind": choice.kind,
            "level": choice.level if choice.level >= 0 else "",
            "q": choice.text,
            "file": choice.file if choice.file >= 0 else "",
            "sort": "" if choice.sort == "closest" else choice.sort,
            "number": rows.page,
            **changed,
        }
        kept = {key: value for key, value in asked.items() if value != "" and (key, value) != ("number", 1)}
        return "/scans" + (f"?{urlencode(kept)}" if kept else "")

    return page(
        request,
        "scans.html",
        table=scans,
        rows=rows,
        choice=choice,
        kinds=KIND_WORDS,
        sorts=SORT_WORDS,
        link=link,
        skipped=findings.skipped,
    )


@router.get("/scans/{key}")
async def finding(request: Request, key: str) -> Response:
    """Show one finding: both pictures side by side where they are at hand."""
    holdings = holdings_of(request)
    scans = await _scans(request)
    row = _row(scans, key)
    report = await asyncio.to_thread(scans.report, row)
    if report is None:
        raise NotFound("the file of findings has changed since it was read. Open the table again")
    found = Finding.of(report)
    there = bool(await holdings.copy_of(scans, row))
    size = report.width, report.height
    compared = None
    if found is not None:
        copies = await small_copies(_engine(request), [found.lead.reference])
        compared = comparison(
            "Generated picture",
            scan_picture(key, row.query, there=there, size=size, region=found.lead.query_region),
            reference_picture(found.lead.reference, copies, found.lead.reference_region),
            found.lead,
        )
    made = report.generation
    return page(
        request,
        "finding.html",
        row=row,
        report=report,
        file=scans.files[row.file],
        picture=scan_picture(key, row.query, there=there, size=size),
        compared=compared,
        facts=facts_of(found.lead.reference, found.lead.near_duplicates) if found is not None else None,
        others=[m for m in report.matches if found is not None and m is not found.lead and m.level >= 2],
        made=generation_in_words(made) if made is not None else "",
        attempt=reconstruction_note(made, found.lead)
        if made is not None and found is not None and made.is_reconstruction
        else "",
        reason=reason_in_words(report.reason) if report.reason else "",
    )


@router.get("/scans/{key}/picture")
async def picture(request: Request, key: str) -> Response:
    """Return the small copy of a generated picture, if its file is still the one that was scanned."""
    holdings: Holdings = holdings_of(request)
    scans = await _scans(request)
    data = await holdings.copy_of(scans, _row(scans, key))
    if not data:
        raise NotFound(
            "the file of this picture is not at its place any more, or is not the one that was scanned"
        )
    return Response(data, media_type="image/webp")


async def _scans(request: Request) -> ScanTable:
    return await holdings_of(request).scans()


def _row(scans: ScanTable, key: str) -> Row:
    row = scans.row(key)
    if row is None:
        raise NotFound("there is no such finding. Open the table of scans and choose one")
    return row


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine
