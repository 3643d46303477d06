"""Hash peers as they are used: one hash a picture, Hamming distance, no mirror image, no verification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TOP = 10
"""Predictions a query; the same as a detector's report holds."""

PDQ = "PDQ ≤ 31"
PDQ_UNBOUNDED = "PDQ, any distance"
"""Shown beside the peers as they are used: how far PDQ gets when its distances are ranked."""

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Peer:
    """A way to hash a picture, and the distance up to which a pair counts.

    Attributes:
        name: As in tables.
        bits: Picture → 0/1, uint8, (N,).
        max_distance: Its standard bound, or None: all distances are ranked.
    """

    name: str
    bits: Callable[[Image.Image], Bits]
    max_distance: int | None


def all_peers() -> tuple[Peer, ...]:
    """Return imagehash's pHash, PDQ at its bound and unbounded, imagededup's pHash at its default."""
    import imagehash
    import pdqhash
    from imagededup.methods import PHash

    dedup = PHash(verbose=False)

    def phash(image: Image.Image) -> Bits:
        return np.asarray(imagehash.phash(image).hash, np.uint8).ravel()

    def pdq(image: Image.Image) -> Bits:
        return np.asarray(pdqhash.compute(np.asarray(image))[0], np.uint8)

    def dedup_phash(image: Image.Image) -> Bits:
        text = str(dedup.encode_image(image_array=np.asarray(image)))
        return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))

    return (
        Peer("imagehash pHash", phash, None),
        Peer(PDQ, pdq, 31),
        Peer(PDQ_UNBOUNDED, pdq, None),
        Peer("imagededup pHash ≤ 10", dedup_phash, 10),
    )


def table_of(peer: Peer, images: Sequence[Image.Image]) -> Bits:
    """Hash references: uint8, (N, bits)."""
    return np.stack([peer.bits(image) for image in images])


def nearest(peer: Peer, table: Bits, image: Image.Image) -> list[tuple[int, float]]:
    """Return up to `TOP` (reference, score) within the peer's bound; scores fall with distance."""
    away: NDArray[Any] = (table != peer.bits(image)).sum(axis=1)
    order = np.argsort(away, kind="stable")[:TOP]
    most = table.shape[1] if peer.max_distance is None else peer.max_distance
    return [(int(n), -float(away[n])) for n in order if away[n] <= most]
