"""Credits and opt-out signals that picture files carry themselves."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features

from index.credits import Credits
from index.embedded import MAX_TEXT, OPT_OUT_C2PA, OPT_OUT_NOAI, OPT_OUT_PLUS, read_credits

NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:cc="http://creativecommons.org/ns#" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'
)


def encoded(kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 128, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


def xmp(body: str, attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {NAMESPACES}><rdf:Description rdf:about="" {attributes}>{body}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def bag(*texts: str, kind: str = "Seq") -> str:
    return f"<rdf:{kind}>" + "".join(f"<rdf:li>{text}</rdf:li>" for text in texts) + f"</rdf:{kind}>"


def alternatives(default: str, other: str = "anders") -> str:
    items = f'<rdf:li xml:lang="de">{other}</rdf:li><rdf:li xml:lang="x-default">{default}</rdf:li>'
    return f"<rdf:Alt>{items}</rdf:Alt>"


FULL_XMP = xmp(
    f"<dc:creator>{bag('Ada Ö', 'Bo')}</dc:creator><dc:title>{alternatives('The title')}</dc:title>"
    f"<dc:description>{alternatives('What is seen')}</dc:description>"
    f"<dc:rights>{alternatives('© Ada')}</dc:rights>"
    "<xmpRights:WebStatement>https://example.org/licence</xmpRights:WebStatement>"
    '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>'
)
FULL_CREDITS = Credits(
    artist="Ada Ö, Bo",
    title="The title",
    licence="https://creativecommons.org/licenses/by/4.0/",
    caption="What is seen",
    extra={"copyright_notice": "© Ada"},
)


def segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(*segments: bytes) -> bytes:
    data = encoded()
    return data[:2] + b"".join(segments) + data[2:]


def iptc(*records: tuple[int, bytes]) -> bytes:
    data = b"".join(b"\x1c\x02" + struct.pack(">BH", number, len(text)) + text for number, text in records)
    return b"\x1c\x01\x5a\x00\x03\x1b%G" + data


def photoshop(records: bytes) -> bytes:
    before = b"8BIM\x04\x25\x03abc" + struct.pack(">I", 3) + b"xyz\0"  # another resource, odd name and size
    padding = b"\0" if len(records) % 2 else b""
    return before + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + padding


def png_with(*chunks: tuple[bytes, bytes], last: bool = False) -> bytes:
    data = encoded("PNG")
    place = len(data) - 12 if last else 33
    added = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:place] + added + data[place:]


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I", len(content) + 8) + kind + content


def superbox(label: str, *contents: bytes) -> bytes:
    return box(b"jumb", box(b"jumd", bytes(16), b"\x03", label.encode(), b"\0"), *contents)


def cbor_text(text: str) -> bytes:
    data = text.encode()
    return (bytes([0x60 + len(data)]) if len(data) < 24 else bytes([0x78, len(data)])) + data


def training_assertion(use: str, prefix: str = "c2pa") -> bytes:
    entry = cbor_text(f"{prefix}.ai_generative_training") + b"\xa1" + cbor_text("use") + cbor_text(use)
    other = cbor_text(f"{prefix}.data_mining") + b"\xa1" + cbor_text("use") + cbor_text("allowed")
    cbor = b"\xa1" + cbor_text("entries") + b"\xa2" + entry + other
    return superbox(f"{prefix}.training-mining", box(b"cbor", cbor))


def manifest(*assertions: bytes) -> bytes:
    return superbox("urn:uuid:1", superbox("c2pa.assertions", *assertions), superbox("c2pa.claim"))


def exif_bytes(**tags: Any) -> bytes:
    numbers = {
        "artist": 0x013B,
        "copyright": 0x8298,
        "description": 0x010E,
        "title": 0x9C9B,
        "author": 0x9C9D,
    }
    exif = Image.Exif()
    for name, value in tags.items():
        exif[numbers[name]] = value
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_picture_without_metadata_says_nothing(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert read_credits(encoded(kind)) == Credits()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_is_read_in_every_format(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = exif_bytes(artist="Ada", copyright="CC BY 4.0", description="A tree")
    expected = Credits(artist="Ada", licence="CC BY 4.0", caption="A tree")
    assert read_credits(encoded(kind, exif=exif)) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_is_read_in_every_format(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if kind == "TIFF":
        data = encoded(kind, tiffinfo={700: FULL_XMP})
    elif kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", FULL_XMP.decode(), zip=True)
        data = encoded(kind, pnginfo=info)
    else:
        data = encoded(kind, xmp=FULL_XMP)
    assert read_credits(data) == FULL_CREDITS


def test_exif_texts_in_any_encoding() -> None:
    assert read_credits(encoded(exif=exif_bytes(artist="Åsa".encode()))).artist == "Åsa"
    wide = exif_bytes(author="Źród".encode("utf-16-le") + b"\0\0", title="Träd".encode("utf-16-le"))
    assert read_credits(encoded(exif=wide)) == Credits(artist="Źród", title="Träd")


def test_copyright_of_photographer_and_editor_is_one_text() -> None:
    assert read_credits(encoded(exif=exif_bytes(copyright="© Ada\0© Ed".encode()))).licence == "© Ada; © Ed"


def test_xmp_written_as_attributes_is_read() -> None:
    data = encoded(xmp=xmp("", 'photoshop:Credit="Agency" xmpRights:WebStatement="https://x.org/l"'))
    assert read_credits(data) == Credits(artist="Agency", licence="https://x.org/l")


def test_licence_prefers_a_licence_over_a_notice() -> None:
    rights = f"<dc:rights>{alternatives('© Ada')}</dc:rights>"
    terms = f"<xmpRights:UsageTerms>{alternatives('Only with permission')}</xmpRights:UsageTerms>"
    statement = "<xmpRights:WebStatement>https://x.org/l</xmpRights:WebStatement>"
    exif = exif_bytes(copyright="(c) EXIF")
    for body, licence in (
        ("", "(c) EXIF"),
        (terms, "Only with permission"),
        (terms + rights, "© Ada"),
        (terms + rights + statement, "https://x.org/l"),
    ):
        assert read_credits(encoded(xmp=xmp(body), exif=exif)).licence == licence


def test_iptc_is_read() -> None:
    records = iptc(
        (80, b"Ada"), (80, "Bø".encode()), (5, b"Title"), (116, b"(c) Ada"), (120, b"Seen"), (110, b"Ag")
    )
    data = with_segments(segment(0xED, b"Photoshop 3.0\0" + photoshop(records)))
    assert read_credits(data) == Credits(artist="Ada, Bø", title="Title", licence="(c) Ada", caption="Seen")
    latin = with_segments(segment(0xED, b"Photoshop 3.0\0" + photoshop(iptc((80, b"B\xf8")))))
    assert read_credits(latin).artist == "Bø"
    assert read_credits(encoded("TIFF", tiffinfo={33723: records})).artist == "Ada, Bø"


def test_png_texts_are_read_also_behind_the_picture() -> None:
    chunks = (
        (b"tEXt", b"Author\0J\xf6rg"),
        (b"zTXt", b"Title\0\0" + zlib.compress(b"Packed")),
        (b"iTXt", b"Copyright\0\0\0\0\0" + "© Jörg".encode()),
        (b"tEXt", b"Source\0https://x.org"),
        (b"tEXt", b"Description\0Seen"),
    )
    expected = Credits(
        artist="Jörg", title="Packed", licence="© Jörg", source="https://x.org", caption="Seen"
    )
    assert read_credits(png_with(*chunks)) == expected
    assert read_credits(png_with(*chunks, last=True)) == expected


def test_profiles_that_imagemagick_writes_are_read() -> None:
    def profile(name: bytes, raw: bytes) -> tuple[bytes, bytes]:
        text = b"\n" + name + b"\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
        return b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text)

    exif = profile(b"exif", exif_bytes(artist="Ada"))
    assert read_credits(png_with(exif)).artist == "Ada"
    assert read_credits(png_with(profile(b"xmp", FULL_XMP))).title == "The title"
    assert read_credits(png_with(profile(b"iptc", photoshop(iptc((5, b"T")))))).title == "T"


def test_prohibited_data_mining_is_an_opt_out_and_allowed_is_none() -> None:
    vocabulary = "http://ns.useplus.org/ldf/vocab/DMI-"
    prohibited, allowed = vocabulary + "PROHIBITED-AIMLTRAINING", vocabulary + "ALLOWED"
    for body in (
        f"<plus:DataMining>{prohibited}</plus:DataMining>",
        f'<plus:DataMining rdf:resource="{prohibited}"/>',
    ):
        assert read_credits(encoded(xmp=xmp(body))).extra == {OPT_OUT_PLUS: prohibited}
    data = encoded(xmp=xmp("", f'plus:DataMining="{allowed}"'))
    assert read_credits(data).extra == {"plus:DataMining": allowed}


@pytest.mark.parametrize("prefix", ["c2pa", "cawg"])
def test_training_refused_in_content_credentials_is_an_opt_out(prefix: str) -> None:
    store = superbox("c2pa", manifest(training_assertion("notAllowed", prefix)))
    expected = {OPT_OUT_C2PA: f"{prefix}.ai_generative_training=notAllowed"}
    whole = segment(0xEB, b"JP\0\1" + struct.pack(">I", 1) + store)
    cut = len(store) // 2
    halves = (
        segment(0xEB, b"JP\0\1" + struct.pack(">I", 1) + store[:cut]),
        segment(0xEB, b"JP\0\1" + struct.pack(">I", 2) + store[:8] + store[cut:]),
    )
    assert read_credits(with_segments(whole)).extra == expected
    assert read_credits(with_segments(*halves)).extra == expected
    assert read_credits(png_with((b"caBX", store))).extra == expected
    webp = encoded("WEBP") + b"C2PA" + struct.pack("<I", len(store)) + store
    assert read_credits(webp).extra == expected


def test_content_credentials_that_do_not_refuse_are_no_opt_out() -> None:
    allowed = manifest(training_assertion("allowed"))
    ingredient = manifest(training_assertion("notAllowed"))
    elsewhere = superbox(
        "c2pa", superbox("m", superbox("c2pa.assertions", superbox("note", box(b"cbor", ingredient))))
    )
    for store in (superbox("c2pa", allowed), superbox("c2pa", ingredient, allowed), elsewhere):
        assert read_credits(png_with((b"caBX", store))) == Credits()


def test_noai_words_are_an_opt_out() -> None:
    keywords = f"<dc:subject>{bag('tree', 'NoAI', 'noimageai', kind='Bag')}</dc:subject>"
    assert read_credits(encoded(xmp=xmp(keywords))).extra == {OPT_OUT_NOAI: "noai, noimageai"}
    assert read_credits(png_with((b"tEXt", b"robots\0noindex, noai"))).extra == {OPT_OUT_NOAI: "noai"}
    harmless = f"<dc:subject>{bag('Monoaire', 'snoair')}</dc:subject>"
    assert read_credits(encoded(xmp=xmp(harmless))).extra == {}


def test_long_and_hostile_texts_are_cut_and_cleaned() -> None:
    data = encoded(exif=exif_bytes(artist="a\x1b[31m\x07b", description="x" * 5000))
    credits = read_credits(data)
    assert credits.artist == "a[31mb"
    assert len(credits.caption) == MAX_TEXT
    assert credits.caption.endswith("…")


def test_hostile_xmp_is_ignored_and_the_rest_is_read() -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        + xmp(f"<dc:title>{alternatives('&b;')}</dc:title>")
        .decode()
        .partition("?>")[2]
        .partition("<?xpacket end")[0]
    )
    outside = bomb.replace('"&a;&a;&a;&a;"', 'SYSTEM "file:///etc/passwd"')
    exif = exif_bytes(artist="Ada")
    for packet in (bomb.encode(), outside.encode(), b"<not xml", b"\xff\xfe\0", FULL_XMP[:300]):
        assert read_credits(encoded(xmp=packet, exif=exif)) == Credits(artist="Ada")


def test_blocks_beyond_the_limit_are_ignored() -> None:
    long = FULL_XMP + b" " * 1024 * 1024 + b"<!-- -->"
    assert read_credits(encoded("WEBP", xmp=long)) == Credits()
    bomb = zlib.compress(bytes(64 * 1024 * 1024))
    data = png_with((b"zTXt", b"Author\0\0" + bomb), (b"tEXt", b"Title\0T"))
    assert read_credits(data) == Credits(title="T")


SAMPLES = [
    with_segments(segment(0xED, b"Photoshop 3.0\0" + photoshop(iptc((80, b"Ada"))))),
    encoded(xmp=FULL_XMP, exif=exif_bytes(artist="Ada", copyright="C")),
    encoded("TIFF", tiffinfo={700: FULL_XMP}, exif=exif_bytes(artist="Ada")),
    encoded("WEBP", xmp=FULL_XMP, exif=exif_bytes(artist="Ada")),
    png_with((b"caBX", superbox("c2pa", manifest(training_assertion("notAllowed")))), (b"zTXt", b"a\0\0x")),
    encoded("GIF", comment=b"c"),
    *([encoded("AVIF", xmp=FULL_XMP)] if features.check("avif") else []),
]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_garbage_never_raises(data: st.DataObject) -> None:
    sample = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(0, 8))):
        sample[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sample)))
    assert isinstance(read_credits(bytes(sample[:cut])), Credits)
    assert isinstance(read_credits(bytes(sample)), Credits)


@given(st.binary(max_size=200))
def test_any_bytes_never_raise(data: bytes) -> None:
    for head in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"GIF89a",
        b"....ftypavif",
    ):
        assert isinstance(read_credits(head + data), Credits)
