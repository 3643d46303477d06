"""The tower as a model to train, and as the open_clip folder that everything else loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from index.errors import WeightsError
from index.neural import IMAGENET_MEAN, IMAGENET_STD
from index.opencv_tower import CONFIG, WEIGHTS

TRUNK = "fasternet_t0"
"""timm's name of the network (Chen et al. 2023, arXiv:2303.03667). Of those that open_clip loads, it had the best
product of speed in training and in use on two cores; the model card has the table."""

INPUT_SIDE = 128
WIDTH = 256
PREFIX = "visual.trunk."


def model_config(trunk: str = TRUNK, *, width: int = WIDTH, side: int = INPUT_SIDE) -> dict[str, Any]:
    """Return open_clip's configuration of a tower; its text tower is a token that nobody asks."""
    return {
        "model_cfg": {
            "embed_dim": width,
            "vision_cfg": {
                "timm_model_name": trunk,
                "timm_model_pretrained": False,
                # Of mean and maximum: the maximum finds a part in a whole, as generalised means do (SSCD takes 3).
                # The network's own classifier is the projection: it has the bias that whitening needs.
                "timm_pool": "avgmax",
                "timm_proj": "",
                "image_size": side,
            },
            "text_cfg": {"context_length": 1, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1},
        },
        "preprocess_cfg": {
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }


class Tower(nn.Module):
    """A timm network from pictures (N, 3, S, S), float32, 0–1, to rows (N, width), not of unit length."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        vision = config["model_cfg"]["vision_cfg"]
        width = config["model_cfg"]["embed_dim"]
        self.trunk = timm.create_model(
            vision["timm_model_name"], num_classes=width, global_pool=vision["timm_pool"]
        )
        preprocess = config["preprocess_cfg"]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocess["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess["std"]).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one row a picture."""
        normalised = (pictures - self.mean) / self.std
        rows: Tensor = self.trunk(normalised.contiguous(memory_format=torch.channels_last))
        return rows

    @property
    def side(self) -> int:
        """Side of its input, in pixels."""
        return int(self.config["model_cfg"]["vision_cfg"]["image_size"])

    def projection(self) -> nn.Linear:
        """Return the last layer, into which whitening is folded."""
        layer = self.trunk.get_classifier()
        if not isinstance(layer, nn.Linear):
            raise TypeError(
                f"{type(self.trunk).__name__} ends in {type(layer).__name__}; a linear layer is needed"
            )
        return layer


def load_tower(folder: Path) -> Tower:
    """Load a tower from an open_clip folder that `save_tower` wrote.

    Raises:
        WeightsError: It is none, or it is damaged.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tower = Tower(config)
        stored = load_file(folder / WEIGHTS)
        weights = {
            name.removeprefix(PREFIX): value.float() if value.is_floating_point() else value
            for name, value in stored.items()
            if name.startswith(PREFIX)
        }
        tower.trunk.load_state_dict(weights)
    except Exception as error:  # OSError, JSON's, safetensors', timm's and torch's share no base class
        detail = " ".join(str(error).split())[:200]
        text = f"is no tower that can be trained further ({detail}). Name a folder that detector train wrote"
        raise WeightsError(str(folder), text) from error
    return tower


def save_tower(tower: Tower, folder: Path) -> str:
    """Write a tower as an open_clip folder, in float16.

    Returns:
        SHA-256 of the weights file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model_cfg = tower.config["model_cfg"]
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the text tower is never asked; this keeps the file the same
        whole = open_clip.CLIP(**model_cfg)
    whole.visual.trunk.load_state_dict(tower.trunk.state_dict())
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in whole.state_dict().items()
    }
    weights = folder / WEIGHTS
    save_file(tensors, weights, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(tower.config, indent=2) + "\n", encoding="utf-8")
    return hashlib.sha256(weights.read_bytes()).hexdigest()
