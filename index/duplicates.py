"""Which references of an index may show the same picture: proposals from stored rows, without pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import keypoints
from index.descriptors import Kind
from index.keypoints import Features, decode_places, decode_vectors, vote
from index.searching import NEAR_DUPLICATE_PDQ, Searchable
from index.vectors import BitStore, LocalStore, UnitStore

MAX_DISTANCES: dict[str, int] = {"pdq": NEAR_DUPLICATE_PDQ, "phash": 4}
"""Distance, in bits, up to which two references are proposed. A mirrored pair gets `MIRROR_SLACK` more."""

MIRROR_SLACK: dict[str, int] = {"pdq": 9, "phash": 4}
"""What `mirror_bits` is off by: over 94 artworks it gives the mirror image's PDQ within 7.5 bits on average,
its pHash within 3.2."""

MIN_COSINE = 0.9
"""Cosine of a neural descriptor from which two references are proposed; unrelated works come nearer than one
would like (0.8 with CLIP), so that these too are only proposals."""

MIN_PAIRS = 4
"""Agreeing pairs of local features from which two references are proposed, as `detector.Plausible` has it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two references that may show the same picture, or share a part.

    Attributes:
        first: The smaller id.
        second: The larger id.
        similarities: By descriptor: 1 - distance / bits of the better mirror state, or cosine.
        mirrored: The state in which they are most alike.
        pairs: Agreeing pairs of local features; 0 where whole-picture rows proposed them.
    """

    first: int
    second: int
    similarities: dict[str, float]
    mirrored: bool = False
    pairs: int = 0


def mirror_bits(width: int) -> NDArray[np.uint8]:
    """Return the bits to toggle in a hash for the hash of the mirrored picture: uint8, (width,).

    Both hashes say of each coefficient of a square cosine transform whether it is above their median. A
    mirror negates every second column, the median stays near zero, so that these bits turn over.
    """
    side = round((width * 8) ** 0.5)
    return np.packbits(np.tile(np.arange(side) % 2 == 1, side))


def likeness(index: Searchable, first: int, second: int) -> tuple[dict[str, float], bool]:
    """Measure how alike two references' stored rows are.

    Returns:
        Similarities by descriptor, of the better mirror state of each, and whether that state is mirrored by
        what all of them say together.
    """
    similarities: dict[str, float] = {}
    leaning = 0.0
    for spec in index.specs:
        store = index.store(spec.name)
        if isinstance(store, LocalStore):
            continue
        one, other = store.rows_of(first)[:1], store.rows_of(second)[:1]
        if not len(one) or not len(other):
            continue
        if isinstance(store, UnitStore):
            similarities[spec.name] = float(one[0] @ other[0])
            continue
        plain = _similarity(one[0] ^ other[0])
        mirrored = _similarity(one[0] ^ other[0] ^ mirror_bits(spec.width))
        similarities[spec.name] = max(plain, mirrored)
        leaning += mirrored - plain
    return similarities, leaning > 0


def _similarity(differing: NDArray[np.uint8]) -> float:
    return 1.0 - int(np.unpackbits(differing).sum()) / (8.0 * len(differing))


def propose_whole(index: Searchable) -> list[Proposal]:
    """Propose references whose whole-picture rows are near: hashes in both mirror states, cosines.

    100,000 references take minutes. Memory grows with the near-duplicates found, not with pairs looked at.

    Returns:
        Proposals, each pair once, by ids.
    """
    found = {
        tuple(sorted(pair)) for spec in index.specs for pair in near_pairs(index.store(spec.name), spec.name)
    }
    proposals = []
    for first, second in sorted(found):
        similarities, mirrored = likeness(index, first, second)
        proposals.append(Proposal(first, second, similarities, mirrored))
    return proposals


def near_pairs(store: BitStore | UnitStore | LocalStore, name: str) -> Iterator[tuple[int, int]]:
    """Yield pairs of references whose rows of one descriptor are near: hashes in both mirror states, cosines."""
    if isinstance(store, LocalStore):
        return
    # Pictures are compared whole: a crop of another work is a shared part, which local features propose.
    wholes = store.wholes()
    if isinstance(wholes, BitStore):
        bound = MAX_DISTANCES.get(name, 0)
        yield from ((one, other) for one, other, _ in wholes.pairs_within(bound))
        toggled = mirror_bits(wholes.bits // 8)
        wider = bound + MIRROR_SLACK.get(name, 0)
        yield from ((one, other) for one, other, _ in wholes.pairs_within(wider, toggled=toggled))
    else:
        yield from ((one, other) for one, other, _ in wholes.pairs_above(MIN_COSINE))


def propose_parts(
    index: Searchable, ids: Iterable[int], *, on_progress: Callable[[int, int], None] | None = None
) -> list[Proposal]:
    """Propose references that share a part, in either mirror state, by votes of their stored local features.

    Args:
        index: With the descriptor ``keypoints``; without it there are no proposals.
        ids: References to compare with each other. Of near-duplicates give one: copies take votes from it.
        on_progress: Called with how many references are done, and of how many.

    Returns:
        Proposals, each pair once, by ids.
    """
    chosen = sorted(set(ids))
    if not any(spec.kind is Kind.LOCAL for spec in index.specs):
        return []
    whole = index.store("keypoints")
    if not isinstance(whole, LocalStore) or not chosen:
        return []
    blocks = [whole.rows_of(number) for number in chosen]
    owners = np.repeat(np.asarray(chosen, np.int64), [len(block) for block in blocks])
    store = LocalStore(np.concatenate(blocks), owners)
    best: dict[tuple[int, int], tuple[int, bool]] = {}
    for done, number in enumerate(chosen, start=1):
        features = stored_features(index, number)
        for cast in vote(features, store) if features is not None else ():
            other = cast.reference_id
            pair = (min(number, other), max(number, other))
            if other != number and cast.pairs >= max(MIN_PAIRS, best.get(pair, (0, False))[0]):
                best[pair] = (cast.pairs, cast.mirrored)
        if on_progress is not None:
            on_progress(done, len(chosen))
    return [
        Proposal(first, second, likeness(index, first, second)[0], mirrored, pairs)
        for (first, second), (pairs, mirrored) in sorted(best.items())
    ]


def stored_features(index: Searchable, reference_id: int) -> Features | None:
    """Return a reference's local features as stored; None where the index, or the reference, has none."""
    found = index.reference(reference_id)
    if found is None or not any(spec.name == "keypoints" for spec in index.specs):
        return None
    store = index.store("keypoints")
    rows = store.rows_of(reference_id)
    if len(rows) < keypoints.MIN_PAIRS or not isinstance(store, LocalStore):
        return None
    left, top, right, bottom = found[0].trim
    width, height = found[0].width * (right - left), found[0].height * (bottom - top)
    longest = max(width, height, 1.0)
    bits = np.asarray(rows, np.uint8)
    return Features(decode_places(bits), decode_vectors(bits), width / longest, height / longest)


def components(near: Mapping[int, Iterable[int]]) -> list[set[int]]:
    """Return what hangs together, the smallest number first: `near` names each one's neighbours, both ways."""
    seen: set[int] = set()
    found = []
    for start in sorted(near):
        if start in seen:
            continue
        component, waiting = {start}, [start]
        while waiting:
            for other in near[waiting.pop()]:
                if other not in component:
                    component.add(other)
                    waiting.append(other)
        seen |= component
        found.append(component)
    return found
