"""The command line, `detector`: what commands there are; each is in `detector.commands`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
from typer.core import TyperGroup

from detector import __version__
from detector.commands import (
    artist,
    auditing,
    calibrating,
    checking,
    doctor,
    duplicates,
    indexing,
    scanning,
    serving,
    training,
)
from detector.commands.console import INTERRUPTED, Output
from detector.commands.options import Debug, Json, Quiet, taught

MAIN_PANEL = "Find copies"
INDEX_PANEL = "Training images"
OTHER_PANEL = "Other"


class _InThisOrder(TyperGroup):
    """Lists commands in the order in which they are used; Typer would put the group `index` last."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of all commands."""
        first = [name for name in ("index",) if name in self.commands]
        return first + [name for name in self.commands if name not in first]


app = typer.Typer(
    cls=_InThisOrder,
    help="Says of each generated picture whether it replicates a training image, which one, where, and how "
    "sure that is.\n\n\bBegin with:\n"
    "  [cyan]detector demo[/cyan]                                      see it on sample pictures\n"
    "  [cyan]detector index build artworks --out art.index[/cyan]      index training images\n"
    "  [cyan]detector scan generated --index art.index[/cyan]          check generated ones\n\n"
    "\bExit codes:\n  0 nothing flagged, 1 flagged, 2 usage or data error, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # `Output` says what went wrong, in one line
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Check folders of generated pictures against an index. Shows what replicates a training image, the "
        "closest first, with its level (5 verbatim to 2 resemblance), the part that is shared, the artist "
        "and the licence; writes a page, a table or JSON lines on request. Exits with 1 if a match of level "
        "3 or higher was found that --allow-licence or --policy does not clear.",
        "detector scan generated --index art.index --html report.html",
        "detector scan generated --index art.index --jsonl findings.jsonl --resume",
        "detector scan generated --index art.index --fail-on 4 --allow-licence CC0-1.0",
    ),
)(scanning.scan)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Check single generated pictures, with the evidence in words. For each match: what is shared and "
        "where, what was measured, whose work it is and what its licence asks for.",
        "detector check picture.png --index art.index",
        "detector check picture.png --index art.index --json",
    ),
)(checking.check)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Judge and show findings again, without scanning. With another bound, other cleared licences, as "
        "another page or table. Without --allow-licence and --policy, what the scan cleared stays cleared; "
        "with them, they alone count.",
        "detector report findings.jsonl --fail-on 2",
        "detector report findings.jsonl --index art.index --html report.html",
        "detector report findings.jsonl --allow-licence public-domain --csv findings.csv",
    ),
)(scanning.report)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Try it on sample pictures. Indexes the sample artworks, scans the sample generated pictures and "
        "writes a page, all in the folder detector-demo/ here. Exits with 0 although copies are found.",
        "detector demo",
    ),
)(scanning.demo)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Audit a model: does it give its training images back? Generates from the captions of works it was "
        "trained on, and reconstructs the works themselves, beside works that it never saw; writes a page, "
        "plots and every figure with the exact model and seeds. Stop and go on with the same command. Exits "
        "with 1 if a work is memorised.",
        "detector audit my-model --index art.index --controls heldout",
        "detector audit my-model --index art.index --works training.csv --seeds 16",
        "detector audit base-model --lora style.safetensors --index art.index --controls heldout",
    ),
)(auditing.audit)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Look up an artist's works: which are in a training set, how often, and what gives them back. By name, by "
        "pictures of the works, by source, or by several of these; says where a recorded licence is not the "
        "artist's own, which generated pictures of saved scans and audits replicate a work, and writes the evidence "
        "to take away. Exits with 1 if a work was found; what only resembles a picture, not verified, is shown and "
        "does not count.",
        'detector artist "Abara, Lien" --index art.index --scans findings.jsonl --bundle evidence.zip',
        "detector artist --works my-pictures --index art.index --licence CC-BY-NC-4.0",
        "detector artist --source-contains mysite.example --index art.index",
    ),
)(artist.artist)
app.command(
    rich_help_panel=MAIN_PANEL,
    **taught(
        "Serve the artists' pages and a REST API over an index. In the browser, artists look up their works by "
        "name or by picture and ask for removal; other programs send pictures and get findings as JSON. Uploads "
        "are checked and forgotten: never written to disk, never added to an index. Listens at this machine's own "
        "address alone unless told otherwise, and picks up what is added to the index.",
        "detector serve --index art.index --open",
        "detector serve --index art.index --scans findings.jsonl",
        "detector serve --index art.index --host 0.0.0.0 --token-file token.txt",
    ),
)(serving.serve)
app.add_typer(indexing.app, name="index", rich_help_panel=INDEX_PANEL)
app.command(
    rich_help_panel=INDEX_PANEL,
    **taught(
        "List what a training set holds more than once. Repeated pictures are the ones that diffusion models "
        "memorise: shows the groups, the largest first, and how each picture repeats another; writes a page, "
        "JSON lines, and a list of files to drop before training. Deletes nothing.",
        "detector duplicates --index art.index --html duplicates.html",
        "detector duplicates --index art.index --drop drop.txt --keep first",
    ),
)(duplicates.duplicates)
app.command(
    rich_help_panel=OTHER_PANEL,
    **taught(
        "Calibrate an index against itself, or the score on your own pairs. With --index alone, measures how "
        "near the best match of an unrelated picture comes in this index, which is what p-values stand on "
        "(a build does so at its end). With --pairs, fits the score on pictures you have labelled, and prints "
        "from which score on 90 % and 99 % of matches are true copies.",
        "detector calibrate --index art.index",
        "detector calibrate --pairs pairs.csv --index art.index --out scoring.json",
        "detector scan generated --index art.index --scoring scoring.json",
    ),
)(calibrating.calibrate)
app.command(
    rich_help_panel=OTHER_PANEL,
    **taught(
        "Train a tower for copy detection on your own pictures, from the bundled one or from nothing. Makes "
        "edited copies of them without end (crops, parts in other pictures, text, filters, what generators do) "
        "and teaches the tower which picture each one shows. A tenth is held out and measured on. Stop and "
        "go on with the same command. The result is a folder that an index takes as a descriptor.",
        "detector train --images artworks --out tower",
        "detector train --images artworks --images shard-0000.tar --minutes 120 --out tower",
        "detector index build artworks --out art.index --descriptors pdq,phash,keypoints,clip:local-dir:tower",
    ),
)(training.train)
app.command(
    rich_help_panel=OTHER_PANEL,
    **taught(
        "Say what this installation can do. Tries the installed packages, finds devices and weights, indexes two "
        "made-up pictures and finds one of them again; says what is missing for which use, and the next step. "
        "Nothing in it names you: put --json into a bug report. Exits with 1 if the main job, or the index "
        "given, does not work.",
        "detector doctor",
        "detector doctor --index art.index",
        "detector doctor --json",
    ),
)(doctor.doctor)


@app.command(rich_help_panel=OTHER_PANEL, **taught("Show the version.", "detector version"))
def version(*, quiet: Quiet = False, as_json: Json = False, debug: Debug = False) -> None:
    """Show the version."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        output.json({"version": __version__})
        output.say(f"detector {__version__}")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"detector {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            # A terminal or file of another encoding shows escapes instead of stopping the command.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app(prog_name="detector")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
