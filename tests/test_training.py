"""Training a tower: what a step sees, what it is taught, that it goes on where it stopped, what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

from detector import SourceError, TrainOptions, TrainReport, UsageError, WeightsError, train
from detector.cli import app
from detector.training.draws import Draws
from detector.training.edits import Editor
from detector.training.finish import _fold
from detector.training.log import read_log
from detector.training.loop import CHECKPOINT, retrieval
from detector.training.objective import UNIQUE, Memory, contrastive, entropy, labels
from detector.training.overlays import overlays
from detector.training.pictures import LEAST_PICTURES, read_pictures
from detector.training.procedural import procedural
from detector.training.tower import Tower, model_config, save_tower
from index.background import read_background
from index.descriptors import create
from index.images import read_image
from index.neural import BACKGROUND

CPU = torch.device("cpu")
QUICK = TrainOptions(steps=4, batch=8, memory=32, check_s=1e9, save_s=1e9)


def rows(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 procedural pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    for number, picture in enumerate(procedural(Draws(7, 0, CPU), 200, 160)):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def small(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 40 of them."""
    folder = tmp_path_factory.mktemp("small")
    for path in sorted(drawn.iterdir())[:40]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


# What a step sees


def test_the_same_seed_and_step_draw_the_same_views() -> None:
    pictures = procedural(Draws(1, 0, CPU), 8, 64)
    editor = Editor(overlays(1, count=10))
    both = []
    for _ in range(2):
        draws = Draws(3, 5, CPU)
        both.append(editor.edited(draws, pictures, editor.works(draws, 8), 32))
    other = Draws(3, 6, CPU)
    assert torch.equal(both[0].images, both[1].images)
    assert not torch.equal(both[0].images, editor.edited(other, pictures, editor.works(other, 8), 32).images)


def test_views_are_pictures_and_say_how_much_of_another_they_show() -> None:
    pictures = procedural(Draws(1, 0, CPU), 64, 64)
    editor, draws = Editor(overlays(1, count=10)), Draws(2, 1, CPU)
    views = editor.edited(draws, pictures, editor.works(draws, 64), 32)
    assert views.images.shape == (64, 3, 32, 32)
    assert float(views.images.min()) >= 0.0
    assert float(views.images.max()) <= 1.0
    assert bool((views.hosts != torch.arange(64)).all())
    assert bool((views.host_shares >= 0).all())
    assert bool((views.host_shares <= 1).all())
    assert 0.1 < float((views.host_shares > 0.1).float().mean()) < 0.8


def test_most_views_are_nearer_to_their_own_picture_than_to_the_next() -> None:
    pictures = procedural(Draws(1, 0, CPU), 64, 64)
    editor, draws = Editor(overlays(1, count=10)), Draws(2, 1, CPU)
    works = torch.eye(3).expand(64, 3, 3)
    small = F.interpolate(pictures, (32, 32), mode="bilinear", antialias=True)
    views = editor.edited(draws, pictures, works, 32).images
    own = (views - small).abs().mean(dim=(1, 2, 3))
    other = (views - small.roll(1, 0)).abs().mean(dim=(1, 2, 3))
    assert float((own < other).float().mean()) > 0.7


def test_procedural_pictures_differ_from_each_other() -> None:
    made = procedural(Draws(1, 0, CPU), 12, 48).flatten(1)
    assert made.shape == (12, 3 * 48 * 48)
    assert float(torch.pdist(made).min()) > 1.0


def test_near_duplicates_and_mirror_images_share_a_group(small: Path, tmp_path: Path) -> None:
    for path in sorted(small.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = next(p for p in sorted(small.iterdir()) if len(create("pdq").describe([read_image(p)])[0]))
    with Image.open(first) as image:
        image.resize((120, 120)).save(tmp_path / "smaller.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "turned.png")
    pictures = read_pictures([tmp_path])
    groups = pictures.groups[pictures.groups != UNIQUE]
    assert len(pictures) == 42
    assert groups.tolist().count(groups[0].item()) == 3


def test_unreadable_pictures_are_named_and_too_few_are_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert [reason for _, reason in read_pictures([small, tmp_path]).rejected] == ["not_an_image"]
    with pytest.raises(SourceError, match=f"training needs {LEAST_PICTURES} or more"):
        read_pictures([tmp_path])


# What it is taught


def test_a_view_that_shows_much_of_its_host_is_one_of_both() -> None:
    target = labels(3, torch.tensor([1, 2, 0]), torch.tensor([0.5, 0.1, 0.0]))
    assert torch.allclose(target, torch.tensor([[2 / 3, 1 / 3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))


def test_near_duplicates_are_no_negatives() -> None:
    views, references = rows(4, seed=1), rows(4, seed=2)
    references[1] = views[0]  # as near as can be: a negative of view 0, unless they are one group
    none = torch.zeros(4, dtype=torch.long), torch.zeros(4)
    past, past_groups = torch.zeros(0, 8), torch.zeros(0, dtype=torch.long)

    def loss(groups: list[int]) -> float:
        target = labels(4, torch.tensor([1, 2, 3, 0]), none[1])
        known = torch.tensor(groups)
        return float(contrastive(views, references, target, groups=known, past=past, past_groups=past_groups))

    assert loss([7, 7, UNIQUE, UNIQUE]) < loss([UNIQUE] * 4) - 1.0


def test_past_references_of_the_same_group_do_not_count() -> None:
    views = references = rows(3, seed=1)
    target = torch.eye(3)
    groups = torch.tensor([5, UNIQUE, UNIQUE])
    alone = contrastive(
        views, references, target, groups=groups, past=torch.zeros(0, 8), past_groups=torch.zeros(0).long()
    )
    same = contrastive(
        views, references, target, groups=groups, past=views[:1], past_groups=torch.tensor([5])
    )
    other = contrastive(
        views, references, target, groups=groups, past=views[:1], past_groups=torch.tensor([6])
    )
    assert float(other) > float(same) + 0.1
    assert float(same) == pytest.approx(float(alone), abs=0.02)


def test_the_loss_is_small_for_right_answers_and_large_for_wrong_ones() -> None:
    references = torch.eye(8)
    target, groups = torch.eye(8), torch.full((8,), UNIQUE)
    past, past_groups = torch.zeros(0, 8), torch.zeros(0, dtype=torch.long)
    right = contrastive(references, references, target, groups=groups, past=past, past_groups=past_groups)
    wrong = contrastive(
        references.roll(1, 0), references, target, groups=groups, past=past, past_groups=past_groups
    )
    assert float(right) < 0.01 < 15 < float(wrong)


def test_entropy_asks_rows_to_spread_but_not_near_duplicates() -> None:
    groups = torch.full((4,), UNIQUE)
    near = F.normalize(torch.ones(4, 8) + 0.05 * rows(4, seed=3))
    assert float(entropy(torch.eye(8)[:4], groups)) < float(entropy(near, groups))
    pair = torch.eye(8)[:4].clone()
    pair[1] = pair[0]
    together = torch.tensor([3, 3, UNIQUE, UNIQUE])
    assert float(entropy(pair, together)) < float(entropy(pair, groups))


def test_memory_overwrites_the_oldest() -> None:
    memory = Memory(torch.zeros(5, 8), torch.full((5,), UNIQUE))
    memory.add(rows(3, seed=1), torch.tensor([1, 2, 3]))
    memory.add(rows(3, seed=2), torch.tensor([4, 5, 6]))
    assert memory.groups.tolist() == [6, 2, 3, 4, 5]
    assert (memory.place, memory.filled) == (1, 5)


def test_retrieval_ranks_all_queries_together() -> None:
    references = torch.eye(4)
    queries = torch.eye(4).clone()
    queries[3] = 0.5 * torch.eye(4)[2] + 0.4 * torch.eye(4)[3]  # wrong, and less sure than the others
    recall, precision = retrieval(queries, references)
    assert (recall, precision) == (0.75, pytest.approx(0.75))


def test_whitening_is_folded_into_the_last_layer() -> None:
    tower = Tower(model_config("resnet10t", width=6, side=32)).eval()
    layer = tower.projection()
    plain = layer.weight.detach().clone(), layer.bias.detach().clone()
    inputs = torch.randn(500, layer.in_features, generator=torch.Generator().manual_seed(1))
    before = layer(inputs).detach()
    _fold(tower, plain, before, 1.0)
    after = layer(inputs).detach()
    assert torch.allclose(after.mean(dim=0), torch.zeros(6), atol=1e-4)
    spread = torch.cov(after.T)
    assert torch.allclose(spread / spread[0, 0], torch.eye(6), atol=2e-2)
    _fold(tower, plain, before, 0.0)
    assert torch.equal(layer(inputs), before)


# The course of it


def test_a_training_cut_short_goes_on_to_the_same_tower(small: Path, tmp_path: Path) -> None:
    straight = train([small], tmp_path / "straight", init=None, options=QUICK)

    class Stop(Exception):
        pass

    steps = 0

    def interrupt(what: str, how_far: float, word: str) -> None:
        nonlocal steps
        steps += what == "train"
        if steps == 3:
            raise Stop

    often = TrainOptions(steps=4, batch=8, memory=32, check_s=1e9, save_s=0)
    with pytest.raises(Stop):
        train([small], tmp_path / "again", init=None, options=often, on_progress=interrupt)
    assert (tmp_path / "again" / CHECKPOINT).exists()
    resumed = train([small], tmp_path / "again", init=None, options=QUICK)
    assert not (tmp_path / "again" / CHECKPOINT).exists()
    assert resumed.checks[-1].step == straight.checks[-1].step == 4
    one, other = (
        create(report.descriptor).describe([read_image(next(iter(sorted(small.iterdir()))))])[0]
        for report in (straight, resumed)
    )
    assert float((one @ other.T).item()) == pytest.approx(1.0, abs=1e-3)


def test_other_options_do_not_go_on_with_a_checkpoint(small: Path, tmp_path: Path) -> None:
    def stop(what: str, how_far: float, word: str) -> None:
        if what == "train" and how_far > 0.4:
            raise KeyboardInterrupt

    often = TrainOptions(steps=4, batch=8, memory=32, save_s=0)
    with pytest.raises(KeyboardInterrupt):
        train([small], tmp_path / "t", init=None, options=often, on_progress=stop)
    with pytest.raises(WeightsError, match="other options"):
        train([small], tmp_path / "t", init=None, options=TrainOptions(steps=4, batch=12, memory=32))
    (tmp_path / "t" / CHECKPOINT).write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match="damaged"):
        train([small], tmp_path / "t", init=None, options=often)


def test_a_finished_training_leaves_tower_card_report_log_and_background(small: Path, tmp_path: Path) -> None:
    report = train([small], tmp_path / "tower", init=None, options=QUICK)
    assert isinstance(report, TrainReport)
    stored = json.loads((tmp_path / "tower" / "training.json").read_text(encoding="utf-8"))
    assert stored["sha256"] == report.sha256
    assert stored["steps"] == 4
    assert stored["views"] == 4 * 3 * 8
    assert [check.step for check in read_log(tmp_path / "tower" / "log.csv")] == [0, 4]
    assert report.sha256 in (tmp_path / "tower" / "README.md").read_text(encoding="utf-8")
    background = read_background(tmp_path / "tower" / BACKGROUND)
    assert background is not None
    assert np.allclose(np.linalg.norm(background.rows, axis=1), 1.0, atol=1e-3)
    (row,) = create(report.descriptor).describe([read_image(next(iter(sorted(small.iterdir()))))])
    nearness = background.nearness(row)
    assert nearness.shape == (1,)
    assert float(nearness[0]) <= float((row @ background.rows.T).max())


def test_a_tower_is_trained_further_from_its_folder(small: Path, tmp_path: Path) -> None:
    first = train([small], tmp_path / "first", init=None, options=QUICK)
    second = train([small], tmp_path / "second", init=tmp_path / "first", options=QUICK)
    assert second.sha256 != first.sha256
    assert second.init == str(tmp_path / "first")
    with pytest.raises(WeightsError, match="no tower that can be trained further"):
        train([small], tmp_path / "third", init=tmp_path / "nowhere", options=QUICK)


def test_values_out_of_range_are_refused() -> None:
    for wrong in ({"minutes": 0.0}, {"steps": 0}, {"batch": 2}, {"procedural": 1.0}, {"rate": 0.0}):
        with pytest.raises(UsageError):
            TrainOptions(**wrong)  # type: ignore[arg-type]


def test_importing_train_loads_no_torch() -> None:
    code = "import sys; from detector import train; sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The command


def test_the_command_trains_and_says_how_to_use_it(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "tower"
    arguments = [
        "train",
        "--images",
        str(small),
        "--out",
        str(out),
        "--init",
        "none",
        "--steps",
        "2",
        "--batch",
        "8",
    ]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "own original is the nearest" in result.output
    assert f"clip:local-dir:{out}" in result.output.replace("\n", "")


def test_the_command_refuses_a_file_as_folder(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(
        app, ["train", "--images", str(small), "--out", str(tmp_path / "file"), "--steps", "1"]
    )
    assert result.exit_code == 2
    assert "is a file" in result.output


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_two_minutes_on_200_pictures_lower_the_loss_and_save_a_tower(drawn: Path, tmp_path: Path) -> None:
    options = TrainOptions(minutes=2, batch=48, memory=512, check_s=25, save_s=60)
    report = train([drawn], tmp_path / "tower", options=options)
    before, *_, last = report.checks
    assert before.step == 0 < last.step
    assert last.held_out_loss < before.held_out_loss
    (row,) = create(report.descriptor).describe([read_image(drawn / "000.png")])
    assert row.shape == (1, 256)
    assert float(np.linalg.norm(row)) == pytest.approx(1.0, abs=1e-5)
    assert abs(report.results["recall, whitened 0"] - last.recall) < 0.05


def test_a_tower_saved_twice_is_the_same_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    tower = Tower(model_config("resnet10t", width=8, side=32))
    assert save_tower(tower, tmp_path / "a") == save_tower(tower, tmp_path / "b")
