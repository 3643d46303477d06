"""The sample diffusion pipeline: what is shipped, what it was trained on, and that the samples are its output."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
PIPELINE = SAMPLES / "tiny-diffusion"
GENERATED = SAMPLES / "generated"
MAX_BYTES = 25_000_000


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(PIPELINE)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_it_is_small_and_holds_no_pickle() -> None:
    files = [path for path in PIPELINE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_training_list_names_every_artwork_and_holds_out_a_third() -> None:
    rows = _rows(PIPELINE / "training.csv")
    captions = {row["file_name"]: row["caption"] for row in _rows(SAMPLES / "artworks" / "metadata.csv")}
    assert {row["file_name"]: row["caption"] for row in rows} == captions
    repeats = [int(row["repeats"]) for row in rows]
    assert {number: repeats.count(number) for number in set(repeats)} == {64: 10, 16: 10, 4: 10, 1: 10, 0: 20}


def test_generated_pictures_and_their_lists_agree() -> None:
    how, truth = _rows(GENERATED / "metadata.csv"), _rows(GENERATED / "truth.csv")
    names = {path.name for path in GENERATED.iterdir() if path.suffix != ".csv"}
    assert {row["file_name"] for row in how} == {row["file_name"] for row in truth} == names
    repeats = {row["file_name"]: row["repeats"] for row in _rows(PIPELINE / "training.csv")}
    assert all(repeats[row["work"]] == row["repeats"] for row in truth)
    assert sum(bool(row["strength"]) for row in how) >= 5


@pytest.mark.parametrize("kind", ["from a prompt", "from a picture"])
def test_samples_are_the_true_output_of_the_pipeline(pipeline: Any, kind: str) -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    rows = _rows(GENERATED / "metadata.csv")
    row = next(row for row in rows if bool(row["strength"]) == (kind == "from a picture"))
    told: dict[str, Any] = {
        "prompt": row["prompt"],
        "generator": torch.Generator().manual_seed(int(row["seed"])),
        "num_inference_steps": int(row["steps"]),
        "guidance_scale": float(row["guidance_scale"]),
    }
    if row["strength"]:
        again = diffusers.AutoPipelineForImage2Image.from_pipe(pipeline)
        again.set_progress_bar_config(disable=True)
        with Image.open(SAMPLES / "artworks" / row["source"]) as image:
            square = ImageOps.fit(image.convert("RGB"), (128, 128), Image.Resampling.LANCZOS)
        made = again(image=square, strength=float(row["strength"]), **told).images[0]
    else:
        made = pipeline(**told).images[0]
    with Image.open(GENERATED / row["file_name"]) as image:
        stored = np.asarray(image.convert("RGB"), np.int16)
    # Other processors round differently, and thirty steps carry that on.
    assert np.abs(np.asarray(made.convert("RGB"), np.int16) - stored).mean() < 4


def test_colours_pass_through_the_autoencoder_before_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    monkeypatch.syspath_prepend(str(SAMPLES))
    networks = importlib.import_module("diffusionstudio.networks")
    torch.manual_seed(0)
    colours = torch.rand(4, 3, 1, 1) * 1.6 - 0.8
    with torch.no_grad():
        back = networks.make_autoencoder()(colours.expand(4, 3, 128, 128)).sample
    assert (back[..., 16:-16, 16:-16] - colours).abs().mean() < 0.15


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")

    def train(steps: int) -> str:
        command = [
            *(sys.executable, str(SAMPLES / "make_tiny_diffusion.py"), "--out", str(tmp_path / "made")),
            *("--autoencoder-steps", "2", "--unet-steps", str(steps), "--batch", "2"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    train(2)
    again = train(3)
    assert "autoencoder: goes on at step 2" in again
    assert "unet: goes on at step 2" in again
    facts = json.loads((tmp_path / "made" / "training.json").read_text(encoding="utf-8"))
    assert facts["unet_steps"] == 3
    assert (tmp_path / "made" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
