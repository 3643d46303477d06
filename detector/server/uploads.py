"""Bodies of requests → fields and pictures, in memory only, within bounds; nothing is written to disk."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from detector.server.options import ServerOptions
from detector.server.problems import BadInput, Problem, TooLarge, WrongMediaType

PICTURES = "pictures"
"""Name of the field that holds pictures."""

MAX_NAME = 200
"""Characters of a file name that are kept."""

MAX_FIELDS = 64
MAX_FIELD = 16 * 1024
"""Fields that are no pictures: how many, and bytes of each."""


@dataclass
class Form:
    """What a body held.

    Attributes:
        fields: Text by name; of a field given twice, the last one.
        pictures: Name and bytes of each upload, in order, no two of a name.
    """

    fields: dict[str, str] = field(default_factory=dict)
    pictures: list[tuple[str, bytes]] = field(default_factory=list)


async def read_form(request: Request, *, fields: Collection[str], pictures: bool = True) -> Form:
    """Read a form, or a picture that is a body by itself.

    Args:
        request: Of a server whose options bound it.
        fields: Names of the text fields that it may have.
        pictures: It may have pictures, in the field ``pictures``.

    Raises:
        Problem: Its body cannot be read (400, 413, 415) or has other fields (422).
    """
    options: ServerOptions = request.app.state.options
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if pictures and kind.startswith(b"image/"):
        return Form(pictures=[("picture", await _raw(request, options.max_bytes))])
    if kind == b"application/x-www-form-urlencoded":
        return await _read_urlencoded(request, frozenset(fields))
    if kind != b"multipart/form-data":
        also = ", or one picture as the body with the type image/…" if pictures else ""
        raise WrongMediaType(f"send a form of the type multipart/form-data{also}")
    if not parameters.get(b"boundary"):
        raise Problem(
            "the form names no boundary. Let your HTTP library set the Content-Type", code="bad_form"
        )
    reader = _Reader(options, frozenset(fields), pictures)
    try:
        parser = MultipartParser(parameters[b"boundary"], reader.callbacks())
        async for piece in request.stream():
            parser.write(piece)
        parser.finalize()
        if not reader.ended:
            raise FormParserError("no end")
    except FormParserError as error:
        raise Problem("the form is broken off or garbled. Send it again", code="bad_form") from error
    return reader.form


async def read_json(request: Request) -> dict[str, Any]:
    """Read an object of JSON.

    Raises:
        Problem: The body is something else (400, 413, 415).
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"application/json":
        raise WrongMediaType("send JSON, with the type application/json")
    data = b"".join([piece async for piece in request.stream()])
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Problem("the body is no JSON. Send an object", code="bad_json") from error
    if not isinstance(value, dict):
        raise BadInput("the body is no object. Send one: {…}")
    return value


async def _raw(request: Request, most: int) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise _too_large("the picture", most)
    return bytes(data)


async def _read_urlencoded(request: Request, fields: frozenset[str]) -> Form:
    form = await request.form(max_fields=MAX_FIELDS)
    found = Form()
    for name, value in form.multi_items():
        if name not in fields:
            raise _unknown_field(name, fields, pictures=False)
        found.fields[name] = _text(str(value).encode("utf-8", "surrogateescape"), name)
    return found


class _Reader:
    """Collects the parts of one multipart body."""

    def __init__(self, options: ServerOptions, fields: frozenset[str], pictures: bool) -> None:
        self.form = Form()
        self.ended = False
        self._options = options
        self._fields = fields
        self._pictures = pictures
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._field = ""
        self._file: str | None = None
        self._data = bytearray()
        self._parts = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS + self._options.max_pictures:
            raise TooLarge(f"the form has more than {self._parts - 1} parts. Send fewer")
        self._data, self._disposition = bytearray(), b""
        self._header = bytearray(), bytearray()

    def _header_end(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        file = options.get(b"filename")
        self._file = None if file is None else file.decode("utf-8", "replace")
        if self._field not in self._fields and not (self._pictures and self._field == PICTURES):
            raise _unknown_field(self._field, self._fields, pictures=self._pictures)
        if self._field == PICTURES and len(self.form.pictures) >= self._options.max_pictures:
            most = self._options.max_pictures
            raise TooLarge(f"more than {most} pictures in one request. Send them in several requests")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        picture = self._field == PICTURES and self._pictures
        most = self._options.max_bytes if picture else MAX_FIELD
        if len(self._data) + end - start > most:
            raise _too_large("a picture" if picture else f"the field “{self._field}”", most)
        self._data += data[start:end]

    def _end(self) -> None:
        self.ended = True

    def _part_end(self) -> None:
        if self._field == PICTURES and self._pictures:
            # A browser sends an empty part without a name where no file was chosen.
            if self._data or self._file != "":
                name = _unused(_clean(self._file or ""), [name for name, _ in self.form.pictures])
                self.form.pictures.append((name, bytes(self._data)))
        else:
            self.form.fields[self._field] = _text(bytes(self._data), self._field)
        self._data = bytearray()


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"the field “{name}” is no UTF-8 text. Send it in UTF-8") from error


def _clean(name: str) -> str:
    """Return a file name without its folder and without control characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[-MAX_NAME:].strip() or "picture"


def _unused(name: str, taken: Collection[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    return unique


def _too_large(what: str, most: int) -> TooLarge:
    size = f"{most / 1024 / 1024:.3g} MiB" if most >= 1024 * 1024 else f"{most // 1024} KiB"
    return TooLarge(f"{what} is larger than {size}. Send a smaller one")


def _unknown_field(name: str, fields: Collection[str], *, pictures: bool) -> BadInput:
    known = ", ".join([*sorted(fields), *([PICTURES] if pictures else [])])
    shown = "".join(c for c in name if c.isprintable())[:40]
    return BadInput(f"there is no field “{shown}”. Fields are: {known}")
