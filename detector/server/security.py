"""Who may ask what: hosts, cross-site posts, tokens, rates, and the headers that go with every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.responses import Response

from detector.server.options import ServerOptions
from detector.server.problems import Busy, Forbidden, Problem

COOKIE = "detector_session"

POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; connect-src 'self'"
)
"""Nothing from another host, nothing inline."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # “no-referrer” would make browsers send “Origin: null” with this server's own forms (Fetch, “append a request
    # Origin header”), which could then not be told from another site's. To other sites this tells nothing either.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

OPEN_PATHS = ("/healthz", "/login")
"""Paths that need no token; so does what lies under `STATIC`."""

STATIC = "/static/"

FREE_PATHS = ("/healthz", "/metrics")
"""Paths, besides `STATIC`, that count towards no rate."""

COST_OF_READING = 0.25
COST_OF_THUMBNAIL = 0.02
"""What a GET counts beside a POST, which is 1: a page of fifty thumbnails is one request more."""

BURST_S = 15.0
"""Seconds of its rate that a client may spend at once."""

MAX_CLIENTS = 10_000
"""Clients remembered; the one that was quiet for longest is forgotten first."""


class Gate:
    """Checks tokens, and the cookie that stands for one in a browser."""

    def __init__(self, token: str) -> None:
        """Make the cookie's value, which is good until the server stops.

        Args:
            token: Empty lets everybody in.
        """
        self._token = token
        # Not the token itself: who gets hold of the cookie has it for one run of the server.
        self._cookie = hmac.new(secrets.token_bytes(32), token.encode(), hashlib.sha256).hexdigest()

    @property
    def required(self) -> bool:
        """Whether clients must name a token."""
        return bool(self._token)

    def fits(self, token: str) -> bool:
        """Say whether this is the token; takes as long whether it is or not."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())

    def admits(self, path: str, authorization: str, cookies: Mapping[str, str]) -> bool:
        """Say whether a request may pass.

        Args:
            path: Of the request.
            authorization: Its header of that name, or ``""``.
            cookies: Its cookies.
        """
        if not self.required or path in OPEN_PATHS or path.startswith(STATIC):
            return True
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.fits(token.strip()):
            return True
        given = cookies.get(COOKIE, "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._cookie.encode())

    def remember(self, response: Response, *, secure: bool) -> None:
        """Let a browser in that named the token: set its cookie, until it is closed.

        Args:
            response: Of a `/login` whose token fits.
            secure: Whether the request came by HTTPS.
        """
        response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict", secure=secure, path="/")

    def forget(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")


def own_path(text: str) -> str:
    """Return a path of this server to go on to after a login; anything else becomes the start page."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if plain else "/"


def refuse_foreign_host(host: str, options: ServerOptions) -> None:
    """Make sure that a browser meant this server: another name that leads here may be an attacker's (DNS rebinding).

    Addresses pass: what was loaded from an address is of this server's origin or no page of its own.

    Args:
        host: The header ``Host``.
        options: With the names of this server.

    Raises:
        Problem: The name is not one of them.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        named = {"localhost", options.host.lower(), *(one.lower() for one in options.allowed_hosts)}
        if name in named:
            return
        ipaddress.ip_address(name)
    except ValueError as error:
        raise Problem(
            "this server is not known under the name in the request. Use its address, or start it with "
            "--allowed-host NAME",
            code="unknown_host",
        ) from error


def refuse_cross_site(method: str, headers: Mapping[str, str]) -> None:
    """Make sure that what changes something was sent by a page of this server, or by no page.

    Args:
        method: Of the request.
        headers: Of the request, names in lower case.

    Raises:
        Forbidden: A page of another site sent it.
    """
    if method in ("GET", "HEAD", "OPTIONS"):
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none"):
        return
    if site is None and (origin is None or urlsplit(origin).netloc == headers.get("host")):
        return
    raise Forbidden(
        "sent from a page of another site. Open this server's own page and send it from there",
        code="cross_site",
    )


class RateLimit:
    """A token bucket for each client, of a bounded number of clients."""

    def __init__(self, rate_per_minute: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets.

        Args:
            rate_per_minute: Requests; 0 sets no limit.
            clock: Seconds, ever rising.
        """
        self._rate = rate_per_minute / 60.0
        self._most = max(10.0, self._rate * BURST_S)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def charge(self, client: str, method: str, path: str) -> None:
        """Count a request.

        Raises:
            Busy: The client has sent too many.
        """
        cost = _cost(method, path)
        if not self._rate or not cost:
            return
        key, now = _client(client), self._clock()
        left, at = self._left.pop(key, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        spent = left >= cost
        self._left[key] = (left - cost if spent else left, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        if not spent:
            raise Busy("too many requests from your address", retry_after_s=(cost - left) / self._rate)


def _cost(method: str, path: str) -> float:
    if path in FREE_PATHS or path.startswith(STATIC):
        return 0.0
    if method not in ("GET", "HEAD"):
        return 1.0
    return COST_OF_THUMBNAIL if path.endswith("/thumbnail") else COST_OF_READING


def _client(address: str) -> str:
    """Return who shares a bucket: an address; of IPv6 its network of 64 bits, which one subscriber has whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
