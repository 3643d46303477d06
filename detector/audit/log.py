"""The log of an audit: one JSON line an item, so that an audit killed anywhere goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from detector.reports.atomic import write_error
from index.errors import GARBLED, SourceError, UsageError

LOG = "audit.jsonl"
FORMAT_VERSION = 1

Item = dict[str, Any]


class Log:
    """The items of one audit, in its folder.

    Attributes:
        items: By name, in the order in which they were measured.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Prepare; nothing is opened before the ``with`` block.

        Args:
            folder: Of the audit.
            identity: What an audit that goes on must have again: options, model, index, works.
        """
        self.path = folder / LOG
        self.items: dict[str, Item] = {}
        self._identity = json.loads(json.dumps(identity))
        self._file: BinaryIO | None = None

    def __enter__(self) -> Log:
        """Read what is there, and open the file for more.

        Raises:
            UsageError: The folder holds another audit, or cannot be written.
            SourceError: The log is damaged.
        """
        end = self._read() if self.path.exists() else 0
        try:
            self._file = self.path.open("r+b" if end else "wb")
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise write_error(self.path, error) from error
        if not end:
            self._write([{"format_version": FORMAT_VERSION, "identity": self._identity}])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, items: Iterable[tuple[str, Item]]) -> None:
        """Append items that are not there yet, and hand them to the disk."""
        fresh = [(name, item) for name, item in items if name not in self.items]
        self._write([{"item": name} | item for name, item in fresh])
        self.items |= dict(fresh)

    def _write(self, lines: list[Item]) -> None:
        if self._file is None:
            raise RuntimeError("Log is used inside a with block")
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self._file.write(text.encode("utf-8", "backslashreplace"))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error

    def _read(self) -> int:
        """Read the lines that are whole; return where they end."""
        end = 0
        for number, raw in enumerate(self.path.read_bytes().splitlines(keepends=True), start=1):
            try:
                values = json.loads(raw)
                if number == 1:
                    self._compare(values["identity"], values["format_version"])
                else:
                    self.items[values.pop("item")] = values
            except GARBLED as error:
                if not raw.endswith(b"\n"):
                    break  # cut off by what ended the audit
                raise SourceError(
                    self.path, f"line {number} is no part of an audit's log. Delete that line, or the folder"
                ) from error
            if not raw.endswith(b"\n"):
                self.items.popitem() if self.items else None
                break
            end += len(raw)
        return end

    def _compare(self, stored: dict[str, Any], version: int) -> None:
        folder = self.path.parent
        if version != FORMAT_VERSION:
            newer = version > FORMAT_VERSION
            step = "Run: pip install -U replication-detector, or name" if newer else "Name"
            raise UsageError(f"{folder}: holds an audit of another format ({version}). {step} another --out")
        for name, value in stored.items():
            now = self._identity.get(name)
            if now == value:
                continue
            if isinstance(value, dict) and isinstance(now, dict):
                changed = [key for key in value if now.get(key) != value[key]]
                said = ", ".join(f"{key} was {value[key]}, now {now.get(key)}" for key in changed[:3])
                name = f"{name} ({said})"
            raise UsageError(
                f"{folder}: holds an audit with another {name}. Name another folder with --out, or repeat that "
                "audit's command to go on with it"
            )
