"""Options of an audit, and which of them make two audits the same."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from index.errors import UsageError


class Part(str, Enum):
    """What an audit looks at."""

    TXT2IMG = "txt2img"
    """Pictures generated from captions, searched in the index."""
    IMG2IMG = "img2img"
    """Each work given in and reconstructed, beside works that the model never saw."""
    PROMPTS = "prompts"
    """How far a caption moves the noise prediction (Wen et al. 2024)."""
    CARLINI = "carlini"
    """Groups of near-identical pictures across the seeds of one caption (Carlini et al. 2023)."""


DTYPES = ("float32", "float16", "bfloat16")

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""At 1.0 nothing but a trace of the work is left under the noise; at 0.2 nearly all of it is."""

CARLINI_SHARE = 10 / 500
"""Carlini et al. 2023 (arXiv:2301.13188, section 4.2) ask for 10 near-identical pictures among 500 seeds."""

LEAST_GROUP = 3
"""Two alike may be chance where the prompt leaves little open."""


@dataclass(frozen=True)
class AuditOptions:
    """How a model is audited.

    Attributes:
        only: Parts to run; all of them by default.
        limit: Works looked at, and as many controls, spread over the numbers of repeats; None: all.
        seeds: Pictures generated a caption.
        strengths: Of img2img, ascending, each in (0, 1].
        img2img_seeds: Reconstructions of each work at each strength.
        steps: Denoising steps of a whole generation.
        guidance: Classifier-free guidance scale; None: as the pipeline has it by default.
        size: Side of the square pictures in pixels; None: as the model was made for.
        seed: From which the seed of every picture follows.
        batch_size: Pictures generated at once. Another size can change pixels by a rounding error.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None takes the best there is.
        dtype: What the pipeline is loaded in.
        lora: Adapter to audit, a file or folder: the model is audited without it and with it.
        prompt_steps: Denoising steps at which the noise predictions are compared, from the first on.
        max_distance: Tiled L2 up to which two pictures of one caption are near-identical. Carlini et al. do not
            publish their bound; LeakPro takes 0.1 and asks to calibrate it.
        min_group: Near-identical pictures that count as a group; None: 2 % of `seeds`, at least 3.
    """

    only: tuple[Part, ...] = tuple(Part)
    limit: int | None = None
    seeds: int = 4
    strengths: tuple[float, ...] = STRENGTHS
    img2img_seeds: int = 1
    steps: int = 25
    guidance: float | None = None
    size: int | None = None
    seed: int = 0
    batch_size: int = 4
    device: str | None = None
    dtype: str = "float32"
    lora: str | None = None
    prompt_steps: int = 1
    max_distance: float = 0.1
    min_group: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be audited with.

        Raises:
            UsageError: A value is out of its range; names the option.
        """
        least = {"limit": 1, "seeds": 1, "img2img_seeds": 1, "steps": 1, "size": 16, "batch_size": 1}
        least |= {"prompt_steps": 1, "min_group": 2, "seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {value}; it must be {bound} or more")
        if not self.only:
            raise UsageError(f"--only names no part. Parts: {', '.join(part.value for part in Part)}")
        if not self.strengths or any(not 0 < strength <= 1 for strength in self.strengths):
            given = ",".join(f"{strength:g}" for strength in self.strengths)
            raise UsageError(f"--strengths {given}: each must lie above 0 and be at most 1")
        if tuple(sorted(set(self.strengths))) != self.strengths:
            object.__setattr__(self, "strengths", tuple(sorted(set(self.strengths))))
        if not 0 < self.max_distance < 1:
            raise UsageError(f"--max-distance is {self.max_distance}; it must lie between 0 and 1")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype {self.dtype}: is none of {', '.join(DTYPES)}")
        if self.prompt_steps > self.steps:
            raise UsageError(
                f"--prompt-steps is {self.prompt_steps}; --steps {self.steps} has no more than that"
            )

    @property
    def group_size(self) -> int:
        """Near-identical pictures of one caption that count as a group."""
        return self.min_group or max(LEAST_GROUP, math.ceil(CARLINI_SHARE * self.seeds))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"only": [part.value for part in self.only], "strengths": list(self.strengths)}

    def identity(self) -> dict[str, Any]:
        """Return the options that an audit which goes on must repeat: all of them.

        Batches and the device change pictures by rounding errors only, but then no figure could be made again.
        """
        return self.to_dict()


def parts_of(text: str) -> tuple[Part, ...]:
    """Read the value of ``--only``: parts, comma-separated.

    Raises:
        UsageError: A word names no part.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    known = [part.value for part in Part]
    for word in words:
        if word not in known:
            raise UsageError(f"--only {text}: {word!r} is no part. Parts: {', '.join(known)}")
    return tuple(part for part in Part if part.value in words)


def strengths_of(text: str) -> tuple[float, ...]:
    """Read the value of ``--strengths``: numbers, comma-separated.

    Raises:
        UsageError: One is no number.
    """
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise UsageError(f"--strengths {text}: give numbers such as 0.2,0.4,0.6,0.8") from error
