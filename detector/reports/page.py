"""Findings as one self-contained HTML page, written as a stream."""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from detector.report import LEVEL_WORDS, ImageReport, ScanSummary, Verdict
from detector.reports.atomic import replacing
from detector.reports.cards import Finding, card, finding_row, plain_row
from detector.reports.generation import Generated
from detector.reports.jsonl import findings_line
from detector.reports.markup import Markup, element, filled, joined
from detector.reports.pictures import Shown, shown_file, shown_reference
from detector.reports.wording import (
    counts_in_words,
    duration_in_words,
    plain,
    plural,
    shortened,
    summary_in_words,
)

Thumbnail = Callable[[int], "bytes | None"]

PICTURE_SIDE = 360
"""Longest side of a picture on a card, in pixels."""

SMALL_SIDE = 224
"""The same on cards behind the first `LARGE_CARDS`: a page of 2,000 findings stays under some 60 MB."""

LARGE_CARDS = 300

MAX_ROWS = 20_000
"""Rows that each list of names holds; browsers stay quick, and the JSONL has them all."""

_READERS = 4
"""Threads that read and shrink generated pictures; decoding is most of the time and frees the interpreter."""


def write_html(
    findings: Iterable[ImageReport],
    path: Path | str,
    *,
    summary: ScanSummary,
    thumbnail: Thumbnail,
    title: str = "Replication findings",
    index_name: str = "",
    command: str = "",
    max_shown: int = 2000,
) -> None:
    """Write one page that holds everything it needs and loads nothing.

    Memory does not grow with the number of queries: findings wait in a temporary file, `max_shown` of them
    are shown with pictures (highest level and score first), the others and what has no match as text.

    Args:
        findings: Reports, in any order; read once.
        path: File to write; it appears whole or not at all.
        summary: Counts over the whole scan, for the sentence at the top.
        thumbnail: Returns the encoded small copy of a reference by its id, or None. Called from this thread.
        title: Of the page.
        index_name: Name of the index, as its user knows it.
        command: Command line that made the findings, or an empty string.
        max_shown: Findings shown with pictures.

    Raises:
        UsageError: The file cannot be written.
        SourceError: `findings` come from a file that is no findings file.
    """
    with replacing(path) as file, tempfile.TemporaryFile() as spool:
        collected = _collect(findings, spool, max_shown)
        page = _Page(collected, spool, thumbnail)
        style, script = styles("page.css"), asset("page.js")
        slots: dict[str, Callable[[], Iterable[Markup]]] = {
            "policy": lambda: [policy(style, script)],
            "style": lambda: [Markup(f"<style>{style}</style>")],
            "script": lambda: [Markup(f"<script>{script}</script>")],
            "title": lambda: [element("title", title)],
            "header": lambda: [_header(title, index_name, summary, collected)],
            "tools": lambda: [_tools(collected)],
            "findings": page.findings,
            "lists": page.lists,
            "footer": lambda: [footer(command)],
        }
        for piece in filled(template("page.html"), slots):
            file.write(piece.encode("utf-8"))


@dataclass(slots=True)
class _Collected:
    """What one pass over the findings leaves behind.

    Attributes:
        chosen: Offsets in the spool of the findings to show with pictures, most important first.
        counts: Findings by kind, queries without a match, unreadable ones.
        licences: Number of each licence in the filter, the most frequent first.
        generated: How the queries were generated.
        rows: Lines of text, by list; at most `MAX_ROWS` each.
    """

    chosen: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    licences: dict[str, int] = field(default_factory=dict)
    generated: Generated = field(default_factory=Generated)
    rows: dict[str, list[Markup]] = field(default_factory=dict)


def _collect(findings: Iterable[ImageReport], spool: BinaryIO, max_shown: int) -> _Collected:
    collected = _Collected(rows={"no_match": [], "unreadable": []})
    licences: Counter[str] = Counter()
    heap: list[tuple[tuple[bool, int, float], int, int]] = []
    for order, report in enumerate(findings):
        finding = Finding.of(report)
        collected.generated.add(report, finding=finding is not None)
        if finding is None:
            kind = "unreadable" if report.verdict is Verdict.UNREADABLE else "no_match"
            collected.counts[kind] += 1
            if len(collected.rows[kind]) < MAX_ROWS:
                collected.rows[kind].append(plain_row(report, models=collected.generated.models))
            continue
        collected.counts[finding.kind] += 1
        licences.update(finding.licences)
        entry = (finding.rank, -order, spool.tell())
        spool.write(findings_line(report))
        if len(heap) < max_shown:
            heapq.heappush(heap, entry)
        elif heap:
            heapq.heappushpop(heap, entry)
    collected.chosen = [offset for _, _, offset in sorted(heap, reverse=True)]
    collected.licences = {name: number for number, (name, _) in enumerate(licences.most_common(200))}
    return collected


class _Page:
    """Yields the parts of the page that grow with the findings."""

    def __init__(self, collected: _Collected, spool: BinaryIO, thumbnail: Thumbnail) -> None:
        self._collected = collected
        self._spool = spool
        self._thumbnail = thumbnail

    def findings(self) -> Iterator[Markup]:
        """Yield the section of cards."""
        collected = self._collected
        yield Markup('<section id="findings" aria-labelledby="findings-title" tabindex="-1">')
        yield element("h2", "Findings", id="findings-title")
        if collected.chosen:
            yield element(
                "p",
                "Outlined: what the two pictures share. The dot marks the same corner in both.",
                class_="legend",
            )
            yield Markup('<ol class="cards" id="cards" role="list">\n')
            for piece in self._cards():
                yield piece
                yield Markup("\n")
            yield Markup("</ol>")
        else:
            yield element("p", "No match in this index.", class_="empty")
        yield Markup("</section>")
        yield element("p", "Nothing here fits the filters.", class_="empty", id="none", hidden=True)

    def lists(self) -> Iterator[Markup]:
        """Yield the collapsed lists: further findings, queries without a match, unreadable ones."""
        collected = self._collected
        kinds = ("replica", "possible", "cleared")
        further = sum(collected.counts[kind] for kind in kinds) - len(collected.chosen)
        yield from _list("more", "Further findings, without pictures", self._further(), further)
        rows = collected.rows
        yield from _list("no_match", "No match in this index", rows["no_match"], collected.counts["no_match"])
        yield from _list(
            "unreadable", "Could not be read", rows["unreadable"], collected.counts["unreadable"]
        )

    def _cards(self) -> Iterator[Markup]:
        """Yield cards in order, reading a few generated pictures ahead."""
        waiting: deque[tuple[int, Finding, Future[Shown]]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="page") as pool:
            for number, offset in enumerate(self._collected.chosen):
                finding = self._at(offset)
                report = finding.report
                future = pool.submit(shown_file, report.query, sha256=report.sha256, max_side=_side(number))
                waiting.append((number, finding, future))
                if len(waiting) > 2 * _READERS:
                    yield self._card(*waiting.popleft())
            while waiting:
                yield self._card(*waiting.popleft())

    def _card(self, number: int, finding: Finding, query: Future[Shown]) -> Markup:
        reference = finding.lead.reference
        stored = self._thumbnail(reference.id)
        shown = shown_reference(reference, stored, max_side=_side(number))
        licences, models = self._collected.licences, self._collected.generated.models
        return card(finding, query.result(), shown, number=number, licences=licences, models=models)

    def _further(self) -> Iterator[Markup]:
        chosen = set(self._collected.chosen)
        licences, models = self._collected.licences, self._collected.generated.models
        self._spool.seek(0)
        offset = written = 0
        for line in iter(self._spool.readline, b""):
            if offset not in chosen and written < MAX_ROWS:
                written += 1
                yield finding_row(_finding(line), licences=licences, models=models)
            offset += len(line)

    def _at(self, offset: int) -> Finding:
        self._spool.seek(offset)
        return _finding(self._spool.readline())


def _finding(line: bytes) -> Finding:
    finding = Finding.of(ImageReport.from_dict(json.loads(line)))
    if finding is None:
        raise RuntimeError("the temporary file holds a line that is no finding")
    return finding


def _side(number: int) -> int:
    return PICTURE_SIDE if number < LARGE_CARDS else SMALL_SIDE


def _list(kind: str, label: str, rows: Iterable[Markup], count: int) -> Iterator[Markup]:
    if not count:
        return
    open_ = " open" if kind == "unreadable" and count <= 20 else ""
    yield Markup(f'<details class="list" id="{kind}" data-kind="{kind}" data-count="{count}"{open_}>')
    heading = element("h2", label, " ", element("span", f"{count:,}", class_="count"))
    yield element("summary", heading)
    yield Markup('<ul class="rows" role="list">\n')
    for row in rows:
        yield row
        yield Markup("\n")
    yield Markup("</ul>")
    if count > MAX_ROWS:
        yield element(
            "p", f"… and {count - MAX_ROWS:,} more: the JSONL findings list them all.", class_="note"
        )
    yield Markup("</details>")


def _header(title: str, index_name: str, summary: ScanSummary, collected: _Collected) -> Markup:
    looked_at = [plural(summary.queries, "generated picture") + " looked at"]
    if index_name:
        looked_at.insert(0, f"Index {index_name}")
    if summary.seconds > 0:
        looked_at.append(duration_in_words(summary.seconds))
    rest = counts_in_words(summary)
    labels = {
        "replica": "Replica",
        "possible": "Possible",
        "cleared": "Cleared",
        "no_match": "No match",
        "unreadable": "Unreadable",
    }
    chips = []
    for kind, label in labels.items():
        count = collected.counts[kind]
        if not count and kind in ("cleared", "unreadable"):
            continue
        number = element("b", f"{count:,}")
        words = element("span", label)
        chips.append(
            element("li", element("button", number, words, type="button", disabled=True, data_kind=kind,
                                  aria_pressed="false", class_=f"chip {kind}"))
        )  # fmt: skip
    return joined(
        [
            element("p", title, class_="eyebrow"),
            element("h1", summary_in_words(summary)),
            element("p", rest, class_="rest-of-it") if rest else None,
            element("ul", *chips, class_="chips", role="list", aria_label="Show only"),
            element("p", " · ".join(looked_at), class_="where"),
        ]
    )


def _tools(collected: _Collected) -> Markup:
    levels = [("", "All levels")] + [(str(n), f"{n} {LEVEL_WORDS[n]}") for n in (5, 4, 3, 2)]
    licences = [("", "All licences")] + [
        (str(n), shortened(plain(name), 48)) for name, n in collected.licences.items()
    ]
    generated = collected.generated
    sorts = [("level", "Level"), ("score", "Score"), ("name", "File name")]
    box = element("input", type="checkbox", name="regions", checked=True, autocomplete="off")
    field_ = element(
        "input",
        type="search",
        name="find",
        placeholder="Artist, title, file or prompt" if generated.recorded else "Artist, title or file",
        autocomplete="off",
        spellcheck="false",
    )
    return joined(
        [
            element("label", element("span", "Search"), field_, class_="grow"),
            _choice("level", "Level", levels),
            _choice("licence", "Licence", licences),
            *(_choice(name, label, choices) for name, label, choices in generated.choices()),
            _choice("sort", "Sort by", sorts),
            element("label", box, element("span", "Outlines"), class_="check"),
            element("button", "Show all", type="button", id="show-all", hidden=True),
        ]
    )


def _choice(name: str, label: str, options: list[tuple[str, str]]) -> Markup:
    chosen = [element("option", words, value=value) for value, words in options]
    return element("label", element("span", label), element("select", *chosen, name=name, autocomplete="off"))


def footer(command: str) -> Markup:
    """Return what stands at the foot of a page: the command line, if any, and the date."""
    stamp = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = time.gmtime(int(stamp)) if stamp.isdigit() else time.localtime()
    written = element("p", f"Written on {moment.tm_mday} {time.strftime('%B %Y', moment)} by detector.")
    return joined([element("p", "Command: ", element("code", command)) if command else None, written])


def policy(style: str, script: str = "") -> Markup:
    """Return the content security policy: nothing from outside, no script or style but these two."""
    scripts = f"'sha256-{_digest(script)}'" if script else "'none'"
    rules = (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{_digest(style)}'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
    return element("meta", http_equiv="Content-Security-Policy", content=rules)


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def template(name: str) -> str:
    """Return a page that is shipped beside this module, with the head that all pages share."""
    return asset("head.html") + asset(name)


def styles(*names: str) -> str:
    """Return the look that all pages share, and then the style sheets of this one."""
    return "".join(asset(name) for name in ("look.css", *names))


def asset(name: str) -> str:
    """Return a file that is shipped beside this module."""
    return files("detector.reports").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
