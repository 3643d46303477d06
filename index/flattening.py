"""A decoded picture of any mode and size → RGB at working size, in bounded memory; and what is too dear to decode.

A small file can be a large picture. What it is decoded into is bounded by its pixels (`index.images.MAX_PIXELS`); what
is counted here are the copies that some decoders make besides, and what is copied on the way to RGB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

LARGE_PIXELS = 8 * 1024 * 1024
"""Pictures of more pixels are turned into RGB and shrunk strip by strip. Whole, a copy in another mode would take as
much memory as the picture again, floating point and transparency several times as much."""

STRIP_PIXELS = 512 * 1024
"""Of one strip: its copies stay in a processor's cache."""

MAX_PIXELS_OF = {"WEBP": 64_000_000, "AVIF": 64_000_000}
"""Formats whose decoders hold a picture up to four times beside Pillow's own copy: 64 million pixels take 1 GB."""

MAX_WIDE_PIXELS = 100_000_000
"""Pixels of a PNG with 16 bits a channel: more are up to 1.4 GB to unpack."""

MAX_COEFFICIENT_BYTES = 800_000_000
"""A JPEG of several scans is held as coefficients, two bytes each, until the last scan has been read."""

MAX_SCAN_PIXELS = 2_000_000_000
"""Scans × pixels of a JPEG: every scan goes over the whole picture. Programs write at most some fifteen."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def too_dear(image: Image.Image, data: bytes) -> str:
    """Say why a picture that has been opened, not decoded, is not to be decoded; empty where it is.

    Args:
        image: As opened by Pillow; no pixel is read.
        data: Its file.
    """
    pixels = image.width * image.height
    most = MAX_PIXELS_OF.get(image.format or "")
    if most is not None and pixels > most:
        return f"{image.width}×{image.height}, limit {most} pixels for {image.format}"
    wide = image.format == "PNG" and len(image.getbands()) > 1 and ";16B" in str(getattr(image, "tile", ""))
    if wide and pixels > MAX_WIDE_PIXELS:
        return f"{image.width}×{image.height}, limit {MAX_WIDE_PIXELS} pixels of 16 bits a channel"
    if image.format in ("JPEG", "MPO"):
        scans = _scans(data)
        if scans * pixels > max(MAX_SCAN_PIXELS, 4 * pixels):
            return f"{image.width}×{image.height} in {scans} scans"
        bands = len(image.getbands())
        layers = getattr(image, "layer", [])
        if layers:
            widest, tallest = max(layer[1] for layer in layers), max(layer[2] for layer in layers)
            share = sum(layer[1] * layer[2] for layer in layers) / max(widest * tallest, 1)
            needed = round(2 * pixels * share)
        else:
            needed = 2 * pixels * bands
        if (scans > 1 or image.info.get("progressive")) and needed > MAX_COEFFICIENT_BYTES:
            return f"{image.width}×{image.height} in several scans, which take {needed:,} bytes at once"
    return ""


def _scans(data: bytes) -> int:
    """Count the scans of a JPEG: pictures within its metadata are not looked into."""
    place, scans = 2, 0
    while (found := _MARKER.search(data, place)) is not None:
        kind = data[found.start() + 1]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + (length if kind != 0x01 else 0)
    return scans


def working(image: Image.Image, side: int) -> Image.Image:
    """Flatten and shrink a decoded picture: RGB, long side at most `side`; strips and whole give equal pixels.

    Alpha is laid over white; 16-bit and floating point values are scaled to 8 bits.

    Args:
        image: Decoded.
        side: In pixels.
    """
    top = _top(image)
    longest = max(image.size)
    if longest <= side:
        return _flattened(image, top)
    width, height = (max(1, round(each * side / longest)) for each in image.size)
    if image.width * image.height <= LARGE_PIXELS:
        return _flattened(image, top).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    # What `resize` does with a gap of 2: whole pixels are averaged first.
    factors = int(image.width / width / 2.0) or 1, int(image.height / height / 2.0) or 1
    reduced = Image.new("RGB", (-(-image.width // factors[0]), -(-image.height // factors[1])))
    for first, strip in _strips(image, multiple_of=factors[1]):
        reduced.paste(_flattened(strip, top).reduce(factors), (0, first // factors[1]))
    box = (0.0, 0.0, image.width / factors[0], image.height / factors[1])
    return reduced.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _strips(image: Image.Image, *, multiple_of: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture in strips from the top, each with its first row."""
    rows = max(1, STRIP_PIXELS // image.width // multiple_of) * multiple_of
    for first in range(0, image.height, rows):
        yield first, image.crop((0, first, image.width, min(image.height, first + rows)))


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def _values(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = np.asarray(image).astype(np.float32)
    return np.nan_to_num(values) if image.mode == "F" else values


def _top(image: Image.Image) -> float:
    """The largest value of a picture of more than 8 bits; 0 for others."""
    if not _is_deep(image):
        return 0.0
    return max((float(_values(strip).max(initial=0.0)) for _, strip in _strips(image)), default=0.0)


def _flattened(image: Image.Image, top: float) -> Image.Image:
    """Any mode → RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if _is_deep(image):
        if image.mode == "F" and top <= 1.0:
            scale = 1.0
        elif image.mode in ("I", "F") and top <= 255.0:
            scale = 255.0
        else:
            scale = 65535.0
        eight_bit = (np.clip(_values(image) / scale, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return Image.fromarray(eight_bit).convert("RGB")
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if has_alpha:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
