"""Index folders that mean harm: made from a sound one, a part of it garbled, exchanged or told to lie."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.benchmarks.hostile import EXTREMES, broken, encoded, hostile_json, mutated, pixel_bomb, small
from tests.benchmarks.hostile_files import CELLS, npy

CATALOGUE, THUMBNAILS, MANIFEST = "catalog.sqlite", "thumbnails.sqlite", "manifest.json"

_TRAPS = (
    "CREATE VIEW trap AS SELECT 1",
    "CREATE TRIGGER trap AFTER INSERT ON fact BEGIN DELETE FROM reference; END",
    "CREATE TRIGGER trap AFTER UPDATE ON fact BEGIN DELETE FROM occurrence; END",
    "ALTER TABLE fact RENAME TO old; CREATE VIEW fact AS WITH RECURSIVE n(key) AS (SELECT 1 UNION ALL SELECT key + 1 "
    "FROM n) SELECT 'generation' AS key, '1' AS value FROM n WHERE key < 0",
    "ALTER TABLE segment RENAME TO old; CREATE VIEW segment AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT "
    "id + 1 FROM n) SELECT id, 'pdq' AS descriptor, 'pdq-000001.npy' AS file, 1 AS rows, '' AS sha256 FROM n",
    "ALTER TABLE reference RENAME TO old; CREATE VIEW reference AS SELECT id, hex(zeroblob(900000000)) AS sha256, "
    "width, height, trim FROM old",
    "DROP TABLE occurrence; CREATE TABLE occurrence (id, reference_id)",
    "DROP TABLE segment",
    "DROP TABLE fact; CREATE TABLE fact (key, value)",
    "CREATE VIRTUAL TABLE trap USING fts5(x)",
    "CREATE INDEX trap ON occurrence (json_extract(extra, '$'))",
    "ALTER TABLE occurrence ADD COLUMN more GENERATED ALWAYS AS (hex(zeroblob(500000000))) VIRTUAL",
)

_COLUMNS = {
    "reference": ("sha256", "width", "height", "trim", "id"),
    "occurrence": (
        "path",
        "size",
        "mtime_ns",
        "artist",
        "title",
        "licence",
        "source",
        "caption",
        "extra",
        "reference_id",
    ),
    "segment": ("descriptor", "file", "rows", "sha256", "id"),
    "fact": ("value", "key"),
    "rejected": ("path", "reason", "detail", "size"),
    "request": ("id", "state", "made", "name", "number"),
}


def manifest(rng: random.Random, index: Path) -> None:
    """Values of other types, or no JSON."""
    path = index / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    values["imported"] = [{"source": "x", "compared": 3, "min_cosine": 0.5}]
    if rng.random() < 0.05:
        path.write_text("[" + "{}," * (20 << 20) + "{}]", encoding="utf-8")
        return
    path.write_text(hostile_json(rng, values), "utf-8", "surrogatepass")


def catalogue_bytes(rng: random.Random, index: Path) -> None:
    """Bytes of the catalogue changed, or a log beside it that is none."""
    path = index / rng.choice([CATALOGUE, CATALOGUE, CATALOGUE, THUMBNAILS])
    data = bytearray(path.read_bytes())
    kind = rng.randrange(5)
    if kind == 0:  # within one page, where its structure is
        page = 4096 * rng.randrange(max(1, len(data) // 4096))
        at = page + rng.randrange(0, 120)
        data[at : at + 2] = rng.choice(EXTREMES).to_bytes(4, "big")[-2:]
        path.write_bytes(data)
    elif kind == 1:
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == 2:
        name = path.name + rng.choice(["-wal", "-journal", "-shm"])
        (index / name).write_bytes(
            rng.choice([b"\x37\x7f\x06\x82", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", b""]) + rng.randbytes(5_000)
        )
    else:
        path.write_bytes(mutated(rng, bytes(data), keep=rng.choice([0, 16, 100])))


def catalogue_schema(rng: random.Random, index: Path) -> None:
    """Tables exchanged for views without end, triggers that delete, tables that lack columns."""
    path = index / CATALOGUE
    traps = _TRAPS
    if rng.random() < 0.2:
        path = index / THUMBNAILS
        traps = (
            "ALTER TABLE thumbnail RENAME TO old; CREATE VIEW thumbnail AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
            "SELECT i + 1 FROM n) SELECT hex(i) AS sha256, x'00' AS webp FROM n",
            "DROP TABLE thumbnail",
            "CREATE TRIGGER trap AFTER INSERT ON thumbnail BEGIN DELETE FROM thumbnail; END",
        )
    _run(path, rng.choice(traps))
    if rng.random() < 0.1:
        _run(path, f"PRAGMA user_version = {rng.choice([0, -1, 1, 3, 2**31 - 1])}")


def catalogue_values(rng: random.Random, index: Path) -> None:
    """Rows that hold what nothing writes: other types, paths out of the index, numbers without end."""
    for _ in range(rng.randint(1, 3)):
        table = rng.choice(sorted(_COLUMNS))
        column = rng.choice(_COLUMNS[table])
        value = rng.choice(
            [
                rng.choice(EXTREMES),
                -1,
                2**63 - 1,
                1e300,
                "",
                "x",
                "../../../../etc/passwd",
                "/dev/zero",
                "../../outside/rows.npy",
                rng.choice(CELLS).encode("utf-8", "replace").decode(),
                b"\xff\xfe",
                b"",
                "[" * 3_000,
                "[" * 970 + "]" * 970,
                "[1, 2]",
                "[1, 2, 3, 4]",
                '["a", null, 1e999, -5]',
                "null",
                '{"pdq": {"location": 1e999, "scale": 0, "samples": "x", "references": -1}}',
                '{"clip:bundled": {"file": "../../outside/x", "sha256": "", "last_id": 1, "ranked": -1}}',
                "1" * 6_000,
            ]
        )
        if table == "fact" and column == "value":
            _run(
                index / CATALOGUE,
                "INSERT OR REPLACE INTO fact VALUES (?, ?)",
                (rng.choice(["generation", "calibration", "sketches", "shards_done"]), value),
            )
        elif table == "rejected":
            _run(
                index / CATALOGUE,
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?)",
                tuple(rng.choice([value, "x", 1]) for _ in range(5)),
            )
        elif table == "request":
            _run(
                index / CATALOGUE,
                "INSERT OR REPLACE INTO request (number, id, state, made, name, contact, statement) "
                "VALUES (1, ?, ?, ?, ?, ?, ?)",
                tuple(rng.choice([value, "open", "x"]) for _ in range(6)),
            )
        else:
            where = "" if rng.random() < 0.3 else f" WHERE rowid = {rng.randint(1, 30)}"
            _run(index / CATALOGUE, f"UPDATE OR REPLACE {table} SET {column} = ?{where}", (value,))


def segment(rng: random.Random, index: Path) -> None:
    """Rows and ids with headers that lie, cut off, pickled, or of another length."""
    path = rng.choice(sorted((index / "vectors").iterdir()) + sorted((index / "ann").iterdir()))
    data = path.read_bytes()
    kind = rng.randrange(6)
    if kind == 0:
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == 1:
        path.write_bytes(mutated(rng, data[:128]) + data[128:])
    elif kind == 2:
        path.write_bytes(mutated(rng, data, keep=128))
    elif kind == 3:  # numbers of references that there are not, in no order
        path.write_bytes(data[:128] + rng.randbytes(len(data) - 128))
    elif kind == 4:
        other = rng.choice(sorted((index / "vectors").iterdir()))
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(npy(rng))


def thumbnail(rng: random.Random, index: Path) -> None:
    """Small copies that are none: numbers, text, bombs, other formats."""
    bomb = (
        pixel_bomb(rng) if rng.random() < 0.1 else b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6
    )
    value = rng.choice(
        [
            2**40,
            -1,
            5,
            1.5,
            "text",
            "",
            b"",
            broken(rng),
            bomb,
            encoded(small(rng), "WEBP")[:40],
            encoded(small(rng), "PNG"),
        ]
    )
    statement = "UPDATE thumbnail SET webp = ?" + ("" if rng.random() < 0.7 else " WHERE rowid % 2")
    _run(index / THUMBNAILS, statement, (value,))


def places(rng: random.Random, index: Path) -> None:
    """A part exchanged for a folder, a pipe, a device, a link out of the index, or nothing."""
    names = [
        MANIFEST,
        CATALOGUE,
        THUMBNAILS,
        "vectors",
        "ann",
        "writer.lock",
        "writer.lock.held",
        MANIFEST + ".tmp",
    ]
    names += [f"vectors/{each.name}" for each in sorted((index / "vectors").iterdir())]
    names += [f"ann/{each.name}" for each in sorted((index / "ann").iterdir())]
    names += [CATALOGUE + "-wal", CATALOGUE + "-shm"]
    path = index / rng.choice(names)
    outside = index.parent / "outside"
    outside.mkdir(exist_ok=True)
    for name in ("diary.txt", "rows.npy", "photo.planes.npy"):
        (outside / name).write_bytes(b"\x93NUMPY precious " * 9)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = rng.randrange(7)
    if kind == 0:
        path.mkdir()
    elif kind == 1 and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif kind == 2:
        os.symlink(rng.choice(["/dev/zero", "/dev/full", path.name, "nowhere"]), path)
    elif kind == 3:
        os.symlink(rng.choice([outside, outside / "diary.txt", outside / "new.txt"]), path)
    elif kind == 4:
        path.write_bytes(rng.randbytes(3_000))
    elif kind == 5:
        path.write_bytes(b"")


ATTACKS: dict[str, Callable[[random.Random, Path], None]] = {
    "manifest": manifest,
    "catalogue, bytes": catalogue_bytes,
    "catalogue, schema": catalogue_schema,
    "catalogue, values": catalogue_values,
    "segments and sketches": segment,
    "thumbnails": thumbnail,
    "places": places,
}
"""By the part attacked."""


def _run(path: Path, script: str, values: tuple[object, ...] = ()) -> None:
    with suppress(sqlite3.Error, OverflowError), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        for statement in [script] if values else script.split("; "):
            if "TRIGGER" in script:
                connection.executescript(script)
                break
            connection.execute(statement, values)
        connection.commit()
