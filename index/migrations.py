"""Append-only steps that bring a catalogue from any earlier schema to the newest one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache

STEPS: tuple[str, ...] = (
    # 1: the first format.
    """
    CREATE TABLE reference (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sha256 TEXT NOT NULL UNIQUE,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        trim TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE occurrence (
        id INTEGER PRIMARY KEY,
        reference_id INTEGER NOT NULL REFERENCES reference (id),
        path TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        artist TEXT NOT NULL,
        title TEXT NOT NULL,
        licence TEXT NOT NULL,
        source TEXT NOT NULL,
        caption TEXT NOT NULL,
        extra TEXT NOT NULL
    );
    CREATE INDEX occurrence_of_reference ON occurrence (reference_id);
    CREATE INDEX occurrence_of_artist ON occurrence (artist);
    CREATE TABLE rejected (
        path TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL
    );
    CREATE TABLE segment (
        id INTEGER PRIMARY KEY,
        descriptor TEXT NOT NULL,
        file TEXT NOT NULL UNIQUE,
        rows INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    );
    CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    INSERT INTO fact (key, value) VALUES ('generation', '0');
    """,
    # 2: removal requests, and what erased pictures are known again by.
    """
    CREATE TABLE request (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        made TEXT NOT NULL,
        name TEXT NOT NULL,
        contact TEXT NOT NULL,
        statement TEXT NOT NULL,
        decided TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX request_in_state ON request (state);
    CREATE TABLE requested (
        number INTEGER NOT NULL REFERENCES request (number),
        picture TEXT NOT NULL,
        PRIMARY KEY (number, picture)
    ) WITHOUT ROWID;
    CREATE INDEX requested_picture ON requested (picture);
    CREATE TABLE forgotten (key TEXT PRIMARY KEY, made TEXT NOT NULL) WITHOUT ROWID;
    """,
)
"""One SQL script a schema version, no semicolon inside a statement. Never edit one that was released; append."""

SCHEMA_VERSION = len(STEPS)


REQUESTS_SINCE = 2
"""The first schema version with removal requests; readers meet older catalogues as they are."""


def migrate(connection: sqlite3.Connection) -> int:
    """Run the steps that a catalogue lacks, each in its own transaction.

    Args:
        connection: In autocommit mode. Another one may migrate the same catalogue at the same time.

    Returns:
        The schema version found before.
    """
    found = _version(connection)
    for number, script in enumerate(STEPS[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) < number:
                for statement in script.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return found


@lru_cache
def schema_of(version: int) -> frozenset[tuple[str, str, str | None]]:
    """Return type, name and statement of everything in a catalogue of a schema version, as SQLite keeps them."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in STEPS[:version]:
            for statement in script.split(";"):
                connection.execute(statement)
        return frozenset(connection.execute(_SCHEMA))


def foreign_parts(connection: sqlite3.Connection, version: int) -> list[str]:
    """Return the names of tables, views and triggers that a catalogue of a version does not have, or has otherwise.

    A view may compute without end what looks like a table, and a trigger may delete what nobody asked to delete.
    """
    found = frozenset(tuple(row) for row in connection.execute(_SCHEMA))
    return sorted({str(name) for _, name, _ in found ^ schema_of(version)})


_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
