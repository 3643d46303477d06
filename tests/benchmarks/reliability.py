"""Does the score mean what it says? Expected calibration error and a reliability plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector import ImageReport
from tests.benchmarks.measures import Bin, bins, calibration_error, interval
from tests.benchmarks.results import Options, Result, Table
from tests.benchmarks.workload import SAME_TEMPLATE, Query

MOST = 0.05


def calibration(
    result: Result, queries: Sequence[Query], reports: Sequence[ImageReport], options: Options
) -> None:
    """Measure over matches (score against "this reference is the one edited") and over queries."""
    matches, answers = [], []
    for query, report in zip(queries, reports, strict=True):
        if query.group == SAME_TEMPLATE:
            continue
        for match in report.matches:
            true = Path(match.reference.occurrences[0].path).name == query.reference
            matches.append((match.score, true))
        answers.append((report.score, bool(query.reference)))
    rows = []
    for title, pairs in (("matches", matches), ("queries", answers)):
        scores, labels = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
        for name, equal_mass in (("equal mass", True), ("equal width", False)):
            error, (low, high) = _error(scores, labels, equal_mass, options.seed)
            rows.append((title, name, len(pairs), f"{error:.4f} ({low:.4f}–{high:.4f})"))
            result.figures[f"ECE, {title}, {name}"] = error
            if title == "matches":
                result.bar(f"expected calibration error over matches, {name}", error, most=MOST)
        grouped = bins(scores.tolist(), labels.tolist(), equal_mass=False)
        _plot(grouped, options.out / f"reliability-{title}.png", f"Score of {title}, {len(pairs)}")
        result.figures[f"reliability, {title}"] = [vars(b) for b in grouped]
    note = (
        "15 bins. Matches: is this reference the one that was edited? Queries: has this picture a reference "
        "at all (its score is its best match's, 0 without one)? The mix of edits and unrelated pictures is "
        "the benchmark's; those with a reference's template are left out, since whether a shared frame is a "
        "copy is not for the score to say. Plots: reliability-matches.png, reliability-queries.png."
    )
    result.tables.append(Table("Calibration of the score", ("over", "bins", "n", "error"), rows, note))


def _error(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], equal_mass: bool, seed: int
) -> tuple[float, tuple[float, float]]:
    def error(drawn: NDArray[np.int64]) -> float:
        return calibration_error(bins(scores[drawn].tolist(), labels[drawn].tolist(), equal_mass=equal_mass))

    whole = error(np.arange(len(scores)))
    return whole, interval(error, len(scores), seed=seed, draws=200)


def _plot(grouped: Sequence[Bin], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.5, 4.5), dpi=150)
    axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
    sizes = [12 + 8 * np.log1p(b.count) for b in grouped]
    axes.scatter([b.score for b in grouped], [b.true for b in grouped], s=sizes)
    for b in grouped:
        axes.annotate(str(b.count), (b.score, b.true), textcoords="offset points", xytext=(6, -9), fontsize=7)
    axes.set(xlabel="score", ylabel="share that is true", title=title, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
