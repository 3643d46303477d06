"""`index.opencv_tower`: the bundled tower's rows without torch, and open_clip wherever that is not possible."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from index.errors import DetectorError
from index.images import Picture, read_image
from index.neural import BUNDLED, ClipDescriptor
from index.opencv_tower import CONFIG, FACTS, GRAPH, WEIGHTS, OpenCVTower, digest_of, open_tower

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pictures(artworks: Path) -> list[Picture]:
    return [read_image(path) for path in sorted(artworks.glob("*.jpg"))[:10]]


@pytest.fixture(scope="module")
def tower() -> OpenCVTower:
    found = open_tower(BUNDLED, BUNDLED)
    assert found is not None
    return found


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The bundled model in a folder of its own, as somebody has it who trained it on."""
    for name in (CONFIG, WEIGHTS):
        shutil.copy(BUNDLED / name, tmp_path)
    return tmp_path


def in_torch(source: str, monkeypatch: pytest.MonkeyPatch) -> ClipDescriptor:
    """The same tower through open_clip."""
    with monkeypatch.context() as patch:
        patch.setattr("index.neural.open_tower", lambda *_: None)
        descriptor = ClipDescriptor(source, device="cpu")
        _ = descriptor.spec
    return descriptor


def rows(descriptor: ClipDescriptor, pictures: list[Picture]) -> NDArray[Any]:
    return np.concatenate([*descriptor.describe(pictures), *descriptor.describe_mirrored(pictures)])


def test_spec_inputs_and_rows_are_those_of_open_clip(
    pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ClipDescriptor("bundled"), in_torch("bundled", monkeypatch)
    assert ours.small
    assert not theirs.small
    assert ours.spec == theirs.spec
    for picture in pictures:
        assert np.array_equal(ours.prepare(picture), theirs.prepare(picture))
    np.testing.assert_allclose(rows(ours, pictures), rows(theirs, pictures), atol=1e-6)


def test_weights_that_were_trained_on_run_too(
    copied: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(copied / WEIGHTS)
    name = "visual.trunk.classifier.weight"
    tensors[name] = (tensors[name] * np.linspace(0.5, 1.5, 256)[:, None]).astype(np.float32)
    save_file(tensors, copied / WEIGHTS)
    ours = ClipDescriptor(f"local-dir:{copied}")
    theirs = in_torch(f"local-dir:{copied}", monkeypatch)
    assert ours.small
    assert ours.spec == theirs.spec
    assert ours.spec.weights_digest != ClipDescriptor("bundled").spec.weights_digest
    np.testing.assert_allclose(rows(ours, pictures), rows(theirs, pictures), atol=1e-6)


def test_a_check_loads_neither_torch_nor_open_clip(sample_index: Path, edited: Path) -> None:
    code = (
        "import sys; from detector import Detector;"
        f"Detector.open({str(sample_index)!r}).check({str(sorted(edited.glob('*.png'))[0])!r});"
        "sys.exit(bool({'torch', 'torchvision', 'open_clip', 'timm', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_row_depends_neither_on_its_batch_nor_on_threads(
    tower: OpenCVTower, pictures: list[Picture]
) -> None:
    inputs = np.stack([tower.prepare(picture) for picture in pictures])
    whole = tower.run(inputs)
    assert whole.shape == (10, tower.width)
    assert whole.dtype == np.float32
    assert np.array_equal(whole, np.concatenate([tower.run(inputs[n : n + 3]) for n in range(0, 10, 3)]))
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(tower.run, [inputs] * 8))
    assert all(np.array_equal(whole, each) for each in several)


def test_a_folder_that_is_not_the_graphs_is_left_to_open_clip(copied: Path) -> None:
    config = json.loads((copied / CONFIG).read_text())
    for change in ({"embed_dim": 128}, {"quick_gelu": True}):
        (copied / CONFIG).write_text(json.dumps(config | {"model_cfg": config["model_cfg"] | change}))
        assert open_tower(copied, BUNDLED) is None
    (copied / CONFIG).write_text(json.dumps(config, indent=7))
    assert open_tower(copied, BUNDLED) is not None


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "garbled", "tensor", "shape", "extra"])
def test_damaged_weights_are_left_to_open_clip_which_says_so(damage: str, copied: Path) -> None:
    file, data = copied / WEIGHTS, (copied / WEIGHTS).read_bytes()
    tensors = load_file(file)
    name = "visual.trunk.classifier.bias"
    match damage:
        case "cut":
            file.write_bytes(data[:-100])
        case "empty":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
        case "garbled":
            file.write_bytes(b"\xff" * 16 + data[16:])
        case "tensor":
            save_file({key: value for key, value in tensors.items() if key != name}, file)
        case "shape":
            save_file(tensors | {name: tensors[name][:-1].copy()}, file)
        case "extra":
            save_file(tensors | {"visual.more": tensors[name]}, file)
    assert open_tower(copied, BUNDLED) is None
    with pytest.raises(DetectorError, match="could not be loaded"):
        _ = ClipDescriptor(f"local-dir:{copied}").spec


@pytest.mark.parametrize("damage", ["cut", "missing", "facts"])
def test_without_its_graph_the_tower_runs_in_torch(
    damage: str, copied: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / FACTS).write_text((BUNDLED / FACTS).read_text() if damage != "facts" else "{}")
    if damage != "missing":
        graph = (BUNDLED / GRAPH).read_bytes()
        (copied / GRAPH).write_bytes(graph[: len(graph) // 2] if damage == "cut" else graph)
    assert open_tower(copied, copied) is None
    expected = rows(ClipDescriptor("bundled"), pictures)
    monkeypatch.setattr("index.neural.BUNDLED", copied)
    descriptor = ClipDescriptor("bundled")
    np.testing.assert_allclose(rows(descriptor, pictures), expected, atol=1e-6)
    assert not descriptor.small


def test_the_digest_is_that_of_names_shapes_and_values_in_order() -> None:
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.int64(3)
    digest = digest_of([("a", one), ("b", np.asarray(two))])
    assert digest == digest_of([("a", one.astype(np.float16)), ("b", np.asarray(3, np.int32))])
    assert digest != digest_of([("b", np.asarray(two)), ("a", one)])
    assert digest != digest_of([("a", one.reshape(3, 2)), ("b", np.asarray(two))])


def test_the_graph_is_what_the_package_writes(copied: Path) -> None:
    pytest.importorskip("onnx")
    from detector.training.graph import write_graph

    write_graph(copied)
    assert json.loads((copied / FACTS).read_text()) == json.loads((BUNDLED / FACTS).read_text())
    written = open_tower(copied, copied)
    shipped = open_tower(BUNDLED, BUNDLED)
    assert written is not None
    assert shipped is not None
    inputs = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    assert np.array_equal(written.run(inputs), shipped.run(inputs))
