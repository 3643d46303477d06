"""Folders of pictures → findings: pipelined over workers, in the folder's order, resumable, memory flat."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from detector.detector import Detector, unreadable
from detector.metadata import GenerationLists
from detector.report import ImageReport, ScanSummary, Verdict
from detector.reports.jsonl import JsonlWriter, read_findings
from detector.rights import Policy, judge
from index.errors import SourceError, UsageError
from index.items import Rejected
from index.searching import Searchable
from index.sources import iter_folder, locator_of
from index.torch_tower import one_thread_here, threads_as_before
from index.vectors import use_threads

ScanProgress = Callable[["Progress"], None]

PROCESSES_FROM = 100
"""Pictures from which on worker processes are worth what each of them loads."""

_mine = threading.local()


@dataclass(frozen=True, slots=True)
class Checker:
    """All that a worker of a scan needs.

    Attributes:
        detector: With its index open.
        lists: What lists say of how the pictures were generated.
        within: The paths that are scanned, for `lists`.
    """

    detector: Detector
    lists: GenerationLists
    within: tuple[Path, ...]

    def check(self, batch: Sequence[Path | Rejected | tuple[str, bytes]]) -> list[ImageReport]:
        """Check pictures as one batch; one that was read elsewhere comes as its name and its bytes."""
        readable = [entry for entry in batch if not isinstance(entry, Rejected)]
        names = [entry[0] if isinstance(entry, tuple) else locator_of(entry) for entry in readable]
        images = [entry[1] if isinstance(entry, tuple) else entry for entry in readable]
        checked = iter(self.detector.check_many(images, names=names, lists=self.lists))
        return [
            unreadable(entry.locator, entry.reason) if isinstance(entry, Rejected) else next(checked)
            for entry in batch
        ]


def check_all(batch: Sequence[Path | Rejected | tuple[str, bytes]]) -> list[ImageReport]:
    """Check pictures, in a worker that `start` made."""
    checker: Checker = _mine.checker
    return checker.check(batch)


def prepare_here(checker: Checker) -> None:
    """Make the calling thread a worker of a scan."""
    _mine.checker = checker
    use_threads(1)
    one_thread_here()


def start(count: int, checker: Checker) -> Executor:
    """Start threads for `check_all`."""
    return ThreadPoolExecutor(count, "scan", prepare_here, (checker,))


StartCheckers = Callable[[int, Checker], Executor]
"""Starts so many workers, to which batches are submitted with `check_all`."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How a folder is scanned.

    Attributes:
        workers: Threads or processes that read, describe, search and verify; 0 takes one a core.
        batch_size: Pictures that neural descriptors see at once.
        resume: Go on after the lines that the JSONL file holds already.
        processes: Start processes where that is quicker (see `detector.processes`). They import the program's main
            module: a script needs ``if __name__ == "__main__":`` round what it does.
    """

    workers: int = 0
    batch_size: int = 8
    resume: bool = False
    processes: bool = False


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
        index: Searchable | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Used by `scan` and `read_report`.

        Args:
            path: The JSONL file.
            summary: Counts, under the policy.
            index: Open, for the references' pictures; None shows none.
            policy: Which licences clear a match, instead of what the file says; None leaves that.
        """
        self.path = path
        self.summary = summary
        self._index = index
        self._policy = policy

    def __iter__(self) -> Iterator[ImageReport]:
        """Read the findings, one by one."""
        # A generator, so that a loop over `detector.scan(…)` keeps this object, and with it the file.
        yield from _judged(self.path, self._policy)

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
            thumbnail=self._index.thumbnail if self._index is not None else lambda _: None,
            title=title,
            index_name=self._index.name if self._index is not None else "",
            command=command,
        )

    def save_jsonl(self, path: str | Path) -> None:
        """Write the findings as JSON lines.

        Raises:
            UsageError: The file cannot be written.
        """
        if Path(path).exists() and Path(path).samefile(self.path):
            if self._policy is None:
                return
            raise UsageError(f"{path}: is the file that is read. Name another one")
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
    start_workers: StartCheckers | None = None,
) -> ScanReport:
    """Check folders of pictures against a detector's index; see `Detector.scan`.

    `start_workers` says where they are checked; `detector.distributed` has it done elsewhere. None: in threads or
    processes of this machine.
    """
    chosen = options or ScanOptions()
    named = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    for path in named:
        if path.is_dir() and path.resolve() == detector.index.path.resolve():
            raise UsageError(f"{path}: is the index itself. Name the folder of generated pictures to scan")
    total = sum(1 for path in named for _ in iter_folder(path))
    if total == 0:
        where = ", ".join(str(path) for path in named)
        raise UsageError(
            f"{where}: no picture found. Name a folder that holds JPEG, PNG, WebP, GIF, BMP, TIFF or "
            "AVIF files"
        )
    _prepare(detector.index)
    if start_workers is None:
        start_workers = _here(detector, total, chosen)
    checker = Checker(detector, GenerationLists(named), tuple(named))
    if jsonl is not None:
        summary = _write(checker, Path(jsonl), total, chosen, on_progress, start_workers)
        return ScanReport(Path(jsonl), summary, index=detector.index)
    folder = tempfile.mkdtemp(prefix="detector-")
    try:
        kept = Path(folder) / "findings.jsonl"
        summary = _write(checker, kept, total, chosen, on_progress, start_workers)
        report = ScanReport(kept, summary, index=detector.index)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(report, shutil.rmtree, folder, ignore_errors=True)
    return report


def _prepare(index: Searchable) -> None:
    """Load what a scan needs, so that missing weights or a damaged index stop it before a file is touched."""
    index.descriptors()
    for spec in index.specs:
        index.store(spec.name)


def _here(detector: Detector, total: int, options: ScanOptions) -> StartCheckers:
    """Return what starts workers on this machine: processes where they may and are worth what they load."""
    from detector import processes

    wanted = options.processes and total >= PROCESSES_FROM and _workers(options) > 1
    return processes.start if wanted and processes.can_share(detector) else start


def _workers(options: ScanOptions) -> int:
    return options.workers or os.cpu_count() or 1


def _write(
    checker: Checker,
    jsonl: Path,
    total: int,
    options: ScanOptions,
    on_progress: ScanProgress | None,
    start_workers: StartCheckers,
) -> ScanSummary:
    """Scan into a file of findings."""
    started = time.monotonic()
    with JsonlWriter(jsonl, resume=options.resume) as writer:
        done, flagged = len(writer.done), 0
        entries = (entry for path in checker.within for entry in iter_folder(path))
        waiting = (entry for entry in entries if _name(entry) not in writer.done)
        # Closed at once when interrupted: what is queued is not begun.
        with closing(_reports(checker, waiting, options, start_workers)) as reports:
            for report in reports:
                writer.write(report)
                done += 1
                flagged += report.verdict is Verdict.REPLICA
                if on_progress is not None:
                    on_progress(Progress(done, max(total, done), flagged, report))
    return summarise(read_findings(jsonl), seconds=time.monotonic() - started)


def _judged(path: Path, policy: Policy | None) -> Iterator[ImageReport]:
    reports = read_findings(path)
    return reports if policy is None else (judge(report, policy) for report in reports)


def _name(entry: Path | Rejected) -> str:
    return entry.locator if isinstance(entry, Rejected) else locator_of(entry)


def _reports(
    checker: Checker, entries: Iterator[Path | Rejected], options: ScanOptions, start_workers: StartCheckers
) -> Generator[ImageReport, None, None]:
    """Reports in the order of entries, a bounded number of batches in the hands of workers.

    Where a worker process dies, of lack of memory or of a picture, threads of this process do what is left.
    """
    workers = _workers(options)
    window: deque[tuple[list[Path | Rejected], Future[list[ImageReport]]]] = deque()
    with ExitStack() as stack:

        def hired(how: StartCheckers) -> Executor:
            pool = how(workers, checker)
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            return pool

        stack.callback(threads_as_before)
        pool = hired(start_workers)

        def submitted(batch: list[Path | Rejected]) -> Future[list[ImageReport]]:
            nonlocal pool
            try:
                return pool.submit(check_all, batch)
            except BrokenProcessPool:
                pool = hired(start)
                return pool.submit(check_all, batch)

        def taken() -> list[ImageReport]:
            batch, future = window.popleft()
            try:
                return future.result()
            except BrokenProcessPool:
                return submitted(batch).result()

        while batch := list(itertools.islice(entries, options.batch_size)):
            window.append((batch, submitted(batch)))
            if len(window) > 2 * workers:
                yield from taken()
        while window:
            yield from taken()


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
    path: str | Path, *, index: Searchable | None = None, policy: Policy | None = None
) -> ScanReport:
    """Read findings that a scan wrote, for another bound or another page, without scanning again.

    Args:
        path: The JSONL file.
        index: The index that they were made with, open, for the references' pictures on a page.
        policy: Which licences clear a match; None leaves what the scan cleared.

    Raises:
        SourceError: The file cannot be read, holds something else, or was made with another index.
    """
    source = Path(path)
    reports = _judged(source, policy)
    summary = summarise(reports if index is None else _made_with(index, source, reports))
    return ScanReport(source, summary, index=index, policy=policy)


def _made_with(index: Searchable, path: Path, reports: Iterator[ImageReport]) -> Iterator[ImageReport]:
    """Pass findings on, making sure that their references are those of the index: ids alone would mislead."""
    for report in reports:
        for match in report.matches:
            stored = index.reference(match.reference.id)
            if stored is not None and stored[0].sha256 != match.reference.sha256:
                raise SourceError(path, f"was not made with {index.name}. Name the index of that scan")
        yield report
