"""`index.images`: any picture file, or what claims to be one, becomes an upright RGB picture or a reason."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

from index.errors import UnreadableImageError
from index.flattening import MAX_PIXELS_OF, working
from index.images import WORKING_SIDE, Picture, read_bytes, read_image

RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 200, 20), (20, 20, 220), (255, 255, 255)

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Top left red, top right green, bottom left blue, bottom right white: no two orientations look alike."""
    image = Image.new("RGB", (width, height))
    for colour, left, top in ((RED, 0, 0), (GREEN, 1, 0), (BLUE, 0, 1), (WHITE, 1, 1)):
        image.paste(colour, (left * width // 2, top * height // 2, width, height))
        if (left, top) == (0, 1):
            image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def quadrants(picture: Picture) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row."""
    height, width = picture.pixels.shape[:2]
    places = [(y * height // 4, x * width // 4) for y in (1, 3) for x in (1, 3)]
    return [tuple(picture.pixels[place].tolist()) for place in places]


def assert_near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 12) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() <= tolerance, (found, expected)


def reason(source: Any, **options: Any) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        read_image(source, **options)
    assert caught.value.locator in str(caught.value)
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_is_read(image_format: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{image_format.lower()}"
    path.write_bytes(encoded(corners(), image_format, **FORMATS[image_format]))
    picture = read_image(path)
    assert_near(quadrants(picture), [RED, GREEN, BLUE, WHITE])
    assert (picture.width, picture.height, picture.format) == (48, 32, image_format)
    assert picture.pixels.shape == (32, 48, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("image_format", FORMATS)
def test_path_text_bytes_and_pil_give_the_same_pixels(image_format: str, tmp_path: Path) -> None:
    data = encoded(corners(), image_format, **FORMATS[image_format])
    path = tmp_path / "picture"
    path.write_bytes(data)
    expected = read_image(path)
    with Image.open(path) as image:
        for source in (str(path), data, image):
            np.testing.assert_array_equal(read_image(source).pixels, expected.pixels)
    assert read_image(data).sha256 == expected.sha256


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(image_format: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners() if orientation == 1 else corners().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_image(encoded(stored, image_format, exif=exif, **FORMATS[image_format]))
    assert (picture.width, picture.height) == (48, 32)
    assert picture.pixels.shape == (32, 48, 3)
    assert_near(quadrants(picture), [RED, GREEN, BLUE, WHITE])


def test_exif_orientation_of_a_large_jpeg_survives_draft_decoding() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = corners(1600, 1200).transpose(Image.Transpose.ROTATE_90)
    picture = read_image(encoded(stored, "JPEG", exif=exif, quality=90))
    assert (picture.width, picture.height) == (1600, 1200)
    assert_near(quadrants(picture), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_exif_orientation_that_means_nothing_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert_near(quadrants(read_image(encoded(corners(), "JPEG", exif=exif))), [RED, GREEN, BLUE, WHITE], 40)


def test_garbled_exif_does_not_make_a_picture_unreadable() -> None:
    data = encoded(corners(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", quality=95, subsampling=0)
    assert_near(quadrants(read_image(data)), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (20, 0, 40, 20))
    image.paste((0, 0, 0, 128), (0, 20, 20, 40))
    read = (
        read_image(image.convert("PA")) if mode == "PA" else read_image(encoded(image.convert(mode), "PNG"))
    )
    expected = [WHITE, (0, 0, 0), (127, 127, 127), WHITE]
    assert_near(quadrants(read), expected, 2)


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "1"])
def test_a_transparent_colour_lies_over_white(mode: str) -> None:
    image = Image.new("L", (40, 40), 0)
    image.paste(255, (20, 0, 40, 40))
    image = image.convert(mode)
    colour: Any = {"P": 0, "RGB": (0, 0, 0), "L": 0, "1": 0}[mode]
    picture = read_image(encoded(image, "PNG", transparency=colour))
    assert_near(quadrants(picture), [WHITE] * 4)


def test_a_transparent_gif_lies_over_white() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    image.paste(1, (20, 0, 40, 40))
    picture = read_image(encoded(image, "GIF", transparency=0))
    assert_near(quadrants(picture), [WHITE, (200, 100, 50)] * 2)


def test_palette_greyscale_and_one_bit_pictures_are_read() -> None:
    palette = corners().quantize(16)
    assert_near(quadrants(read_image(encoded(palette, "PNG"))), [RED, GREEN, BLUE, WHITE])
    grey = corners().convert("L")
    levels = [tuple([grey.getpixel(place)] * 3) for place in ((12, 8), (36, 8), (12, 24), (36, 24))]
    for image_format in ("JPEG", "PNG", "TIFF", "BMP"):
        assert_near(quadrants(read_image(encoded(grey, image_format))), levels)  # type: ignore[arg-type]
    one_bit = Image.new("1", (40, 40), 0)
    one_bit.paste(1, (20, 0, 40, 40))
    for image_format in ("PNG", "TIFF", "BMP"):
        read = read_image(encoded(one_bit, image_format))
        assert_near(quadrants(read), [(0, 0, 0), WHITE, (0, 0, 0), WHITE], 0)


def test_pbm_and_pgm_pictures_are_read() -> None:
    assert read_image(b"P5 2 2 255 \x00\x80\xff\x40").pixels[:, :, 0].tolist() == [[0, 128], [255, 64]]


@pytest.mark.parametrize("top", [65535, 200])
@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_pictures_keep_their_brightness(mode: str, top: int) -> None:
    values = np.array([[0, top // 2], [top // 4, top]], np.uint16).repeat(20, 0).repeat(20, 1)
    image = Image.frombytes(mode, (40, 40), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    expected = [tuple([round(int(v) / 65535 * 255)] * 3) for v in (0, top // 2, top // 4, top)]
    assert_near(quadrants(read_image(image)), expected, 1)
    assert_near(quadrants(read_image(encoded(image, "TIFF"))), expected, 1)


def test_a_sixteen_bit_png_keeps_its_brightness() -> None:
    values = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(64, 0)
    picture = read_image(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_allclose(picture.pixels[0, :, 0], values[0] / 65535 * 255, atol=1)


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", [0, 128, 255], [0, 128, 255]),
        ("I", [0, 32768, 65535], [0, 128, 255]),
        ("I", [-5, 40, 255], [0, 40, 255]),
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 128.0, 255.0], [0, 128, 255]),
        ("F", [float("nan"), 0.5, 1.0], [0, 128, 255]),
    ],
)
def test_wide_integers_and_floats_are_scaled(mode: str, values: list[float], expected: list[int]) -> None:
    array = np.array([values] * 3, np.int32 if mode == "I" else np.float32)
    picture = read_image(encoded(Image.fromarray(array), "TIFF"))
    np.testing.assert_allclose(picture.pixels[0, :, 0], expected, atol=1)


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_pictures_are_read(image_format: str) -> None:
    image = Image.new("CMYK", (40, 40), (0, 0, 0, 0))
    image.paste((0, 255, 255, 0), (0, 0, 20, 20))
    image.paste((0, 0, 0, 255), (20, 20, 40, 40))
    found = quadrants(read_image(encoded(image, image_format)))
    assert_near(found, [(255, 0, 0), WHITE, WHITE, (0, 0, 0)], 40)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_read(image_format: str) -> None:
    frames = [corners(), Image.new("RGB", (48, 32), (0, 0, 0)), Image.new("RGB", (48, 32), (9, 9, 9))]
    options = {"duration": 50} if image_format != "TIFF" else {}
    options |= FORMATS[image_format]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert_near(quadrants(read_image(data)), [RED, GREEN, BLUE, WHITE])


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a kilobyte whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 4096)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_takes_memory() -> None:
    data = png_claiming(60_000, 60_000)
    tracemalloc.start()
    try:
        assert reason(data) == "too_many_pixels"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_pixel_limit_is_exact_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(corners(), "PNG")
    assert read_image(data, max_pixels=48 * 32).width == 48

    def decoded(*_: Any) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(UnreadableImageError, match="48×32, limit 1535 pixels"):
        read_image(data, max_pixels=48 * 32 - 1)
    assert reason(corners(), max_pixels=9) == "too_many_pixels"
    assert reason(np.zeros((4, 4), np.uint8), max_pixels=9) == "too_many_pixels"


def test_files_over_the_byte_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(corners(), "PNG"))
    assert reason(path, max_bytes=50) == "too_large"
    assert reason(path.read_bytes(), max_bytes=50) == "too_large"
    assert read_image(path, max_bytes=path.stat().st_size).width == 48


def test_a_large_jpeg_is_never_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    data = encoded(small.resize((4000, 3000)), "JPEG", quality=85)
    loaded: list[tuple[int, int]] = []
    real = ImageFile.ImageFile.load

    def load(self: Any) -> Any:
        loaded.append(self.size)
        return real(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    picture = read_image(data)
    assert set(loaded) == {(500, 375)}
    assert picture.pixels.shape == (375, 500, 3)
    assert (picture.width, picture.height) == (4000, 3000)


@pytest.mark.parametrize("size", [(4000, 3000), (900, 600), (799, 1201), (6000, 20), (513, 513), (512, 100)])
def test_jpegs_of_any_size_keep_enough_pixels(size: tuple[int, int]) -> None:
    picture = read_image(encoded(Image.new("RGB", size, RED), "JPEG"))
    height, width = picture.pixels.shape[:2]
    assert 400 <= max(height, width) <= WORKING_SIDE
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02) or min(width, height) <= 3
    assert (picture.width, picture.height) == size


def test_other_formats_are_shrunk_to_working_size_and_small_ones_left() -> None:
    assert read_image(encoded(corners(1500, 1000), "PNG")).pixels.shape == (341, 512, 3)
    assert read_image(encoded(Image.new("RGB", (1, 1)), "PNG")).pixels.shape == (1, 1, 3)
    assert read_image(encoded(Image.new("RGB", (5000, 1)), "PNG")).pixels.shape == (1, 512, 3)


def textured(size: int = 200) -> Image.Image:
    noise = np.random.default_rng(5).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_cut_off_files_are_unreadable_with_a_reason(image_format: str, kept: float) -> None:
    data = encoded(textured(), image_format)
    assert reason(data[: int(len(data) * kept)]) in {"truncated", "corrupt", "not_an_image"}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_cut_off_files_are_called_truncated(image_format: str) -> None:
    data = encoded(textured(), image_format)
    assert reason(data[: len(data) // 2]) == "truncated"


def test_a_corrupt_png_says_so() -> None:
    data = encoded(textured(), "PNG")
    start = data.index(b"IDAT") + 4
    data = data[:start] + b"\xff" * 20 + data[start + 20 :]
    assert reason(data) in {"corrupt", "truncated"}


def test_things_that_are_no_pictures_have_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "page.png").write_text("<html><body>404</body></html>")
    (tmp_path / "folder.jpg").mkdir()
    expected = {
        "empty.jpg": "empty",
        "text.jpg": "not_an_image",
        "page.png": "not_an_image",
        "folder.jpg": "is_a_directory",
        "gone.jpg": "missing",
        "text.jpg/inside.jpg": "read_error",
        "x" * 300 + ".jpg": "read_error",
        "nul\0.jpg": "read_error",
    }
    for name, why in expected.items():
        assert reason(tmp_path / name) == why, name
    assert reason(b"") == "empty"
    with pytest.raises(UnreadableImageError, match="begins with 74 68 69 73"):
        read_image(tmp_path / "text.jpg")


def test_wrong_extensions_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(corners(), "PNG"))
    assert read_image(path).format == "PNG"


def test_warnings_of_the_decoder_are_neither_shown_nor_errors_in_any_thread() -> None:
    filters = list(warnings.filters)
    garbled = encoded(corners(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(read_image, [garbled, encoded(corners(), "PNG")] * 50))
    assert len(read) == 100
    assert warnings.filters == filters


@pytest.mark.parametrize("data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"SIMPLE  =     T"])
def test_decoders_that_are_not_wanted_never_run(data: bytes) -> None:
    assert reason(data) == "not_an_image"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_pipes_and_devices_never_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "not_a_file"
    assert reason("/dev/zero") == "not_a_file"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_sockets_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have about 100 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert reason(tmp_path / "s.jpg") == "not_a_file"


def test_links_are_followed_and_dangling_ones_are_missing(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(encoded(corners(), "PNG"))
    try:
        (tmp_path / "link.png").symlink_to("real.png")
        (tmp_path / "dangling.png").symlink_to("gone.png")
        (tmp_path / "loop.png").symlink_to("loop.png")
    except OSError as error:
        pytest.skip(f"links cannot be made here: {error}")
    assert read_image(tmp_path / "link.png").width == 48
    assert reason(tmp_path / "dangling.png") == "missing"
    assert reason(tmp_path / "loop.png") == "read_error"


def test_no_permission_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(corners(), "PNG"))

    def refused(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        Path, "read_bytes", refused
    )  # the super-user may read anything, so the mode says nothing
    assert reason(path) == "permission_denied"


def test_read_bytes_returns_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert read_bytes(tmp_path / "f") == b"abc"
    assert stat.S_ISREG((tmp_path / "f").stat().st_mode)


GREYS = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    "array",
    [
        (GREYS * 255).astype(np.uint8),
        (GREYS * 255).astype(np.uint8)[:, :, None],
        (GREYS * 65535).astype(np.uint16),
        GREYS,
        GREYS.astype(np.float32),
        GREYS.astype(np.float16),
        np.repeat(GREYS[:, :, None], 3, axis=2),
        np.asfortranarray(np.repeat(GREYS[:, :, None], 3, axis=2)),
        np.dstack([GREYS] * 3 + [np.ones((8, 8))]),
    ],
    ids=lambda a: f"{a.dtype}-{a.ndim}-{a.shape[-1]}",
)
def test_arrays_of_every_kind_give_the_same_picture(array: np.ndarray[Any, Any]) -> None:
    picture = read_image(array)
    expected = np.repeat((GREYS * 255)[:, :, None], 3, axis=2)
    np.testing.assert_allclose(picture.pixels, expected, atol=1.01)
    assert picture.format == ""
    assert (picture.width, picture.height) == (8, 8)


def test_arrays_beyond_their_range_are_clipped_and_bools_are_black_and_white() -> None:
    assert read_image(np.array([[-1.0, 2.0]])).pixels[0, :, 0].tolist() == [0, 255]
    assert read_image(np.array([[True, False]])).pixels[0, :, 0].tolist() == [255, 0]


def test_an_arrays_alpha_lies_over_white() -> None:
    assert read_image(np.zeros((4, 4, 4), np.uint8)).pixels.min() == 255


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 0, 3), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 4), np.uint8)[:, :, :0],
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((), np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), np.complex64),
        np.full((4, 4), np.nan),
        np.full((4, 4), np.inf),
        np.array([["a", "b"]]),
        np.array([[None]]),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray[Any, Any]) -> None:
    assert reason(array) == "unsupported_array"


def test_pictures_without_a_file_are_told_apart_by_mode_size_pixels_and_palette() -> None:
    grey = Image.new("P", (8, 8), 1)
    grey.putpalette([0, 0, 0, 9, 9, 9])
    red = Image.new("P", (8, 8), 1)
    red.putpalette([0, 0, 0, 200, 0, 0])
    pictures: list[Any] = [
        grey,
        red,
        Image.new("L", (8, 8)),
        Image.new("L", (4, 16)),
        Image.new("RGB", (8, 8)),
    ]
    digests = [read_image(picture).sha256 for picture in pictures]
    assert len(set(digests)) == len(pictures)
    assert [read_image(picture).sha256 for picture in pictures] == digests


def test_reading_leaves_the_callers_image_alone() -> None:
    image = corners(1500, 1000).convert("RGBA")
    before = image.tobytes()
    read_image(image)
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (1500, 1000), before)


def test_reading_twice_gives_the_same(artworks: Path) -> None:
    for path in sorted(artworks.glob("*.*"))[:5]:
        first, second = read_image(path), read_image(path)
        np.testing.assert_array_equal(first.pixels, second.pixels)
        assert first.sha256 == second.sha256


def padded(picture: Image.Image, side: int) -> Image.Image:
    """As img2dataset's resize_mode=border does: the longer side fits, white on both sides of the other."""
    scale = side / max(picture.size)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


@pytest.mark.parametrize(("width", "height"), [(300, 180), (180, 300), (300, 81), (299, 200)])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_padding_of_img2dataset_is_trimmed(width: int, height: int, image_format: str) -> None:
    content = (
        Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 90)
        .point(lambda v: v * 3 // 4)
        .convert("RGB")
    )
    data = encoded(padded(content, 256), image_format, quality=95)
    plain, picture = read_image(data), read_image(data, trim_border=True)
    assert plain.trim == (0.0, 0.0, 1.0, 1.0)
    share = min(width, height) / max(width, height)
    low, high = (1 - share) / 2, (1 + share) / 2
    expected = (0.0, low, 1.0, high) if width > height else (low, 0.0, high, 1.0)
    assert picture.trim == pytest.approx(expected, abs=0.02)
    left, top, right, bottom = (round(edge * 256) for edge in picture.trim)
    np.testing.assert_array_equal(picture.pixels, plain.pixels[top:bottom, left:right])
    assert picture.pixels.flags.c_contiguous
    assert (picture.width, picture.height, picture.sha256) == (256, 256, plain.sha256)


def test_what_is_no_padding_is_not_trimmed() -> None:
    content = Image.fromarray(np.random.default_rng(2).integers(0, 200, (100, 100, 3), dtype=np.uint8))
    margins = Image.new("RGB", (256, 256), WHITE)
    margins.paste(content, (78, 78))
    wide = Image.new("RGB", (300, 200), WHITE)
    wide.paste(content.resize((300, 100)), (0, 50))
    lopsided = Image.new("RGB", (256, 256), WHITE)
    lopsided.paste(content.resize((256, 100)), (0, 20))
    sliver = Image.new("RGB", (256, 256), WHITE)
    sliver.paste(content.resize((256, 8)), (0, 124))
    black = Image.new("RGB", (256, 256), 0)
    black.paste(content.resize((256, 100)), (0, 78))
    for image in (margins, wide, lopsided, sliver, black, Image.new("RGB", (256, 256), WHITE), textured()):
        picture = read_image(image, trim_border=True)
        assert picture.trim == (0.0, 0.0, 1.0, 1.0)
        assert picture.pixels.shape[:2] == (image.height, image.width)


def test_mirroring_flips_left_to_right() -> None:
    picture = read_image(corners())
    assert_near(quadrants(picture.mirrored()), [GREEN, RED, WHITE, BLUE])
    np.testing.assert_array_equal(picture.mirrored().mirrored().pixels, picture.pixels)
    assert picture.to_pil().tobytes() == picture.pixels.tobytes()


HEADS = [
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\0\0\0WEBP",
]
HEADS += [b"\0\0\0\x1cftypavif", b"P6 9 9 255\n", b"\xff\xd8\xff\xe1\0\x10Exif\0\0", b"MM\0+\0\x08\0\0"]


def picture_or_reason(source: Any, **options: Any) -> Picture | str:
    try:
        return read_image(source, **options)
    except UnreadableImageError as error:
        return error.reason


def readable_or_reasoned(data: bytes) -> None:
    found = picture_or_reason(data, max_pixels=4_000_000)
    if isinstance(found, Picture):
        assert found.pixels.ndim == 3
    else:
        assert found in {"empty", "not_an_image", "truncated", "corrupt", "too_many_pixels"}


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_unreadable(head: bytes, tail: bytes) -> None:
    readable_or_reasoned(head + tail)


SEEDS = {name: encoded(corners(), name, **options) for name, options in FORMATS.items()}


@pytest.mark.fuzz
@pytest.mark.parametrize("image_format", FORMATS)
def test_damaged_files_raise_nothing_but_unreadable(image_format: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def damaged(data: st.DataObject) -> None:
        body = bytearray(SEEDS[image_format])
        for _ in range(data.draw(st.integers(1, 6))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        readable_or_reasoned(bytes(body))

    run: Callable[[], None] = damaged
    run()


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.bool_, np.int32]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6),
    )
)
def test_any_array_is_read_or_refused(array: np.ndarray[Any, Any]) -> None:
    found = picture_or_reason(array)
    if isinstance(found, Picture):
        assert found.pixels.shape == (*array.shape[:2], 3)
    else:
        assert found == "unsupported_array"


# What hostile inputs found

STRIP_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F")


@pytest.mark.parametrize("mode", STRIP_MODES)
@pytest.mark.parametrize("size", [(1537, 1200), (2050, 33), (31, 2999)])
def test_a_large_picture_in_strips_has_the_pixels_of_the_whole(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 256, (size[1], size[0], 4), np.uint8)
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    if mode in deep:
        image = Image.fromarray((values[:, :, 0].astype(np.float64) * 250).astype(deep[mode]))
    else:
        image = Image.fromarray(values).convert("RGB" if mode in ("P", "1", "CMYK") else mode).convert(mode)
    whole = working(image, WORKING_SIDE)
    monkeypatch.setattr("index.flattening.LARGE_PIXELS", 10_000)
    monkeypatch.setattr("index.flattening.STRIP_PIXELS", 10_000)
    assert np.array_equal(np.asarray(working(image, WORKING_SIDE)), np.asarray(whole))


def many_scans(count: int) -> bytes:
    data = encoded(Image.new("RGB", (300, 300), RED), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


def test_scans_without_end_are_not_decoded() -> None:
    assert read_image(many_scans(20)).width == 300
    with pytest.raises(UnreadableImageError, match="scans") as caught:
        read_image(many_scans(30_000))
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_formats_whose_decoders_take_several_times_the_memory_have_a_bound_of_their_own(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(corners(), kind)
    assert read_image(data).width == 48
    monkeypatch.setitem(MAX_PIXELS_OF, kind, 1_000)
    with pytest.raises(UnreadableImageError, match=f"for {kind}"):
        read_image(data)


@pytest.mark.parametrize(("progressive", "refused"), [(False, False), (True, True)])
def test_a_jpeg_that_is_held_as_coefficients_has_a_bound(
    progressive: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.flattening.MAX_COEFFICIENT_BYTES", 1_000)
    data = encoded(corners(), "JPEG", progressive=progressive)
    if refused:
        with pytest.raises(UnreadableImageError, match="several scans"):
            read_image(data)
    else:
        assert read_image(data).width == 48
