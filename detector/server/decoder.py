"""The process in which uploaded pictures are decoded: it holds nothing worth taking, and may die.

Bytes of strangers meet C libraries here, in a process of their own, with bounded memory, no files and a time limit.
It reads requests from its standard input and answers on its standard output, both plain bytes, never pickles, so
that a decoder that was taken over can hand back a wrong picture and nothing worse. `detector.server.decoding` starts
it and watches over it.

A message is the length of its head (4 bytes, big endian), the head (JSON), the length of its body (likewise), the body.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

SPARE_BYTES = 768 * 1024 * 1024
"""Address space of Python, NumPy and Pillow with all their libraries: 0.3 GB on Linux, twice that for safety."""

BYTES_A_PIXEL = 20
"""Memory of decoding at its worst: four-byte pixels with alpha, laid over white, beside their copies."""

_LENGTH = struct.Struct(">I")


def send(stream: BinaryIO, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Write a message and flush."""
    text = json.dumps(head).encode("ascii")
    stream.write(_LENGTH.pack(len(text)) + text + _LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def receive(stream: BinaryIO, *, max_head: int, max_body: int) -> tuple[dict[str, Any], bytes]:
    """Read a message.

    Raises:
        EOFError: The other side is gone.
        ValueError: It is garbled, or larger than told.
    """
    head = json.loads(_exactly(stream, max_head))
    if not isinstance(head, dict):
        raise ValueError("a message's head is no object")
    return head, _exactly(stream, max_body)


def _exactly(stream: BinaryIO, most: int) -> bytes:
    (length,) = _LENGTH.unpack(_bytes(stream, _LENGTH.size))
    if length > most:
        raise ValueError(f"{length} bytes, limit {most}")
    return _bytes(stream, length)


def _bytes(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


MAX_RECORDED = 256 * 1024
"""Characters of what a file says of its generation; where it says more, that is left out."""


def run(max_pixels: int, max_bytes: int) -> None:
    """Decode what comes until nobody asks any more."""
    answers, questions = _own_streams()
    from detector.metadata import read_generation
    from index.errors import UnreadableImageError
    from index.images import read_image

    _limit(SPARE_BYTES + BYTES_A_PIXEL * max_pixels)
    send(answers, {"ready": True})

    while True:
        try:
            head, data = receive(questions, max_head=1 << 16, max_body=max_bytes)
        except (EOFError, OSError):
            return
        try:
            picture = read_image(data, locator="upload", max_pixels=max_pixels, sha256=str(head["sha256"]))
            generation = read_generation(data)
        except UnreadableImageError as error:
            send(answers, {"reason": error.reason})
            continue
        except MemoryError:
            send(answers, {"reason": "too_many_pixels"})
            continue
        height, width = picture.pixels.shape[:2]
        facts = {
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "rows": height,
            "columns": width,
            "generation": _recorded(generation),
        }
        send(answers, facts, picture.pixels.tobytes())


def _recorded(generation: Any) -> dict[str, Any] | None:
    if generation is None:
        return None
    values: dict[str, Any] = generation.to_dict()
    return values if len(json.dumps(values)) <= MAX_RECORDED else None


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep standard output and input to messages: what a library prints goes nowhere; Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers, questions = os.dup(1), os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)
    if sys.platform == "win32":
        import msvcrt

        for number in (answers, questions):
            msvcrt.setmode(number, os.O_BINARY)
    return os.fdopen(answers, "wb"), os.fdopen(questions, "rb")


def _limit(memory: int) -> None:
    """Bound what this process may take, where the system can: memory; no file written, none opened, no core dump."""
    if sys.platform == "win32":
        return
    import resource

    for name, most in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        # macOS takes no bound on address space; a bound may be lower already.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (most, most))
