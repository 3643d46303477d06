"""Duplicates of an index as one self-contained HTML page, written as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from detector.report import Evidence, Reference
from detector.reports.atomic import replacing
from detector.reports.cards import MAX_PLACES, figure, shape_of
from detector.reports.markup import Markup, element, filled, joined, text
from detector.reports.page import footer, policy, styles, template
from detector.reports.pictures import Shown, shown_reference
from detector.reports.wording import (
    NBSP,
    NOT_RECORDED,
    described,
    duration_in_words,
    file_name,
    plural,
    title_of,
)

if TYPE_CHECKING:
    from detector.duplicates import DuplicateCluster, DuplicateMember, DuplicateReport, Tie

Thumbnail = Callable[[int], "bytes | None"]

PICTURE_SIDE = 288
"""Longest side of a picture, in pixels."""

MAX_GROUPS = 500
"""Groups shown with pictures; the JSONL has them all."""

MAX_ROWS = 20_000
"""Groups beyond those that are listed as text."""

MAX_MEMBERS = 24
"""Pictures shown of a group; the others are listed by name."""


def write_html(
    report: DuplicateReport,
    path: Path | str,
    *,
    thumbnail: Thumbnail,
    title: str = "Duplicates",
    command: str = "",
) -> None:
    """Write one page that holds everything it needs and loads nothing.

    Args:
        report: What was found.
        path: File to write; it appears whole or not at all.
        thumbnail: Returns the encoded small copy of a reference by its id, or None.
        title: Of the page.
        command: Command line that made the report, or an empty string.

    Raises:
        UsageError: The file cannot be written.
    """
    style = styles("page.css", "duplicates_page.css")
    slots: dict[str, Callable[[], Iterable[Markup]]] = {
        "policy": lambda: [policy(style)],
        "style": lambda: [Markup(f"<style>{style}</style>")],
        "title": lambda: [element("title", title)],
        "header": lambda: [_header(report, title)],
        "groups": lambda: _groups(report, thumbnail),
        "footer": lambda: [footer(command)],
    }
    with replacing(path) as file:
        for piece in filled(template("duplicates_page.html"), slots):
            file.write(piece.encode("utf-8"))


def _header(report: DuplicateReport, title: str) -> Markup:
    numbers = [
        ("", len(report), "Group" if len(report) == 1 else "Groups"),
        ("", report.repeated, "Files in them"),
        ("keep", sum(m.kept for c in report for m in c.members), "Kept"),
        ("drop", len(report.dropped_paths), "Listed to drop"),
    ]
    chips = [
        element("li", element("b", f"{count:,}"), element("span", label), class_=f"chip {kind}".strip())
        for kind, count, label in numbers
    ]
    sought = "whole pictures and shared parts" if report.parts else "whole pictures only, no shared parts"
    facts = [f"Index {report.index}", f"{plural(report.references, 'distinct picture')} looked at", sought]
    facts += [duration_in_words(report.seconds)] if report.seconds > 0 else []
    means = (
        "Repeated pictures are the ones that diffusion models memorise most readily (Carlini et al. 2023; "
        "Webster et al. 2023): drop copies before training, and look at the largest groups first after it."
    )
    return joined(
        [
            element("p", title, class_="eyebrow"),
            element("h1", report.summary),
            element("p", means, class_="rest-of-it") if report.clusters else None,
            element("ul", *chips, class_="chips", role="list") if report.clusters else None,
            element("p", " · ".join(facts), class_="where"),
        ]
    )


def _groups(report: DuplicateReport, thumbnail: Thumbnail) -> Iterator[Markup]:
    yield Markup('<section id="groups" aria-labelledby="groups-title" tabindex="-1">')
    yield element("h2", "Groups, the most repeated first", id="groups-title")
    if not report.clusters:
        yield element("p", "No near-duplicates in this index.", class_="empty")
    else:
        said = "Outlined in a picture: the part that it shares. The kept picture comes first."
        yield element("p", said, class_="legend")
        yield Markup('<ol class="cards" role="list">\n')
        for cluster in report.clusters[:MAX_GROUPS]:
            yield _card(cluster, thumbnail)
            yield Markup("\n")
        yield Markup("</ol>")
    yield Markup("</section>")
    further = report.clusters[MAX_GROUPS:]
    if further:
        yield Markup('<details class="list">')
        count = element("span", f"{len(further):,}", class_="count")
        yield element("summary", element("h2", "Further groups, without pictures ", count))
        yield Markup('<ul class="rows" role="list">\n')
        for cluster in further[:MAX_ROWS]:
            yield element("li", _row(cluster))
            yield Markup("\n")
        yield Markup("</ul></details>")


def _row(cluster: DuplicateCluster) -> Markup:
    names = ", ".join(file_name(o.path) for m in cluster.members for o in m.reference.occurrences[:3])
    return joined([f"{cluster.occurrences:,} × {_named(cluster.members[0].reference)} ", _why(names[:400])])


def _why(words: str) -> Markup:
    return element("span", element("bdi", words), class_="why")


def _card(cluster: DuplicateCluster, thumbnail: Thumbnail) -> Markup:
    pictures = {
        m.reference.id: shown_reference(m.reference, thumbnail(m.reference.id), max_side=PICTURE_SIDE)
        for m in cluster.members[:MAX_MEMBERS]
    }
    members = {m.reference.id: m for m in cluster.members}
    tiles = [_tile(members[number], shown, cluster) for number, shown in pictures.items()]
    dropped = len(cluster.dropped_paths)
    times = element(
        "span",
        element("b", f"{cluster.occurrences:,}"),
        " times in the training set",
        class_=f"level times{' many' if cluster.occurrences >= 4 else ''}",
    )
    tags = [f"{plural(dropped, 'file')} to drop" if dropped else "none to drop"]
    tags += [] if cluster.is_one_work else ["not all the same picture"]
    badges = element("p", times, *(element("span", tag, class_="tag") for tag in tags), class_="badges")
    place = described(cluster.members[0].reference.occurrences)
    by = joined([" by ", element("bdi", place.artist)]) if place.artist.strip() else None
    heading = element("h3", element("cite", element("bdi", title_of(place))), by, id=f"g{cluster.id}")
    shape = shape_of(*pictures.values())
    article = element(
        "article",
        element("header", badges, heading),
        element("p", cluster.meaning, class_="note"),
        element("ul", *tiles, class_=f"copies {shape}", role="list"),
        _beyond(cluster),
        aria_labelledby=f"g{cluster.id}",
    )
    return element("li", article, class_="card group")


def _beyond(cluster: DuplicateCluster) -> Markup | None:
    rest = cluster.members[MAX_MEMBERS:]
    if not rest:
        return None
    rows = [
        element("li", element("bdi", o.path, class_="path")) for m in rest for o in m.reference.occurrences
    ]
    summary = element("summary", f"{plural(len(rest), 'more picture')} of this group")
    return element("details", summary, element("ul", *rows), class_="beyond")


def _tile(member: DuplicateMember, shown: Shown, cluster: DuplicateCluster) -> Markup:
    reference, tie = member.reference, member.tie
    place = described(reference.occurrences)
    path = member.kept_path or (reference.occurrences[0].path if reference.occurrences else "")
    caption = joined(
        [
            element("span", _how(tie, cluster), class_="how"),
            element("bdi", path, class_="path"),
            element("span", _facts(reference), class_="facts size"),
            element("span", _evidence(tie.evidence) if tie else "", class_="facts"),
            _places(member),
        ]
    )
    drawn = figure(
        "Kept" if member.kept else "To drop",
        shown,
        _region(member, cluster),
        alt=f"Training image: {title_of(place)}",
        caption=caption,
    )
    return element("li", drawn, class_="kept" if member.kept else "dropped")


def _how(tie: Tie | None, cluster: DuplicateCluster) -> Markup:
    from detector.duplicates import RELATION_WORDS, Relation

    if tie is None:
        alone = len(cluster.members) == 1
        return text("the same file at several places" if alone else "the others are compared with it")
    names = {m.reference.id: m.reference for m in cluster.members}
    other = element("bdi", file_name(_first_path(names.get(tie.to))))
    words = RELATION_WORDS[tie.relation]
    words += " of " if tie.relation is Relation.NEAR_COPY else ": "
    level = f" (level {tie.level}, score {tie.score:.2f})"
    return joined([words, other, ", mirrored" if tie.mirrored else "", level])


def _first_path(reference: Reference | None) -> str:
    return reference.occurrences[0].path if reference is not None and reference.occurrences else ""


def _region(member: DuplicateMember, cluster: DuplicateCluster) -> tuple[tuple[float, float], ...]:
    from detector.duplicates import Relation

    whole = (Relation.IDENTICAL, Relation.NEAR_COPY)
    if member.tie is not None:
        partial = member.tie.relation in (Relation.CONTAINS, Relation.PART, Relation.TEMPLATE)
        return member.tie.region if partial else ()
    ties = [m.tie for m in cluster.members if m.tie is not None and m.tie.relation not in whole]
    return ties[0].region_there if len(ties) == 1 else ()


def _facts(reference: Reference) -> str:
    place = described(reference.occurrences)
    size = f"{reference.width:,}{NBSP}×{NBSP}{reference.height:,}" if reference.width else ""
    artist = place.artist.strip() or f"artist {NOT_RECORDED}"
    licence = place.licence.strip() or f"licence {NOT_RECORDED}"
    return " · ".join(filter(None, [size, place.title.strip(), artist, licence]))


def _evidence(evidence: Evidence) -> str:
    said = []
    if evidence.inliers:
        said.append(plural(evidence.inliers, "matching point"))
    if evidence.aligned_similarity is not None:
        said.append(f"structure agrees to {evidence.aligned_similarity:.2f} of 1")
    if evidence.pdq_distance is not None:
        said.append(f"PDQ distance {evidence.pdq_distance} of 256")
    return " · ".join(said)


def _places(member: DuplicateMember) -> Markup | None:
    places = member.reference.occurrences
    if len(places) < 2:
        return None
    rows = [
        element("li", element("bdi", o.path), " (kept)" if o.path == member.kept_path else None)
        for o in places[:MAX_PLACES]
    ]
    if len(places) > MAX_PLACES:
        rows.append(element("li", f"and {len(places) - MAX_PLACES:,} more places"))
    return element(
        "details", element("summary", f"All {len(places):,} places of this file"), element("ul", *rows)
    )


def _named(reference: Reference) -> str:
    place = described(reference.occurrences)
    return title_of(place) + (f" by {place.artist}" if place.artist.strip() else "")
