"""What a picture's file says about its generation, and findings that are saved inside a picture.

    from detector.metadata import read_generation

    print(read_generation("generated/001.png"))

Only metadata blocks are looked at; no pixel is decoded. What is read is what somebody wrote there: it is shown,
and changes no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, PngImagePlugin

from detector.generation import Generation
from detector.provenance.comfyui import read_graph
from detector.provenance.infotext import read_infotext
from detector.provenance.invokeai import read_dream, read_metadata, read_sd_metadata
from detector.provenance.lists import GenerationLists
from detector.provenance.settings import filled_from, generation_from, parsed_json, says_something
from detector.report import ImageReport
from detector.reports.atomic import replacing
from detector.reports.jsonl import findings_line
from index.containers import Blocks, find_blocks, tiff_tags
from index.errors import UnreadableImageError, UsageError
from index.images import read_bytes

__all__ = ["GenerationLists", "filled_from", "read_generation", "read_report_in", "write_picture"]

REPORT_KEY = "replication_report"
"""Keyword of the PNG text, and prefix in the EXIF comment, that hold findings."""

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

_PNG_MODES = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})
_JPEG_MODES = frozenset({"L", "RGB", "CMYK"})
_WEBP_MODES = frozenset({"RGB", "RGBA"})

MAX_JPEG_BYTES = 65_000
"""Most bytes of findings in a JPEG: one segment holds 65,533 (ITU-T T.81, B.1.1.4), the EXIF structure included."""

MAX_WEBP_BYTES = 1_000_000
"""Most bytes of findings in the other formats: readers, this one among them, ignore larger blocks."""

_EXIF_FOLDER, _USER_COMMENT = 0x8769, 0x9286
_GRAPH_TAGS = (0x010E, 0x010F, 0x0110)  # ComfyUI puts "prompt:{…}" and "workflow:{…}" into Make and Model
_ASCII, _UNICODE = b"ASCII\0\0\0", b"UNICODE\0"


def read_generation(source: str | Path | bytes) -> Generation | None:
    """Return how a picture was generated, as its file says. Never raises for what the file is.

    Read are the metadata of AUTOMATIC1111, Forge, SD.Next, Fooocus, ComfyUI, InvokeAI and of this package, in
    PNG, JPEG, WebP, AVIF and TIFF. Where a file has several, the first in this order wins and the others fill
    its gaps: findings saved in it, AUTOMATIC1111's text, ComfyUI's graph, InvokeAI's records, single settings.

    Args:
        source: A path, or the file's bytes.

    Returns:
        What could be read, or None where the file says nothing.
    """
    blocks = _blocks_of(source)
    found: Generation | None = None
    for read in (_from_report, _from_infotext, _from_graph, _from_invokeai, _from_settings):
        found = filled_from(found, _guarded(read, blocks))
    return found


def read_report_in(source: str | Path | bytes) -> ImageReport | None:
    """Return the findings that `write_picture` saved in a picture, or None where there are none.

    Args:
        source: A path, or the file's bytes.
    """
    for text in _texts(_blocks_of(source), REPORT_KEY):
        values = parsed_json(text)
        if isinstance(values, dict):
            try:
                return ImageReport.from_dict(values)
            except (ValueError, OverflowError):
                continue
    return None


def write_picture(image: Image.Image, path: str | Path, report: ImageReport) -> None:
    """Save a picture with its findings, generation included, in its metadata.

    The file appears whole or not at all. A JPEG has room for 64 kB of metadata: where the findings need more,
    the weakest matches are left out.

    Args:
        image: The picture. Transparent parts become white in a JPEG, which knows no transparency.
        path: Where to; its ending chooses PNG, JPEG or WebP.
        report: The findings.

    Raises:
        UsageError: Another ending, or the file cannot be written.
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise UsageError(
            f"{path}: findings cannot be saved in this format. Name a file that ends in {', '.join(FORMATS)}"
        )
    icc_profile = image.info.get("icc_profile")
    with replacing(path) as file:
        if kind == "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_text(REPORT_KEY, _fitting(report, MAX_WEBP_BYTES))
            _writable(image, _PNG_MODES).save(file, kind, pnginfo=text, icc_profile=icc_profile)
            return
        exif = Image.Exif()
        limit = MAX_JPEG_BYTES if kind == "JPEG" else MAX_WEBP_BYTES
        comment = _ASCII + f"{REPORT_KEY}:{_fitting(report, limit)}".encode("ascii")
        exif.get_ifd(_EXIF_FOLDER)[_USER_COMMENT] = comment
        if kind == "JPEG":
            opaque = _writable(image, _JPEG_MODES)
            opaque.save(file, kind, exif=exif.tobytes(), icc_profile=icc_profile, quality=95, subsampling=0)
        else:
            webp = _writable(image, _WEBP_MODES)
            webp.save(file, kind, exif=exif.tobytes(), icc_profile=icc_profile, quality=95)


def _writable(image: Image.Image, modes: frozenset[str]) -> Image.Image:
    """Return a picture in one of the modes that a format has, over white where it knows no transparency."""
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode in modes and not ("transparency" in image.info and "RGBA" not in modes):
        return image
    if not transparent:
        return image.convert("RGB")
    above = image.convert("RGBA")
    if "RGBA" in modes:
        return above
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


def _fitting(report: ImageReport, limit: int) -> str:
    """Return the findings as ASCII JSON of at most `limit` bytes, the weakest matches left out where needed."""
    for smaller in _smaller(report):
        values = json.loads(findings_line(smaller))
        text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        if len(text) <= limit:
            return text
    raise UsageError(
        f"{report.query}: the findings are too long for a picture's metadata. Keep them as JSON lines"
    )


def _smaller(report: ImageReport) -> Iterator[ImageReport]:
    """Yield the findings with ever less in them."""
    yield report
    for kept in range(len(report.matches), 0, -1):
        matches = tuple(
            replace(
                match, reference=replace(match.reference, occurrences=match.reference.occurrences[: 1 + kept])
            )
            for match in report.matches[:kept]
        )
        yield replace(report, matches=matches)
    bare = replace(report, matches=())
    yield bare
    if report.generation is not None:
        yield replace(bare, generation=replace(report.generation, extra={}))


def _blocks_of(source: str | Path | bytes) -> Blocks:
    if not isinstance(source, bytes):
        try:
            source = read_bytes(source)
        except UnreadableImageError:
            return Blocks()
    return find_blocks(source)


def _guarded(read: Callable[[Blocks], Generation | None], blocks: Blocks) -> Generation | None:
    """Run one reader; what a hostile block makes it raise ends that reader, not the scan."""
    try:
        found = read(blocks)
    except Exception:  # metadata are a courtesy: no fault in them may cost the picture its findings
        return None
    return found if found is not None and (says_something(found) or found.tool) else None


def _from_report(blocks: Blocks) -> Generation | None:
    for text in _texts(blocks, REPORT_KEY):
        values = parsed_json(text)
        said = values.get("generation") if isinstance(values, dict) else None
        if isinstance(said, dict):
            return Generation.from_dict(said)
    return None


def _from_infotext(blocks: Blocks) -> Generation | None:
    for text in (blocks.text.get("parameters", ""), _comment(blocks)):
        if text.lstrip()[:1] == "{":  # Fooocus' own scheme, and others
            values = parsed_json(text)
            if isinstance(values, dict) and not isinstance(values.get("prompt"), dict):
                tool = "Fooocus" if "fooocus" in str(values.get("version", "")).casefold() else ""
                return generation_from(values, tool=tool)
        elif found := read_infotext(text):
            return found
    return None


def _from_graph(blocks: Blocks) -> Generation | None:
    prompt, workflow = blocks.text.get("prompt"), blocks.text.get("workflow")
    if prompt is None and workflow is None:
        prompt, workflow = (next(_texts(blocks, name), None) for name in ("prompt", "workflow"))
    if prompt is None and workflow is None and _comment(blocks).startswith("{"):
        values = parsed_json(_comment(blocks))
        if isinstance(values, dict):
            return read_graph(values.get("prompt"), values.get("workflow"))
    return read_graph(prompt, workflow)


def _from_invokeai(blocks: Blocks) -> Generation | None:
    readers = (("invokeai_metadata", read_metadata), ("sd-metadata", read_sd_metadata), ("Dream", read_dream))
    return next((found for key, read in readers if (found := read(blocks.text.get(key, "")))), None)


def _from_settings(blocks: Blocks) -> Generation | None:
    """Read PNG texts that scripts write one by one: a prompt with a seed beside it."""
    if "seed" not in map(str.casefold, blocks.text):
        return None
    generation = generation_from(blocks.text)
    return generation if generation.prompt and generation.seed is not None else None


def _texts(blocks: Blocks, key: str) -> Iterator[str]:
    """Yield what stands under a keyword: as PNG text, else in EXIF after the keyword and a colon."""
    if key in blocks.text:
        yield blocks.text[key]
        return
    if not blocks.exif:
        return
    tags = tiff_tags(blocks.exif, frozenset(_GRAPH_TAGS))
    for text in (
        _comment(blocks),
        *(tags[tag].decode("utf-8", "replace") for tag in _GRAPH_TAGS if tag in tags),
    ):
        name, colon, _ = text[: len(key) + 20].partition(":")
        if colon and name.strip().casefold() == key:
            yield text[len(name) + 1 :].strip(" \0")


def _comment(blocks: Blocks) -> str:
    """Return EXIF's UserComment, wherever it was put, decoded."""
    exif = blocks.exif
    if not exif:
        return ""
    tags = tiff_tags(exif, frozenset({_USER_COMMENT, _EXIF_FOLDER}))
    raw = tags.get(_USER_COMMENT, b"")
    pointer = tags.get(_EXIF_FOLDER, b"")
    if not raw and len(pointer) == 4:
        begin = int.from_bytes(pointer, "little" if exif[:2] == b"II" else "big")
        raw = tiff_tags(exif, frozenset({_USER_COMMENT}), directory=begin).get(_USER_COMMENT, b"")
    return _decoded(raw, exif[:2] == b"II").strip("\0 ")


def _decoded(raw: bytes, little: bool) -> str:
    """Return a comment by its declared character code, whose bytes writers order as they please."""
    code, value = raw[:8], raw[8:]
    if code == _UNICODE:
        if b"\0" in value[:400] or value[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return _utf16(value, little)
        try:
            return value.decode("utf-8")  # as some declare it wrongly
        except UnicodeDecodeError:
            return _utf16(value, little)
    if code in (_ASCII, b"\0" * 8):
        return value.decode("utf-8", "replace")
    return raw.decode("utf-8", "replace")


def _utf16(value: bytes, little: bool) -> str:
    """Decode either order: Latin text, which settings always hold, has its zero bytes on one side only."""
    value = value[: len(value) // 2 * 2]
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return value.decode("utf-16", "replace")
    first, second = value[::2].count(0), value[1::2].count(0)
    if first != second:
        little = second > first
    return value.decode("utf-16-le" if little else "utf-16-be", "replace")
