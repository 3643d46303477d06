"""Seeded random draws on the device that trains, so that a step is the same however often training was resumed."""

from __future__ import annotations

import torch
from torch import Tensor

_MULTIPLIER = 1_000_003
"""Keeps the seeds of neighbouring steps, and of neighbouring `seed`s, apart."""


class Draws:
    """Random numbers of one step.

    Args:
        seed: Of the whole training.
        step: Number of the step, or of whatever else is drawn once.
        device: Where the numbers are made.
    """

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self.device = device
        self._generator = torch.Generator(device=device)
        self._generator.manual_seed((seed * _MULTIPLIER + step) % 2**63)

    def uniform(self, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32 values in [low, high)."""
        size = (shape,) if isinstance(shape, int) else shape
        return torch.rand(size, generator=self._generator, device=self.device) * (high - low) + low

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Return float32 values of mean 0 and standard deviation 1."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def chance(self, count: int, share: float) -> Tensor:
        """Return bool, (count,), each true with probability `share`."""
        return self.uniform(count) < share

    def some(self, count: int, share: float) -> Tensor:
        """Return the numbers, below `count`, of those that `chance` picks: int64, any length."""
        return self.chance(count, share).nonzero().squeeze(1)

    def order(self, count: int) -> Tensor:
        """Return 0…count-1 shuffled: int64, (count,)."""
        return torch.randperm(count, generator=self._generator, device=self.device)

    def number(self, low: float, high: float) -> float:
        """Return one value in [low, high)."""
        return float(self.uniform(1, low, high)[0])

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return min(high, int(self.number(low, high + 1)))
