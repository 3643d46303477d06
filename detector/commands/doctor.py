"""`detector doctor`: what this installation can do, what is missing for what, and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands import completing
from detector.commands.console import FLAGGED, Output
from detector.commands.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from detector.diagnosis import Diagnosis, Fact

AREAS = {
    "program": "Program",
    "packages": "Packages",
    "device": "This machine",
    "weights": "Weights",
    "uses": "Further uses",
    "trial": "Trial",
    "index": "Index",
}

MARKS = {"good": "ok", "missing": "–", "warning": "!", "broken": "broken"}
STYLES = {"good": "green", "missing": "dim", "warning": "yellow", "broken": "red"}


def doctor(
    *,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="INDEX",
            autocompletion=completing.indexes,
            help="Look at this index too: is it there, and can it be searched with what is installed?",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this installation can do."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.diagnosis import diagnose

        found = diagnose(index, on_progress=output.note)
        if not found.works:
            output.outcome = FLAGGED
        output.json(found.to_dict())
        output.say(_table(found))
        output.say(_in_a_sentence(found))


def _table(found: Diagnosis) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    area = ""
    for fact in found.facts:
        if fact.area != area:
            area = fact.area
            table.add_row(Text(AREAS[area], style="bold"))
        table.add_row(*_row(fact))
    return table


def _row(fact: Fact) -> tuple[Any, ...]:
    from rich.text import Text

    from detector.reports.wording import plain

    said = plain(fact.value) + (f"\n→ {plain(fact.step)}" if fact.step else "")
    mark = Text("  " + MARKS[fact.state.value], style=STYLES[fact.state.value])
    return mark, Text(plain(fact.name)), Text(said)


def _in_a_sentence(found: Diagnosis) -> str:
    if not found.works:
        broken = sum(fact.state.value == "broken" for fact in found.facts)
        return f"\n{broken} of these must be mended first: see the lines marked “broken”."
    return "\nThe main job works: indexing pictures and checking others against them."
