"""An audit as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.report import ImageReport, Match
from detector.reports.atomic import replacing
from detector.reports.audit_tables import (
    NAMES,
    auc_cell,
    auc_table,
    rate_cell,
    side_by_side,
    table_of,
    verdict_badge,
    works_table,
)
from detector.reports.cards import figure
from detector.reports.markup import Markup, element, filled, joined
from detector.reports.page import footer, policy, styles, template
from detector.reports.pictures import Shown, shown_file, shown_reference
from detector.reports.wording import described, level_in_words, plural, shortened, title_of

if TYPE_CHECKING:
    from detector.audit.figures import Extraction, Figures, Signals, WorkSignal
    from detector.audit.log import Item
    from detector.audit.report import AuditReport
    from detector.audit.works import Work
    from index.searching import Searchable

PICTURE_SIDE = 256
"""Longest side of a picture on the page, in pixels."""

STEP_SIDE = 128

MAX_PAIRS = 24
"""Pairs in the gallery; findings.jsonl has them all."""

MAX_LADDERS = 8
"""Ladders of members; half as many of controls."""


def write_html(
    report: AuditReport,
    path: Path | str,
    *,
    items: Mapping[str, Item],
    plots: Mapping[str, Mapping[str, bytes]],
    index: Searchable | None,
) -> None:
    """Write one page that holds everything it needs and loads nothing.

    Args:
        report: What was found.
        path: File to write; it appears whole or not at all.
        items: Of the log, for the pictures.
        plots: SVG by variant and name.
        index: Open, for the references' pictures; None without one.

    Raises:
        UsageError: The file cannot be written.
    """
    style = styles("page.css", "audit_page.css")
    page = _Page(report, items, plots, index)
    slots: dict[str, Callable[[], Iterable[Markup]]] = {
        "policy": lambda: [policy(style)],
        "style": lambda: [Markup(f"<style>{style}</style>")],
        "title": lambda: [element("title", f"Audit of {report.model}")],
        "header": lambda: [_header(report)],
        "variants": page.variants,
        "skipped": lambda: [_skipped(report)],
        "exact": lambda: [_exact(report)],
        "footer": lambda: [footer("")],
    }
    with replacing(path) as file:
        for piece in filled(template("audit_page.html"), slots):
            file.write(piece.encode("utf-8"))


def _header(report: AuditReport) -> Markup:
    found = bool(report.memorised)
    numbers = [
        ("found" if found else "none", len(report.memorised), "Memorised"),
        ("", len(report.members), "Works trained on"),
        ("", len(report.controls), "Controls, never seen"),
    ]
    chips = [
        element("li", element("b", f"{count:,}"), element("span", label), class_=f"chip {kind}".strip())
        for kind, count, label in numbers
    ]
    facts = [f"Model {report.model}"]
    if report.index is not None:
        references = plural(report.index["references"], "training image")
        facts.append(f"index {report.index['path']} with {references}")
    last = list(report.variants)[-1]
    said = [element("li", sentence) for sentence in report.sentences(last)]
    return joined(
        [
            element("p", "Does this model give its training images back?", class_="eyebrow"),
            element("h1", report.summary),
            element("ul", *chips, class_="chips", role="list"),
            element("ul", *said, class_="plain"),
            element("p", " · ".join(facts), class_="where"),
        ]
    )


class _Page:
    """Yields the part of the page that holds the figures."""

    def __init__(
        self,
        report: AuditReport,
        items: Mapping[str, Item],
        plots: Mapping[str, Mapping[str, bytes]],
        index: Searchable | None,
    ) -> None:
        self._report, self._items, self._plots, self._index = report, items, plots, index
        self._works = {work.name: work for work in report.works}

    def variants(self) -> Iterator[Markup]:
        """Yield a section for the model, and one for it with its adapter."""
        several = len(self._report.variants) > 1
        if several:
            yield side_by_side(self._report.variants)
        for variant, figures in self._report.variants.items():
            yield Markup('<section class="variant">')
            if several:
                yield element("h2", NAMES[variant])
                yield element(
                    "ul", *(element("li", s) for s in self._report.sentences(variant)), class_="plain"
                )
            if figures.extraction is not None:
                yield from self._captions(variant, figures.extraction)
            if figures.reconstruction is not None:
                yield from self._reconstructions(variant, figures)
            if figures.prompts is not None:
                note = "How far captions move the first noise predictions, beside captions that it never saw."
                yield Markup('<section class="part">')
                yield element("h3", "The captions’ own signal")
                yield element("p", note, class_="note")
                table = auc_table(figures.prompts, "AUC of the signal against the controls")
                yield element("div", table, self._plot(variant, "prompts"), class_="beside")
                yield Markup("</section>")
            yield Markup("</section>")

    def _captions(self, variant: str, extraction: Extraction) -> Iterator[Markup]:
        yield Markup('<section class="part">')
        yield element("h3", "From captions")
        tries = plural(self._report.options.seeds, "picture")
        yield element("p", f"{tries} generated from each caption, nothing else given.", class_="note")
        head = [
            "trained on",
            "works that came out",
            "generations that replicate their work",
            "… or any other",
        ]
        head += ["captions with near-identical pictures"] if extraction.group_size is not None else []
        rows = []
        for row in extraction.rows:
            cells: list[Markup | str] = [row.label]
            if extraction.searched:
                cells += [rate_cell(row.works), rate_cell(row.generations), rate_cell(row.any)]
            cells += [rate_cell(row.groups)] if row.groups is not None else []
            rows.append((cells, row.control))
        if not extraction.searched:
            head = [head[0], *head[4:]]
        table = table_of(head, rows, "Shares with 95 % intervals; controls were never trained on")
        yield element("div", table, self._plot(variant, "extraction"), class_="beside")
        pairs = self._pairs(variant)
        if pairs:
            yield element("h4", "The closest pairs")
            yield element("ol", *(self._pair(*each) for each in pairs), class_="gallery", role="list")
        yield Markup("</section>")

    def _pairs(self, variant: str) -> list[tuple[Item, ImageReport, Match]]:
        """Return the closest generation of each work, the closest works first."""
        best: dict[str, tuple[Item, ImageReport, Match]] = {}
        for name, item in self._items.items():
            if name.startswith(f"{variant}/txt2img/") and "report" in item:
                report = ImageReport.from_dict(item["report"])
                lead = report.best
                if lead is None or lead.level < 2:
                    continue
                other = best.get(item["work"])
                if other is None or (lead.level, lead.score) > (other[2].level, other[2].score):
                    best[item["work"]] = (item, report, lead)
        ranked = sorted(best.values(), key=lambda each: (-each[2].level, -each[2].score, each[0]["work"]))
        return ranked[:MAX_PAIRS]

    def _pair(self, item: Item, report: ImageReport, lead: Match) -> Markup:
        work = self._works[item["work"]]
        place = described(lead.reference.occurrences)
        generated = shown_file(report.query, sha256=report.sha256, max_side=PICTURE_SIDE)
        if not generated.uri:
            generated = self._picture(item, PICTURE_SIDE)
        stored = self._index.thumbnail(lead.reference.id) if self._index is not None else None
        reference = shown_reference(lead.reference, stored, max_side=PICTURE_SIDE)
        own = lead.reference.id == work.reference_id
        title = joined([element("cite", element("bdi", title_of(place)))])
        pair = element(
            "div",
            figure("Generated", generated, lead.query_region, alt="Generated picture",
                   caption=element("span", f"seed {item['seed']}")),
            figure("Training image", reference, lead.reference_region,
                   alt=f"Training image: {title_of(place)}", caption=title),
            class_="pair",
        )  # fmt: skip
        badge = element("span", f"Level {level_in_words(lead.level)}", class_=f"level l{lead.level}")
        seen = "a control" if work.control else f"trained on ×{work.copies}"
        tags = [seen] if own else [seen, "another work than the caption’s"]
        badges = element("p", badge, *(element("span", tag, class_="tag") for tag in tags), class_="badges")
        said = element("p", "Prompt: ", element("bdi", shortened(work.caption, 300)), class_="said")
        return element("li", pair, badges, said)

    def _reconstructions(self, variant: str, figures: Figures) -> Iterator[Markup]:
        signals = figures.reconstruction
        if signals is None:
            return
        captions = "with their captions" if self._report.img2img_prompts == "captions" else "without captions"
        yield Markup('<section class="part">')
        yield element("h3", "Reconstructions of works that are given in")
        yield element(
            "p",
            f"Each work is covered with noise and restored by img2img, {captions}, from little noise to nearly "
            "nothing but noise. What counts is the difference to works that the model never saw.",
            class_="note",
        )
        labels = list(signals.by_copies) if len(signals.by_copies) > 1 else []
        head = ["strength", "all", *labels, "all, similarity as it is", "all, tiled L2", "all, descriptor"]
        rows: list[tuple[list[Markup | str], bool]] = []
        for row in figures.ladder:
            found = [row.auc, *(row.by_copies.get(label) for label in labels)]
            is_baseline = row.auc is None and bool(signals.controls)
            cells = ["baseline", *("" for _ in labels)] if is_baseline else [auc_cell(each) for each in found]
            cells += [auc_cell(row.similarity_auc), auc_cell(row.l2_auc), auc_cell(row.cosine_auc)]
            rows.append(([f"{row.strength:g}", *cells], False))
        ladder = [signals.auc, *(signals.by_copies.get(label) for label in labels)]
        rows.append((["mean over the ladder", *(auc_cell(each) for each in ladder), "", "", ""], False))
        table = table_of(
            head, rows, "AUC of members against controls by what is kept as noise grows; 0.5 is chance"
        )
        yield element("div", table, self._plot(variant, "img2img"), class_="beside below")
        yield from self._ladders(variant, signals)
        yield works_table(signals)
        yield Markup("</section>")

    def _ladders(self, variant: str, signals: Signals) -> Iterator[Markup]:
        order = sorted(signals.works, key=lambda work: -work.value)
        members = [work for work in order if not work.control][:MAX_LADDERS]
        controls = [work for work in order if work.control][: MAX_LADDERS // 2]
        for title, shown in (
            ("Works that lost least as noise grew", members),
            ("Controls that did", controls),
        ):
            if shown:
                yield element("h4", title)
                yield element(
                    "ol", *(self._ladder(variant, work) for work in shown), class_="ladders", role="list"
                )

    def _ladder(self, variant: str, signal: WorkSignal) -> Markup:
        work = self._works[signal.name]
        steps = [_step(self._given(work), "the work")]
        for strength in self._report.options.strengths:
            item = self._items.get(f"{variant}/img2img-{strength:g}/{work.name}/0")
            if item is not None:
                said = f"{strength:g}: {item['correlation']:.2f}"
                steps.append(_step(self._picture(item, STEP_SIDE), said))
        p_value = f"p {signal.p_value:.3f}" if signal.p_value is not None else ""
        who = element(
            "div",
            element("b", element("bdi", work.name)),
            element("span", " · ".join(filter(None, [signal.label, f"kept {signal.value:+.2f}", p_value]))),
            joined([element("br"), verdict_badge(signal)]) if signal.verdict is not None else None,
            class_="who",
        )
        return element("li", who, element("div", *steps, class_="steps"), class_="ladder")

    def _given(self, work: Work) -> Shown:
        from detector.audit.works import picture_of
        from detector.reports.pictures import shown_picture
        from index.errors import UnreadableImageError

        try:
            return shown_picture(picture_of(work, self._index), max_side=STEP_SIDE)
        except UnreadableImageError as error:
            return Shown(missing=error.reason)

    def _picture(self, item: Item, side: int) -> Shown:
        return shown_file(str(self._report.folder / item["file"]), sha256="", max_side=side)

    def _plot(self, variant: str, name: str) -> Markup | None:
        svg = self._plots.get(variant, {}).get(name)
        if svg is None:
            return None
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
        words = {
            "extraction": "Share extracted against how often the model saw a work",
            "img2img": "Similarity against strength, for works trained on and for controls",
            "prompts": "The captions’ signal against how often the model saw them",
        }
        return element("img", src=uri, alt=words[name], class_="plot")


def _step(shown: Shown, said: str) -> Markup:
    picture = element("img", src=shown.uri, width=shown.width, height=shown.height, alt="", loading="lazy")
    return element("figure", picture if shown.uri else None, element("figcaption", said))


def _skipped(report: AuditReport) -> Markup:
    said = [element("li", f"{part}: {reason}") for part, reason in report.skipped.items()]
    if report.left_out:
        names = ", ".join(list(report.left_out)[:10]) + (" …" if len(report.left_out) > 10 else "")
        count = plural(len(report.left_out), "work")
        said.append(element("li", f"{count} without a picture that can be read: {names}"))
    if not said:
        return Markup("")
    return element("section", element("h3", "Left out"), element("ul", *said, class_="plain"), class_="part")


def _exact(report: AuditReport) -> Markup:
    values: dict[str, Any] = report.to_dict()
    folds = [("The model, exactly", values["model"]), ("Options", values["options"])]
    folds += [("Index", values["index"])] if values["index"] is not None else []
    folds += [("Versions", values["run"])]
    command = " ".join(report.run.get("command", []))
    return element(
        "section",
        element("h2", "How to repeat it"),
        element("p", "Command: ", element("code", command)) if command else None,
        *(
            element("details", element("summary", title), element("pre", _indented(value)))
            for title, value in folds
        ),
        class_="exact",
    )


def _indented(value: Any) -> Markup:
    """Return JSON, line by line: `text` would show its line breaks as escapes."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return joined([joined([line, Markup("\n")]) for line in lines])
