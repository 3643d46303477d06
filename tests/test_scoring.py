"""`detector.scoring`: more evidence never counts against a match, and levels follow from evidence by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.report import Evidence
from detector.scoring import (
    BLIND_FEATURES,
    FEATURES,
    POSSIBLE_SCORE,
    STRONG_PDQ,
    STRONG_PHASH,
    VERBATIM_SIMILARITY,
    VERBATIM_TILED_L2,
    WEAK_PDQ,
    WHOLE,
    Logistic,
    ScoringModel,
    load_model,
    shipped_model,
)
from index.errors import SourceError

MODEL = shipped_model()
SHARE = st.floats(0.0, 1.0)
COUNT = st.integers(0, 600)
GROWS_WITH_LIKENESS = ("inliers", "guided", "agreement", "exactness", "aligned_similarity")
FALLS_WITH_LIKENESS = ("pdq_distance", "phash_distance", "tiled_l2")


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


EVIDENCE = st.builds(
    Evidence,
    pdq_distance=optional(st.integers(0, 256)),
    phash_distance=optional(st.integers(0, 64)),
    cosines=st.dictionaries(st.sampled_from(["a", "b"]), st.floats(-1.0, 1.0), max_size=2),
    matches=optional(COUNT),
    inliers=optional(COUNT),
    guided=optional(COUNT),
    coverage=optional(SHARE),
    reference_coverage=optional(SHARE),
    aligned_similarity=optional(st.floats(-1.0, 1.0)),
    tiled_l2=optional(SHARE),
    agreement=optional(SHARE),
    exactness=optional(SHARE),
    verification=st.sampled_from(["identical", "keypoints", "dense", "none", "unverified"]),
    template=st.booleans(),
)

CERTAIN = Evidence(
    pdq_distance=0,
    phash_distance=0,
    matches=300,
    inliers=300,
    guided=300,
    coverage=1.0,
    reference_coverage=1.0,
    aligned_similarity=0.99,
    tiled_l2=0.01,
    agreement=1.0,
    exactness=1.0,
    verification="keypoints",
)


# More evidence


@settings(max_examples=300, deadline=None)
@given(EVIDENCE, st.sampled_from(GROWS_WITH_LIKENESS + FALLS_WITH_LIKENESS), st.floats(0.0, 1.0))
def test_more_evidence_never_lowers_score_or_level(evidence: Evidence, name: str, step: float) -> None:
    now = getattr(evidence, name)
    if now is None:
        return
    end = {"pdq_distance": 0, "phash_distance": 0, "tiled_l2": 0.0, "inliers": 600, "guided": 600}.get(
        name, 1.0
    )
    changed = now + step * (end - now)
    more = replace(evidence, **{name: round(changed) if isinstance(now, int) else changed})
    assert MODEL.score(more) >= MODEL.score(evidence)
    assert MODEL.level(more) >= MODEL.level(evidence)


@settings(max_examples=200, deadline=None)
@given(EVIDENCE, st.floats(-1.0, 1.0), st.sampled_from(["a", "c"]))
def test_a_further_descriptor_or_a_higher_cosine_never_lowers_the_score(
    evidence: Evidence, cosine: float, name: str
) -> None:
    raised = {**evidence.cosines, name: max(cosine, evidence.cosines.get(name, -1.0))}
    assert MODEL.score(replace(evidence, cosines=raised)) >= MODEL.score(evidence)


@settings(max_examples=200, deadline=None)
@given(EVIDENCE)
def test_score_is_a_probability_and_level_is_one_of_six(evidence: Evidence) -> None:
    assert 0.0 <= MODEL.score(evidence) <= 1.0
    assert MODEL.level(evidence) in range(6)


def test_probability_neither_overflows_nor_takes_another_number_of_features() -> None:
    steep = Logistic((1e6,), -1e3)
    assert 0.0 < steep.probability((0.0,)) < 1e-9
    assert steep.probability((1.0,)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="zip"):
        steep.probability((1.0, 1.0))


# Levels


def test_nothing_measured_is_level_zero() -> None:
    assert MODEL.level(Evidence()) == 0
    assert MODEL.score(Evidence()) < 0.05


def test_the_same_file_is_level_five_with_certainty() -> None:
    same = Evidence(verification="identical")
    assert (MODEL.level(same), MODEL.score(same)) == (5, 1.0)


def test_verbatim_needs_the_whole_picture_and_aligned_pixels() -> None:
    assert MODEL.level(CERTAIN) == 5
    assert MODEL.level(replace(CERTAIN, aligned_similarity=VERBATIM_SIMILARITY, coverage=WHOLE)) == 5
    assert MODEL.level(replace(CERTAIN, aligned_similarity=VERBATIM_SIMILARITY - 0.01)) == 4
    assert MODEL.level(replace(CERTAIN, tiled_l2=VERBATIM_TILED_L2 + 0.01)) == 4
    assert MODEL.level(replace(CERTAIN, tiled_l2=None)) == 4


@pytest.mark.parametrize(
    "partly",
    [
        {"coverage": WHOLE - 0.01},
        {"reference_coverage": WHOLE - 0.01},
        {"coverage": None},
        {"template": True},
    ],
    ids=str,
)
def test_a_part_and_a_template_are_level_three(partly: dict[str, Any]) -> None:
    assert MODEL.level(replace(CERTAIN, **partly)) == 3


@pytest.mark.parametrize("how", ["none", "unverified"])
def test_what_was_not_verified_is_at_most_possible(how: str) -> None:
    assert MODEL.level(replace(CERTAIN, verification=how)) == 2


def test_a_close_hash_alone_is_possible_and_a_far_one_nothing() -> None:
    assert MODEL.level(Evidence(pdq_distance=STRONG_PDQ)) == 2
    assert MODEL.level(Evidence(phash_distance=STRONG_PHASH)) == 2
    assert MODEL.level(Evidence(pdq_distance=WEAK_PDQ)) >= 1
    assert MODEL.level(Evidence(pdq_distance=128, phash_distance=32)) == 0


@pytest.mark.parametrize(("score", "level"), [(0.24, 1), (0.26, 2), (0.59, 2), (0.61, 3), (0.05, 0)])
def test_a_score_alone_decides_between_replica_possible_weak_and_nothing(score: float, level: int) -> None:
    class Fixed(ScoringModel):
        def score(self, evidence: Evidence) -> float:
            return score

    model = Fixed(MODEL.seen, MODEL.blind, min_score=0.6)
    seen = Evidence(agreement=0.5, verification="dense", coverage=0.5, reference_coverage=0.5)
    assert POSSIBLE_SCORE == 0.25
    assert model.level(seen) == level


def test_features_that_agree_without_pixels_are_scored_by_the_blind_model() -> None:
    blind = replace(CERTAIN, agreement=None, exactness=None, aligned_similarity=None, tiled_l2=None)
    model = ScoringModel(
        Logistic((0.0,) * len(FEATURES), -5.0), Logistic((0.0,) * len(BLIND_FEATURES), 5.0), min_score=0.6
    )
    assert model.score(blind) > 0.99 > 0.01 > model.score(CERTAIN)


# The file


def test_shipped_model_comes_with_its_training_report() -> None:
    values = json.loads((resources.files("detector") / "scoring.json").read_text(encoding="utf-8"))
    report = values["report"]
    assert report["pairs"] >= 1000
    assert 0 < report["positives"] < report["pairs"]
    assert report["expected_calibration_error"] < 0.05
    assert sum(count for _, _, count in report["reliability"]) == report["pairs"]
    assert [bound["precision"] for bound in report["bounds"]] == [0.9, 0.99]
    assert "none of them among the pictures the benchmarks use" in report["data"]
    assert ScoringModel.from_dict(values) == MODEL


def test_shipped_weights_are_not_negative() -> None:
    assert min(MODEL.seen.weights + MODEL.blind.weights) >= 0.0
    assert 0.5 <= MODEL.min_score < 1.0


def test_saved_values_load_to_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "scoring.json"
    path.write_text(json.dumps(MODEL.to_dict()), encoding="utf-8")
    assert load_model(path) == MODEL


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"features": ["inliers"]},
        {"features": [*FEATURES[::-1]]},
        {"blind_features": []},
        {"weights": [1.0]},
        {"blind_weights": [1.0] * (len(BLIND_FEATURES) + 1)},
        {"weights": None},
        {"weights": ["much"] * len(FEATURES)},
        {"weights": [-1.0, *MODEL.seen.weights[1:]]},
        {"blind_weights": [float("inf"), *MODEL.blind.weights[1:]]},
        {"bias": float("nan")},
        {"bias": "x"},
        {"min_score": 7},
        {"min_score": None},
    ],
    ids=lambda change: f"{next(iter(change))}={str(next(iter(change.values())))[:20]}",
)
def test_a_model_of_another_form_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(MODEL.to_dict() | change), encoding="utf-8")
    with pytest.raises(SourceError, match=r"mine\.json") as raised:
        load_model(path)
    assert raised.value.path == path


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"\xff\xfe\x00", b"{}", b'{"format_version": 1}'])
def test_garbage_is_no_scoring_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="scoring model"):
        load_model(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.json"):
        load_model(tmp_path / "gone.json")


@pytest.mark.parametrize("text", ["[" * 5_000, '{"features": 5}', "1" * 5_000])
def test_depth_and_digits_without_end_are_no_scoring_model(text: str, tmp_path: Path) -> None:
    (tmp_path / "scoring.json").write_text(text)
    with pytest.raises(SourceError, match="scoring model"):
        load_model(tmp_path / "scoring.json")


def test_a_weight_too_large_for_a_float_is_no_weight(tmp_path: Path) -> None:
    values = shipped_model().to_dict()
    values["weights"][0] = 10**400
    (tmp_path / "scoring.json").write_text(json.dumps(values))
    with pytest.raises(SourceError, match="scoring model"):
        load_model(tmp_path / "scoring.json")
