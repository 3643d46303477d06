"""Workers that read and describe pictures: forked processes where nothing speaks against it, threads elsewhere.

Python's own part of describing a picture (headers, hashes, bookkeeping) runs on one core however many threads there
are; forked processes have no such bound and start at once. Forking is sound only while the process has one thread
and no library with threads of its own; a thread pool does the same work everywhere else.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import thumbnails
from index.credits import NO_CREDITS, Credits
from index.descriptors import BatchedDescriptor, Descriptor, Kind
from index.embedded import read_credits
from index.errors import UnreadableImageError
from index.images import Picture, read_image
from index.items import SourceItem
from index.keypoints import use_threads
from index.neural import runs_anywhere
from index.regions import square_of, windows_of
from index.requests import REMOVED_ON_REQUEST, forgotten_key
from index.torch_tower import one_thread_here

THREADED_LIBRARIES = ("torch", "faiss", "cv2")
"""Libraries with thread pools of their own, which a forked child would find without their threads."""

GROUP = 8
"""Inputs that a neural descriptor describes at once in a worker."""

_PR_SET_PDEATHSIG = 1
"""Linux prctl(2): the signal that a process gets when its parent dies."""

_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
_mine = threading.local()


@dataclass(slots=True)
class Described:
    """What a worker hands back for one item: its picture described, or the error that says why not.

    Attributes:
        picture: Without its pixels; None where its digest was known already, or it cannot be read.
        rows: By the name of a descriptor that sees one picture at a time.
        inputs: By the name of one that sees batches: the picture as its model takes it, its middle square, its windows.
    """

    item: SourceItem
    sha256: str = ""
    picture: Picture | None = None
    rows: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    thumbnail: bytes | None = None
    credits: Credits = NO_CREDITS
    error: UnreadableImageError | None = None


@dataclass(frozen=True, slots=True)
class Describer:
    """Reads and describes one item at a time; all that a worker needs for it.

    Attributes:
        descriptors: Those that see one picture at a time.
        known: Digests that need no describing. A forked worker has them as they were when it started: what it
            describes twice, the index takes once.
        thumbnails: Make them.
        batched: The neural descriptors, which see whole batches later; pictures are prepared for them here.
        squares: Describe the middle squares of pictures too, by all but local features.
        regions: Prepare the windows of `index.regions` too.
        draft_side: See `index.images.read_image`.
        max_pixels: Likewise.
        forgotten: Keys of erased pictures (`index.requests.forgotten_key`): those are not even decoded.
    """

    descriptors: dict[str, Descriptor]
    known: set[str]
    thumbnails: bool
    batched: dict[str, BatchedDescriptor]
    squares: bool
    regions: bool
    draft_side: int
    max_pixels: int
    forgotten: frozenset[str] = frozenset()

    def describe(self, item: SourceItem) -> Described:
        """Read and describe an item; an unreadable one comes back with its error."""
        result = Described(item)
        try:
            data = item.read()
            result.sha256 = hashlib.sha256(data).hexdigest()
            if self.forgotten and forgotten_key(result.sha256) in self.forgotten:
                raise UnreadableImageError(item.locator, REMOVED_ON_REQUEST)
            result.credits = item.credits.filled_from(read_credits(data))
            if result.sha256 in self.known:
                return result
            # img2dataset marks its rows with key and status, and pads to a square by default.
            padded = {"key", "status"} <= item.credits.extra.keys()
            picture = read_image(
                data,
                locator=item.locator,
                max_pixels=self.max_pixels,
                trim_border=padded,
                draft_side=self.draft_side,
                sha256=result.sha256,
            )
        except UnreadableImageError as error:
            result.error = error
            return result
        square = square_of(picture) if self.squares else None
        whole = [picture] if square is None else [picture, square]
        for name, descriptor in self.descriptors.items():
            seen = whole if descriptor.spec.kind is Kind.BITS else [picture]
            rows = descriptor.describe(seen)
            # The whole's row is the first: where it has none (nothing to hash), its parts have none either.
            result.rows[name] = np.concatenate(rows) if len(rows[0]) else rows[0]
        if self.thumbnails:
            result.thumbnail = thumbnails.encode(picture)
        if self.batched:
            parts = [*whole, *windows_of(picture)] if self.regions else whole
            for name, model in self.batched.items():
                result.inputs[name] = [model.prepare(part) for part in parts]
        # Results wait for their batch, which needs no pixels but these.
        result.picture = replace(picture, pixels=_NO_PIXELS, _image=None)
        return result

    def load_hash_libraries(self) -> None:
        """Load them before workers fork off: once, instead of once a worker."""
        squares = np.kron(np.indices((8, 8)).sum(axis=0) % 2 * 255, np.ones((8, 8))).astype(np.uint8)
        any_picture = Picture(np.repeat(squares[:, :, None], 3, axis=2), 64, 64, "", "")
        for descriptor in self.descriptors.values():
            if descriptor.spec.kind is Kind.BITS:
                descriptor.describe([any_picture])


def describe_all(items: list[SourceItem]) -> list[Described]:
    """Describe items, in a worker that `start` made."""
    describer: Describer = _mine.describer
    results = [describer.describe(item) for item in items]
    for name, model in describer.batched.items():
        if model.in_workers:
            describe_batch(name, model, results)
    return results


def describe_batch(name: str, model: BatchedDescriptor, results: Sequence[Described]) -> None:
    """Turn the inputs of a neural descriptor into rows: of the picture first, then of its parts."""
    fresh = [result for result in results if name in result.inputs]
    inputs = [result.inputs.pop(name) for result in fresh]
    every = [one for mine in inputs for one in mine]
    rows = iter(_in_groups(model, every) if model.in_workers else model.describe_prepared(every))
    for result, mine in zip(fresh, inputs, strict=True):
        result.rows[name] = np.concatenate([next(rows) for _ in mine])


def _in_groups(model: BatchedDescriptor, inputs: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
    """Describe inputs `GROUP` at a time, the last group filled up where rows depend on how many there are.

    torch sums in another order then: a build that was interrupted would differ from one that was not. OpenCV does not
    (`index.opencv_tower`).
    """
    filled = not runs_anywhere(model)
    rows: list[NDArray[Any]] = []
    for start in range(0, len(inputs), GROUP):
        group = inputs[start : start + GROUP]
        more = group[-1:] * (GROUP - len(group)) if filled else []
        rows += model.describe_prepared(group + more)[: len(group)]
    return rows


def can_fork() -> bool:
    """Say whether nothing speaks against forking now: Linux, one thread, no library with threads loaded."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    return not any(name in sys.modules for name in THREADED_LIBRARIES)


def start(count: int, describer: Describer) -> Executor:
    """Start workers for `describe_all`; processes unless models' inputs have to come back."""
    if count > 1 and not describer.batched and can_fork():
        describer.load_hash_libraries()
        context = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(count, context, _prepare_process, (describer,))
    return ThreadPoolExecutor(count, "describe", prepare, (describer,))


def prepare(describer: Describer) -> None:
    """Make the calling thread a worker: what `describe_all` describes in it, this describer does."""
    _mine.describer = describer
    one_thread_here()
    if any(descriptor.spec.kind is Kind.LOCAL for descriptor in describer.descriptors.values()):
        use_threads(1)


def _prepare_process(describer: Describer) -> None:
    import ctypes

    # Ctrl-C reaches the whole group: the parent commits what is done and stops the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prepare(describer)
