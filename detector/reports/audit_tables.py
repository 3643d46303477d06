"""The tables of an audit's page: shares, AUCs, works one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from detector.reports.markup import Markup, element, joined
from detector.reports.wording import percent, plural

if TYPE_CHECKING:
    from detector.audit.figures import Figures, Signals, WorkSignal
    from detector.audit.statistics import Auc, Rate

MAX_ROWS = 500
"""Works in a table; audit.json has them all."""

NAMES = {"model": "Without the adapter", "adapter": "With the adapter"}

Cells = Sequence[Markup | str]


def side_by_side(variants: Mapping[str, Figures]) -> Markup:
    """Return the figures of the model and of the model with its adapter, beside each other."""

    def share(figures: Figures) -> Markup | str:
        rows = [row for row in figures.extraction.rows if not row.control] if figures.extraction else []
        hits, total = sum(row.works.hits for row in rows), sum(row.works.total for row in rows)
        return f"{hits} of {total}" if total else ""

    def of(signals: Signals | None) -> Markup | str:
        return auc_cell(signals.auc) if signals is not None else ""

    rows: list[tuple[Cells, bool]] = [
        (["works that came out of their caption", *(share(each) for each in variants.values())], False),
        (["AUC of reconstructions", *(of(each.reconstruction) for each in variants.values())], False),
        (["AUC of the captions’ signal", *(of(each.prompts) for each in variants.values())], False),
        (["verdict", *(each.verdict.value for each in variants.values())], False),
    ]
    table = table_of(["", *(NAMES[variant] for variant in variants)], rows, "The model beside itself")
    return element("section", element("h2", "Without and with the adapter"), table, class_="variant")


def works_table(signals: Signals) -> Markup:
    """Return a fold with every work, the most alike first, controls last."""
    rows: list[tuple[Cells, bool]] = []
    for signal in sorted(signals.works, key=lambda work: (work.control, -work.value))[:MAX_ROWS]:
        p_value = "" if signal.p_value is None else f"{signal.p_value:.3f}"
        q_value = "" if signal.adjusted is None else f"{signal.adjusted:.3f}"
        verdict = verdict_badge(signal) if signal.verdict is not None else ""
        name = element("bdi", signal.name)
        rows.append(([name, signal.label, f"{signal.value:+.3f}", p_value, q_value, verdict], signal.control))
    head = ["work", "trained on", "kept", "p", "p, adjusted", "verdict"]
    caption = "Each work beside the controls, by what is kept of its similarity, mean over the ladder"
    summary = element("summary", f"All {plural(len(signals.works), 'work')}, one by one")
    return element("details", summary, table_of(head, rows, caption), class_="more")


def verdict_badge(signal: WorkSignal) -> Markup:
    """Return what is said of a work."""
    said = signal.verdict.value if signal.verdict is not None else ""
    kind = "memorised" if said == "memorised" else ""
    return element("span", said, class_=f"verdict {kind}".strip())


def auc_table(signals: Signals, caption: str) -> Markup:
    """Return the AUC of all members, and of those with as many copies each."""
    rows: list[tuple[Cells, bool]] = [(["all works trained on", auc_cell(signals.auc)], False)]
    rows += [([label, auc_cell(found)], False) for label, found in signals.by_copies.items()]
    return table_of(["trained on", "AUC"], rows, caption)


def table_of(
    head: Sequence[str], rows: Sequence[tuple[Sequence[Markup | str], bool]], caption: str
) -> Markup:
    """Return a table; rows that are marked are muted."""
    body = [
        element("tr", *(element("td", cell) for cell in cells), class_="control" if muted else None)
        for cells, muted in rows
    ]
    titles = element("tr", *(element("th", words, scope="col") for words in head))
    table = element("table", element("caption", caption), element("thead", titles), element("tbody", *body))
    return element("div", table, class_="scroll")


def rate_cell(found: Rate) -> Markup | str:
    """Return a share with its interval."""
    if not found.total:
        return "not measured"
    span = f"{percent(found.low)} to {percent(found.high)}"
    return joined([f"{found.hits} of {found.total} ", element("small", f"({span})")])


def auc_cell(found: Auc | None) -> Markup | str:
    """Return an AUC with its interval."""
    if found is None:
        return "no controls"
    return joined([f"{found.value:.2f} ", element("small", f"({found.low:.2f}–{found.high:.2f})")])
