"""One finding as a card, one plain query as a row: the HTML of single reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.report import LEVEL_WORDS, ImageReport, Match, Occurrence, Point, Verdict
from detector.reports import generation
from detector.reports.markup import Markup, element, joined, link, text
from detector.reports.pictures import Shown
from detector.reports.wording import (
    NBSP,
    NOT_RECORDED,
    described,
    evidence_in_words,
    file_name,
    folded,
    headline,
    level_in_words,
    near_duplicates_in_words,
    places_in_words,
    plain,
    reason_in_words,
    reconstruction_in_words,
    region_in_words,
    title_of,
)
from detector.rights import licence_sentence, opt_out_sentences

MAX_CORNERS = 64
"""Of a region that is drawn; ours have about ten."""

MAX_PLACES = 20
"""Places of a reference that a card lists; the JSONL has them all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A report with at least one match of level 2 or more, and the match that its card leads with.

    Attributes:
        report: The query's report.
        lead: The closest match that is not cleared, or the closest at all.
        cleared: Every match of level 2 or more is cleared.
    """

    report: ImageReport
    lead: Match
    cleared: bool

    @classmethod
    def of(cls, report: ImageReport) -> Finding | None:
        """Return the finding in a report, or None where there is none to show."""
        shown = [m for m in report.matches if m.level >= 2]
        if report.verdict is Verdict.UNREADABLE or not shown:
            return None
        counting = [m for m in shown if not m.cleared]
        lead = max(counting or shown, key=lambda m: (m.level, m.score))
        return cls(report, lead, cleared=not counting)

    @property
    def kind(self) -> str:
        """What the filters call it: ``replica``, ``possible`` or ``cleared``."""
        if self.cleared:
            return "cleared"
        return "replica" if self.lead.level >= 3 else "possible"

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Larger is more important: what counts before what is cleared, then level, then score."""
        return (not self.cleared, self.lead.level, self.lead.score)

    @property
    def licences(self) -> list[str]:
        """Distinct licences of the leading match, as recorded."""
        found = dict.fromkeys(o.licence.strip() or NOT_RECORDED for o in self.lead.reference.occurrences)
        return list(found) or [NOT_RECORDED]


def card(
    finding: Finding,
    query: Shown,
    reference: Shown,
    *,
    number: int,
    licences: dict[str, int],
    models: dict[str, int],
) -> Markup:
    """Return a finding with both pictures.

    Args:
        finding: What to show.
        query: Small copy of the generated picture.
        reference: Small copy of the training image.
        number: Of the card, for anchors.
        licences: Number of each licence in the page's filter.
        models: Number of each model in it.
    """
    match = finding.lead
    place = described(match.reference.occurrences)
    made = finding.report.generation
    shape = shape_of(query, reference)
    pictures = element(
        "div",
        figure(
            "Generated picture",
            query,
            match.query_region,
            alt=f"Generated picture {file_name(finding.report.query)}",
            caption=_file(finding.report.query, finding.report.width, finding.report.height),
        ),
        figure(
            "Training image in the index",
            reference,
            match.reference_region,
            alt="Training image: " + _named(place),
            caption=_size(match.reference.width, match.reference.height),
        ),
        generation.fold(made),
        class_=f"pair {shape}",
    )
    head = element("header", _badges(finding), _title(match, place, number))
    body = element(
        "div",
        generation.note(made, match),
        _facts(match, place),
        _evidence(match),
        _rights(match),
        _further(finding),
        class_="body",
    )
    article = element("article", head, pictures, body, aria_labelledby=f"f{number}")
    return element(
        "li",
        article,
        class_=f"card{' cleared' if finding.cleared else ''}",
        data_kind=finding.kind,
        data_level=match.level,
        data_score=f"{match.score:.4f}",
        data_name=finding.report.query,
        data_licences="".join(f" {licences[name]}" for name in finding.licences if name in licences) + " ",
        data_find=_findable(finding),
        **generation.attributes(made, models),
    )


def finding_row(finding: Finding, *, licences: dict[str, int], models: dict[str, int]) -> Markup:
    """Return a finding as one line of text, for what is beyond the number of cards."""
    match = finding.lead
    place = described(match.reference.occurrences)
    made = finding.report.generation
    words = [level_in_words(match.level), f"score {match.score:.2f}", _named(place)]
    if made is not None and made.is_reconstruction:
        words.append(reconstruction_in_words(made))
    return element(
        "li",
        element("bdi", finding.report.query),
        " ",
        element("span", ", ".join(words), class_="why"),
        data_kind=finding.kind,
        data_level=match.level,
        data_licences="".join(f" {licences[name]}" for name in finding.licences if name in licences) + " ",
        data_find=generation.findable(made) or None,
        **generation.attributes(made, models),
    )


def plain_row(report: ImageReport, *, models: dict[str, int]) -> Markup:
    """Return a query without a finding as one line: its name and, where there is one, the reason."""
    reason = None
    if report.reason:
        reason = element("span", reason_in_words(report.reason), class_="why")
    elif report.best is not None and report.best.level == 1:
        place = described(report.best.reference.occurrences)
        reason = element("span", f"weak resemblance to {_named(place)}", class_="why")
    made = report.generation
    return element(
        "li",
        element("bdi", report.query),
        " " if reason else None,
        reason,
        data_find=generation.findable(made) or None,
        **generation.attributes(made, models),
    )


def _badges(finding: Finding) -> Markup:
    match = finding.lead
    more = [element("span", "mirrored", class_="tag")] if match.mirrored else []
    region = region_in_words(match)
    if region and (match.level <= 3 or region != "whole picture"):
        more.append(element("span", region, class_="tag"))
    if finding.cleared:
        more.append(element("span", "cleared by your policy", class_="tag ok"))
    attempt = generation.badge(finding.report.generation)
    more += [attempt] if attempt is not None else []
    return element("p", level_badge(match), score_badge(match), *more, class_="badges")


def level_badge(match: Match) -> Markup:
    """Return the level of a match: its number, words and pips."""
    level = min(max(match.level, 0), 5)
    pips = (element("i", class_="on" if place < level else None) for place in range(5))
    return element(
        "span",
        element("span", "Level ", class_="sr"),
        element("b", str(level)),
        f" {LEVEL_WORDS[level]}",
        element("span", *pips, class_="pips", aria_hidden="true"),
        class_=f"level l{level}",
    )


def score_badge(match: Match) -> Markup:
    """Return the score of a match."""
    return element("span", "score ", element("b", f"{match.score:.2f}"), class_="score")


def _title(match: Match, place: Occurrence, number: int) -> Markup:
    by = joined([" by ", element("bdi", place.artist)]) if place.artist.strip() else None
    return element(
        "h3",
        headline(match.level),
        " ",
        element("cite", element("bdi", title_of(place))),
        by,
        id=f"f{number}",
    )


def _facts(match: Match, place: Occurrence) -> Markup:
    rows: list[tuple[str, Markup]] = []
    rows += [] if place.artist.strip() else [("Artist", text(NOT_RECORDED))]
    rows += [] if place.title.strip() else [("Title", text(NOT_RECORDED))]
    rows.append(("Licence", link(place.licence) if place.licence.strip() else text(NOT_RECORDED)))
    rows += [("Source", link(place.source))] if place.source.strip() else []
    rows += [("File", element("bdi", place.path, class_="path"))] if place.path else []
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in rows))


def _evidence(match: Match) -> Markup:
    measured = [element("li", words) for words in evidence_in_words(match)]
    notes = (
        near_duplicates_in_words(match.near_duplicates),
        places_in_words(len(match.reference.occurrences)),
    )
    return joined(
        [
            element("h4", "What was measured"),
            element("ul", *measured, class_="evidence"),
            *(element("p", note, class_="note") for note in notes if note),
        ]
    )


def _rights(match: Match) -> Markup:
    said = opt_out_sentences(match.reference.occurrences)
    return joined(
        [
            element("h4", "What the licence asks"),
            element("p", element("bdi", plain(licence_sentence(match.reference))), class_="note rights"),
            *(element("p", element("bdi", plain(sentence)), class_="note") for sentence in said),
        ]
    )


def _further(finding: Finding) -> Markup | None:
    pieces = []
    places = finding.lead.reference.occurrences
    if len(places) > 1:
        items = [element("li", _place(o)) for o in places[:MAX_PLACES]]
        if len(places) > MAX_PLACES:
            items.append(element("li", f"and {len(places) - MAX_PLACES:,} more places"))
        pieces.append(_details(f"All {len(places):,} places of this picture", element("ul", *items)))
    others = [m for m in finding.report.matches if m is not finding.lead]
    if others:
        label = "1 other match" if len(others) == 1 else f"{len(others):,} other matches"
        pieces.append(_details(label, element("ul", *(element("li", _other(m)) for m in others))))
    return joined(pieces) if pieces else None


def _details(label: str, content: Markup) -> Markup:
    return element("details", element("summary", label), content)


def _other(match: Match) -> Markup:
    place = described(match.reference.occurrences)
    words = [level_in_words(match.level), f"score {match.score:.2f}", *filter(None, [region_in_words(match)])]
    words += [place.licence or f"licence {NOT_RECORDED}"]
    words += ["cleared by your policy"] if match.cleared else []
    return joined([element("bdi", _named(place)), element("span", ", ".join(words), class_="why")], " ")


def _place(place: Occurrence) -> Markup:
    said = ", ".join(filter(None, [_named(place), place.licence or f"licence {NOT_RECORDED}"]))
    source = link(place.source) if place.source.strip() else None
    path = element("bdi", place.path, class_="path")
    return joined([element("bdi", said), path, *([source] if source else [])], " ")


def _named(place: Occurrence) -> str:
    return title_of(place) + (f" by {place.artist}" if place.artist.strip() else "")


def _size(width: int, height: int) -> Markup:
    return text(f"{width:,}{NBSP}×{NBSP}{height:,}" if width and height else "")


def _file(path: str, width: int, height: int) -> Markup:
    size = element("span", _size(width, height), class_="size") if width and height else None
    name = file_name(path) or "no file recorded"
    return joined(
        [element("bdi", name, class_="path", title=plain(path) if path != name else None), size], " "
    )


def figure(label: str, shown: Shown, region: tuple[Point, ...], *, alt: str, caption: Markup) -> Markup:
    """Return a picture, with the shared region drawn on it, or why there is none; and what to say below."""
    if shown.uri:
        image = element(
            "img",
            src=shown.uri,
            width=shown.width,
            height=shown.height,
            alt=alt,
            loading="lazy",
            decoding="async",
        )
        frame = element("div", image, _overlay(shown, region), class_="frame")
    else:
        missing = element("span", "No picture to show: " + shown.missing)
        frame = element("div", missing, class_="frame none")
    return element("figure", frame, element("figcaption", element("b", label), element("br"), caption))


def _overlay(shown: Shown, region: tuple[Point, ...]) -> Markup | None:
    """Draw the shared region: the rest dimmed, an outline, a dot at the first corner.

    The drawing has the picture's own size and scales by the same rule (contained, centred), so it lies on it.
    """
    width, height = shown.width, shown.height
    paths = region_paths(region, width, height)
    if paths is None:
        return None
    outline, first = paths
    return element(
        "svg",
        element("path", d=f"M0 0H{width}V{height}H0Z{outline}", class_="rest"),
        element("path", d=outline, class_="halo"),
        element("path", d=outline, class_="line"),
        element("path", d=first, class_="dot halo"),
        element("path", d=first, class_="dot line"),
        viewBox=f"0 0 {width} {height}",
        aria_hidden="true",
        focusable="false",
    )


def region_paths(region: Sequence[Point], width: float, height: float) -> tuple[str, str] | None:
    """Return the SVG paths of a region's outline and of a dot at its first corner, or None where there is none.

    Args:
        region: Corners, in shares of width and height.
        width: Of the drawing.
        height: Of the drawing.
    """
    points = [p for p in region if math.isfinite(p[0]) and math.isfinite(p[1])]
    if len(points) < 3 or len(points) > MAX_CORNERS:
        return None
    corners = [(min(max(x, -1.0), 2.0) * width, min(max(y, -1.0), 2.0) * height) for x, y in points]
    outline = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"
    return outline, "M{:.1f} {:.1f}h0.01".format(*corners[0])


def shape_of(*pictures: Shown) -> str:
    """Return the shape of both frames, so that two wide pictures do not stand in two squares."""
    ratios = [p.width / p.height for p in pictures if p.uri]
    if ratios and min(ratios) >= 1.25:
        return "wide"
    return "tall" if ratios and max(ratios) <= 0.85 else "square"


def _findable(finding: Finding) -> str:
    """Return what the page's text search looks through, folded as the page's script folds what is typed."""
    words = [finding.report.query]
    for match in finding.report.matches:
        for place in match.reference.occurrences[:MAX_PLACES]:
            words += [place.artist, place.title, Path(place.path).name]
    found = folded(" ".join(dict.fromkeys(word for word in words if word)))
    return f"{found[:4000]} {generation.findable(finding.report.generation)}".rstrip()
