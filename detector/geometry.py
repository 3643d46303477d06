"""One transformation between the local features of two pictures: hypotheses, guided matching, refinement.

All places are in units of each picture's long side, so that one unit is as long in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.keypoints import Features, agreement

FloatArray = NDArray[np.float64]

MAX_RATIO = 0.92
"""Ratio of nearest to second nearest distance up to which a pair may support a hypothesis. Lowe 2004 takes
0.8 to keep few wrong pairs; here the geometry removes them, and re-rendered pictures need the doubtful ones."""

MAX_HYPOTHESES = 250
"""Pairs, most distinctive first, that each fix a transformation to try."""

MAX_SQUARED_DISTANCE = 0.6
"""Largest squared distance of RootSIFT vectors (0–2) for a pair found by the transformation; unrelated
features lie near 1.0, the pairs of a JPEG at quality 20 near 0.15."""

INLIER_RATIO = 0.85
"""Ratio up to which a pair found along the transformation counts as an inlier, and a pair as a match."""

TOLERANCE = 0.02
"""Largest distance between a projected feature and its partner: 6 of 320 pixels, for local warps."""


CLOSE = 0.25 * TOLERANCE
"""Distance, 1.6 of 320 pixels, within which pairs decide between an affine map and a homography. Within
`TOLERANCE` an affine map explains nearly as many pairs of a slanted photograph, and is off by 3–20 % of the long side
at its corners, where pixels then do not agree: so in nearly all of 31 missed among 120 photographs of works."""

MIN_GAIN = 1.1
"""How many times as many pairs lie that close to a homography that replaces an affine map."""

MIN_TILTED = 12
"""Pairs from which a homography is tried: three equations for each of its eight unknowns."""

PLACE_NOISE = 0.005
USUAL_TILT = 0.25
"""Standard deviations of a pair's place and of a homography's tilt, both in long-side units: their ratio is the
ridge that keeps few pairs from fixing a tilt."""

MIN_SURE = 16
"""Inliers from which other pairs may be left out of a part's region; fewer may be chance themselves (of 1,000
unrelated pictures one was a false alarm without this bound)."""

MIN_MOVED = 0.08
"""Shift of the middle inlier, in fractions of the frames, from which a part is in another place."""

MIN_PART = 0.1
"""Share of the reference inside the inliers' hull from which they are a part of a picture. Posters that share a
word or two have regions below 0.12 (49 of 54 pairs), pasted parts that are found above 0.19 (all)."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """What connects two pictures.

    Attributes:
        matrix: float64, (3, 3): homography from query places to reference places, both in long-side units.
        matches: Pairs that pass the ratio test, whatever the geometry.
        inliers: Those of them that the transformation explains, each feature used once.
        here: float64, (N, 2): places in the query of all pairs found along the transformation, distinctive
            or not.
        there: float64, (N, 2): in the reference.
        sure: bool, (N,): which of them are inliers.
        reference_frame: Width and height of the reference, in its long-side units.
    """

    matrix: FloatArray
    matches: int
    inliers: int
    here: FloatArray
    there: FloatArray
    sure: NDArray[np.bool_]
    reference_frame: tuple[float, float]

    def anchors(self, frame: tuple[float, float]) -> FloatArray:
        """Return the places in the query between which pixels must agree: float64, (N, 2), long-side units.

        Pairs that are not distinctive lie all over the host of a pasted part by chance, and would stretch its
        region; of a large part in another place the inliers alone count. Elsewhere all pairs do: what differs
        between features that stayed where they were is another content in the same template.

        Args:
            frame: Width and height of the query, in its long-side units.
        """
        import cv2

        if self.inliers < MIN_SURE:
            return self.here
        here, there = self.here[self.sure], self.there[self.sure] / self.reference_frame
        in_place = np.median(np.abs(here / frame - there).max(axis=1)) < MIN_MOVED
        large = cv2.contourArea(cv2.convexHull(there.astype(np.float32))) >= MIN_PART
        return here if large and not in_place else self.here


def align(query: Features, reference: Features) -> Alignment | None:
    """Find the transformation that most pairs of features agree on.

    Args:
        query: Features of the query, mirrored already where that state is tried.
        reference: Features of the reference, as stored.

    Returns:
        The best alignment, or None where no two pairs agree on a plausible one.
    """
    if len(query) < 3 or len(reference) < 3:
        return None
    squared = np.maximum(2.0 - 2.0 * (query.vectors @ reference.vectors.T), 0.0)
    nearest, ratio = _ratios(squared, reference.places)
    tried = np.argsort(ratio, kind="stable")[:MAX_HYPOTHESES]
    tried = tried[ratio[tried] < MAX_RATIO]
    if len(tried) < 2:
        return None
    weight = 1.0 - ratio[tried].astype(np.float64)
    matrix = _best_similarity(query.places[tried], reference.places[nearest[tried]], weight)
    if matrix is None:
        return None
    alike = _Alike.of(query, reference, squared)
    pairs = (tried, nearest[tried])
    for tolerance in (2.5 * TOLERANCE, 1.5 * TOLERANCE, TOLERANCE, TOLERANCE):
        pairs = alike.along(matrix, tolerance)
        if len(pairs[0]) < 3:
            return None
        fitted = _fit_affine(query.places[pairs[0], :2], reference.places[pairs[1], :2])
        if fitted is None or not is_plausible(fitted):
            break
        matrix = fitted
    matrix, pairs = _as_homography(alike, matrix, pairs)
    if not is_plausible(matrix):
        return None
    distinctive = ratio < INLIER_RATIO
    feature, partner = pairs
    sure = distinctive[feature] & (nearest[feature] == partner)
    return Alignment(
        matrix=matrix,
        matches=int(distinctive.sum()),
        inliers=int(sure.sum()),
        here=query.places[feature, :2].astype(np.float64),
        there=reference.places[partner, :2].astype(np.float64),
        sure=sure,
        reference_frame=(reference.width, reference.height),
    )


def _ratios(
    squared: NDArray[Any], places: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Each query feature's nearest reference feature, and how much nearer it is than the next spot's: 0–1."""
    rows = np.arange(len(squared))[:, None]
    some = min(5, squared.shape[1])
    few = np.argpartition(squared, some - 1, axis=1)[:, :some]
    few = np.take_along_axis(few, np.argsort(squared[rows, few], axis=1, kind="stable"), axis=1)
    near = squared[rows, few]
    # One spot often carries several features (angles, scales): they are no rivals of each other.
    away = places[few, :2] - places[few[:, :1], :2]
    rivals = np.where((away**2).sum(axis=2) > 0.015**2, near, np.float32(2.0))
    second = rivals.min(axis=1)
    return few[:, 0].astype(np.int64), np.sqrt(near[:, 0] / np.maximum(second, 1e-9))


@dataclass(frozen=True, slots=True)
class _Alike:
    """All pairs that look alike enough to be found along a transformation, sparse."""

    query: Features
    reference: Features
    feature: NDArray[np.int64]
    partner: NDArray[np.int64]
    cost: NDArray[np.float32]
    growth: NDArray[np.float32]
    turn: NDArray[np.float32]

    @classmethod
    def of(cls, query: Features, reference: Features, squared: NDArray[np.float32]) -> _Alike:
        feature, partner = np.nonzero(squared < MAX_SQUARED_DISTANCE)
        change = reference.places[partner, 2:] - query.places[feature, 2:]
        cost = squared[feature, partner]
        return cls(query, reference, feature, partner, cost, change[:, 0], change[:, 1])

    def along(self, matrix: FloatArray, tolerance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs that lie where the transformation says and agree in scale and angle, one to one."""
        scale, turn = _scale_and_turn(matrix)
        kept = np.flatnonzero(np.abs(self.growth - np.float32(np.log2(scale))) < 0.7)
        kept = kept[_apart(self.turn[kept], np.float32(turn)) < 0.5]
        projected = project(matrix, self.query.places[:, :2])[self.feature[kept]]
        off = projected - self.reference.places[self.partner[kept], :2]
        bound = tolerance * min(max(scale, 0.5), 2.0)
        kept = kept[(off**2).sum(axis=1) < bound**2]
        kept = kept[np.argsort(self.cost[kept], kind="stable")]
        # Cheapest first, so a first occurrence is a feature's best; mutual bests remain.
        feature, partner = self.feature[kept], self.partner[kept]
        first_here = np.zeros(len(kept), bool)
        first_here[np.unique(feature, return_index=True)[1]] = True
        first_there = np.zeros(len(kept), bool)
        first_there[np.unique(partner, return_index=True)[1]] = True
        mutual = first_here & first_there
        return feature[mutual], partner[mutual]


def _best_similarity(
    here: NDArray[np.float32], there: NDArray[np.float32], weight: NDArray[np.float64]
) -> FloatArray | None:
    agree = agreement(here, there)
    support = agree @ weight
    top = int(support.argmax())
    if int(agree[top].sum()) < 2:
        return None
    scale = float(np.exp2(np.clip(there[top, 2] - here[top, 2], -4.0, 4.0)))
    turn = there[top, 3] - here[top, 3]
    c, s = float(np.cos(turn)) * scale, float(np.sin(turn)) * scale
    x, y = float(here[top, 0]), float(here[top, 1])
    u, v = float(there[top, 0]), float(there[top, 1])
    return np.array([[c, -s, u - c * x + s * y], [s, c, v - s * x - c * y], [0.0, 0.0, 1.0]])


def _fit_affine(here: NDArray[Any], there: NDArray[Any]) -> FloatArray | None:
    """Least squares, drawn towards a similarity where pairs are few: an affine map has too much freedom there."""
    here, there = here.astype(np.float64), there.astype(np.float64)
    similarity = _fit_similarity(here, there)
    if similarity is None or len(here) < 6:
        return similarity
    design = np.column_stack([here, np.ones(len(here))])
    centre = here.mean(axis=0)
    spread = max(float(here.std()), 1e-3)
    # Four pseudo-points of the similarity around the pairs' centre, one pair's weight each.
    corners = centre + spread * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    design = np.vstack([design, np.column_stack([corners, np.ones(4)])])
    target = np.vstack([there, project(similarity, corners)])
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    return np.vstack([solution.T, [0.0, 0.0, 1.0]])


def _fit_similarity(here: FloatArray, there: FloatArray) -> FloatArray | None:
    a, b = here - here.mean(axis=0), there - there.mean(axis=0)
    total = float((a**2).sum())
    if total < 1e-8:
        return None
    c = float((a * b).sum()) / total
    s = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / total
    turn = np.array([[c, -s], [s, c]])
    shift = there.mean(axis=0) - turn @ here.mean(axis=0)
    return np.vstack([np.column_stack([turn, shift]), [0.0, 0.0, 1.0]])


def _fit_homography(here: NDArray[Any], there: NDArray[Any]) -> FloatArray | None:
    """Least squares, tilt drawn towards none: few pairs, or pairs close together, leave an affine map.

    The direct linear transformation on centred places (Hartley & Zisserman 2004, section 4.1); the pairs were found
    along a map already, so that wrong ones are few and the guided rounds drop them.
    """
    here, there = here.astype(np.float64), there.astype(np.float64)
    centre, goal = here.mean(axis=0), there.mean(axis=0)
    x, y = (here - centre).T
    u, v = (there - goal).T
    one, none = np.ones(len(x)), np.zeros(len(x))
    # u (g x + h y + 1) = a x + b y + c, and the same for v: linear in the eight unknowns, depth about 1.
    rows_u = np.column_stack([x, y, one, none, none, none, -x * u, -y * u])
    rows_v = np.column_stack([none, none, none, x, y, one, -x * v, -y * v])
    prior = np.zeros((2, 8))
    prior[0, 6] = prior[1, 7] = PLACE_NOISE / USUAL_TILT
    solution, _, rank, _ = np.linalg.lstsq(
        np.vstack([rows_u, rows_v, prior]), np.concatenate([u, v, [0.0, 0.0]]), rcond=None
    )
    if rank < 8:
        return None
    moved = np.append(solution, 1.0).reshape(3, 3)
    back = np.array([[1.0, 0.0, goal[0]], [0.0, 1.0, goal[1]], [0.0, 0.0, 1.0]])
    forth = np.array([[1.0, 0.0, -centre[0]], [0.0, 1.0, -centre[1]], [0.0, 0.0, 1.0]])
    return np.asarray(back @ moved @ forth, np.float64)


def _as_homography(
    alike: _Alike, matrix: FloatArray, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[FloatArray, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Take a homography instead where more pairs lie close to it (a photograph of a print)."""
    if len(pairs[0]) < MIN_TILTED:
        return matrix, pairs
    homography = matrix
    for tolerance in (2.5 * TOLERANCE, 1.5 * TOLERANCE, TOLERANCE, TOLERANCE):
        feature, partner = alike.along(homography, tolerance)
        if len(feature) < MIN_TILTED:
            return matrix, pairs
        found = _fit_homography(alike.query.places[feature, :2], alike.reference.places[partner, :2])
        if found is None or not is_plausible(found):
            return matrix, pairs
        homography = found
    close = len(alike.along(matrix, CLOSE)[0])
    closer = len(alike.along(homography, CLOSE)[0])
    if closer <= MIN_GAIN * close:
        return matrix, pairs
    return homography, alike.along(homography, TOLERANCE)


def is_plausible(matrix: FloatArray) -> bool:
    """Say whether a transformation could come from an edit: no collapse, flip, extreme scale, shear or tilt."""
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-6:
        return False
    linear = matrix[:2, :2] / matrix[2, 2]
    if np.linalg.det(linear) <= 0:
        return False
    large, small = np.linalg.svd(linear, compute_uv=False)
    tilt = float(np.abs(matrix[2, :2] / matrix[2, 2]).max())
    return bool(large < 12.0 and small > 1.0 / 12.0 and large / small < 2.5 and tilt < 0.7)


PAIR_CHANCE = 0.002
"""Chance that a wrong pair lies within `TOLERANCE` of a given place: the circle's share of a frame of 1 × 0.63.
That it must agree in scale and angle too is left out, so that the chance is too large rather than too small."""


def chance_of(matches: int, inliers: int, *, references: int) -> float:
    """Return the chance of so many inliers among wrong pairs alone, over all that was tried.

    The binomial model of Lowe 2004 (section 7.3), times the number of tests as in a-contrario matching (Moisan &
    Stival 2004, https://doi.org/10.1023/B:VISI.0000013094.38752.4e): hypotheses, mirror states, references.

    Args:
        matches: Pairs that pass the ratio test.
        inliers: Those that one transformation explains; the pair that fixed it counts as none.
        references: Size of the gallery.
    """
    pairs, agreeing = max(matches - 1, 0), max(inliers - 1, 0)
    if agreeing == 0:
        return 1.0
    tail = 0.0
    for count in range(agreeing, pairs + 1):
        ways = math.lgamma(pairs + 1) - math.lgamma(count + 1) - math.lgamma(pairs - count + 1)
        term = math.exp(ways + count * math.log(PAIR_CHANCE) + (pairs - count) * math.log1p(-PAIR_CHANCE))
        tail += term
        if term < 1e-3 * tail:
            break
    tests = 2.0 * MAX_HYPOTHESES * max(references, 1)
    return min(1.0, tail * tests)


def area(polygon: FloatArray) -> float:
    """Return the area of a polygon, (N, 2), corners in order."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2.0)


def project(matrix: FloatArray, points: NDArray[Any]) -> FloatArray:
    """Apply a homography to points, (N, 2)."""
    ends = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    depth = ends[:, 2:]
    depth = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return np.asarray(ends[:, :2] / depth, np.float64)


def _scale_and_turn(matrix: FloatArray) -> tuple[float, float]:
    linear = matrix[:2, :2] / matrix[2, 2]
    scale = float(np.sqrt(max(np.linalg.det(linear), 1e-9)))
    return scale, float(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))


def _apart(one: NDArray[Any], other: NDArray[Any] | np.float32) -> NDArray[Any]:
    """Angle between two directions, 0–π, each the difference of two angles in [-π, π]."""
    away = np.abs(one - other)
    # Up to two whole turns lie between differences of angles.
    away = np.where(away > 2 * np.pi, away - np.float32(2 * np.pi), away)
    return np.minimum(away, np.abs(np.float32(2 * np.pi) - away))
