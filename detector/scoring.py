"""Evidence → score and level. Pure functions over a small fitted model, `scoring.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from detector.report import Evidence
from index.errors import GARBLED, SourceError

FORMAT_VERSION = 1

FEATURES: tuple[str, ...] = (
    "inliers",
    "agreement",
    "similarity",
    "pdq",
    "phash",
    "cosine",
    "agreement²",
    "similarity²",
    "inliers × agreement",
    "inliers × similarity",
    "exactness",
    "inliers × exactness",
)
"""What the model sees; each is 0 where not measured, grows with likeness, and has a weight of at least 0."""

BLIND_FEATURES: tuple[str, ...] = ("inliers", "guided", "inliers ÷ matches", "pdq", "phash", "cosine")
"""What it sees of a match whose pixels could not be compared: no thumbnail, and the reference's file is gone."""

WHOLE = 0.75
"""Share of both pictures that must be shared for "whole picture" (levels 4 and 5)."""

VERBATIM_SIMILARITY = 0.85
VERBATIM_TILED_L2 = 0.08
"""Structural similarity and worst tile's difference of "aligned pixels" (level 5): JPEG at quality 20 passes,
a change of colours or a re-rendering does not."""

THIN_INLIERS = 8
THIN_GUIDED = 50
THIN_EXACTNESS = 0.5
THIN_PDQ = 76
"""Bounds of agreement too thin for a replica, see `_is_thin`."""

STRONG_PDQ = 31
"""The field's bound for PDQ (ThreatExchange), of 256 bits."""

STRONG_PHASH = 6
WEAK_PDQ = 60
WEAK_PHASH = 10
POSSIBLE_SCORE = 0.25
"""Score from which a match is shown as possible (level 2): of the fitting pairs from here to `min_score` a third
are copies, the others mostly the same thing photographed anew."""

WEAK_SCORE = 0.1


@dataclass(frozen=True, slots=True)
class Logistic:
    """A logistic model.

    Attributes:
        weights: One a feature, each at least 0.
        bias: Log odds where nothing was measured.
    """

    weights: tuple[float, ...]
    bias: float

    def probability(self, features: Sequence[float]) -> float:
        """Return the probability, 0–1, for one row of features."""
        total = self.bias + sum(w * x for w, x in zip(self.weights, features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, total))))


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """Two logistic models, for matches whose pixels were compared and for others.

    Attributes:
        seen: Over `FEATURES`.
        blind: Over `BLIND_FEATURES`.
        min_score: Score from which a verified match counts as a replica (level ≥ 3).
    """

    seen: Logistic
    blind: Logistic
    min_score: float

    def score(self, evidence: Evidence) -> float:
        """Return the probability, 0–1, that the reference is replicated."""
        if evidence.verification == "identical":
            return 1.0
        if is_blind(evidence):
            return round(self.blind.probability(blind_features_of(evidence)), 6)
        return round(self.seen.probability(features_of(evidence)), 6)

    def level(self, evidence: Evidence) -> int:
        """Return the replication level, 0–5 (DESIGN section 5)."""
        if evidence.verification == "identical":
            return 5
        score = self.score(evidence)
        if evidence.verification in ("keypoints", "dense") and score >= self.min_score:
            return _verified_level(evidence)
        close = _within(evidence.pdq_distance, STRONG_PDQ) or _within(evidence.phash_distance, STRONG_PHASH)
        if close or score >= min(self.min_score, POSSIBLE_SCORE):
            return 2
        weak = _within(evidence.pdq_distance, WEAK_PDQ) or _within(evidence.phash_distance, WEAK_PHASH)
        return 1 if weak or score >= WEAK_SCORE else 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "features": list(FEATURES),
            "weights": list(self.seen.weights),
            "bias": self.seen.bias,
            "blind_features": list(BLIND_FEATURES),
            "blind_weights": list(self.blind.weights),
            "blind_bias": self.blind.bias,
            "min_score": self.min_score,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, path: Path | str = "scoring.json") -> ScoringModel:
        """Read what `to_dict` wrote.

        Raises:
            SourceError: The values are of another format, or of other features.
        """
        known = tuple(values.get("features", ())) == FEATURES
        known = known and tuple(values.get("blind_features", ())) == BLIND_FEATURES
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise SourceError(
                path,
                f"has format_version {version}; this version reads {FORMAT_VERSION}. "
                "Run: pip install -U replication-detector",
            )
        if version != FORMAT_VERSION or not known:
            raise SourceError(
                path,
                f"is no scoring model of format {FORMAT_VERSION}. Make one: detector calibrate --pairs …",
            )
        seen, blind = (tuple(float(w) for w in values[key]) for key in ("weights", "blind_weights"))
        if len(seen) != len(FEATURES) or len(blind) != len(BLIND_FEATURES):
            raise SourceError(
                path, "has not one weight a feature. Make it anew: detector calibrate --pairs …"
            )
        bias, blind_bias, min_score = (float(values[key]) for key in ("bias", "blind_bias", "min_score"))
        usable = all(0.0 <= w < math.inf for w in seen + blind) and 0.0 <= min_score <= 1.0
        if not usable or not math.isfinite(bias + blind_bias):
            raise SourceError(
                path,
                "has weights below 0, a bound outside 0–1, or no numbers. Make it anew: detector calibrate "
                "--pairs …",
            )
        return cls(Logistic(seen, bias), Logistic(blind, blind_bias), min_score)


def is_blind(evidence: Evidence) -> bool:
    """Say whether features agree but pixels could not be compared."""
    return evidence.verification == "keypoints" and evidence.agreement is None


def features_of(evidence: Evidence) -> tuple[float, ...]:
    """Return the values of `FEATURES`, each about 0–1."""
    inliers = _count(evidence.inliers)
    agreement = evidence.agreement or 0.0
    similarity = max(evidence.aligned_similarity or 0.0, 0.0)
    exactness = evidence.exactness or 0.0
    return (
        inliers,
        agreement,
        similarity,
        *_descriptors(evidence),
        agreement**2,
        similarity**2,
        inliers * agreement,
        inliers * similarity,
        exactness,
        inliers * exactness,
    )


def blind_features_of(evidence: Evidence) -> tuple[float, ...]:
    """Return the values of `BLIND_FEATURES`, each about 0–1."""
    share = (evidence.inliers or 0) / max(evidence.matches or 0, 1)
    return (_count(evidence.inliers), _count(evidence.guided), share, *_descriptors(evidence))


def _count(number: int | None) -> float:
    return math.log1p(min(number or 0, 400)) / 6.0


def _descriptors(evidence: Evidence) -> tuple[float, float, float]:
    pdq, phash = evidence.pdq_distance, evidence.phash_distance
    return (
        0.0 if pdq is None else max(0.0, 1.0 - pdq / 128.0),
        0.0 if phash is None else max(0.0, 1.0 - phash / 32.0),
        max(evidence.cosine or 0.0, 0.0),
    )


def _is_thin(evidence: Evidence) -> bool:
    """Say whether so few features agree that more than likeness has to speak for a copy.

    Of the fitting pairs with under eight inliers and no near hash, one in thirteen is a copy: two forks on a table
    agree that much. Copies among them show the very same strokes, or very many pairs that are not distinctive
    (a regular pattern).
    """
    if evidence.verification != "keypoints" or _within(evidence.pdq_distance, THIN_PDQ):
        return False
    few = (evidence.inliers or 0) < THIN_INLIERS and (evidence.guided or 0) < THIN_GUIDED
    return few and (evidence.exactness or 0.0) < THIN_EXACTNESS


def _verified_level(evidence: Evidence) -> int:
    if _is_thin(evidence):
        return 2
    whole = min(evidence.coverage or 0.0, evidence.reference_coverage or 0.0) >= WHOLE
    if not whole or evidence.template:
        return 3
    similar = (evidence.aligned_similarity or 0.0) >= VERBATIM_SIMILARITY
    same_pixels = evidence.tiled_l2 is not None and evidence.tiled_l2 <= VERBATIM_TILED_L2
    return 5 if similar and same_pixels else 4


def _within(distance: int | None, bound: int) -> bool:
    return distance is not None and distance <= bound


@lru_cache(maxsize=1)
def shipped_model() -> ScoringModel:
    """Load the model that ships with the package; `scoring.json` says how it was fitted."""
    text = (resources.files("detector") / "scoring.json").read_text(encoding="utf-8")
    return ScoringModel.from_dict(json.loads(text))


def load_model(path: str | Path) -> ScoringModel:
    """Load a model that `detector calibrate` wrote.

    Raises:
        SourceError: The file cannot be read, or is no scoring model.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return ScoringModel.from_dict(values, path=path)
    except (OSError, *GARBLED) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or error
        raise SourceError(
            path, f"cannot be used as a scoring model: {cause}. Make one: detector calibrate --pairs …"
        ) from error
