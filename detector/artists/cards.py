"""One work as a card of the dossier: pictures, facts, how often, what gives it back, licence."""

from __future__ import annotations

from detector.artists.contradictions import is_recorded
from detector.artists.pictures import SmallCopies
from detector.artists.report import FoundWork, LookupReport, Replica
from detector.artists.words import (
    REASON_WORDS,
    copies_in_words,
    evidence_of_yours,
    memorisation_in_words,
    replicas_in_words,
)
from detector.report import Occurrence
from detector.reports.cards import MAX_PLACES, figure, level_badge, score_badge, shape_of
from detector.reports.markup import Markup, element, joined, link, text
from detector.reports.wording import (
    NBSP,
    NOT_RECORDED,
    described,
    evidence_in_words,
    file_name,
    generation_in_words,
    headline,
    plain,
    plural,
    reconstruction_note,
    region_in_words,
    title_of,
)
from detector.rights import licence_sentence, opt_out_sentences

MAX_REPLICAS = 12
"""Generated pictures shown of a work; the others are counted."""


def card(work: FoundWork, report: LookupReport, copies: SmallCopies) -> Markup:
    """Return a work with everything that was found of it.

    Args:
        work: What to show.
        report: That it is part of.
        copies: The report's pictures.
    """
    reference, number = work.reference, work.reference.id
    place = described(reference.occurrences)
    shown = copies.reference(reference)
    own = copies.own(work.picture) if work.match is not None else None
    theirs = figure(
        "In the training set",
        shown,
        work.match.reference_region if work.match is not None else (),
        alt=f"Training image: {title_of(place)}",
        caption=_caption(reference.occurrences, reference.width, reference.height),
    )
    if own is not None and work.match is not None:
        yours = figure(
            "Your picture",
            own,
            work.match.query_region,
            alt=f"Your picture {file_name(work.picture)}",
            caption=element("bdi", file_name(work.picture), class_="path"),
        )
        pair = element("div", yours, theirs, class_=f"pair {shape_of(own, shown)}")
    else:
        pair = element("div", theirs, class_=f"pair one {shape_of(shown)}")
    by = joined([" by ", element("bdi", place.artist)]) if place.artist.strip() else None
    title = element("h3", element("cite", element("bdi", title_of(place))), by, id=f"w{number}")
    body = element("div", _facts(work), _said(work, report), _rights(work, report), class_="body")
    article = element(
        "article", element("header", _badges(work), title), pair, body, aria_labelledby=f"w{number}"
    )
    single = "" if work.match is not None else " single"
    return element("li", article, _replicas(work, copies), class_=f"card work{single}")


def _badges(work: FoundWork) -> Markup:
    tags = []
    replicated = sum(replica.level >= 3 for replica in work.replicas)
    if replicated:
        words = f"replicated by {plural(replicated, 'generated picture')}"
        tags.append(element("span", words, class_="level given"))
    if work.copies > 1:
        tags.append(element("span", f"{work.copies:,} times in the training set", class_="level times"))
    elif work.verified:
        tags.append(element("span", "once in the training set", class_="tag"))
    if work.match is not None:
        tags += [level_badge(work.match), score_badge(work.match)]
        region = region_in_words(work.match)
        tags += [element("span", region, class_="tag")] if region else []
    if work.contradictions:
        tags.append(element("span", "licence differs", class_="tag differs"))
    return element("p", *tags, class_="badges")


def _facts(work: FoundWork) -> Markup:
    places = work.reference.occurrences
    place = described(places)
    licences = dict.fromkeys(o.licence.strip() if is_recorded(o) else NOT_RECORDED for o in places)
    rows = [("Found", text(", and ".join(REASON_WORDS[reason] for reason in work.reasons)))]
    rows += [] if place.artist.strip() else [("Artist", text(NOT_RECORDED))]
    licence = joined([link(each) for each in licences], " · ") if licences else text(NOT_RECORDED)
    rows.append(("Licence", licence))
    if len(places) == 1:
        rows += [("Source", link(place.source))] if place.source.strip() else []
        rows.append(("File", element("bdi", place.path, class_="path")))
    rows.append(("Number", text(f"{work.reference.id} in this index")))
    rows.append(("SHA-256", element("span", work.reference.sha256, class_="digest")))
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in rows))


def _said(work: FoundWork, report: LookupReport) -> Markup:
    pieces: list[Markup | str | None] = [element("h4", "How often")]
    pieces.append(element("p", f"{copies_in_words(work)} {memorisation_in_words(work)}", class_="note"))
    places = work.reference.occurrences
    if len(places) > 1:
        items = [element("li", _place(place)) for place in places[:MAX_PLACES]]
        if len(places) > MAX_PLACES:
            items.append(element("li", f"and {len(places) - MAX_PLACES:,} more places, in report.json"))
        pieces.append(element("ul", *items, class_="places"))
    given = replicas_in_words(work, report)
    if given:
        pieces += [element("h4", "What generated pictures show"), element("p", given, class_="note")]
    if work.match is not None:
        measured = (element("li", words) for words in evidence_of_yours(work.match))
        pieces += [element("h4", "How your picture compares"), element("ul", *measured, class_="evidence")]
    return joined(pieces)


def _rights(work: FoundWork, report: LookupReport) -> Markup:
    pieces: list[Markup | str | None] = [element("h4", "Licence")]
    words = dict.fromkeys(each.words for each in work.contradictions)
    pieces += [element("p", element("bdi", plain(each)), class_="note differs") for each in words]
    if report.licence and not work.contradictions and work.verified:
        silent = sum(not is_recorded(place) for place in work.reference.occurrences)
        if silent < len(work.reference.occurrences):
            pieces.append(element("p", "What is recorded agrees with the licence you state.", class_="note"))
    pieces.append(element("p", element("bdi", plain(licence_sentence(work.reference))), class_="note rights"))
    said = opt_out_sentences(work.reference.occurrences)
    pieces += [element("p", element("bdi", plain(sentence)), class_="note") for sentence in said]
    return joined(pieces)


def _replicas(work: FoundWork, copies: SmallCopies) -> Markup | None:
    if not work.replicas:
        return None
    items = [_replica(replica, work, copies) for replica in work.replicas[:MAX_REPLICAS]]
    beyond = len(work.replicas) - MAX_REPLICAS
    more = f"and {beyond:,} more, in report.json" if beyond > 0 else ""
    return element(
        "section",
        element("h4", "Generated pictures that replicate or resemble it"),
        element("ol", *items, role="list"),
        element("p", more, class_="note") if more else None,
        class_="replicas",
    )


def _replica(replica: Replica, work: FoundWork, copies: SmallCopies) -> Markup:
    match, made = replica.match, replica.generation
    query, shown = copies.generated(replica), copies.reference(work.reference)
    name = file_name(replica.query)
    caption = element("bdi", name, class_="path")
    left = figure(
        "Generated picture", query, match.query_region, alt=f"Generated picture {name}", caption=caption
    )
    place = described(work.reference.occurrences)
    right = figure(
        "In the training set",
        shown,
        match.reference_region,
        alt=f"Training image: {title_of(place)}",
        caption=element("bdi", title_of(place)),
    )
    tags = [level_badge(match), score_badge(match)]
    tags += [element("span", "mirrored", class_="tag")] if match.mirrored else []
    region = region_in_words(match)
    tags += [element("span", region, class_="tag")] if region else []
    said = list(evidence_in_words(match))
    if made is not None:
        how = generation_in_words(made)
        said += [f"Generated: {how}."] if how else []
        said += [reconstruction_note(made, match)] if made.is_reconstruction else []
    if replica.sha256:
        said.append(f"SHA-256 of the generated picture: {replica.sha256}")
    return element(
        "li",
        element("p", *tags, class_="badges"),
        element("p", element("span", f"{headline(match.level)} this work", class_="sr")),
        element("div", left, right, class_=f"pair {shape_of(query, shown)}"),
        element("ul", *(element("li", element("bdi", plain(words))) for words in said), class_="evidence"),
    )


def _place(place: Occurrence) -> Markup:
    said = [title_of(place) + (f" by {place.artist}" if place.artist.strip() else "")]
    said.append(place.licence.strip() if is_recorded(place) else f"licence {NOT_RECORDED}")
    source = link(place.source) if place.source.strip() else None
    return joined(
        [
            element("bdi", ", ".join(said)),
            element("bdi", place.path, class_="path"),
            *([source] if source else []),
        ],
        " ",
    )


def _caption(places: tuple[Occurrence, ...], width: int, height: int) -> Markup:
    name = file_name(places[0].path) if places else ""
    size = element("span", f"{width:,}{NBSP}×{NBSP}{height:,}", class_="size") if width and height else None
    return joined([element("bdi", name, class_="path") if name else None, size], " ")
