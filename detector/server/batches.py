"""Pictures of all requests → reports: what waits is checked as one batch, by a few threads that share a detector."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from detector.report import ImageReport
from detector.server.decoding import Decoded
from detector.server.generations import Generations
from index.errors import DetectorError
from index.images import Picture
from index.torch_tower import one_thread_here
from index.vectors import use_threads

MEMORY = 0.2
"""Weight of the newest batch in the average of seconds a picture."""

FIRST_GUESS_S = 0.25
"""Seconds a picture before any was measured."""

_Item = tuple[str, Decoded, Picture, "Future[ImageReport]"]


class Batches:
    """A queue of decoded pictures and the threads that check them."""

    def __init__(
        self,
        generations: Generations,
        *,
        workers: int,
        batch_size: int,
        on_batch: Callable[[int, float], None] = lambda count, seconds: None,
    ) -> None:
        """Prepare; `start` starts the threads.

        Args:
            generations: Whose detector checks.
            workers: Threads.
            batch_size: Pictures that the model sees at once, at most.
            on_batch: Called after each batch with its pictures and seconds.
        """
        self._generations = generations
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"check-{number}", daemon=True)
            for number in range(workers)
        ]
        self.seconds_a_picture = FIRST_GUESS_S / workers

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is at work, refuse what waits, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for *_, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    def submit(self, name: str, decoded: Decoded, picture: Picture) -> Future[ImageReport]:
        """Queue a picture.

        Args:
            name: What to call it in its report.
            decoded: What else is known of it.
            picture: Its pixels.
        """
        future: Future[ImageReport] = Future()
        with self._changed:
            if self._stopping:
                raise DetectorError("the server is stopping")
            self._waiting.append((name, decoded, picture, future))
            self._changed.notify()
        return future

    def _work(self) -> None:
        # Threads are many enough: searches and the model use one core each, as in a scan.
        use_threads(1)
        one_thread_here()
        while batch := self._next():
            started = time.perf_counter()
            self._check(batch)
            seconds = time.perf_counter() - started
            newest = seconds / len(batch) / len(self._threads)
            self.seconds_a_picture += MEMORY * (newest - self.seconds_a_picture)
            self._on_batch(len(batch), seconds)

    def _next(self) -> list[_Item]:
        """Wait for pictures and take a fair share of them; none once the server stops."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return []
            share = math.ceil(len(self._waiting) / len(self._threads))
            return [self._waiting.popleft() for _ in range(min(share, self._batch_size))]

    def _check(self, batch: list[_Item]) -> None:
        wanted = [item for item in batch if item[3].set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            reports = self._reports(wanted)
        # One picture that a descriptor stumbles over must not fail those it shares a batch with.
        except Exception as error:
            if len(wanted) == 1:
                wanted[0][3].set_exception(error)
                return
            for item in wanted:
                try:
                    item[3].set_result(self._reports([item])[0])
                except Exception as alone:
                    item[3].set_exception(alone)
            return
        for item, report in zip(wanted, reports, strict=True):
            with suppress(Exception):  # nobody waits for it any more
                item[3].set_result(report)

    def _reports(self, items: list[_Item]) -> list[ImageReport]:
        with self._generations.use() as detector:
            reports = detector.check_pictures([item[2] for item in items], names=[item[0] for item in items])
        return [
            replace(report, generation=item[1].generation)
            for report, item in zip(reports, items, strict=True)
        ]
