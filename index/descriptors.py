"""What a descriptor is, and the registry that makes one from its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from index.errors import DescriptorError
from index.images import Picture


class Kind(Enum):
    """How rows of a descriptor are stored and compared."""

    BITS = "bits"
    """One packed uint8 row a picture; Hamming distance."""
    UNIT = "unit"
    """One float32 row of unit length a picture; cosine."""
    LOCAL = "local"
    """Many packed uint8 rows a picture; voting and geometry (`index.keypoints`)."""


MAX_WIDTH = 65_536
"""Columns of a row; the widest towers have some thousand."""


@dataclass(frozen=True, slots=True)
class DescriptorSpec:
    """What makes rows of a descriptor comparable; stored in an index's manifest.

    Attributes:
        name: Its name as users write it, e.g. ``pdq`` or ``clip:ViT-B-32/laion2b_s34b_b79k``.
        version: Raised whenever the same picture would give other rows.
        kind: How rows are stored and compared.
        width: Columns of a row: bytes for BITS and LOCAL, floats for UNIT.
        preprocessing: What is done to a picture first (sizes, mean, interpolation…), plain JSON values.
        weights_digest: SHA-256 of the weights, or an empty string where there are none.
    """

    name: str
    version: int
    kind: Kind
    width: int
    preprocessing: dict[str, Any] = field(default_factory=dict)
    weights_digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for the manifest."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind.value,
            "width": self.width,
            "preprocessing": self.preprocessing,
            "weights_digest": self.weights_digest,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DescriptorSpec:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: It is something else.
        """
        if not 0 < int(values["width"]) <= MAX_WIDTH:
            raise ValueError(f"rows of {values['width']} columns")
        return cls(
            name=str(values["name"]),
            version=int(values["version"]),
            kind=Kind(values["kind"]),
            width=int(values["width"]),
            preprocessing=dict(values.get("preprocessing", {})),
            weights_digest=str(values.get("weights_digest", "")),
        )


@runtime_checkable
class Descriptor(Protocol):
    """A method that turns pictures into rows. Constructors are cheap; models load on first use."""

    @property
    def spec(self) -> DescriptorSpec:
        """What makes its rows comparable. May load weights, to know their digest."""

    @property
    def batched(self) -> bool:
        """Whether describing many pictures at once pays, as for neural towers.

        True: the caller collects batches and calls it from one thread. False: it is called per picture, from
        worker threads.
        """

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Describe pictures, each independently of the others in the call.

        Returns:
            One array a picture, (rows, width): exactly one row for UNIT (float32, unit length), one or, for
            a picture without enough in it, none for BITS (uint8), any number for LOCAL (uint8).
        """

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """The same for the pictures mirrored left to right, without new decoding where possible."""


@runtime_checkable
class BatchedDescriptor(Descriptor, Protocol):
    """A descriptor with `batched` true: what is done to each picture alone can be done by other threads."""

    @property
    def in_workers(self) -> bool:
        """Whether worker threads should describe small batches each, rather than one thread large ones."""

    def prepare(self, picture: Picture) -> NDArray[np.uint8]:
        """Return a picture as the model takes it: uint8, (H, W, 3)."""

    def describe_prepared(self, inputs: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Describe what `prepare` returned, like `describe`."""


DEFAULT_DESCRIPTORS: tuple[str, ...] = ("pdq", "phash", "keypoints", "clip:bundled")


def create(name: str, *, device: str | None = None) -> Descriptor:
    """Make a descriptor from its name; loads no weights yet.

    Args:
        name: ``pdq``, ``phash``, ``keypoints``, ``clip:bundled``, ``clip:MODEL/PRETRAINED``,
            ``clip:hf-hub:…``, ``clip:local-dir:…`` or ``sscd:FILE``.
        device: Where neural descriptors run (``cpu``, ``cuda``, ``cuda:1``, ``mps``); None chooses.

    Raises:
        DescriptorError: The name is none of these.
    """
    if name == "pdq":
        from index.perceptual import PdqDescriptor

        return PdqDescriptor()
    if name == "phash":
        from index.perceptual import PhashDescriptor

        return PhashDescriptor()
    if name == "keypoints":
        from index.keypoints import KeypointDescriptor

        return KeypointDescriptor()
    if name.startswith("clip:"):
        from index.neural import ClipDescriptor

        return ClipDescriptor(name.removeprefix("clip:"), device=device)
    if name.startswith("sscd:"):
        from index.torchscript import TorchScriptDescriptor

        return TorchScriptDescriptor(name.removeprefix("sscd:"), device=device)
    raise DescriptorError(
        name,
        "unknown descriptor. Known: pdq, phash, keypoints, clip:bundled, clip:MODEL/PRETRAINED, "
        "clip:hf-hub:ORG/NAME, clip:local-dir:FOLDER, sscd:FILE.pt",
    )


def parse_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of descriptor names, dropping repeats, keeping their order.

    Raises:
        DescriptorError: The list is empty.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise DescriptorError(text, "names no descriptor. Example: pdq,phash,keypoints")
    return names
