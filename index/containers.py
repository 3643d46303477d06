"""Finds the metadata blocks (EXIF, XMP, IPTC, PNG text, JUMBF) in an encoded picture; decodes nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from PIL import AvifImagePlugin, GifImagePlugin

MAX_BLOCK_BYTES = 1024 * 1024
"""EXIF, XMP and IPTC blocks longer than this are ignored."""

_MAX_JUMBF_BYTES = 16 * 1024 * 1024
_MAX_CHUNKS = 100_000
_MAX_TEXTS = 100
_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
_BYTE_KINDS = {1: 1, 2: 1, 4: 4, 7: 1, 129: 1}  # byte, ASCII, long (of IPTC in old TIFFs), undefined, UTF-8


@dataclass(slots=True)
class Blocks:
    """Metadata blocks of one file, as they stand there; empty where there is none.

    Attributes:
        exif: A TIFF structure, beginning with its byte order; of a TIFF the whole file.
        xmp: An XMP packet.
        iptc: IPTC IIM records.
        text: Keyword → text, of PNG.
        jumbf: JUMBF boxes, as C2PA writes them.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    text: dict[str, str] = field(default_factory=dict)
    jumbf: bytes = b""


def find_blocks(data: bytes) -> Blocks:
    """Return the metadata blocks in an encoded picture.

    Args:
        data: The file's bytes, of any format or none.

    Returns:
        What was found before the end or the first contradiction.
    """
    blocks = Blocks()
    try:
        if data[:3] == b"\xff\xd8\xff":
            _read_jpeg(data, blocks)
        elif data[:8] == _PNG:
            _read_png(data, blocks)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            _read_webp(data, blocks)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            blocks.exif = data  # a TIFF is an EXIF structure with a picture in it
        elif data[:3] == b"GIF" or data[4:8] == b"ftyp":
            _read_with_pillow(data, blocks)
    except (struct.error, IndexError, ValueError, zlib.error):
        pass
    return blocks


def _read_jpeg(data: bytes, blocks: Blocks) -> None:
    place = 2
    jumbf: dict[tuple[int, bytes], bytearray] = {}
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in (0xDA, 0xD9):  # the picture, the end
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if length < 2:
            break
        begin, end = place + 4, place + 2 + length
        if marker == 0xE1 and data.startswith(b"Exif\0", begin) and not blocks.exif:
            blocks.exif = data[begin + 6 : end]
        elif marker == 0xE1 and data.startswith(_XMP, begin) and not blocks.xmp:
            blocks.xmp = data[begin + len(_XMP) : end]
        elif marker == 0xED and data.startswith(_PHOTOSHOP, begin) and not blocks.iptc:
            blocks.iptc = iptc_in_photoshop(data[begin + len(_PHOTOSHOP) : end])
        elif marker == 0xEB and data.startswith(b"JP", begin):
            # ISO 19566-5: "JP", box instance (2 bytes), sequence (4), then the box; its header is repeated.
            instance = int.from_bytes(data[begin + 2 : begin + 4], "big")
            header = data[begin + 8 : begin + 16]
            piece = jumbf.get((instance, header))
            if piece is None:
                jumbf[instance, header] = bytearray(data[begin + 8 : end])
            else:
                piece += data[begin + 16 : end]
        place = end
    blocks.jumbf = b"".join(jumbf.values())[:_MAX_JUMBF_BYTES]


def _read_png(data: bytes, blocks: Blocks) -> None:
    place = 8
    texts = 0  # chunks, not keywords: a file may repeat one without end, each to be inflated
    for _ in range(_MAX_CHUNKS):
        if place + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, place)
        begin = place + 8
        place = begin + length + 4
        if kind in (b"IDAT", b"IHDR", b"PLTE"):
            continue
        if kind == b"IEND":
            break
        if kind == b"eXIf":
            blocks.exif = blocks.exif or data[begin : begin + length]
        elif kind == b"caBX":
            blocks.jumbf = blocks.jumbf or data[begin : begin + min(length, _MAX_JUMBF_BYTES)]
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and texts < _MAX_TEXTS:
            texts += 1
            try:
                _read_png_text(kind, data[begin : begin + length], blocks)
            except (ValueError, zlib.error):
                continue


def _read_png_text(kind: bytes, chunk: bytes, blocks: Blocks) -> None:
    keyword, _, rest = chunk.partition(b"\0")
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        _, _, rest = rest[2:].partition(b"\0")  # language
        _, _, rest = rest.partition(b"\0")  # translated keyword
        value = _inflate(rest) if compressed else rest
    else:
        value = _inflate(rest[1:]) if kind == b"zTXt" else rest
    if len(value) > MAX_BLOCK_BYTES:
        return
    name = keyword.decode("latin-1")
    if name == "XML:com.adobe.xmp":
        blocks.xmp = blocks.xmp or value
    elif name.startswith("Raw profile type "):  # ImageMagick: a newline, the name, the length, then hex
        words = value.split(None, 2)
        raw = bytes.fromhex(words[2].decode("ascii")) if len(words) == 3 else b""
        if name.endswith(("exif", "APP1")):
            if raw.startswith(_XMP):
                blocks.xmp = blocks.xmp or raw[len(_XMP) :]
            else:
                blocks.exif = blocks.exif or raw.removeprefix(b"Exif\0\0")
        elif name.endswith("xmp"):
            blocks.xmp = blocks.xmp or raw
        elif name.endswith("iptc"):
            blocks.iptc = blocks.iptc or (iptc_in_photoshop(raw) if raw.startswith(b"8BIM") else raw)
    else:
        blocks.text.setdefault(name, value.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace"))


def _inflate(data: bytes) -> bytes:
    """Return the decompressed bytes; one more than the limit for those that go on."""
    return zlib.decompressobj().decompress(data, MAX_BLOCK_BYTES + 1)


def _read_webp(data: bytes, blocks: Blocks) -> None:
    place = 12
    for _ in range(_MAX_CHUNKS):
        if place + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, place)
        chunk = slice(place + 8, place + 8 + length)
        if kind == b"EXIF":
            blocks.exif = data[chunk].removeprefix(b"Exif\0\0")
        elif kind == b"XMP ":
            blocks.xmp = data[chunk]
        elif kind == b"C2PA":
            blocks.jumbf = data[chunk][:_MAX_JUMBF_BYTES]
        place += 8 + length + (length & 1)


def _read_with_pillow(data: bytes, blocks: Blocks) -> None:
    """Read the formats that are rare here: AVIF and GIF."""
    try:
        # Not Image.open, which warns of large pictures: nothing is decoded here.
        plugin = GifImagePlugin.GifImageFile if data[:3] == b"GIF" else AvifImagePlugin.AvifImageFile
        with plugin(io.BytesIO(data)) as image:
            exif, xmp = image.info.get("exif"), image.info.get("xmp")
    except Exception:
        return  # the plug-ins raise whatever a broken file makes them raise; decoding reports it
    if isinstance(exif, bytes):
        blocks.exif = exif.removeprefix(b"Exif\0\0")
    if isinstance(xmp, bytes):
        blocks.xmp = xmp


def tiff_tags(data: bytes, wanted: Collection[int], *, directory: int | None = None) -> dict[int, bytes]:
    """Return the bytes of text and byte tags in a directory of a TIFF structure.

    Args:
        data: The structure: EXIF, or a TIFF file.
        wanted: Tags to return; those whose values are neither bytes, ASCII nor longs are left out.
        directory: Where it begins, in bytes; None is the first one.

    Returns:
        Tag → its value's bytes.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    found: dict[int, bytes] = {}
    if order is None or len(data) < 8:
        return found
    begin = struct.unpack_from(order + "I", data, 4)[0] if directory is None else directory
    if begin + 2 > len(data):
        return found
    entries = struct.unpack_from(order + "H", data, begin)[0]
    for place in range(begin + 2, min(begin + 2 + 12 * entries, len(data) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, place)
        if tag not in wanted or tag in found or kind not in _BYTE_KINDS or count > MAX_BLOCK_BYTES:
            continue
        size = count * _BYTE_KINDS[kind]
        first = place + 8 if size <= 4 else struct.unpack_from(order + "I", data, place + 8)[0]
        found[tag] = data[first : first + size]
    return found


def iptc_in_photoshop(data: bytes) -> bytes:
    """Return the IPTC records among Photoshop's image resources.

    Args:
        data: Resources: "8BIM", id (2 bytes), Pascal name, size (4), data, each padded to even length.

    Returns:
        The records, or no bytes.
    """
    place = 0
    while data.startswith(b"8BIM", place) and place + 12 <= len(data):
        identifier = int.from_bytes(data[place + 4 : place + 6], "big")
        name_length = data[place + 6]
        begin = place + 6 + (name_length + 2) // 2 * 2
        size = int.from_bytes(data[begin : begin + 4], "big")
        begin += 4
        if identifier == _IPTC_RESOURCE:
            return data[begin : begin + size]
        place = begin + size + (size & 1)
    return b""


def boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of an ISO base media or JUMBF structure.

    Args:
        data: The structure.
        begin: Where its first box begins.
        end: Where its last box ends.

    Yields:
        Type, and where the content begins and ends.
    """
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        content = begin + 8
        if size == 1:
            if begin + 16 > end:
                return
            size = int.from_bytes(data[content : content + 8], "big")
            content += 8
        elif size == 0:
            size = end - begin
        if size < content - begin:
            return
        yield kind, content, min(begin + size, end)
        begin += size
