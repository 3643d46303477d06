"""Small copies of queries and references as data: URIs, or the reason why there is none to show."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from detector.report import Reference
from detector.reports.wording import reason_in_words
from index.errors import UnreadableImageError
from index.images import Picture, read_image

WEBP_QUALITY = 75
"""At 360 px about 20 kB a painting; artefacts stay below what a finding turns on."""

_EFFORT = 2
"""Of WebP's 0–6: half the time of the default 4 for some 5 % more bytes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture to show, or why there is none.

    Attributes:
        uri: ``data:`` URI, or an empty string.
        width: Of the small copy, in pixels.
        height: Of the small copy, in pixels.
        missing: Why there is no picture, in words.
    """

    uri: str = ""
    width: int = 1
    height: int = 1
    missing: str = ""


def shown_file(path: str, *, sha256: str, max_side: int) -> Shown:
    """Return a small copy of a file; never raises for what the file is.

    Args:
        path: Where it was at the time of the scan.
        sha256: Digest that it had then, so that no other picture is shown in its place; empty: not checked.
        max_side: Longest side of the copy, in pixels.
    """
    try:
        picture = read_image(path)
    except UnreadableImageError as error:
        return Shown(missing=reason_in_words(error.reason))
    if sha256 and picture.sha256 != sha256:
        return Shown(missing="the file has changed since the scan")
    return _shown(picture.to_pil(), max_side)


def shown_reference(reference: Reference, stored: bytes | None, *, max_side: int) -> Shown:
    """Return a small copy of a reference: the index's thumbnail, else one of its files, else the reason.

    Args:
        reference: The indexed picture.
        stored: Encoded thumbnail from the index, or None.
        max_side: Longest side of the copy, in pixels.
    """
    if stored:
        try:
            return _shown(read_image(stored).to_pil(), max_side)
        except UnreadableImageError:
            pass  # A damaged thumbnail is no reason to show nothing: the file may be there.
    for occurrence in reference.occurrences:
        shown = shown_file(occurrence.path, sha256=reference.sha256, max_side=max_side)
        if shown.uri:
            return shown
    return Shown(missing="the index keeps no thumbnail, and the file is not at its place")


def shown_picture(picture: Picture, *, max_side: int) -> Shown:
    """Return a small copy of a picture that has been read."""
    return _shown(picture.to_pil().copy(), max_side)


def _shown(image: Image.Image, max_side: int) -> Shown:
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", quality=WEBP_QUALITY, method=_EFFORT)
    uri = "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Shown(uri, image.width, image.height)
