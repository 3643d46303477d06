"""The index that is served: opened anew beside the old state when a new generation is committed, without a pause."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.detector import Detector
from detector.rights import Policy
from index.catalog import FILE_NAME as CATALOG_FILE
from index.catalog import Catalog
from index.errors import DetectorError
from index.images import Picture
from index.locations import local_folder
from index.reference_index import MANIFEST, ReferenceIndex
from index.requests import erase_traces

logger = logging.getLogger("detector.server")

REST = 5.0
"""A reload is not begun before this many times the last one's duration: a long build commits every few seconds."""

ERASING_LOOKS = 10
"""How often the log is tried to be emptied after an erasure; other programs may keep it from that."""

RETRY_S = 30.0
"""How long after a failed reload the next one is tried though nothing changed."""


@dataclass
class _Opened:
    """One state of the index, with who uses it.

    Attributes:
        identity: Generation and file, by which a newer state is told.
        erased: How many pictures it remembers as erased.
        kept: What was derived from this state, such as the list of artists.
    """

    detector: Detector
    identity: tuple[Any, ...]
    erased: int = 0
    users: int = 0
    retired: bool = False
    kept: dict[str, Any] = field(default_factory=dict)


class Generations:
    """Hands out the newest state of an index; an older one is closed when its last user is done."""

    def __init__(self, path: Path, *, policy: Policy | None, device: str | None) -> None:
        """Keep how to open it; `open` does."""
        self.path = path
        self.problem = ""
        self._policy = policy
        self._device = device
        self._guard = threading.Lock()
        self._deriving = threading.Lock()
        self._now: _Opened | None = None
        self._seen: tuple[Any, ...] = ()
        self._rest_until = self._retry_at = 0.0
        self._erasing = 0

    def open(self) -> None:
        """Open the index and load its models.

        Raises:
            DetectorError: It cannot be served; see `Detector.open`.
        """
        local_folder(self.path, "serving")
        if self._now is None:
            self._seen = self._stamp()
            self._now = self._load()

    @property
    def generation(self) -> int:
        """The generation that new work sees; 0 where none is open."""
        now = self._now
        return int(now.identity[0]) if now is not None else 0

    def refresh(self) -> bool:
        """Open the newest generation if there is a newer one; what is at work goes on with its own.

        Returns:
            Whether there was one. Where it cannot be opened, `problem` says why, and the old one stays.
        """
        before = self._now
        stamp = self._stamp()
        started = time.monotonic()
        changed = stamp != self._seen or (self.problem and started >= self._retry_at)
        if before is None or started < self._rest_until:
            return False
        if self._erasing and not changed:
            self._erase_traces(before)
            return False
        if not changed:
            return False
        self._seen = stamp
        try:
            if self._identity(self._generation_on_disk()) == before.identity:
                self.problem = ""
                return False
            fresh = self._load(before.detector)
        # Whatever is wrong with the new state, the old one still serves.
        except Exception as error:
            if str(error) != self.problem:
                logger.warning("the new state of the index cannot be used, the old one stays: %s", error)
            self.problem = str(error) or type(error).__name__
            self._retry_at = time.monotonic() + RETRY_S
            return False
        self._swap(before, fresh)
        if fresh.erased > before.erased:
            self._erasing = ERASING_LOOKS
        self._rest_until = time.monotonic() + REST * (time.monotonic() - started)
        logger.info("now serving generation %d: %d references", self.generation, fresh.detector.index.size)
        return True

    def _swap(self, before: _Opened, fresh: _Opened) -> None:
        with self._guard:
            self._now, self.problem = fresh, ""
            before.retired = True
            done = before.users == 0
        if done:
            before.detector.close()

    def _erase_traces(self, now: _Opened) -> None:
        """After an erasure, let go of the catalogue's log, which still holds bytes of what was erased.

        A reader that opens the catalogue once the whole log was brought into it does without the log: first the one,
        then the other, then the log can be emptied.
        """
        self._erasing -= 1
        try:
            if erase_traces(self.path):
                self._erasing = 0
            else:
                self._swap(now, self._load(now.detector))
        # What cannot be erased now is tried again; the index is served meanwhile.
        except Exception as error:
            logger.warning("traces of what was erased stay in the log of the index for now: %s", error)
        self._seen = self._stamp()

    @contextlib.contextmanager
    def use(self) -> Iterator[Detector]:
        """Lend the newest state for a while."""
        with self._lent() as opened:
            yield opened.detector

    @contextlib.contextmanager
    def use_with(self, key: str, make: Any) -> Iterator[tuple[Detector, Any]]:
        """Lend the newest state, and what `make` derives from its index, once a state.

        Args:
            key: Of the derived thing.
            make: Called with the `ReferenceIndex`.
        """
        with self._lent() as opened:
            with self._deriving:
                if key not in opened.kept:
                    opened.kept[key] = make(opened.detector.index)
            yield opened.detector, opened.kept[key]

    @contextlib.contextmanager
    def _lent(self) -> Iterator[_Opened]:
        with self._guard:
            opened = self._now
            if opened is None:
                raise DetectorError("the server is starting or stopping. Try again in a moment")
            opened.users += 1
        try:
            yield opened
        finally:
            with self._guard:
                opened.users -= 1
                done = opened.retired and opened.users == 0
            if done:
                opened.detector.close()

    def close(self) -> None:
        """Close the newest state, once nobody uses it any more."""
        with self._guard:
            opened, self._now = self._now, None
            if opened is None:
                return
            opened.retired = True
            done = opened.users == 0
        if done:
            opened.detector.close()

    def _load(self, before: Detector | None = None) -> _Opened:
        """Open the index with all its parts, so that no request waits for one or stumbles over a damaged one."""
        detector = Detector.open(self.path, policy=self._policy, device=self._device)
        try:
            index = detector.index
            both = index, None if before is None else before.index
            if isinstance(both[0], ReferenceIndex) and isinstance(both[1], ReferenceIndex):
                both[0].share_descriptors(both[1])
            index.descriptors()
            for spec in index.specs:
                index.store(spec.name)
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            detector.check_pictures([Picture(noise, 64, 64, "", "")], names=["warm-up"])
            return _Opened(detector, self._identity(index.generation), len(index.forgotten()))
        except BaseException:
            detector.close()
            raise

    def _generation_on_disk(self) -> int:
        catalog = Catalog(self.path, writable=False)
        try:
            return catalog.generation
        finally:
            catalog.close()

    def _identity(self, generation: int) -> tuple[Any, ...]:
        """What tells one state from another: an index built anew in its place counts its generations from 1 again."""
        manifest, catalog, _ = self._stamp()
        return generation, manifest, catalog and catalog[0]

    def _stamp(self) -> tuple[Any, ...]:
        """What changes whenever the index does: file, size and time of its manifest, catalogue and log."""
        found: list[Any] = []
        for name in (MANIFEST, CATALOG_FILE, f"{CATALOG_FILE}-wal"):
            try:
                status = os.stat(self.path / name)
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return tuple(found)
