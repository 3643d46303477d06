"""Uploads that mean harm: each gets a 4xx with a reason or a valid answer, and the server is as it was before."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'replication-detector[server]'")

from PIL import Image

from detector import build_index
from detector.server.schemas import CheckAnswer, Error
from tests.serving import served

SEED = 20261121
AT_ONCE = 8
MOST_MB = 100.0
WARM_UP = 60


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, packed: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, 2, 0, 0, 0))
    body = packed or zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def small(rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (12, 12, 3), np.uint8)
    return Image.fromarray(noise).resize((rng.randint(1, 160), rng.randint(1, 160)))


def tiff(
    width: int, height: int, *, compression: int = 8, data: bytes = b"x\x9c\x03\x00\x00\x00\x00\x01"
) -> bytes:
    """A TIFF of one strip whose directory says what it likes."""
    entries = [
        (256, 4, 1, width & 0xFFFFFFFF),
        (257, 4, 1, height & 0xFFFFFFFF),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height & 0xFFFFFFFF),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return b"II*\x00" + struct.pack("<I", 8 + len(data)) + data + directory + struct.pack("<I", 0)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, width, height, 1, 24, 0, 16, 0, 0, 0, 0)


def truncated(rng: random.Random) -> bytes:
    data = encoded(small(rng), rng.choice(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]))
    return data[: rng.randrange(len(data))]


def flipped(rng: random.Random) -> bytes:
    data = bytearray(encoded(small(rng), rng.choice(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])))
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def huge_dimensions(rng: random.Random) -> bytes:
    side = rng.choice([20_000, 65_535, 2**31 - 1, 2**32 - 1])
    short = min(side, 65_535)
    jpeg = bytearray(encoded(small(rng), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", short, short)
    webp = b"RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00" + b"\xff\xff\xff" * 2
    gif = b"GIF89a" + struct.pack("<HH", short, short) + b"\x80\x00\x00\0\0\0\xff\xff\xff,\0\0\0\0"
    gif += struct.pack("<HH", short, short) + b"\x00\x02\x02L\x01\x00;"
    return rng.choice(
        [
            png(side, side),
            png(1, side),
            bytes(jpeg),
            webp,
            gif,
            tiff(side, side),
            tiff(side, 1, compression=1),
            bmp(min(side, 2**31 - 1), -min(side, 2**31 - 1)),
            b"P6 %d %d 255\n" % (side, side) + bytes(100),
            b"P5 99999 99999 65535\n",
        ]
    )


def deflate_bomb(rng: random.Random) -> bytes:
    """Megabytes of pixels or of text from kilobytes, within the bound on pixels or just above it."""
    text = zlib.compress(bytes(rng.choice([2, 64]) * 1024 * 1024), 9)
    kind = rng.randrange(4)
    if kind == 0:
        return png(8, 8, chunk(b"zTXt", b"parameters\0\0" + text))
    if kind == 1:
        return png(8, 8, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text))
    if kind == 2:
        return png(8, 8, chunk(b"iCCP", b"profile\0\0" + text))
    side = rng.choice([3_000, 5_000, 7_800])
    return png(side, side, packed=zlib.compress(bytes((side * 3 + 1) * side), 9))


def other_type(rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='file:///etc/passwd'/></svg>",
            b"<!doctype html><script>alert(1)</script>",
            b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
            b"PK\x03\x04" + bytes(60),
            b"\x7fELF" + bytes(60),
            b"MZ" + bytes(60),
            b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>',
            b"\x00\x00\x00\x20ftypheic" + bytes(60),
            b"\x00\x00\x00\x20ftypavif" + rng.randbytes(60),
            b"8BPS\x00\x01" + bytes(60),
            b"\x1f\x8b\x08" + bytes(60),
            b"icns" + bytes(60),
            b"push graphic-context\nfill 'url(https://127.0.0.1/x\"|ls \"-la)'\n",
            b"",
            b"\n",
            rng.randbytes(1),
        ]
    )


def random_bytes(rng: random.Random) -> bytes:
    magic = [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\0\0\1\0WEBPVP8 ",
        b"II*\0",
        b"MM\0*",
    ]
    magic += [
        b"BM",
        b"RIFF\0\0\1\0WEBPVP8L",
        b"\xff\xd8\xff\xe1",
        b"\0\0\0\x1cftypavif",
        b"P6\n9 9\n255\n",
        b"II+\0",
    ]
    return rng.choice(magic) + rng.randbytes(rng.randrange(4096))


def polyglot(rng: random.Random) -> bytes:
    picture = encoded(small(rng), rng.choice(["PNG", "JPEG", "GIF"]))
    tail = rng.choice(
        [b"<script>alert(1)</script>", b"PK\x05\x06" + bytes(18), b"%PDF-1.4\n%%EOF", b"<?php echo 1; ?>"]
    )
    gifar = b"GIF89a/*" + bytes(200) + b"*/=1;alert(1);"
    return rng.choice([picture + tail, tail + picture, gifar, picture + picture])


def many_frames(rng: random.Random) -> bytes:
    frame = b",\0\0\0\0\x08\0\x08\0\0\x02\x02L\x01\0"
    gif = b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 10_000 + b";"
    if rng.random() < 0.5:
        return gif
    frames = [small(rng).resize((16, 16)) for _ in range(40)]
    kind = rng.choice(["PNG", "WEBP", "TIFF"])
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def bad_metadata(rng: random.Random) -> bytes:
    """EXIF blocks that point at themselves, claim gigabytes, or turn the picture in ways that there are not."""
    tags = []
    for _ in range(rng.randint(1, 30)):
        tag = rng.choice([0x0112, 0x8769, 0x8825, 0xA005, 0x9286, 0x010E, 0x02BC, rng.randrange(65_536)])
        tags.append(
            struct.pack(
                "<HHII",
                tag,
                rng.randrange(14),
                rng.choice([1, 9, 2**31, 2**32 - 1]),
                rng.choice([8, 0, 2**31]),
            )
        )
    exif = (
        b"Exif\0\0II*\0\x08\0\0\0"
        + struct.pack("<H", rng.choice([len(tags), 65_535]))
        + b"".join(tags)
        + b"\x08\0\0\0"
    )
    xmp = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "%s">' % (b"a" * 1000)
    xmp += b'<!ENTITY b "' + b"&a;" * 1000 + b'">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
    nested = b'{"a":' * 20_000
    kind = rng.randrange(4)
    if kind == 0:
        return encoded(small(rng), "JPEG", exif=exif)
    if kind == 1:
        return encoded(small(rng), "WEBP", exif=exif[6:])
    if kind == 2:
        return png(
            8, 8, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), packed=zlib.compress(bytes(200))
        )
    texts = chunk(b"tEXt", b"prompt\0" + nested), chunk(b"tEXt", b"parameters\0" + b"Steps: 1, " * 50_000)
    return png(8, 8, *texts, packed=zlib.compress(bytes(200)))


def many_scans(rng: random.Random) -> bytes:
    """A progressive JPEG whose last scan comes hundreds of times: each one is decoded over the whole picture."""
    image = Image.new("RGB", (rng.choice([300, 2000]),) * 2, (120, 40, 200))
    data = encoded(image, "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * 300 + data[-2:]


KINDS: dict[Callable[[random.Random], bytes], int] = {
    truncated: 5,
    flipped: 5,
    huge_dimensions: 4,
    deflate_bomb: 1,
    other_type: 3,
    random_bytes: 4,
    polyglot: 2,
    many_frames: 1,
    bad_metadata: 2,
    many_scans: 1,
}
"""How often each kind comes."""


def whole_bodies(rng: random.Random, data: bytes) -> dict[str, Any]:
    """A request with an upload: as a form, as a picture by itself, or as something that is only nearly one."""
    kind = rng.randrange(20)
    if kind < 12:
        name = rng.choice(["a.png", "../../etc/passwd", "<script>.svg", "a\x00.jpg", "😀" * 100, "x" * 5000])
        return {"files": [("pictures", (name, data))]}
    if kind < 16:
        given = rng.choice(["image/png", "image/svg+xml", "image/", "image/x; charset=\xff"])
        return {"content": data, "headers": {"Content-Type": given.encode("latin-1")}}
    form = httpx.Request("POST", "http://a", files=[("pictures", ("a.png", data))])
    body, content_type = form.read(), form.headers["Content-Type"]
    boundary = content_type.partition("boundary=")[2].encode()
    part = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\nx\r\n'
    )
    made = rng.choice(
        [
            body[: rng.randrange(len(body))],
            part * 5_000,
            body.replace(b"Content-Disposition", b"X-" + b"a" * 100_000),
            body.replace(
                b'name="pictures"', b'name="' + rng.choice([b"", b"__proto__", b"x" * 9_000]) + b'"'
            ),
            b"--" + boundary + b"\r\n" * 10_000,
            rng.randbytes(5_000),
        ]
    )
    wrong = rng.choice(
        [content_type, content_type, "multipart/form-data", "multipart/form-data; boundary=" + "b" * 500]
    )
    return {"content": made, "headers": {"Content-Type": wrong}}


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Yield requests, the same ones for the same count."""
    rng = random.Random(SEED)
    kinds = list(KINDS)
    weights = list(KINDS.values())
    for number in range(count):
        kind = kinds[number] if number < len(kinds) else rng.choices(kinds, weights)[0]
        yield whole_bodies(rng, kind(rng))


def resident_mb() -> float:
    """Memory of this process and its decoders."""
    process = psutil.Process()
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def is_answered_well(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        CheckAnswer.model_validate(answer.json())
    else:
        assert 400 <= answer.status_code < 500, answer.text
        assert Error.model_validate(answer.json()).error.message
    assert "Content-Security-Policy" in answer.headers


@pytest.fixture(scope="module")
def small_index(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few works by hashes alone: what is attacked here is in front of the search."""
    folder = tmp_path_factory.mktemp("hostile") / "small.index"
    build_index([artworks / "city-3.jpg", artworks / "poster-2.jpg"], folder, descriptors=["pdq", "phash"])
    return folder


def attack(index: Path, count: int) -> dict[int, int]:
    """Send hostile requests, several at a time, and compare the server with itself before.

    Returns:
        How many answers there were of each status.
    """
    picture = encoded(Image.linear_gradient("L").convert("RGB"), "PNG")
    statuses: dict[int, int] = {}
    # The largest bomb of pixels is just above this bound, the next one just below.
    with served(index, max_pixels=60_000_000, workers=2) as client:

        def send(request: dict[str, Any]) -> int:
            answer = client.post("/v1/check", **request)
            is_answered_well(answer)
            return answer.status_code

        with ThreadPoolExecutor(AT_ONCE) as pool:
            # Every kind once or more, several at a time: what is loaded on first use is loaded after that.
            list(pool.map(send, requests(WARM_UP)))
            before = resident_mb()
            for status in pool.map(send, requests(count)):
                statuses[status] = statuses.get(status, 0) + 1
        assert client.get("/healthz").json()["status"] == "ok"
        good = client.post("/v1/check", files=[("pictures", ("good.png", picture))]).json()["results"][0]
        assert good["verdict"] == "no_match"
        assert b"detector_pending_pictures 0.0" in client.get("/metrics").content
        assert resident_mb() - before < MOST_MB, f"from {before:.0f} to {resident_mb():.0f} MB"
    return statuses


def test_a_hundred_hostile_uploads(small_index: Path) -> None:
    statuses = attack(small_index, 100)
    assert sum(statuses.values()) == 100
    assert {200, 400} <= statuses.keys()


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_two_thousand_hostile_uploads(small_index: Path) -> None:
    statuses = attack(small_index, 2_000)
    assert sum(statuses.values()) == 2_000
