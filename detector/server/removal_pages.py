"""The pages on which an artist asks for works to be removed, and sees what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from detector.report import Reference
from detector.server.engine import Engine
from detector.server.holdings import result_of
from detector.server.problems import BadInput, Forbidden, NotFound, Problem, WrongMediaType
from detector.server.rendering import page, sentence
from detector.server.results import Result
from detector.server.views import cards, small_copies
from index.requests import MAX_CONTACT, MAX_NAME, MAX_PICTURES, MAX_STATEMENT

router = APIRouter()

TEXTS = {"name": MAX_NAME, "contact": MAX_CONTACT, "statement": MAX_STATEMENT}
"""Fields of the form besides tick boxes, with the characters that each may have."""


@router.get("/results/{result_id}/removal")
async def removal(request: Request, result_id: str, work: int = 0) -> Response:
    """Show the form: which works, who asks, why."""
    result = result_of(request, result_id)
    sure = {n for n, found in enumerate(result.report.works, start=1) if found.verified}
    ticked = {work} if work else sure
    return await _form(request, result, ticked, {"name": result.report.name})


@router.post("/results/{result_id}/removal")
async def file(request: Request, result_id: str) -> Response:
    """File the request, and go on to the page that says what came of it."""
    result = result_of(request, result_id)
    texts, ticked = await _read(request)
    try:
        chosen = [found.reference for n in sorted(ticked) if (found := result.work(n)) is not None]
        if not chosen:
            raise BadInput("no work is ticked. Tick those that the request is about")
        if not texts["name"].strip():
            raise BadInput("say who asks: your name is missing")
        filed = await _engine(request).file_request(
            await _ids(_engine(request), chosen), texts["name"], texts["contact"], texts["statement"]
        )
    except (BadInput, NotFound) as problem:
        return await _form(request, result, ticked, texts, problem)
    return RedirectResponse(f"/requests/{filed.id}?filed=1", 303)


@router.get("/requests")
async def find(request: Request, id: str = "") -> Response:
    """Go on to a request by its number, or ask for the number."""
    number = id.strip().lower()
    if re.fullmatch(r"[0-9a-f]{16}", number):
        return RedirectResponse(f"/requests/{number}", 303)
    problem = "A number of a request has 16 digits, of 0–9 and a–f." if number else ""
    return page(request, "find_request.html", status=422 if number else 200, given=id[:40], problem=problem)


@router.get("/requests/{request_id}")
async def state(request: Request, request_id: str, filed: int = 0) -> Response:
    """Show a request's state to whoever has its number; not who asked, nor why."""
    found = [each for each in await _engine(request).requests() if each.id == request_id]
    if not found:
        raise NotFound("there is no request of this number. Look whether it is whole: it has 16 digits")
    return page(request, "request.html", asked=found[0], filed=bool(filed))


async def _form(
    request: Request,
    result: Result,
    ticked: set[int],
    texts: Mapping[str, str],
    problem: Problem | None = None,
) -> Response:
    if not request.app.state.options.allow_requests:
        raise Forbidden("this server takes no requests for removal. Ask who runs it", code="requests_off")
    works = list(enumerate(result.report.works, start=1))[:MAX_PICTURES]
    copies = await small_copies(_engine(request), [work.reference for _, work in works])
    return page(
        request,
        "removal.html",
        status=problem.status if problem is not None else 200,
        result=result,
        cards=cards(works, copies),
        ticked=ticked,
        texts={name: texts.get(name, "") for name in TEXTS},
        limits=TEXTS,
        problem=sentence(problem.message) if problem is not None else "",
    )


async def _read(request: Request) -> tuple[dict[str, str], set[int]]:
    """Return the texts and the numbers of the ticked works; the body is bounded as every form's is."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise WrongMediaType("send the form of this page")
    try:
        body = (await request.body()).decode("ascii")
        pairs = parse_qsl(body, keep_blank_values=True, errors="strict", max_num_fields=MAX_PICTURES + 8)
    except ValueError as error:
        raise BadInput("the form is garbled. Send it again") from error
    texts = dict.fromkeys(TEXTS, "")
    ticked = set()
    for name, value in pairs:
        if name in texts:
            texts[name] = value
        elif name == "work" and value.isascii() and value.isdigit() and len(value) < 8:
            ticked.add(int(value))
        else:
            raise BadInput("the form has a field that this page does not know. Open the page again")
    return texts, ticked


async def _ids(engine: Engine, references: Sequence[Reference]) -> list[int]:
    """Return the ids that these references have now.

    Raises:
        NotFound: One is gone.
    """
    digests = [reference.sha256 for reference in references]
    numbers = await engine.read(lambda detector: [detector.index.id_of(digest) for digest in digests])
    there = [number for number in numbers if number is not None]
    if len(there) < len(numbers):
        gone = len(numbers) - len(there)
        raise NotFound(
            f"{gone} of these works {'is' if gone == 1 else 'are'} not in the index any more. Look the works up again"
        )
    return there


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine
