"""`detector index optimize`: make the search of a large index fast."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.building import bytes_in_words
from detector.commands.console import Output, command_line, this_command
from detector.commands.options import Debug, IndexFolder, Json, Quiet

if TYPE_CHECKING:
    from index.optimizing import Optimized
    from index.sketches import SketchRecord

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def optimize(
    *,
    index: IndexFolder,
    target_recall: Annotated[
        float,
        typer.Option(
            "--target-recall",
            metavar="SHARE",
            help="Share of the tuning queries that must be answered as by the exact search.",
        ),
    ] = 0.99,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="What sketches may take in memory, as in 500MB or 8GB. No bound if left out.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the search of a large index fast."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.locations import local_folder
        from index.optimizing import optimize as run

        local_folder(index, "optimizing")
        allowed = None if memory is None else bytes_from_words(memory)
        output.on_interrupt = (
            f"Interrupted. The index is as it was before. Run the same command again:\n  {this_command()}"
        )
        with output.progress("Optimizing", unit="rows") as ticker:
            done = run(
                index,
                target_recall=target_recall,
                memory_bytes=allowed,
                on_progress=lambda stage, count, total: ticker.update(count, total, stage),
            )
        output.json([each.to_dict() for each in done])
        output.say(*_in_words(done))
        if any(each.sketches for each in done):
            shown = command_line("detector", "index", "info", "--index", index)
            output.note(f"Pictures added from now on are searched exactly, beside these. See: {shown}")


def bytes_from_words(text: str) -> int:
    """Read a size in bytes, as in ``500MB`` or ``8 GB``; units are powers of 1,000.

    Raises:
        UsageError: It is no size, or 0.
    """
    from index.errors import UsageError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size < 1:
        raise UsageError(f"--memory {text} is no size. Write it as in 500MB or 8GB")
    return size


def sketches_in_words(found: SketchRecord) -> str:
    """Say what sketches do, in one line."""
    measured = found.measured
    return (
        f"recall {measured.recall:.1%} of {measured.queries:,} queries, {measured.ms:.2g} ms a row beside "
        f"{measured.exact_ms:.3g} ms exact, {bytes_in_words(found.memory_bytes)} of memory, "
        f"{found.rows:,} rows, the best {found.ranked:,} ranked exactly"
    )


def _in_words(done: Sequence[Optimized]) -> Iterable[str]:
    for each in done:
        if each.sketches is None:
            yield f"{each.descriptor}: {each.rows:,} rows, searched exactly: {each.reason}."
        else:
            yield f"{each.descriptor}: {sketches_in_words(each.sketches)}."
    if not done:
        yield "Nothing to optimize: hashes and local features are searched exactly, and fast enough."
