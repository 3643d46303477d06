"""Near-duplicates of an index as clusters: proposals verified against a centre, nothing chained further."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from detector.detector import reference_of
from detector.duplicates import (
    DuplicateCluster,
    DuplicateMember,
    DuplicateProgress,
    Keep,
    Relation,
    Tie,
)
from detector.report import Occurrence, Reference
from detector.scoring import WHOLE, ScoringModel
from detector.verify import Verified, Verifier
from index.duplicates import (
    MAX_DISTANCES,
    Proposal,
    components,
    likeness,
    propose_parts,
    propose_whole,
    stored_features,
)
from index.errors import UnreadableImageError
from index.images import Picture, read_image
from index.keypoints import MAX_QUERY_FEATURES, extract
from index.searching import Candidate, Query, Searchable

SAME_COSINE = 0.99
"""Cosine from which two references are tied where an index has neural rows alone, and no pixels are at hand. Chosen,
not fitted: strict, since nothing confirms it."""

CACHED_QUERIES = 64
"""Described references held in memory: half a megabyte each."""
MANY_NEIGHBOURS = 24
"""Proposals from which on a picture may have more neighbours than the stores name."""

MIN_SHOWN_PIXELS = 0.5
"""Pixels that another picture gives to one that it shows whole, as a share of that one's own: with fewer,
something is lost where it is dropped."""

MAX_MISSES = 40
"""Proposals in a row that do not verify before a centre is given up: a thousand flat icons with like hashes
would otherwise cost half a million comparisons."""


def grouped(
    index: Searchable,
    scoring: ScoringModel,
    *,
    parts: bool,
    keep: Keep,
    on_progress: DuplicateProgress | None = None,
) -> tuple[DuplicateCluster, ...]:
    """Find and verify near-duplicates, and group them.

    Whole pictures first: of pictures that hang together by proposals, the one with most of them becomes a
    centre, and those that verify against it are tied to it. Then the same among centres and single pictures
    with what shares parts. So a picture is at most three verified ties from the centre of its cluster.

    Returns:
        Clusters, most copies first.
    """
    comparer = _Comparer(index, scoring)
    forest = _Forest(comparer, on_progress)
    forest.grow(propose_whole(index), "verifying whole pictures")
    if parts:
        said = None if on_progress is None else (lambda done, of: on_progress("seeking parts", done, of))
        proposals = propose_parts(index, forest.roots(index.reference_ids()), on_progress=said)
        forest.grow(proposals, "verifying parts")
    found = [_cluster(comparer, tree, keep) for tree in forest.trees()]
    found += [_cluster(comparer, {number: None}, keep) for number in _repeated_files(index, forest)]
    found.sort(key=lambda c: (-c.copies, c.keep))
    return tuple(replace(cluster, id=number) for number, cluster in enumerate(found, start=1))


def _repeated_files(index: Searchable, forest: _Forest) -> list[int]:
    """Single pictures whose very file lies at several places."""
    info = index.info()
    if info.references == info.occurrences:
        return []
    alone = forest.roots(index.reference_ids(), alone=True)
    return [n for n in alone if (found := index.reference(n)) is not None and len(found[1]) > 1]


class _Comparer:
    """Verifies references against references of one index."""

    def __init__(self, index: Searchable, scoring: ScoringModel) -> None:
        self._index = index
        self._scoring = scoring
        self._verifier = Verifier(index)
        self._has_keypoints = any(spec.name == "keypoints" for spec in index.specs)
        self._references: dict[int, Reference] = {}
        self._query = lru_cache(maxsize=CACHED_QUERIES)(self._described)

    def reference(self, number: int) -> Reference:
        """Return a reference with its places."""
        if number not in self._references:
            found = reference_of(self._index, number)
            self._references[number] = found if found is not None else Reference(number, "", 0, 0, ())
        return self._references[number]

    def pixels(self, number: int) -> int:
        """Return how many pixels a reference has."""
        return self.reference(number).width * self.reference(number).height

    def near(self, one: int, other: int) -> bool:
        """Say whether hashes alone would propose a pair."""
        similarities, _ = likeness(self._index, one, other)
        return _pdq_of(similarities) <= MAX_DISTANCES["pdq"]

    def tie(self, member: int, centre: int, *, mirrored: bool | None = None) -> Tie | None:
        """Verify a picture against another; None where it does not repeat it.

        Args:
            member: Id of the one.
            centre: Id of the other.
            mirrored: The state to try first; None: what hashes say.
        """
        query, seen = self._query(member)
        similarities, leaning = likeness(self._index, member, centre)
        state = leaning if mirrored is None else mirrored
        verified = self._verifier.verify(query, Candidate(centre, similarities, state, None, 0.0))
        level = self._scoring.level(verified.evidence)
        if level < 3:
            could_look = seen and self._query(centre)[1]
            if could_look or not (
                _pdq_of(similarities) <= MAX_DISTANCES["pdq"] or _same_to_a_model(similarities)
            ):
                return None
        relation = self._relation(member, centre, verified, level)
        return Tie(
            to=centre,
            relation=relation,
            level=level,
            score=self._scoring.score(verified.evidence),
            mirrored=verified.mirrored,
            evidence=verified.evidence,
            region=verified.query_region,
            region_there=verified.reference_region,
        )

    def _relation(self, member: int, centre: int, verified: Verified, level: int) -> Relation:
        evidence = verified.evidence
        if level < 3:  # hashes of the whole picture decided, or a model's rows
            return Relation.NEAR_COPY
        if not verified.mirrored and self._same_pixels(member, centre):
            return Relation.IDENTICAL
        if evidence.template:
            return Relation.TEMPLATE
        here, there = evidence.coverage or 0.0, evidence.reference_coverage or 0.0
        if min(here, there) >= WHOLE:
            return Relation.NEAR_COPY
        if max(here, there) < WHOLE:
            return Relation.PART
        if there > here:
            return Relation.CONTAINS
        shown = there * self.pixels(centre) / max(here * self.pixels(member), 1.0)
        return Relation.CROP if shown >= MIN_SHOWN_PIXELS else Relation.INSET

    def _same_pixels(self, one: int, other: int) -> bool:
        """Equal size and equal bytes of the thumbnail, which the same pixels always give."""
        first, second = self.reference(one), self.reference(other)
        if (first.width, first.height) != (second.width, second.height):
            return False
        stored = self._index.thumbnail(one)
        return stored is not None and stored == self._index.thumbnail(other)

    def _described(self, number: int) -> tuple[Query, bool]:
        """Return a reference as a query, and whether there are pixels of it to look at."""
        reference = self.reference(number)
        for image in (self._index.thumbnail(number), *(o.path for o in reference.occurrences)):
            try:
                picture = read_image(image) if image is not None else None
            except UnreadableImageError:
                continue
            if picture is not None and (isinstance(image, bytes) or picture.sha256 == reference.sha256):
                features = extract(picture, max_features=MAX_QUERY_FEATURES) if self._has_keypoints else None
                return Query(picture, {}, features), True
        width, height = reference.width, reference.height
        longest = max(width, height, 1)
        # Only its shape is looked at: on blank pixels no comparison agrees.
        blank = np.zeros((max(1, 320 * height // longest), max(1, 320 * width // longest), 3), np.uint8)
        picture = Picture(blank, width, height, "", "")
        return Query(picture, {}, stored_features(self._index, number)), False


class _Forest:
    """Who is tied to whom: trees whose roots are the centres of clusters."""

    def __init__(self, comparer: _Comparer, on_progress: DuplicateProgress | None) -> None:
        self._comparer = comparer
        self._on_progress = on_progress
        self._ties: dict[int, Tie] = {}
        self._parents: set[int] = set()

    def roots(self, ids: Iterable[int], *, alone: bool = False) -> list[int]:
        """Return those that are tied to nothing (and, with `alone`, that nothing is tied to)."""
        return [n for n in ids if n not in self._ties and not (alone and n in self._parents)]

    def trees(self) -> list[dict[int, Tie | None]]:
        """Return each tree of two or more: its members with their ties, None for the root."""
        found: dict[int, dict[int, Tie | None]] = {}
        for number in sorted(self._parents - set(self._ties)):
            found[number] = {number: None}
        for number in sorted(self._ties):
            found[self._root(number)][number] = self._ties[number]
        return list(found.values())

    def _root(self, number: int) -> int:
        while number in self._ties:
            number = self._ties[number].to
        return number

    def grow(self, proposals: Sequence[Proposal], said: str) -> None:
        """Verify proposals between roots and tie what repeats a centre."""
        near: dict[int, dict[int, Proposal]] = defaultdict(dict)
        for proposal in proposals:
            near[proposal.first][proposal.second] = proposal
            near[proposal.second][proposal.first] = proposal
        done = 0
        for component in components(near):
            self._stars(component, near)
            done += len(component)
            if self._on_progress is not None:
                self._on_progress(said, done, len(near))

    def _stars(self, component: set[int], near: dict[int, dict[int, Proposal]]) -> None:
        tied: set[int] = set()
        left = set(component)
        degree = {n: len(near[n]) for n in component}
        left_over: list[int] = []
        while left:
            centre = max(left, key=lambda n: (degree[n], self._comparer.pixels(n), -n))
            left.discard(centre)
            star = self._star(centre, left, near)
            if not star:
                left_over.append(centre)
            else:
                tied |= {centre, *star}
                left -= set(star)
            for gone in (centre, *star):
                for other in near[gone]:
                    degree[other] -= 1
        for number in left_over:
            for other in sorted(near[number]):
                if other in tied and self._try(number, other, near):
                    break

    def _star(self, centre: int, left: set[int], near: dict[int, dict[int, Proposal]]) -> list[int]:
        proposed = [n for n in sorted(near[centre]) if n in left]
        # Of many neighbours a store proposes the nearest only; the others are measured.
        further = sorted(left - set(proposed)) if len(near[centre]) >= MANY_NEIGHBOURS else []
        star, misses = [], 0
        for number in proposed + [n for n in further if self._comparer.near(n, centre)]:
            if self._try(number, centre, near):
                star.append(number)
                misses = 0
            elif (misses := misses + 1) >= MAX_MISSES:
                break
        return star

    def _try(self, member: int, centre: int, near: dict[int, dict[int, Proposal]]) -> bool:
        proposal = near[member].get(centre)
        tie = self._comparer.tie(member, centre, mirrored=proposal.mirrored if proposal else None)
        if tie is None:
            return False
        self._ties[member] = tie
        self._parents.add(centre)
        return True


def _pdq_of(similarities: dict[str, float]) -> int:
    return round((1.0 - similarities.get("pdq", 0.0)) * 256)


def _same_to_a_model(similarities: dict[str, float]) -> bool:
    """Whether neural rows, which are all there is, are nearly equal."""
    cosines = [value for name, value in similarities.items() if name not in MAX_DISTANCES]
    return len(cosines) == len(similarities) and max(cosines, default=0.0) >= SAME_COSINE


def _cluster(comparer: _Comparer, tree: dict[int, Tie | None], keep: Keep) -> DuplicateCluster:
    references = {number: comparer.reference(number) for number in tree}
    kept = _kept(tree, references, keep)
    members = [
        DuplicateMember(
            reference,
            number in kept,
            _kept_path(reference, keep) if number in kept else "",
            tree[number],
        )
        for number, reference in references.items()
    ]
    root = next(number for number, tie in tree.items() if tie is None)
    first = next(n for n in kept if _is_whole(tree, n, root))
    members.sort(key=lambda m: (m.reference.id != first, -_level(m), -_score(m), m.reference.id))
    copies = sum(len(reference.occurrences) for reference in references.values()) - 1
    return DuplicateCluster(0, tuple(members), first, copies)


def _level(member: DuplicateMember) -> int:
    return member.tie.level if member.tie is not None else 6


def _score(member: DuplicateMember) -> float:
    return member.tie.score if member.tie is not None else 1.0


def _kept(tree: dict[int, Tie | None], references: dict[int, Reference], keep: Keep) -> set[int]:
    """One picture of each group in which all is shown by its head: what shows more than that stays."""
    groups: dict[int, list[int]] = defaultdict(list)
    for number in tree:
        head = number
        while (tie := tree[head]) is not None and tie.relation.repeats:
            head = tie.to
        groups[head].append(number)
    kept = set()
    for head, numbers in groups.items():
        whole = [references[n] for n in numbers if _is_whole(tree, n, head)]
        kept.add(_best(whole).id if keep is Keep.BEST else min(reference.id for reference in whole))
    return kept


def _is_whole(tree: dict[int, Tie | None], number: int, head: int) -> bool:
    """Say whether a picture is its group's head, or a whole copy of it."""
    while number != head:
        tie = tree[number]
        if tie is None or tie.relation not in (Relation.IDENTICAL, Relation.NEAR_COPY):
            return False
        number = tie.to
    return True


def _best(references: Sequence[Reference]) -> Reference:
    def rank(reference: Reference) -> tuple[int, tuple[int, int, int], int]:
        credits = max((_credited(o) for o in reference.occurrences), default=(0, 0, 0))
        return reference.width * reference.height, credits, -reference.id

    return max(references, key=rank)


def _kept_path(reference: Reference, keep: Keep) -> str:
    if not reference.occurrences:
        return ""
    if keep is Keep.FIRST:
        return reference.occurrences[0].path
    return max(reference.occurrences, key=_credited).path


def _credited(place: Occurrence) -> tuple[int, int, int]:
    return bool(place.licence.strip()), bool(place.artist.strip()), bool(place.title.strip())
