"""The application: API, pages and documentation put together, behind what guards them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from detector import __version__
from detector.server import api, documentation
from detector.server.engine import Engine
from detector.server.front import Front, json_answer, wants_page
from detector.server.metrics import Metrics
from detector.server.options import ServerOptions
from detector.server.problems import BadInput, NotFound, Problem
from detector.server.security import Gate
from index.errors import DetectorError

logger = logging.getLogger("detector.server")

STATIC_FOLDER = Path(__file__).parent / "static"


def create_app(options: ServerOptions) -> FastAPI:
    """Return the application over one index. Opens nothing yet: its lifespan, or `app.state.engine.open()`, does.

    Args:
        options: What is served, to whom, within which limits.
    """
    metrics = Metrics()
    engine = Engine(options, metrics)
    gate = Gate(options.token)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    app = FastAPI(
        title=options.title,
        version=__version__,
        description=api.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.options, app.state.engine, app.state.gate, app.state.metrics = options, engine, gate, metrics
    app.include_router(api.router(options))
    app.include_router(documentation.router)
    app.mount("/static/swagger", StaticFiles(directory=documentation.swagger_folder()), name="swagger")
    _add_pages(app)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(DetectorError, _on_detector_error)
    app.add_middleware(Front, options=options, gate=gate, metrics=metrics, answer=answer)
    return app


def _add_pages(app: FastAPI) -> None:
    from detector.server import pages
    from detector.server.rendering import LOOK

    app.include_router(pages.router, include_in_schema=False)
    app.add_route(f"/static/{LOOK.name}", lambda _: FileResponse(LOOK))
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")


def answer(request: Request, problem: Problem) -> Response:
    """Return a problem as a page to a person, as JSON to a program."""
    if wants_page(request):
        from detector.server import pages

        page = pages.problem_page(request, problem)
        for name, value in problem.headers.items():
            page.headers[name] = value
        return page
    return json_answer(problem)


async def _on_problem(request: Request, error: Exception) -> Response:
    return answer(request, cast(Problem, error))


async def _on_http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: paths and methods that there are not."""
    refused = cast(HTTPException, error)
    if refused.status_code == 404:
        return answer(request, NotFound("there is nothing at this address. The API is described at /docs"))
    if refused.status_code == 405:
        problem = Problem(
            "this address takes another method. The API is described at /docs",
            status=405,
            code="wrong_method",
            headers=dict(refused.headers or {}),
        )
        return answer(request, problem)
    return answer(request, Problem(str(refused.detail), status=refused.status_code))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """A value in path or query that is out of bounds."""
    first = cast(RequestValidationError, error).errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return answer(request, BadInput(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"))


async def _on_detector_error(request: Request, error: Exception) -> Response:
    """The index cannot answer now, whatever is asked."""
    logger.error("the index cannot be read: %s", error)
    problem = Problem(
        "the index cannot be read at the moment. Try again, or ask who runs this server to look at its log",
        status=503,
        code="unavailable",
        headers={"Retry-After": "10"},
    )
    return answer(request, problem)
