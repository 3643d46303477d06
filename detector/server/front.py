"""What every request passes first and every answer last: checks, bounds on bodies, headers, errors, the access log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Callable
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.server.metrics import Metrics
from detector.server.options import ServerOptions
from detector.server.problems import Busy, Problem, TooLarge
from detector.server.security import (
    HEADERS,
    STATIC,
    Gate,
    RateLimit,
    refuse_cross_site,
    refuse_foreign_host,
)

logger = logging.getLogger("detector.server")
access = logging.getLogger("detector.server.access")

MAX_FORM_BYTES = 64 * 1024
"""Of a body that holds no pictures."""

DRAIN_S = 5.0
"""How long the rest of a refused body is read and dropped: a browser shows no answer that comes while it sends."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Budget:
    """Bytes of bodies that are held in memory, of all requests together."""

    def __init__(self, most: int) -> None:
        """Start with none."""
        self.most = most
        self.held = 0


class Body:
    """The body of one request, read within bounds."""

    def __init__(self, receive: Receive, request: Request, options: ServerOptions, budget: Budget) -> None:
        self._receive = receive
        self._budget = budget
        self._seconds = options.body_timeout_s
        self._deadline: float | None = None
        self._dropping = False
        declared = request.headers.get("content-length", "0")
        self._declared = int(declared) if declared.isascii() and declared.isdigit() else 0
        self._waits_for_go = request.headers.get("expect", "").lower() == "100-continue"
        kind = request.headers.get("content-type", "").lower()
        pictures = kind.startswith(("multipart/form-data", "image/"))
        self.most = options.max_body_bytes if pictures else MAX_FORM_BYTES
        self.held = 0
        self.complete = request.method in ("GET", "HEAD") and not self._declared

    async def receive(self) -> Message:
        """Hand the next piece on.

        Raises:
            TooLarge: The body is longer than allowed.
            Busy: All bodies together are.
            Problem: It comes too slowly.
        """
        if self.complete:
            return await self._receive()
        if self._declared > self.most:
            raise self._too_large()
        message = await self._next()
        if message["type"] == "http.request":
            length = len(message.get("body", b""))
            if self.held + length > self.most:
                raise self._too_large()
            if self._budget.held + length > self._budget.most:
                raise Busy("too many uploads are being read", retry_after_s=5.0)
            self.held += length
            self._budget.held += length
        return message

    async def _next(self) -> Message:
        now = time.monotonic()
        self._deadline = self._deadline or now + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._deadline - now))
        except (asyncio.TimeoutError, TimeoutError) as error:
            late = f"the request did not arrive within {self._seconds:g} s. Send less at once"
            raise Problem(late, status=408, code="too_slow") from error
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    def _too_large(self) -> TooLarge:
        mib = f"{self.most / 1024 / 1024:.3g} MiB"
        return TooLarge(f"the request is larger than {mib}. Send fewer or smaller pictures at once")

    async def drop_rest(self) -> None:
        """Read what is left of a refused body, for a moment and up to its bound once more, and forget it."""
        unasked = self._deadline is None
        if self.complete or (self._waits_for_go and unasked):
            return
        dropped = 0
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError, Problem):
            self._deadline = time.monotonic() + DRAIN_S
            while dropped <= self.most:
                message = await self._next()
                dropped += len(message.get("body", b""))
                if self.complete:
                    return

    def release(self) -> None:
        """Give back what it held."""
        self._budget.held -= self.held
        self.held = 0


class Front:
    """The outermost part of the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: ServerOptions,
        gate: Gate,
        metrics: Metrics,
        answer: Callable[[Request, Problem], Response],
    ) -> None:
        """Go round an application.

        Args:
            app: What answers.
            options: Limits and names.
            gate: Who may pass.
            metrics: What is counted.
            answer: Makes an answer of a problem.
        """
        self._app = app
        self._options = options
        self._gate = gate
        self._metrics = metrics
        self._answer = answer
        self._rates = RateLimit(options.rate_per_minute)
        self._budget = Budget(options.max_pending_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        body = Body(receive, request, self._options, self._budget)
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400 and status != 408:
                    await body.drop_rest()
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not request.url.path.startswith(STATIC):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refused = self._refused(request)
            if refused is not None:
                await refused(scope, body.receive, finish)
            else:
                await self._app(scope, body.receive, finish)
        # Whatever happens, the client learns no more than that, and the log no text that came from it.
        except Exception as error:
            logger.error("%s while answering:\n%s", type(error).__name__, _places(error))
            if status:
                raise
            problem = Problem(
                "something went wrong in the server. Its log says where", status=500, code="internal"
            )
            await self._answer(request, problem)(scope, body.receive, finish)
        finally:
            body.release()
            seconds = time.perf_counter() - started
            method = request.method if request.method in METHODS else "OTHER"
            route = route_of(scope)
            self._metrics.answered(route, method, status, seconds)
            access.info("%s %s %d %.3f s", method, route, status, seconds)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request that goes no further, or None."""
        path = request.url.path
        try:
            refuse_foreign_host(request.headers.get("host", ""), self._options)
            client = request.client.host if request.client is not None else ""
            self._rates.charge(client, request.method, path)
            refuse_cross_site(request.method, request.headers)
            if not self._gate.admits(path, request.headers.get("authorization", ""), request.cookies):
                return self._login(request)
        except Problem as problem:
            return self._answer(request, problem)
        return None

    def _login(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD") and wants_page(request):
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)
        return self._answer(
            request,
            Problem(
                "this server asks for its token. Send it as “Authorization: Bearer TOKEN”",
                status=401,
                code="token_needed",
                headers={"WWW-Authenticate": "Bearer"},
            ),
        )


def route_of(scope: Scope) -> str:
    """Return the pattern of a request's path, without what a client filled in."""
    path = getattr(scope.get("route"), "path", None)
    if path is None and scope["path"].startswith(STATIC):
        return STATIC
    if scope["path"] == "/openapi.json":
        return "/openapi.json"
    return path if isinstance(path, str) else "(other)"


def wants_page(request: Request) -> bool:
    """Say whether an answer is for a person's browser rather than for a program."""
    accepted = request.headers.get("accept", "")
    return "text/html" in accepted and not request.url.path.startswith("/v1/")


def json_answer(problem: Problem) -> Response:
    """Return a problem as JSON."""
    return JSONResponse(problem.to_dict(), problem.status, problem.headers)


def _places(error: BaseException) -> str:
    """Return where an error came from, without its text: that may hold names that a client sent."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()
