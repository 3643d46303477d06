"""`detector duplicates`: what a training set holds more than once, and which files to drop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands import completing
from detector.commands.console import Output, this_command
from detector.commands.options import (
    OUTPUT_PANEL,
    Debug,
    IndexFolder,
    Json,
    Quiet,
    Scoring,
    writable_target,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.duplicates import DuplicateCluster, DuplicateMember, DuplicateReport

SHOWN_MEMBERS = 6
"""Pictures of a group that the table names."""


# The command line names its options one by one, so this function has more parameters than others may.


def duplicates(
    *,
    index: IndexFolder,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write one page with the pictures of each group side by side.",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help="Write one JSON line a group.",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        Path | None,
        typer.Option(
            "--drop",
            metavar="FILE",
            help="Write the files to drop, one path a line; a path with a line break is a JSON string. "
            "Nothing is deleted.",
            rich_help_panel=OUTPUT_PANEL,
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="best|first",
            autocompletion=completing.one_of("best", "first"),
            help="Which of several copies stays: the one with most pixels, then the best credits; or the "
            "first in the index.",
        ),
    ] = "best",
    parts: Annotated[
        bool | None,
        typer.Option(
            "--parts/--no-parts",
            help="Seek crops and pasted parts too. By default up to 5,000 pictures: it takes longer than "
            "whole pictures.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="ROWS",
            min=0,
            help="Groups shown in the terminal; the files hold all of them.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = 20,
    scoring: Scoring = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what a training set holds more than once."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.duplicates import MAX_REFERENCES_WITH_PARTS, find_duplicates
        from detector.scoring import load_model
        from index.errors import UsageError

        named: dict[Path, str] = {}
        for option, path in (("--html", html), ("--jsonl", jsonl), ("--drop", drop)):
            if path is not None:
                writable_target(path, option, index=index)
                other = named.setdefault(path.resolve(), option)
                if other != option:
                    raise UsageError(f"{option} {path}: is the file of {other} too. Name another one")
        model = load_model(scoring) if scoring is not None else None
        with output.progress("Comparing") as ticker:
            report = find_duplicates(
                index,
                parts=parts,
                keep=keep,
                scoring=model,
                on_progress=lambda doing, done, total: ticker.update(done, total, doing),
            )
        output.json(report.to_dict())
        if report.clusters and limit:
            output.say(_table(report, limit), "")
        output.say(report.summary, style="bold")
        if report.clusters:
            output.say(report.clusters[0].meaning)
        _write(output, report, html=html, jsonl=jsonl, drop=drop)
        if parts is None and not report.parts and report.references > MAX_REFERENCES_WITH_PARTS:
            output.note("Only whole pictures were compared. Crops and pasted parts too: add --parts")
        if report.dropped_paths and drop is None:
            output.note(f"A list of the files to drop: {this_command('--drop', 'drop.txt')}")


def _write(
    output: Output, report: DuplicateReport, *, html: Path | None, jsonl: Path | None, drop: Path | None
) -> None:
    if jsonl is not None:
        report.save_jsonl(jsonl)
        output.note(f"Wrote {jsonl}")
    if drop is not None:
        report.save_drop_list(drop)
        output.note(f"Wrote {drop}, nothing was deleted")
    if html is not None:
        report.save_html(html, command=this_command())
        output.note(f"Wrote {html}")


def _table(report: DuplicateReport, limit: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("training image", overflow="fold")
    table.add_column("file", overflow="fold")
    table.add_column("how", overflow="fold")
    for cluster in report.clusters[:limit]:
        for number, member in enumerate(cluster.members[:SHOWN_MEMBERS]):
            first = [str(cluster.occurrences), _work(member)] if number == 0 else ["", ""]
            table.add_row(*first, *_cells(member, cluster), end_section=False)
        more = len(cluster.members) - SHOWN_MEMBERS
        if more > 0:
            table.add_row("", "", Text(f"… and {more:,} more", style="dim"), "")
    further = len(report) - limit
    if further > 0:
        return Group(table, Text(f"… and {further:,} more groups", style="dim"))
    return table


def _work(member: DuplicateMember) -> RenderableType:
    from rich.text import Text

    from detector.reports.wording import NOT_RECORDED, described, plain, shortened, title_of

    place = described(member.reference.occurrences)
    text = Text(shortened(plain(title_of(place)), 60))
    if place.artist.strip():
        text.append(f" — {shortened(plain(place.artist), 40)}")
    licence = shortened(plain(place.licence), 40) or f"licence {NOT_RECORDED}"
    return text.append(f", {licence}", style="dim")


def _cells(member: DuplicateMember, cluster: DuplicateCluster) -> list[RenderableType]:
    from rich.text import Text

    from detector.duplicates import RELATION_WORDS
    from detector.reports.wording import file_name, plain

    places = member.reference.occurrences
    path = member.kept_path or (places[0].path if places else "")
    name = Text(plain(file_name(path)), style="" if member.kept else "yellow")
    if len(places) > 1:
        name.append(f" and {len(places) - 1:,} more places", style="dim")
    tie = member.tie
    said = Text("keep" if member.kept else "drop", style="green" if member.kept else "yellow")
    if tie is None:
        compared = "" if member.kept else ", the others are compared with it"
        words = ", the same file" if len(cluster.members) == 1 else compared
    else:
        words = (
            f", {RELATION_WORDS[tie.relation]}{', mirrored' if tie.mirrored else ''}, score {tie.score:.2f}"
        )
    return [name, said.append(words, style="default")]
