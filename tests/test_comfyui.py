"""The ComfyUI node in samples/comfyui, without ComfyUI."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.report import ImageReport, Verdict
from index.errors import IndexMissingError, UsageError

torch = pytest.importorskip("torch")

FOLDER = Path(__file__).resolve().parents[1] / "samples" / "comfyui"


@pytest.fixture(scope="module")
def nodes() -> Iterator[ModuleType]:
    """The folder, imported as ComfyUI imports a custom node: as a package, by its path."""
    name = "custom_nodes_replication_check"
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    inner = sys.modules[f"{name}.replication_check"]
    if inner._opened is not None:
        inner._opened[1].close()


@pytest.fixture(scope="module")
def node(nodes: ModuleType) -> Any:
    return nodes.NODE_CLASS_MAPPINGS["ReplicationCheck"]()


@pytest.fixture(scope="module")
def batch(artworks: Path) -> Any:
    """Two pictures of one size, as ComfyUI has them: an artwork, noise."""
    with Image.open(artworks / "city-1.jpg") as image:
        work = np.asarray(image.convert("RGB").resize((384, 384)), dtype=np.float32) / 255.0
    noise = np.random.default_rng(5).random((384, 384, 3), dtype=np.float32)
    return torch.from_numpy(np.stack([work, noise]))


def test_the_node_is_declared_as_comfyui_wants_it(nodes: ModuleType) -> None:
    kind = nodes.NODE_CLASS_MAPPINGS["ReplicationCheck"]
    assert kind.RETURN_TYPES == ("IMAGE", "BOOLEAN", "STRING")
    assert len(kind.RETURN_NAMES) == len(kind.OUTPUT_TOOLTIPS) == 3
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS.keys() == nodes.NODE_CLASS_MAPPINGS.keys()
    inputs = kind.INPUT_TYPES()["required"]
    assert [inputs[name][0] for name in ("images", "index", "min_level")] == ["IMAGE", "STRING", "INT"]
    assert inputs["on_match"][0] == ["pass", "blank"]
    wanted = set(getattr(kind, kind.FUNCTION).__code__.co_varnames[1:5])
    assert wanted == set(inputs)


def test_a_copy_is_named_and_passes_untouched(node: Any, batch: Any, sample_index: Path) -> None:
    images, replicates, said = node.check(batch, str(sample_index), 3, "pass")
    assert images is batch
    assert replicates is True
    lines, _, findings = said.partition("\n\n")
    first, second = lines.split("\n")
    assert first.startswith("image 1: level ")
    assert "copy, score" in first
    assert second == "image 2: no match in this index"
    reports = [ImageReport.from_dict(json.loads(line)) for line in findings.splitlines()]
    assert [report.verdict for report in reports] == [Verdict.REPLICA, Verdict.NO_MATCH]
    assert reports[0].matches[0].reference.occurrences[0].path.endswith("city-1.jpg")


def test_a_copy_is_blanked_where_asked_and_the_input_stays(node: Any, batch: Any, sample_index: Path) -> None:
    before = batch.clone()
    images, replicates, _ = node.check(batch, str(sample_index), 3, "blank")
    assert replicates is True
    assert images.shape == batch.shape
    assert not images[0].any()
    assert torch.equal(images[1], batch[1])
    assert torch.equal(batch, before)


def test_below_the_level_nothing_is_flagged_nor_blanked(node: Any, batch: Any, sample_index: Path) -> None:
    weakest = batch[1:]
    images, replicates, _ = node.check(weakest, str(sample_index), 3, "blank")
    assert replicates is False
    assert torch.equal(images, weakest)


def test_a_batch_with_alpha_and_half_precision_is_checked(node: Any, batch: Any, sample_index: Path) -> None:
    alpha = torch.cat([batch, torch.ones_like(batch[..., :1])], dim=-1).half()
    _, replicates, said = node.check(alpha[:1], str(sample_index), 3, "pass")
    assert replicates is True
    assert "city" in said


def test_a_picture_of_nan_is_named_and_not_flagged(node: Any, batch: Any, sample_index: Path) -> None:
    _, replicates, said = node.check(torch.full_like(batch[:1], float("nan")), str(sample_index), 3, "blank")
    assert replicates is False
    assert said.startswith("image 1: could not be checked (unsupported_array)")


def test_the_index_is_opened_once_and_closed_when_another_is_named(
    node: Any, nodes: ModuleType, batch: Any, sample_index: Path, tmp_path: Path
) -> None:
    inner = sys.modules[f"{nodes.__name__}.replication_check"]
    node.check(batch[1:], str(sample_index), 3, "pass")
    first = inner._opened[1]
    node.check(batch[1:], f" {sample_index} ", 3, "pass")
    assert inner._opened[1] is first
    other = Path(shutil.copytree(sample_index, tmp_path / "other.index"))
    closed: list[bool] = []
    first.close, close = lambda: (closed.append(True), close())[1], first.close
    node.check(batch[1:], str(other), 3, "pass")
    assert inner._opened[1] is not first
    assert closed == [True]


def test_a_missing_index_says_how_to_make_one(node: Any, batch: Any, tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError, match="detector index build"):
        node.check(batch[:1], str(tmp_path / "gone.index"), 3, "pass")
    with pytest.raises(UsageError, match="detector index build"):
        node.check(batch[:1], "  ", 3, "pass")


def test_without_the_detector_the_node_says_how_to_install_it(
    node: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detector", None)
    with pytest.raises(RuntimeError, match="pip install"):
        node.check(batch[:1], "any.index", 3, "pass")
