"""The page that asks for the token, where the server has one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from detector.server.rendering import page
from detector.server.security import Gate, own_path
from detector.server.uploads import read_form

router = APIRouter()


@router.get("/login")
async def login(request: Request, next: str = "/") -> Response:
    """Ask for the token."""
    if not _gate(request).required:
        return RedirectResponse("/", 303)
    return page(request, "login.html", next=own_path(next), problem="")


@router.post("/login")
async def enter(request: Request) -> Response:
    """Let the browser in if the token fits."""
    form = await read_form(request, fields=("token", "next"), pictures=False)
    target = own_path(form.fields.get("next", "/"))
    gate = _gate(request)
    if gate.required and not gate.fits(form.fields.get("token", "").strip()):
        problem = "That is not the token of this server. Ask who runs it."
        return page(request, "login.html", status=401, next=target, problem=problem)
    response = RedirectResponse(target, 303)
    if gate.required:
        gate.remember(response, secure=request.url.scheme == "https")
    return response


@router.post("/logout")
async def leave(request: Request) -> Response:
    """Forget that the browser named the token."""
    response = RedirectResponse("/login", 303)
    _gate(request).forget(response)
    return response


def _gate(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate
