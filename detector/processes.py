"""Worker processes of a scan, each with the index open for itself.

Threads of one process take turns in all that Python itself does, which is half of a check: however many cores there
are, a scan by threads is little faster than with two. What each process loads takes about a second, so that threads
are quicker for few pictures; and a model that only torch can run is loaded once and shared by threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

from detector.detector import Detector, Plausible
from detector.metadata import GenerationLists
from detector.rights import Policy
from detector.scan import Checker, prepare_here
from detector.scoring import ScoringModel
from index import keypoints
from index.errors import DetectorError, UsageError
from index.neural import runs_anywhere
from index.reference_index import ReferenceIndex


@dataclass(frozen=True, slots=True)
class Opening:
    """How a detector is opened elsewhere as it is open here; can be pickled.

    Attributes:
        index: Its place.
        state: Generation and size of the index here.
        device: Where its models run there.
    """

    index: str
    state: tuple[int, int]
    policy: Policy
    scoring: ScoringModel
    plausible: Plausible
    device: str

    @classmethod
    def of(cls, detector: Detector, device: str = "cpu") -> Opening:
        """Take over all of a detector but its open index."""
        index = detector.index
        state = index.generation, index.size
        path = str(index.path.absolute())
        return cls(path, state, detector.policy, detector.scoring, detector.plausible, device)

    def open(self) -> Detector:
        """Open it, with its models loaded.

        Raises:
            UsageError: The index is in another state there, or another one.
        """
        detector = Detector.open(self.index, policy=self.policy, scoring=self.scoring, device=self.device)
        detector.plausible = self.plausible
        if (detector.index.generation, detector.index.size) != self.state:
            raise UsageError(f"{self.index}: is another index here, or another state of it")
        detector.index.descriptors()
        return detector


def can_share(detector: Detector) -> bool:
    """Say whether other processes of this machine can do what a detector does, at little cost each."""
    local = isinstance(detector.index, ReferenceIndex)
    return local and all(runs_anywhere(each) for each in detector.index.descriptors().values())


def start(count: int, checker: Checker) -> ProcessPoolExecutor:
    """Start processes for `check_all`; they are new ones, not forks, since the index is open here with its threads."""
    given = Opening.of(checker.detector), checker.within
    pool = ProcessPoolExecutor(count, get_context("spawn"), _prepare, given)
    with _interrupts_ignored():
        for _ in range(count):
            pool.submit(int)  # a process is started for each task that finds none idle
    return pool


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C here for a moment: a process that is started meanwhile does so from its first instruction on.

    Ctrl-C reaches the whole group: the parent writes what is done and stops the workers itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare(opening: Opening, within: tuple[Path, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keypoints.use_threads(1)
    try:
        detector = opening.open()
    except DetectorError:
        _end()  # the index has changed since: the parent, where it is open as it was, goes on by itself
    prepare_here(Checker(detector, GenerationLists(within), within))


def _end_with_parent() -> None:
    """End this process when its parent has: a parent that is killed can tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _end()


def _end() -> NoReturn:
    """End this process without a word."""
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("it has no handler")
