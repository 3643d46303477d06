"""Path, bytes, PIL image or array → one safe upright RGB picture, and its content hash.

Everything downstream sees a `Picture` of at most `WORKING_SIDE` pixels on its long side, decoded once.
A JPEG is decoded by libjpeg's scaled inverse DCT ("draft"), never at full size when a smaller one does.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Each plugin registers its format. Named here, so that Pillow does not import its forty others on first use.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from index.errors import UnreadableImageError
from index.flattening import too_dear, working

WORKING_SIDE = 512
"""Long side, in pixels, of the picture that descriptors see; smaller pictures stay as they are."""

DRAFT_SIDE = 400
"""A JPEG may be decoded at any scale whose long side is still at least this: at 4000×3000, 500×375."""

HASH_DRAFT_SIDE = 192
"""The same where hashes alone are wanted, which look at 64×64 pixels: their bits differ by under one on average."""

MAX_PIXELS = 178_956_970
"""Default limit against decompression bombs: twice Pillow's own warning limit, where Pillow refuses too."""

MAX_BYTES = 512 * 1024 * 1024
"""Default limit on an encoded file."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"}
)
"""File name endings that a folder scan takes for pictures."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM")
"""Decoders that may run (MPO comes with JPEG). Pillow's others (EPS starts a program, …) never see a byte."""

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]"
"""What `read_image` takes: a path, an encoded file's bytes, a PIL image, or an array (see `from_array`)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright RGB picture at working size.

    Attributes:
        pixels: uint8, (H, W, 3), RGB, C-contiguous, long side at most `WORKING_SIDE`.
        width: Width of the original after EXIF rotation, in pixels.
        height: Height of the original after EXIF rotation, in pixels.
        sha256: Hex digest of the file's bytes; of mode, size and pixels where there was no file.
        format: Pillow's name of the format, ``""`` where there was no file.
        trim: Fractions (left, top, right, bottom) of the original that `trim_border` kept; else (0, 0, 1, 1).
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    sha256: str
    format: str
    trim: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    _image: Image.Image | None = field(default=None, repr=False, compare=False)

    def mirrored(self) -> Picture:
        """Return the picture flipped left to right."""
        return replace(self, pixels=np.ascontiguousarray(self.pixels[:, ::-1]), _image=None)

    def cropped(self, left: int, top: int, right: int, bottom: int) -> Picture:
        """Return a window of the picture, its edges given in working pixels."""
        window = np.ascontiguousarray(self.pixels[top:bottom, left:right])
        shrunk = self.width / max(self.pixels.shape[1], 1)
        return replace(
            self,
            pixels=window,
            width=round(window.shape[1] * shrunk),
            height=round(window.shape[0] * shrunk),
            _image=None,
        )

    def to_pil(self) -> Image.Image:
        """Return the working pixels as an RGB PIL image, shared: copy it before changing it in place."""
        # Both forms exist after decoding; making one from the other costs as much as hashing does.
        return Image.fromarray(self.pixels) if self._image is None else self._image


def read_bytes(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file whole, never waiting on a pipe, socket or device.

    Raises:
        UnreadableImageError: Reason ``missing``, ``permission_denied``, ``is_a_directory``, ``not_a_file``,
            ``too_large``, ``empty`` or ``read_error``.
    """
    name = os.fspath(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImageError(name, "is_a_directory")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError(name, "not_a_file", "a socket, pipe or device")
        if status.st_size > max_bytes:
            raise UnreadableImageError(name, "too_large", f"{status.st_size} bytes, limit {max_bytes}")
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImageError(name, "missing") from error
    except PermissionError as error:
        raise UnreadableImageError(name, "permission_denied") from error
    except (OSError, ValueError) as error:
        raise UnreadableImageError(name, "read_error", str(error)) from error
    if not data:
        raise UnreadableImageError(name, "empty", "0 bytes")
    return data


def read_image(
    source: ImageInput,
    *,
    locator: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    trim_border: bool = False,
    draft_side: int = DRAFT_SIDE,
    sha256: str = "",
) -> Picture:
    """Read one picture, upright, RGB, at working size.

    Args:
        source: A path, encoded bytes, a PIL image, or an array (`from_array` says which).
        locator: Name for error messages; a path names itself.
        max_pixels: Larger pictures are refused before a pixel is decoded.
        max_bytes: Larger files are refused before they are read.
        trim_border: Cut off the white bands that img2dataset pads to a square.
        draft_side: A JPEG may be decoded at any scale whose long side is still at least this, in pixels.
        sha256: Digest of the encoded bytes, where it is known already.

    Raises:
        UnreadableImageError: With one of the reasons of `read_bytes`, or ``not_an_image``, ``truncated``,
            ``corrupt``, ``too_many_pixels``, ``unsupported_array``.
    """
    if isinstance(source, (str, os.PathLike)):
        name = locator or os.fspath(source)
        data = read_bytes(source, max_bytes=max_bytes)
        picture = _decode(data, name, max_pixels, draft_side, sha256)
    elif isinstance(source, bytes):
        name = locator or "<bytes>"
        if not source:
            raise UnreadableImageError(name, "empty", "0 bytes")
        if len(source) > max_bytes:
            raise UnreadableImageError(name, "too_large", f"{len(source)} bytes, limit {max_bytes}")
        picture = _decode(source, name, max_pixels, draft_side, sha256)
    elif isinstance(source, Image.Image):
        picture = _from_pil(source, locator or "<image>", max_pixels)
    else:
        picture = from_array(source, locator=locator or "<array>", max_pixels=max_pixels)
    return _trimmed(picture) if trim_border else picture


def from_array(array: NDArray[Any], *, locator: str = "<array>", max_pixels: int = MAX_PIXELS) -> Picture:
    """Make a picture from an array.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; uint8 0–255, uint16 0–65535, bool, or
            floating point 0–1.
        locator: Name for error messages.
        max_pixels: Larger pictures are refused.

    Raises:
        UnreadableImageError: Reason ``unsupported_array`` or ``too_many_pixels``.
    """
    values = np.asarray(array)
    shape_fits = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4))
    if not shape_fits or 0 in values.shape:
        detail = f"shape {values.shape}; need (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        raise UnreadableImageError(locator, "unsupported_array", detail)
    if values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    elif values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise UnreadableImageError(locator, "unsupported_array", "holds NaN or infinity")
        values = (np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    elif values.dtype != np.uint8:
        detail = f"dtype {values.dtype}; need uint8, uint16, bool or floats in 0–1"
        raise UnreadableImageError(locator, "unsupported_array", detail)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return _from_pil(Image.fromarray(np.ascontiguousarray(values)), locator, max_pixels)


_quiet = threading.Lock()
_decoding: list[warnings.catch_warnings[None]] = []


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings (garbled EXIF, large pictures), in however many threads pictures are decoded.

    They tell the user nothing to act on, and where warnings are errors they would make pictures unreadable.
    `catch_warnings` alone is not for threads: here the first in sets the filter, the last out unsets it.
    """
    with _quiet:
        if not _decoding:
            first = warnings.catch_warnings()
            first.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        else:
            first = _decoding[0]
        _decoding.append(first)
    try:
        yield
    finally:
        with _quiet:
            _decoding.pop()
            if not _decoding:
                first.__exit__(None, None, None)


def _from_pil(image: Image.Image, locator: str, max_pixels: int) -> Picture:
    if image.width * image.height > max_pixels:
        raise _too_many_pixels(image, locator, max_pixels)
    try:
        with _quiet_pillow():
            upright, size = _to_working(image, image.size)
        palette = image.palette.tobytes() if image.palette is not None else b""
        content = hashlib.sha256(
            f"{image.mode} {image.size} ".encode() + image.tobytes() + palette
        ).hexdigest()
    except MemoryError as error:
        raise UnreadableImageError(locator, "too_many_pixels", "out of memory while decoding") from error
    # An image that was opened and not loaded yet still has its decoder to run, as in `_decode`.
    except Exception as error:
        raise _decoder_error(locator, error) from error
    return _picture(upright, size, content, image.format or "")


def _decode(data: bytes, locator: str, max_pixels: int, draft_side: int, sha256: str) -> Picture:
    try:
        with _quiet_pillow(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise _too_many_pixels(image, locator, max_pixels)
            if dear := too_dear(image, data):
                raise UnreadableImageError(locator, "too_many_pixels", dear)
            stored_size = image.size
            image_format = image.format or ""
            if image_format in ("JPEG", "MPO"):
                # Pillow's draft keeps both sides at least as asked; the longer one is what counts here.
                longest = max(image.size)
                wanted = [max(1, draft_side * side // longest) for side in image.size]
                image.draft(None, (wanted[0], wanted[1]))
            upright, size = _to_working(image, stored_size)
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(locator, "too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise UnreadableImageError(locator, "too_many_pixels", "out of memory while decoding") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(locator, "not_an_image", _head(data)) from error
    # Decoders meet hostile bytes: whatever they raise says that this one image cannot be read.
    except Exception as error:
        raise _decoder_error(locator, error) from error
    return _picture(upright, size, sha256 or hashlib.sha256(data).hexdigest(), image_format)


def _picture(image: Image.Image, size: tuple[int, int], sha256: str, image_format: str) -> Picture:
    pixels = np.asarray(image, dtype=np.uint8)
    return Picture(pixels, size[0], size[1], sha256, image_format, _image=image)


def _too_many_pixels(image: Image.Image, locator: str, max_pixels: int) -> UnreadableImageError:
    detail = f"{image.width}×{image.height}, limit {max_pixels} pixels"
    return UnreadableImageError(locator, "too_many_pixels", detail)


def _decoder_error(locator: str, error: Exception) -> UnreadableImageError:
    text = str(error)
    reason = "truncated" if "truncated" in text or isinstance(error, EOFError) else "corrupt"
    return UnreadableImageError(locator, reason, text[:200])


def _head(data: bytes) -> str:
    return "begins with " + data[:8].hex(" ")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns TIFFs itself, sizes included
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    # A garbled EXIF block must not make a readable picture unreadable.
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _to_working(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """Decode, flatten, shrink and turn: RGB, long side at most `WORKING_SIDE`; and the size as turned."""
    image.load()  # first: asking a PNG for its EXIF block would decode it and hide what that raises
    orientation = _orientation(image)
    rgb = working(image, WORKING_SIDE)
    if orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[orientation])
    return rgb, (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def _trimmed(picture: Picture) -> Picture:
    """Cut the white bands of img2dataset's ``resize_mode=border``: equal ones on two sides of a square.

    White on all four sides is the picture's own margin, not padding, and stays.
    """
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    if abs(height - width) > 1:
        return picture
    white = pixels.min(axis=2) >= 250
    rows, columns = np.flatnonzero(~white.all(axis=1)), np.flatnonzero(~white.all(axis=0))
    if rows.size == 0:
        return picture
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if min(left, width - right) < 2 and _padded(top, bottom, height):
        trim, cut = (0.0, top / height, 1.0, bottom / height), pixels[top:bottom]
    elif min(top, height - bottom) < 2 and _padded(left, right, width):
        trim, cut = (left / width, 0.0, right / width, 1.0), pixels[:, left:right]
    else:
        return picture
    return replace(picture, pixels=np.ascontiguousarray(cut), trim=trim, _image=None)


def _padded(first: int, last: int, size: int) -> bool:
    bands = first, size - last
    return min(bands) >= 2 and abs(bands[0] - bands[1]) <= 3 and last - first >= size // 8
