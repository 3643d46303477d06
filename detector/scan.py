"""Folders of pictures → findings: pipelined over workers, in the folder's order, resumable, memory flat."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from detector.detector import Detector, unreadable
from detector.report import ImageReport, ScanSummary, Verdict
from detector.reports.jsonl import JsonlWriter, read_findings
from index.errors import UsageError
from index.items import Rejected
from index.sources import iter_folder, locator_of
from index.vectors import use_threads

ScanProgress = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How a folder is scanned.

    Attributes:
        workers: Threads that read, describe, search and verify; 0 takes one a core.
        batch_size: Pictures that neural descriptors see at once.
        resume: Go on after the lines that the JSONL file holds already.
    """

    workers: int = 0
    batch_size: int = 8
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is.

    Attributes:
        done: Queries dealt with, those of an earlier run included.
        total: Of how many.
        flagged: Queries with the verdict replica so far, in this run.
        report: The newest one.
    """

    done: int
    total: int
    flagged: int
    report: ImageReport


class ScanReport:
    """Findings of a scan, on disk, in the scan's order; iterable as often as wanted.

    Attributes:
        path: The JSONL file.
        summary: Counts.
    """

    def __init__(
        self,
        path: Path,
        summary: ScanSummary,
        *,
        thumbnail: Callable[[int], bytes | None] = lambda _: None,
        index_name: str = "",
        keep: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        """Used by `scan` and `read_report`."""
        self.path = path
        self.summary = summary
        self._thumbnail = thumbnail
        self._index_name = index_name
        self._keep = keep

    def __iter__(self) -> Iterator[ImageReport]:
        """Read the findings, one by one."""
        return read_findings(self.path)

    def __len__(self) -> int:
        """Return the number of queries."""
        return self.summary.queries

    def save_html(self, path: str | Path, *, title: str = "Replication findings", command: str = "") -> None:
        """Write one self-contained page. Needs the index still open for the references' pictures.

        Raises:
            UsageError: The file cannot be written.
        """
        from detector.reports.page import write_html

        write_html(
            self,
            path,
            summary=self.summary,
            thumbnail=self._thumbnail,
            title=title,
            index_name=self._index_name,
            command=command,
        )

    def save_jsonl(self, path: str | Path) -> None:
        """Write the findings as JSON lines.

        Raises:
            UsageError: The file cannot be written.
        """
        if Path(path).exists() and Path(path).samefile(self.path):
            return
        with JsonlWriter(path) as writer:
            for report in self:
                writer.write(report)

    def save_csv(self, path: str | Path) -> None:
        """Write the findings as a table, a row a match, safe to open in a spreadsheet.

        Raises:
            UsageError: The file cannot be written.
        """
        from detector.reports.spreadsheet import write_csv

        write_csv(self, path)


def scan(
    detector: Detector,
    paths: str | Path | Sequence[str | Path],
    *,
    jsonl: str | Path | None = None,
    options: ScanOptions | None = None,
    on_progress: ScanProgress | None = None,
) -> ScanReport:
    """Check folders of pictures against a detector's index; see `Detector.scan`."""
    chosen = options or ScanOptions()
    named = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    total = sum(1 for path in named for _ in iter_folder(path))
    if total == 0:
        where = ", ".join(str(path) for path in named)
        raise UsageError(
            f"{where}: no picture found. Name a folder that holds JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF files"
        )
    keep = None
    if jsonl is None:
        keep = tempfile.TemporaryDirectory(prefix="detector-")
        jsonl = Path(keep.name) / "findings.jsonl"
    started = time.monotonic()
    with JsonlWriter(jsonl, resume=chosen.resume) as writer:
        done, flagged = len(writer.done), 0
        entries = (entry for path in named for entry in iter_folder(path))
        waiting = (entry for entry in entries if _name(entry) not in writer.done)
        for report in _reports(detector, waiting, chosen):
            writer.write(report)
            done += 1
            flagged += report.verdict is Verdict.REPLICA
            if on_progress is not None:
                on_progress(Progress(done, max(total, done), flagged, report))
    summary = summarise(read_findings(jsonl), seconds=time.monotonic() - started)
    return ScanReport(
        Path(jsonl),
        summary,
        thumbnail=detector.index.thumbnail,
        index_name=str(detector.index.path),
        keep=keep,
    )


def _name(entry: Path | Rejected) -> str:
    return entry.locator if isinstance(entry, Rejected) else locator_of(entry)


def _reports(
    detector: Detector, entries: Iterator[Path | Rejected], options: ScanOptions
) -> Iterator[ImageReport]:
    """Reports in the order of entries, a bounded number of batches in the hands of workers."""
    workers = options.workers or os.cpu_count() or 1
    window: deque[Future[list[ImageReport]]] = deque()
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="scan", initializer=use_threads, initargs=(1,))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        while batch := list(itertools.islice(entries, options.batch_size)):
            window.append(pool.submit(_check_batch, detector, batch))
            if len(window) > 2 * workers:
                yield from window.popleft().result()
        while window:
            yield from window.popleft().result()


def _check_batch(detector: Detector, batch: list[Path | Rejected]) -> list[ImageReport]:
    readable = [entry for entry in batch if isinstance(entry, Path)]
    names = [_name(entry) for entry in readable]
    checked = iter(detector.check_many(readable, names=names))
    return [
        unreadable(entry.locator, entry.reason) if isinstance(entry, Rejected) else next(checked)
        for entry in batch
    ]


def summarise(reports: Iterator[ImageReport], *, seconds: float = 0.0) -> ScanSummary:
    """Count verdicts over findings."""
    verdicts: Counter[Verdict] = Counter()
    cleared = 0
    for report in reports:
        verdicts[report.verdict] += 1
        strong = [match for match in report.matches if match.level >= 2]
        cleared += bool(strong) and all(match.cleared for match in strong)
    return ScanSummary(
        queries=sum(verdicts.values()),
        replica=verdicts[Verdict.REPLICA],
        possible=verdicts[Verdict.POSSIBLE],
        no_match=verdicts[Verdict.NO_MATCH],
        unreadable=verdicts[Verdict.UNREADABLE],
        cleared=cleared,
        seconds=seconds,
    )


def read_report(
    path: str | Path, *, thumbnail: Callable[[int], bytes | None] = lambda _: None, index_name: str = ""
) -> ScanReport:
    """Read findings that a scan wrote, for another bound or another page, without scanning again.

    Raises:
        SourceError: The file cannot be read, or holds something else.
    """
    summary = summarise(read_findings(path))
    return ScanReport(Path(path), summary, thumbnail=thumbnail, index_name=index_name)
