"""The plots of an audit, as SVG by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from detector.audit.figures import Extraction, Figures, Signals, StrengthRow
from detector.reports.wording import plural

MEMBERS, CONTROLS = "#ad3a1c", "#3b6ea5"
OTHER = "#8a8578"
SIZE = (6.4, 3.4)


def plots_of(figures: Figures) -> dict[str, bytes]:
    """Return the plots of one variant by name, SVG; empty without matplotlib.

    Args:
        figures: What was measured; what was not has no plot.
    """
    if find_spec("matplotlib") is None:
        return {}
    drawn = {}
    if figures.extraction is not None and figures.extraction.searched:
        drawn["extraction"] = _extraction(figures.extraction)
    if figures.ladder:
        drawn["img2img"] = _ladder(figures.ladder)
    if figures.prompts is not None:
        drawn["prompts"] = _prompts(figures.prompts)
    return drawn


def _extraction(extraction: Extraction) -> bytes:
    figure, axes = _figure()
    rows = extraction.rows
    for place, row in enumerate(rows):
        colour = CONTROLS if row.control else MEMBERS
        for shift, found, marker, fill in (
            (-0.12, row.works, "o", colour),
            (0.12, row.generations, "s", "white"),
        ):
            if found.total:
                ends = [[max(0.0, found.share - found.low)], [max(0.0, found.high - found.share)]]
                axes.errorbar(
                    place + shift, found.share, yerr=ends, fmt=marker, color=colour, mfc=fill, capsize=3
                )
    axes.plot([], [], "o", color=OTHER, label="works extracted at least once")
    axes.plot([], [], "s", color=OTHER, mfc="white", label="generations that replicate their work")
    axes.set_xticks(range(len(rows)), [f"{row.label}\n{plural(row.works.total, 'work')}" for row in rows])
    axes.set(
        ylim=(-0.03, 1.03), ylabel="share, with 95 % interval", xlabel="how often the model saw the work"
    )
    axes.legend(frameon=False, loc="upper left", fontsize="small")
    return _svg(figure)


def _ladder(rows: Sequence[StrengthRow]) -> bytes:
    figure, axes = _figure()
    strengths = [row.strength for row in rows]
    for label, colour, shape, of in (
        ("trained on", MEMBERS, "o-", [row.members for row in rows]),
        ("never seen (controls)", CONTROLS, "s--", [row.controls for row in rows]),
    ):
        if all(of):
            low, middle, high = zip(*of, strict=True)
            axes.plot(strengths, middle, shape, color=colour, label=f"{label}, median and middle half")
            axes.fill_between(strengths, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="img2img strength (share of noise)", ylabel="similarity to the work")
    axes.set_xticks(strengths)
    axes.legend(frameon=False, loc="lower left", fontsize="small")
    return _svg(figure)


def _prompts(signals: Signals) -> bytes:
    figure, axes = _figure()
    labels = ["controls", *signals.by_copies] if signals.controls else []
    labels += [label for label in dict.fromkeys(work.label for work in signals.works) if label not in labels]
    for place, label in enumerate(labels):
        values = sorted(work.value for work in signals.works if work.label == label)
        shifts = [0.08 * ((number % 5) - 2) for number in range(len(values))]
        colour = CONTROLS if label == "controls" else MEMBERS
        axes.plot([place + shift for shift in shifts], values, "o", color=colour, alpha=0.6, ms=4, mew=0)
        middle = values[len(values) // 2]
        axes.plot([place - 0.3, place + 0.3], [middle, middle], color=colour, linewidth=2)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel="how often the model saw the caption", ylabel="‖ε(caption) − ε(nothing)‖, line: median")
    return _svg(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> bytes:
    import matplotlib

    written = io.BytesIO()
    # The same figures give the same file: no date, no random ids.
    with matplotlib.rc_context({"svg.hashsalt": "audit", "svg.fonttype": "path"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()
