"""`detector audit`: does a model give its training images back?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands import completing
from detector.commands.console import FLAGGED, Output, this_command
from detector.commands.options import OUTPUT_PANEL, TUNING_PANEL, Debug, Device, Json, Quiet

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.audit.report import AuditReport

WORKS_PANEL = "Which works"
COURSE_PANEL = "How"

DOING = {
    "captions": "generating from captions",
    "reconstructions": "reconstructing works",
    "prompts": "measuring captions",
}

# The command line names its options one by one, so this function has more parameters than others may.


def audit(
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE",
            help="The model: a folder that diffusers can load (model_index.json in it), or a hub id.",
            show_default=False,
        ),
    ],
    *,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="FOLDER",
            autocompletion=completing.indexes,
            help="Index of its training images, as made by [b]detector index build[/b]. Without it, only what needs "
            "no search is done.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where report, generations and log go. The same command goes on after a stop.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = Path("audit"),
    works: Annotated[
        Path | None,
        typer.Option(
            "--works",
            metavar="LIST",
            help="CSV, JSON lines or Parquet with file_name, caption and, best, repeats: how often each was trained "
            "on, 0 if held out (a control). Left out: every reference of the index with a caption.",
            rich_help_panel=WORKS_PANEL,
            show_default=False,
        ),
    ] = None,
    controls: Annotated[
        Path | None,
        typer.Option(
            "--controls",
            metavar="PATH",
            help="Folder or list of works that the model never saw, to compare with: 19 or more.",
            rich_help_panel=WORKS_PANEL,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            help="At most so many works, and as many controls, spread over the numbers of repeats.",
            rich_help_panel=WORKS_PANEL,
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="PARTS",
            autocompletion=completing.several_of("txt2img", "img2img", "prompts", "carlini"),
            help="Some of txt2img, img2img, prompts, carlini, comma-separated. Left out: all.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", metavar="N", help="Pictures generated a caption.", rich_help_panel=COURSE_PANEL
        ),
    ] = 4,
    strengths: Annotated[
        str,
        typer.Option(
            "--strengths",
            metavar="LIST",
            help="Strengths of img2img, from little noise to nothing but noise.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = "0.2,0.4,0.6,0.8,1.0",
    img2img_seeds: Annotated[
        int,
        typer.Option(
            "--img2img-seeds",
            metavar="N",
            help="Reconstructions of each work at each strength.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = 1,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", help="Denoising steps.", rich_help_panel=COURSE_PANEL)
    ] = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="SCALE",
            help="Classifier-free guidance. Left out: the pipeline's own.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            help="Side of the pictures. Left out: what the model was made for.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="From which the seed of every picture follows.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = 0,
    lora: Annotated[
        str | None,
        typer.Option(
            "--lora",
            metavar="PATH",
            help="Audit the model with this adapter and, beside it, without. Needs peft.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    prompt_steps: Annotated[
        int,
        typer.Option(
            "--prompt-steps",
            metavar="N",
            help="Denoising steps at which captions are measured, from the first on.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = 1,
    max_distance: Annotated[
        float,
        typer.Option(
            "--max-distance",
            metavar="L2",
            help="Pictures of one caption are near-identical up to this tiled L2 distance.",
            rich_help_panel=COURSE_PANEL,
        ),
    ] = 0.1,
    min_group: Annotated[
        int | None,
        typer.Option(
            "--min-group",
            metavar="N",
            help="Near-identical pictures that count as a group. Left out: 2 % of --seeds, at least 3.",
            rich_help_panel=COURSE_PANEL,
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", metavar="N", help="Pictures made at once.", rich_help_panel=TUNING_PANEL
        ),
    ] = 4,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="NAME",
            autocompletion=completing.one_of("float32", "float16", "bfloat16"),
            help="What the model is loaded in: float32, float16 or bfloat16.",
            rich_help_panel=TUNING_PANEL,
        ),
    ] = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Audit a model."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.audit import AuditOptions, Part
        from detector.audit import audit as run
        from detector.audit.options import parts_of, strengths_of

        options = AuditOptions(
            only=parts_of(only) if only is not None else tuple(Part),
            limit=limit,
            seeds=seeds,
            strengths=strengths_of(strengths),
            img2img_seeds=img2img_seeds,
            steps=steps,
            guidance=guidance,
            size=size,
            seed=seed,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            lora=lora,
            prompt_steps=prompt_steps,
            max_distance=max_distance,
            min_group=min_group,
        )
        output.on_interrupt = f"Interrupted. Go on with the same command:\n  {this_command()}"
        with output.progress("Auditing", unit="items") as ticker:
            report = run(
                pipeline,
                index,
                out=out,
                works=works,
                controls=controls,
                options=options,
                command=["detector", *sys.argv[1:]],
                on_progress=lambda doing, done, total: ticker.update(done, total, DOING[doing]),
            )
        if report.memorised:
            output.outcome = FLAGGED
        output.json(report.to_dict())
        _show(output, report)
        output.note(f"Open {out / 'audit.html'} in a browser: pictures, plots, method.", style="bold")
        output.note(f"All figures: {out / 'audit.json'}; the generations and their matches: {out}")


def _show(output: Output, report: AuditReport) -> None:
    for variant, figures in report.variants.items():
        if len(report.variants) > 1:
            output.say("With the adapter:" if variant == "adapter" else "Without the adapter:", style="bold")
        if figures.extraction is not None:
            output.say(_table(report, variant), "")
        for sentence in report.sentences(variant):
            output.say(sentence)
        output.say("")
    for part, reason in report.skipped.items():
        output.note(f"Left out {part}: {reason}", style="yellow")
    if report.left_out:
        names = ", ".join(list(report.left_out)[:5])
        output.note(f"Left out of img2img, for want of a picture that can be read: {names}", style="yellow")
    output.say(report.summary, style="bold")


def _table(report: AuditReport, variant: str) -> RenderableType:
    from rich.table import Table

    from detector.audit.statistics import Rate
    from detector.reports.wording import percent

    def share(rate: Rate | None) -> str:
        if rate is None or not rate.total:
            return ""
        return f"{rate.hits} of {rate.total} ({percent(rate.low)} to {percent(rate.high)})"

    figures = report.variants[variant]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("trained on", no_wrap=True)
    rows = figures.extraction.rows if figures.extraction is not None else ()
    searched = figures.extraction is not None and figures.extraction.searched
    if searched:
        table.add_column("came out of its caption")
        table.add_column("generations that did")
    if any(row.groups is not None for row in rows):
        table.add_column("near-identical pictures")
    aucs = figures.reconstruction.by_copies if figures.reconstruction is not None else {}
    if aucs:
        table.add_column("img2img AUC")
    for row in rows:
        cells = [row.label]
        cells += [share(row.works), share(row.generations)] if searched else []
        cells += [share(row.groups)] if row.groups is not None else []
        found = aucs.get(row.label)
        cells += [f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})" if found else ""] if aucs else []
        table.add_row(*cells)
    return table
