"""Findings as rich renderables for a terminal. Nothing here prints."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detector.report import ImageReport, ScanSummary
from detector.reports.cards import Finding
from detector.reports.wording import (
    NOT_RECORDED,
    counts_in_words,
    described,
    level_in_words,
    plain,
    plural,
    region_in_words,
    shortened,
    summary_in_words,
    title_of,
)

LEVEL_STYLES = {5: "bold red", 4: "red", 3: "yellow", 2: "cyan"}


def findings_table(findings: Iterable[ImageReport], *, limit: int = 20) -> RenderableType:
    """Return a table of what was found, highest level and score first; memory does not grow.

    Args:
        findings: Reports, in any order; those without a match of level 2 or more are left out.
        limit: Rows at most; a line below says how many more there are.
    """
    heap: list[tuple[tuple[bool, int, float], int, Finding]] = []
    total = 0
    for order, report in enumerate(findings):
        finding = Finding.of(report)
        if finding is None:
            continue
        total += 1
        entry = (finding.rank, -order, finding)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        elif heap:
            heapq.heappushpop(heap, entry)
    if not total:
        return Text("No match in this index.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("generated picture", overflow="fold")
    table.add_column("level", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("training image", overflow="fold")
    for _, _, finding in sorted(heap, key=lambda e: e[:2], reverse=True):
        table.add_row(*_cells(finding))
    if total > len(heap):
        return Group(table, Text(f"… and {total - len(heap):,} more", style="dim"))
    return table


def summary_text(summary: ScanSummary) -> Text:
    """Return the outcome of a scan in a sentence or two."""
    said = Text(summary_in_words(summary), style="bold")
    rest = counts_in_words(summary)
    return said.append(f" {rest}", style="not bold") if rest else said


def _cells(finding: Finding) -> list[Text]:
    match = finding.lead
    place = described(match.reference.occurrences)
    made = finding.report.generation
    strength = f", strength {made.strength:g}" if made is not None and made.strength is not None else ""
    level = Text(level_in_words(match.level), style=LEVEL_STYLES.get(match.level, ""))
    for note in (
        region_in_words(match),
        "mirrored" if match.mirrored else "",
        f"img2img{strength}" if made is not None and made.is_reconstruction else "",
        "cleared" if finding.cleared else "",
    ):
        level.append(
            f"\n{note}" if note else "", style="green" if note == "cleared" else "not bold dim default"
        )
    work = Text(plain(title_of(place)))
    if place.artist.strip():
        work.append(f" — {plain(place.artist)}")
    below = shortened(plain(place.licence), 40) or f"licence {NOT_RECORDED}"
    others = len(finding.report.matches) - 1
    if others:
        below += f", {plural(others, 'other match', 'other matches')}"
    work.append(f"\n{below}", style="dim")
    return [Text(_short(finding.report.query)), level, Text(f"{match.score:.2f}"), work]


def _short(path: str) -> str:
    """Return a path by its last two parts where it is long."""
    parts = PurePath(path).parts
    return plain(path if len(path) <= 24 or len(parts) <= 2 else "…/" + "/".join(parts[-2:]))
