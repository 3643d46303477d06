"""Credits and opt-out signals that a picture's file carries itself: EXIF, XMP, IPTC, PNG text, C2PA."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from itertools import islice
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from index.containers import MAX_BLOCK_BYTES, Blocks, boxes, find_blocks, iptc_in_photoshop, tiff_tags
from index.credits import NO_CREDITS, Credits, clean_text

MAX_TEXT = 2000
"""Longest text taken over, in characters."""

OPT_OUT_PLUS, OPT_OUT_C2PA, OPT_OUT_NOAI = "opt_out:plus", "opt_out:c2pa", "opt_out:noai"
"""Keys of `Credits.extra`: PLUS data mining property, C2PA/CAWG training assertion, "noai" words."""

_MAX_ITEMS = 50

_DC = "{http://purl.org/dc/elements/1.1/}"
_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_PLUS = "{http://ns.useplus.org/ldf/xmp/1.0/}"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_XMP_NAMES = {
    _DC + "creator": "xmp:creator",
    _DC + "title": "xmp:title",
    _DC + "rights": "xmp:rights",
    _DC + "description": "xmp:description",
    _DC + "source": "xmp:source",
    _DC + "subject": "xmp:subject",
    _RIGHTS + "WebStatement": "xmp:web_statement",
    _RIGHTS + "UsageTerms": "xmp:usage_terms",
    "{http://creativecommons.org/ns#}license": "xmp:cc_license",
    "{http://web.resource.org/cc/}license": "xmp:cc_license",
    _PHOTOSHOP + "Credit": "xmp:credit",
    _PLUS + "DataMining": "xmp:data_mining",
}
_LISTS = {"xmp:creator": ", ", "xmp:subject": "; "}

_EXIF_NAMES = {
    0x010E: "exif:description",
    0x013B: "exif:artist",
    0x8298: "exif:copyright",
    0x9C9B: "exif:xp_title",
    0x9C9D: "exif:xp_author",
}
_WIDE_TAGS = (0x9C9B, 0x9C9D)  # Windows writes UTF-16 there
_TAG_XMP, _TAG_IPTC, _TAG_PHOTOSHOP = 700, 33723, 34377
_EXIF_TAGS = frozenset({*_EXIF_NAMES, _TAG_XMP, _TAG_IPTC, _TAG_PHOTOSHOP})
_IPTC_NAMES = {
    5: "iptc:title",
    25: "iptc:keywords",
    80: "iptc:byline",
    110: "iptc:credit",
    116: "iptc:copyright",
    120: "iptc:caption",
}
_PNG_NAMES = {
    "author": "png:author",
    "copyright": "png:copyright",
    "title": "png:title",
    "description": "png:description",
    "source": "png:source",
}

_BEST = {
    "artist": (
        *("xmp:creator", "exif:artist", "iptc:byline", "exif:xp_author", "png:author"),
        *("xmp:credit", "iptc:credit"),
    ),
    "title": ("xmp:title", "iptc:title", "exif:xp_title", "png:title"),
    "licence": (
        *("xmp:cc_license", "xmp:web_statement", "xmp:rights", "xmp:usage_terms"),
        *("exif:copyright", "iptc:copyright", "png:copyright"),
    ),
    "source": ("xmp:source", "png:source"),
    "caption": ("xmp:description", "exif:description", "iptc:caption", "png:description"),
}
_NOTICES = ("xmp:rights", "exif:copyright", "iptc:copyright", "png:copyright")
_NOAI = re.compile(r"(?<![a-z])no-?(?:image)?ai(?![a-z])", re.IGNORECASE)
_TRAINING_LABEL = re.compile(r"(?:c2pa|cawg)\.training-mining(?![a-z-])")
# An entry of the assertion, in CBOR ("use" is 0x63 'use') or JSON: name, then a map whose first key is "use".
_NOT_ALLOWED = re.compile(
    rb"((?:c2pa|cawg)\.(?:ai_training|ai_generative_training|ai_inference|data_mining))"
    rb'["\s:{\x60-\x7f\xa0-\xbf]{1,12}use["\s:\x60-\x7f]{1,8}notAllowed'
)


def read_credits(data: bytes) -> Credits:
    """Return what an encoded picture says about itself. Never raises; what cannot be read is not said.

    The first of these that says something is taken:

    - artist: XMP dc:creator, EXIF Artist, IPTC by-line, EXIF XPAuthor, PNG Author, XMP and IPTC credit
    - title: XMP dc:title, IPTC object name, EXIF XPTitle, PNG Title
    - licence: XMP cc:license, xmpRights:WebStatement, dc:rights, xmpRights:UsageTerms, EXIF Copyright, IPTC
      copyright notice, PNG Copyright
    - source: XMP dc:source, PNG Source
    - caption: XMP dc:description, EXIF ImageDescription, IPTC caption, PNG Description

    A copyright notice that did not become the licence is kept as ``extra["copyright_notice"]``. Opt-out
    signals are kept in `extra` with their raw values: `OPT_OUT_PLUS` (a plus:DataMining that prohibits; any
    other is ``plus:DataMining``), `OPT_OUT_C2PA`, `OPT_OUT_NOAI`.

    Args:
        data: The file's bytes.

    Returns:
        The credits, at most `MAX_TEXT` characters each.
    """
    blocks = find_blocks(data)
    said: dict[str, str] = {}
    for read in (_read_exif, _read_xmp, _read_iptc, _read_png):  # EXIF first: a TIFF has the others inside it
        _safely(read, blocks, said)
    if blocks.jumbf:
        _safely(_read_jumbf, blocks, said)
    if not said:
        return NO_CREDITS
    fields = {
        role: next((said[name] for name in names if said.get(name)), "") for role, names in _BEST.items()
    }
    return Credits(**fields, extra=_extra(said, fields["licence"]))


def _safely(read: Callable[[Blocks, dict[str, str]], None], blocks: Blocks, said: dict[str, str]) -> None:
    """Run one reader; what a broken or hostile block makes it raise ends that block, not the build."""
    try:
        read(blocks, said)
    except Exception:  # a picture's metadata is a courtesy: no fault in it may cost the picture
        return


def _extra(said: dict[str, str], licence: str) -> dict[str, str]:
    extra: dict[str, str] = {}
    notice = next((said[name] for name in _NOTICES if said.get(name)), "")
    if notice and notice != licence:
        extra["copyright_notice"] = notice
    mining = said.get("xmp:data_mining", "")
    if mining:
        extra[OPT_OUT_PLUS if "PROHIBITED" in mining.upper() else "plus:DataMining"] = mining
    if said.get("c2pa"):
        extra[OPT_OUT_C2PA] = said["c2pa"]
    for name in ("xmp:subject", "iptc:keywords", "png:robots", "xmp:usage_terms", "xmp:rights"):
        words = dict.fromkeys(found.group().lower() for found in _NOAI.finditer(said.get(name, "")))
        if words:
            extra[OPT_OUT_NOAI] = ", ".join(words)
            break
    return extra


def _keep(said: dict[str, str], name: str, text: str) -> None:
    text = clean_text(text, max_length=MAX_TEXT)
    if text and not said.get(name):
        said[name] = text


def _read_exif(blocks: Blocks, said: dict[str, str]) -> None:
    tags = tiff_tags(blocks.exif, _EXIF_TAGS)
    for tag, name in _EXIF_NAMES.items():
        if tag in tags:
            _keep(said, name, _exif_text(tags[tag], wide=tag in _WIDE_TAGS))
    # Of a TIFF, the other blocks are tags, too.
    blocks.xmp = blocks.xmp or tags.get(_TAG_XMP, b"")
    blocks.iptc = blocks.iptc or tags.get(_TAG_IPTC, b"") or iptc_in_photoshop(tags.get(_TAG_PHOTOSHOP, b""))


def _exif_text(value: bytes, *, wide: bool) -> str:
    if wide:
        text = value[: len(value) // 2 * 2].decode("utf-16-le", "replace")
    else:
        try:
            text = value.decode("utf-8")  # by the standard ASCII; writers put UTF-8 there
        except UnicodeDecodeError:
            text = value.decode("cp1252", "replace")
    # Copyright may be "photographer NUL editor".
    return "; ".join(part.strip() for part in text.split("\0") if part.strip())


def _read_xmp(blocks: Blocks, said: dict[str, str]) -> None:
    if not blocks.xmp or len(blocks.xmp) > MAX_BLOCK_BYTES:
        return
    packet = blocks.xmp.strip(b" \t\r\n\0")
    try:
        root: Element = fromstring(packet)
    except (ParseError, ValueError, DefusedXmlException):
        return
    for element in root.iter():
        if element.tag == _RDF + "Description" or element.tag.endswith("}Work"):
            for name, value in element.attrib.items():
                if name in _XMP_NAMES:
                    _keep(said, _XMP_NAMES[name], value)
        elif element.tag in _XMP_NAMES:
            name = _XMP_NAMES[element.tag]
            _keep(said, name, _xmp_text(element, _LISTS.get(name)))


def _xmp_text(element: Element, joiner: str | None) -> str:
    """Return a property's text: of a list, all items joined, or without `joiner` the default language's."""
    items = list(islice(element.iter(_RDF + "li"), _MAX_ITEMS))
    if not items:
        return element.get(_RDF + "resource") or element.text or ""
    texts = [(each.text or each.get(_RDF + "resource") or "").strip() for each in items]
    if joiner is not None:
        return joiner.join(text for text in texts if text)
    default = [text for each, text in zip(items, texts, strict=True) if each.get(_XML_LANG) == "x-default"]
    return next((text for text in (*default, *texts) if text), "")


def _read_iptc(blocks: Blocks, said: dict[str, str]) -> None:
    data = blocks.iptc
    found: dict[str, list[str]] = {}
    encoding = "utf-8"
    place = 0
    while place + 5 <= len(data) and data[place] == 0x1C:
        record, dataset, size = struct.unpack_from(">BBH", data, place + 1)
        place += 5
        if size & 0x8000:  # extended: the size of the size
            break
        value = data[place : place + size]
        place += size
        name = _IPTC_NAMES.get(dataset) if record == 2 else None
        if name is not None and len(found.setdefault(name, [])) < _MAX_ITEMS:
            try:
                found[name].append(value.decode(encoding))
            except UnicodeDecodeError:
                found[name].append(value.decode("cp1252", "replace"))
    for name, texts in found.items():
        _keep(said, name, ("; " if name == "iptc:keywords" else ", ").join(texts))


def _read_png(blocks: Blocks, said: dict[str, str]) -> None:
    for keyword, text in blocks.text.items():
        lower = keyword.lower()
        if lower in _PNG_NAMES:
            _keep(said, _PNG_NAMES[lower], text)
        elif lower in ("robots", "x-robots-tag"):
            _keep(said, "png:robots", text)
        elif lower in ("noai", "noimageai"):
            _keep(said, "png:robots", keyword)


def _read_jumbf(blocks: Blocks, said: dict[str, str]) -> None:
    """Look for the training and data mining assertion in the active manifest: the last of the store."""
    data = blocks.jumbf
    for store in _labelled(data, 0, len(data)):
        if store[0] != "c2pa":
            continue
        manifests = _labelled(data, store[1], store[2])
        for _, begin, end in manifests[-1:]:
            for part in _labelled(data, begin, end):  # assertion store, claim, signature
                for label, first, last in _labelled(data, part[1], part[2]):
                    if _TRAINING_LABEL.match(label):
                        refused = _NOT_ALLOWED.findall(data, first, last)
                        text = ", ".join(f"{each.decode('ascii')}=notAllowed" for each in refused)
                        _keep(said, "c2pa", text)


def _labelled(data: bytes, begin: int, end: int) -> list[tuple[str, int, int]]:
    """Return label and content of each JUMBF superbox at this level."""
    found: list[tuple[str, int, int]] = []
    for kind, first, last in boxes(data, begin, end):
        if kind != b"jumb" or len(found) > 1000:
            continue
        description = next(boxes(data, first, last), None)
        if description is None or description[0] != b"jumd":
            continue
        label = data[description[1] + 17 : description[2]].partition(b"\0")[0]  # after UUID and toggles
        found.append((label.decode("utf-8", "replace"), description[2], last))
    return found
