"""Pictures that mean harm: broken, bombs, endless animations, garbage in their metadata, two formats in one.

Each maker takes a seeded generator and returns the bytes of one file; the same generator gives the same file.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM", "ICO", "DIB", "MPO", "TGA")
"""What pictures are made in; the last of them are read by no decoder of this project, and must be refused."""

EXTREMES = (0, 1, 127, 128, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


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


def any_format(rng: random.Random) -> bytes:
    """A sound picture in any format and mode that Pillow writes."""
    image, kind = small(rng), rng.choice(FORMATS)
    if kind == "JPEG":
        mode = rng.choice(["RGB", "L", "CMYK"])
        return encoded(image.convert(mode), kind, progressive=rng.random() < 0.5, quality=rng.choice([5, 90]))
    if kind == "PNG":
        mode = rng.choice(["RGB", "L", "P", "RGBA", "LA", "1", "I;16"])
        grey = (
            image.convert("L").convert("I").point(lambda v: v * 200).convert("I;16")
            if mode == "I;16"
            else image
        )
        return encoded(grey.convert(mode), kind)
    if kind == "TIFF":
        packing = rng.choice(["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_ccitt"])
        mode = (
            "1"
            if packing == "tiff_ccitt"
            else rng.choice(["RGB", "L"] if packing == "jpeg" else ["RGB", "CMYK", "F"])
        )
        return encoded(
            image.convert("L").convert(mode) if mode == "F" else image.convert(mode),
            kind,
            compression=packing,
        )
    if kind == "WEBP":
        return encoded(image.convert(rng.choice(["RGB", "RGBA"])), kind, lossless=rng.random() < 0.5)
    if kind == "GIF":
        return encoded(image.convert("P"), kind)
    return encoded(image, kind)


def mutated(rng: random.Random, data: bytes, *, keep: int = 0) -> bytes:
    """Bytes flipped, cut, moved, repeated, or numbers in them made extreme; the first `keep` stay."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        size = len(changed)
        if size <= keep + 1:
            break
        at = rng.randrange(keep, size)
        kind = rng.randrange(8)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice([0, 255, rng.randrange(256)])
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + rng.randint(1, 64)]
        elif kind == 4:
            changed[at:at] = rng.randbytes(rng.randint(1, 64))
        elif kind == 5:
            start = rng.randrange(keep, size)
            changed[at:at] = changed[start : start + rng.randint(1, 512)]
        elif kind == 6:
            width = rng.choice([1, 2, 4, 8])
            order = rng.choice(["little", "big"])
            changed[at : at + width] = (rng.choice(EXTREMES) % (1 << 8 * width)).to_bytes(width, order)
        else:
            changed += rng.randbytes(rng.randint(1, 2048))
    return bytes(changed)


def spliced(rng: random.Random) -> bytes:
    """The beginning of one picture and the end of another."""
    first, second = any_format(rng), any_format(rng)
    return first[: rng.randrange(len(first))] + second[rng.randrange(len(second)) :]


def broken(rng: random.Random) -> bytes:
    """A picture of any format with something changed in it."""
    return spliced(rng) if rng.random() < 0.15 else mutated(rng, any_format(rng))


def lying_head(rng: random.Random) -> bytes:
    """A sound picture whose first bytes, where sizes and offsets are, hold extreme numbers."""
    data = bytearray(any_format(rng))
    for _ in range(rng.randint(1, 4)):
        width = rng.choice([2, 4])
        at = rng.randrange(2, max(3, min(len(data) - width, 120)))
        value = rng.choice(EXTREMES) % (1 << 8 * width)
        data[at : at + width] = value.to_bytes(width, rng.choice(["little", "big"]))
    return bytes(data)


def pixel_bomb(rng: random.Random) -> bytes:
    """As many pixels as are let through, or nearly, from kilobytes: what costs most of the memory allowed."""
    kind = rng.randrange(6)
    side = rng.choice([9_000, 13_300])
    if kind == 0:  # colour and transparency
        return deep_png(side, colour=6, depth=8)
    if kind == 1:  # 16 bits of grey
        return deep_png(side, colour=0, depth=16)
    if kind == 2:  # 16 bits of colour and transparency
        return deep_png(side, colour=6, depth=16)
    if kind == 3:
        return deep_png(side, colour=0, depth=1)
    if kind == 4:
        image = Image.new("RGB", (side // 2, side // 2))
        return encoded(image, "JPEG", progressive=True, subsampling=0)
    return encoded(
        Image.new(rng.choice(["F", "L", "1"]), (side // 2, side // 2)), "TIFF", compression="tiff_deflate"
    )


def deep_png(side: int, *, colour: int, depth: int) -> bytes:
    """A square PNG of zeros."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = bytes(1 + (side * channels * depth + 7) // 8)
    # The same packed block again and again: nothing in it refers to the one before.
    packer = zlib.compressobj(9, wbits=-15)
    block, check = packer.compress(row * 64) + packer.flush(zlib.Z_FULL_FLUSH), 1
    for _ in range(side // 64):
        check = zlib.adler32(row * 64, check)
    rest = row * (side % 64)
    packed = b"\x78\x01" + block * (side // 64) + packer.compress(rest) + packer.flush()
    packed += struct.pack(">I", zlib.adler32(rest, check))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff_loop(rng: random.Random) -> bytes:
    """A TIFF whose directories follow each other for ever, or point into each other."""
    data = bytearray(encoded(small(rng), "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    end = first + 2 + 12 * entries
    data[end : end + 4] = struct.pack("<I", rng.choice([first, 8, 0, 4, end, len(data) - 2]))
    for place in range(first + 2, end, 12):
        if rng.random() < 0.2:
            data[place : place + 2] = struct.pack("<H", rng.choice([0x8769, 0x8825, 0x014A, 0xA005]))
            data[place + 2 : place + 12] = struct.pack(
                "<HII", rng.choice([4, 13, 3]), rng.choice([1, 1000]), first
            )
    return bytes(data)


def animation(rng: random.Random) -> bytes:
    """Frames by the hundred thousand, or frames that claim to lie where there is no picture."""
    frames = rng.choice([1_000, 100_000])
    kind = rng.randrange(4)
    if kind == 0:
        frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\x08\0\x08\0\0\x02\x02L\x01\0"
        return b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"
    if kind == 1:
        body = zlib.compress(bytes(8 * 25))
        control = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0)
        parts = [
            chunk(b"acTL", struct.pack(">II", rng.choice([frames, 2**31 - 1]), 0)),
            chunk(b"fcTL", control),
        ]
        later = b"".join(
            chunk(b"fcTL", struct.pack(">I", 2 * n + 1) + control[4:])
            + chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + body)
            for n in range(min(frames, 20_000))
        )
        picture = png(8, 8, *parts, packed=body)
        return picture[:-12] + later + picture[-12:]
    if kind == 2:
        pictures = [small(rng).resize((16, 16)) for _ in range(4)]
        data = encoded(pictures[0], "WEBP", save_all=True, append_images=pictures[1:])
        start = data.index(b"ANMF")
        length = struct.unpack_from("<I", data, start + 4)[0]
        one = data[start : start + 8 + length + (length & 1)]
        grown = data + one * (frames // 10)
        return b"RIFF" + struct.pack("<I", len(grown) - 8) + grown[8:]
    pictures = [small(rng).resize((8, 8)) for _ in range(200)]
    return mutated(
        rng,
        encoded(pictures[0], rng.choice(["TIFF", "GIF", "PNG"]), save_all=True, append_images=pictures[1:]),
    )


def garbage_blocks(rng: random.Random) -> bytes:
    """A sound picture with random bytes as colour profile, EXIF, XMP, IPTC or comment."""
    junk = rng.randbytes(rng.choice([0, 1, 20, 5_000, 60_000]))
    exif = b"Exif\0\0" + rng.choice([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]) + junk
    exif = exif[:65_000]
    kind = rng.randrange(6)
    image = small(rng)
    if kind == 0:
        return encoded(image, rng.choice(["PNG", "JPEG", "WEBP", "TIFF"]), icc_profile=junk or b"x")
    if kind == 1:
        return encoded(image, rng.choice(["PNG", "JPEG", "WEBP"]), exif=exif)
    if kind == 2:
        xmp = rng.choice([junk, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<a>" * rng.choice([10, 20_000])])
        segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp[:60_000]
    elif kind == 3:
        segment = (
            b"Photoshop 3.0\x008BIM\x04\x04\0\0"
            + struct.pack(">I", rng.choice(EXTREMES))
            + b"\x1c\x02P"
            + junk
        )
    elif kind == 4:
        box = rng.choice(
            [b"\0\0\0\x08jumb" * 4_000, b"\0\0\0\0jumb" + junk, b"\0\0\0\1jumb" + bytes(8) + junk]
        )
        segment = b"JP\0\1\0\0\0\1" + box
    else:
        return bad_metadata(rng)
    data = encoded(image, "JPEG")
    marker = {2: b"\xff\xe1", 3: b"\xff\xed", 4: b"\xff\xeb"}[kind]
    segment = segment[:65_000]
    return data[:2] + marker + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def two_in_one(rng: random.Random) -> bytes:
    """A picture that is an archive, a program or a document as well."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../outside.txt", "x" * 1000)
    picture = encoded(small(rng), rng.choice(["JPEG", "PNG", "GIF", "WEBP"]))
    length = str(len(picture)).encode()
    document = (
        b"%PDF-1.7\n1 0 obj<</Length " + length + b">>stream\n" + picture + b"\nendstream endobj\n%%EOF"
    )
    comment = b"GIF89a/*\0\0\0\0\0" + picture + b"*/=1;alert(1)//"
    kind = rng.randrange(5)
    if kind == 0:
        return picture + archive.getvalue()
    if kind == 1:
        return document
    if kind == 2:
        return comment
    return polyglot(rng) if kind == 3 else other_type(rng)


def infotext(rng: random.Random) -> str:
    """What AUTOMATIC1111 writes, with something wrong in it."""
    prompt = rng.choice(
        ["a cat", "", "\\" * 500, "(" * 3_000, "<lora:" * 2_000, "\0\x1b[31m\u202e", "😀" * 5_000, "\ud800"]
    )
    value = rng.choice(
        ["1" * 5_000, "-1", "1e999", "NaN", '"' * 999, "a, b: c" * 500, "512x512", "0x" + "9" * 50, ""]
    )
    names = [
        "Steps",
        "Sampler",
        "CFG scale",
        "Seed",
        "Size",
        "Model hash",
        "Denoising strength",
        "Lora hashes",
    ]
    rest = ", ".join(
        f"{rng.choice(names)}: {rng.choice([value, '7', '0.5'])}" for _ in range(rng.choice([3, 8, 2_000]))
    )
    return (
        f"{prompt}\nNegative prompt: {prompt}\n{rest}" if rng.random() < 0.7 else rest * rng.choice([1, 50])
    )


def graph(rng: random.Random) -> str:
    """What ComfyUI writes: nodes in rings, of the wrong types, thousands of them, or nested without end."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(['{"a":', "["]) * rng.choice([900, 20_000])
    if kind == 1:
        size = rng.choice([3, 40, 4_999, 6_000])
        ring = {
            str(n): {
                "class_type": rng.choice(["KSampler", "SaveImage", "VAEDecode"]),
                "inputs": {
                    "images": [str((n + 1) % size), 0],
                    "samples": [str((n + 2) % size), 0],
                    "positive": [str(n), 0],
                },
            }
            for n in range(size)
        }
        return json.dumps(ring)
    nodes: dict[str, Any] = {
        "1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
        "2": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 5,
                "steps": 20,
                "cfg": 7.0,
                "positive": ["4", 0],
                "model": ["5", 0],
                "latent_image": ["6", 0],
                "denoise": 0.5,
            },
        },
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
        "5": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "6": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
    }
    if kind == 5:
        drawn = {
            "nodes": [
                {"id": n, "type": v["class_type"], "widgets_values": list(v["inputs"].values()), "inputs": []}
                for n, v in nodes.items()
            ],
            "links": [[1, "2", 0, "1", 0]],
        }
        return hostile_json(rng, drawn)
    return hostile_json(rng, nodes)


HOSTILE_VALUES = (
    "null", "true", "-1", "0", "1e999", "-1e999", "NaN", "1" * 4_000, "1" * 6_000, "-0.0", "0.1", '""', '"\\ud800"',
    '"\\u0000"', '"\\u001b[2J"', '"\\u202e"', '"[/red]"', '"<script>"', '"../../../etc/passwd"',
    '"' + "x" * 70_000 + '"', "[]", "{}", "[[]]", "[" * 700 + "]" * 700, "[" * 980 + "]" * 980,
    '{"a":' * 600 + "1" + "}" * 600, "9223372036854775808", "[1, 2]",
    '{"name": "x"}', '"1e5"', '["a", 0]', '"file://["', '"/dev/zero"', '"C:\\\\x"', "18446744073709551617",
)  # fmt: skip
"""Values, as JSON writes them, that a field may hold in a file made to harm."""


def hostile_json(rng: random.Random, value: Any) -> str:
    """A JSON text with some of its values exchanged for hostile ones, or left out, or the text itself cut."""
    mark = f"@@{rng.getrandbits(64):x}@@"
    wanted = rng.choice([1, 1, 1, 2, 5])

    def changed(node: Any, chance: float) -> Any:
        if rng.random() < chance:
            return mark
        if isinstance(node, dict):
            kept = {k: changed(v, chance) for k, v in node.items() if rng.random() > chance / 4}
            return {("\ud800" if rng.random() < chance / 20 else k): v for k, v in kept.items()}
        return [changed(v, chance) for v in node] if isinstance(node, list) else node

    text = json.dumps(changed(value, wanted / (4 + _size(value))))
    parts = text.split(json.dumps(mark))
    text = parts[0] + "".join(rng.choice(HOSTILE_VALUES) + part for part in parts[1:])
    if rng.random() < 0.1:
        return mutated(rng, text.encode()).decode("utf-8", "replace")
    return text


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(v) for v in value.values())
    return 1 + sum(_size(v) for v in value) if isinstance(value, list) else 1


def told(rng: random.Random) -> bytes:
    """A sound picture that says how it was generated, as a tool would and no tool does."""
    words: dict[str, str] = {
        "parameters": infotext(rng),
        "prompt": graph(rng),
        "workflow": graph(rng),
        "invokeai_metadata": hostile_json(
            rng,
            {
                "generation_mode": "txt2img",
                "positive_prompt": "x",
                "model": {"name": "m"},
                "seed": 1,
                "strength": 0.4,
            },
        ),
        "sd-metadata": hostile_json(
            rng,
            {
                "image": {"type": "img2img", "prompt": [{"prompt": "x", "weight": 1}], "seed": 4},
                "app_version": "2",
            },
        ),
        "Dream": '"a cat' + '" -s' * rng.choice([1, 5_000]) + " -S1 -f0.5",
        "replication_report": hostile_json(rng, FINDING),
        "seed": rng.choice(["1", "1e999", "9" * 3_000]),
        "XML:com.adobe.xmp": "<x:xmpmeta>" * rng.choice([1, 5_000]),
    }
    chosen = rng.sample(sorted(words), rng.randint(1, 3))
    kind = rng.randrange(4)
    if kind < 2:
        parts = []
        for name in chosen:
            value = words[name].encode("utf-8", "replace")
            if kind:
                parts.append(chunk(b"zTXt", name.encode() + b"\0\0" + zlib.compress(value)))
            else:
                parts.append(chunk(rng.choice([b"tEXt", b"iTXt"]), name.encode() + b"\0" + value))
        return png(8, 8, *parts, packed=zlib.compress(bytes(200)))
    text = words[chosen[0]][:30_000]
    coded = rng.choice(
        [
            b"ASCII\0\0\0" + text.encode("utf-8", "replace"),
            b"UNICODE\0" + text.encode("utf-16-be", "replace"),
            b"UNICODE\0" + text.encode("utf-8", "replace"),
        ]
    )
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = coded
    exif[0x010F] = f"{chosen[0]}:{text}".encode("ascii", "replace").decode()
    return encoded(small(rng), rng.choice(["JPEG", "WEBP"]), exif=exif.tobytes()[:65_000])


FINDING: dict[str, Any] = {
    "format_version": 1,
    "query": "generated/001.png",
    "verdict": "replica",
    "level": 4,
    "score": 0.98,
    "reason": None,
    "sha256": "0" * 64,
    "width": 512,
    "height": 512,
    "generation": {"tool": "ComfyUI", "prompt": "a cat", "seed": 5, "steps": 20, "strength": 0.5, "extra": {"a": "b"}},
    "matches": [
        {
            "level": 4, "score": 0.98, "p_value": 1e-7, "cleared": False, "mirrored": False,
            "query_region": [[0, 0], [1, 0], [1, 1], [0, 1]], "reference_region": [[0.1, 0], [1, 0], [1, 1], [0.1, 1]],
            "evidence": {
                "pdq_distance": 18, "phash_distance": 4, "cosines": {"clip:bundled": 0.93}, "inliers": 210,
                "coverage": 0.97, "aligned_similarity": 0.91, "verification": "keypoints",
            },
            "near_duplicates": 3,
            "reference": {
                "id": 12, "sha256": "1" * 64, "width": 100, "height": 100,
                "occurrences": [
                    {
                        "path": "artworks/a.jpg", "artist": "Ann", "title": "T", "licence": "CC-BY-4.0",
                        "source": "https://example.org", "extra": {"c": "d"},
                    }
                ],
            },
        }
    ],
}  # fmt: skip
"""A finding as a scan writes it."""
