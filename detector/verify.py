"""Candidate → evidence: keypoints and a transformation, aligned pixels, regions in both pictures."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector import pixels
from detector.geometry import Alignment, FloatArray, align, area, project
from detector.report import SQUARE, WHOLE_PICTURE, Evidence, Point
from detector.scoring import WHOLE
from index.catalog import ReferenceRecord
from index.errors import UnreadableImageError
from index.images import Picture, read_image
from index.keypoints import (
    MAX_QUERY_FEATURES,
    MAX_REFERENCE_FEATURES,
    Features,
    decode_places,
    decode_vectors,
    extract,
)
from index.regions import middle_square
from index.searching import Candidate, Query, Searchable
from index.thumbnails import SIDE as THUMBNAIL_SIDE
from index.vectors import BitStore, LocalStore

WHOLE_FRAME = (0.0, 0.0, 1.0, 1.0)

MIN_INLIERS = 6
"""Pairs that must agree before pixels are looked at."""

GOOD_AGREEMENT = 0.75
"""Below, an alignment from features is refined on pixels, and the better of both is kept."""

MIN_DENSE_AGREEMENT = 0.5
"""Share of structured spots that must agree for a match without keypoints."""

MAX_DENSE_PDQ = 90
MAX_DENSE_PHASH = 14
MIN_DENSE_COSINE = 0.8
"""How near a whole-picture descriptor must be for a try at dense alignment, which starts frame on frame."""

MIN_TEMPLATE_DIFFERENCE = 0.08
"""Share of the structure that one differing piece must hold for a template copy; a line of text is less."""

MAX_TEMPLATE_CORRELATION = 0.15
MIN_TEMPLATE_REST = 0.75
"""What tells another content in the same frame from a worn rendering, which correlates a little everywhere."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What verification says of one candidate."""

    evidence: Evidence
    mirrored: bool = False
    query_region: tuple[Point, ...] = ()
    reference_region: tuple[Point, ...] = ()


@dataclass(slots=True)
class Verifier:
    """Verifies candidates of one query at a time against one index.

    Args:
        index: Where stored features and thumbnails come from.
    """

    index: Searchable
    _has_keypoints: bool = field(init=False)

    def __post_init__(self) -> None:
        self._has_keypoints = any(spec.name == "keypoints" for spec in self.index.specs)

    def verify(self, query: Query, candidate: Candidate) -> Verified:
        """Measure what a candidate and a query share.

        Args:
            query: From `ReferenceIndex.describe`.
            candidate: From `ReferenceIndex.search` with that query.

        Returns:
            Evidence, with `verification` saying how it was got, and the regions.
        """
        measured = {**_hash_evidence(candidate), "reference_frame": self._frame(query, candidate)}
        found_reference = self.index.reference(candidate.reference_id)
        if found_reference is not None and found_reference[0].sha256 == query.picture.sha256:
            return _identical(measured)
        states = [candidate.mirrored, not candidate.mirrored]
        reference = self._pixels(candidate.reference_id)
        found = self._align(query, candidate, reference, states)
        if found is not None:
            alignment, mirrored = found
            return self._by_keypoints(query, reference, alignment, mirrored, measured)
        if reference is None:
            how = "none" if self._has_keypoints else "unverified"
            return Verified(Evidence(**measured, verification=how), candidate.mirrored)
        if not _may_be_whole(measured):
            return Verified(Evidence(**measured, verification="none"), candidate.mirrored)
        return _by_pixels(query, reference, candidate.mirrored, measured)

    def _frame(self, query: Query, candidate: Candidate) -> str:
        """What of the reference the query's hashes are nearest to: the whole, or its middle square."""
        for name in ("pdq", "phash"):
            if name not in candidate.similarities or name not in query.rows:
                continue
            store = self.index.store(name)
            rows = store.rows_of(candidate.reference_id)
            if len(rows) < 2 or not isinstance(store, BitStore):
                continue
            asked = np.concatenate(query.rows[name])
            differing = np.unpackbits(asked[:, None] ^ rows[None], axis=2).sum(axis=2)
            return SQUARE if differing[:, 1].min() < differing[:, 0].min() else WHOLE_PICTURE
        return WHOLE_PICTURE

    def _pixels(self, reference_id: int) -> NDArray[np.uint8] | None:
        """The reference's thumbnail; without one its own file, where that still is what was indexed."""
        data = self.index.thumbnail(reference_id)
        if data is not None:
            # A damaged small copy is no reason to measure nothing: the file may be there.
            with contextlib.suppress(UnreadableImageError):
                return read_image(data, max_pixels=THUMBNAIL_SIDE**2).pixels
        found = self.index.reference(reference_id)
        if found is None:
            return None
        record, occurrences = found
        for occurrence in occurrences:
            try:
                picture = read_image(occurrence.path, trim_border=record.trim != WHOLE_FRAME)
            except UnreadableImageError:
                continue
            if picture.sha256 == record.sha256:
                small = picture.to_pil().copy()
                small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
                return np.asarray(small)
        return None

    def _align(
        self, query: Query, candidate: Candidate, pixels: NDArray[np.uint8] | None, states: list[bool]
    ) -> tuple[Alignment, bool] | None:
        reference = self._features(candidate.reference_id, pixels)
        if reference is None or len(reference) < 3:
            return None
        features = query.features
        if features is None:  # an index without keypoints: its thumbnails serve
            features = extract(query.picture, max_features=MAX_QUERY_FEATURES)
        best: tuple[Alignment, bool] | None = None
        for mirrored in states:
            found = align(features.mirrored() if mirrored else features, reference)
            if found is not None and (best is None or found.inliers > best[0].inliers):
                best = found, mirrored
            if best is not None and best[0].inliers >= 2 * MIN_INLIERS:
                break
        if best is None or best[0].inliers < MIN_INLIERS:
            return None
        return best

    def _features(self, reference_id: int, pixels: NDArray[np.uint8] | None) -> Features | None:
        if not self._has_keypoints:
            if pixels is None:
                return None
            picture = Picture(pixels, pixels.shape[1], pixels.shape[0], "", "")
            return extract(picture, max_features=MAX_REFERENCE_FEATURES)
        store = self.index.store("keypoints")
        found = self.index.reference(reference_id)
        if found is None or not isinstance(store, LocalStore):
            return None
        return _stored_features(store.rows_of(reference_id), *_described_size(found[0]))

    def _by_keypoints(
        self,
        query: Query,
        reference: NDArray[np.uint8] | None,
        alignment: Alignment,
        mirrored: bool,
        measured: dict[str, Any],
    ) -> Verified:
        measured = {
            **measured,
            "matches": alignment.matches,
            "inliers": alignment.inliers,
            "guided": len(alignment.here),
        }
        if reference is None:
            return _without_pixels(query.picture, alignment, mirrored, measured)
        shown = _shown(query.picture, mirrored)
        height, width = shown.shape[:2]
        anchors = alignment.anchors((width / max(width, height), height / max(width, height)))
        compared = pixels.compare(shown, reference, alignment.matrix, anchors)
        if compared is None or compared.agreement < GOOD_AGREEMENT:
            refined = pixels.refine(shown, reference, alignment.matrix)
            better = None if refined is None else pixels.compare(shown, reference, refined, anchors)
            if better is not None and (compared is None or better.agreement > compared.agreement):
                compared = better
        if compared is None:
            return _without_pixels(query.picture, alignment, mirrored, measured)
        return _with_pixels(compared, mirrored, measured, "keypoints")


def _identical(measured: dict[str, Any]) -> Verified:
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    evidence = Evidence(
        **measured,
        coverage=1.0,
        reference_coverage=1.0,
        aligned_similarity=1.0,
        tiled_l2=0.0,
        agreement=1.0,
        exactness=1.0,
        verification="identical",
    )
    return Verified(evidence, False, whole, whole)


def _by_pixels(
    query: Query, reference: NDArray[np.uint8], mirrored: bool, measured: dict[str, Any]
) -> Verified:
    shown = _shown(query.picture, mirrored)
    tried = [pixels.frame_on_frame(shown, reference), pixels.align_dense(shown, reference)]
    square = middle_square(*reference.shape[:2])
    if square is not None:
        left, top, side = square
        part = np.ascontiguousarray(reference[top : top + side, left : left + side])
        placed = np.array([[side, 0, left], [0, side, top], [0, 0, max(reference.shape)]]) / max(
            reference.shape
        )
        found = (pixels.frame_on_frame(shown, part), pixels.align_dense(shown, part))
        tried += [None if matrix is None else placed @ matrix for matrix in found]
    maps = [matrix for matrix in tried if matrix is not None]
    compared = [c for matrix in maps if (c := pixels.compare(shown, reference, matrix)) is not None]
    best = max(compared, key=lambda c: c.overlap_agreement, default=None)
    if best is None or best.overlap_agreement < MIN_DENSE_AGREEMENT:
        return Verified(Evidence(**measured, verification="none"), mirrored)
    return _with_pixels(best, mirrored, measured, "dense")


def _with_pixels(compared: pixels.Comparison, mirrored: bool, measured: dict[str, Any], how: str) -> Verified:
    evidence = Evidence(
        **measured,
        coverage=round(compared.coverage, 4),
        reference_coverage=round(compared.reference_coverage, 4),
        aligned_similarity=round(compared.similarity, 4),
        tiled_l2=round(compared.tiled_l2, 4),
        agreement=round(compared.agreement, 4),
        exactness=round(compared.exactness, 4),
        verification=how,
        template=_is_template(compared),
    )
    here = _polygon(compared.query_region, mirrored)
    return Verified(evidence, mirrored, here, _polygon(compared.reference_region, False))


def _is_template(compared: pixels.Comparison) -> bool:
    """Whole picture shared but for one region (Webster 2023, arXiv:2305.08694)."""
    whole = min(compared.coverage, compared.reference_coverage) >= WHOLE
    another = compared.differing_correlation <= MAX_TEMPLATE_CORRELATION
    same = compared.rest_agreement >= MIN_TEMPLATE_REST
    return whole and another and same and compared.differing >= MIN_TEMPLATE_DIFFERENCE


def _without_pixels(
    picture: Picture, alignment: Alignment, mirrored: bool, measured: dict[str, Any]
) -> Verified:
    """Regions from the inliers alone: their hull, a little wider, since features lie inside the shared part."""
    import cv2

    hull = cv2.convexHull(alignment.here.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    centre = hull.mean(axis=0)
    hull = centre + 1.15 * (hull - centre)
    width, height = picture.pixels.shape[1], picture.pixels.shape[0]
    frame = np.array([width, height]) / max(width, height)
    hull = np.clip(hull, 0.0, frame)
    here = hull / frame
    there = project(alignment.matrix, hull)
    there = np.clip(there / np.array(alignment.reference_frame), 0.0, 1.0)
    evidence = Evidence(
        **measured,
        coverage=round(area(here), 4),
        reference_coverage=round(area(there), 4),
        verification="keypoints",
    )
    return Verified(evidence, mirrored, _polygon(here, mirrored), _polygon(there, False))


def _may_be_whole(measured: dict[str, Any]) -> bool:
    near_pdq = measured.get("pdq_distance", 256) <= MAX_DENSE_PDQ
    near_phash = measured.get("phash_distance", 64) <= MAX_DENSE_PHASH
    return near_pdq or near_phash or max(measured["cosines"].values(), default=0.0) >= MIN_DENSE_COSINE


def _hash_evidence(candidate: Candidate) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cosines = {}
    for name, similarity in candidate.similarities.items():
        if name == "pdq":
            found["pdq_distance"] = round((1.0 - similarity) * 256)
        elif name == "phash":
            found["phash_distance"] = round((1.0 - similarity) * 64)
        else:
            cosines[name] = round(similarity, 4)
    found["cosines"] = cosines
    if candidate.vote is not None:
        found["votes"] = round(candidate.vote.support, 3)
    return found


def _described_size(record: ReferenceRecord) -> tuple[float, float]:
    left, top, right, bottom = record.trim
    return record.width * (right - left), record.height * (bottom - top)


def _stored_features(rows: NDArray[np.uint8], width: float, height: float) -> Features:
    longest = max(width, height, 1.0)
    return Features(decode_places(rows), decode_vectors(rows), width / longest, height / longest)


def _shown(picture: Picture, mirrored: bool) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture.pixels[:, ::-1]) if mirrored else picture.pixels


def _polygon(points: FloatArray, mirrored: bool) -> tuple[Point, ...]:
    return tuple((round(1.0 - x if mirrored else x, 4), round(y, 4)) for x, y in points.tolist())
