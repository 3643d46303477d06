"""`detector index import-embeddings`: rows that others have described into an index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands import completing
from detector.commands.building import (
    ArtistColumn,
    CaptionColumn,
    LicenceColumn,
    PathColumn,
    SourceColumn,
    TakeBack,
    TitleColumn,
    filled_in_words,
    telling,
)
from detector.commands.console import FAILED, Output, command_line, this_command
from detector.commands.options import TUNING_PANEL, Debug, Device, Json, Quiet

if TYPE_CHECKING:
    from index.importing import ImportReport

# The command line names its options one by one, so this function has more parameters than others may.


def import_embeddings(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC...",
            help="Folders as clip-retrieval writes them (img_emb, metadata), folders of .npy files, or single ones.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "--index",
            "-o",
            metavar="FOLDER",
            autocompletion=completing.indexes,
            help="The index folder: a new one, or one to go on with.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            help="What made the embeddings: MODEL/PRETRAINED as open_clip has it, hf-hub:ORG/NAME, "
            "local-dir:FOLDER, or sscd:FILE.pt. The index has this one descriptor.",
            show_default=False,
        ),
    ],
    metadata: Annotated[
        list[Path] | None,
        typer.Option(
            "--metadata",
            metavar="PATH",
            help="Table (.parquet .csv .tsv .jsonl) that names the rows, or a folder of them. Looked for beside the "
            "embeddings if left out. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            "--pictures",
            metavar="PATH",
            help="Folder, list or .tar shard with some of the pictures, to check the model with; found by key or "
            "path. If left out, local files that the tables name are taken. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    compared: Annotated[
        int,
        typer.Option(
            "--compared",
            metavar="PICTURES",
            min=0,
            help="Pictures described again to check the model; 0: none.",
        ),
    ] = 64,
    take_back: TakeBack = False,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="ROWS",
            min=1,
            help="Rows a commit: the most work that a power cut can lose.",
            rich_help_panel=TUNING_PANEL,
        ),
    ] = 16_384,
    device: Device = None,
    artist_column: ArtistColumn = None,
    title_column: TitleColumn = None,
    licence_column: LicenceColumn = None,
    source_column: SourceColumn = None,
    caption_column: CaptionColumn = None,
    path_column: PathColumn = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Index embeddings that are there already."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.credits import ColumnNames
        from index.importing import ImportOptions
        from index.importing import import_embeddings as run
        from index.reference_index import ReferenceIndex

        options = ImportOptions(
            tables=tuple(metadata or ()),
            pictures=tuple(pictures or ()),
            compared=compared,
            batch_rows=batch_size,
            columns=ColumnNames(
                artist_column, title_column, licence_column, source_column, caption_column, path_column
            ),
            device=device,
            take_back=take_back,
        )
        kept = "What was committed is kept. Run the same command again to go on"
        output.on_interrupt = f"Interrupted. {kept}:\n  {this_command()}"
        with output.progress("Importing", unit="rows") as ticker:
            report = run(list(sources), out, model=model, options=options, on_progress=telling(ticker))
        with ReferenceIndex.open(out) as opened:
            found = opened.info()
        output.json({**report.to_dict(), "bytes_on_disk": found.bytes_on_disk})
        output.say(*filled_in_words(report, found, done_as="Imported", thing="row", also=_caveats(report)))
        if not report.references:
            output.outcome = FAILED
            output.warn(f"error: {out}: no row could be used, so there is nothing to search.", style="red")
        output.note(f"Next: {command_line('detector', 'scan', 'GENERATED', '--index', out)}")


def _caveats(report: ImportReport) -> Iterable[str]:
    from detector.reports.wording import plural

    if report.compared:
        yield (
            f"The model was checked: {plural(report.compared, 'picture')} described again, with cosines from "
            f"{report.min_cosine:.4f} to their rows."
        )
    else:
        yield (
            f"The model was not checked: no picture was at hand to describe again with {report.descriptor}. Name some "
            "with --pictures."
        )
    yield (
        "This index holds embeddings alone, no hashes, local features or small copies. Matches in it stay unverified, "
        "at level 2 or below, unless a file is the very same."
    )
