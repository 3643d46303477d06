"""Options and arguments that several commands have, and how help texts are laid out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands import completing
from detector.commands.console import command_line
from index.errors import UsageError

if TYPE_CHECKING:
    from detector.rights import Policy
    from index.searching import Searchable

NEVER = 6
"""A bound above every level."""

OUTPUT_PANEL = "Output"
RIGHTS_PANEL = "Rights"
TUNING_PANEL = "Tuning"


def taught(text: str, *examples: str) -> dict[str, Any]:
    """Return the help of a command for Typer: a paragraph, and examples to copy.

    Args:
        text: What the command does; its first sentence stands in the list of commands.
        examples: Command lines.
    """
    shown = "".join(f"\n[dim]$[/dim] [cyan]{example}[/cyan]" for example in examples)
    return {"help": f"{text}\n\n\bExamples:{shown}", "short_help": text.split(". ")[0].rstrip(".") + "."}


def level_bound(text: str) -> int:
    """Read a value of --fail-on: a level from 1 to 5, 6 or ``never``.

    Raises:
        UsageError: It is something else.
    """
    if text.strip().lower() == "never":
        return NEVER
    if text.strip() in ("1", "2", "3", "4", "5", "6"):
        return int(text)
    raise UsageError(f"--fail-on {text}: is no level. Give 1, 2, 3, 4 or 5, or never")


def policy_of(allow: Sequence[str] | None, file: Path | None) -> Policy | None:
    """Return the policy of --allow-licence and --policy together, or None where neither is given.

    Raises:
        UsageError: A value means nothing, or the file cannot be used.
    """
    from detector.rights import Policy

    if not allow and file is None:
        return None
    words = Policy.from_flags(allow).allow if allow else frozenset()
    return Policy(words | Policy.from_file(file).allow) if file is not None else Policy(words)


def writable_target(path: Path, option: str, *, index: Path | None) -> Path:
    """Return where to write, after making sure before any work is done that it can be a file.

    Args:
        path: As given.
        option: Its option, for the message.
        index: The index folder, in which nothing else may lie.

    Raises:
        UsageError: It is a folder, a device, a picture, or lies in a folder that is missing or in an index.
    """
    from index.images import IMAGE_SUFFIXES

    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder. Name a file in it, such as {path / _usual(option)}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{option} {path}: is a device or pipe. Name a file to write to")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise UsageError(f"{option} {path}: has the name of a picture. Name a file such as {_usual(option)}")
    if not folder.is_dir():
        raise UsageError(
            f"{option} {path}: the folder {folder} does not exist. Make it first, or name another"
        )
    if index is not None and index.resolve() in path.resolve().parents:
        raise UsageError(f"{option} {path}: lies inside the index folder. Name a file outside of it")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        cause = error.strerror or error
        raise UsageError(
            f"{option} {path}: nothing can be written there ({cause}). Name a file in another folder"
        ) from error
    return path


def _usual(option: str) -> str:
    names = {
        "--html": "report.html",
        "--csv": "findings.csv",
        "--bundle": "evidence.zip",
        "--drop": "drop.txt",
    }
    return names.get(option, "findings.jsonl")


def named_path(text: str) -> Path:
    """Read a path that was typed; an empty one, as of a shell variable that is not set, is not the folder here.

    Raises:
        UsageError: It is empty.
    """
    if not text:
        raise typer.BadParameter("it is empty. Name a path; for the folder you are in, a dot")
    return Path(text)


def require_references(index: Searchable, place: Path) -> None:
    """Make sure that there is something to find: “no match” in an empty index would say nothing.

    Raises:
        UsageError: The index is empty.
    """
    if not index.size:
        step = command_line("detector", "index", "add", "PICTURES", "--index", place)
        raise UsageError(f"{place}: holds no training images, so nothing can match. Add some: {step}")


IndexFolder = Annotated[
    Path,
    typer.Option(
        "--index", metavar="INDEX", autocompletion=completing.indexes,
        help="As made by [b]detector index build[/b]: a folder, art.db or milvus://host:19530/collection.",
        show_default=False,
    ),
]  # fmt: skip
FailOn = Annotated[
    str,
    typer.Option(
        "--fail-on",
        metavar="LEVEL",
        autocompletion=completing.one_of(*completing.LEVELS),
        help="Exit with 1 if a picture has a match, not cleared, of this level or higher: 5 verbatim, 4 near "
        "copy, 3 partial copy, 2 strong resemblance, 1 weak resemblance, or never.",
    ),
]
AllowLicence = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-licence",
        metavar="LICENCE",
        autocompletion=completing.licences,
        help="Matches with this licence are cleared: shown, but not counted. An SPDX id (CC-BY-4.0), "
        "CC-BY-*, public-domain, artist:NAME or source:DOMAIN. Can be given several times. An unknown "
        "licence is never cleared.",
        rich_help_panel=RIGHTS_PANEL,
        show_default=False,
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="policy.toml with the same in lists: allow, artists, sources.",
        rich_help_panel=RIGHTS_PANEL,
        show_default=False,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write one page with the pictures side by side and the matching regions drawn on both.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Write a table for spreadsheets, one row a match.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
Limit = Annotated[
    int,
    typer.Option(
        "--limit",
        metavar="ROWS",
        min=0,
        help="Findings shown in the terminal; the files hold all of them.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        help="Threads at work; 0 takes one a processor core.",
        rich_help_panel=TUNING_PANEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        autocompletion=completing.one_of("cpu", "cuda", "mps"),
        help="Where neural descriptors run: cpu, cuda, cuda:1, mps. Chosen by itself if left out.",
        rich_help_panel=TUNING_PANEL,
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        autocompletion=completing.one_of("auto", "local", "ray://"),
        help="Have the workers of a Ray cluster do the work: auto (the cluster of this machine), HOST:PORT, "
        "ray://HOST:PORT, or local, which starts one here for as long as it takes. The result is the same. "
        "--workers then counts its workers; with --device cuda each takes a share of a GPU, otherwise they use "
        "processor cores.",
        rich_help_panel=TUNING_PANEL,
        show_default=False,
    ),
]
Scoring = Annotated[
    Path | None,
    typer.Option(
        "--scoring",
        metavar="FILE",
        help="Scoring model (JSON) fitted on your own pairs, instead of the one that comes with the package.",
        rich_help_panel=TUNING_PANEL,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Results and errors only: no progress, no hints.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="The result as JSON on stdout, and nothing else there.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show where in the code an error came from.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
