"""What several suites share: the sample pictures, an index over them, and towers saved to disk."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from index.build import build_index
from index.torchscript import TRUST_VARIABLE

tqdm.monitor_interval = (
    0  # its thread would outlive a suite, and workers are forked from a single thread only
)

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
TOWER_SIDE = 32
TINY_TOWER: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": TOWER_SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}
TOWER_PREPROCESSING: dict[str, Any] = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
    "interpolation": "bicubic",
}


@pytest.fixture(scope="session")
def artworks() -> Path:
    """The folder of sample references, with its metadata."""
    return SAMPLES / "artworks"


@pytest.fixture(scope="session")
def edited() -> Path:
    """The folder of edited sample artworks and of unrelated pictures, with its truth."""
    return SAMPLES / "edited"


@pytest.fixture(scope="session")
def sample_index(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index over the sample references with the default descriptors. Read it; copy it to write."""
    folder = tmp_path_factory.mktemp("samples") / "art.index"
    build_index(artworks, folder)
    return folder


@pytest.fixture(scope="session")
def sample_findings(sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved findings of some of the sample generated pictures: replicas, one made from a picture, no match."""
    from detector import Detector

    file = tmp_path_factory.mktemp("findings") / "findings.jsonl"
    names = ("0001", "0006", "0010", "0012", "0027", "0033")
    pictures = [SAMPLES / "generated" / f"{name}.png" for name in names]
    with Detector.open(sample_index) as detector:
        for _ in detector.scan(pictures, jsonl=file):
            pass
    return file


@pytest.fixture
def own_index(sample_index: Path, tmp_path: Path) -> Path:
    """A copy of `sample_index` that a test may write to."""
    return Path(shutil.copytree(sample_index, tmp_path / "own.index"))


def save_clip_folder(
    folder: Path, state: dict[str, Any], config: dict[str, Any] = TINY_TOWER, **preprocessing: Any
) -> Path:
    """Save an open_clip model as a ``local-dir:`` folder."""
    from safetensors.torch import save_file

    folder.mkdir()
    both = {"model_cfg": config, "preprocess_cfg": TOWER_PREPROCESSING | preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(both))
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def save_script(path: Path, *, seed: int = 3, bias: bool = True) -> Path:
    """Save a tiny TorchScript descriptor."""
    import torch

    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4, bias=bias),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool2d(3),
        torch.nn.Flatten(),
        torch.nn.Linear(72, 16, bias=bias),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch deprecates what SSCD is published as
        torch.jit.script(module.eval()).save(str(path))
    return path


@pytest.fixture(scope="session")
def tower_state() -> dict[str, Any]:
    """Weights of a tiny open_clip model."""
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(7)
    model = open_clip.model.CLIP(**TINY_TOWER)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="session")
def clip_folder(tower_state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny open_clip model on disk."""
    return save_clip_folder(tmp_path_factory.mktemp("clip") / "model", tower_state)


@pytest.fixture(scope="session", autouse=True)
def trusted_scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let TorchScript files that the tests save be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TRUST_VARIABLE, str(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture(scope="session")
def script_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TorchScript descriptor on disk."""
    pytest.importorskip("torch")
    return save_script(tmp_path_factory.mktemp("script") / "model.torchscript.pt")
