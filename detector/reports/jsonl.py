"""Findings as JSON lines: written as a scan goes, read back as a stream, resumed after an interruption.

One `ImageReport` a line (UTF-8, keys in a fixed order, no NaN). A scan that was killed leaves at most one
line cut off at the end; it is never taken for a finding.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from detector.report import FORMAT_VERSION, ImageReport
from detector.reports.atomic import write_error
from index.errors import SourceError

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is no finding: some other file was named. The largest real ones are some 100 kB, and
JSON of many small values takes up to forty times its length in memory."""

_log = logging.getLogger("detector")


def findings_line(report: ImageReport) -> bytes:
    """Return one line of findings, newline included.

    File names that are no valid UTF-8 (`os.fsdecode` turns their bytes into lone surrogates) become JSON
    escapes and are read back as they were. A measurement that is not a number becomes null: not measured.

    Raises:
        ValueError: The score is not a number.
    """
    values = report.to_dict()
    values["generation"] = _finite(values["generation"])
    for match in values["matches"]:
        match["evidence"] = _finite(match["evidence"])
        match["p_value"] = _finite(match["p_value"])
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"{report.query}: a score or region is not a finite number") from error
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def read_findings(path: Path | str, *, on_torn: Callable[[int], None] | None = None) -> Iterator[ImageReport]:
    """Read findings one by one; memory does not grow with the file.

    Args:
        path: A file written by `JsonlWriter`.
        on_torn: Called with its line number where the last line is cut off, as an interrupted scan leaves it.
            Without it, the `detector` logger says so.

    Yields:
        The reports in the file's order, without the line that is cut off.

    Raises:
        SourceError: The file cannot be read, or a line is no finding of this format; names the line.
    """
    source = Path(path)
    for line in _lines(source):
        if line.report is not None:
            yield line.report
        elif on_torn is not None:
            on_torn(line.number)
        else:
            _log.warning("%s: line %d is cut off (interrupted scan) and was left out.", source, line.number)


class JsonlWriter:
    """Appends findings to a file, each line flushed, so that an interruption loses at most the line in hand.

    Attributes:
        path: The file.
        done: Names of the queries that the file held on opening; empty without `resume`.
        torn: Opening with `resume` cut off an unfinished last line.
    """

    def __init__(self, path: Path | str, *, resume: bool = False) -> None:
        """Prepare; nothing is opened before the ``with`` block.

        Args:
            path: File to write.
            resume: Keep the whole lines that are there and go on after them; otherwise the file starts anew.
        """
        self.path = Path(path)
        self.done: set[str] = set()
        self.torn = False
        self._resume = resume
        self._file: BinaryIO | None = None

    def __enter__(self) -> JsonlWriter:
        """Open the file.

        Raises:
            SourceError: `resume`, and the file holds something else than findings of this format.
            UsageError: The file cannot be written.
        """
        end = 0
        unended = False
        if self._resume and self.path.exists():
            for line in _lines(self.path):
                if line.report is None:
                    self.torn = True
                    break
                self.done.add(line.report.query)
                end, unended = line.end, not line.ended
        try:
            self._file = self.path.open("r+b" if end else "wb")
            self._file.truncate(end)
            self._file.seek(end)
            if unended:
                self._file.write(b"\n")
        except OSError as error:
            raise write_error(self.path, error) from error
        return self

    def write(self, report: ImageReport) -> None:
        """Append one report and hand it to the operating system.

        Raises:
            UsageError: The disk is full or the file went away.
        """
        if self._file is None:
            raise RuntimeError("JsonlWriter is used inside a with block: with JsonlWriter(path) as writer: …")
        try:
            self._file.write(findings_line(report))
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write through to the disk and close."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                file.flush()
                if file.seekable():
                    os.fsync(file.fileno())
        except OSError as failed:
            if error is None:
                raise write_error(self.path, failed) from failed


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    end: int
    """Offset behind the line, in bytes."""
    ended: bool
    """It ends with a newline."""
    report: ImageReport | None
    """None: cut off."""


def _lines(path: Path) -> Iterator[_Line]:
    """Yield every line that holds a finding, and the cut-off last one."""
    end = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
                end += len(raw)
                ended = raw.endswith(b"\n")
                if len(raw) > MAX_LINE_BYTES:
                    raise _garbage(path, number, f"is longer than {MAX_LINE_BYTES} bytes")
                if not raw.strip():
                    continue
                try:
                    report = _parsed(path, number, raw, first=number == 1)
                except SourceError as error:
                    if ended or _is_whole_json(raw):
                        raise
                    if number == 1 and not raw.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
                        raise _garbage(path, number, "is not JSON") from error
                    report = None
                yield _Line(number, end, ended, report)
    except OSError as error:
        raise SourceError(
            path, f"cannot be read ({error.strerror}). Write findings with: detector scan … --jsonl FILE"
        ) from error


def _parsed(path: Path, number: int, raw: bytes, *, first: bool) -> ImageReport:
    try:
        text = raw.decode("utf-8-sig" if first else "utf-8")
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _garbage(path, number, "is not JSON") from error
    if not isinstance(values, dict):
        raise _garbage(path, number, "is JSON, but no finding")
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        step = (
            "Run: pip install -U replication-detector"
            if newer
            else "Write it again with: detector scan … --jsonl"
        )
        raise SourceError(
            path, f"line {number} has format_version {version!r}; this version reads {FORMAT_VERSION}. {step}"
        )
    try:
        return ImageReport.from_dict(values)
    except (ValueError, OverflowError) as error:
        raise _garbage(path, number, f"is no finding ({error})") from error


def _garbage(path: Path, number: int, what: str) -> SourceError:
    return SourceError(
        path,
        f"line {number} {what}. Name a file written by detector scan --jsonl, or delete that line.",
    )


def _is_whole_json(raw: bytes) -> bool:
    """Return whether a line without newline is complete all the same (an editor took the newline away)."""
    try:
        json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(value: Any) -> Any:
    """Return plain JSON values with null for NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return value
