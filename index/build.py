"""Sources → index: decoded and described by workers, committed in batches, resumable, with progress."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from index.catalog import OccurrenceRecord
from index.credits import ColumnNames
from index.descriptors import BatchedDescriptor, DescriptorSpec, Kind
from index.errors import UnreadableImageError, UsageError
from index.images import DRAFT_SIDE, HASH_DRAFT_SIDE, MAX_PIXELS
from index.items import Rejected, Source, SourceItem
from index.locations import AnyIndex, open_or_create, parse_location
from index.reference_index import NewReference
from index.sources import open_source
from index.torch_tower import threads_as_before
from index.workers import Described, Describer, describe_all, describe_batch, start

BATCH_SIZE = 256
"""Pictures a commit: the most work that a kill can lose."""

COMMIT_SECONDS = 20.0
"""A slower batch is committed after this long, whatever its size."""

MODEL_OVERSAMPLING = 2
"""Decoded pixels per pixel of a model's input: a JPEG of 512 pixels is decoded at 256 for an input of 128."""

CHUNK = 8
"""Pictures handed to a worker at once."""

NOT_THE_FILES_FAULT = frozenset({"missing", "permission_denied", "read_error"})
"""Reasons to try a file again next time, though its size and time of change are the same: a disk may come back."""

SHOWN_REJECTIONS = 1000
"""Rejections kept in a `BuildReport`; all of them are in the catalogue."""

ProgressCallback = Callable[["BuildProgress"], None]

StartWorkers = Callable[[int, Describer], Executor]
"""Starts so many workers, to which chunks are submitted with `describe_all`."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How pictures are read and described.

    Attributes:
        thumbnails: Keep small WebP copies, for verification and reports. Only for a new index.
        regions: Store neural rows of five windows of each picture too, so that a generated picture that shows
            a part of a work is proposed; six times the rows. Only for a new index.
        squares: Store rows of the middle square of pictures that are not square too, which is what most trainers
            crop them to, and so what a model gives back. Only for a new index.
        workers: Threads that read and describe; 0 takes one a core.
        batch_size: Pictures a commit.
        max_pixels: Larger pictures are rejected.
        columns: Which columns of lists hold what, where their names do not say.
        device: Where neural descriptors run; None chooses.
        take_back: Admit pictures that were erased (on request, or with `remove`); otherwise they are rejected.
    """

    thumbnails: bool = True
    regions: bool = False
    squares: bool = True
    workers: int = 0
    batch_size: int = BATCH_SIZE
    max_pixels: int = MAX_PIXELS
    columns: ColumnNames = field(default_factory=ColumnNames)
    device: str | None = None
    take_back: bool = False


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        done: Occurrences dealt with so far.
        total: Of how many, or None where that is dear to know.
    """

    done: int
    total: int | None
    added: int
    rejected: int


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        added: New references.
        occurrences: Occurrences read, those of new references included.
        unchanged: Occurrences skipped, since the index knows them with the same size and time of change.
        rejected: Files that could not become references.
        rejections: The first of those, with their reasons.
        references: In the index now.
        seconds: Wall time.
    """

    path: str
    added: int
    occurrences: int
    unchanged: int
    rejected: int
    rejections: tuple[Rejected, ...]
    references: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "rejections"}
        named = [{"path": r.locator, "reason": r.reason, "detail": r.detail} for r in self.rejections]
        return {**values, "rejections": named}


def build_index(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    descriptors: Sequence[str] | None = None,
    options: BuildOptions | None = None,
    on_progress: ProgressCallback | None = None,
    start_workers: StartWorkers = start,
) -> BuildReport:
    """Index training images, or go on with, or add to, an index that is there.

    Args:
        sources: Folders, lists (CSV, JSONL, Parquet), tar shards or single pictures.
        out: The index folder, or another location (`index.locations.parse_location`).
        descriptors: Their names; None takes the default set for a new index and an old one's own.
        options: How pictures are read.
        on_progress: Called about once a picture, from the calling thread.
        start_workers: Where pictures are read and described; `detector.distributed` has them do it elsewhere.

    Returns:
        What was done. Unreadable files are counted, listed and recorded in the index.

    Raises:
        UsageError: A source is missing or holds no picture, or `descriptors` are not the index's own.
        SourceError: A list or shard cannot be used.
        IndexLockedError, IndexWriteError, DescriptorError: See `ReferenceIndex`.
    """
    chosen = options or BuildOptions()
    named = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not named:
        raise UsageError("name at least one folder, list or shard of training images")
    location = parse_location(out)
    opened = [open_source(path, columns=chosen.columns) for path in named]
    if location.folder is not None:
        _refuse_nesting(opened, location.folder)
    items = _first_found(opened, named)
    started = time.monotonic()
    index = open_or_create(
        out,
        descriptors=descriptors,
        thumbnails=chosen.thumbnails,
        regions=chosen.regions,
        squares=chosen.squares,
        device=chosen.device,
    )
    with index:
        run = _Run(index, chosen, _total(opened), on_progress)
        run.go(items, start_workers)
        index.merge_small_segments()
        if index.calibration_is_stale:
            index.calibrate()
        return BuildReport(
            path=str(location),
            added=run.added,
            occurrences=run.occurrences,
            unchanged=run.unchanged,
            rejected=run.rejected,
            rejections=tuple(run.rejections),
            references=len(index),
            seconds=time.monotonic() - started,
        )


def _refuse_nesting(sources: Iterable[Source], folder: Path) -> None:
    for source in sources:
        if source.path.exists() and folder.resolve() == source.path.resolve():
            raise UsageError(f"{folder}: is the folder of pictures itself. Name another one with --out")


def _first_found(sources: Sequence[Source], named: Sequence[str | Path]) -> Iterator[SourceItem | Rejected]:
    """Make sure that there is a picture before anything is written, without losing an item."""
    stream = itertools.chain.from_iterable(sources)
    seen: list[SourceItem | Rejected] = []
    for item in stream:
        seen.append(item)
        if isinstance(item, SourceItem) or len(seen) >= SHOWN_REJECTIONS:  # so many are for the index to list
            return itertools.chain(seen, stream)
    where = ", ".join(str(path) for path in named)
    why = "".join(f"\n  {r.locator}: {r.reason} {r.detail}" for r in seen[:5] if isinstance(r, Rejected))
    raise UsageError(
        f"{where}: no picture found. Name a folder, a list with a path column, or a tar shard that holds "
        f"JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF files{why}"
    )


def _total(sources: Iterable[Source]) -> int | None:
    counts = [source.count() for source in sources]
    return None if None in counts else sum(count for count in counts if count is not None)


def _draft_side(specs: Iterable[DescriptorSpec], *, whole: bool) -> int:
    """Return the long side, in pixels, that a JPEG must be decoded at for these descriptors.

    Args:
        specs: The index's.
        whole: Whether more is made of the picture than their rows: thumbnails, or windows of it.
    """
    least = HASH_DRAFT_SIDE
    for spec in specs:
        if whole or spec.kind is Kind.LOCAL:
            return DRAFT_SIDE
        if spec.kind is Kind.UNIT:
            sides = np.ravel(spec.preprocessing.get("size", DRAFT_SIDE))
            least = max(least, MODEL_OVERSAMPLING * int(sides.max()))
    return min(DRAFT_SIDE, least)


class _Run:
    """One build: a window of items in the hands of workers, results taken in the sources' order."""

    def __init__(
        self,
        index: AnyIndex,
        options: BuildOptions,
        total: int | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._index = index
        self._options = options
        self._total = total
        self._on_progress = on_progress
        self._descriptors = index.descriptors()
        self._batched = {n: d for n, d in self._descriptors.items() if isinstance(d, BatchedDescriptor)}
        self._keep_thumbnails = index.keeps_thumbnails
        self._known = index.digests()
        self._describer = Describer(
            descriptors={n: d for n, d in self._descriptors.items() if n not in self._batched},
            known=self._known,
            thumbnails=self._keep_thumbnails,
            batched=self._batched,
            squares=index.has_squares,
            regions=index.has_regions,
            draft_side=_draft_side(index.specs, whole=self._keep_thumbnails or index.has_regions),
            max_pixels=options.max_pixels,
            forgotten=frozenset() if options.take_back else index.forgotten(),
        )
        self.added = self.occurrences = self.unchanged = self.rejected = 0
        self.rejections: list[Rejected] = []
        self._ready: list[Described] = []
        self._committed_at = time.monotonic()

    def go(self, items: Iterator[SourceItem | Rejected], start_workers: StartWorkers) -> None:
        workers = self._options.workers or os.cpu_count() or 1
        window: deque[Future[list[Described]]] = deque()
        pool = start_workers(workers, self._describer)
        with pool:
            try:
                for chunk in self._chunks(items):
                    window.append(pool.submit(describe_all, chunk))
                    if len(window) >= 2 * workers + 1:
                        self._take_all(window.popleft().result())
                while window:
                    self._take_all(window.popleft().result())
            except BrokenProcessPool as error:
                raise UsageError(
                    "a worker process died, perhaps of a damaged picture or for lack of memory. What was "
                    "committed is kept. Run the same command with --workers 1 to see where"
                ) from error
            except KeyboardInterrupt:
                pool.shutdown(wait=True, cancel_futures=True)
                self._commit()
                raise
            finally:
                threads_as_before()
        self._commit()

    def _chunks(self, items: Iterator[SourceItem | Rejected]) -> Iterator[list[SourceItem]]:
        chunk: list[SourceItem] = []
        for item in items:
            if isinstance(item, Rejected):
                self._reject(item)
            elif self._index.is_known(
                item.locator, item.size, item.mtime_ns, take_back=self._options.take_back
            ):
                self.unchanged += 1
            else:
                chunk.append(item)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
            self._tell()
        if chunk:
            yield chunk

    def _take_all(self, results: Iterable[Described]) -> None:
        for result in results:
            self._take(result)
            self._tell()

    def _take(self, result: Described) -> None:
        if result.error is not None:
            self._reject_item(result.item, result.error)
            return
        self._ready.append(result)
        late = time.monotonic() - self._committed_at > COMMIT_SECONDS
        if len(self._ready) >= self._options.batch_size or late:
            self._commit()

    def _reject_item(self, item: SourceItem, error: UnreadableImageError) -> None:
        rejected = Rejected(item.locator, error.reason, error.detail)
        if error.reason in NOT_THE_FILES_FAULT:
            self._reject(rejected)
        else:
            self._reject(rejected, size=item.size, mtime_ns=item.mtime_ns)

    def _reject(self, rejected: Rejected, *, size: int = -1, mtime_ns: int = 0) -> None:
        self.rejected += 1
        if len(self.rejections) < SHOWN_REJECTIONS:
            self.rejections.append(rejected)
        self._index.reject(rejected, size=size, mtime_ns=mtime_ns)

    def _commit(self) -> None:
        self._describe_forgotten()
        fresh = [r for r in self._ready if r.picture is not None]
        for name, descriptor in self._batched.items():
            describe_batch(name, descriptor, fresh)
        batch = [self._new_reference(result) for result in self._ready]
        self.added += self._index.add(batch, take_back=self._options.take_back)
        self.occurrences += len(batch)
        self._known.update(new.sha256 for new in batch)
        self._ready.clear()
        self._committed_at = time.monotonic()

    def _describe_forgotten(self) -> None:
        """Describe what was known when it was read, and lost its last occurrence to another file since."""
        ready, self._ready = self._ready, []
        for result in ready:
            if result.picture is None and not self._index.has(result.sha256):
                self._known.discard(result.sha256)
                result = self._describer.describe(result.item)
            if result.error is None:
                self._ready.append(result)
            else:
                self._reject_item(result.item, result.error)

    @staticmethod
    def _new_reference(result: Described) -> NewReference:
        item, picture = result.item, result.picture
        occurrence = OccurrenceRecord(item.locator, result.credits, item.size, item.mtime_ns)
        if picture is None:
            return NewReference(result.sha256, 0, 0, occurrence, None)
        size = picture.width, picture.height
        return NewReference(
            result.sha256, *size, occurrence, result.rows, thumbnail=result.thumbnail, trim=picture.trim
        )

    def _tell(self) -> None:
        if self._on_progress is not None:
            waiting = len(self._ready)
            done = self.occurrences + self.unchanged + self.rejected + waiting
            with contextlib.suppress(BrokenPipeError):
                self._on_progress(BuildProgress(done, self._total, self.added + waiting, self.rejected))
