"""Perceptual hashes, pdq (256 bit) and phash (64 bit), as packed uint8 rows, of both mirror states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.descriptors import DescriptorSpec, Kind
from index.images import Picture

PDQ_SIDE = 64
"""PDQ samples 64×64 points after a two-pass box filter, that is, a tent. Resampling to 64×64 with a tent
first does the same at every size: on 120 pictures the hash of a quarter-size copy then differs by 1.1 bits
on average instead of 13.7, and stays 11 bits from the hash that `pdqhash` gives at 512 pixels."""

MIN_PDQ_QUALITY = 50
"""Hashes of lower quality are dropped, as ThreatExchange's PDQ reference advises (quality ≤ 49: discard)."""

MIN_CONTRAST = 4.0
"""Least standard deviation of grey levels (0–255) at 32×32 for a pHash: below, its bits are noise."""


class PdqDescriptor:
    """256-bit PDQ (Facebook ThreatExchange, https://github.com/facebook/ThreatExchange/tree/main/pdq)."""

    batched = False

    @property
    def spec(self) -> DescriptorSpec:
        """What makes its rows comparable."""
        return DescriptorSpec(
            "pdq", 1, Kind.BITS, 32, {"side": PDQ_SIDE, "filter": "tent", "min_quality": MIN_PDQ_QUALITY}
        )

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Hash pictures: one (1, 32) uint8 row each, none where PDQ's quality is under `MIN_PDQ_QUALITY`."""
        return [_pdq(picture, mirrored_too=False)[0] for picture in pictures]

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """The same for the mirrored pictures."""
        return [_pdq(picture, mirrored_too=True)[1] for picture in pictures]


def _pdq(picture: Picture, *, mirrored_too: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the rows of the picture and, from the same transform, of its mirror image."""
    import pdqhash

    small = np.asarray(picture.to_pil().resize((PDQ_SIDE, PDQ_SIDE), Image.Resampling.BILINEAR))
    empty = np.zeros((0, 32), np.uint8)
    if not mirrored_too:  # three times as fast
        bits, quality = pdqhash.compute(small)
        return (np.packbits(bits)[None] if quality >= MIN_PDQ_QUALITY else empty), empty
    hashes, quality = pdqhash.compute_dihedral(small)
    if quality < MIN_PDQ_QUALITY:
        return empty, empty
    # compute_dihedral's order: as is, turned by 90, 180, 270, flipped top to bottom, left to right, …
    return np.packbits(hashes[0])[None], np.packbits(hashes[5])[None]


class PhashDescriptor:
    """64-bit pHash as `imagehash` computes it (8×8 low DCT coefficients of 32×32, against their median)."""

    batched = False

    @property
    def spec(self) -> DescriptorSpec:
        """What makes its rows comparable."""
        return DescriptorSpec(
            "phash", 1, Kind.BITS, 8, {"side": 32, "filter": "lanczos", "min_contrast": MIN_CONTRAST}
        )

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Hash pictures: one (1, 8) uint8 row each, or none where there is next to no contrast."""
        return [_phash(_grey32(picture)) for picture in pictures]

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """The same for the mirrored pictures."""
        return [_phash(_grey32(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for picture in pictures]


def _grey32(picture: Picture) -> Image.Image:
    return picture.to_pil().convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _phash(grey: Image.Image) -> NDArray[np.uint8]:
    import imagehash

    if float(np.asarray(grey).std()) < MIN_CONTRAST:
        return np.zeros((0, 8), np.uint8)
    return np.packbits(imagehash.phash(grey).hash.ravel())[None]
