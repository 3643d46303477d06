"""Towers of the bundled architecture run by OpenCV: the rows that open_clip gives, without loading it or torch.

Loading torch, torchvision and open_clip takes most of a command's time where few pictures are checked; OpenCV is
loaded in any case. The network without its weights lies in a file of its own (`GRAPH`, made by
`detector.training.graph`); the tensors of a weights file are appended to it in memory, so that weights that were
trained on from the bundled ones run in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.images import Picture

GRAPH = "graph.onnx"
"""ONNX, opset 17, without initialisers: `pixels`, float32 (N, 3, S, S), to `row`, float32 (N, width)."""

FACTS = "graph.json"
"""Beside it: the ``config`` of open_clip that it stands for, the ``preprocessing`` of its descriptor's spec, and the
shapes of its ``tensors`` by name, as in open_clip's weights files."""

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""What open_clip saves a model as."""

_TOWER = "visual."
"""What the names of an image tower's tensors begin with in a weights file."""

# Of ONNX's Protocol Buffers (github.com/onnx/onnx/blob/main/onnx/onnx.proto): numbers of fields, and of a type.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_DATA, _FLOAT = 1, 2, 8, 9, 1


@dataclass(frozen=True, slots=True)
class OpenCVTower:
    """A loaded tower; safe from many threads, each of which runs a network of its own.

    Attributes:
        preprocessing: As in its descriptor's spec.
        width: Of a row.
        digest: Of its weights (`digest_of`).
    """

    preprocessing: dict[str, Any]
    width: int
    digest: str
    _model: NDArray[np.uint8]
    _idle: list[Any] = field(default_factory=list)

    def prepare(self, picture: Picture) -> NDArray[np.uint8]:
        """Return a picture as the network takes it, squeezed to its square: uint8, (S, S, 3)."""
        height, width = self.preprocessing["size"]
        resampling = Image.Resampling[self.preprocessing["interpolation"].upper()]
        return np.asarray(picture.to_pil().resize((width, height), resampling))

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's output for uint8 (N, S, S, 3): float32, (N, width), not normalised.

        A row does not depend on the others of its batch, nor on the number of threads.
        """
        mean, std = (np.asarray(self.preprocessing[name], np.float32) for name in ("mean", "std"))
        pixels = (inputs.astype(np.float32) / 255 - mean) / std
        try:
            network = self._idle.pop()
        except IndexError:
            network = _network(self._model)
        network.setInput(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        rows: NDArray[np.float32] = network.forward().copy()
        self._idle.append(network)
        return rows


def open_tower(folder: Path, known: Path) -> OpenCVTower | None:
    """Load the tower of an open_clip model's folder.

    Args:
        folder: With open_clip's configuration and weights.
        known: The folder of `GRAPH` and `FACTS`.

    Returns:
        None where this is another model than the graph's, where something is missing or damaged, or where this OpenCV
        cannot run it: open_clip then says what is wrong, or runs it.
    """
    import cv2
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        facts = json.loads((known / FACTS).read_text(encoding="utf-8"))
        if json.loads((folder / CONFIG).read_text(encoding="utf-8")) != facts["config"]:
            return None
        tensors = {
            name.removeprefix(_TOWER): tensor
            for name, tensor in load_file(folder / WEIGHTS).items()
            if name.startswith(_TOWER)
        }
        if {name: list(tensor.shape) for name, tensor in tensors.items()} != facts["tensors"]:
            return None
        model = np.frombuffer((known / GRAPH).read_bytes() + _appendix(tensors), np.uint8)
        digest = digest_of((name, tensors[name]) for name in sorted(tensors))
        width = int(facts["config"]["model_cfg"]["embed_dim"])
        return OpenCVTower(facts["preprocessing"], width, digest, model, [_network(model)])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, cv2.error):
        return None


def digest_of(tensors: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """SHA-256 over named tensors: names, shapes and values, in the order given.

    Floats count as little-endian float32, everything else as int64.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        stored = "<f4" if tensor.dtype.kind == "f" else "<i8"
        digest.update(json.dumps([name, list(tensor.shape), stored]).encode())
        digest.update(np.ascontiguousarray(tensor, stored).tobytes())
    return digest.hexdigest()


def _network(model: NDArray[np.uint8]) -> Any:
    import cv2

    return cv2.dnn.readNetFromONNX(model)


def _appendix(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the floating-point tensors as the initialisers of a graph, to be appended to a model without any.

    A message of Protocol Buffers that follows another of the same type is merged with it: repeated fields, as
    initialisers are, are joined (protobuf.dev/programming-guides/encoding/#last-one-wins).
    """
    initialisers = b"".join(
        _field(_GRAPH_INITIALIZER, _tensor(name, tensor))
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f"
    )
    return _field(_MODEL_GRAPH, initialisers)


def _tensor(name: str, tensor: NDArray[Any]) -> bytes:
    dims = b"".join(_number(_TENSOR_DIMS, side) for side in tensor.shape)
    values = np.ascontiguousarray(tensor, "<f4").tobytes()
    named = _field(_TENSOR_NAME, name.encode())
    return dims + _number(_TENSOR_TYPE, _FLOAT) + named + _field(_TENSOR_DATA, values)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
