"""The artist's pages: a question, its answer, a work opened, the evidence; and every refusal as a page."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from detector.artists.words import REASON_WORDS
from detector.reports.wording import plural, reason_in_words
from detector.server import access_pages, removal_pages, scan_pages
from detector.server.api import LOOKUP_FIELDS
from detector.server.engine import Engine
from detector.server.holdings import holdings_of, reading_ahead, result_of
from detector.server.problems import BadInput, NotFound, Problem
from detector.server.rendering import page, sentence
from detector.server.results import Result
from detector.server.uploads import Form, read_form
from detector.server.views import (
    cards,
    comparison,
    facts_of,
    reference_picture,
    sentences_of,
    shown_replicas,
    small_copies,
    upload_picture,
)

if TYPE_CHECKING:
    from detector.artists.report import FoundWork
    from detector.detector import Detector

router = APIRouter(lifespan=reading_ahead)
router.include_router(scan_pages.router)
router.include_router(removal_pages.router)
router.include_router(access_pages.router)

WORKS_OF_PAGE = 24

FIELDS = {name: most for name, _, most in LOOKUP_FIELDS}

LICENCES = ("All rights reserved", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC0-1.0")
"""Suggested where an artist names their own; any other text will do."""

SHOWN: dict[str, tuple[str, Callable[[FoundWork], bool]]] = {
    "replicated": ("Found in generated pictures", lambda work: any(r.level >= 3 for r in work.replicas)),
    "repeated": ("In the set more than once", lambda work: work.copies > 1),
    "contradicted": ("Another licence recorded", lambda work: bool(work.contradictions)),
    "unverified": ("Look at these yourself", lambda work: not work.verified),
}
"""Which works of an answer can be shown alone: a heading, and which they are."""


# The question


@router.get("/")
async def start(request: Request, name: str = "") -> Response:
    """Ask for a name, pictures or a web site."""
    return await _start(request, {"name": name[: FIELDS["name"]]})


@router.post("/results")
async def ask(request: Request) -> Response:
    """Look works up, keep the answer, and go on to it."""
    form = await read_form(request, fields=FIELDS)
    try:
        asked = _asked(form)
        report, checked = await _engine(request).lookup(
            name=asked["name"],
            pictures=form.pictures,
            source_contains=asked["source_contains"],
            licence=asked["licence"],
        )
    except BadInput as problem:
        return await _start(request, form.fields, problem)
    result = holdings_of(request).results.keep(report, checked)
    return RedirectResponse(f"/results/{result.id}", 303)


async def _start(request: Request, fields: dict[str, str], problem: Problem | None = None) -> Response:
    engine = _engine(request)
    findings = await engine.findings()
    return page(
        request,
        "start.html",
        status=problem.status if problem is not None else 200,
        fields={name: fields.get(name, "") for name in FIELDS},
        limits=FIELDS,
        licences=LICENCES,
        problem=sentence(problem.message) if problem is not None else "",
        references=await engine.read(lambda detector: detector.index.size),
        generated=findings.generated,
    )


def _asked(form: Form) -> dict[str, str]:
    asked = {name: form.fields.get(name, "").strip() for name in FIELDS}
    for name, most in FIELDS.items():
        if len(asked[name]) > most:
            words = name.replace("_contains", "")
            raise BadInput(f"the {words} has more than {most} characters. Shorten it")
    return asked


# The answer


@router.get("/results/{result_id}")
async def answer(request: Request, result_id: str, show: str = "", number: int = 1) -> Response:
    """Show what was found, the answer in words first."""
    result = result_of(request, result_id)
    works = list(enumerate(result.report.works, start=1))
    filters = [(name, words, sum(fits(w) for _, w in works)) for name, (words, fits) in SHOWN.items()]
    if show in SHOWN:
        works = [(n, work) for n, work in works if SHOWN[show][1](work)]
    else:
        show = ""
    pages = max(1, -(-len(works) // WORKS_OF_PAGE))
    number = min(max(1, number), pages)
    there = works[(number - 1) * WORKS_OF_PAGE : number * WORKS_OF_PAGE]
    copies = await small_copies(_engine(request), [work.reference for _, work in there])

    def link(**changed: str | int) -> str:
        query = {"show": show, "number": number, **changed}
        kept = {key: value for key, value in query.items() if value not in ("", 1)}
        return f"/results/{result.id}" + (f"?{urlencode(kept)}" if kept else "")

    return page(
        request,
        "answer.html",
        result=result,
        report=result.report,
        asked=_in_words(result),
        cards=cards(there, copies),
        filters=[each for each in filters if 0 < each[2] < len(result.report.works)],
        show=show,
        shown=len(works),
        number=number,
        pages=pages,
        link=link,
        reasons=REASON_WORDS,
        unmatched=[(name, _why_unmatched(result, name)) for name in result.report.unmatched],
    )


@router.get("/results/{result_id}/works/{number}")
async def work(request: Request, result_id: str, number: int) -> Response:
    """Show one work: both pictures, what was measured, where it stands, what generated pictures show of it."""
    result = result_of(request, result_id)
    found = result.work(number)
    if found is None:
        raise NotFound("this answer has no such work. Go back to the answer and open another")
    copies = await small_copies(_engine(request), [found.reference])
    match = found.match
    compared = None
    if match is not None:
        compared = comparison(
            "Your picture",
            upload_picture(result, found.picture, match.query_region),
            reference_picture(found.reference, copies, match.reference_region),
            match,
        )
    return page(
        request,
        "work.html",
        result=result,
        report=result.report,
        number=number,
        work=found,
        facts=facts_of(found.reference, found.near_duplicates),
        picture=reference_picture(found.reference, copies),
        compared=compared,
        sentences=sentences_of(found, result.report),
        reasons=[REASON_WORDS[reason] for reason in found.reasons],
        replicas=await shown_replicas(holdings_of(request), found),
    )


@router.get("/results/{result_id}/pictures/{number}")
async def preview(request: Request, result_id: str, number: int) -> Response:
    """Return the small copy of an upload."""
    data = result_of(request, result_id).preview(number)
    if not data:
        raise NotFound("there is no such picture in this answer")
    return Response(data, media_type="image/webp")


@router.get("/results/{result_id}/evidence.zip")
async def evidence(request: Request, result_id: str) -> Response:
    """Return the evidence to take away, put together in memory."""
    result = result_of(request, result_id)
    from detector.artists.bundle import write_bundle

    def write(detector: Detector) -> bytes:
        pictures = {name: one.preview for name, one in result.pictures.items() if one.preview}
        bundle = io.BytesIO()
        write_bundle(result.report, bundle, index=detector.index, pictures=pictures)
        return bundle.getvalue()

    async with holdings_of(request).bundling:
        data = await _engine(request).read(write)
    headers = {"Content-Disposition": 'attachment; filename="evidence.zip"'}
    return Response(data, media_type="application/zip", headers=headers)


def _in_words(result: Result) -> list[tuple[str, str]]:
    """Return what was asked, as labels and values."""
    report = result.report
    pictures = "" if not report.pictures else plural(len(report.pictures), "picture")
    asked = (
        ("Name", report.name),
        ("Pictures", pictures),
        ("Source holds", report.source_contains),
        ("Your licence", report.licence),
    )
    return [(label, value) for label, value in asked if value]


def _why_unmatched(result: Result, name: str) -> str:
    found = result.pictures.get(name)
    if found is not None and found.report.reason:
        return reason_in_words(found.report.reason)
    if found is not None and found.report.matches:
        return "only a weak resemblance, which may be chance"
    return "no match in this index"


# Refusals


HEADINGS = {
    "expired": "This answer is gone",
    "requests_off": "No requests are taken here",
    "cross_site": "Sent from another site",
    "unknown_host": "Unknown name of this server",
    400: "That could not be read",
    401: "A token is needed",
    403: "Not allowed",
    404: "There is nothing here",
    405: "Not this way",
    408: "Too slow",
    413: "Too much at once",
    415: "That could not be read",
    422: "Something is missing",
    429: "Please wait a moment",
    500: "Something went wrong",
    503: "Not available just now",
}
"""By the problem's code, else by its status."""

STEPS = {
    401: ("/login", "Enter the token"),
    413: ("/", "Choose fewer or smaller pictures"),
}
"""Where to go next; else to the start."""


def problem_page(request: Request, problem: Problem) -> Response:
    """Return a problem as a page for a person; `app.answer` adds its headers."""
    address, words = STEPS.get(problem.status, ("/", "Look works up"))
    heading = HEADINGS.get(problem.code) or HEADINGS.get(problem.status, "That did not work")
    return page(
        request,
        "problem.html",
        status=problem.status,
        heading=heading,
        message=sentence(problem.message),
        code=problem.status,
        address=address,
        words=words,
    )


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine
