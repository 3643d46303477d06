"""`detector index build` and `add`: training images into an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands import completing
from detector.commands.console import FAILED, Output, command_line, printable, this_command
from detector.commands.options import TUNING_PANEL, Debug, Device, Json, Quiet, Ray, Workers

if TYPE_CHECKING:
    from detector.commands.progress import Ticker
    from index.build import BuildOptions, BuildProgress, BuildReport
    from index.importing import ImportReport
    from index.items import Rejected
    from index.reference_index import IndexInfo

COLUMNS_PANEL = "Columns of lists and metadata files"

SHOWN_FILES = 10


def _column(field: str, usual: str) -> Any:
    return typer.Option(
        f"--{field}-column",
        metavar="NAME",
        help=f"Column that holds the {field}. Known without being told: {usual}",
        rich_help_panel=COLUMNS_PANEL,
        show_default=False,
    )


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SRC...",
        help="Folders (searched through; a metadata.csv in them is read), lists (.csv .tsv .jsonl .parquet), "
        "WebDataset or img2dataset .tar shards, or single pictures.",
        show_default=False,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="PICTURES",
        min=1,
        help="Pictures a commit: the most work that a power cut can lose.",
        rich_help_panel=TUNING_PANEL,
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="PIXELS",
        min=1,
        help="Pictures of more pixels (width × height) are rejected.",
        rich_help_panel=TUNING_PANEL,
    ),
]
TakeBack = Annotated[
    bool,
    typer.Option(
        "--take-back",
        help="Admit pictures again that were erased from this index: with [b]index remove --erase[/b], or because "
        "their artist asked for it. Otherwise they are rejected, whatever their files are called.",
    ),
]
ArtistColumn = Annotated[str | None, _column("artist", "artist, author, creator, photographer, …")]
TitleColumn = Annotated[str | None, _column("title", "title, headline, name …")]
LicenceColumn = Annotated[str | None, _column("licence", "licence, license, rights, usage_terms …")]
SourceColumn = Annotated[str | None, _column("source", "url, source, image_url, link …")]
CaptionColumn = Annotated[str | None, _column("caption", "caption, text, prompt, description …")]
PathColumn = Annotated[str | None, _column("path", "file_name, path, file, image …")]


# The command line names its options one by one, so these functions have more parameters than others may.


def build(
    sources: Sources,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="The index folder: a new one, or one to go on with.",
            show_default=False,
        ),
    ],
    descriptors: Annotated[
        str | None,
        typer.Option(
            "--descriptors",
            metavar="NAMES",
            autocompletion=completing.several_of(*completing.DESCRIPTORS),
            help="With commas between: pdq, phash, keypoints, clip:bundled (these four if left out), "
            "clip:MODEL/PRETRAINED, clip:hf-hub:ORG/NAME, clip:local-dir:FOLDER, sscd:FILE.pt. "
            "They cannot be changed later.",
            show_default=False,
        ),
    ] = None,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            help="Keep small copies of the pictures, for verifying matches and for reports. Decided once, "
            "when the index is new.",
        ),
    ] = True,
    regions: Annotated[
        bool,
        typer.Option(
            "--regions/--no-regions",
            help="Store neural rows (clip:, sscd:) of five windows of each picture too, so that generated "
            "pictures that show a part of a work are proposed by them: six times the rows. Hashes are not "
            "affected, and keypoints find parts without it. Decided once, when the index is new.",
        ),
    ] = False,
    squares: Annotated[
        bool,
        typer.Option(
            "--squares/--no-squares",
            help="Store rows of the middle square of pictures that are not square too. Trainers crop to it, and "
            "memorised pictures come back as it. Decided once, when the index is new.",
        ),
    ] = True,
    take_back: TakeBack = False,
    workers: Workers = 0,
    batch_size: BatchSize = 256,
    max_pixels: MaxPixels = 178_956_970,
    device: Device = None,
    ray: Ray = None,
    artist_column: ArtistColumn = None,
    title_column: TitleColumn = None,
    licence_column: LicenceColumn = None,
    source_column: SourceColumn = None,
    caption_column: CaptionColumn = None,
    path_column: PathColumn = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Index training images."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.build import BuildOptions
        from index.credits import ColumnNames
        from index.descriptors import parse_names

        options = BuildOptions(
            thumbnails=thumbnails,
            regions=regions,
            squares=squares,
            workers=workers,
            batch_size=batch_size,
            max_pixels=max_pixels,
            columns=ColumnNames(
                artist_column, title_column, licence_column, source_column, caption_column, path_column
            ),
            device=device,
            take_back=take_back,
        )
        names = parse_names(descriptors) if descriptors is not None else None
        output.json(fill_index(output, sources, out, names, options, ray=ray))
        if output.outcome == 0:
            output.note(f"Next: {command_line('detector', 'scan', 'GENERATED', '--index', out)}")


def add(
    sources: Sources,
    *,
    index: Annotated[
        Path,
        typer.Option(
            "--index",
            "--out",
            "-o",
            metavar="FOLDER",
            autocompletion=completing.indexes,
            help="The index folder to add to.",
            show_default=False,
        ),
    ],
    take_back: TakeBack = False,
    workers: Workers = 0,
    batch_size: BatchSize = 256,
    max_pixels: MaxPixels = 178_956_970,
    device: Device = None,
    ray: Ray = None,
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
    """Add training images to an index."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.build import BuildOptions
        from index.credits import ColumnNames
        from index.locations import open_index

        options = BuildOptions(
            workers=workers,
            batch_size=batch_size,
            max_pixels=max_pixels,
            columns=ColumnNames(
                artist_column, title_column, licence_column, source_column, caption_column, path_column
            ),
            device=device,
            take_back=take_back,
        )
        open_index(index).close()  # it must be there: `build` would make it
        output.json(fill_index(output, sources, index, None, options, ray=ray))


def fill_index(
    output: Output,
    sources: Sequence[str],
    out: Path,
    names: Sequence[str] | None,
    options: BuildOptions,
    *,
    ray: str | None = None,
) -> dict[str, Any]:
    """Build with progress, and say what was done.

    Args:
        output: Of the command.
        sources: As given.
        out: The index folder.
        names: Descriptors, or None.
        options: How pictures are read.
        ray: Address of the cluster that reads them; None: this process.

    Returns:
        The same as plain JSON values.
    """
    from index.build import build_index
    from index.locations import open_index

    output.on_interrupt = (
        f"Interrupted. What was committed is kept. Run the same command again to go on:\n  {this_command()}"
    )
    with output.progress("Indexing") as ticker:
        told = telling(ticker)
        if ray is None:
            report = build_index(sources, out, descriptors=names, options=options, on_progress=told)
        else:
            from detector import distributed

            report = distributed.build_index(
                sources, out, address=ray, descriptors=names, options=options, on_progress=told
            )
    with open_index(out) as opened:
        found = opened.info()
    output.say(*filled_in_words(report, found, done_as="Added", thing="file"))
    if not report.references:
        output.outcome = FAILED
        output.warn(f"error: {out}: no picture could be used, so there is nothing to search.", style="red")
    return {**report.to_dict(), "bytes_on_disk": found.bytes_on_disk}


def telling(ticker: Ticker) -> Callable[[BuildProgress], None]:
    """Return what shows the progress of filling an index."""

    def told(progress: BuildProgress) -> None:
        note = f"{progress.rejected:,} could not be used" if progress.rejected else ""
        ticker.update(progress.done, progress.total, note)

    return told


def filled_in_words(
    report: BuildReport | ImportReport,
    found: IndexInfo,
    *,
    done_as: str,
    thing: str,
    also: Iterable[str] = (),
) -> Iterable[str]:
    """Say what came into an index, line by line.

    Args:
        report: Of the build or the import.
        found: The index after it.
        done_as: ``Added`` or ``Imported``.
        thing: What it came from: ``file`` or ``row``.
        also: Lines to say before what could not be used.
    """
    from detector.commands.progress import rate_in_words
    from detector.reports.wording import duration_in_words, plural

    done = report.occurrences + report.unchanged + report.rejected
    pace = f" ({rate_in_words(done / report.seconds)})" if report.seconds > 0.5 else ""
    more = report.occurrences - report.added
    again = f" and {plural(more, 'further occurrence')}" if more > 0 else ""
    took = duration_in_words(max(report.seconds, 0.1))
    yield f"{done_as} {plural(report.added, 'new reference')}{again} in {took}{pace}."
    if report.unchanged:
        yield f"{plural(report.unchanged, thing)} known already, passed over."
    held = f"{plural(found.references, 'reference')} from {plural(found.occurrences, 'occurrence')}"
    yield f"{report.path} now holds {held}, {bytes_in_words(found.bytes_on_disk)} on disk."
    yield from also
    if report.rejected:
        yield f"{plural(report.rejected, thing)} could not be used:"
        yield from map(rejection_in_words, report.rejections[:SHOWN_FILES])
        if report.rejected > SHOWN_FILES:
            rest = command_line("detector", "index", "info", "--rejected", "--index", report.path)
            yield f"  … and {report.rejected - SHOWN_FILES:,} more: {rest}"


def rejection_in_words(rejected: Rejected) -> str:
    """Return a line on a file that could not be used, and why."""
    from detector.reports.wording import REASONS, reason_in_words

    # What a source says of its own files comes with its next step in the detail.
    detail = rejected.detail if rejected.reason not in REASONS else ""
    said = reason_in_words(rejected.reason) + (f" ({detail})" if detail else "")
    return printable(f"  {rejected.locator}: {said}".replace("\n", " "))


def bytes_in_words(count: int) -> str:
    """Return ``3.2 MB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
