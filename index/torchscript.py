"""TorchScript image descriptors, such as SSCD's published files.

Such a file is a program, and an index that somebody else made may name one. So none is loaded unless `TRUST_VARIABLE`
names it: whoever types the name of a file, or opens an index that names it, says first that it may run.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.errors import DescriptorError
from index.images import Picture
from index.neural import IMAGENET_MEAN, IMAGENET_STD, Loaded, NeuralDescriptor, weights_error
from index.torch_tower import TorchTower

TRUST_VARIABLE = "DETECTOR_TRUST_TORCHSCRIPT"
"""Environment variable: TorchScript files that may run, and folders of such, separated like the folders in PATH."""


def is_trusted(path: Path) -> bool:
    """Say whether `TRUST_VARIABLE` names a file or a folder above it; links are followed first."""
    named = [Path(each).expanduser() for each in os.environ.get(TRUST_VARIABLE, "").split(os.pathsep) if each]
    here = path.resolve()
    return any(here.is_relative_to(each.resolve()) for each in named)


class TorchScriptDescriptor(NeuralDescriptor):
    """A TorchScript module from float32 (N, 3, S, S), ImageNet-normalised, to (N, width), such as SSCD's.

    A TorchScript file is a program, which loading and describing run: only files that `TRUST_VARIABLE` names
    are loaded. Pictures are squeezed to S by S, as SSCD's authors allow, so that pictures of any shape share a
    batch. It runs in float32 on every device: a module may hold its own dtypes. The weights digest is the
    SHA-256 of the file, code included.

    Args:
        path: The file.
        device: As for `ClipDescriptor`.
        batch_size: Pictures that go through the model at once.
        input_side: S, in pixels.
    """

    def __init__(
        self, path: str, *, device: str | None = None, batch_size: int = 32, input_side: int = 320
    ) -> None:
        super().__init__(f"sscd:{path}", device, batch_size)
        if not path or input_side < 1:
            raise DescriptorError(self._name, "needs a file (sscd:/path/to/model.pt) and input_side ≥ 1")
        self._path = Path(path).expanduser()
        self._side = input_side

    def _load(self) -> Loaded:
        import torch

        device = self._chosen_device()
        trust = "TorchScript files are programs: name one that you trust, such as SSCD's own."
        if not self._path.is_file():
            raise weights_error(self._name, f"there is no file {self._path}", None, trust)
        if not is_trusted(self._path):
            text = "is a TorchScript file, a program that would run here. It was not loaded"
            remedy = f"Where you trust its makers: export {TRUST_VARIABLE}={shlex.quote(str(self._path.resolve()))}."
            raise weights_error(self._name, text, None, remedy)
        side = self._side
        try:
            digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
            with warnings.catch_warnings(), torch.inference_mode():
                # torch deprecates TorchScript as a whole; SSCD is published in no other form.
                warnings.filterwarnings("ignore", r"`torch\.jit\.load`", FutureWarning)
                module = torch.jit.load(self._path, map_location=device)  # type: ignore[no-untyped-call]
                rows, width = module.eval()(torch.zeros((2, 3, side, side), device=device)).shape
            if rows != 2 or width < 1:
                raise ValueError(f"it gave {rows} rows of {width} for 2 pictures")
        except Exception as error:  # torch's reader raises several kinds, the program in the file any
            text = f"is no TorchScript module from (N, 3, {side}, {side}) to one row each"
            raise weights_error(self._name, text, error, trust) from error

        def prepare(picture: Picture) -> NDArray[np.uint8]:
            return np.asarray(picture.to_pil().resize((side, side), Image.Resampling.BILINEAR))

        preprocessing = {"size": [side, side], "resize_mode": "squash", "interpolation": "bilinear"} | {
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }
        spec = self._spec(width, preprocessing, digest)
        tower = TorchTower(module, IMAGENET_MEAN, IMAGENET_STD, device, half=False)
        return Loaded(prepare, tower.run, device.type == "cpu", spec)
