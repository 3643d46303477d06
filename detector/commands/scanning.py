"""`detector scan`, `report` and `demo`: findings over folders, shown, written and judged.

Longer than 400 lines because all three share the way in which findings are shown and written.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands import completing
from detector.commands.building import fill_index
from detector.commands.console import FAILED, FLAGGED, Output, command_line, printable, this_command
from detector.commands.options import (
    NEVER,
    OUTPUT_PANEL,
    AllowLicence,
    Csv,
    Debug,
    Device,
    FailOn,
    Html,
    IndexFolder,
    Json,
    Limit,
    PolicyFile,
    Quiet,
    Ray,
    Scoring,
    Workers,
    level_bound,
    named_path,
    policy_of,
    require_references,
    writable_target,
)

if TYPE_CHECKING:
    from detector.detector import Detector
    from detector.report import ImageReport
    from detector.scan import Progress, ScanOptions, ScanReport

SHOWN_FILES = 10

UNVERIFIABLE = (
    "This index holds embeddings alone: nothing is there to verify matches with, and they stay at level 2 or below. "
    "Look at them yourself."
)
OUTSIDE = "“No match in this index” says nothing about pictures that are not in the index."

_ABOVE = Path(__file__).resolve().parents[2:]
SAMPLES = (_ABOVE[0] / "samples", *(folder / "share/replication-detector/samples" for folder in _ABOVE))
"""Where the sample pictures may lie: beside the packages in a checkout, or where an installation keeps data, which is
below a folder that the packages lie in."""

DEMO_FOLDER = Path("detector-demo")


# The command line names its options one by one, so these functions have more parameters than others may.


def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            parser=named_path,
            help="Generated pictures: folders (searched through) or single files.",
            show_default=False,
        ),
    ],
    *,
    index: IndexFolder,
    fail_on: FailOn = "3",
    html: Html = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help="Keep the findings as JSON lines while scanning, one a picture: for programs, for --resume "
            "and for [b]detector report[/b].",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    csv: Csv = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on after the findings that the --jsonl file holds already."),
    ] = False,
    allow_licence: AllowLicence = None,
    policy: PolicyFile = None,
    scoring: Scoring = None,
    workers: Workers = 0,
    device: Device = None,
    ray: Ray = None,
    limit: Limit = 20,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check folders of generated pictures."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.detector import Detector
        from detector.scan import ScanOptions
        from detector.scoring import load_model
        from index.errors import UsageError

        if resume and jsonl is None:
            raise UsageError("--resume goes on in the file of --jsonl: name it too")
        bound = level_bound(fail_on)
        files = _Files.checked(html=html, csv=csv, jsonl=jsonl, index=index)
        if jsonl is not None and not resume:
            _refuse_foreign(jsonl)
        allowed = policy_of(allow_licence, policy)
        model = load_model(scoring) if scoring is not None else None
        options = ScanOptions(workers=workers, resume=resume, processes=True)
        cluster = None if ray is None else _Cluster(ray, device)
        own = device if cluster is None else None
        with Detector.open(index, policy=allowed, scoring=model, device=own) as detector:
            require_references(detector.index, index)
            report = _scan(output, detector, paths, files, options, cluster)
            _deliver(output, report, files, fail_on=bound, limit=limit)
            if not detector.index.can_verify:
                output.note(UNVERIFIABLE)


def report(
    findings: Annotated[
        Path,
        typer.Argument(
            metavar="FINDINGS.jsonl", help="As written by detector scan --jsonl.", show_default=False
        ),
    ],
    *,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="FOLDER",
            autocompletion=completing.indexes,
            help="The index of that scan: with it, a page shows the training images too.",
            show_default=False,
        ),
    ] = None,
    fail_on: FailOn = "3",
    html: Html = None,
    csv: Csv = None,
    allow_licence: AllowLicence = None,
    policy: PolicyFile = None,
    limit: Limit = 20,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge and show findings again."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output, ExitStack() as stack:
        from detector.scan import read_report
        from index.errors import UsageError
        from index.locations import open_index

        bound = level_bound(fail_on)
        files = _Files.checked(html=html, csv=csv, jsonl=findings, index=index, read_only=True)
        opened = stack.enter_context(open_index(index)) if index is not None else None
        read = read_report(findings, index=opened, policy=policy_of(allow_licence, policy))
        if not len(read):
            raise UsageError(f"{findings}: holds no findings. Make some: detector scan … --jsonl {findings}")
        _deliver(output, read, files, fail_on=bound, limit=limit)


def demo(*, quiet: Quiet = False, as_json: Json = False, debug: Debug = False) -> None:
    """Try it on sample pictures."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.detector import Detector
        from detector.scan import ScanOptions
        from index.build import BuildOptions

        artworks, generated = _samples()
        index, page = DEMO_FOLDER / "art.index", DEMO_FOLDER / "report.html"
        files = _Files(html=page, jsonl=DEMO_FOLDER / "findings.jsonl", index=index)
        DEMO_FOLDER.mkdir(exist_ok=True)
        output.note(f"$ {command_line('detector', 'index', 'build', artworks, '--out', index)}")
        fill_index(output, [str(artworks)], index, None, BuildOptions())
        scans = command_line("detector", "scan", generated, "--index", index, "--html", page)
        output.note(f"\n$ {scans}")
        with Detector.open(index) as detector:
            scanned = _scan(output, detector, [generated], files, ScanOptions())
            _deliver(output, scanned, files, fail_on=NEVER, limit=20)
        output.note("Your own pictures: detector index build YOUR-ARTWORKS --out my.index")


@dataclasses.dataclass(frozen=True)
class _Cluster:
    """A Ray cluster that scans, and where neural descriptors run there."""

    address: str
    device: str | None


@dataclasses.dataclass(frozen=True)
class _Files:
    """Where findings go, and the index they come from."""

    html: Path | None = None
    csv: Path | None = None
    jsonl: Path | None = None
    index: Path | None = None

    @classmethod
    def checked(
        cls,
        *,
        html: Path | None,
        csv: Path | None,
        jsonl: Path | None,
        index: Path | None,
        read_only: bool = False,
    ) -> _Files:
        """Make sure, before any work is done, that all can be written and none is another.

        Args:
            html: Page.
            csv: Table.
            jsonl: Findings.
            index: Index folder.
            read_only: The findings are only read.
        """
        from index.errors import UsageError

        named: dict[Path, str] = {}
        if read_only and jsonl is not None:
            named[jsonl.resolve()] = "the findings"
        for option, path in (("--html", html), ("--csv", csv), ("--jsonl", None if read_only else jsonl)):
            if path is None:
                continue
            writable_target(path, option, index=index)
            other = named.setdefault(path.resolve(), option)
            if other != option:
                raise UsageError(f"{option} {path}: is the file of {other} too. Name another one")
        return cls(html, csv, jsonl, index)


def _samples() -> tuple[Path, Path]:
    from index.errors import UsageError

    for folder in SAMPLES:
        pair = folder / "artworks", folder / "generated"
        if (pair[0] / "metadata.csv").is_file() and pair[1].is_dir():
            return _near(pair[0]), _near(pair[1])
    raise UsageError(
        "the sample pictures that come with the package are gone. Install it anew, or take your own pictures: "
        "detector index build ARTWORKS --out art.index"
    )


def _near(path: Path) -> Path:
    """Return a path as seen from here, where it lies below."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _refuse_foreign(path: Path) -> None:
    """Refuse to begin a file anew that holds something else than findings."""
    from detector.reports.jsonl import read_findings
    from index.errors import SourceError, UsageError

    if path.exists() and path.stat().st_size:
        try:
            next(read_findings(path, on_torn=lambda line: None), None)
        except SourceError as error:
            raise UsageError(
                f"--jsonl {path}: holds something else than findings. Name a new file"
            ) from error


def _scan(
    output: Output,
    detector: Detector,
    paths: list[Path],
    files: _Files,
    options: ScanOptions,
    cluster: _Cluster | None = None,
) -> ScanReport:
    """Scan with progress, and with what to say when interrupted."""
    if files.jsonl is None:
        output.on_interrupt = (
            "Interrupted. The findings were not kept. To be able to go on after an interruption, keep them:\n"
            f"  {this_command('--jsonl', 'findings.jsonl')}"
        )
    else:
        output.on_interrupt = (
            f"Interrupted. What was found is kept in {files.jsonl}. Go on with:\n  {this_command('--resume')}"
        )
    with output.progress("Scanning") as ticker:

        def told(progress: Progress) -> None:
            note = f"{progress.flagged:,} found" if progress.flagged else ""
            ticker.update(progress.done, progress.total, note)

        wanted = list(dict.fromkeys(paths))
        if cluster is None:
            return detector.scan(wanted, jsonl=files.jsonl, options=options, on_progress=told)
        from detector import distributed

        return distributed.scan(
            detector,
            wanted,
            address=cluster.address,
            device=cluster.device,
            jsonl=files.jsonl,
            options=options,
            on_progress=told,
        )


class _Tally:
    """Counts over findings as they pass: one reading of the file for all that a terminal shows."""

    def __init__(self, fail_on: int) -> None:
        self.fail_on = fail_on
        self.flagged = 0
        self.unreadable: list[ImageReport] = []

    def over(self, reports: ScanReport) -> Iterator[ImageReport]:
        """Pass findings on, counting."""
        from detector.report import Verdict

        for found in reports:
            self.flagged += found.level >= self.fail_on
            if found.verdict is Verdict.UNREADABLE and len(self.unreadable) < SHOWN_FILES:
                self.unreadable.append(found)
            yield found


def _deliver(output: Output, findings: ScanReport, files: _Files, *, fail_on: int, limit: int) -> None:
    """Show findings, write them, set the exit code, and say what to do next."""
    from detector.reports.terminal import findings_table

    tally = _Tally(fail_on)
    table = findings_table(tally.over(findings), limit=limit)
    summary = findings.summary
    if tally.flagged:
        output.outcome = FLAGGED
    elif summary.unreadable == summary.queries:
        output.outcome = FAILED
    if output.as_json:
        _write_files(output, findings, files)
        _stream_json(output, findings, tally, files)
        return
    found = summary.replica + summary.possible + summary.cleared > 0
    if found:
        output.say(table, "")
    _say_summary(output, findings, tally)
    _write_files(output, findings, files)
    _say_next(output, files, found=found)


def _say_summary(output: Output, findings: ScanReport, tally: _Tally) -> None:
    from detector.reports.terminal import summary_text
    from detector.reports.wording import plural, reason_in_words

    summary = findings.summary
    output.say(summary_text(summary))
    if tally.fail_on not in (3, NEVER):
        output.say(
            f"{plural(tally.flagged, 'generated picture')} of level {tally.fail_on} or higher, not cleared."
        )
    if summary.unreadable:
        output.say("Could not be read:")
        for each in tally.unreadable:
            output.say(f"  {printable(each.query)}: {reason_in_words(each.reason or 'unreadable')}")
        if summary.unreadable > len(tally.unreadable):
            output.say(f"  … and {summary.unreadable - len(tally.unreadable):,} more")
    if summary.unreadable < summary.queries:
        output.say(OUTSIDE, style="dim" if summary.replica else "")


def _write_files(output: Output, findings: ScanReport, files: _Files) -> None:
    if files.jsonl is not None and (files.html or files.csv):
        rest = ("--index", files.index) if files.index is not None else ()
        page = ("--html", files.html) if files.html is not None else ("--csv", files.csv or "")
        again = command_line("detector", "report", files.jsonl, *rest, *page)
        output.on_interrupt = (
            f"Interrupted. The findings are kept in {files.jsonl}. Write them with:\n  {again}"
        )
    if files.html is not None:
        findings.save_html(files.html, command=command_line("detector", *sys.argv[1:]))
    if files.csv is not None:
        findings.save_csv(files.csv)


def _say_next(output: Output, files: _Files, *, found: bool) -> None:
    if files.csv is not None:
        output.note(f"Wrote {files.csv}: open it in a spreadsheet.")
    if files.html is not None:
        output.note(f"Open {files.html} in a browser to see the findings side by side.", style="bold")
    elif found and files.jsonl is not None:
        rest = ("--index", files.index) if files.index is not None else ()
        page = command_line("detector", "report", files.jsonl, *rest, "--html", "report.html")
        output.note(f"Next, see them side by side: {page}")
    elif found:
        output.note("Next, see them side by side: add --html report.html")


def _stream_json(output: Output, findings: ScanReport, tally: _Tally, files: _Files) -> None:
    """Write findings and counts as one JSON value; memory does not grow with their number."""
    import json

    from detector.report import FORMAT_VERSION
    from detector.reports.jsonl import findings_line

    head = {
        "format_version": FORMAT_VERSION,
        "index": os.fspath(files.index) if files.index is not None else None,
        "summary": dataclasses.asdict(findings.summary),
        "fail_on": None if tally.fail_on == NEVER else tally.fail_on,
        "flagged": tally.flagged,
    }
    output.raw(json.dumps(head, indent=2).removesuffix("\n}").encode() + b',\n  "findings": [')
    before = b"\n"
    for found in findings:
        output.raw(before + findings_line(found).rstrip(b"\n"))
        before = b",\n"
    output.raw(b"\n  ]\n}\n")
