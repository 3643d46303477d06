"""Neural descriptors: open_clip image towers and TorchScript towers, one unit float32 row a picture.

Imports open_clip and torch on first use, and not at all for a tower that OpenCV runs (`index.opencv_tower`). Rows do
not depend on the order or the size of batches beyond 1e-5 on a CPU. On CUDA open_clip towers run in float16, whose
rows agree with a CPU's to about 1e-3: device, library and precision are not part of a descriptor's spec.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.descriptors import Descriptor, DescriptorSpec, Kind
from index.errors import DescriptorError, WeightsError
from index.hub import cached_first, quiet_open_clip, refuse_endless
from index.images import WORKING_SIDE, Picture
from index.opencv_tower import CONFIG, WEIGHTS, open_tower
from index.torch_tower import TorchTower, choose_device, fastest, weights_digest

if TYPE_CHECKING:
    import torch

MAX_ASPECT = 16
"""Where a model crops to the middle square anyway, a picture longer than this is cut to it first: enlarging
a strip of 512 by 1 to a short side of 378 pixels takes 300 MB."""

KEPT_PICTURES = 64
"""Model inputs of at most so many pictures are kept for `describe_mirrored`: 38 MB at 224 by 224."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""As github.com/facebookresearch/sscd-copy-detection, and most others, normalise their input."""

BUNDLED = Path(__file__).parent / "weights" / "bundled"
"""``clip:bundled``, a small tower trained for copy detection; its README.md says on what."""

BACKGROUND = "background.npy"
"""Beside a tower's weights: rows of pictures that belong to no index, for `index.background`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model."""

    prepare: Callable[[Picture], NDArray[np.uint8]]  # → (H, W, 3), resized and cropped as the model wants it
    run: Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]  # (N, H, W, 3) of `prepare` → (N, width)
    on_cpu: bool
    spec: DescriptorSpec
    small: bool = False  # whether every process may have one of its own: quickly loaded, into little memory


class NeuralDescriptor(ABC):
    """Batches, unit rows, mirrored rows; the two classes below load the tower."""

    batched = True

    @property
    def in_workers(self) -> bool:
        """Whether many threads with a batch each beat one with large batches: on a CPU they do."""
        return self._tower().on_cpu

    @property
    def small(self) -> bool:
        """Whether every worker process may load it for itself."""
        return self._tower().small

    def __init__(self, name: str, device: str | None, batch_size: int) -> None:
        if batch_size < 1:
            raise DescriptorError(name, f"batch_size is {batch_size}; it must be at least 1")
        self._name = name
        self._device = device
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._kept: tuple[tuple[Picture, ...], list[NDArray[np.uint8]]] | None = None

    @abstractmethod
    def _load(self) -> Loaded:
        """Load the model; called under the lock, until it succeeds once."""

    def _chosen_device(self) -> torch.device:
        return choose_device(self._name, self._device)

    @property
    def spec(self) -> DescriptorSpec:
        """What makes its rows comparable; loads the model.

        Raises:
            DescriptorError: There is no such model, tag or device.
            WeightsError: Its weights are missing, damaged, or do not fit the model.
        """
        return self._tower().spec

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Describe pictures, each independently of the others in the call.

        Args:
            pictures: Any number; they go through the model `batch_size` at a time.

        Returns:
            One array a picture: float32, (1, width), of unit length. A picture to which the model gives all
            zeros (a flat one, to a network without biases) gets the first unit vector.
        """
        inputs = [self.prepare(picture) for picture in pictures]
        self._kept = (tuple(pictures), inputs) if len(pictures) <= KEPT_PICTURES else None
        return self.describe_prepared(inputs)

    def prepare(self, picture: Picture) -> NDArray[np.uint8]:
        """Return a picture as the model takes it: uint8, (H, W, 3). Safe from many threads."""
        return self._tower().prepare(picture)

    def describe_prepared(self, inputs: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Describe what `prepare` returned; like `describe` otherwise."""
        return self._described(inputs, mirrored=False)

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """The same for the pictures mirrored left to right, by flipping the model's input.

        The inputs of the last `describe` are used again when the pictures are the same objects. A row equals
        that of the flipped picture, except where the model's centre crop removes an odd number of columns:
        the crop then lies one column to the side.
        """
        kept, self._kept = self._kept, None
        known, inputs = kept or ((), [])
        same = len(known) == len(pictures) and all(a is b for a, b in zip(known, pictures, strict=True))
        return self._described(inputs if same else [self.prepare(p) for p in pictures], mirrored=True)

    def _tower(self) -> Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _spec(self, width: int, preprocessing: dict[str, Any], digest: str) -> DescriptorSpec:
        common = {"working_side": WORKING_SIDE, "smaller_pictures": "enlarged"}
        plain = json.loads(json.dumps(preprocessing | common))  # tuples → lists, as the manifest has them
        return DescriptorSpec(self._name, 1, Kind.UNIT, width, plain, digest)

    def _described(self, inputs: Sequence[NDArray[np.uint8]], *, mirrored: bool) -> list[NDArray[Any]]:
        tower, size = self._tower(), self._batch_size
        batches = [np.stack(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        return [row for batch in batches for row in self._rows(tower, batch, mirrored=mirrored)]

    def _rows(self, tower: Loaded, inputs: NDArray[np.uint8], *, mirrored: bool) -> list[NDArray[Any]]:
        seen = np.ascontiguousarray(inputs[:, :, ::-1]) if mirrored else inputs
        values = tower.run(seen).astype(np.float64)
        if values.shape != (len(inputs), tower.spec.width) or not np.isfinite(values).all():
            raise weights_error(self._name, f"damaged weights: its {values.shape} output is no set of rows")
        values[~values.any(axis=1), 0] = 1.0
        unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        return [unit[row : row + 1] for row in range(len(unit))]


class ClipDescriptor(NeuralDescriptor):
    """The image tower of any open_clip model, with the model's own preprocessing.

    Checkpoints are read as safetensors or with torch's ``weights_only``: nothing in them is executed. A tag
    trained with QuickGELU gets it, whatever the model's name says, where plain open_clip warns. The weights
    digest is that of the tower's tensors (`weights_digest`), whatever file they came in; the model's
    configuration has its own digest, ``architecture``, in the spec's preprocessing.

    The bundled tower, and any trained on from it, runs in OpenCV unless another device than the CPU is asked for:
    the same rows to 1e-6, in a fraction of the time until the first.

    Args:
        name: ``MODEL/TAG`` (weights from the Hugging Face cache, downloaded where they are not in it),
            ``hf-hub:ORG/NAME``, ``local-dir:FOLDER`` (``open_clip_config.json`` and weights),
            ``MODEL/FILE`` (a checkpoint; absolute: ``MODEL//path/to/file.safetensors``), or ``bundled``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None chooses the best there is, and the CPU for the bundled
            tower: decoding pictures takes longer.
        batch_size: Pictures that go through the model at once.
    """

    def __init__(self, name: str, *, device: str | None = None, batch_size: int = 32) -> None:
        super().__init__(f"clip:{name}", device, batch_size)
        self._source = f"local-dir:{BUNDLED}" if name == "bundled" else name
        if not re.fullmatch(r"bundled|(hf-hub|local-dir):.+|(?!hf-hub:|local-dir:)[^/]+/.+", name):
            forms = "clip:MODEL/TAG, clip:MODEL/FILE, clip:hf-hub:ORG/NAME or clip:local-dir:FOLDER"
            raise DescriptorError(self._name, f"names no weights. Write {forms}")

    def _load(self) -> Loaded:
        if self._source.startswith("local-dir:") and self._device in (None, "cpu"):
            tower = open_tower(Path(self._source.removeprefix("local-dir:")).expanduser(), BUNDLED)
            if tower is not None:
                spec = self._spec(tower.width, tower.preprocessing, tower.digest)
                return Loaded(tower.prepare, tower.run, True, spec, small=True)
        return self._load_in_torch(self._chosen_device())

    def _load_in_torch(self, device: torch.device) -> Loaded:
        import open_clip
        from open_clip.transform import MaybeToTensor, Normalize

        source, pretrained, remedy = self._resolve(open_clip)
        tag = open_clip.get_pretrained_cfg(source, pretrained) if pretrained else {}
        quick_gelu = bool(tag.get("quick_gelu"))

        def build() -> Any:
            config = open_clip.get_model_config(source)
            refuse_endless(config)
            model, transform = open_clip.create_model_from_pretrained(
                source, pretrained, force_quick_gelu=quick_gelu, weights_only=True
            )
            return model, transform, config

        try:
            with quiet_open_clip():
                on_hub = bool(tag) or source.startswith("hf-hub:")
                model, transform, config = cached_first(build) if on_hub else build()
        except Exception as error:  # open_clip, torch, safetensors and the hub's client share no base class
            raise weights_error(self._name, "its weights could not be loaded", error, remedy) from error

        model.eval().requires_grad_(False)
        for child in [child for child, _ in model.named_children() if child != "visual"]:
            setattr(model, child, None)  # frees the text tower; encode_image asks for the image tower alone
        digest = weights_digest(model.visual.state_dict())
        crops = model.visual.preprocess_cfg["resize_mode"] == "shortest"
        cut = _without_far_ends
        architecture = config["embed_dim"], config["vision_cfg"], bool(config.get("quick_gelu")) or quick_gelu
        canonical = json.dumps(architecture, sort_keys=True).encode()
        preprocessing = dict(model.visual.preprocess_cfg) | {
            "max_aspect": MAX_ASPECT if crops else None,
            "architecture": hashlib.sha256(canonical).hexdigest()[:16],
        }
        # All but the last steps of open_clip's transform, which make and normalise a tensor: that is done in
        # batches, where the model runs, to the same values.
        shape = [step for step in transform.transforms if not isinstance(step, (MaybeToTensor, Normalize))]

        def prepare(picture: Picture) -> NDArray[np.uint8]:
            image = picture.to_pil() if not crops else Image.fromarray(cut(picture.pixels))
            for step in shape:
                image = step(image)
            return np.asarray(image)

        encode = fastest(model.to(device), device).encode_image
        mean, std = preprocessing["mean"], preprocessing["std"]
        tower = TorchTower(encode, mean, std, device, half=device.type == "cuda")
        spec = self._spec(int(config["embed_dim"]), preprocessing, digest)
        return Loaded(prepare, tower.run, device.type == "cpu", spec)

    def _resolve(self, open_clip: Any) -> tuple[str, str | None, str]:
        """Return what open_clip calls the model, its tag or checkpoint, and what to do where it fails."""
        source = self._source
        if source.startswith("local-dir:"):
            folder = Path(source.removeprefix("local-dir:")).expanduser()
            needs = f"It must hold {CONFIG} and {WEIGHTS}."
            if folder == BUNDLED and not folder.exists():
                raise weights_error(
                    self._name, f"its folder {folder} is gone", None, "Install the package anew."
                )
            if not (folder / CONFIG).is_file():
                raise weights_error(self._name, f"no {CONFIG} in {folder}", None, needs)
            return f"local-dir:{folder}", None, needs
        if source.startswith("hf-hub:"):
            return source, None, _download_once(repr(source))
        model, _, pretrained = source.partition("/")
        if model not in (models := open_clip.list_models()):
            near = _nearest(model, models)
            raise DescriptorError(self._name, f"open_clip has no model {model}. Nearest: {near}")
        if open_clip.get_pretrained_cfg(model, pretrained):
            return model, pretrained, _download_once(f"{model!r}, {pretrained!r}")
        file = Path(pretrained).expanduser()
        needs = f"Name a .safetensors or .pt checkpoint of {model}."
        if file.is_file():
            return model, str(file), needs
        if file.suffix or len(file.parts) > 1:  # no tag has a dot or a slash
            raise weights_error(self._name, f"there is no checkpoint file {file}", None, needs)
        near = _nearest(pretrained, open_clip.list_pretrained_tags_by_model(model))
        raise DescriptorError(self._name, f"{model} has no weights {pretrained}. Nearest: {near}")


def runs_anywhere(descriptor: Descriptor) -> bool:
    """Say whether every worker process may have a descriptor of its own, at little cost."""
    return not descriptor.batched or (isinstance(descriptor, NeuralDescriptor) and descriptor.small)


def weights_error(name: str, text: str, cause: object = None, remedy: str = "") -> WeightsError:
    """Return the error of a descriptor: what is wrong, why, what to do, and what works without it."""
    detail = " ".join(str(cause or "").split())
    why = f" ({detail if len(detail) <= 200 else detail[:199] + '…'})" if detail else ""
    parts = (f"{text}{why}.", remedy, "Works without: --descriptors pdq,phash,keypoints")
    return WeightsError(name, " ".join(part for part in parts if part))


def _download_once(arguments: str) -> str:
    command = f'python -c "import open_clip; open_clip.create_model_from_pretrained({arguments})"'
    local = "or name a local copy: clip:MODEL//path/to/file.safetensors, clip:local-dir:FOLDER."
    return f"Get them once, where there is a network: {command} (the Hugging Face cache keeps them), {local}"


def _nearest(word: str, known: list[str]) -> str:
    return ", ".join(difflib.get_close_matches(word, known, 5, 0.4) or known[:5]) or "none"


def _without_far_ends(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut a strip longer than `MAX_ASPECT` to its middle: uint8, (H, W, 3)."""
    height, width = pixels.shape[:2]
    down, right = max(0, (height - MAX_ASPECT * width) // 2), max(0, (width - MAX_ASPECT * height) // 2)
    return np.ascontiguousarray(pixels[down : height - down, right : width - right])
