"""`ServerOptions`: what a server shows, to whom, and its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from index.errors import UsageError

if TYPE_CHECKING:
    from detector.rights import Policy

MIB = 1024 * 1024

MIN_TOKEN = 16
"""Characters of the shortest token: even of hex digits, 64 bits, which no rate limit lets anybody guess."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server shows, to whom, and its limits.

    Attributes:
        index: The index folder.
        findings: JSON lines of scans and audits that its pages show.
        host: Address that it binds to; any but this machine's own needs a token.
        port: 0 takes a free one.
        token: What clients must name; empty asks for none.
        allowed_hosts: Names, besides `host` and localhost, under which browsers reach it.
        max_bytes: Of one uploaded picture.
        max_body_bytes: Of one request, all its pictures together.
        max_pending_bytes: Of all requests that are being read or answered; beyond it clients are asked to wait.
        max_pixels: Of one picture, looked up in its header before anything is decoded.
        max_pictures: Of one request.
        queue: Pictures that may wait or be at work, of all requests.
        batch_size: Pictures that the model sees at once.
        rate_per_minute: Requests a minute and client; 0 sets no limit.
        workers: Threads that search and verify, and processes that decode; 0 takes one a processor core.
        decode_timeout_s: Longest time that a picture may take to decode.
        body_timeout_s: Longest time that a client may take to send a request.
        reload_every_s: How often the index is looked at for a new generation.
        title: Name shown on pages.
        allow_requests: Take requests for removal.
        policy: Which licences clear a match; None clears nothing.
        device: Where neural descriptors run; None chooses.
    """

    index: Path
    findings: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = 20 * MIB
    max_body_bytes: int = 64 * MIB
    max_pending_bytes: int = 256 * MIB
    max_pixels: int = 60_000_000
    max_pictures: int = 16
    queue: int = 64
    batch_size: int = 8
    rate_per_minute: int = 240
    workers: int = 0
    decode_timeout_s: float = 20.0
    body_timeout_s: float = 60.0
    reload_every_s: float = 1.0
    title: str = "Training-image look-up"
    allow_requests: bool = True
    policy: Policy | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would leave the server open, or useless.

        Raises:
            UsageError: It says what to change.
        """
        if not self.token and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host}: others could reach the server there, so it needs a token. Write one to a "
                "file and name it with --token-file, or leave --host out"
            )
        if self.token and (len(self.token) < MIN_TOKEN or not self.token.isascii() or " " in self.token):
            raise UsageError(
                f"the token needs at least {MIN_TOKEN} ASCII characters without blanks. Make one: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if self.queue < self.max_pictures:
            raise UsageError(
                f"queue {self.queue}: is shorter than one request of {self.max_pictures} pictures. Raise it"
            )


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine's own, which no other machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
