"""A bound socket, a log and the web server round the application, until somebody stops it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from detector.server.options import ServerOptions
from index.errors import UsageError

STOP_TIMEOUT_S = 10
"""How long requests at work are waited for after Ctrl-C."""

MAX_CONNECTIONS = 512
"""Connections at once; more are answered 503 by the web server itself."""

LOGGERS = {
    "detector.server": logging.INFO,
    "uvicorn.error": logging.WARNING,
    "python_multipart": logging.ERROR,  # warns of every form that is broken off
}


def bind(options: ServerOptions) -> socket.socket:
    """Return a listening socket at the options' address.

    Raises:
        UsageError: The address is in use, or not this machine's.
    """
    host = options.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows this would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, options.port))
        made.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        made.close()
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen at {options.host}, port {options.port} ({cause}). Name another with --port, or 0 for "
            "any that is free"
        ) from error
    return made


def address_of(options: ServerOptions, bound: socket.socket) -> str:
    """Return the address to type into a browser."""
    host = options.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound.getsockname()[1]}/"


def read_token(path: Path) -> str:
    """Return the token in a file: its one line.

    Raises:
        UsageError: The file cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--token-file {path}: cannot be read. Name a text file that holds a token"
        ) from error
    if not text or "\n" in text:
        raise UsageError(f"--token-file {path}: holds no token. Write one line to it, the token")
    return text


@contextlib.contextmanager
def logging_to_stderr(*, quiet: bool) -> Iterator[None]:
    """Write the server's log, a line a request, to standard error.

    Args:
        quiet: Only what went wrong.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    before = []
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        before.append((logger, logger.level, logger.propagate))
        logger.setLevel(max(level, logging.WARNING) if quiet else level)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def run(app: FastAPI, bound: socket.socket) -> None:
    """Serve until interrupted: requests at work are answered, then everything is closed.

    Raises:
        KeyboardInterrupt: Somebody stopped it.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        # An address in a header could be made up, to get round the limit on requests.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    uvicorn.Server(config).run(sockets=[bound])
