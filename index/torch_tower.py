"""Towers that torch runs: how fast, on which device, with how many threads. Imports torch on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.errors import DescriptorError
from index.opencv_tower import digest_of
from index.tracing import none_running, running

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TorchTower:
    """A model of torch, called with pictures of its input's size."""

    encode: Callable[[torch.Tensor], torch.Tensor]  # float32, (N, 3, H, W), on `device` → float, (N, width)
    mean: Sequence[float]  # of what the model was trained on, by channel, 0–1
    std: Sequence[float]
    device: torch.device
    half: bool  # whether it runs in float16

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Return its output for uint8 (N, H, W, 3): float32, (N, width)."""
        import torch

        with torch.inference_mode(), running():
            pixels = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)
            mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
            batch = (pixels.float() / 255 - mean) / std  # its memory stays in the order of channels last
            with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
                features = self.encode(batch)
            if self.half and not bool(torch.isfinite(features).all()):
                features = self.encode(batch)  # some overflow float16; weights are kept in float32
            return features.float().cpu().numpy()


def fastest(model: Any, device: torch.device) -> Any:
    """Return an open_clip model in the form in which torch runs it fastest: the same values, to rounding.

    On two cores the bundled tower does 580 pictures a second as it comes, 660 with channels last, 750 with
    batch normalisation folded into the convolutions too, and 510 through torch.compile.
    """
    import torch
    from open_clip.timm_model import TimmModel
    from torch.fx.experimental.optimization import fuse

    if device.type == "cpu" and isinstance(model.visual, TimmModel):
        # A network whose course depends on its values stays as it is.
        with none_running(), suppress(torch.fx.proxy.TraceError):
            model.visual.trunk = fuse(model.visual.trunk)
        model.visual.to(memory_format=torch.channels_last)
    return model


def one_thread_here() -> None:
    """Keep torch's work for calls from this thread in this thread, where torch is loaded: workers are many enough."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def threads_as_before() -> None:
    """Give threads that start from now on as many threads of torch as the calling one has."""
    if "torch" in sys.modules:
        import torch

        # `set_num_threads` works on the calling thread, and on every thread that asks torch for the first time later.
        torch.set_num_threads(torch.get_num_threads())


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over named tensors: names, shapes and values, in the order of the names.

    Floats count as little-endian float32, everything else as int64, so that the same weights give the same
    digest from safetensors and from a torch file, and from float16 where that holds the same values.

    Args:
        tensors: Tensors of any device and dtype, by name.

    Returns:
        64 hex digits.
    """
    import torch

    def named() -> Iterator[tuple[str, NDArray[Any]]]:
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu()
            dtype = torch.float32 if tensor.is_floating_point() else torch.int64
            yield name, tensor.to(dtype).contiguous().numpy()

    return digest_of(named())


def accelerators() -> list[str]:
    """Return the devices beside the CPU on which neural descriptors can run, each with its name and memory."""
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number}, {card.name}, {card.total_memory / 2**30:.0f} GiB")
    return found + ["mps"] * torch.backends.mps.is_available()


def choose_device(name: str, asked: str | None) -> torch.device:
    """Return the device asked for, or the best there is.

    Raises:
        DescriptorError: There is no such device; `name` is who asks.
    """
    import torch

    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    there = ["cuda"] * bool(cards) + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if asked is not None and asked not in there + cards:
        raise DescriptorError(name, f"no device {asked} on this computer. It has {', '.join(there + cards)}")
    return torch.device(asked or there[0])
