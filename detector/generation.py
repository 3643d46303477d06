"""How a picture was generated, as a frozen value: `Generation`, part of what is said of a query."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

LARGEST = 2**64
"""Of numbers in findings; the largest are seeds."""


def number_in(values: dict[str, Any], key: str) -> Any:
    """Return a measured number as it is, or None where it is absent.

    Raises:
        ValueError: It is no number, or none that was ever measured.
    """
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value
    raise ValueError(f"{key} is {value!r:.40}, not a number")


def whole_number(value: Any, *, most: int = 2**63 - 1) -> int:
    """Return a value of findings as a whole number from 0 to `most`.

    Raises:
        ValueError, TypeError, OverflowError: It is none.
    """
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError(f"{value!r:.40} is not between 0 and {most}")
    return number


def finite_number(value: Any) -> float:
    """Return a value of findings as a number that is not infinite.

    Raises:
        ValueError, TypeError, OverflowError: It is none.
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is no finite number")
    return number


def share_of_one(value: Any) -> float:
    """Return a value of findings as a number from 0 to 1.

    Raises:
        ValueError, TypeError, OverflowError: It is none.
    """
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{value!r:.40} is not between 0 and 1")
    return number


@dataclass(frozen=True, slots=True)
class Generation:
    """How a picture was generated, as its file or a list beside it says. Empty or None: not recorded.

    Attributes:
        tool: What recorded it, e.g. ``AUTOMATIC1111``, ``ComfyUI``, ``InvokeAI``, ``detector``.
        model: Name of the model, as recorded.
        sampler: Name of the sampler or scheduler, as recorded.
        seed: Of the random numbers.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        strength: Of img2img: share of the noise that was put over the picture that went in, 0–1.
        source: Name of the picture that went in (img2img, inpainting).
        extra: Everything else that was recorded, as given.
    """

    tool: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    sampler: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    source: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def is_reconstruction(self) -> bool:
        """Whether a picture went in: closeness to that one is then no evidence by itself."""
        return self.strength is not None or bool(self.source)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Generation:
        """Read what `to_dict` wrote; absent keys mean: not recorded."""
        read: dict[str, Any] = {
            key: str(values.get(key) or "")
            for key in ("tool", "prompt", "negative_prompt", "model", "sampler", "source")
        }
        read |= {key: number_in(values, key) for key in ("seed", "steps", "guidance", "strength")}
        return cls(**read, extra={str(k): str(v) for k, v in dict(values.get("extra") or {}).items()})
