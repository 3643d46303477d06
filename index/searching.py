"""What every index can be asked, wherever its rows lie: describe a query, find candidates, say how unusual they are."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.calibration import Null
from index.catalog import OccurrenceRecord, ReferenceRecord
from index.descriptors import Descriptor, DescriptorSpec, Kind, create
from index.errors import GARBLED, DescriptorError, IndexCorruptError
from index.images import Picture
from index.keypoints import MAX_QUERY_FEATURES, Features, Vote, extract, vote
from index.regions import WINDOWS, windows_of
from index.vectors import BitStore, LocalStore, UnitStore

if TYPE_CHECKING:
    from index.reference_index import IndexInfo

PER_DESCRIPTOR = 20
"""References that each descriptor may propose."""

FUSION_CONSTANT = 60.0
"""k of reciprocal rank fusion (Cormack et al. 2009, https://doi.org/10.1145/1571941.1572114)."""

NEAR_DUPLICATE_PDQ = 31
"""PDQ distance up to which two references are near-duplicates: the field's standard bound, of 256 bits."""

CALIBRATED_WITH_EACH = 10_000
"""Up to so many references an index is calibrated anew whenever some were added; it takes less than a second."""

CALIBRATION_BEARS = 0.1
"""Share of new references that a larger index bears before it is calibrated anew: calibrating takes time in step with
all references (3.6 s at 100,000 on one busy core), whatever was added."""


@dataclass(frozen=True, slots=True)
class Query:
    """A picture described for searching.

    Attributes:
        picture: The picture.
        rows: By descriptor name: rows of the picture, and of its mirror image, each (N, width). Bit strings
            have one row a state, or none; unit rows have one for the whole, and one for each window of the
            picture as it is.
        features: Its local features; None where the index has none.
    """

    picture: Picture
    rows: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    features: Features | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A search hit: nothing is verified yet.

    Attributes:
        similarities: Best of both mirror states, by descriptor: 1 - distance / bits, or cosine.
        mirrored: The state in which it is most alike.
        vote: What local features say, or None.
        fused: Reciprocal rank fusion over descriptors; only its order means something.
    """

    reference_id: int
    similarities: dict[str, float]
    mirrored: bool
    vote: Vote | None
    fused: float


class Searchable(ABC):
    """An index that can be searched. Rows come from `store`; what is done with them is the same for all.

    Attributes:
        path: Where it is.
        specs: Its descriptors.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], *, device: str | None) -> None:
        """Take where it is, what its manifest says, and where neural descriptors run; None chooses."""
        self.path = path
        self.specs = tuple(DescriptorSpec.from_dict(each) for each in manifest["descriptors"])
        self._manifest = manifest
        self._device = device
        self._guard = threading.RLock()
        self._descriptors: dict[str, Descriptor] | None = None
        self._nulls: dict[str, Null] | None = None
        self._size: int | None = None
        self._wholes: BitStore | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Count the references."""

    @property
    def size(self) -> int:
        """How many references this index has; counted once for a reader."""
        with self._guard:
            if self._size is None:
                self._size = len(self)
            return self._size

    @property
    def keeps_thumbnails(self) -> bool:
        """Whether small copies of the pictures are kept."""
        return bool(self._manifest.get("thumbnails", True))

    @property
    def can_verify(self) -> bool:
        """Whether something is stored that a match can be verified with: local features, or small copies."""
        return self.keeps_thumbnails or any(spec.kind is Kind.LOCAL for spec in self.specs)

    @property
    def has_regions(self) -> bool:
        """Whether unit rows of windows are stored besides those of whole pictures."""
        return bool(self._manifest.get("regions", False))

    @property
    def has_squares(self) -> bool:
        """Whether rows of middle squares are stored besides those of whole pictures (`index.regions`)."""
        return bool(self._manifest.get("squares", False))

    def descriptors(self) -> dict[str, Descriptor]:
        """Return the index's descriptors by name, checked against its manifest.

        Raises:
            DescriptorError: This version, or the weights found, would give other rows than those stored.
        """
        with self._guard:
            if self._descriptors is None:
                made: dict[str, Descriptor] = {}
                for spec in self.specs:
                    descriptor = create(spec.name, device=self._device)
                    if descriptor.spec != spec:
                        raise DescriptorError(spec.name, _difference(self.name, spec, descriptor.spec))
                    made[spec.name] = descriptor
                self._descriptors = made
            return self._descriptors

    def share_descriptors(self, other: Searchable) -> None:
        """Take the loaded models of another state of this index, where they are the same, instead of loading them."""
        if other.specs == self.specs and other._device == self._device:
            with self._guard:
                self._descriptors = other.descriptors()

    @abstractmethod
    def store(self, name: str) -> BitStore | UnitStore | LocalStore:
        """Return the searchable rows of a descriptor.

        Raises:
            DescriptorError: The index lacks this descriptor.
        """

    def calibration(self) -> dict[str, Null]:
        """Return the null distributions by descriptor; empty where the index is too small for any.

        Raises:
            IndexCorruptError: What is stored is no calibration.
        """
        with self._guard:
            if self._nulls is None:
                try:
                    self._nulls = {n: Null.from_dict(values) for n, values in self._stored_nulls().items()}
                except GARBLED as error:
                    raise IndexCorruptError(
                        self.path, f"its calibration is garbled. Run: detector calibrate --index {self.name}"
                    ) from error
            return self._nulls

    @abstractmethod
    def _stored_nulls(self) -> dict[str, Any]:
        """Return what `calibration` was stored as: `Null.to_dict` by descriptor."""

    @property
    def calibration_is_stale(self) -> bool:
        """Whether references were added since the calibration: any, or in a large index more than it bears.

        By a build that was interrupted before it calibrated, for one. `Null.p_value` counts the references of today.
        """
        count = len(self)
        borne = CALIBRATION_BEARS * count if count > CALIBRATED_WITH_EACH else 0
        return self._added_since_calibration() > borne

    @abstractmethod
    def _added_since_calibration(self) -> int:
        """Return how many references the calibration does not know."""

    @abstractmethod
    def reference(self, reference_id: int) -> tuple[ReferenceRecord, tuple[OccurrenceRecord, ...]] | None:
        """Return a reference and its occurrences, or None where it is gone."""

    @abstractmethod
    def thumbnail(self, reference_id: int) -> bytes | None:
        """Return a reference's thumbnail as WebP, or None."""

    @abstractmethod
    def reference_ids(self) -> list[int]:
        """Return the ids of all references, ascending."""

    @abstractmethod
    def counts(self) -> tuple[int, int, int]:
        """Return how many references, occurrences and rejected files there are."""

    @abstractmethod
    def info(self) -> IndexInfo:
        """Return what this index is and holds."""

    @abstractmethod
    def id_of(self, sha256: str) -> int | None:
        """Return the id of the reference with this digest, or None."""

    @abstractmethod
    def forgotten(self) -> frozenset[str]:
        """Return the keys (`index.requests.forgotten_key`) of pictures that are not to be taken in again."""

    @abstractmethod
    def find_occurrences(
        self, *, path: str | None = None, artist: str | None = None, source_contains: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (path, reference id) of the occurrences that fit every given condition, by path."""

    @abstractmethod
    def named(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Yield (reference id, artist, extra columns) of the occurrences that have any, each triple once."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """How many commits it had seen when it was opened; 0 where none are counted."""

    @property
    @abstractmethod
    def manifest_sha256(self) -> str:
        """Digest of what says how its references were described."""

    @property
    def name(self) -> str:
        """Where it is, as a user names it."""
        return str(self.path)

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds open."""

    def __enter__(self) -> Searchable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spec(self, name: str) -> DescriptorSpec:
        """Return the spec of a descriptor of this index.

        Raises:
            DescriptorError: The index lacks this descriptor.
        """
        for spec in self.specs:
            if spec.name == name:
                return spec
        names = ", ".join(s.name for s in self.specs)
        raise DescriptorError(
            name, f"is not in {self.name}, which has {names}. Build it anew with --descriptors {names},{name}"
        )

    def describe(self, pictures: Sequence[Picture]) -> list[Query]:
        """Describe pictures for `search`, with every descriptor of this index and in both mirror states."""
        rows: list[dict[str, tuple[NDArray[Any], NDArray[Any]]]] = [{} for _ in pictures]
        features: list[Features | None] = [None] * len(pictures)
        descriptors = self.descriptors()
        for spec in self.specs:
            if spec.kind is Kind.LOCAL:
                features = [extract(picture, max_features=MAX_QUERY_FEATURES) for picture in pictures]
                continue
            descriptor = descriptors[spec.name]
            both = zip(descriptor.describe(pictures), descriptor.describe_mirrored(pictures), strict=True)
            for number, (whole, mirrored) in enumerate(both):
                if spec.kind is Kind.UNIT:
                    parts = descriptor.describe(windows_of(pictures[number]))
                    whole = np.concatenate([whole, *parts])
                rows[number][spec.name] = whole, mirrored
        return [Query(p, r, f) for p, r, f in zip(pictures, rows, features, strict=True)]

    def search(self, query: Query, *, k: int = 20) -> list[Candidate]:
        """Find the references most alike, over all descriptors and both mirror states.

        Args:
            query: From `describe`.
            k: At most this many.

        Returns:
            Candidates, best fused rank first. Nothing is verified.
        """
        fused: dict[int, float] = {}
        similarities: dict[int, dict[str, float]] = {}
        mirrored: dict[int, tuple[float, bool]] = {}
        votes: dict[int, Vote] = {}

        def rank(number: int, place: int) -> None:
            fused[number] = fused.get(number, 0.0) + 1.0 / (FUSION_CONSTANT + place)

        for spec in self.specs:
            store = self.store(spec.name)
            if isinstance(store, LocalStore):
                found = vote(query.features, store)[:PER_DESCRIPTOR] if query.features is not None else []
                for place, cast in enumerate(found, start=1):
                    rank(cast.reference_id, place)
                    votes[cast.reference_id] = cast
                continue
            best: dict[int, tuple[float, bool]] = {}
            whole, mirror = query.rows[spec.name]
            if not len(whole) + len(mirror):
                continue
            # Both states in one pass over the rows, which are read from memory once.
            reach = PER_DESCRIPTOR * (2 if self.has_squares else 1)
            found_rows = store.search(np.concatenate([whole, mirror]), reach)
            for place, (values, ids) in enumerate(zip(*found_rows, strict=True)):
                for value, number in zip(values.tolist(), ids.tolist(), strict=True):
                    if number >= 0 and value > best.get(number, (-np.inf, False))[0]:
                        best[number] = (value, place >= len(whole))
            order = sorted(best, key=lambda n: (-best[n][0], n))
            for place, number in enumerate(order[:PER_DESCRIPTOR], start=1):
                value, state = best[number]
                rank(number, place)
                similarities.setdefault(number, {})[spec.name] = value
                if value > mirrored.get(number, (-np.inf, False))[0]:
                    mirrored[number] = (value, state)
        candidates = []
        for number in sorted(fused, key=lambda n: (-fused[n], n))[:k]:
            best_vote = votes.get(number)
            state = mirrored[number][1] if best_vote is None else best_vote.mirrored
            alike = similarities.get(number, {})
            candidates.append(Candidate(number, alike, state, best_vote, fused[number]))
        return candidates

    def p_values(self, candidate: Candidate) -> dict[str, float]:
        """Return, by descriptor, the chance that an unrelated picture's best match is as near in this index.

        Empty where the index is too small to tell, or the candidate came by local features alone.
        """
        nulls = self.calibration()
        found = {}
        for name, value in candidate.similarities.items():
            if name in nulls:
                # Both mirror states were searched, of unit rows also the windows; the null stands on one row.
                states = 2 + len(WINDOWS) if self.spec(name).kind is Kind.UNIT else 2
                found[name] = nulls[name].p_value(value, self.size, states=states)
        return found

    def near_duplicates(self, reference_id: int) -> int:
        """Count the other references within `NEAR_DUPLICATE_PDQ` of this one, mirror images not counted."""
        return len(self.near_duplicate_ids(reference_id))

    def near_duplicate_ids(self, reference_id: int) -> list[int]:
        """Return the ids of what `near_duplicates` counts, ascending; none in an index without ``pdq``."""
        if "pdq" not in {spec.name for spec in self.specs}:
            return []
        with self._guard:
            if self._wholes is None:
                store = self.store("pdq")
                self._wholes = store.wholes() if isinstance(store, BitStore) else None
            wholes = self._wholes
        if wholes is None:
            return []
        found = {i for row in wholes.rows_of(reference_id) for i, _ in wholes.within(row, NEAR_DUPLICATE_PDQ)}
        return sorted(found - {reference_id})


def _difference(name: str, stored: DescriptorSpec, found: DescriptorSpec) -> str:
    """Say why rows that an index stores cannot be compared with those that a descriptor makes now."""
    if stored.weights_digest != found.weights_digest:
        return (
            f"{name} was built with other weights (SHA-256 {stored.weights_digest[:12]}…, found "
            f"{found.weights_digest[:12]}…). Use the same weights, or build the index anew"
        )
    if stored.version != found.version:
        return (
            f"{name} was built with version {stored.version} of it, this is version {found.version}. "
            "Build the index anew, or install the version that built it"
        )
    return f"{name} was built with other preprocessing. Build the index anew"
