"""`detector index …`: make, extend, look at and care for an index of training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands import building, importing, optimizing, requests
from detector.commands.building import SHOWN_FILES, bytes_in_words, rejection_in_words
from detector.commands.console import FAILED, Output, command_line, printable
from detector.commands.options import Debug, IndexFolder, Json, Quiet, taught

if TYPE_CHECKING:
    from index.reference_index import ImportedFrom, IndexInfo

CONDITIONS_PANEL = "Which occurrences (all conditions given must fit)"

app = typer.Typer(
    help="Make, extend, look at and care for an index of training images.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command(
    **taught(
        "Index training images, so that generated ones can be checked against them. Pictures are described "
        "(hashes, local features, neural embeddings on request) and kept with who made them and under which "
        "licence, as far as lists, metadata files or the pictures themselves say. Interrupted? The same "
        "command goes on where it stopped. Files that cannot be read are counted, listed and left out.",
        "detector index build artworks --out art.index",
        "detector index build shards/*.tar --out art.index --workers 8",
        "detector index build list.csv --out art.index --artist-column painter",
    )
)(building.build)
app.command(
    **taught(
        "Add training images to an index that is there. It keeps its descriptors; pictures it knows already, "
        "by size and time of change, are passed over, and the same picture at another path becomes one more "
        "occurrence of it.",
        "detector index add more-artworks --index art.index",
    )
)(building.add)
app.command(
    "import-embeddings",
    **taught(
        "Index embeddings that are there already, without touching their pictures: .npy files with a Parquet, CSV or "
        "JSON lines table each, as clip-retrieval and img2dataset write them. The model that made them is named, and "
        "checked by describing a sample of pictures again, where pictures are at hand. Such an index has no hashes, "
        "local features or small copies: matches in it stay unverified, at level 2 or below. Interrupted? The same "
        "command goes on where it stopped.",
        "detector index import-embeddings laion --model ViT-B-32/laion2b_s34b_b79k --out laion.index",
        "detector index import-embeddings rows.npy --metadata rows.csv --model ViT-L-14/openai --out art.index",
        "detector index import-embeddings laion --pictures shards --model ViT-L-14/openai --out laion.index",
    ),
)(importing.import_embeddings)
app.command(
    **taught(
        "Make the search of a large index fast. Neural rows get sketches, bit strings by which the few rows worth "
        "ranking exactly are found; how many that are is tuned on the index's own references until the recall is "
        "reached. Similarities stay exact. Worth it from some 50,000 references on; run it again after additions.",
        "detector index optimize --index art.index",
        "detector index optimize --index art.index --target-recall 0.999 --memory 8GB",
    )
)(optimizing.optimize)
app.add_typer(requests.app, name="requests")
# The command line names its options one by one, so these functions have more parameters than others may.


@app.command(
    **taught(
        "Forget training images, for instance because their artist asks for it. Occurrences that fit every "
        "condition are forgotten; a picture with no occurrence left is gone from every search. Its small "
        "copy and its vectors are overwritten with --erase, or by the next [b]detector index compact[/b]. What "
        "was removed with --erase is remembered: later builds pass it over, unless --take-back is given.",
        'detector index remove --index art.index --artist "Ann Artist" --erase',
        "detector index remove --index art.index --path artworks/2019",
        "detector index remove --index art.index --source-contains example.org/gallery --yes",
    )
)
def remove(
    *,
    index: IndexFolder,
    path: Annotated[
        str | None,
        typer.Option(
            "--path",
            metavar="PATH",
            help="This picture, or all in this folder or shard, written as when it was indexed.",
            rich_help_panel=CONDITIONS_PANEL,
            show_default=False,
        ),
    ] = None,
    artist: Annotated[
        str | None,
        typer.Option(
            "--artist",
            metavar="NAME",
            help="By this artist: the whole name, in any case.",
            rich_help_panel=CONDITIONS_PANEL,
            show_default=False,
        ),
    ] = None,
    source_contains: Annotated[
        str | None,
        typer.Option(
            "--source-contains",
            metavar="TEXT",
            help="From a source (mostly an address) that contains this.",
            rich_help_panel=CONDITIONS_PANEL,
            show_default=False,
        ),
    ] = None,
    erase: Annotated[
        bool,
        typer.Option(
            "--erase", help="Overwrite pixels and vectors at once, and keep later builds from them."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Forget training images."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import plural
        from index.errors import UsageError
        from index.locations import open_index, parse_location
        from index.requests import find_traces

        if not (path or artist or source_contains):
            raise UsageError("say what to remove: --path, --artist or --source-contains")
        where = {"path": path or None, "artist": artist or None, "source_contains": source_contains or None}
        with open_index(index, writable=True) as opened:
            found = opened.find_occurrences(**where)
            if not found:
                output.note(
                    f"Nothing in {index} fits. See what there is: detector index info --index {index}"
                )
            elif not yes:
                count = plural(len(found), "occurrence")
                listed = _listed([name for name, _ in found], len(found))
                output.confirm(f"{index}: {count} would be forgotten:{listed}\nForget {count}?", flag="--yes")
            # With --erase even where nothing is left to forget: an earlier run may have been interrupted.
            occurrences, references = opened.remove(**where, erase=erase) if found or erase else (0, 0)
        gone = f"{plural(references, 'picture')} gone from the index"
        erased = (
            "pixels and vectors overwritten" if erase else "overwritten at the next detector index compact"
        )
        if parse_location(index).is_milvus:
            erased = "deleted; Milvus takes them off its disks when it compacts"
        output.say(f"{index}: {plural(occurrences, 'occurrence')} forgotten, {gone}.")
        if references:
            output.say(f"Their data: {erased}.")
        if references and erase:
            output.say("No later build into this index takes them in again (--take-back would).")
        if erase and not parse_location(index).is_milvus:
            if not found:
                output.say("Anything that an interrupted --erase had left is overwritten.")
            if find_traces(index):
                output.warn(requests.traces_in_words(index), style="yellow")
        output.json({"occurrences": occurrences, "references": references, "erased": erase})


@app.command(
    **taught(
        "Show what an index holds. With --rejected, list the files that could not be used, and why.",
        "detector index info --index art.index",
        "detector index info --rejected --index art.index",
    )
)
def info(
    *,
    index: IndexFolder,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="List the files that could not be used instead.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what an index holds."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import plural
        from index.locations import open_index

        with open_index(index) as opened:
            found = opened.info()
            files = opened.rejected() if rejected else []
        if rejected:
            output.json([{"path": r.locator, "reason": r.reason, "detail": r.detail} for r in files])
            output.say(f"{index}: {plural(len(files), 'file')} could not be used.")
            output.say(*map(rejection_in_words, files))
        else:
            output.json(found.to_dict())
            output.say(_info_table(found))


@app.command(
    **taught(
        "Compare every part of an index with what was committed. Exits with 2 if anything differs.",
        "detector index check --index art.index",
    )
)
def check(*, index: IndexFolder, quiet: Quiet = False, as_json: Json = False, debug: Debug = False) -> None:
    """Compare every part of an index with what was committed."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import plural
        from index.locations import open_index

        with open_index(index) as opened:
            problems, count = opened.check(), len(opened)
        output.json({"path": str(index), "references": count, "problems": problems})
        if problems:
            output.outcome = FAILED
            output.say(f"{index}: {plural(len(problems), 'problem')}.", *(f"  {text}" for text in problems))
            output.note("Restore the index from a copy, or build it anew from its pictures.")
        else:
            output.say(f"{index}: all is as it was committed ({plural(count, 'reference')}).")


@app.command(
    **taught(
        "Rewrite an index without what was removed from it. Vectors and small copies of removed pictures are "
        "overwritten, and the space they took is free again.",
        "detector index compact --index art.index",
    )
)
def compact(*, index: IndexFolder, quiet: Quiet = False, as_json: Json = False, debug: Debug = False) -> None:
    """Rewrite an index without what was removed from it."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import plural
        from index.locations import local_folder
        from index.reference_index import ReferenceIndex

        local_folder(index, "compacting")
        with ReferenceIndex.open(index, writable=True) as opened:
            before = opened.info().bytes_on_disk
            rows = opened.compact()
        with ReferenceIndex.open(index) as opened:
            after = opened.info().bytes_on_disk
        output.json({"rows_erased": rows, "bytes_before": before, "bytes_on_disk": after})
        sizes = f"{bytes_in_words(before)} before, {bytes_in_words(after)} now"
        output.say(f"{index}: {plural(rows, 'row')} of removed pictures erased; {sizes}.")


def _listed(names: Sequence[str], total: int) -> str:
    shown = "".join(f"\n  {name}" for name in names[:SHOWN_FILES])
    return shown + (f"\n  … and {total - SHOWN_FILES:,} more" if total > SHOWN_FILES else "")


def _info_table(found: IndexInfo) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    command = command_line("detector", "index", "info", "--rejected", "--index", found.path)
    rejected = f"{found.rejected:,}" + (f"   list them: {command}" if found.rejected else "")
    waiting = f"{found.open_requests:,} open"
    listing = command_line("detector", "index", "requests", "list", "--state", "open", "--index", found.path)
    kept = "kept, for verifying matches and for reports" if found.thumbnails else "not kept"
    for name, value in (
        ("index", printable(found.path)),
        ("references", f"{found.references:,}"),
        ("occurrences", f"{found.occurrences:,}"),
        ("could not be used", rejected),
        *((("removal requests", f"{waiting}   list them: {listing}"),) if found.open_requests else ()),
        ("size on disk", bytes_in_words(found.bytes_on_disk)),
        ("small copies", kept),
        *(("imported", _import_in_words(each)) for each in found.imported),
        ("middle squares", "described too, as trainers crop to them" if found.squares else "not described"),
        ("format", f"{found.format_version}, commit {found.generation:,}"),
    ):
        table.add_row(name, value)
    for number, spec in enumerate(found.descriptors):
        rows = f"{found.rows.get(spec.name, 0):,} rows, {bytes_in_words(_row_bytes(spec))} each"
        table.add_row("descriptors" if number == 0 else "", f"{spec.name}, version {spec.version}: {rows}")
    for name, each in found.sketches.items():
        table.add_row("optimized", f"{name}: {optimizing.sketches_in_words(each)}")
    return table


def _import_in_words(found: ImportedFrom) -> str:
    said = f"from {found.source}: "
    if not found.compared:
        return printable(said + "the model was not checked against pictures")
    return printable(
        said + f"the model was checked on {found.compared:,} pictures, cosines from {found.min_cosine}"
    )


def _row_bytes(spec: Any) -> int:
    return int(spec.width) * (2 if spec.kind.value == "unit" else 1)
