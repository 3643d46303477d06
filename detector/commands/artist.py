"""`detector artist`: which of an artist's works are in a training set, how often, and what gives them back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import FAILED, FLAGGED, Output, command_line, this_command
from detector.commands.options import OUTPUT_PANEL, Debug, IndexFolder, Json, Limit, Quiet, writable_target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.artists.report import FoundWork, LookupReport

LISTED = 5
"""Names of pictures, lines and spellings that a sentence lists; the files have all of them."""


# The command line names its options one by one, so this function has more parameters than others may.


def artist(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="The artist, in any usual spelling: accents, case, “Last, First” and initials make no difference. "
            "A handle begins with @.",
            show_default=False,
        ),
    ] = "",
    *,
    index: IndexFolder,
    works: Annotated[
        list[Path] | None,
        typer.Option(
            "--works",
            metavar="PATH",
            help="Pictures of the works, or folders of them. A photograph, a part or another edit of a work finds "
            "it. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    source_contains: Annotated[
        str,
        typer.Option(
            "--source-contains",
            metavar="TEXT",
            help="Works whose recorded source has this in it, such as mysite.example.",
            show_default=False,
        ),
    ] = "",
    licence: Annotated[
        str,
        typer.Option(
            "--licence",
            metavar="LICENCE",
            help="Your own licence, such as CC-BY-NC-4.0 or “all rights reserved”: shows where another is recorded.",
            show_default=False,
        ),
    ] = "",
    scans: Annotated[
        list[Path] | None,
        typer.Option(
            "--scans",
            metavar="PATH",
            help="Saved findings of [b]detector scan --jsonl[/b], or the folder of a [b]detector audit[/b]: shows "
            "which generated pictures replicate the works. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.zip",
            help="Write the evidence to take away: a page, the pictures, JSON, digests, and how to verify it.",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the page alone; it prints well.",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    limit: Limit = 20,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look up an artist's works."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.artists import lookup
        from detector.artists.findings import Findings
        from detector.detector import Detector
        from index.errors import UsageError

        if not (name.strip() or works or source_contains.strip()):
            raise UsageError(
                "nothing to look up. Give your name, --works with pictures of your works, or --source-contains"
            )
        for option, path in (("--bundle", bundle), ("--html", html)):
            if path is not None:
                writable_target(path, option, index=index)
        if bundle is not None and html is not None and bundle.resolve() == html.resolve():
            raise UsageError(f"--html {html}: is the file of --bundle too. Name another one")
        _mind_licence(licence, output)
        findings = Findings.read(scans or [])
        with Detector.open(index) as detector:
            with output.progress("Checking") as ticker:
                report = lookup(
                    detector,
                    name,
                    pictures=works or [],
                    source_contains=source_contains,
                    licence=licence,
                    findings=findings,
                    command=this_command(),
                    on_progress=lambda done, total: ticker.update(done, total),
                )
            if bundle is not None:
                report.save_bundle(bundle, index=detector.index)
            if html is not None:
                report.save_html(html, index=detector.index)
        if any(work.verified for work in report.works):
            output.outcome = FLAGGED
        elif not report.works and report.pictures and len(report.unreadable) == len(report.pictures):
            output.outcome = FAILED
        output.json(report.to_dict())
        _say(report, output, limit)
        _warn(report, output)
        for path in (bundle, html):
            if path is not None:
                output.note(f"Written: {path}")
        if report.works and bundle is None and html is None:
            output.note(f"To take the evidence away: {this_command('--bundle', 'evidence.zip')}")


def _mind_licence(licence: str, output: Output) -> None:
    """Say where a licence is none that is known, so that it can only be compared as text."""
    from detector.licences import normalise

    if licence.strip() and not normalise(licence).id:
        output.note(
            f"note: --licence {licence}: is no licence known here, so it is compared word by word. Known are SPDX ids "
            "such as CC-BY-NC-4.0, and “all rights reserved”.",
            style="yellow",
        )


def _say(report: LookupReport, output: Output, limit: int) -> None:
    from rich.text import Text

    output.say(Text(report.summary, style="bold"))
    if report.artists:
        output.say(Text(f"The name was taken to mean: {_listed(report.artists, separator='; ')}."))
    if report.works:
        output.say("", _table(report, limit))
    if report.unmatched:
        subject = "picture" if len(report.unmatched) == 1 else "pictures"
        output.say(
            "",
            Text(f"Nothing was found for {len(report.unmatched):,} {subject}: {_listed(report.unmatched)}."),
        )
    if report.suggestions and not report.artists:
        first = command_line("detector", "artist", report.suggestions[0], "--index", Path(report.index.path))
        output.say(
            "", Text(f"Like it, in this index: {_listed(report.suggestions, most=8, separator='; ')}.")
        )
        output.say(Text(f"Look one of them up: {first}"))
    elif report.suggestions:
        output.say("", Text(f"Like it, and not counted: {_listed(report.suggestions, separator='; ')}."))
    differing = [
        Text(f"{_title(work)}: {_plain(words)}", style="yellow")
        for work in report.works[:limit]
        for words in dict.fromkeys(each.words for each in work.contradictions)
    ]
    if differing:
        output.say("", *differing)
    if report.works or report.name or report.source_contains:
        output.say("", Text(_closing(report), style="dim"))


def _closing(report: LookupReport) -> str:
    from detector.artists.words import NO_FINDING

    if not report.works:
        return "The index holds what it was built from, and a name is found only where one is recorded."
    return NO_FINDING


def _warn(report: LookupReport, output: Output) -> None:
    """Say on stderr, also when quiet, what could not be read: nothing is left out in silence."""
    from detector.reports.wording import plural, reason_in_words

    for name, reason in report.unreadable[:LISTED]:
        output.warn(f"{name}: {reason_in_words(reason)}", style="yellow")
    if len(report.unreadable) > LISTED:
        output.warn(
            f"… and {len(report.unreadable) - LISTED:,} more pictures could not be read", style="yellow"
        )
    for file, number, reason in report.skipped[:LISTED]:
        output.warn(f"{file}: line {number} {reason}; it was left out", style="yellow")
    if len(report.skipped) > LISTED:
        output.warn(f"… and {plural(len(report.skipped) - LISTED, 'more line')} left out", style="yellow")


def _table(report: LookupReport, limit: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from detector.reports.terminal import LEVEL_STYLES
    from detector.reports.wording import level_in_words

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("work", overflow="fold")
    table.add_column("in the training set", overflow="fold")
    if report.findings:
        table.add_column("generated pictures", overflow="fold")
    if report.pictures:
        table.add_column("your picture", overflow="fold")
    table.add_column("licence recorded", overflow="fold")
    for work in report.works[:limit]:
        cells: list[RenderableType] = [Text(_title(work)), Text(_copies(work))]
        if report.findings:
            best = max((replica.level for replica in work.replicas), default=0)
            cells.append(Text(_replicas(work), style=LEVEL_STYLES.get(best, "")))
        if report.pictures:
            level = Text("–", style="dim")
            if work.match is not None:
                level = Text(level_in_words(work.match.level), style=LEVEL_STYLES.get(work.match.level, ""))
                level.append(f"\n{_last_part(work.picture)}", style="not bold dim default")
            cells.append(level)
        cells.append(_licences(work))
        table.add_row(*cells)
    beyond = len(report.works) - limit
    return Group(table, Text(f"… and {beyond:,} more", style="dim")) if beyond > 0 else table


def _title(work: FoundWork) -> str:
    from detector.reports.wording import described, plain, title_of

    place = described(work.reference.occurrences)
    by = f" — {plain(place.artist)}" if place.artist.strip() else ", artist not recorded"
    return plain(title_of(place)) + by


def _copies(work: FoundWork) -> str:
    from detector.reports.wording import plural

    places, near = len(work.reference.occurrences), work.near_duplicates
    said = "once" if places == 1 else f"{places:,} places"
    return said + (f"\n{plural(near, 'near-duplicate')}" if near else "")


def _replicas(work: FoundWork) -> str:
    from detector.reports.wording import level_in_words

    if not work.replicas:
        return "–"
    best = level_in_words(work.replicas[0].level)
    return best if len(work.replicas) == 1 else f"{len(work.replicas):,}, closest {best}"


def _licences(work: FoundWork) -> RenderableType:
    from rich.text import Text

    from detector.artists.contradictions import is_recorded
    from detector.reports.wording import NOT_RECORDED, plain, shortened

    names = dict.fromkeys(
        shortened(plain(place.licence.strip()), 40) if is_recorded(place) else NOT_RECORDED
        for place in work.reference.occurrences
    )
    cell = Text("\n".join(names))
    return cell.append("\nis not yours", style="yellow") if work.contradictions else cell


def _listed(names: Iterable[str], *, most: int = LISTED, separator: str = ", ") -> str:
    listed = [_plain(name) for name in names]
    more = f"{separator}and {len(listed) - most:,} more" if len(listed) > most else ""
    return separator.join(listed[:most]) + more


def _last_part(path: str) -> str:
    from detector.reports.wording import file_name

    return _plain(file_name(path))


def _plain(text: str) -> str:
    from detector.reports.wording import plain

    return plain(text)
