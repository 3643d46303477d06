"""`detector calibrate`: an index against itself, or the score on your own labelled pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands import completing
from detector.commands.console import Output
from detector.commands.options import Debug, Device, Json, Quiet, writable_target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.calibrate import CalibrationReport
    from index.calibration import Null

PAIRS_PANEL = "Fit the score on your own pairs"


def calibrate(
    *,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="FOLDER",
            autocompletion=completing.indexes,
            help="Index folder. Alone: how near unrelated pictures come in it is measured anew and stored.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="CSV with the columns query, reference, label (1 copy, 0 not), measured against --index; or "
            "JSON lines with query, evidence, label.",
            rich_help_panel=PAIRS_PANEL,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where the fitted model goes; use it with scan --scoring FILE.",
            rich_help_panel=PAIRS_PANEL,
        ),
    ] = Path("scoring.json"),
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw the reliability diagram (.svg, .pdf or .png).",
            rich_help_panel=PAIRS_PANEL,
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        float,
        typer.Option(
            "--precision",
            metavar="SHARE",
            min=0.5,
            max=1.0,
            help="Share of true copies among matches from which the model's own bound is set.",
            rich_help_panel=PAIRS_PANEL,
        ),
    ] = 0.99,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Calibrate an index, or fit the score on labelled pairs."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.errors import UsageError

        if pairs is not None:
            _fit(output, pairs, index, out=out, plot=plot, precision=precision, device=device)
        elif plot is not None or out != Path("scoring.json"):
            raise UsageError(
                "--out and --plot are for the score, which is fitted on labelled pairs. Add --pairs FILE"
            )
        elif index is not None:
            _measure(output, index, device)
        else:
            raise UsageError("calibrate needs --index FOLDER, or --pairs FILE, or both")


def _measure(output: Output, index: Path, device: str | None) -> None:
    from index.reference_index import ReferenceIndex

    with ReferenceIndex.open(index, writable=True, device=device) as opened:
        nulls = opened.calibrate()
        size = len(opened)
    output.json({name: null.to_dict() for name, null in nulls.items()})
    if not nulls:
        output.say(f"{index}: holds {size} references, too few to say how near unrelated pictures come.")
        return
    output.say(_nulls_table(nulls), "")
    output.say(f"p-values of matches in {index} are read off these from now on.")


def _nulls_table(nulls: dict[str, Null]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("descriptor")
    table.add_column("best unrelated match, usually")
    table.add_column("one in 1,000 comes as near as")
    table.add_column("measured on", justify="right")
    for name, null in nulls.items():
        rare = null.location + null.scale * 6.907  # -ln(-ln(1 - 1/1000))
        table.add_row(
            name, _nearness(name, null.location), _nearness(name, rare), f"{null.samples:,} references"
        )
    return table


def _nearness(name: str, similarity: float) -> str:
    bits = {"pdq": 256, "phash": 64}.get(name)
    if bits is None:
        return f"cosine {similarity:.2f}"
    return f"{max(0, round((1 - similarity) * bits))} of {bits} bits"


def _fit(
    output: Output,
    pairs: Path,
    index: Path | None,
    *,
    out: Path,
    plot: Path | None,
    precision: float,
    device: str | None,
) -> None:
    from contextlib import ExitStack

    from detector.calibrate import calibrate as fit
    from detector.calibrate import read_pairs
    from detector.detector import Detector
    from index.errors import UsageError

    writable_target(out, "--out", index=index)
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {plot}: name a file that ends in .png, .svg or .pdf")
    with ExitStack() as stack:
        detector = None
        if index is not None:
            detector = stack.enter_context(Detector.open(index, device=device))
        with output.progress("Measuring", unit="pairs") as ticker:
            read = []
            for number, pair in enumerate(read_pairs(pairs, detector=detector), start=1):
                read.append(pair)
                ticker.update(number, None)
    report = fit(read, precision=precision)
    report.save(out, data=str(pairs))
    if plot is not None:
        report.save_plot(plot)
    output.json(report.to_dict())
    output.say(_bounds_table(report), "")
    output.say(
        f"Fitted on {report.pairs:,} pairs, {report.positives:,} of them copies. Expected calibration error "
        f"{report.error:.3f} (cross-validated: each pair was scored by a model that never saw its query)."
    )
    output.note(f"Wrote {out}. Use it: detector scan … --scoring {out}")


def _bounds_table(report: CalibrationReport) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("precision wanted")
    table.add_column("from score", justify="right")
    table.add_column("95 % interval of the precision")
    table.add_column("share of copies found", justify="right")
    for bound in report.bounds:
        found = bound.min_score is not None
        table.add_row(
            f"{bound.precision:.0%}",
            f"{bound.min_score:.3f}" if bound.min_score is not None else "none reaches it",
            f"{bound.low:.1%} to {bound.high:.1%}" if found else "",
            f"{bound.recall:.1%}" if found else "",
        )
    return table
