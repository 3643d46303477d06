"""`detector check`: single pictures, each with a card of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import FAILED, FLAGGED, Output, command_line
from detector.commands.options import (
    AllowLicence,
    Debug,
    Device,
    FailOn,
    IndexFolder,
    Json,
    PolicyFile,
    Quiet,
    Scoring,
    level_bound,
    policy_of,
    require_references,
)
from detector.commands.scanning import OUTSIDE, UNVERIFIABLE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detector.report import ImageReport, Match, Point

SHOWN_MATCHES = 5

BATCH = 16
"""Pictures held in memory at once."""


# The command line names its options one by one, so this function has more parameters than others may.


def check(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Generated pictures, one or a few.", show_default=False),
    ],
    *,
    index: IndexFolder,
    fail_on: FailOn = "3",
    allow_licence: AllowLicence = None,
    policy: PolicyFile = None,
    scoring: Scoring = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check single generated pictures."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from detector.detector import Detector
        from detector.report import Verdict
        from detector.scoring import load_model

        bound = level_bound(fail_on)
        _refuse_what_is_no_file(images, index)
        allowed = policy_of(allow_licence, policy)
        model = load_model(scoring) if scoring is not None else None
        reports: list[ImageReport] = []
        with Detector.open(index, policy=allowed, scoring=model, device=device) as detector:
            require_references(detector.index, index)
            cannot_verify = not detector.index.can_verify
            for start in range(0, len(images), BATCH):
                reports += detector.check_many(images[start : start + BATCH])
        if any(found.level >= bound for found in reports):
            output.outcome = FLAGGED
        elif all(found.verdict is Verdict.UNREADABLE for found in reports):
            output.outcome = FAILED
        output.json([found.to_dict() for found in reports])
        for found in reports:
            output.say(_card(found), "")
        if cannot_verify:
            output.note(UNVERIFIABLE)
        if any(found.verdict is Verdict.NO_MATCH and not found.matches for found in reports):
            output.say(OUTSIDE, style="dim")


def _refuse_what_is_no_file(images: Sequence[Path], index: Path) -> None:
    from index.errors import UsageError

    for path in images:
        if path.is_dir():
            step = command_line("detector", "scan", path, "--index", index)
            raise UsageError(f"{path}: is a folder. Scan it: {step}")
        if not path.exists():
            raise UsageError(f"{path}: does not exist. Name a picture file")


def _card(found: ImageReport) -> RenderableType:
    """Return what is said of one picture."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from detector.report import Verdict
    from detector.reports.wording import (
        generation_in_words,
        plain,
        plural,
        reason_in_words,
        reconstruction_in_words,
    )

    size = f"  {found.width} × {found.height}" if found.width else ""
    head = Text.assemble((plain(found.query), "bold"), (size, "dim"))
    shown = [match for match in found.matches if match.level >= 2][:SHOWN_MATCHES]
    if found.verdict is Verdict.UNREADABLE:
        return Group(head, Text(f"Could not be read: {reason_in_words(found.reason or 'unreadable')}."))
    parts: list[RenderableType] = [head]
    made = found.generation
    if made is not None and (words := generation_in_words(made)):
        parts.append(Text(f"Generated: {words}", style="dim"))
    if made is not None and made.is_reconstruction:
        attempt = plain(reconstruction_in_words(made))
        parts.append(Text(f"{attempt[0].upper()}{attempt[1:]}: closeness to that is no evidence by itself."))
    if not shown:
        parts.append(Text("No match in this index."))
        if found.reason:
            parts.append(Text(f"It {reason_in_words(found.reason)}.", style="dim"))
    elif all(match.cleared for match in shown):
        parts.append(Text("Only matches that your policy clears.", style="green"))
    for match in shown:
        parts += ["", Padding(_match(match), (0, 0, 0, 2))]
    others = len(found.matches) - len(shown)
    if others:
        parts.append(Text(f"  {plural(others, 'weaker match', 'weaker matches')} in --json.", style="dim"))
    return Group(*parts)


def _match(match: Match) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from detector.reports.terminal import LEVEL_STYLES
    from detector.reports.wording import (
        described,
        evidence_in_words,
        headline,
        level_in_words,
        near_duplicates_in_words,
        places_in_words,
        plain,
        region_in_words,
        title_of,
    )
    from detector.rights import licence_sentence, opt_out_sentences

    occurrences = match.reference.occurrences
    place = described(occurrences)
    by = f" — {plain(place.artist)}" if place.artist.strip() else ", artist not recorded"
    head = Text.assemble(
        (headline(match.level), LEVEL_STYLES.get(match.level, "")), f" “{plain(title_of(place))}”{by}"
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, *sentences: str) -> None:
        said = [plain(sentence) for sentence in sentences if sentence]
        if said:
            table.add_row(name, Text("\n".join(said)))

    facts = [level_in_words(match.level), f"score {match.score:.2f}", "mirrored" if match.mirrored else ""]
    row("level", ", ".join(fact for fact in facts if fact))
    row("cleared", "by your policy: shown, and not counted" if match.cleared else "")
    boxes = _box(match.query_region), _box(match.reference_region)
    places = ("in the generated picture", "in the work")
    told = [f"{where}: {box or 'all of it'}" for where, box in zip(places, boxes, strict=True) if any(boxes)]
    row("region", region_in_words(match), *told)
    row("evidence", *evidence_in_words(match))
    row("work", f"{place.path}, {match.reference.width} × {match.reference.height}")
    row("source", place.source)
    row("licence", licence_sentence(match.reference))
    row("opt-outs", *opt_out_sentences(occurrences))
    row("repeats", places_in_words(len(occurrences)), near_duplicates_in_words(match.near_duplicates))
    return Group(head, table)


def _box(polygon: Sequence[Point]) -> str:
    """Return the smallest upright rectangle round a region in words, or nothing where that is about all."""
    if not polygon:
        return ""
    edges = []
    for axis in (0, 1):
        values = [min(max(point[axis], 0.0), 1.0) for point in polygon]
        edges.append((round(100 * min(values)), round(100 * max(values))))
    if all(low <= 2 and high >= 98 for low, high in edges):
        return ""
    (left, right), (top, bottom) = edges
    return f"{left}–{right} % from the left, {top}–{bottom} % from the top"
