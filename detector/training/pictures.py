"""Training pictures: read from any source that an index can be built from, kept as small squares in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detector.training.objective import UNIQUE
from index.descriptors import create
from index.duplicates import components, near_pairs
from index.errors import SourceError, UnreadableImageError
from index.images import Picture, read_image
from index.items import Rejected
from index.sources import open_source
from index.vectors import BitStore

SIDE = 160
"""Pictures are kept at this side, squeezed to a square as the tower sees them: 77 kB each."""

LEAST_PICTURES = 32
"""A batch of fewer works teaches nothing about telling them apart."""


@dataclass(frozen=True)
class TrainingSet:
    """Pictures to train on.

    Attributes:
        pixels: uint8, (N, 3, SIDE, SIDE).
        groups: Near-duplicates share a number: int64, (N,); `objective.UNIQUE` without any.
        rejected: Files that could not be read, with the reason.
    """

    pixels: Tensor
    groups: Tensor
    rejected: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.pixels)


def read_pictures(
    sources: Sequence[str | Path], progress: Callable[[int], None] | None = None
) -> TrainingSet:
    """Read pictures from folders, lists and shards.

    Args:
        sources: As `build_index` takes them.
        progress: Called with the number of pictures read so far.

    Raises:
        SourceError: A source cannot be read, or they hold fewer than `LEAST_PICTURES` different pictures.
    """
    squares: list[NDArray[np.uint8]] = []
    pdq: list[NDArray[np.uint8]] = []
    rejected: list[tuple[str, str]] = []
    seen: set[str] = set()
    hasher = create("pdq")
    for source in sources:
        for item in open_source(source):
            if isinstance(item, Rejected):
                rejected.append((item.locator, item.reason))
                continue
            try:
                picture = read_image(item.read(), draft_side=SIDE * 2)
            except UnreadableImageError as error:
                rejected.append((item.locator, error.reason))
                continue
            if picture.sha256 in seen:
                continue
            seen.add(picture.sha256)
            squares.append(_square(picture))
            pdq.append(hasher.describe([picture])[0])
            if progress is not None:
                progress(len(squares))
    if len(squares) < LEAST_PICTURES:
        named = ", ".join(str(source) for source in sources)
        raise SourceError(
            named,
            f"holds {len(squares)} readable pictures; training needs {LEAST_PICTURES} or more. Name more with --images",
        )
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()
    return TrainingSet(pixels, torch.from_numpy(_groups(pdq)), tuple(rejected))


def _square(picture: Picture) -> NDArray[np.uint8]:
    return np.asarray(picture.to_pil().resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _groups(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Number the groups of near-duplicates that `detector duplicates` would propose by PDQ, mirror images too.

    Args:
        rows: One picture each: uint8, (0 or 1, 32).

    Returns:
        int64, (N,), as in `TrainingSet`.
    """
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in near_pairs(BitStore(np.concatenate(rows), owners), "pdq"):
        near[one].add(other)
        near[other].add(one)
    groups = np.full(len(rows), UNIQUE, np.int64)
    for component in components(near):
        groups[list(component)] = min(component)
    return groups
