"""What pages need between two requests: kept answers, the table of findings, small copies of generated pictures."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from detector.server.engine import Engine
from detector.server.problems import NotFound
from detector.server.results import Result, Results
from detector.server.scans import Row, ScanTable
from index.errors import DetectorError, UnreadableImageError
from index.images import read_image

if TYPE_CHECKING:
    from detector.artists.findings import Findings

logger = logging.getLogger("detector.server")

COPY_SIDE = 640
"""Longest side of a small copy, in pixels: enough to compare by eye, on a page half as wide."""

COPY_QUALITY = 80

MAX_COPIES = 256
"""Small copies that are kept, of some 50 kB each."""


class Holdings:
    """Of one application; everything but reading files happens in its event loop."""

    def __init__(self, engine: Engine) -> None:
        """Hold nothing yet."""
        self.results = Results()
        self.bundling = asyncio.Semaphore(1)
        """One bundle is put together at a time: each is in memory as a whole."""
        self._engine = engine
        self._reading = asyncio.Lock()
        self._table: tuple[Findings, ScanTable] | None = None
        self._copies: OrderedDict[str, bytes] = OrderedDict()

    async def scans(self) -> ScanTable:
        """Return the table of findings, made anew when their files have changed."""
        async with self._reading:
            findings = await self._engine.findings()
            if self._table is None or self._table[0] is not findings:
                self._table = findings, await asyncio.to_thread(ScanTable, findings.files)
            return self._table[1]

    def close(self) -> None:
        """Free the table of findings."""
        if self._table is not None:
            self._table[1].close()

    async def copy_of(self, table: ScanTable, row: Row) -> bytes:
        """Return a small copy of a generated picture as WebP; empty where its file is not at hand any more.

        The findings name the file. It is shown only where they know its digest and it still has that: whoever wrote
        the findings had the picture, and learns nothing from being shown it.
        """
        if row.key in self._copies:
            self._copies.move_to_end(row.key)
            return self._copies[row.key]
        if not row.sha256:
            return b""
        data = await asyncio.to_thread(_small_copy, row, Path(table.files[row.file]).parent)
        if data:
            self._copies[row.key] = data
            if len(self._copies) > MAX_COPIES:
                self._copies.popitem(last=False)
        return data


def holdings_of(request: Request) -> Holdings:
    """Return what the application of a request holds."""
    return held_by(request.app)


def held_by(app: Any) -> Holdings:
    """Return what an application holds, made when it is first asked for."""
    if not hasattr(app.state, "holdings"):
        app.state.holdings = Holdings(app.state.engine)
    found: Holdings = app.state.holdings
    return found


@contextlib.asynccontextmanager
async def reading_ahead(app: Any) -> AsyncIterator[None]:
    """Read the findings while an application starts, so that its first visitor does not wait for fifty thousand."""

    async def read() -> None:
        try:
            await held_by(app).scans()
        except (DetectorError, OSError) as error:
            logger.warning("the findings cannot be read: %s", error)

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        held_by(app).close()


class Expired(NotFound):
    """An answer that is not kept any more."""

    code = "expired"


def result_of(request: Request, result_id: str) -> Result:
    """Return a kept answer.

    Raises:
        Expired: It is not kept any more, or never was.
    """
    result = holdings_of(request).results.get(result_id)
    if result is None:
        raise Expired(
            "answers are kept in memory for two hours after they were last looked at, and until the server restarts. "
            "Look the works up again: it takes a moment"
        )
    return result


def _small_copy(row: Row, beside: Path) -> bytes:
    """Read a picture at its place, or at the same place as seen from the findings' folder."""
    for path in (Path(row.query), beside / row.query):
        try:
            picture = read_image(path)
        except (UnreadableImageError, ValueError):
            continue
        if picture.sha256 == row.sha256:
            image = picture.to_pil()
            image.thumbnail((COPY_SIDE, COPY_SIDE))
            encoded = io.BytesIO()
            image.save(encoded, "WEBP", quality=COPY_QUALITY)
            return encoded.getvalue()
    return b""
