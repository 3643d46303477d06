"""The REST API under `/v1`, `/healthz` and `/metrics`: parse, ask the engine once, answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Security
from fastapi.security import HTTPBearer
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from detector.report import FORMAT_VERSION
from detector.server import metrics, schemas
from detector.server.engine import Engine
from detector.server.options import ServerOptions
from detector.server.problems import BadInput, NotFound
from detector.server.uploads import PICTURES, read_form, read_json

DESCRIPTION = (
    "Says of pictures whether they replicate an image of one training set, which one, where in the picture, how "
    "closely and how sure that is. “No match” means: no match in this index; it says nothing about pictures that are "
    "not in it. Uploads are checked and forgotten: never stored, never logged, never added to an index."
)

REFUSALS: dict[int, str] = {
    400: "The request is garbled, or not meant for this server",
    401: "The token is missing or wrong",
    403: "Not allowed, or sent from a page of another site",
    404: "There is nothing of that id",
    408: "The request came too slowly",
    413: "More or larger pictures than one request may hold",
    415: "A body of another type than described",
    422: "A value is missing, unknown or out of bounds",
    429: "Too much is waiting, or your address sent too many requests; Retry-After says when to come back",
    503: "The index cannot be read at the moment",
}


def _refusals(*more: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": schemas.Error, "description": REFUSALS[status]}
        for status in sorted({400, 401, 403, 429, 503, *more})
    }


def _form(options: ServerOptions, *fields: tuple[str, str, int], raw: bool) -> dict[str, Any]:
    """Return the description of a form with pictures, and of a picture as the body itself."""
    properties: dict[str, Any] = {
        name: {"type": "string", "description": text, "maxLength": most, "pattern": r"\S"}
        for name, text, most in fields
    }
    properties[PICTURES] = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": options.max_pictures,
        "description": "Pictures: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF",
    }
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if fields:
        schema["anyOf"] = [{"required": [name]} for name in (*ASKED_FOR, PICTURES)]
    else:
        schema["required"] = [PICTURES]
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}}
    if raw:
        content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


ASKED_FOR = ("name", "source_contains")
"""Fields of a look-up of which one will do instead of pictures."""

LOOKUP_FIELDS = (
    ("name", "Artist, in any usual spelling", 200),
    ("source_contains", "Part of the works' source, such as a site's name", 500),
    ("licence", "The artist's own licence, to compare with what is recorded", 200),
)

_LIMITS = {name: most for name, _, most in LOOKUP_FIELDS}

_Id = Annotated[int, Path(ge=1, le=schemas.MOST_ID, description="Id of a training image")]


def router(options: ServerOptions) -> APIRouter:
    """Return the API's routes.

    Args:
        options: Whether a token is asked for.
    """
    scheme = HTTPBearer(auto_error=False, description="The token of --token-file")
    # `Front` checks the token, also of pages; this only says so in the description.
    guarded = APIRouter(dependencies=[Security(scheme)] if options.token else [])
    guarded.add_api_route(
        "/v1/check",
        check,
        operation_id="check",
        response_description="One report a picture, in order",
        methods=["POST"],
        tags=["checks"],
        summary="Check pictures",
        response_model=schemas.CheckAnswer,
        responses=_refusals(408, 413, 415, 422),
        openapi_extra=_form(options, raw=True),
    )
    guarded.add_api_route(
        "/v1/lookup",
        lookup,
        operation_id="lookup",
        response_description="Everything that was found",
        methods=["POST"],
        tags=["look-ups"],
        summary="Look works up by name, source or picture",
        response_model=schemas.LookupAnswer,
        responses=_refusals(408, 413, 415, 422),
        openapi_extra=_form(options, *LOOKUP_FIELDS, raw=False),
    )
    guarded.add_api_route(
        "/v1/references/{reference_id}",
        reference,
        operation_id="reference",
        response_description="With every place it came from",
        methods=["GET"],
        tags=["look-ups"],
        summary="One training image",
        response_model=schemas.ReferenceAnswer,
        responses=_refusals(404, 422),
    )
    guarded.add_api_route(
        "/v1/references/{reference_id}/thumbnail",
        thumbnail,
        operation_id="thumbnail",
        methods=["GET"],
        tags=["look-ups"],
        summary="Its small copy",
        response_class=Response,
        responses={
            200: {
                "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
                "description": "WebP of at most 320 pixels",
            },
            **_refusals(404, 422),
        },
    )
    guarded.add_api_route(
        "/v1/artists",
        artists,
        operation_id="artists",
        response_description="The likest first",
        methods=["GET"],
        tags=["look-ups"],
        summary="Artists whose names are like what was typed",
        response_model=schemas.ArtistsAnswer,
        responses=_refusals(422),
    )
    if options.allow_requests:
        guarded.add_api_route(
            "/v1/requests",
            file_request,
            operation_id="request-removal",
            response_description="Filed; who keeps the index decides",
            methods=["POST"],
            tags=["removal"],
            summary="Ask for works to be removed from the index",
            status_code=201,
            response_model=schemas.RemovalAnswer,
            responses=_refusals(404, 408, 413, 415, 422),
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schemas.RemovalInput.model_json_schema()}},
                }
            },
        )
    guarded.add_api_route(
        "/metrics",
        counters,
        operation_id="metrics",
        methods=["GET"],
        tags=["operation"],
        summary="Counters for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format"},
            **_refusals(),
        },
    )
    guarded.add_api_route(
        "/healthz",
        health,
        operation_id="health",
        response_description="It can",
        methods=["GET"],
        tags=["operation"],
        summary="Whether the server can answer",
        response_model=schemas.Health,
        responses={400: _refusals()[400], 503: {"model": schemas.Health, "description": "It cannot"}},
    )
    return guarded


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def check(request: Request) -> Response:
    """Check one or several pictures; an unreadable one has the verdict `unreadable` and a reason."""
    form = await read_form(request, fields=())
    checked = await _engine(request).check(form.pictures, previews=False)
    return JSONResponse(
        {"format_version": FORMAT_VERSION, "results": [one.report.to_dict() for one in checked]}
    )


async def lookup(request: Request) -> Response:
    """Say which works are in the index, how often, under which licence, and which generated pictures replicate them.

    Give a name, pictures (any edit of a work counts, so a photograph of it or a part), a part of a source, or several
    of these; what any of them finds is in the answer.
    """
    form = await read_form(request, fields=_LIMITS)
    for name, value in form.fields.items():
        if len(value) > _LIMITS[name]:
            raise BadInput(f"{name} has more than {_LIMITS[name]} characters. Shorten it")
    report, _ = await _engine(request).lookup(
        name=form.fields.get("name", "").strip(),
        pictures=form.pictures,
        source_contains=form.fields.get("source_contains", "").strip(),
        licence=form.fields.get("licence", "").strip(),
        previews=False,
    )
    return JSONResponse(report.to_dict())


async def reference(request: Request, reference_id: _Id) -> Response:
    """Return a training image with every place it came from."""
    found = await _engine(request).reference(reference_id)
    if found is None:
        raise _gone(reference_id)
    return JSONResponse(found.to_dict())


async def thumbnail(request: Request, reference_id: _Id) -> Response:
    """Return a training image's small copy."""
    data = await _engine(request).thumbnail(reference_id)
    if data is None:
        raise _gone(reference_id)
    return Response(data, media_type="image/webp")


async def artists(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="What was typed")],
    n: Annotated[int, Query(ge=1, le=100, description="How many at most")] = 20,
) -> Response:
    """Suggest names of artists of the index, for a box that completes what is typed."""
    found = await _engine(request).artists(q, n)
    return JSONResponse({"artists": [{"name": name, "works": works} for name, works in found]})


async def file_request(request: Request) -> Response:
    """File a request; who keeps the index decides. Asking again for the same works returns the first request."""
    try:
        given = schemas.RemovalInput.model_validate(await read_json(request), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}") from error
    filed = await _engine(request).file_request(
        given.reference_ids, given.name, given.contact, given.statement
    )
    answer = {"id": filed.id, "state": filed.state, "made": filed.made, "references": len(filed.sha256s)}
    return JSONResponse(answer, 201)


async def counters(request: Request) -> Response:
    """Return the counters."""
    return Response(request.app.state.metrics.text(), media_type=metrics.CONTENT_TYPE)


async def health(request: Request) -> Response:
    """Return `degraded` while an older state of the index is served because the newest cannot be opened."""
    engine = _engine(request)
    facts = {"status": "ok", "generation": engine.generation, "message": ""}
    if engine.problem:
        facts["status"] = "degraded"
        facts["message"] = "the newest state of the index cannot be opened; the server's log says why"
    return JSONResponse(facts, 200 if engine.generation else 503)


def _gone(reference_id: int) -> NotFound:
    return NotFound(f"there is no reference {reference_id} in this index, or no picture of it")
