"""Fingerprints of many pictures for the part `parts`: described ones, kept on disk, and made-up ones like them.

Distractors are pictures that no query shows. Each is described as it is and in variants (mirrored, turned, cropped,
another scale and tone), which have features and tower rows of their own. Chunks are files: a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from index import keypoints
from index.descriptors import Descriptor
from index.images import Picture, from_array, read_image
from index.items import SourceItem
from index.keypoints import CODE_BYTES, MAX_REFERENCE_FEATURES, ROW_BYTES, encode, extract_rated
from index.regions import windows_of
from index.sources import open_source
from tests.benchmarks.results import progress

CHUNK = 250
NEAR_CODES = 6
"""Centres of the product quantiser, of 256, that a made-up feature's byte may move to: its nearest ones."""


@dataclass(frozen=True)
class Local:
    """Keypoint rows of pictures, each picture's strongest first.

    Attributes:
        rows: uint8, (N, `keypoints.ROW_BYTES`).
        counts: int64, (pictures,): rows of each.
    """

    rows: NDArray[np.uint8]
    counts: NDArray[np.int64]

    def strongest(self, most: int) -> Local:
        """Keep at most `most` rows a picture."""
        starts = np.cumsum(self.counts) - self.counts
        place = np.arange(len(self.rows)) - np.repeat(starts, self.counts)
        return Local(self.rows[place < most], np.minimum(self.counts, most))

    def part(self, start: int, stop: int) -> Local:
        """Return pictures `start` to `stop`."""
        stop = min(stop, len(self.counts))
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        return Local(self.rows[ends[start] : ends[stop]], self.counts[start:stop])


def joined(parts: Sequence[Local]) -> Local:
    """Put pictures behind one another."""
    rows = np.concatenate([p.rows for p in parts]) if parts else np.zeros((0, ROW_BYTES), np.uint8)
    return Local(rows, np.concatenate([p.counts for p in parts]) if parts else np.zeros(0, np.int64))


def local_of(pictures: Sequence[Picture]) -> Local:
    """Describe pictures with keypoints."""
    rows = []
    for picture in pictures:
        features, rated = extract_rated(picture, max_features=MAX_REFERENCE_FEATURES)
        rows.append(encode(features)[np.argsort(-rated, kind="stable")])
    return joined([Local(r, np.asarray([len(r)], np.int64)) for r in rows])


def tower_of(pictures: Sequence[Picture], tower: Descriptor) -> NDArray[np.float16]:
    """Describe pictures and their windows with a tower: float16, (pictures, 6, width)."""
    each = [[picture, *windows_of(picture)] for picture in pictures]
    rows = np.concatenate(tower.describe([p for some in each for p in some]))
    return rows.astype(np.float16).reshape(len(pictures), -1, rows.shape[1])


def variant(image: Image.Image, number: int, seed: int) -> Image.Image:
    """Return a picture as it is (0), mirrored and cropped (1), turned (2), or at another scale and tone (3…)."""
    if not number:
        return image
    rng = random.Random(f"{seed} {number} {image.size}")
    if number % 2:
        image = ImageOps.mirror(image)
    if number == 2 or number > 3:
        image = image.rotate(rng.choice((90, 180, 270)), expand=True)
    side = rng.uniform(0.65, 0.85)
    wide, high = round(image.width * side), round(image.height * side)
    left, top = rng.randint(0, image.width - wide), rng.randint(0, image.height - high)
    image = image.crop((left, top, left + wide, top + high))
    if number >= 3:
        image = image.resize((round(wide * 1.5), high), Image.Resampling.BICUBIC)
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.4))


def described(
    sources: Sequence[Path],
    folder: Path,
    *,
    most: int,
    variants: int,
    tower: Descriptor,
    tower_pictures: int,
    seed: int,
) -> tuple[Local, NDArray[np.float16]]:
    """Describe distractors, or read what an earlier run described.

    Args:
        sources: Folders, shards or files.
        folder: Where chunks are kept.
        most: Stop once so many are described.
        variants: How many of each picture.
        tower: For tower rows.
        tower_pictures: Tower rows are made of so many.
        seed: Of the variants.

    Returns:
        Keypoint rows of all; tower rows, (at most `tower_pictures`, 6, width), float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = [item for path in sources for item in open_source(path) if isinstance(item, SourceItem)]
    local: list[Local] = []
    towers = [np.zeros((0, 6, tower.spec.width), np.float16)]
    seen = 0
    for number in range(variants):
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            name = f"{start + CHUNK:06d}" if len(chunk) == CHUNK else "rest"
            local.append(_chunk(chunk, folder / f"{number}-{name}", number, seed))
            if seen < tower_pictures:
                towers.append(_tower_chunk(chunk, folder / f"{number}-{name}", number, seed, tower))
            seen += len(chunk)
            if seen >= most:
                progress(f"parts: {seen} distractors described")
                return joined(local), np.concatenate(towers)
    progress(f"parts: {seen} distractors described")
    return joined(local), np.concatenate(towers)


def _made(chunk: Sequence[SourceItem], number: int, seed: int) -> list[Picture]:
    pictures = [read_image(item.read()).to_pil() for item in chunk]
    return [from_array(np.asarray(variant(p, number, seed + n))) for n, p in enumerate(pictures)]


def _chunk(chunk: Sequence[SourceItem], path: Path, number: int, seed: int) -> Local:
    target = path.with_suffix(".npz")
    if not target.exists():
        found = local_of(_made(chunk, number, seed))
        _written(target, lambda p: np.savez(p, rows=found.rows, counts=found.counts))
    with np.load(target) as kept:
        return Local(kept["rows"], kept["counts"])


def _tower_chunk(
    chunk: Sequence[SourceItem], path: Path, number: int, seed: int, tower: Descriptor
) -> NDArray[np.float16]:
    target = path.with_suffix(".npy")
    if not target.exists():
        rows = tower_of(_made(chunk, number, seed), tower)
        _written(target, lambda p: np.save(p, rows))
    kept: NDArray[np.float16] = np.load(target)
    return kept


def _written(target: Path, write: Callable[[Path], None]) -> None:
    beside = target.with_name(f"new-{target.name}")
    write(beside)
    os.replace(beside, target)


@cache
def _near_codes() -> NDArray[np.uint8]:
    """For each byte of a code and each of its values: its nearest other centres, uint8, (32, 256, `NEAR_CODES`)."""
    centres = keypoints.codebook().code
    away = ((centres[:, :, None] - centres[:, None]) ** 2).sum(axis=3)
    return np.argsort(away, axis=2, kind="stable")[:, :, 1 : NEAR_CODES + 1].astype(np.uint8)


def made_up(source: Local, pictures: int, *, moved: float, seed: int) -> Local:
    """Make pictures up from described ones: another's features, their places jittered, their codes moved.

    A whole picture is drawn, and so the counts, the lists and the layout of features are real. Places move by about
    a tenth of the picture, sizes and angles likewise: nothing agrees with the picture drawn.

    Args:
        source: Described pictures.
        pictures: How many.
        moved: Share of a code's bytes that go to a near centre.
        seed: Of the choice.
    """
    rng = np.random.default_rng(seed)
    starts = np.cumsum(source.counts) - source.counts
    drawn = rng.integers(0, len(source.counts), pictures)
    counts = source.counts[drawn]
    total = int(counts.sum())
    place = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = source.rows[np.repeat(starts[drawn], counts) + place]
    near = _near_codes()
    for byte in range(CODE_BYTES):
        change = np.flatnonzero(rng.random(total, np.float32) < moved)
        rows[change, byte] = near[byte, rows[change, byte], rng.integers(0, NEAR_CODES, len(change))]
    xy = np.ascontiguousarray(rows[:, 34:38]).view("<u2").astype(np.int32)
    xy += rng.normal(0.0, 6500.0, xy.shape).astype(np.int32)
    rows[:, 34:38] = np.clip(xy, 0, 65535).astype("<u2").view(np.uint8)
    rows[:, 38] += rng.integers(-12, 13, total).astype(np.uint8)
    rows[:, 39] += rng.integers(-24, 25, total).astype(np.uint8)
    return Local(rows, counts)
