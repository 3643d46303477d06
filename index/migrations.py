"""Append-only steps that bring a catalogue from any earlier schema to the newest one."""

from __future__ import annotations

import sqlite3

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
)
"""One SQL script a schema version. Never edit one that was released; append."""

SCHEMA_VERSION = len(STEPS)


def migrate(connection: sqlite3.Connection) -> int:
    """Run the steps that a catalogue lacks, each in its own transaction.

    Returns:
        The schema version found before.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    for number, script in enumerate(STEPS[found:], start=found + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
    return found
