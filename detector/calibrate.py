"""Fits the scoring model on labelled pairs, and says how far its probabilities can be trusted.

A logistic model with non-negative weights, so that more evidence never lowers a score, fitted by penalised maximum
likelihood. Every figure of the report is cross-validated: a pair is scored by a model that never saw its query.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.report import Evidence
from detector.reports.atomic import replacing
from detector.scoring import Logistic, ScoringModel, blind_features_of, features_of, is_blind
from index.errors import GARBLED, SourceError, UnreadableImageError, UsageError

if TYPE_CHECKING:
    from detector.detector import Detector

FOLDS = 5
PENALTY = 1e-4
"""Weight of the squared weights, per pair. Separable data would drive unpenalised weights to infinity."""

MIN_PAIRS_OF_EACH = 20
"""Fewer labelled copies, or fewer others, say too little to fit ten weights."""

BINS = 15
"""Equal-width bins of the reliability table (Guo et al. 2017, arXiv:1706.04599)."""

Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Evidence about one query and one reference, and whether the one replicates the other.

    Attributes:
        query: Name of the query; pairs of one query are never split between fitting and judging.
    """

    query: str
    evidence: Evidence
    label: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A score from which matches have a wanted precision.

    Attributes:
        precision: As wanted, 0–1.
        min_score: Smallest score that reaches it; None where none does.
        recall: Share of true pairs at or above it.
        low: Lower end of the 95 % interval of the precision there (Wilson).
        high: Upper end.
    """

    precision: float
    min_score: float | None
    recall: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A fitted model and what cross-validation says of it.

    Attributes:
        error: Expected calibration error over equal-width bins, 0–1.
        reliability: (mean score, share of true pairs, pairs) of each bin that holds pairs.
        bounds: For 90 % and 99 % precision.
    """

    model: ScoringModel
    pairs: int
    positives: int
    error: float
    reliability: tuple[tuple[float, float, int], ...]
    bounds: tuple[Bound, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: a scoring model with its report, as `scoring.json` holds it."""
        report = {
            "pairs": self.pairs,
            "positives": self.positives,
            "expected_calibration_error": round(self.error, 5),
            "reliability": [[round(a, 4), round(b, 4), n] for a, b, n in self.reliability],
            "bounds": [bound.to_dict() for bound in self.bounds],
        }
        return {**self.model.to_dict(), "report": report}

    def save(self, path: str | Path, *, data: str = "") -> None:
        """Write the model with its report, for `detector scan --scoring`.

        Args:
            path: A JSON file.
            data: What the pairs came from, kept in the report.

        Raises:
            UsageError: The file cannot be written.
        """
        values = self.to_dict()
        if data:
            values["report"]["data"] = data
        with replacing(path) as stream:
            stream.write((json.dumps(values, indent=1) + "\n").encode())

    def save_plot(self, path: str | Path) -> None:
        """Draw the reliability diagram as PNG, SVG or PDF.

        Raises:
            UsageError: matplotlib is not installed, or the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise UsageError(
                "drawing needs matplotlib. Run: pip install 'replication-detector[audit]'"
            ) from error
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        scores, shares, counts = zip(*self.reliability, strict=True)
        sizes = [20 + 60 * math.log10(count) for count in counts]
        axes.scatter(scores, shares, s=sizes, color="#8c1d18", alpha=0.8)
        for score, share, count in self.reliability:
            axes.annotate(str(count), (score, share), textcoords="offset points", xytext=(7, -9), fontsize=8)
        axes.set(xlabel="score", ylabel="share of true copies", xlim=(-0.03, 1.06), ylim=(-0.03, 1.06))
        axes.set_title(f"Expected calibration error {self.error:.3f}, {self.pairs} pairs", fontsize=10)
        try:
            figure.savefig(path, dpi=150)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be written: {error}") from error


def calibrate(pairs: Iterable[LabelledPair], *, precision: float = 0.99) -> CalibrationReport:
    """Fit a scoring model on labelled pairs.

    Args:
        pairs: At least `MIN_PAIRS_OF_EACH` true and as many false ones.
        precision: Sets the model's `min_score`: the score from which, cross-validated, so many matches are
            true; never under 0.5.

    Raises:
        UsageError: There are too few pairs of a kind.
    """
    kept = [
        pair for pair in pairs if pair.evidence.verification != "identical" and not is_blind(pair.evidence)
    ]
    labels = np.asarray([pair.label for pair in kept], np.float64)
    positives = int(labels.sum())
    if min(positives, len(kept) - positives) < MIN_PAIRS_OF_EACH:
        raise UsageError(
            f"{positives} pairs are labelled as copies and {len(kept) - positives} as not: at least "
            f"{MIN_PAIRS_OF_EACH} of each are needed. Label more, hard cases first"
        )
    values = np.asarray([features_of(pair.evidence) for pair in kept], np.float64)
    fold = _folds([pair.query for pair in kept])
    scores = np.empty(len(kept))
    for number in range(FOLDS):
        held = fold == number
        if held.any() and 0 < labels[~held].sum() < (~held).sum():
            scores[held] = _scores(values[held], *_fit(values[~held], labels[~held]))
        else:
            scores[held] = _scores(values[held], *_fit(values, labels))
    seen = _logistic(values, labels)
    blind = _logistic(np.asarray([blind_features_of(pair.evidence) for pair in kept], np.float64), labels)
    bounds = tuple(bound_for(scores, labels, wanted) for wanted in (0.90, 0.99))
    chosen = bound_for(scores, labels, precision).min_score
    min_score = round(min(max(chosen if chosen is not None else 0.99, 0.5), 0.99), 4)
    model = ScoringModel(seen, blind, min_score)
    bins = reliability(scores, labels)
    error = sum(count * abs(score - share) for score, share, count in bins) / len(kept)
    return CalibrationReport(model, len(kept), positives, error, bins, bounds)


def _logistic(values: NDArray[np.float64], labels: NDArray[np.float64]) -> Logistic:
    weights, bias = _fit(values, labels)
    return Logistic(tuple(round(float(w), 5) for w in weights), round(bias, 5))


def _folds(queries: Sequence[str]) -> NDArray[np.int64]:
    numbers = {query: number for number, query in enumerate(sorted(set(queries)))}
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    return np.asarray([shuffled[numbers[query]] % FOLDS for query in queries], np.int64)


def _fit(values: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    from scipy.optimize import minimize

    signs = 2.0 * labels - 1.0

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (values @ weights + bias)
        total = float(np.logaddexp(0.0, -margins).mean() + PENALTY * (weights**2).sum())
        pull = -signs / (1.0 + np.exp(np.clip(margins, -500, 500))) / len(labels)
        slope = np.append(values.T @ pull + 2.0 * PENALTY * weights, pull.sum())
        return total, slope

    count = values.shape[1]
    limits = [(0.0, None)] * count + [(None, None)]
    found = minimize(loss, np.zeros(count + 1), jac=True, method="L-BFGS-B", bounds=limits)
    return found.x[:-1], float(found.x[-1])


def _scores(values: NDArray[np.float64], weights: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values @ weights + bias, -60, 60))), np.float64)


def reliability(
    scores: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[tuple[float, float, int], ...]:
    """Return (mean score, share of true pairs, pairs) for each of `BINS` equal-width bins that is not empty."""
    numbers = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    found = []
    for number in range(BINS):
        mine = numbers == number
        if mine.any():
            found.append((float(scores[mine].mean()), float(labels[mine].mean()), int(mine.sum())))
    return tuple(found)


def bound_for(scores: NDArray[np.float64], labels: NDArray[np.float64], precision: float) -> Bound:
    """Return the smallest score from which at least `precision` of the pairs are true."""
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(labels[order])
    share = true / np.arange(1, len(scores) + 1)
    # A bound cannot part equal scores: only the last of equals counts.
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    reached = np.flatnonzero((share >= precision) & last)
    if not len(reached):
        return Bound(precision, None, 0.0, 0.0, 1.0)
    place = int(reached[-1])
    low, high = wilson(int(true[place]), place + 1)
    recall = float(true[place] / max(labels.sum(), 1))
    return Bound(precision, float(scores[order][place]), recall, low, high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927, https://doi.org/10.2307/2276774)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = Z_95**2 / trials
    centre = (share + spread / 2.0) / (1.0 + spread)
    half = Z_95 * math.sqrt(share * (1.0 - share) / trials + spread / (4.0 * trials)) / (1.0 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def read_pairs(path: str | Path, *, detector: Detector | None = None) -> Iterator[LabelledPair]:
    """Read labelled pairs.

    Args:
        path: A CSV file with the columns ``query`` (a picture's path, relative to the file), ``reference``
            (a path as in the index, its last part, or its SHA-256) and ``label`` (1 copy, 0 not); or a JSONL
            file with ``query``, ``evidence`` and ``label`` a line.
        detector: Measures the evidence of a CSV's pairs; a pair that its search does not propose has none.

    Raises:
        SourceError: The file cannot be read, or a line lacks something.
        UsageError: It is a CSV file and there is no detector.
    """
    source = Path(path)
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            if source.suffix.lower() == ".csv":
                if detector is None:
                    raise UsageError(f"{source}: pairs without evidence need --index, to measure them")
                yield from _from_csv(source, csv.DictReader(stream), detector)
            else:
                yield from _from_jsonl(source, stream)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or error
        raise SourceError(
            source, f"cannot be read: {cause}. Name a CSV or JSON lines file of pairs"
        ) from error


FORM = (
    "A CSV needs the columns query, reference, label; JSON lines need query, evidence, label, as detector scan --jsonl "
    "writes evidence; label is 1 for a copy, 0 for none"
)


def _from_jsonl(source: Path, lines: Iterable[str]) -> Iterator[LabelledPair]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            evidence = Evidence.from_dict(values["evidence"])
            yield LabelledPair(str(values["query"]), evidence, _label(values["label"]))
        except GARBLED as error:
            raise SourceError(source, f"line {number} lacks query, evidence or label. {FORM}") from error


def _from_csv(source: Path, rows: csv.DictReader[str], detector: Detector) -> Iterator[LabelledPair]:
    missing = {"query", "reference", "label"} - set(rows.fieldnames or ())
    if missing:
        raise SourceError(
            source, f"lacks the column {', '.join(sorted(missing))}; it has {rows.fieldnames}. {FORM}"
        )
    for row in rows:
        number = rows.line_num  # empty lines give no row, and a quoted value may go over several
        if not row["query"] or not row["reference"]:
            raise SourceError(source, f"line {number} lacks a query or a reference")
        try:
            label = _label(row["label"])
            evidence = detector.evidence_for(source.parent / row["query"], row["reference"])
        except (ValueError, UnreadableImageError) as error:
            raise SourceError(source, f"line {number}: {error}") from error
        yield LabelledPair(row["query"], evidence, label)


def _label(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "copy"):
        return True
    if text in ("0", "false", "no", "not"):
        return False
    raise ValueError(f"label {value!r} is neither 1 nor 0")
