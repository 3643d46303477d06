"""Uploaded bytes → pictures, decoded in processes of their own that may die: one hostile file takes nobody along.

`detector.server.decoder` is what runs in them. On one core that takes a JPEG of 512 pixels from 1.9 to 2.9 ms, one of
4 megapixels from 7.8 to 10.8 ms; a new process is ready after 0.1 s.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any, cast

import numpy as np

from detector.generation import Generation
from detector.server.decoder import MAX_RECORDED, receive, send
from index.errors import DetectorError
from index.images import WORKING_SIDE, Picture

START_TIMEOUT_S = 60.0
"""Longest start of a decoder: a second on an idle machine, most of it importing NumPy."""

MAX_HEAD = 2 * MAX_RECORDED
"""Bytes of what a decoder may say of one picture: what its file holds of its generation, and a few numbers."""

MAX_BODY = WORKING_SIDE * WORKING_SIDE * 3
"""Bytes of pixels that it may hand back."""

PREVIEW_QUALITY = 80
"""Of the WebP copy of a picture as the detector saw it."""

WORN_OUT = 5_000
"""Pictures after which a decoder is replaced by a new one, so that what it leaks is bounded."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upload as the detector sees it, or why it cannot.

    Attributes:
        picture: None where it cannot be read.
        generation: How it was generated, as its file says.
        preview: WebP copy of `picture`, where it was asked for.
        reason: Why it cannot be read; ``""`` where it can.
    """

    picture: Picture | None
    generation: Generation | None = None
    preview: bytes = b""
    reason: str = ""


class Decoders:
    """A few decoder processes, each used by one thread at a time, replaced when they die or hang."""

    def __init__(
        self,
        count: int,
        *,
        max_pixels: int,
        max_bytes: int,
        timeout_s: float,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """Start them lazily, on first use.

        Args:
            count: How many.
            max_pixels: Of one picture.
            max_bytes: Of one file.
            timeout_s: After which a decoder is killed.
            on_loss: Called whenever one was lost.
        """
        self._limits = max_pixels, max_bytes
        self._timeout_s = timeout_s
        self._on_loss = on_loss
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._guard = threading.Lock()
        self._alive: set[_Process] = set()
        self._closed = False
        for _ in range(count):
            self._idle.put(None)

    def start(self) -> None:
        """Start one now, so that what keeps it from starting is known at once.

        Raises:
            DetectorError: It did not start.
        """
        process = self._idle.get()
        try:
            process = process or self._new()
        finally:
            self._idle.put(process)

    def decode(self, data: bytes, *, preview: bool = False) -> Decoded:
        """Decode one upload; blocks while all decoders are at work."""
        if not data:
            return Decoded(None, reason="empty")
        if len(data) > self._limits[1]:
            return Decoded(None, reason="too_large")
        digest = hashlib.sha256(data).hexdigest()
        process = self._idle.get()
        if process is not None and not process.alive:  # killed since, as when memory ran out
            self._lose(process)
            process = None
        try:
            process = process or self._new()
            answer, body = process.ask({"sha256": digest}, data, self._timeout_s)
            decoded = _decoded(answer, body, digest)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            late = process is not None and process.late
            self._lose(process)
            process = None
            if self._closed:
                raise DetectorError("the server is stopping") from error
            return Decoded(None, reason="took_too_long" if late else "decoder_died")
        finally:
            if process is not None and process.answered >= WORN_OUT:
                self._forget(process)
                process = None
            self._idle.put(process)
        if preview and decoded.picture is not None:
            # From pixels, here: a decoder that was taken over has no say in what browsers get to decode.
            return replace(decoded, preview=_preview(decoded.picture))
        return decoded

    def close(self) -> None:
        """End all of them, at work or not."""
        self._closed = True
        with self._guard:
            alive, self._alive = self._alive, set()
        for process in alive:
            process.end()

    def _new(self) -> _Process:
        process = _Process(*self._limits)
        with self._guard:
            self._alive.add(process)
        return process

    def _lose(self, process: _Process | None) -> None:
        if process is not None:
            self._forget(process)
            if not self._closed:
                self._on_loss()

    def _forget(self, process: _Process) -> None:
        with self._guard:
            self._alive.discard(process)
        process.end()


class _Process:
    """One decoder process."""

    def __init__(self, max_pixels: int, max_bytes: int) -> None:
        # Where this process found its modules, and nowhere else: a stranger's module in the working folder is not run.
        script = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from detector.server.decoder import run; run({max_pixels}, {max_bytes})"
        )
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one_thread},
        )
        self._in = cast("IO[bytes]", self._child.stdin)
        self._out = cast("IO[bytes]", self._child.stdout)
        self.late = False
        self.answered = 0
        try:
            with self._within(START_TIMEOUT_S):
                receive(cast(Any, self._out), max_head=MAX_HEAD, max_body=0)
        except (EOFError, OSError, ValueError) as error:
            self.end()
            raise DetectorError(
                "the process that decodes uploads did not start. Check the free memory, and that "
                f"{sys.executable} can run"
            ) from error

    def ask(self, head: dict[str, Any], data: bytes, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Send a picture and wait for the answer; the process is killed when it takes too long."""
        with self._within(timeout_s):
            send(cast(Any, self._in), head, data)
            answer = receive(cast(Any, self._out), max_head=MAX_HEAD, max_body=MAX_BODY)
        self.answered += 1
        return answer

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Any:
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        self.late = True
        self._child.kill()

    def end(self) -> None:
        """Kill it; it has nothing to lose."""
        self._child.kill()
        self._child.wait()
        for stream in (self._in, self._out):
            with contextlib.suppress(OSError):  # what was still to be sent
                stream.close()


def _decoded(answer: dict[str, Any], body: bytes, digest: str) -> Decoded:
    """Read an answer, which a decoder that was taken over may have made up."""
    if "reason" in answer:
        return Decoded(None, reason=str(answer["reason"])[:40])
    rows, columns = int(answer["rows"]), int(answer["columns"])
    width, height = int(answer["width"]), int(answer["height"])
    if not (0 < rows <= WORKING_SIDE and 0 < columns <= WORKING_SIDE and width > 0 and height > 0):
        raise ValueError("no such picture")
    pixels = np.frombuffer(body, np.uint8).reshape(rows, columns, 3).copy()  # else read-only
    picture = Picture(pixels, width, height, digest, str(answer["format"])[:10])
    recorded = answer.get("generation")
    generation = None if recorded is None else Generation.from_dict(recorded)
    return Decoded(picture, generation)


def _preview(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.to_pil().save(buffer, "WEBP", quality=PREVIEW_QUALITY, method=1)
    return buffer.getvalue()
