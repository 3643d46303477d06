"""`detector train`: a tower of your own for copy detection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import Output
from detector.commands.options import Debug, Device, Json, Quiet

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.training import TrainReport

COURSE_PANEL = "Course of the training"

# The command line names its options one by one, so this function has more parameters than others may.


def train(
    *,
    images: Annotated[
        list[Path],
        typer.Option(
            "--images",
            metavar="SRC",
            help="Folder, list or tar shard of pictures that you may train on; repeat it for several.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where the tower goes. Its checkpoint lies there too: the same command goes on after a stop.",
        ),
    ] = Path("tower"),
    init: Annotated[
        str,
        typer.Option(
            "--init",
            metavar="bundled|none|FOLDER",
            help="What to begin from: the bundled tower, random weights, or a tower trained before.",
        ),
    ] = "bundled",
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes",
            metavar="N",
            help="How long to train; a tower from random weights needs hours.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = 30.0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Steps instead of minutes: the same on every computer.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            "--batch", metavar="N", help="Pictures a step, three views of each.", rich_help_panel=COURSE_PANEL
        ),
    ] = 112,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="N",
            help="Highest learning rate. Left out: 0.0004 from a trained tower, 0.0015 from random weights.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Of every random draw.", rich_help_panel=COURSE_PANEL),
    ] = 20261121,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a tower for copy detection."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.sources import open_source

        for source in images:
            open_source(source)  # a mistyped name is told before PyTorch is loaded, which takes seconds
        from detector.training import TrainOptions
        from detector.training import train as run
        from index.torch_tower import choose_device

        options = TrainOptions(
            minutes=minutes,
            steps=steps,
            batch=batch,
            rate=rate,
            seed=seed,
            device=str(choose_device("detector train", device)),
        )
        with output.progress("Training", unit="pictures read") as ticker:

            def show(what: str, how_far: float, word: str) -> None:
                if what == "read":
                    ticker.update(int(how_far), None)
                    return
                total = round(minutes * 60) if steps is None else steps
                ticker.unit = "seconds" if steps is None else "steps"
                ticker.update(round(how_far * total), total, word)

            start = None if init == "none" else init
            report = run(images, out, init=start, options=options, on_progress=show)
        output.json(report.to_dict())
        output.say(_table(report), "")
        for path, reason in report.rejected[:5]:
            output.note(f"Left out {path}: {reason}")
        if len(report.rejected) > 5:
            output.note(f"… and {len(report.rejected) - 5} more; {out}/training.json names all.")
        output.note(f"Use it: detector index build … --descriptors pdq,phash,keypoints,{report.descriptor}")


def _table(report: TrainReport) -> RenderableType:
    from rich.table import Table

    first, last = report.checks[0], report.checks[-1]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column(f"on {report.held_out} pictures held out, strongly edited")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    recall, precision = report.results["recall as saved"], report.results["µAP as saved"]
    table.add_row("own original is the nearest", f"{first.recall:.1%}", f"{recall:.1%}")
    table.add_row("average precision (µAP)", f"{first.average_precision:.3f}", f"{precision:.3f}")
    table.add_row("loss", f"{first.held_out_loss:.3f}", f"{last.held_out_loss:.3f}")
    return table
