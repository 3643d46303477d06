"""`detector.calibrate` and `index.calibration`: probabilities that mean what they say, on pairs and in an index."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import detector.calibrate as calibrating
import index.calibration as nulls
from detector import Detector
from detector.calibrate import FOLDS, LabelledPair, bound_for, calibrate, read_pairs, reliability, wilson
from detector.cli import app
from detector.report import Evidence
from detector.scoring import features_of, load_model
from index.calibration import MIN_P_VALUE, MIN_SAMPLES, Null, fit_gumbel
from index.errors import SourceError, UsageError
from index.reference_index import ReferenceIndex
from index.vectors import UnitStore

SEED = 20


def noisy_pairs(count: int, *, seed: int = SEED) -> tuple[list[LabelledPair], np.ndarray[Any, Any]]:
    """Pairs whose labels are drawn with a probability that a logistic model over evidence can express."""
    rng = np.random.default_rng(seed)
    pairs, chances = [], []
    for number in range(count):
        likeness = float(rng.beta(0.7, 0.7))
        agreement = float(np.clip(likeness + rng.normal(0, 0.1), 0, 1))
        evidence = Evidence(
            pdq_distance=int(np.clip(128 * (1 - likeness) + rng.normal(0, 8), 0, 256)),
            phash_distance=int(np.clip(32 * (1 - likeness) + rng.normal(0, 3), 0, 64)),
            matches=60,
            inliers=int(50 * likeness),
            agreement=agreement,
            exactness=agreement**2,
            aligned_similarity=agreement,
            verification="keypoints",
        )
        values = dict(zip(("inliers", "agreement", "similarity", "pdq"), features_of(evidence), strict=False))
        chance = 1 / (1 + math.exp(-(6 * values["agreement"] + 5 * values["pdq"] - 5.5)))
        pairs.append(LabelledPair(f"query-{number // 3}", evidence, bool(rng.random() < chance)))
        chances.append(chance)
    return pairs, np.asarray(chances)


@pytest.fixture(scope="module")
def noisy() -> tuple[list[LabelledPair], np.ndarray[Any, Any]]:
    return noisy_pairs(3000)


@pytest.fixture(scope="module")
def fitted(noisy: tuple[list[LabelledPair], Any]) -> calibrating.CalibrationReport:
    return calibrate(noisy[0])


# Fitting


def test_probabilities_are_calibrated_on_pairs_whose_chances_are_known(
    fitted: calibrating.CalibrationReport, noisy: tuple[list[LabelledPair], np.ndarray[Any, Any]]
) -> None:
    pairs, chances = noisy
    assert (fitted.pairs, fitted.positives) == (3000, sum(pair.label for pair in pairs))
    assert fitted.error < 0.03
    assert sum(count for _, _, count in fitted.reliability) == 3000
    scores = np.array([fitted.model.score(pair.evidence) for pair in pairs])
    assert np.abs(scores - chances).mean() < 0.03


def test_bounds_hold_on_pairs_that_were_never_seen(fitted: calibrating.CalibrationReport) -> None:
    fresh, chances = noisy_pairs(4000, seed=SEED + 1)
    scores = np.array([fitted.model.score(pair.evidence) for pair in fresh])
    for bound, wanted in zip(fitted.bounds, (0.90, 0.99), strict=True):
        assert bound.precision == wanted
        assert bound.min_score is not None
        assert bound.low <= wanted <= bound.high
        kept = scores >= bound.min_score
        assert bound.low <= chances[kept].mean() <= bound.high  # the true precision, no draw of labels
        assert bound.recall == pytest.approx(chances[kept].sum() / chances.sum(), abs=0.05)
    assert fitted.bounds[0].recall > fitted.bounds[1].recall


def test_fitted_weights_are_not_negative_even_where_evidence_misleads() -> None:
    pairs, _ = noisy_pairs(300)
    turned = [LabelledPair(pair.query, pair.evidence, not pair.label) for pair in pairs]
    model = calibrate(turned).model
    assert min(model.seen.weights + model.blind.weights) >= 0.0
    assert model.min_score == 0.99  # no score reaches the precision that is wanted


def test_separable_pairs_give_finite_weights_and_no_error() -> None:
    near = Evidence(pdq_distance=4, agreement=0.95, inliers=90, matches=100, verification="keypoints")
    far = Evidence(pdq_distance=120, verification="none")
    pairs = [LabelledPair(str(n), near if n % 2 else far, bool(n % 2)) for n in range(80)]
    report = calibrate(pairs)
    assert report.error < 0.02
    assert max(report.model.seen.weights) < 100
    assert report.model.score(near) > 0.98 > 0.02 > report.model.score(far)
    assert report.bounds[1].recall == 1.0


def test_a_wanted_precision_sets_the_bound_of_the_model(noisy: tuple[list[LabelledPair], Any]) -> None:
    low, high = (calibrate(noisy[0][:300], precision=share).model.min_score for share in (0.6, 0.97))
    assert 0.5 <= low < high <= 0.99


@pytest.mark.parametrize(("copies", "others"), [(0, 0), (19, 40), (40, 19)])
def test_too_few_pairs_of_a_kind_are_refused_with_their_number(copies: int, others: int) -> None:
    evidence = Evidence(agreement=0.5, verification="dense")
    pairs = [LabelledPair(str(n), evidence, n < copies) for n in range(copies + others)]
    with pytest.raises(UsageError, match=f"{copies} pairs are labelled as copies and {others} as not"):
        calibrate(pairs)


def test_identical_files_and_pairs_without_pixels_teach_nothing(
    noisy: tuple[list[LabelledPair], Any],
) -> None:
    pairs = noisy[0][:200]
    others = [
        LabelledPair("x", Evidence(verification="identical", agreement=1.0), False),
        LabelledPair("y", Evidence(verification="keypoints", inliers=400, matches=400), False),
    ]
    assert calibrate(pairs + others * 50) == calibrate(pairs)


def test_pairs_of_one_query_are_never_split_between_fitting_and_judging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_row = {features_of(pair.evidence): pair for pair in noisy_pairs(240)[0]}  # rows that tell pairs apart
    pairs = list(of_row.values())
    seen: list[set[str]] = []
    judged: list[set[str]] = []
    fit, score = calibrating._fit, calibrating._scores
    named = lambda values: {of_row[tuple(row)].query for row in values.tolist() if tuple(row) in of_row}  # noqa: E731
    monkeypatch.setattr(calibrating, "_fit", lambda v, y: (seen.append(named(v)), fit(v, y))[1])
    monkeypatch.setattr(calibrating, "_scores", lambda v, w, b: (judged.append(named(v)), score(v, w, b))[1])
    calibrate(pairs)
    assert len(judged) == FOLDS
    assert set().union(*judged) == {pair.query for pair in pairs}
    for fitted_on, judged_on in zip(seen[:FOLDS], judged, strict=True):
        assert fitted_on
        assert judged_on
        assert not fitted_on & judged_on


def test_order_of_pairs_does_not_show() -> None:
    pairs, _ = noisy_pairs(300)
    one, other = calibrate(pairs), calibrate(pairs[::-1])
    assert one.error == pytest.approx(other.error, abs=1e-3)
    assert one.model.seen.weights == pytest.approx(other.model.seen.weights, abs=0.05)


# Statistics


def test_wilson_interval_contains_the_true_share_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(SEED)
    for share, trials in ((0.5, 20), (0.9, 60), (0.99, 300)):
        drawn = [wilson(int(k), trials) for k in rng.binomial(trials, share, 2000)]
        assert 0.92 <= np.mean([low <= share <= high for low, high in drawn]) <= 0.985


def test_wilson_interval_matches_published_values_and_stays_in_range() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_a_bound_never_parts_equal_scores() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    labels = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    bound = bound_for(scores, labels, 0.9)
    assert (bound.min_score, bound.recall) == (0.9, 0.5)
    assert bound_for(scores, labels, 0.5).min_score == 0.5
    assert bound_for(scores[1:4], labels[1:4], 0.9).min_score is None


def test_reliability_covers_every_pair_once_with_both_ends() -> None:
    bins = reliability(np.array([0.0, 0.01, 1.0, 0.99]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert bins == ((0.005, 0.5, 2), (0.995, 1.0, 2))


# Files


def test_saved_report_loads_as_a_model_and_says_what_it_was_fitted_on(
    fitted: calibrating.CalibrationReport, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "mine.json", data="pairs.csv")
    assert load_model(tmp_path / "mine.json") == fitted.model
    report = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["report"]
    assert report["data"] == "pairs.csv"
    assert report["expected_calibration_error"] == pytest.approx(fitted.error, abs=1e-5)
    assert report["bounds"] == [bound.to_dict() for bound in fitted.bounds]


def test_a_report_that_cannot_be_written_is_a_usage_error(
    fitted: calibrating.CalibrationReport, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"gone"):
        fitted.save(tmp_path / "gone" / "mine.json")


def test_reliability_diagram_is_a_picture(fitted: calibrating.CalibrationReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the audit extra, not in the test extra")
    fitted.save_plot(tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    with pytest.raises(UsageError, match="cannot be written"):
        fitted.save_plot(tmp_path / "gone" / "r.png")


def test_drawing_without_matplotlib_says_how_to_get_it(
    fitted: calibrating.CalibrationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="pip install"):
        fitted.save_plot(tmp_path / "r.png")


Rows = Sequence[tuple[object, ...]]
WriteCsv = Callable[..., Path]
COPIES = {"0002.jpg": "line-art-2.webp", "0011.jpg": "cubist-1.jpg", "0031.jpg": "city-3.jpg"}
OTHERS = {"0005.jpg": "city-1.jpg", "0006.png": "poster-1.png", "0007.jpg": "cubist-2.jpg"}


@pytest.fixture
def write_csv(tmp_path: Path, edited: Path) -> WriteCsv:
    """Write pairs.csv beside the queries that it may name."""
    for name in (*COPIES, *OTHERS):
        shutil.copy(edited / name, tmp_path / name)

    def write(rows: Rows, header: str = "query,reference,label") -> Path:
        text = io.StringIO()
        csv.writer(text).writerows([header.split(","), *rows])
        (tmp_path / "pairs.csv").write_text(text.getvalue(), encoding="utf-8")
        return tmp_path / "pairs.csv"

    return write


@pytest.fixture(scope="module")
def detector(sample_index: Path) -> Any:
    with Detector.open(sample_index) as opened:
        yield opened


def labelled() -> list[tuple[object, ...]]:
    return [*((q, r, 1) for q, r in COPIES.items()), *((q, r, 0) for q, r in OTHERS.items())]


def test_pairs_of_a_table_are_measured_as_a_scan_would(write_csv: WriteCsv, detector: Detector) -> None:
    pairs = list(read_pairs(write_csv(labelled()), detector=detector))
    assert [pair.query for pair in pairs] == [*COPIES, *OTHERS]
    assert [pair.label for pair in pairs] == [True] * 3 + [False] * 3
    for pair, place in zip(pairs[:3], COPIES, strict=True):
        report = detector.check(write_csv([]).parent / place)
        assert pair.evidence == report.matches[0].evidence
        assert pair.evidence.verification in ("keypoints", "dense")
    assert all(detector.scoring.level(pair.evidence) < 3 for pair in pairs[3:])


def test_a_reference_may_be_named_by_path_or_digest(
    write_csv: WriteCsv, detector: Detector, artworks: Path
) -> None:
    import hashlib

    path = artworks / "cubist-1.jpg"
    names = ["cubist-1.jpg", path.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
    pairs = list(read_pairs(write_csv([("0011.jpg", name, 1) for name in names]), detector=detector))
    assert pairs[0].evidence.inliers
    assert pairs[0].evidence == pairs[1].evidence == pairs[2].evidence


def test_pairs_round_trip_through_json_lines(tmp_path: Path, noisy: tuple[list[LabelledPair], Any]) -> None:
    pairs = noisy[0][:30]
    lines = [
        json.dumps({"query": p.query, "evidence": p.evidence.to_dict(), "label": int(p.label)}) for p in pairs
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, "", " "]), encoding="utf-8")
    assert list(read_pairs(path)) == pairs


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"query": "a", "label": 1}', '{"query": "a", "evidence": {}, "label": "maybe"}',
             '{"query": "a", "evidence": {"inliers": "many"}, "label": 1}', '{"evidence": {}, "label": 1}']
)  # fmt: skip
def test_a_garbage_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{{"query": "a", "evidence": {{}}, "label": 1}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(SourceError, match=r"pairs\.jsonl: line 3"):
        list(read_pairs(path))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("0005.jpg", "city-1.jpg", "perhaps"), "perhaps"),
        (("0005.jpg", "city-1.jpg"), "neither 1 nor 0"),
        (("gone.jpg", "city-1.jpg", 1), r"gone\.jpg"),
        (("", "city-1.jpg", 1), "lacks a query"),
        (("0005.jpg", "", 0), "lacks a query or a reference"),
    ],
)
def test_a_bad_row_of_a_table_is_named_by_its_line(
    write_csv: WriteCsv, detector: Detector, row: tuple[object, ...], said: str
) -> None:
    path = write_csv([("0005.jpg", "city-1.jpg", 0), (), row])  # an empty line counts as a line
    with pytest.raises(SourceError, match=rf"pairs\.csv: line 4.*{said}"):
        list(read_pairs(path, detector=detector))


def test_a_short_row_of_a_table_is_named_whatever_the_columns_order(
    write_csv: WriteCsv, detector: Detector
) -> None:
    path = write_csv([(1, "city-1.jpg")], header="label,reference,query")
    with pytest.raises(SourceError, match="line 2 lacks a query"):
        list(read_pairs(path, detector=detector))


def test_a_missing_column_is_named_with_those_that_are_there(write_csv: WriteCsv, detector: Detector) -> None:
    path = write_csv([("a", "b")], header="query,label")
    with pytest.raises(SourceError, match=r"lacks the column reference; it has \['query', 'label'\]"):
        list(read_pairs(path, detector=detector))


def test_a_table_needs_an_index_and_a_file_must_be_text(write_csv: WriteCsv, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need --index"):
        list(read_pairs(write_csv([])))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\xff")
    for name in ("b.jsonl", "gone.jsonl"):
        with pytest.raises(SourceError, match=f"{name}: cannot be read"):
            list(read_pairs(tmp_path / name))


# The command


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["calibrate", *map(str, words)])
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_command_measures_an_index_against_itself_and_stores_it(own_index: Path) -> None:
    code, out, _ = run("--index", own_index, "--json")
    assert code == 0
    said = json.loads(out)
    assert set(said) == {"pdq", "phash", "clip:bundled"}
    with ReferenceIndex.open(own_index) as opened:
        assert {name: null.to_dict() for name, null in opened.calibration().items()} == said
    code, out, _ = run("--index", own_index)
    assert code == 0
    assert "of 256 bits" in out


def test_command_fits_pairs_that_carry_their_evidence(
    noisy: tuple[list[LabelledPair], Any], tmp_path: Path
) -> None:
    path, out = tmp_path / "pairs.jsonl", tmp_path / "mine.json"
    path.write_text(
        "\n".join(
            json.dumps({"query": p.query, "evidence": p.evidence.to_dict(), "label": p.label})
            for p in noisy[0][:200]
        ),
        encoding="utf-8",
    )
    code, said, noted = run("--pairs", path, "--out", out)
    assert code == 0
    assert "95 % interval" in said
    assert "200 pairs" in said
    assert "--scoring" in noted
    assert load_model(out) == calibrate(noisy[0][:200]).model


def test_command_measures_the_pairs_of_a_table_against_an_index(
    write_csv: WriteCsv, sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "MIN_PAIRS_OF_EACH", 3)
    out = tmp_path / "mine.json"
    code, said, _ = run("--pairs", write_csv(labelled()), "--index", sample_index, "--out", out, "--json")
    assert code == 0
    assert json.loads(said)["report"]["pairs"] == 6
    assert load_model(out).min_score >= 0.5


def test_command_says_in_a_line_what_it_cannot_do(
    write_csv: WriteCsv, sample_index: Path, own_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "few.jsonl").write_text('{"query": "a", "evidence": {}, "label": 1}\n', encoding="utf-8")
    few = tmp_path / "few.jsonl"
    for words, said in (
        ([], "--index FOLDER, or --pairs"),
        (["--pairs", write_csv(labelled()), "--out", tmp_path / "o.json"], "need --index"),
        (["--pairs", few, "--out", tmp_path / "o.json"], "at least 20"),
        (["--pairs", few, "--out", tmp_path / "o.json", "--plot", "r.gif"], "png"),
        (["--pairs", few, "--out", own_index / "o.json", "--index", own_index], "inside the index folder"),
        (["--pairs", tmp_path / "gone.jsonl", "--out", tmp_path / "o.json"], "cannot be read"),
        (["--index", tmp_path / "gone.index"], "no such index"),
        (["--pairs", few, "--precision", "0.3"], "precision"),
    ):
        code, _, noted = run(*words)
        assert code == 2
        assert said in noted.replace("\n", " ")
    assert not (tmp_path / "o.json").exists()


# The null distribution of an index


def test_gumbel_fit_recovers_place_and_scale() -> None:
    drawn = np.random.default_rng(SEED).gumbel(0.6, 0.04, 400)
    null = fit_gumbel(drawn.tolist(), references=1000)
    assert null is not None
    assert (null.samples, null.references) == (400, 1000)
    assert null.location == pytest.approx(0.6, abs=0.008)
    assert null.scale == pytest.approx(0.04, rel=0.12)
    assert Null.from_dict(json.loads(json.dumps(null.to_dict()))) == null


def test_too_few_samples_give_no_distribution_and_equal_ones_a_narrow_one() -> None:
    assert fit_gumbel([0.5] * (MIN_SAMPLES - 1), references=100) is None
    narrow = fit_gumbel([0.5] * MIN_SAMPLES, references=100)
    assert narrow is not None
    assert narrow.scale > 0.0
    assert narrow.p_value(0.9, 100) == MIN_P_VALUE


def test_p_value_falls_with_similarity_and_rises_with_the_gallery() -> None:
    null = Null(0.5, 0.05, 400, 1000)
    by_similarity = [null.p_value(s, 1000) for s in np.linspace(-1.0, 1.0, 60)]
    assert by_similarity == sorted(by_similarity, reverse=True)
    assert by_similarity[0] == 1.0
    assert all(MIN_P_VALUE <= p <= 1.0 for p in by_similarity)
    by_size = [null.p_value(0.75, size) for size in (0, 1, 10, 1000, 10**6, 10**12)]
    assert by_size == sorted(by_size)
    assert by_size[-1] > 10 * by_size[3]
    assert null.p_value(0.75, 1000, states=1) < null.p_value(0.75, 1000, states=7)
    assert null.p_value(1e9, 1) == MIN_P_VALUE


def test_p_value_of_the_fitted_distribution_is_a_frequency() -> None:
    rng = np.random.default_rng(SEED)
    null = fit_gumbel(rng.gumbel(0.6, 0.04, 400).tolist(), references=50)
    assert null is not None
    values = np.array([null.p_value(float(x), 50, states=1) for x in rng.gumbel(0.6, 0.04, 3000)])
    for chance in (0.5, 0.1, 0.01):
        assert (values <= chance).mean() == pytest.approx(chance, rel=0.35)


def gallery(rows: np.ndarray[Any, Any]) -> Any:
    """What `index.calibration.calibrate` needs of an index."""
    store = UnitStore(rows.astype(np.float16), np.arange(len(rows)))
    spec = SimpleNamespace(name="style")
    return SimpleNamespace(
        reference_ids=lambda: list(range(len(rows))), specs=[spec], store=lambda name: store, size=len(rows)
    )


def unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def in_one_style(count: int, rng: np.random.Generator, *, cosine: float) -> np.ndarray[Any, Any]:
    """Vectors whose cosines lie about `cosine`, as of works of one artist."""
    common = np.zeros((1, 128))
    common[0, 0] = 1.0
    own = unit(rng.normal(size=(count, 127)))
    return unit(math.sqrt(cosine) * common + math.sqrt(1 - cosine) * np.column_stack([np.zeros(count), own]))


def test_a_homogeneous_gallery_does_not_raise_its_false_alarms() -> None:
    rng = np.random.default_rng(SEED)
    alike, mixed = in_one_style(300, rng, cosine=0.6), unit(rng.normal(size=(300, 128)))
    in_alike = nulls.calibrate(gallery(alike))["style"]
    in_mixed = nulls.calibrate(gallery(mixed))["style"]
    best = (in_one_style(400, rng, cosine=0.6) @ alike.T).max(axis=1)  # unrelated works in the same style
    p_alike = np.array([in_alike.p_value(float(s), 300, states=1) for s in best])
    assert np.median(p_alike) > 0.2
    assert (p_alike <= 0.01).mean() <= 0.02
    assert max(in_mixed.p_value(float(s), 300, states=1) for s in best) < 0.01


def test_near_duplicates_in_the_gallery_do_not_hide_a_copy() -> None:
    rng = np.random.default_rng(SEED)
    rows = unit(rng.normal(size=(200, 128)))
    twice = np.concatenate([rows, unit(rows + 0.01 * rng.normal(size=rows.shape))])
    alone, doubled = nulls.calibrate(gallery(rows))["style"], nulls.calibrate(gallery(twice))["style"]
    assert doubled.location == pytest.approx(alone.location, abs=0.02)
    assert doubled.p_value(0.95, 400) < 1e-6


def test_a_gallery_too_small_has_no_distribution() -> None:
    rows = unit(np.random.default_rng(SEED).normal(size=(MIN_SAMPLES - 1, 16)))
    assert nulls.calibrate(gallery(rows)) == {}


def test_built_index_gives_unrelated_pictures_large_p_values(detector: Detector, edited: Path) -> None:
    found = detector.index.calibration()
    assert set(found) == {"pdq", "phash", "clip:bundled"}
    unrelated = [detector.check(edited / name) for name in OTHERS]
    assert all(match.p_value is None or match.p_value > 1e-3 for r in unrelated for match in r.matches)
    copy = detector.check(edited / "0011.jpg")
    assert copy.matches[0].p_value is not None
    assert copy.matches[0].p_value < 1e-6


@pytest.mark.parametrize("evidence", ["[" * 5_000, '{"inliers": 1e999}', '{"cosines": {"a": 1e999}}'])
def test_depth_and_numbers_without_end_are_a_line_to_name(evidence: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "label": 1, "evidence": ' + evidence + "}")
    with pytest.raises(SourceError, match="line 1"):
        list(read_pairs(tmp_path / "pairs.jsonl"))
