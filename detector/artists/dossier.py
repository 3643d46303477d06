"""The dossier: everything a look-up found as one self-contained page for an artist, which prints well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from detector.artists.cards import card
from detector.artists.pictures import SmallCopies
from detector.artists.report import FoundWork, LookupReport
from detector.artists.words import date_in_words
from detector.reports.atomic import replacing
from detector.reports.markup import Markup, element, filled, joined, text
from detector.reports.page import policy, styles, template
from detector.reports.wording import described, file_name, plain, plural, reason_in_words, title_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from index.searching import Searchable

MAX_CARDS = 1_000
"""Works shown with pictures: some 60 MB at most. The others are listed, and ``report.json`` has them all."""

MAX_ROWS = 20_000


def write_html(
    report: LookupReport, path: str | Path, *, index: Searchable, pictures: Mapping[str, Image | bytes]
) -> None:
    """Write the dossier; see `LookupReport.save_html`."""
    with replacing(path) as file:
        for piece in pieces_of(report, SmallCopies(report, index=index, pictures=pictures)):
            file.write(piece.encode("utf-8"))


def pieces_of(report: LookupReport, copies: SmallCopies) -> Iterator[Markup]:
    """Yield the page piece by piece; the same report and pictures give the same page.

    Args:
        report: What was found.
        copies: Its pictures.
    """
    style = styles("page.css", "dossier.css")
    slots: dict[str, Callable[[], Iterable[Markup]]] = {
        "policy": lambda: [policy(style)],
        "style": lambda: [Markup(f"<style>{style}</style>")],
        "title": lambda: [element("title", f"{_subject(report)} in a training set")],
        "header": lambda: [_header(report)],
        "works": lambda: _works(report, copies),
        "lists": lambda: [_lists(report)],
        "verify": lambda: [_verify(report)],
        "footer": lambda: [element("p", f"Made on {date_in_words(report.made)} by detector.")],
    }
    yield from filled(template("dossier.html"), slots)


def _subject(report: LookupReport) -> str:
    if report.name:
        return f"Works of {plain(report.name)}"
    return "Your pictures" if report.pictures else f"Works from {plain(report.source_contains)}"


def _header(report: LookupReport) -> Markup:
    sure = [work for work in report.works if work.verified]
    numbers = [
        ("", len(sure), "Work found" if len(sure) == 1 else "Works found"),
        ("many", sum(work.copies > 1 for work in sure), "More than once"),
    ]
    if report.findings:
        given = sum(any(replica.level >= 3 for replica in work.replicas) for work in sure)
        numbers.append(("given", given, "Replicated"))
    if report.licence:
        numbers.append(("differs", sum(bool(work.contradictions) for work in sure), "Licence differs"))
    chips = [
        element("li", element("b", f"{count:,}"), element("span", label), class_=f"chip {kind}".strip())
        for kind, count, label in numbers
    ]
    asked = [f"“{report.name}”" if report.name else ""]
    asked.append(plural(len(report.pictures), "picture") if report.pictures else "")
    asked.append(f"source “{report.source_contains}”" if report.source_contains else "")
    where = [f"Looked up: {', '.join(filter(None, asked))}"]
    where += [f"Index {file_name(report.index.path)}, {plural(report.index.references, 'picture')}"]
    if report.findings:
        where.append(f"{plural(report.generated, 'generated picture')} in saved findings")
    where.append(date_in_words(report.made))
    spelled = ""
    if report.artists:
        spelled = f"The name was taken to mean: {'; '.join(plain(each) for each in report.artists)}."
    return joined(
        [
            element("p", f"{_subject(report)} in a training set", class_="eyebrow"),
            element("h1", report.summary),
            element("p", spelled, class_="rest-of-it") if spelled else None,
            element("ul", *chips, class_="chips", role="list") if report.works else None,
            element("p", " · ".join(where), class_="where"),
        ]
    )


def _works(report: LookupReport, copies: SmallCopies) -> Iterator[Markup]:
    sure = [work for work in report.works if work.verified]
    alike = [work for work in report.works if not work.verified]
    shown = 0
    for name, heading, works in (
        ("works", "Works in this training set", sure),
        ("possible", "Look at these yourself", alike),
    ):
        if not works and name == "possible":
            continue
        yield Markup(f'<section id="{name}" aria-labelledby="{name}-title" tabindex="-1">')
        yield element("h2", heading, id=f"{name}-title")
        if not works:
            yield element("p", "No work was found in this index.", class_="empty")
        else:
            yield element("p", _legend(name, works), class_="legend")
            yield Markup('<ol class="cards" role="list">\n')
            for work in works[: max(0, MAX_CARDS - shown)]:
                yield card(work, report, copies)
                yield Markup("\n")
            yield Markup("</ol>")
            further = works[max(0, MAX_CARDS - shown) :]
            shown += len(works)
            if further:
                yield _rows(
                    f"{plural(len(further), 'more work')}, without pictures", map(_row, further[:MAX_ROWS])
                )
        yield Markup("</section>")


def _legend(name: str, works: list[FoundWork]) -> str:
    if name == "possible":
        return "These strongly resemble a picture of yours, but the comparison could not verify it."
    drawn = any(work.match is not None or work.replicas for work in works)
    return (
        "Outlined: what two pictures share. The dot marks the same corner in both."
        if drawn
        else ("Each work as the index holds it.")
    )


def _row(work: FoundWork) -> Markup:
    place = described(work.reference.occurrences)
    words = [f"{work.copies:,} ×" if work.copies > 1 else "", f"number {work.reference.id}"]
    return joined(
        [element("bdi", title_of(place)), element("span", ", ".join(filter(None, words)), class_="why")], " "
    )


def _lists(report: LookupReport) -> Markup:
    pieces: list[Markup | None] = []
    if report.suggestions:
        listed = [element("bdi", each) for each in report.suggestions]
        note = (
            "These spellings in the index are like the name and were not taken to mean it. Where one is yours, look "
            "it up as well."
        )
        pieces.append(_rows("Not counted here", listed, note))
    if report.unmatched:
        listed = [element("bdi", each) for each in report.unmatched[:MAX_ROWS]]
        note = "Nothing in this index was found close to these. That says nothing about other training sets."
        pieces.append(_rows("Pictures that nothing was found for", listed, note))
    if report.unreadable:
        listed = [
            joined([element("bdi", name), element("span", reason_in_words(why), class_="why")], " ")
            for name, why in report.unreadable[:MAX_ROWS]
        ]
        pieces.append(_rows("Pictures that could not be read", listed))
    if report.skipped:
        listed = [
            joined(
                [element("bdi", file_name(file)), element("span", f"line {line} {why}", class_="why")], " "
            )
            for file, line, why in report.skipped[:MAX_ROWS]
        ]
        pieces.append(_rows("Lines of findings that could not be read", listed))
    return joined(pieces)


def _rows(heading: str, rows: Iterable[Markup], note: str = "") -> Markup:
    items = (element("li", row) for row in rows)
    return element(
        "section",
        element("h2", heading),
        element("p", note) if note else None,
        element("ul", *items, role="list"),
        class_="list-plain",
    )


def _verify(report: LookupReport) -> Markup:
    facts: list[tuple[str, Markup]] = [("Made", text(report.made))]
    if report.command:
        facts.append(("Command", element("code", report.command)))
    index = report.index
    facts.append(
        (
            "Index",
            joined(
                [
                    f"{file_name(index.path)}, state {index.generation}: {plural(index.references, 'picture')} at "
                    f"{plural(index.occurrences, 'place')}. Manifest, SHA-256: ",
                    element("span", index.manifest_sha256, class_="digest"),
                ]
            ),
        )
    )
    for each in index.descriptors:
        weights = str(each.get("weights_digest") or "")
        said: list[Markup | str] = [f"{each.get('name')}, version {each.get('version')}"]
        said += [". Weights, SHA-256: ", element("span", weights, class_="digest")] if weights else []
        facts.append(("Descriptor", joined(said)))
    facts.append(
        (
            "Scores from",
            joined(["model with SHA-256 ", element("span", report.scoring_sha256, class_="digest")]),
        )
    )
    facts.append(
        ("Versions", text(", ".join(f"{name} {number}" for name, number in report.versions.items())))
    )
    if report.findings:
        facts.append(("Findings", text(", ".join(file_name(file) for file in report.findings))))
    rows = (element("div", element("dt", name), element("dd", value)) for name, value in facts)
    return element("dl", *rows, class_="facts")
