"""`Engine`: what the API and the pages ask: checks in shared batches, look-ups, references, removal requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from detector.report import ImageReport, Reference
from detector.server.batches import Batches
from detector.server.decoding import Decoded, Decoders
from detector.server.generations import Generations
from detector.server.metrics import Metrics
from detector.server.options import ServerOptions
from detector.server.problems import BadInput, Busy, Forbidden, NotFound, TooLarge

if TYPE_CHECKING:
    from pathlib import Path

    from detector.artists.findings import Findings
    from detector.artists.report import LookupReport
    from detector.detector import Detector
    from index.requests import RemovalRequest

T = TypeVar("T")

logger = logging.getLogger("detector.server")

READERS = 2
"""Threads for what only reads the index: look-ups, references, thumbnails, lists of names."""

READS = 64
"""Such reads that may wait for them."""


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """One upload, checked.

    Attributes:
        report: What was found.
        preview: WebP of at most 512 pixels of the upload as the detector saw it; empty where it cannot be read
            or was not asked for.
    """

    report: ImageReport
    preview: bytes = b""


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A reference by its id.

    Attributes:
        reference: With its occurrences.
        near_duplicates: Other references of the index that are near-duplicates of it.
    """

    reference: Reference
    near_duplicates: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"reference": self.reference.to_dict(), "near_duplicates": self.near_duplicates}


class Engine:
    """Answers requests over one index, from one event loop."""

    def __init__(self, options: ServerOptions, metrics: Metrics | None = None) -> None:
        """Keep the options; `open` and `start` do the work."""
        self.options = options
        self.metrics = metrics or Metrics()
        workers = options.workers or os.cpu_count() or 1
        self._generations = Generations(options.index, policy=options.policy, device=options.device)
        self._decoders = Decoders(
            workers,
            max_pixels=options.max_pixels,
            max_bytes=options.max_bytes,
            timeout_s=options.decode_timeout_s,
            on_loss=self.metrics.decoder_lost,
        )
        self._batches = Batches(
            self._generations,
            workers=workers,
            batch_size=options.batch_size,
            on_batch=self.metrics.batch_done,
        )
        self._decoding = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._reads = 0
        self._pending = 0
        self._findings: tuple[Any, Findings] | None = None
        self._watching: asyncio.Task[None] | None = None

    # Life

    def open(self) -> None:
        """Open the index, load its models and start a decoder, so that nothing fails later.

        Raises:
            DetectorError: The index cannot be served, findings cannot be read, or uploads cannot be decoded.
        """
        try:
            self._read_findings()
            self._generations.open()
            self._decoders.start()
        except BaseException:
            self.close()
            raise
        with self._generations.use() as detector:
            self.metrics.serving(detector.index.generation, detector.index.size)

    async def start(self) -> None:
        """Open what is not open, and begin to work."""
        await asyncio.to_thread(self.open)
        self._batches.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Finish what is at work, and close everything."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close everything that `open` opened."""
        self._decoders.close()
        self._batches.stop()
        self._decoding.shutdown(cancel_futures=True)
        self._reading.shutdown(cancel_futures=True)
        self._generations.close()

    async def _watch(self) -> None:
        """Look for new generations for as long as the server runs."""
        while True:
            await asyncio.sleep(self.options.reload_every_s)
            try:
                if await asyncio.to_thread(self._generations.refresh):
                    with self._generations.use() as detector:
                        self.metrics.serving(detector.index.generation, detector.index.size)
                self.metrics.reload_failing(bool(self._generations.problem))
            # A look that fails must not be the last one.
            except Exception:
                logger.exception("looking for a new generation of the index failed")

    # State

    @property
    def generation(self) -> int:
        """The generation of the index that new requests see."""
        return self._generations.generation

    @property
    def index_path(self) -> Path:
        """The index folder."""
        return self.options.index

    @property
    def problem(self) -> str:
        """Why the newest state of the index cannot be served, though an older one is; or ``""``."""
        return self._generations.problem

    # Checks

    async def check(
        self, pictures: Sequence[tuple[str, bytes]], *, previews: bool = True
    ) -> list[CheckedPicture]:
        """Check uploads; those of other requests at the same time share their batches.

        Args:
            pictures: Name and encoded bytes of each.
            previews: Make previews.

        Returns:
            One a picture, in order; an unreadable one has the verdict ``unreadable`` and a reason.

        Raises:
            Busy: Too many pictures wait.
            TooLarge: More pictures than one request may hold.
            BadInput: There is no picture.
        """
        self._admit(pictures)
        async with self._places(len(pictures)):
            tasks = [asyncio.ensure_future(self._check_one(*one, previews)) for one in pictures]
            try:
                return list(await asyncio.gather(*tasks))
            except BaseException:
                for task in tasks:
                    task.cancel()
                raise

    def _admit(self, pictures: Sequence[tuple[str, bytes]]) -> None:
        if not pictures:
            raise BadInput("there is no picture. Send at least one in the field “pictures”")
        most = self.options.max_pictures
        if len(pictures) > most:
            raise TooLarge(f"{len(pictures)} pictures, limit {most} a request. Send them in several requests")

    @contextlib.asynccontextmanager
    async def _places(self, count: int) -> AsyncIterator[None]:
        """Hold places in the queue.

        Raises:
            Busy: There are not as many left.
        """
        if self._pending + count > self.options.queue:
            wait = self._pending * self._batches.seconds_a_picture
            raise Busy(f"{self._pending} pictures are waiting to be checked", retry_after_s=wait)
        self._pending += count
        self.metrics.pending(self._pending)
        try:
            yield
        finally:
            self._pending -= count
            self.metrics.pending(self._pending)

    async def _check_one(self, name: str, data: bytes, preview: bool) -> CheckedPicture:
        loop = asyncio.get_running_loop()
        decoded: Decoded = await loop.run_in_executor(
            self._decoding, lambda: self._decoders.decode(data, preview=preview)
        )
        if decoded.picture is None:
            from detector.detector import unreadable

            report = unreadable(name, decoded.reason)
        else:
            report = await asyncio.wrap_future(self._batches.submit(name, decoded, decoded.picture))
        self.metrics.checked(report.verdict.value)
        return CheckedPicture(report, decoded.preview)

    # Look-ups

    async def lookup(
        self,
        *,
        name: str = "",
        pictures: Sequence[tuple[str, bytes]] = (),
        source_contains: str = "",
        licence: str = "",
        previews: bool = True,
    ) -> tuple[LookupReport, list[CheckedPicture]]:
        """Look works up by name, source or picture.

        Args:
            name: Of the artist.
            pictures: Name and encoded bytes of each.
            source_contains: A part of the works' sources.
            licence: The artist's own, to compare with what is recorded.
            previews: Make previews.

        Raises:
            Busy, TooLarge: As for `check`.
            BadInput: There is nothing to look for, or the licence means nothing.
        """
        from detector.artists import lookup_reports
        from detector.artists.names import ArtistNames
        from index.errors import UsageError

        if not (name or pictures or source_contains):
            raise BadInput("give a name, a picture or a part of a source to look for")
        findings = await self.findings()
        checked = await self.check(pictures, previews=previews) if pictures else []
        reports = [one.report for one in checked]

        def look() -> LookupReport:
            with self._generations.use_with("artists", ArtistNames.of) as (detector, names):
                return lookup_reports(
                    detector.index,
                    reports,
                    name=name,
                    source_contains=source_contains,
                    licence=licence,
                    findings=findings,
                    names=names,
                )

        try:
            return await self._in_reader(look), checked
        except UsageError as error:
            raise BadInput(str(error)) from error

    async def reference(self, reference_id: int) -> FoundReference | None:
        """Return a reference with its near-duplicates counted, or None where there is none of that id."""
        from detector.detector import reference_of

        def read(detector: Detector) -> FoundReference | None:
            found = reference_of(detector.index, reference_id)
            if found is None:
                return None
            return FoundReference(found, detector.index.near_duplicates(reference_id))

        return await self.read(read)

    async def thumbnail(self, reference_id: int) -> bytes | None:
        """Return a reference's small copy as WebP, or None."""
        return await self.read(lambda detector: detector.index.thumbnail(reference_id))

    async def artists(self, q: str, n: int = 20) -> list[tuple[str, int]]:
        """Return names of artists that fit what was typed, with how many works each has."""
        from detector.artists.names import ArtistNames

        def read() -> list[tuple[str, int]]:
            with self._generations.use_with("artists", ArtistNames.of) as (_, names):
                return list(names.suggest(q, n))

        return await self._in_reader(read)

    async def findings(self) -> Findings:
        """Return what the saved findings say, read again when their files change."""
        return await self._in_reader(self._read_findings)

    def _read_findings(self) -> Findings:
        from detector.artists.findings import Findings

        paths = self.options.findings
        stamp = tuple((path, *_stamp(path)) for path in paths)
        kept = self._findings
        if kept is None or kept[0] != stamp:
            kept = self._findings = stamp, Findings.read(paths)
        return kept[1]

    # Requests for removal

    async def file_request(
        self, reference_ids: Sequence[int], name: str, contact: str, statement: str
    ) -> RemovalRequest:
        """File a request for the removal of references.

        Raises:
            Forbidden: This server takes none.
            NotFound: There is no such reference.
            BadInput: Nothing is asked for, or a text is too long.
        """
        from index.errors import UsageError
        from index.requests import file_request

        if not self.options.allow_requests:
            raise Forbidden("this server takes no requests for removal. Ask who runs it", code="requests_off")

        def write(detector: Detector) -> RemovalRequest:
            digests = []
            for number in dict.fromkeys(reference_ids):
                found = detector.index.reference(number)
                if found is None:
                    raise NotFound(f"there is no reference {number} in this index. Look the work up again")
                digests.append(found[0].sha256)
            return file_request(self.options.index, digests, name=name, contact=contact, statement=statement)

        try:
            return await self.read(write)
        except UsageError as error:
            raise BadInput(str(error)) from error

    async def requests(self, *, state: str | None = None) -> list[RemovalRequest]:
        """Return the requests for removal, newest first."""
        from index.requests import requests

        return await self._in_reader(lambda: requests(self.options.index, state=state))

    # Threads

    async def read(self, read: Callable[[Detector], T]) -> T:
        """Let a function read the index, in a thread, without holding other requests up.

        Raises:
            Busy: Too many such reads wait.
        """

        def leased() -> T:
            with self._generations.use() as detector:
                return read(detector)

        return await self._in_reader(leased)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        if self._reads >= READS:
            raise Busy("many requests are waiting to be answered", retry_after_s=2.0)
        self._reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)
        finally:
            self._reads -= 1


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
