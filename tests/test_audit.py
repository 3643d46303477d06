"""The audit: its statistics, its choice of works, its course on a tiny pipeline, its verdicts, its page."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from detector.audit import AuditOptions, AuditReport, Part, audit
from detector.audit.analysis import figures_of, labels_of
from detector.audit.figures import AuditVerdict
from detector.audit.groups import near_identical
from detector.audit.likeness import tiled_correlation, tiled_distances
from detector.audit.log import LOG, Log
from detector.audit.options import parts_of, strengths_of
from detector.audit.statistics import (
    Z,
    adjusted,
    auc,
    controls_needed,
    rank_p_value,
    rate,
    trend,
)
from detector.audit.works import Work, choose_works
from detector.cli import app
from detector.reports.jsonl import read_findings
from index.build import build_index
from index.errors import DetectorError, SourceError, UsageError, WeightsError
from index.reference_index import ReferenceIndex

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
TINY = SAMPLES / "tiny-diffusion"

needs_tiny = pytest.mark.skipif(
    not (TINY / "model_index.json").exists(), reason="samples/tiny-diffusion is not here"
)

WORKS = (
    "stained-glass-3.webp",
    "poster-2.jpg",
    "city-3.jpg",
    "landscape-2.jpg",
    "woodcut-3.jpg",
    "collage-1.jpg",
)
QUICK = AuditOptions(seeds=3, steps=2, strengths=(0.5, 1.0), batch_size=2, device="cpu")


# Statistics


def test_rate_has_wilsons_interval() -> None:
    found = rate(8, 10)
    assert (found.share, found.low, found.high) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)
    assert rate(0, 10).low == 0.0
    assert rate(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert rate(10, 10).high == 1.0
    assert (rate(0, 0).low, rate(0, 0).high) == (0.0, 1.0)


def test_auc_counts_ties_half() -> None:
    found = auc([1.0, 2.0, 2.0], [0.0, 2.0])
    assert found is not None
    # 1>0, 1<2, then twice: 2>0 and 2=2
    assert found.value == pytest.approx((1 + 0 + 2 * (1 + 0.5)) / 6)


@pytest.mark.parametrize(
    ("members", "controls"), [([3, 5, 6, 9], [1, 2, 4, 7, 8]), ([5, 6, 7], [1, 2, 3, 4])]
)
def test_ends_of_the_auc_interval_solve_newcombes_equation(
    members: list[float], controls: list[float]
) -> None:
    found = auc(members, controls)
    assert found is not None
    m, n = len(members), len(controls)
    size = (m + n) / 2 - 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            variance = end * (1 - end) / (m * n)
            variance *= 1 + size * (1 - end) / (2 - end) + size * end / (1 + end)
            assert abs(found.value - end) == pytest.approx(Z * math.sqrt(variance), abs=1e-6)
    assert found.low < found.value <= found.high
    assert found.low > 0 or found.value < 1


def test_auc_interval_keeps_its_width_where_all_members_lie_above() -> None:
    found = auc(list(range(10, 20)), list(range(10)))
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.6 < found.low < 0.95
    assert found.p_value < 0.001
    assert auc([1.0], []) is None


def test_auc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    drawer = np.random.default_rng(20261121)
    truth, covered = 0.76025, 0  # of two normals one standard deviation apart: Φ(1/√2)
    for _ in range(300):
        found = auc(drawer.normal(1, 1, 12).tolist(), drawer.normal(0, 1, 20).tolist())
        assert found is not None
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_p_value_is_the_rank_among_controls() -> None:
    assert rank_p_value(0.9, [0.1, 0.5, 0.95]) == 2 / 4
    assert rank_p_value(0.9, [0.9]) == 1.0  # a tie counts against
    assert rank_p_value(1.0, [0.5] * 19) == pytest.approx(0.05)


def test_controls_needed_is_19_for_one_work_and_more_for_few_of_many() -> None:
    assert controls_needed(1, at=1) == 19
    assert controls_needed(10, at=10) == 19
    assert controls_needed(40, at=10) == 79
    for works, at in ((1, 1), (40, 10), (7, 2)):
        best = 1 / (controls_needed(works, at=at) + 1)
        assert adjusted([best] * at + [1.0] * (works - at))[0] <= 0.05 + 1e-12
        worse = 1 / controls_needed(works, at=at)
        assert adjusted([worse] * at + [1.0] * (works - at))[0] > 0.05


def test_adjusted_p_values_are_benjamini_and_hochbergs() -> None:
    assert adjusted([0.01, 0.5, 0.03, 0.02]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert adjusted([]) == []


def test_trend_is_spearmans_and_says_nothing_of_what_does_not_vary() -> None:
    found = trend([1, 4, 16, 64], [0.0, 0.1, 0.2, 1.0])
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert trend([1, 4, 16], [0.0, 0.0, 0.0]) is None
    assert trend([1, 4], [0.0, 1.0]) is None


# Groups


def test_distance_is_that_of_the_worst_tile() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    spot = black.copy()
    spot[:16, :16] = 255
    found = tiled_distances([black, spot, black])
    assert found[0, 1] == found[1, 0] == pytest.approx(1.0)
    assert found[0, 2] == 0.0
    half = black.copy()
    half[:8, :16] = 255
    assert tiled_distances([black, half])[0, 1] == pytest.approx(math.sqrt(0.5))


def test_correlation_sees_structure_and_no_brightness_contrast_or_noise(artworks: Path) -> None:
    from index.images import read_image

    picture = read_image(artworks / "city-3.jpg").pixels[:256, :256]
    assert tiled_correlation(picture, picture) == pytest.approx(1.0)
    darker = (picture * 0.5 + 20).astype(np.uint8)
    assert tiled_correlation(picture, darker) > 0.97
    noise = np.random.default_rng(3).integers(0, 255, picture.shape).astype(np.uint8)
    assert abs(tiled_correlation(picture, noise)) < 0.05
    assert tiled_correlation(picture, 255 - picture) < -0.97
    flat = np.full_like(picture, 90)
    assert tiled_correlation(picture, flat) == 0.0
    assert tiled_correlation(flat, picture) == 0.0


def test_group_is_of_pictures_that_are_all_alike_to_each_other() -> None:
    chain = np.array([[0, 1, 9, 9], [1, 0, 1, 9], [9, 1, 0, 9], [9, 9, 9, 0]]) / 10
    assert len(near_identical(chain, max_distance=0.1)) == 2  # 0-1-2 hang together, but 0 and 2 are not alike
    assert near_identical(np.zeros((3, 3)), max_distance=0.1) == [0, 1, 2]
    assert near_identical(np.zeros((0, 0)), max_distance=0.1) == []


def test_groups_of_constructed_pictures_are_found() -> None:
    drawer = np.random.default_rng(5)
    same = drawer.integers(0, 255, (64, 64, 3))
    alike = [np.clip(same + drawer.normal(0, 6, same.shape), 0, 255).astype(np.uint8) for _ in range(4)]
    others = [drawer.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(5)]
    pictures = [others[0], alike[0], others[1], alike[1], alike[2], *others[2:], alike[3]]
    assert near_identical(tiled_distances(pictures), max_distance=0.1) == [1, 3, 4, 8]


def test_group_size_is_two_per_cent_of_the_seeds_and_three_at_least() -> None:
    assert AuditOptions(seeds=500).group_size == 10
    assert AuditOptions(seeds=4).group_size == 3
    assert AuditOptions(seeds=4, min_group=2).group_size == 2


# Options


def test_options_refuse_what_cannot_be_audited_with() -> None:
    for wrong in (
        {"seeds": 0},
        {"strengths": (0.0, 0.5)},
        {"strengths": (1.5,)},
        {"only": ()},
        {"dtype": "int8"},
        {"max_distance": 0.0},
        {"prompt_steps": 9, "steps": 3},
    ):
        with pytest.raises(UsageError, match="--"):
            AuditOptions(**wrong)  # type: ignore[arg-type]
    assert AuditOptions(strengths=(0.8, 0.2, 0.8)).strengths == (0.2, 0.8)


def test_words_of_options_are_read() -> None:
    assert parts_of("carlini, txt2img") == (Part.TXT2IMG, Part.CARLINI)
    assert strengths_of("0.2,1") == (0.2, 1.0)
    with pytest.raises(UsageError, match="Parts: txt2img, img2img, prompts, carlini"):
        parts_of("txt2img,video")
    with pytest.raises(UsageError, match=r"0\.2,0\.4"):
        strengths_of("much")


# Works


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, artworks: Path) -> Path:
    """A folder with a few artworks and their captions."""
    folder = tmp_path_factory.mktemp("few") / "artworks"
    folder.mkdir()
    for name in WORKS:
        shutil.copy(artworks / name, folder)
    rows = [row for row in read_csv(artworks / "metadata.csv") if row["file_name"] in WORKS]
    write_csv(folder / "metadata.csv", rows)
    return folder


@pytest.fixture(scope="module")
def few_index(few: Path) -> Path:
    folder = few.parent / "few.index"
    build_index(few, folder, descriptors=("pdq", "phash", "keypoints"))
    return folder


@pytest.fixture(scope="module")
def training(few: Path) -> Path:
    """A list of the artworks: four trained on, two held out."""
    rows = [
        {"file_name": row["file_name"], "caption": row["caption"], "repeats": repeats}
        for row, repeats in zip(read_csv(few / "metadata.csv"), ("64", "64", "4", "1", "0", "0"), strict=True)
    ]
    return write_csv(few.parent / "training.csv", rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def opened(few_index: Path) -> Iterator[ReferenceIndex]:
    with ReferenceIndex.open(few_index) as index:
        yield index


def test_without_a_list_every_captioned_reference_is_a_work(opened: ReferenceIndex) -> None:
    found = choose_works(opened)
    assert {work.name for work in found} == set(WORKS)
    assert not any(work.control for work in found)
    assert all(work.caption and work.copies == 1 and work.has_picture for work in found)


def test_repeats_of_a_list_make_members_and_controls(opened: ReferenceIndex, training: Path) -> None:
    found = choose_works(opened, works=training)
    assert [work.control for work in found] == [False] * 4 + [True] * 2
    assert [work.copies for work in found] == [64, 64, 4, 1, 0, 0]
    assert all(work.reference_id is not None for work in found)
    labels = labels_of(found)
    assert [labels[work.name] for work in found] == ["×64", "×64", "×4", "×1", "controls", "controls"]


def test_many_numbers_of_copies_are_put_together_by_powers_of_two() -> None:
    works = [Work(str(number), "", repeats=number) for number in range(1, 12)]
    assert list(dict.fromkeys(labels_of(works).values())) == ["×1", "×2–3", "×4–7", "×8–15"]


@pytest.mark.parametrize(("column", "word"), [("split", "held_out"), ("repeats", "control"), ("set", "test")])
def test_a_column_may_say_which_works_were_held_out(tmp_path: Path, column: str, word: str) -> None:
    rows = [{"caption": "a", column: "" if column == "repeats" else "train"}, {"caption": "b", column: word}]
    found = choose_works(None, works=write_csv(tmp_path / "list.csv", rows))
    assert [(work.caption, work.control) for work in found] == [("a", False), ("b", True)]


def test_controls_are_a_folder_or_a_list(opened: ReferenceIndex, few: Path, tmp_path: Path) -> None:
    outside = tmp_path / "held"
    outside.mkdir()
    shutil.copy(SAMPLES / "artworks" / "city-1.jpg", outside)
    found = choose_works(opened, controls=outside)
    assert [(w.name, w.reference_id, w.has_picture) for w in found if w.control] == [
        ("city-1.jpg", None, True)
    ]
    listed = write_csv(tmp_path / "controls.csv", [{"file_name": "city-3.jpg"}])
    found = choose_works(opened, controls=listed)
    assert [work.name for work in found if work.control] == ["city-3.jpg"]
    assert len(found) == len(WORKS)  # it is no member as well


def test_limit_spreads_over_the_numbers_of_repeats(opened: ReferenceIndex, training: Path) -> None:
    found = choose_works(opened, works=training, limit=3)
    assert sorted(work.copies for work in found if not work.control) == [1, 4, 64]
    assert sum(work.control for work in found) == 2
    assert found == choose_works(opened, works=training, limit=3)


def test_lists_that_cannot_be_used_say_why(opened: ReferenceIndex, few: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no file"):
        choose_works(opened, works=tmp_path / "missing.csv")
    with pytest.raises(SourceError, match="is no list"):
        choose_works(opened, works=few / "city-3.jpg")
    with pytest.raises(SourceError, match="neither a file name nor a caption"):
        choose_works(opened, works=write_csv(tmp_path / "a.csv", [{"colour": "red"}]))
    with pytest.raises(SourceError, match="how often it was trained on"):
        choose_works(opened, works=write_csv(tmp_path / "b.csv", [{"caption": "a", "repeats": "often"}]))
    with pytest.raises(UsageError, match="every work is a control"):
        choose_works(opened, works=write_csv(tmp_path / "c.csv", [{"caption": "a", "repeats": "0"}]))
    with pytest.raises(UsageError, match="--works"):
        choose_works(None)


# Verdicts, from made-up measurements


def measured(works: list[Work], value_of: Callable[[Work, int], float]) -> dict[str, Any]:
    return {
        f"img2img-0.5/{work.name}/0": {
            "work": work.name,
            "strength": 0.5,
            "correlation": -value_of(work, number),
            "tiled_l2": value_of(work, number),
            "cosine": 0.5,
        }
        for number, work in enumerate(works)
    }


def made_works(*, members: int, controls: int, repeats: int = 64) -> list[Work]:
    found = [Work(f"m{number}", "a", repeats=repeats) for number in range(members)]
    return found + [Work(f"c{number}", "a", control=True, repeats=0) for number in range(controls)]


def test_works_that_beat_every_control_are_memorised(tmp_path: Path) -> None:
    works = made_works(members=5, controls=20)
    items = measured(works, lambda work, number: 0.3 + number / 100 if work.control else 0.1)
    figures = figures_of(items, works, AuditOptions(), folder=tmp_path, groups=False)
    assert figures.verdict is AuditVerdict.MEMORISED
    assert set(figures.memorised) == {f"m{number}" for number in range(5)}
    assert figures.ladder[0].by_copies["×64"].value == 1.0
    assert {work.p_value for work in figures.reconstruction.works if not work.control} == {1 / 21}  # type: ignore[union-attr]


def test_plain_pictures_that_any_model_gives_back_do_not_count(tmp_path: Path) -> None:
    works = made_works(members=5, controls=20)
    items = {}
    for strength, loss in ((0.2, 0.0), (0.6, 0.1), (1.0, 0.2)):
        # Members are plainer by far, and lose as much as the controls do.
        made = measured(works, lambda w, n, loss=loss: (0.3 if w.control else 0.02) + loss * (1 + n % 7 / 10))  # type: ignore[misc]
        items |= {
            name.replace("0.5", str(strength)): item | {"strength": strength} for name, item in made.items()
        }
    figures = figures_of(items, works, AuditOptions(), folder=tmp_path, groups=False)
    assert figures.ladder[0].auc is None
    assert figures.ladder[2].similarity_by_copies["×64"].value == 1.0
    assert figures.ladder[2].by_copies["×64"].value < 0.8
    assert not figures.memorised


def test_works_like_the_controls_are_no_more_than_unseen(tmp_path: Path) -> None:
    works = made_works(members=20, controls=40)
    items = measured(works, lambda work, number: 0.2 + (7 * number % 20) / 100)
    figures = figures_of(items, works, AuditOptions(), folder=tmp_path, groups=False)
    assert figures.verdict is AuditVerdict.AS_UNSEEN
    assert not figures.memorised


def test_too_few_controls_are_named_with_how_many_it_takes(tmp_path: Path) -> None:
    works = made_works(members=5, controls=18)
    items = measured(works, lambda work, number: 0.3 if work.control else 0.1)
    figures = figures_of(items, works, AuditOptions(), folder=tmp_path, groups=False)
    assert figures.verdict is AuditVerdict.FEW_CONTROLS
    assert figures.reconstruction is not None
    assert figures.reconstruction.needed == 19
    # One of many that beats 20 controls: not enough either, and 20 times as many are needed.
    works = made_works(members=20, controls=20)
    items = measured(works, lambda work, number: 0.1 if number == 0 else 0.3)
    figures = figures_of(items, works, AuditOptions(), folder=tmp_path, groups=False)
    verdicts = [work.verdict for work in figures.reconstruction.works if not work.control]  # type: ignore[union-attr]
    assert verdicts.count(AuditVerdict.FEW_CONTROLS) == 1
    assert figures.reconstruction.needed == 399  # type: ignore[union-attr]


def test_extraction_is_counted_by_work_and_by_copies(tmp_path: Path) -> None:
    works = [*made_works(members=3, controls=2), Work("once", "a", repeats=1)]
    levels = {"m0": (5, 0), "m1": (3, 4), "m2": (2, 0), "once": (0, 0), "c0": (0, 0), "c1": (0, 0)}
    items = {
        f"txt2img/{name}/{n}": {
            "work": name,
            "own": level,
            "any": max(level, 3 * (name == "c0")),
            "detail": True,
        }
        for name, both in levels.items()
        for n, level in enumerate(both)
    }
    figures = figures_of(items, works, AuditOptions(seeds=2), folder=tmp_path, groups=False)
    assert figures.extraction is not None
    rows = {row.label: row for row in figures.extraction.rows}
    assert (rows["×64"].works.hits, rows["×64"].works.total) == (2, 3)
    assert (rows["×64"].generations.hits, rows["×64"].generations.total) == (3, 6)
    assert (rows["controls"].works.hits, rows["controls"].any.hits) == (0, 2)
    assert figures.memorised == {"m0": ("txt2img",), "m1": ("txt2img",)}


# The course, on a tiny pipeline


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of random weights, 32 pixels, on disk."""
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_pipeline(folder.parent / "tokenizer").save_pretrained(folder)
    return folder


def tiny_pipeline(folder: Path) -> Any:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(11)
    folder.mkdir()
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = [chr(code) for code in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), start, end]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            block_out_channels=(8,),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def done(pipeline_folder: Path, few_index: Path, training: Path) -> AuditReport:
    """An audit of it from beginning to end."""
    return audit(pipeline_folder, few_index, out=few_index.parent / "done", works=training, options=QUICK)


def figures_in(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    del values["run"]
    return values


def test_audit_writes_all_that_it_promises(done: AuditReport) -> None:
    folder = done.folder
    values = figures_in(folder)
    assert values["verdict"] == "not enough controls"
    assert "there are 2, 19 are needed" in values["summary"]
    assert values["variants"]["model"]["ladder"][1]["strength"] == 1.0
    weights = {each["file"]: each["sha256"] for each in values["model"]["weights"]}
    assert {"unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"} <= set(
        weights
    )
    assert all(len(digest) == 64 for digest in weights.values())
    assert values["model"]["scheduler"]["class"] == "DDIMScheduler"
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "model-extraction.svg",
        "model-img2img.svg",
        "model-prompts.svg",
    }
    rows = read_csv(folder / "generations" / "metadata.csv")
    assert len(rows) == 6 * (3 + 2)
    assert {row["file_name"] for row in rows} | {"metadata.csv"} == {
        path.name for path in (folder / "generations").iterdir()
    }
    assert {row["strength"] for row in rows} == {"", "0.5", "1.0"}


def test_findings_of_an_audit_carry_how_each_picture_was_generated(done: AuditReport) -> None:
    found = list(read_findings(done.folder / "findings.jsonl"))
    assert len(found) == 6 * 3
    captions = {work.caption for work in done.works}
    for report in found:
        assert Path(report.query).is_file()
        made = report.generation
        assert made is not None
        assert made.prompt in captions
        assert (made.steps, made.sampler, made.strength) == (2, "DDIMScheduler", None)
    assert len({report.generation.seed for report in found if report.generation}) == len(found)


def test_same_command_again_changes_nothing(
    done: AuditReport, pipeline_folder: Path, few_index: Path, training: Path
) -> None:
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    again = audit(pipeline_folder, few_index, out=done.folder, works=training, options=QUICK)
    assert again.to_dict() == done.to_dict()
    after = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    assert [path.name for path in after if after[path] != before[path]] == []


@pytest.mark.parametrize("after", [5, 25])
def test_audit_that_was_killed_goes_on_to_the_same_figures(
    after: int, done: AuditReport, pipeline_folder: Path, few_index: Path, training: Path, tmp_path: Path
) -> None:
    def stop(doing: str, count: int, total: int) -> None:
        if count >= after:
            raise KeyboardInterrupt

    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        audit(pipeline_folder, few_index, out=out, works=training, options=QUICK, on_progress=stop)
    lines = (out / LOG).read_bytes().splitlines(keepends=True)
    (out / LOG).write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # as a power cut leaves it
    counts = []
    audit(
        pipeline_folder,
        few_index,
        out=out,
        works=training,
        options=QUICK,
        on_progress=lambda doing, count, total: counts.append(count),
    )
    assert counts[0] >= after - 1
    assert figures_in(out) == figures_in(done.folder)
    for name in ("generations/metadata.csv", "plots/model-img2img.svg"):
        assert (out / name).read_bytes() == (done.folder / name).read_bytes()


def test_another_audit_in_the_same_folder_is_refused(
    done: AuditReport, pipeline_folder: Path, few_index: Path, training: Path, tmp_path: Path
) -> None:
    other = AuditOptions(**{**vars(QUICK), "steps": 3})
    with pytest.raises(UsageError, match=r"another options \(steps was 2, now 3\).*--out"):
        audit(pipeline_folder, few_index, out=done.folder, works=training, options=other)
    with pytest.raises(UsageError, match="another list of works"):
        audit(pipeline_folder, few_index, out=done.folder, options=QUICK)
    changed = Path(shutil.copytree(pipeline_folder, tmp_path / "changed"))
    config = changed / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"beta_end": 0.02', '"beta_end": 0.021'))
    with pytest.raises(UsageError, match="another model"):
        audit(changed, few_index, out=done.folder, works=training, options=QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        audit(pipeline_folder, few_index, out=tmp_path / "mine", works=training, options=QUICK)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_log_with_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    with Log(tmp_path, {"a": 1}) as log:
        log.add([("x", {"n": 1})])
    with (tmp_path / LOG).open("ab") as file:
        file.write(b"garbage\n")
    with pytest.raises(SourceError, match="line 3"), Log(tmp_path, {"a": 1}):
        pass


def test_pictures_come_from_their_own_seeds_whatever_the_batch(pipeline_folder: Path) -> None:
    from detector.audit.pipelines import open_model

    model = open_model(pipeline_folder, device="cpu")
    together = model.generate(["a", "b", "c"], [1, 2, 3], steps=2, guidance=3.0)
    alone = [model.generate([p], [s], steps=2, guidance=3.0)[0] for p, s in (("a", 1), ("b", 2), ("c", 3))]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1  # rounding of another batch
    assert not np.array_equal(together[0], model.generate(["a"], [9], steps=2, guidance=3.0)[0])
    assert together[0].shape == (32, 32, 3)


def test_pipeline_object_is_left_as_it_was(pipeline_folder: Path, few_index: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    class Blackout:
        def __call__(self, images: Any, **_: Any) -> Any:
            return np.zeros_like(images), [True] * len(images)

    pipe = DiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.set_progress_bar_config(desc="mine")
    checker = pipe.safety_checker = Blackout()
    options = AuditOptions(**{**vars(QUICK), "only": (Part.TXT2IMG,), "limit": 1})
    report = audit(pipe, few_index, out=tmp_path / "out", options=options)
    assert pipe.safety_checker is checker
    assert pipe._progress_bar_config == {"desc": "mine"}
    assert set(report.facts["components"]) >= {"unet", "vae", "text_encoder"}
    from PIL import Image

    for path in (tmp_path / "out" / "generations").glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image).std() > 1  # a checker would have blacked it out


def test_audit_without_an_index_looks_for_groups_alone(
    pipeline_folder: Path, training: Path, tmp_path: Path
) -> None:
    options = AuditOptions(**{**vars(QUICK), "only": (Part.CARLINI, Part.TXT2IMG), "limit": 1})
    report = audit(pipeline_folder, None, out=tmp_path / "out", works=training, options=options)
    assert report.figures.extraction is not None
    assert not report.figures.extraction.searched
    assert report.figures.extraction.group_size == 3
    assert "--index" in report.skipped["txt2img"]
    assert not (tmp_path / "out" / "findings.jsonl").read_bytes()


def test_works_without_captions_or_pictures_are_treated_alike(
    pipeline_folder: Path, few: Path, few_index: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    shutil.copy(few / "city-3.jpg", held / "a.jpg")
    (held / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    options = AuditOptions(**{**vars(QUICK), "only": (Part.IMG2IMG,), "limit": 2, "strengths": (1.0,)})
    report = audit(pipeline_folder, few_index, out=tmp_path / "out", controls=held, options=options)
    assert report.img2img_prompts == "none"
    assert set(report.left_out) == {"broken.jpg"}
    rows = read_csv(tmp_path / "out" / "generations" / "metadata.csv")
    assert {row["prompt"] for row in rows} == {""}
    assert all(row["source"] for row in rows)


def test_prompts_are_measured_against_no_prompt(pipeline_folder: Path) -> None:
    from diffusers import DiffusionPipeline

    from detector.audit.prompts import prompt_magnitude, why_not

    pipe = DiffusionPipeline.from_pretrained(pipeline_folder)
    found = prompt_magnitude(pipe, ["", "abc", "xyz xyz"], seeds=(1, 2), steps=4)
    assert found.shape == (3,)
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert (found[1:] > 1e-4).all()
    apart = [prompt_magnitude(pipe, ["abc"], seeds=(seed,), steps=4)[0] for seed in (1, 2)]
    assert found[1] == pytest.approx(np.mean(apart), rel=1e-4)
    assert prompt_magnitude(pipe, ["abc"], steps=4, first=3)[0] > 0
    pipe.unet.register_to_config(addition_embed_type="text_time")
    assert "asks for more" in why_not(pipe)
    with pytest.raises(UsageError, match="no unet"):
        prompt_magnitude(object(), ["abc"])


def test_adapter_is_audited_beside_the_model_without_it(
    pipeline_folder: Path, few_index: Path, training: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    pipe = DiffusionPipeline.from_pretrained(pipeline_folder)
    torch.manual_seed(0)
    pipe.unet.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=64, init_lora_weights=False, target_modules=["to_q", "to_v", "to_k"])
    )
    state = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(pipe.unet))
    type(pipe).save_lora_weights(tmp_path / "lora", unet_lora_layers=state)
    options = AuditOptions(**{**vars(QUICK), "lora": str(tmp_path / "lora"), "limit": 1})
    report = audit(pipeline_folder, few_index, out=tmp_path / "out", works=training, options=options)
    assert list(report.variants) == ["model", "adapter"]
    pictures = tmp_path / "out" / "generations"
    ours = sorted(pictures.glob("model-*txt2img*.png"))
    theirs = sorted(pictures.glob("adapter-*txt2img*.png"))
    assert len(ours) == len(theirs) == 6
    assert any(a.read_bytes() != b.read_bytes() for a, b in zip(ours, theirs, strict=True))
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "Without and with the adapter" in page


def test_missing_peft_is_named(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector.audit import pipelines

    model = pipelines.open_model(pipeline_folder, device="cpu")
    (tmp_path / "a.safetensors").write_bytes(b"")
    real = pipelines.find_spec
    monkeypatch.setattr(pipelines, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(UsageError, match=r"need peft.*\[audit\]"):
        model.require_adapters(str(tmp_path / "a.safetensors"))
    with pytest.raises(UsageError, match="no such file"):
        model.require_adapters(str(tmp_path / "missing.safetensors"))


def test_pipelines_that_cannot_be_loaded_say_what_to_do(pipeline_folder: Path, tmp_path: Path) -> None:
    from detector.audit.pipelines import open_model

    with pytest.raises(UsageError, match="no such folder"):
        open_model(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"model_index\.json"):
        open_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match="single file"):
        open_model(tmp_path / "model.safetensors")
    broken = Path(shutil.copytree(pipeline_folder, tmp_path / "broken"))
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="save_pretrained"):
        open_model(broken)


# The page and the command


def test_page_loads_nothing_and_escapes_what_it_shows(
    pipeline_folder: Path, few_index: Path, few: Path, tmp_path: Path
) -> None:
    rows = [{"file_name": "city-3.jpg", "caption": "<script>alert(1)</script> & more", "repeats": "1"}]
    rows += [{"file_name": "poster-2.jpg", "caption": "b", "repeats": "0"}]
    works = write_csv(tmp_path / "list.csv", rows)
    report = audit(pipeline_folder, few_index, out=tmp_path / "out", works=works, options=QUICK)
    page = (report.folder / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<img") >= 2 * (1 + 2) + 3  # two ladders, three plots
    assert report.summary in page


def run(*words: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["detector", *words])
        result = CliRunner(env={"COLUMNS": "100"}).invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_command_shows_table_sentences_and_where_things_are(
    pipeline_folder: Path, few_index: Path, training: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    words = ["audit", str(pipeline_folder), "--index", str(few_index), "--works", str(training), "--out", out]
    words += ["--seeds", "3", "--steps", "2", "--strengths", "1", "--limit", "1", "--device", "cpu"]
    code, said, noted = run(*words)
    assert code == 0
    assert "trained on" in said
    assert "Not enough controls" in said
    assert "audit.html" in noted
    code, said, noted = run(*words, "--json")
    assert code == 0
    assert json.loads(said)["format_version"] == 1
    assert not noted
    code, said, _ = run("report", str(tmp_path / "out" / "findings.jsonl"), "--index", str(few_index))
    assert code == 0
    assert "6 generated pictures" in said


def test_command_exits_with_1_where_something_is_memorised(
    done: AuditReport, pipeline_folder: Path, few_index: Path, training: Path
) -> None:
    # A generation that replicates its work, put into the log of a copy of the audit
    folder = Path(shutil.copytree(done.folder, done.folder.parent / "memorised"))
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    names = {work.name for work in done.members}
    for number, line in enumerate(lines):
        item = json.loads(line)
        if "/txt2img/" in item.get("item", "") and item["work"] in names:
            lines[number] = json.dumps(item | {"own": 4, "any": 4})
            break
    (folder / LOG).write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["audit", str(pipeline_folder), "--index", str(few_index), "--works", str(training)]
    words += ["--out", str(folder), "--seeds", "3", "--steps", "2", "--strengths", "0.5,1.0"]
    code, said, _ = run(*words, "--batch-size", "2", "--device", "cpu")
    assert code == 1
    assert "has memorised 1 of the 4 works looked at; 1 of them came out of a caption alone" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere/at/all", "--works", "list.csv"], "no such"),
        (["{pipeline}"], "--index"),
        (["{pipeline}", "--index", "missing.index"], "missing.index"),
        (["{pipeline}", "--works", "list.csv", "--only", "video"], "Parts:"),
        (["{pipeline}", "--works", "list.csv", "--strengths", "2"], "--strengths"),
        (["{pipeline}", "--works", "list.csv", "--seeds", "0"], "--seeds"),
        (["{pipeline}", "--works", "list.csv", "--device", "cuda:9"], "no device"),
        (["{pipeline}", "--works", "list.csv", "--out", "list.csv"], "is a file"),
        (["{pipeline}", "--works", "list.csv", "--lora", "missing.safetensors"], "--lora"),
    ],
)
def test_wrong_input_is_one_line_with_the_next_step(
    words: list[str], said: str, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "list.csv", [{"caption": "a"}])
    code, _, error = run("audit", *(word.format(pipeline=pipeline_folder) for word in words))
    assert code == 2
    assert said in error
    assert "Traceback" not in error
    assert "unexpected" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]


def test_both_ways_of_importing_the_function_work(tmp_path: Path) -> None:
    import detector

    with pytest.raises(DetectorError):
        detector.audit(tmp_path, None, works=tmp_path / "missing.csv", out=tmp_path / "out")


# What the shipped model does (slow: real sampling)


@needs_tiny
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shipped_model_gives_back_what_was_repeated_and_nothing_held_out(
    sample_index: Path, tmp_path: Path
) -> None:
    options = AuditOptions(only=(Part.TXT2IMG, Part.CARLINI), seeds=4, batch_size=8, device="cpu")
    report = audit(TINY, sample_index, out=tmp_path / "out", works=TINY / "training.csv", options=options)
    assert report.figures.extraction is not None
    rows = {row.label: row for row in report.figures.extraction.rows}
    assert rows["×64"].works.share >= 0.8
    assert rows["controls"].works.hits == 0
    shares = [rows[label].generations.share for label in ("×1", "×4", "×16", "×64")]
    assert shares[0] < shares[-1]
    assert report.figures.extraction.trend is not None
    assert report.figures.extraction.trend.rho > 0
    assert report.figures.extraction.trend.p_value < 0.05
    assert report.verdict is AuditVerdict.MEMORISED


@needs_tiny
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trained", [True, False])
def test_reconstructions_tell_memorised_works_of_the_shipped_model_and_none_of_an_untrained_one(
    trained: bool, sample_index: Path, tmp_path: Path
) -> None:
    import torch
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(TINY)
    if not trained:
        torch.manual_seed(1)
        pipe.unet = type(pipe.unet).from_config(pipe.unet.config)
    rows = [row for row in read_csv(TINY / "training.csv") if row["repeats"] in ("64", "0")]
    works = write_csv(tmp_path / "list.csv", rows)
    options = AuditOptions(
        only=(Part.IMG2IMG,), strengths=(0.2, 0.6, 0.8), steps=20, batch_size=8, device="cpu"
    )
    report = audit(pipe, sample_index, out=tmp_path / "out", works=works, options=options)
    found = [row.by_copies["×64"].value for row in report.figures.ladder if row.by_copies]
    if trained:
        assert max(found) >= 0.9
        assert report.verdict is AuditVerdict.MEMORISED
    else:
        assert all(abs(value - 0.5) < 0.25 for value in found)
        assert report.verdict is not AuditVerdict.MEMORISED
