"""Options of a training, and which of them make two trainings the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from index.errors import UsageError

RATE_FROM_NOTHING = 1.5e-3
RATE_FURTHER = 4e-4
"""A tower that knows its trade forgets some of it at a higher rate."""


@dataclass(frozen=True)
class TrainOptions:
    """How long and how to train.

    Attributes:
        minutes: Length, pauses not counted; the schedule fits it.
        steps: Length in steps instead.
        batch: Works a step; each gives three views.
        rate: Highest learning rate; None takes `RATE_FROM_NOTHING` for random weights, else `RATE_FURTHER`.
        decay: Weight decay (AdamW).
        averaging: Decay of the running average of the weights, which is what is saved.
        memory: Past references kept as negatives.
        procedural: Share of a batch that is procedural pictures.
        seed: Of every random draw.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        check_s: Seconds between checks on held-out pictures.
        save_s: Seconds between checkpoints.
    """

    minutes: float = 30.0
    steps: int | None = None
    batch: int = 112
    rate: float | None = None
    decay: float = 0.05
    averaging: float = 0.998
    memory: int = 8192
    procedural: float = 0.125
    seed: int = 20261121
    device: str = "cpu"
    check_s: float = 120.0
    save_s: float = 180.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            UsageError: A value is out of its range.
        """
        if self.minutes <= 0 or (self.steps is not None and self.steps < 1):
            raise UsageError("--minutes and --steps must be above 0")
        if self.rate is not None and not 0 < self.rate < 1:
            raise UsageError(f"--rate is {self.rate}; it must lie between 0 and 1")
        if self.batch < 8:
            raise UsageError(f"--batch is {self.batch}; telling works apart needs 8 or more at a time")
        if not 0 <= self.procedural < 1:
            raise UsageError(
                f"--procedural is {self.procedural}; it is a share of the batch, from 0 to below 1"
            )

    def identity(self) -> dict[str, Any]:
        """Return the options that a resumed training must repeat: all but length, device and intervals."""
        free = {"minutes", "steps", "device", "check_s", "save_s"}
        return {name: value for name, value in asdict(self).items() if name not in free}
