"""`detector index requests …`: the removal requests of an index, listed, shown, accepted, declined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands import completing
from detector.commands.console import Output, command_line, printable, this_command
from detector.commands.options import Debug, IndexFolder, Json, Quiet, taught

if TYPE_CHECKING:
    from rich.console import RenderableType

    from index.reference_index import ReferenceIndex
    from index.requests import RemovalRequest

SHOWN_PATHS = 10
"""Paths named in a question or a result; `detector index requests show` and --json name all."""

SHORT_ID = 8
"""Digits of an id that the list shows: enough to be its only one among a million."""

app = typer.Typer(
    help="List, show, accept and decline requests to remove works from an index.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

RequestId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Of the request; as many of its first digits as no other has.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True)
class _Picture:
    """A reference that a request names, and what else in the index is nearly the same."""

    sha256: str
    id: int | None
    title: str
    artist: str
    paths: tuple[str, ...]
    near: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "sha256": self.sha256,
            "id": self.id,
            "title": self.title,
            "artist": self.artist,
            "paths": list(self.paths),
            "near_duplicates": list(self.near),
        }


@app.command(
    "list",
    **taught(
        "List the requests to remove works from an index, the newest first. Artists file them on the pages of "
        "[b]detector serve[/b], or programs through the API.",
        "detector index requests list --index art.index",
        "detector index requests list --index art.index --state open --json",
    ),
)
def list_requests(
    *,
    index: IndexFolder,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            autocompletion=completing.one_of("open", "accepted", "declined"),
            help="Only these: open, accepted or declined.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the removal requests of an index."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import plural
        from index.requests import OPEN, requests

        found = requests(index, state=state)
        output.json([one.to_dict() for one in found])
        which = f"{state} removal request" if state else "removal request"
        if not found:
            output.say(f"{index}: no {which}s.")
            return
        waiting = sum(one.state == OPEN for one in found)
        counted = f" ({waiting:,} open)" if state is None else ""
        output.say(_table(found), f"{index}: {plural(len(found), which)}{counted}.")
        example = next((one for one in found if one.state == OPEN), found[0])
        shown = command_line("detector", "index", "requests", "show", example.id[:SHORT_ID], "--index", index)
        output.note(f"Look at one, for instance: {shown}")


@app.command(
    "show",
    **taught(
        "Show a request to remove works, and which pictures it is about. Names also their near-duplicates: other "
        "files that show nearly the same, which accepting the request leaves in the index.",
        "detector index requests show 3f9a --index art.index",
    ),
)
def show_request(
    request_id: RequestId,
    *,
    index: IndexFolder,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a removal request."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.reference_index import ReferenceIndex
        from index.requests import OPEN, request

        found = request(index, request_id)
        with ReferenceIndex.open(index) as opened:
            pictures = _pictures(opened, found)
            erased = len(opened.forgotten().intersection(found.sha256s))
        named = [picture.to_dict() for picture in pictures]
        output.json({**found.to_dict(), "pictures": named, "erased": erased})
        output.say(_record(found), "", *_pictures_in_words(pictures, erased))
        if found.state == OPEN:
            words = ("--index", str(index))
            accept = command_line("detector", "index", "requests", "accept", found.id[:SHORT_ID], *words)
            decline = command_line("detector", "index", "requests", "decline", found.id[:SHORT_ID], *words)
            output.note(f"Erase the pictures: {accept}\nOr decline:         {decline} --reason WHY")


@app.command(
    "accept",
    **taught(
        "Accept a request: erase the works it names. They are gone from the catalogue with all their occurrences, "
        "their small copies and vectors are overwritten, and no later build takes them in again unless "
        "[b]--take-back[/b] is given. The picture files themselves are left alone. Interrupted? The same command "
        "completes it.",
        "detector index requests accept 3f9a --index art.index",
        'detector index requests accept 3f9a --index art.index --reason "used without a licence" --yes',
    ),
)
def accept_request(
    request_id: RequestId,
    *,
    index: IndexFolder,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Kept with the request.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Accept a removal request: erase its pictures."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.reports.wording import one_line, plural
        from index.reference_index import ReferenceIndex
        from index.requests import ACCEPTED, find_traces, request

        output.on_interrupt = f"Interrupted. Run the same command again to complete it:\n  {this_command()}"
        with ReferenceIndex.open(index, writable=True) as opened:
            found = request(index, request_id)
            pictures = _pictures(opened, found)
            if found.state != ACCEPTED and not yes:
                paths = [path for picture in pictures for path in picture.paths]
                count = plural(sum(picture.id is not None for picture in pictures), "picture")
                where = f"{count} at {plural(len(paths), 'place')}"
                output.confirm(
                    f"{index}: {where} would be erased, as {one_line(found.name)} asks:{_listed(paths)}"
                    f"\nErase {count}?",
                    flag="--yes",
                )
            occurrences, references = opened.accept_request(found.id, reason=reason)
            near = sorted({path for picture in pictures for path in picture.near})
            compared = any(spec.name == "pdq" for spec in opened.specs)
        traces = find_traces(index)
        output.json(
            {
                **request(index, found.id).to_dict(),
                "occurrences": occurrences,
                "references": references,
                "near_duplicates": near,
                "traces_in_log": traces,
            }
        )
        if found.state == ACCEPTED:
            output.say(f"{index}: request {found.id} was accepted before; what was left of it is erased now.")
        else:
            gone = f"{plural(references, 'picture')} erased, {plural(occurrences, 'occurrence')} forgotten"
            output.say(f"{index}: request {found.id} accepted: {gone}.")
            output.say(
                "No later build into this index takes them in again (--take-back would). The files they were read "
                "from are left alone."
            )
        output.say(*_near_in_words(index, near))
        if not compared:
            output.note("Near-duplicates were not looked for: this index has no pdq.")
        if traces:
            output.warn(traces_in_words(index), style="yellow")


@app.command(
    "decline",
    **taught(
        "Decline a request, with a reason. Nothing is removed; the reason is kept with the request.",
        'detector index requests decline 3f9a --index art.index --reason "these works are in the public domain"',
    ),
)
def decline_request(
    request_id: RequestId,
    *,
    index: IndexFolder,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; needed.", show_default=False)
    ] = "",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Decline a removal request."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.errors import UsageError
        from index.reference_index import ReferenceIndex
        from index.requests import request

        if not reason.strip():
            raise UsageError("a request is declined with a reason. Give --reason TEXT")
        with ReferenceIndex.open(index, writable=True) as opened:
            found = request(index, request_id)
            opened.decline_request(found.id, reason=reason)
        output.json(request(index, found.id).to_dict())
        output.say(f"{index}: request {found.id} declined. Nothing was removed.")


def traces_in_words(index: Path) -> str:
    """Say that erased bytes are still in the catalogue's log, and what to do."""
    again = command_line("detector", "index", "compact", "--index", index)
    return (
        f"note: another program is reading {index}, so traces of what was erased stay in its log "
        f"(catalog.sqlite-wal) until that program has closed it. detector serve does so within seconds; stop any "
        f"other, then run: {again}"
    )


def _pictures(index: ReferenceIndex, asked: RemovalRequest) -> list[_Picture]:
    """Look up what a request names; the near-duplicates that it names itself are not counted as such."""
    from detector.reports.wording import described

    found = []
    own = {number for sha256 in asked.sha256s if (number := index.id_of(sha256)) is not None}
    for sha256 in asked.sha256s:
        number = index.id_of(sha256)
        named = index.reference(number) if number is not None else None
        if number is None or named is None:
            found.append(_Picture(sha256, None, "", "", (), ()))
            continue
        others = [other for other in index.near_duplicate_ids(number) if other not in own]
        near = [place.path for other in others for place in (index.reference(other) or (None, ()))[1]]
        credit = described([_occurrence(place) for place in named[1]])
        paths = tuple(place.path for place in named[1])
        found.append(_Picture(sha256, number, credit.title, credit.artist, paths, tuple(near)))
    return found


def _occurrence(place: Any) -> Any:
    from detector.report import Occurrence

    credit = place.credits
    return Occurrence(place.path, credit.artist, credit.title, credit.licence, credit.source)


def _table(found: Sequence[RemovalRequest]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from detector.reports.wording import one_line, shortened

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("id", "filed", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("pictures", justify="right", no_wrap=True)
    table.add_column("asked by", overflow="fold")
    table.add_column("statement or decision", overflow="fold")
    for one in found:
        who = shortened(one_line(one.name), 40)
        contact = f", {shortened(one_line(one.contact), 60)}" if one.contact else ""
        words = one.reason or one.statement
        table.add_row(
            one.id[:SHORT_ID],
            one.made[:10],
            Text(one.state, style=_STYLES.get(one.state, "")),
            f"{len(one.sha256s):,}",
            Text(who).append(contact, style="dim"),
            Text(shortened(one_line(words), 100), style="dim"),
        )
    return table


_STYLES = {"open": "yellow", "accepted": "green", "declined": "dim"}


def _record(one: RemovalRequest) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from detector.reports.wording import plural

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("request", one.id),
        ("state", one.state + (f" on {_moment(one.decided)}" if one.decided else "")),
        ("reason", one.reason),
        ("filed", _moment(one.made)),
        ("asked by", one.name),
        ("contact", one.contact or "not given"),
        ("statement", one.statement or "not given"),
        ("about", plural(len(one.sha256s), "picture")),
    ):
        if value:
            table.add_row(name, Text(printable(value)))
    return table


def _moment(when: str) -> str:
    return f"{when[:10]} {when[11:16]} UTC"


def _pictures_in_words(pictures: Sequence[_Picture], erased: int) -> Iterable[str]:
    from detector.reports.wording import plural

    gone = sum(picture.id is None for picture in pictures) - erased
    for picture in pictures:
        if picture.id is None:
            continue
        title = f"“{picture.title}”" if picture.title else "untitled"
        yield printable(f"{title} — {picture.artist or 'artist not recorded'}".replace("\n", " "))
        yield from (printable(f"  {path}".replace("\n", " ")) for path in picture.paths)
        if picture.near:
            yield f"  {plural(len(picture.near), 'near-duplicate')} in the index, which accepting leaves there:"
            yield from (printable(f"    {path}".replace("\n", " ")) for path in picture.near)
    if erased:
        yield f"{plural(erased, 'picture')} erased; what stays is a key to know each again by, not the picture."
    if gone:
        yield (
            f"{plural(gone, 'picture')} removed by other means, or erased and taken back since (--take-back)."
        )


def _near_in_words(index: Path, near: Sequence[str]) -> Iterable[str]:
    from detector.reports.wording import plural

    if not near:
        return
    stay = (
        "stays in this index: another file, which shows"
        if len(near) == 1
        else "stay in this index: other files, which show"
    )
    yield f"{plural(len(near), 'near-duplicate')} {stay} nearly the same.{printable(_listed(near))}"
    erase = command_line("detector", "index", "remove", "--index", index, "--path", near[0], "--erase")
    yield f"To erase one too: {printable(erase)}"


def _listed(paths: Sequence[str]) -> str:
    shown = "".join("\n  " + path.replace("\n", " ") for path in paths[:SHOWN_PATHS])
    more = len(paths) - SHOWN_PATHS
    return shown + (f"\n  … and {more:,} more" if more > 0 else "")
