"""Pixels of two aligned pictures compared: where they agree, how alike they are there, and dense alignment.

Pictures are compared in grey at `SIDE`, the reference warped into the query's frame.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.geometry import FloatArray, area, is_plausible, project

SIDE = 256
"""Long side, in pixels, of the query's frame in which pixels are compared."""

WINDOW = 13
"""Side of the window of local correlation, in pixels of that frame."""

MIN_LOCAL_CORRELATION = 0.45
"""Local correlation from which a spot counts as showing the same. Unrelated textures reach it in one spot of
twelve, a re-rendering keeps it in eight of ten."""

EXACT_CORRELATION = 0.85
"""Local correlation of the same strokes at the same places. Text laid over a copy leaves the rest this exact;
photographs of the same thing, taken anew, seldom get there."""

NEIGHBOURHOOD = 13
"""Side of the window, in pixels, over which agreeing spots are counted to find the region's border."""

PIECE_CORRELATION = 0.8
"""Mean local correlation from which a piece without an anchor belongs to the shared region."""

FLAT = 3.0
"""Standard deviation of grey (0–255) in a window below which it has no structure to correlate."""

DENSE_SIDE = 96
"""Long side of the frame in which dense alignment is sought."""

REFINE_SIDE = 192
"""Long side of the frame in which an alignment from features is refined."""

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two aligned pictures are where they overlap.

    Attributes:
        query_region: float64, (N, 2): polygon of the shared region, in fractions of the query as compared.
        reference_region: float64, (N, 2): the same corners, in fractions of the reference.
        coverage: Share of the query's area inside the region, 0–1.
        reference_coverage: Share of the reference's area inside it, 0–1.
        similarity: Mean structural similarity inside the region, after matching brightness and contrast, -1–1.
        tiled_l2: Root mean square difference of the worst of 4×4 tiles of the region, 0–1.
        agreement: Share of the structured part of the region that shows the same, 0–1.
        exactness: Share of that part whose local correlation is at least `EXACT_CORRELATION`.
        overlap_agreement: The same over all of the overlap of both frames.
        differing: Largest connected piece of the region's structure that shows something else, as a share of
            that structure, 0–1.
        differing_correlation: Mean local correlation inside that piece, -1–1: about 0 for another content,
            higher for a worn rendering of the same.
        rest_agreement: Like `agreement`, outside that piece.
    """

    query_region: FloatArray
    reference_region: FloatArray
    coverage: float
    reference_coverage: float
    similarity: float
    tiled_l2: float
    agreement: float
    exactness: float
    overlap_agreement: float
    differing: float
    differing_correlation: float
    rest_agreement: float


def compare(
    query: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    matrix: FloatArray,
    anchors: FloatArray | None = None,
) -> Comparison | None:
    """Compare two pictures under a transformation.

    Args:
        query: uint8, (H, W, 3), mirrored already where that state is tried.
        reference: uint8, (h, w, 3).
        matrix: Homography from query to reference, both in units of their long sides.
        anchors: float64, (N, 2): places in the query, long-side units, known to be shared; None: everywhere.

    Returns:
        None where the two do not overlap, or nothing in the overlap agrees.
    """
    import cv2

    here = _at_side(query, SIDE)
    height, width = here.shape[:2]
    # Both sides at a like resolution: a reference shown small would otherwise be compared with sharper pixels.
    to_reference = _pixel_matrix(matrix, (width, height), (reference.shape[1], reference.shape[0]))
    there = cv2.warpPerspective(
        _softened(reference, to_reference),
        np.linalg.inv(to_reference),
        (width, height),
        flags=cv2.INTER_LINEAR,
    )
    solid = np.full(reference.shape[:2], 255, np.uint8)
    inside = cv2.warpPerspective(solid, np.linalg.inv(to_reference), (width, height)) > 127
    if int(inside.sum()) < 64:
        return None
    grey_here = cv2.cvtColor(here, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey_there = cv2.cvtColor(there, cv2.COLOR_RGB2GRAY).astype(np.float32)
    correlation, structured = local_correlation(grey_here, grey_there)
    # A shift of one pixel or two is a re-rendering's, not another picture's.
    alike = (correlation > MIN_LOCAL_CORRELATION) & structured & inside
    overlap_agreement = float(alike.sum() / max(int((structured & inside).sum()), 1))
    region = _region(alike, correlation, structured, inside, _anchor_pixels(anchors, (width, height)))
    if region is None:
        return None
    mask, polygon = region
    within = structured & mask
    piece = _largest_difference(alike, within)
    rest = within & ~piece
    similarity = _structural_similarity(grey_here, grey_there, mask)
    worst = _tiled_l2(here, there, mask)
    corners = polygon / np.array([width, height], np.float64)
    ends = project(to_reference, polygon)
    size = np.array([reference.shape[1], reference.shape[0]], np.float64)
    reference_corners = np.clip(ends / size, 0.0, 1.0)
    return Comparison(
        query_region=np.clip(corners, 0.0, 1.0),
        reference_region=reference_corners,
        coverage=area(corners),
        reference_coverage=area(reference_corners),
        similarity=similarity,
        tiled_l2=worst,
        agreement=float((alike & mask).sum() / max(int(within.sum()), 1)),
        exactness=float(
            (alike & mask & (correlation >= EXACT_CORRELATION)).sum() / max(int(within.sum()), 1)
        ),
        overlap_agreement=overlap_agreement,
        differing=float(piece.sum() / max(int(within.sum()), 1)),
        differing_correlation=float(correlation[piece].mean()) if piece.any() else 1.0,
        rest_agreement=float((alike & rest).sum() / max(int(rest.sum()), 1)),
    )


def local_correlation(
    here: NDArray[np.float32], there: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the correlation in a window round each pixel, -1–1, and where both have structure to correlate."""
    import cv2

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.boxFilter(values, -1, (WINDOW, WINDOW)), np.float32)

    mean_here, mean_there = mean(here), mean(there)
    variance_here = np.maximum(mean(here * here) - mean_here**2, 0.0)
    variance_there = np.maximum(mean(there * there) - mean_there**2, 0.0)
    shared = mean(here * there) - mean_here * mean_there
    correlation = shared / np.sqrt(np.maximum(variance_here * variance_there, 1e-3))
    structured = (variance_here > FLAT**2) | (variance_there > FLAT**2)
    return correlation, structured


def _at_side(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    import cv2

    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest == side:
        return pixels
    size = (max(8, round(width * side / longest)), max(8, round(height * side / longest)))
    how = cv2.INTER_AREA if longest > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def _softened(reference: NDArray[np.uint8], to_reference: FloatArray) -> NDArray[np.uint8]:
    import cv2

    step = float(np.sqrt(abs(np.linalg.det(to_reference[:2, :2] / to_reference[2, 2]))))
    if step <= 1.3:
        return reference
    return np.asarray(cv2.GaussianBlur(reference, (0, 0), 0.4 * step), np.uint8)


def _pixel_matrix(matrix: FloatArray, size: tuple[int, int], reference: tuple[int, int]) -> FloatArray:
    """Long-side units → pixels: from the query's compared frame to the reference's pixels."""
    shrink = np.diag([1.0 / max(size), 1.0 / max(size), 1.0])
    grow = np.diag([float(max(reference)), float(max(reference)), 1.0])
    return np.asarray(grow @ matrix @ shrink, np.float64)


def _anchor_pixels(anchors: FloatArray | None, size: tuple[int, int]) -> NDArray[np.int64] | None:
    if anchors is None:
        return None
    pixels = np.rint(anchors * max(size)).astype(np.int64)
    return np.clip(pixels, 0, np.array(size) - 1)


def _region(
    alike: NDArray[np.bool_],
    correlation: NDArray[np.float32],
    structured: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    anchors: NDArray[np.int64] | None,
) -> tuple[NDArray[np.bool_], FloatArray] | None:
    """The part of the overlap that agrees, holes and flat spots filled, as mask and convex polygon."""
    import cv2

    def kernel(side: int) -> NDArray[np.uint8]:
        return np.ones((side, side), np.uint8)

    # A spot belongs to the region where most of the structure round it agrees; the border of a pasted part lies
    # where half of the neighbourhood does.
    weight = (structured & inside).astype(np.float32)
    near = (NEIGHBOURHOOD, NEIGHBOURHOOD)
    agreeing = cv2.boxFilter(alike.astype(np.float32), -1, near)
    share = agreeing / np.maximum(cv2.boxFilter(weight, -1, near), 1e-6)
    dense = ((share > 0.55) & (agreeing > 0.02)).astype(np.uint8)
    joined = cv2.morphologyEx(dense, cv2.MORPH_CLOSE, kernel(9))
    joined = (joined > 0) & inside
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    if anchors is None:
        wanted = {int(stats[1:, cv2.CC_STAT_AREA].argmax()) + 1}
    else:
        hits = np.bincount(labels[anchors[:, 1], anchors[:, 0]], minlength=count)
        hits[0] = 0
        wanted = {int(n) for n in np.flatnonzero(hits >= max(2, 0.08 * hits.sum()))}
        if not wanted:
            return None
    # Text or an object laid over a copy cuts it into pieces: others of size that agree well belong to it.
    least = max(64, 0.02 * int(inside.sum()))
    sums = np.bincount(labels[alike], correlation[alike], minlength=count)
    means = sums / np.maximum(np.bincount(labels[alike], minlength=count), 1)
    wanted |= {
        n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= least and means[n] >= PIECE_CORRELATION
    }
    kept = np.isin(labels, list(wanted))
    if anchors is not None:
        # Soft spots between features that agree are part of what is shared.
        between = np.zeros(alike.shape, np.uint8)
        cv2.fillConvexPoly(between, cv2.convexHull(anchors.astype(np.int32)), 1)
        kept |= (between > 0) & inside
    if int((kept & alike).sum()) >= 0.8 * int((structured & inside).sum()):
        kept = inside  # nearly all structure agrees: flat margins belong to it
    contours, _ = cv2.findContours(kept.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))
    polygon = cv2.approxPolyDP(hull, 2.0, True).reshape(-1, 2).astype(np.float64)
    if len(polygon) < 3:
        return None
    mask = np.zeros(alike.shape, np.uint8)
    cv2.fillConvexPoly(mask, polygon.astype(np.int32), 1)
    # Contours run through pixel centres; the region reaches half a pixel further.
    centre = polygon.mean(axis=0)
    polygon = polygon + 0.5 + 0.5 * np.sign(polygon - centre)
    return (mask > 0) & inside, polygon


def _structural_similarity(
    here: NDArray[np.float32], there: NDArray[np.float32], mask: NDArray[np.bool_]
) -> float:
    import cv2

    a, b = here[mask], there[mask]
    spread = float(b.std())
    if spread < 1e-3 or float(a.std()) < 1e-3:
        return 0.0
    matched = (there - b.mean()) * (float(a.std()) / spread) + a.mean()

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), 1.5), np.float32)

    mean_a, mean_b = mean(here), mean(matched)
    variance_a = mean(here * here) - mean_a**2
    variance_b = mean(matched * matched) - mean_b**2
    shared = mean(here * matched) - mean_a * mean_b
    value = ((2 * mean_a * mean_b + _C1) * (2 * shared + _C2)) / (
        (mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2)
    )
    return float(value[mask].mean())


def _tiled_l2(here: NDArray[np.uint8], there: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Largest tile's root mean square difference over 4×4 tiles (Carlini et al. 2023, arXiv:2301.13188)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    squared = ((here.astype(np.float32) - there.astype(np.float32)) / 255.0) ** 2
    squared = squared.mean(axis=2)
    worst = 0.0
    row_edges = np.linspace(rows[0], rows[-1] + 1, 5).astype(int)
    column_edges = np.linspace(columns[0], columns[-1] + 1, 5).astype(int)
    for top, bottom in itertools.pairwise(row_edges):
        for left, right in itertools.pairwise(column_edges):
            inside = mask[top:bottom, left:right]
            if inside.sum() >= 16:
                worst = max(worst, float(squared[top:bottom, left:right][inside].mean()))
    return float(np.sqrt(worst))


def _largest_difference(alike: NDArray[np.bool_], structured: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of structure, away from spots that agree, as a mask."""
    import cv2

    differs = structured & ~cv2.dilate(alike.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(differs.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros(alike.shape, bool)
    return np.asarray(labels == int(stats[1:, cv2.CC_STAT_AREA].argmax()) + 1)


def align_dense(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> FloatArray | None:
    """Align two pictures of the same frame without features: line art, flat design, soft re-renderings.

    Starts with frame laid on frame and refines an affine map by enhanced correlation (Evangelidis & Psarakis
    2008, https://doi.org/10.1109/TPAMI.2008.113).

    Returns:
        Homography from query to reference in units of their long sides; None where it does not converge.
    """
    import cv2

    here = cv2.cvtColor(_at_side(query, DENSE_SIDE), cv2.COLOR_RGB2GRAY)
    there = cv2.cvtColor(_at_side(reference, DENSE_SIDE), cv2.COLOR_RGB2GRAY)
    start = np.array(
        [[there.shape[1] / here.shape[1], 0, 0], [0, there.shape[0] / here.shape[0], 0]], np.float32
    )
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    mask: Any = None
    try:
        _, found = cv2.findTransformECC(here, there, start, cv2.MOTION_AFFINE, criteria, mask, 5)
    except cv2.error:
        return None
    matrix = np.vstack([found.astype(np.float64), [0.0, 0.0, 1.0]])
    shrink = np.diag([1.0 / max(there.shape), 1.0 / max(there.shape), 1.0])
    grow = np.diag([float(max(here.shape)), float(max(here.shape)), 1.0])
    matrix = shrink @ matrix @ grow
    return matrix if is_plausible(matrix) else None


def refine(query: NDArray[np.uint8], reference: NDArray[np.uint8], matrix: FloatArray) -> FloatArray | None:
    """Better an alignment from features by a pixel or two, which is what fine lines need to agree.

    Args:
        query: uint8, (H, W, 3).
        reference: uint8, (h, w, 3).
        matrix: Homography from query to reference in units of their long sides, off by little.

    Returns:
        The same, refined by an affine map in the query's frame; None where that does not converge.
    """
    import cv2

    here = _at_side(query, REFINE_SIDE)
    height, width = here.shape[:2]
    to_reference = _pixel_matrix(matrix, (width, height), (reference.shape[1], reference.shape[0]))
    back = np.linalg.inv(to_reference)
    there = cv2.warpPerspective(_softened(reference, to_reference), back, (width, height))
    inside = cv2.warpPerspective(np.full(reference.shape[:2], 255, np.uint8), back, (width, height))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-4)
    grey_here, grey_there = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (here, there))
    try:
        _, found = cv2.findTransformECC(
            grey_there, grey_here, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria, inside, 5
        )
    except cv2.error:
        return None
    # `found` leads from the warped reference's frame to the query's: both are the query's frame in pixels.
    step = np.vstack([found.astype(np.float64), [0.0, 0.0, 1.0]])
    grow = np.diag([float(max(width, height))] * 2 + [1.0])
    refined = matrix @ np.linalg.inv(grow) @ np.linalg.inv(step) @ grow
    return refined if is_plausible(refined) else None


def frame_on_frame(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> FloatArray:
    """The map that lays the query's frame on the reference's, stretched; long-side units."""
    (height, width), (high, wide) = query.shape[:2], reference.shape[:2]
    x = (wide / max(high, wide)) / (width / max(height, width))
    y = (high / max(high, wide)) / (height / max(height, width))
    return np.diag([x, y, 1.0])
