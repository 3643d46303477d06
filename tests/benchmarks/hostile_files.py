"""Lists, shards, embeddings, findings and settings that mean harm, as files in a folder.

Each maker takes a seeded generator and an empty folder, writes there, and returns the path to be opened.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.hostile import (
    EXTREMES,
    FINDING,
    broken,
    encoded,
    hostile_json,
    mutated,
    small,
)

NAMES = (
    "a.png",
    "b.png",
    "./a.png",
    "../../../../etc/passwd",
    "../outside.png",
    "/dev/zero",
    "/dev/stdin",
    "C:\\Windows\\win.ini",
    "a.png\0.jpg",
    "file://[",
    "file:///etc/passwd",
    "file://example.org/a.png",
    "https://example.org/a.png",
    "data:image/png;base64,AAAA",
    "milvus://a/b",
    "\udcff.png",
    "\u202egnp.a",
    "x" * 5_000,
    "e\u0301\u0316" * 3_000,
    "é.png",
    "",
    " ",
    ".",
    "loop.png",
    "pipe.png",
    "sub/" * 600 + "a.png",
)
"""What rows name as files."""

CELLS = (
    "Ann Artist",
    "",
    "nan",
    "=HYPERLINK(1)",
    "\x1b]0;x\x07\x1b[2J",
    "[bold]x[/red]",
    "<script>alert(1)</script>",
    "\u202e\u2066",
    "CC BY 4.0",
    "https://creativecommons.org/licenses/by/4.0/" + "/" * 3_000,
    "cc-by-" * 4_000,
    "http://[::1",
    "a" * 200_000,
    "e\u0301\u0316" * 20_000,
    "1e999",
    '{"Image Artist": ' + "[" * 2_000,
    '{"Image Artist": {"a": 1}, "Copyright": 5}',
    "\udcff\udcfe",
)
"""What stands in their other columns."""

COLUMNS = (
    "file_name",
    "artist",
    "title",
    "license",
    "url",
    "caption",
    "seed",
    "prompt",
    "exif",
    "status",
    "key",
    "extra",
)


def sample_folder(rng: random.Random, folder: Path) -> None:
    """Put two sound pictures, a broken one, a link in a ring and a pipe into a folder."""
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded(small(rng), "PNG"))
    (folder / "broken.jpg").write_bytes(broken(rng))
    if hasattr(os, "mkfifo"):
        os.symlink("loop.png", folder / "loop.png")
        os.mkfifo(folder / "pipe.png")


def rows(rng: random.Random) -> list[dict[str, Any]]:
    """Rows of a list."""
    chosen = rng.sample(COLUMNS, rng.randint(2, len(COLUMNS)))
    columns = ["file_name", *(c for c in chosen if c != "file_name")]
    return [
        {c: rng.choice(NAMES if c == "file_name" else CELLS) for c in columns}
        for _ in range(rng.choice([1, 3, 10, 40]))
    ]


def comma_list(rng: random.Random, folder: Path) -> Path:
    """A CSV: quotes that never close, a hundred thousand columns, rows longer than the header, other encodings."""
    kind = rng.randrange(8)
    path = folder / rng.choice(["metadata.csv", "list.csv", "list.tsv"])
    if kind == 0:
        head = rng.choice([",", "a,", "file_name,", '"",']) * rng.choice([1_000, 100_000])
        path.write_text(head + "\n" + "x," * rng.choice([1, 100_000]) + "\n", encoding="utf-8")
        return path
    if kind == 1:
        body = rng.choice([b'"', b"\0", b",", b"\n", b"\r", b"\xff", b'""', b'a,"b\n'])
        path.write_bytes(b"file_name,artist\n" + body * rng.choice([10, 200_000]))
        return path
    if kind == 2 and rng.random() < 0.05:
        with path.open("wb") as file:  # no bytes on disk, gigabytes to read: one line without an end
            file.write(b"file_name,artist\n")
            file.truncate(5 << 28)
        return path
    stream = io.StringIO()
    made = rows(rng)
    writer = csv.DictWriter(stream, made[0], delimiter=rng.choice(",;\t"))
    writer.writeheader()
    writer.writerows(made)
    data = stream.getvalue().encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]), "replace")
    if rng.random() < 0.3:
        data = stream.getvalue().encode("utf-8", "surrogateescape")
    path.write_bytes(mutated(rng, data) if kind > 4 else data)
    return path


def json_list(rng: random.Random, folder: Path) -> Path:
    """JSON lines: values of every type, nested without end, numbers without end, lines without end."""
    path = folder / rng.choice(["metadata.jsonl", "list.jsonl", "list.ndjson"])
    if rng.random() < 0.01:
        filler = rng.choice(["{}", "[]", '""', "1"])
        path.write_text(
            '{"file_name": "a.png", "x": [' + f"{filler}," * (15 << 20) + "{}]}\n", encoding="utf-8"
        )
        return path
    lines = []
    for row in rows(rng):
        values: dict[str, Any] = row | {"artists": [{"name": "A"}, ["B"]], "image": {"path": "a.png"}}
        lines.append(hostile_json(rng, values))
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    return path


def parquet_list(rng: random.Random, folder: Path) -> Path:
    """A Parquet table: broken, or sound with types that no list has."""
    import pyarrow
    from pyarrow import parquet

    path = folder / rng.choice(["metadata.parquet", "list.parquet"])
    count = rng.choice([1, 5, 200])
    picture = encoded(small(rng), "PNG")
    kinds: dict[str, Callable[[], Any]] = {
        "file_name": lambda: pyarrow.array(
            [rng.choice(NAMES).encode("utf-8", "replace").decode() for _ in range(count)]
        ),
        "image": lambda: pyarrow.array(
            [
                {
                    "bytes": rng.choice([picture, b"", None, broken(rng)]),
                    "path": rng.choice(["a.png", None, "../x"]),
                }
                for _ in range(count)
            ]
        ),
        "artist": lambda: pyarrow.array([rng.choice([["a", None], None, []]) for _ in range(count)]),
        "when": lambda: pyarrow.array(
            [rng.choice([0, 2**62, -(2**62)]) for _ in range(count)], pyarrow.int64()
        ).cast(pyarrow.timestamp(rng.choice(["s", "us", "ns"]))),
        "day": lambda: pyarrow.array([rng.choice([0, 2**30]) for _ in range(count)], pyarrow.int32()).cast(
            pyarrow.date32()
        ),
        "title": lambda: pyarrow.array([1.0, float("nan"), float("inf"), None][:1] * count),
        "raw": lambda: pyarrow.array([b"\xff" * rng.choice([0, 9, 9_000])] * count),
        "map": lambda: pyarrow.array([[("k", 1)]] * count, pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "span": lambda: pyarrow.array([2**62] * count, pyarrow.int64()).cast(pyarrow.duration("us")),
        "word": lambda: pyarrow.array(["x"] * count).dictionary_encode(),
    }
    names = rng.sample(sorted(kinds), rng.randint(1, 5))
    if "file_name" not in names and "image" not in names:
        names.append(rng.choice(["file_name", "image"]))
    arrays = [kinds[name]() for name in names]
    if rng.random() < 0.1:
        names[-1] = names[0]
    try:
        table = pyarrow.Table.from_arrays(arrays, names=names)
        packing = rng.choice(["snappy", "zstd", "gzip", "none"])
        parquet.write_table(table, path, compression=packing, version=rng.choice(["1.0", "2.6"]))
    except pyarrow.ArrowException:
        path.write_bytes(b"PAR1" + rng.randbytes(50) + b"PAR1")
    if rng.random() < 0.75:
        data = path.read_bytes()
        if rng.random() < 0.5:  # the footer is what decides how the rest is read
            start = max(4, len(data) - 8 - struct.unpack_from("<I", data, len(data) - 8)[0])
            path.write_bytes(data[:start] + mutated(rng, data[start:-8]) + data[-8:])
        else:
            path.write_bytes(mutated(rng, data, keep=4))
    return path


def tar_shard(rng: random.Random, folder: Path) -> Path:
    """A tar: links out of it, names that climb, headers that lie, members that are not there."""
    path = folder / "0000.tar"
    kinds = [tarfile.REGTYPE] * 6 + [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
    ]
    made = rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=made) as tar:
        for number in range(rng.choice([1, 4, 30])):
            stem = rng.choice(
                [f"{number:05d}", "../../x", "/etc/x", "a" * 300, "é" * 90, ".hidden", "a/../../b", "\udcff"]
            )
            for ending in rng.sample([".png", ".json", ".txt", ".jpg", ".cls"], rng.randint(1, 3)):
                member = tarfile.TarInfo(stem + ending)
                member.type = rng.choice(kinds)
                member.linkname = rng.choice(["/etc/passwd", "../../../x", stem])
                if rng.random() < 0.1 and made == tarfile.PAX_FORMAT:
                    member.pax_headers = rng.choice(
                        [
                            {"size": "99999999999"},
                            {"path": "../x.png"},
                            {"GNU.sparse.map": "0,1," * 500},
                            {"mtime": "1e999"},
                            {"uid": "-1"},
                        ]
                    )
                data = (
                    broken(rng)
                    if ending in (".png", ".jpg")
                    else hostile_json(
                        rng,
                        {"key": stem, "caption": "c", "LICENSE": "CC0", "author": ["x"], "status": "success"},
                    ).encode("utf-8", "replace")
                )
                member.size = len(data) if member.isreg() else 0
                try:
                    tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
                except (ValueError, UnicodeError):
                    continue
    data = buffer.getvalue()
    kind = rng.randrange(4)
    if kind == 0 and rng.random() < 0.05:  # a header for one name, gigabytes long; no bytes on disk
        header = tarfile.TarInfo("x")
        header.type, header.size = rng.choice([tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME]), (3 << 30) - 1024
        with path.open("wb") as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            file.truncate(3 << 30)
    elif kind <= 1:
        path.write_bytes(_tar_fields_changed(rng, data))
    else:
        path.write_bytes(mutated(rng, data) if kind == 2 else data)
    if rng.random() < 0.3:
        (folder / "0000_stats.json").write_text(
            hostile_json(rng, {"successes": 5, "count": 9}), "utf-8", "replace"
        )
    return path


def _tar_fields_changed(rng: random.Random, data: bytes) -> bytes:
    """Change fields of some headers and make their sums right again."""
    changed = bytearray(data)
    for place in range(0, len(changed) - 511, 512):
        if changed[place + 257 : place + 262] == b"ustar" and rng.random() < 0.3:
            first, last = rng.choice(
                [(0, 100), (100, 108), (124, 136), (124, 136), (156, 157), (157, 257), (345, 500)]
            )
            size = last - first
            value = rng.choice(
                [
                    b"7" * size,
                    b"\x80" + rng.randbytes(size - 1),
                    b"\xff" * size,
                    rng.randbytes(size),
                    b"-1".ljust(size),
                    b"xgLKSV"[rng.randrange(6) :][:1] * size,
                ]
            )
            changed[place + first : place + last] = value[:size].ljust(size, b"\0")
            changed[place + 148 : place + 156] = b" " * 8
            changed[place + 148 : place + 156] = b"%06o\0 " % sum(changed[place : place + 512])
    return bytes(changed)


def picture_folder(rng: random.Random, folder: Path) -> Path:
    """A folder with lists, sidecars, shards and links in it."""
    sample_folder(rng, folder)
    for make in rng.sample([comma_list, json_list, parquet_list, tar_shard], rng.randint(1, 3)):
        make(rng, folder)
    (folder / "a.json").write_text(
        hostile_json(rng, {"key": "a", "caption": "c", "author": ["x"]}), "utf-8", "replace"
    )
    (folder / "a.txt").write_bytes(rng.randbytes(rng.choice([0, 5, 5_000])))
    if hasattr(os, "symlink"):
        os.symlink("..", folder / "up")
        os.symlink(folder, folder / "self")
    (folder / "sub.png").mkdir()
    return folder


def npy(rng: random.Random, rows: int = 6, width: int = 8) -> bytes:
    """An array file whose header lies, or that holds what no index has."""
    shape = rng.choice(
        [
            f"({rows}, {width})",
            f"({2**62}, {2**62})",
            "(-1, 8)",
            "()",
            f"({rows},)",
            "(0, 8)",
            "(6, 0)",
            f"({2**40}, 8)",
            "(True, 8)",
            "('a',)",
            "(1e9, 8)",
            "(" * 300,
        ]
    )
    descr = rng.choice(
        [
            "'<f4'",
            "'<f2'",
            "'>f8'",
            "'|O'",
            "'|V8'",
            "'<U1000000'",
            "[('a', '<f4')]",
            "'<M8[ns]'",
            "'|b1'",
            "'<f2'",
            "5",
            "'" + "x" * 9_000 + "'",
        ]
    )
    if rng.random() < 0.4:
        descr = "'<f4'"
    head = f"{{'descr': {descr}, 'fortran_order': {rng.choice(['False', 'False', 'True', '5'])}, 'shape': {shape}, }}"
    head = rng.choice(
        [head, head, head, head[:-2], "__import__('os').system('true')", "{" * 5_000, "[" * 200 + "]" * 200]
    )
    data = head.encode().ljust((len(head) + 63) // 64 * 64 - 10) + b"\n"
    version = rng.choice([b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\x09"])
    size = struct.pack(
        "<H" if version == b"\1\0" else "<I", min(rng.choice([len(data), len(data), 65_535, 0]), 65_535)
    )
    made = b"\x93NUMPY" + version + size + data + rng.randbytes(rows * width * 4)
    kind = rng.randrange(8)
    if kind == 0:
        return mutated(rng, made)
    if kind == 1:
        stream = io.BytesIO()
        np.savez(stream, a=np.zeros((rows, width), np.float32))
        return mutated(rng, stream.getvalue()) if rng.random() < 0.5 else stream.getvalue()
    if kind == 2:
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
        return stream.getvalue()
    return made


def embedding_folder(rng: random.Random, folder: Path) -> Path:
    """Embeddings of others, with the table of their rows."""
    kind = rng.choice(["", "img_emb"])
    place = folder / kind if kind else folder
    place.mkdir(exist_ok=True)
    for number in range(rng.choice([1, 2])):
        if rng.random() < 0.3:
            stream = io.BytesIO()
            np.save(
                stream,
                np.full(
                    (6, 8),
                    rng.choice([0.0, np.nan, np.inf, 1.0]),
                    rng.choice([np.float16, np.float32, np.float64]),
                ),
            )
            data = stream.getvalue()
        else:
            data = npy(rng)
        (place / f"img_emb_{number}.npy").write_bytes(data)
        with (folder / f"metadata_{number}.csv").open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            writer = csv.DictWriter(file, ["file_name", "artist"])
            writer.writeheader()
            writer.writerows(
                {"file_name": rng.choice(NAMES).replace("\0", ""), "artist": rng.choice(CELLS)}
                for _ in range(6)
            )
    return folder


def findings(rng: random.Random, folder: Path) -> Path:
    """Findings of a scan: values of other types, lines cut off or not JSON, numbers that are none."""
    path = folder / "findings.jsonl"
    lines = [
        json.dumps(FINDING) if rng.random() < 0.3 else hostile_json(rng, FINDING)
        for _ in range(rng.choice([1, 1, 3]))
    ]
    if rng.random() < 0.1:
        lines.insert(
            rng.randrange(len(lines) + 1), rng.choice(["[]", "null", "{", "\0", "{}", "5", "\ufeff{}"])
        )
    data = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n" * rng.randrange(2)
    path.write_bytes(mutated(rng, data) if rng.random() < 0.2 else data)
    return path


SCORING: dict[str, Any] = {}
"""What `scoring.json` holds; filled by whoever may import the detector."""

POLICY = 'allow = ["public-domain", "CC-BY-4.0"]\nowned = ["me"]\n[[allow_source]]\nartist = "Ann"\n'


def scoring(rng: random.Random, folder: Path) -> Path:
    """A scoring model."""
    path = folder / "scoring.json"
    path.write_text(hostile_json(rng, SCORING), "utf-8", "replace")
    return path


def policy(rng: random.Random, folder: Path) -> Path:
    """A policy over licences, in TOML."""
    path = folder / "policy.toml"
    values = [
        "[" * 2_000,
        "[" * 600 + "]" * 600,
        "{a=" * 900,
        "1e999",
        "nan",
        "1" * 5_000,
        "9999-99-99",
        '"""',
        "[1, 'a']",
        "{}",
        "''",
        "true",
        "[[]]",
        "['" + "x" * 50_000 + "']",
    ]
    keys = ["allow", "licences", "artists", "sources", "allow_artists", "a." * 2_000 + "b", '"\\u0000"']
    text = "\n".join(f"{rng.choice(keys)} = {rng.choice(values)}" for _ in range(rng.randint(1, 3)))
    text = rng.choice([text, POLICY + text, mutated(rng, POLICY.encode()).decode("utf-8", "replace")])
    path.write_bytes(text.encode() if rng.random() < 0.9 else rng.randbytes(99))
    return path


def pairs(rng: random.Random, folder: Path) -> Path:
    """Labelled pairs with their evidence."""
    path = folder / "pairs.jsonl"
    values = {"query": "a.png", "evidence": FINDING["matches"][0]["evidence"], "label": 1}
    path.write_text(
        "\n".join(hostile_json(rng, values) for _ in range(rng.choice([1, 4]))), "utf-8", "replace"
    )
    return path


def audit_log(rng: random.Random, folder: Path) -> Path:
    """What an audit goes on from."""
    path = folder / "log.jsonl"
    lines = [hostile_json(rng, {"format_version": 1, "identity": {"model": {"class": "x"}, "seeds": [1, 2]}})]
    lines += [
        hostile_json(rng, {"item": f"i{n}", "seed": 5, "similarity": 0.5, "values": [1, 2]}) for n in range(3)
    ]
    data = "\n".join(lines).encode("utf-8", "replace") + b"\n"
    path.write_bytes(mutated(rng, data) if rng.random() < 0.3 else data)
    return path


def drop_list(rng: random.Random, folder: Path) -> Path:
    """The list of files that a removal of duplicates writes."""
    path = folder / "drop.txt"
    lines = [rng.choice([*NAMES, '"\\ud800"', '"' * 9, '"[' + "[" * 5_000, '"1"', '"a"x']) for _ in range(5)]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape") + rng.choice([b"", b"\xff", b"\n"]))
    return path


def safetensors(rng: random.Random, sound: bytes) -> bytes:
    """Weights whose header lies about types, shapes and places."""
    size = struct.unpack_from("<Q", sound)[0]
    head = json.loads(sound[8 : 8 + size])
    kind = rng.randrange(5)
    if kind == 0:
        return mutated(rng, sound[: 8 + size]) + sound[8 + size :]
    if kind == 1:
        return struct.pack("<Q", rng.choice([*EXTREMES, 2**63, 2**64 - 1])) + sound[8:]
    if kind == 2:
        return mutated(rng, sound)
    text = hostile_json(rng, {k: head[k] for k in list(head)[:6]} if kind == 3 else head).encode(
        "utf-8", "replace"
    )
    return struct.pack("<Q", len(text)) + text + sound[8 + size :]
