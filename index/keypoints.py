"""Local features of a picture: extraction, coding into rows, the mirrored state, and voting.

RootSIFT (Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94; Arandjelović & Zisserman 2012,
https://doi.org/10.1109/CVPR.2012.6248018) at 320 px, product-quantised (Jégou et al. 2011,
https://doi.org/10.1109/TPAMI.2010.57). A vote's geometry is checked with the similarity transformation that a
single pair of features fixes (position, scale, angle), as in Philbin et al. 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.descriptors import DescriptorSpec, Kind
from index.images import Picture

if TYPE_CHECKING:
    from index.vectors import LocalStore

FloatArray = NDArray[np.float32]

SIDE = 320
"""Long side, in pixels, at which features are extracted. Larger pictures are shrunk to it."""

SMALL_SIDE = 256
"""Pictures with a shorter long side are enlarged to this first: at 128 px too few features are left."""

CONTRAST = 0.02
"""SIFT's contrast threshold; half of OpenCV's default, for soft re-renderings."""

MAX_REFERENCE_FEATURES = 400
"""Strongest features kept of a reference: 16.8 kB. At 250 recall on pasted parts falls by 4 points of 92."""

MAX_QUERY_FEATURES = 500
"""Strongest features kept of a query."""

CODE_BYTES = 32
LIST_COUNT = 1024
ROW_BYTES = CODE_BYTES + 2 + 2 + 2 + 1 + 1
"""Code, inverted list, x, y (16 bits each), log2 scale, angle (8 bits each)."""

_LOG_SCALE_MIN, _LOG_SCALE_STEP = -10.0, 1.0 / 25.0

_CENTRE = 0.25
"""What OpenCV's SIFT places lack, in pixels, of lying between the edges 0 and width: half a pixel is in the
middle of the first, and doubling the picture has added a quarter. Mirroring would shift them without it."""

_bins = np.arange(128).reshape(4, 4, 8)
MIRROR_ORDER: NDArray[np.int64] = _bins[::-1][:, :, (-np.arange(8)) % 8].ravel()
"""Where each of a SIFT descriptor's 128 bins goes when the picture is mirrored: the 4×4 grid, which is laid
along the feature's angle, turns over across it, and gradient angles change sign. Within 17 of 512 of the
descriptor extracted anew."""


@dataclass(frozen=True, slots=True)
class Features:
    """Local features of one picture.

    Attributes:
        places: float32, (N, 4): x, y in units of the picture's long side; log2 of the diameter in the same
            unit; angle in radians, (-π, π].
        vectors: float32, (N, 128), unit length (RootSIFT).
        width: Picture width in units of its long side, 0–1.
        height: Likewise.
    """

    places: FloatArray
    vectors: FloatArray
    width: float
    height: float

    def __len__(self) -> int:
        return len(self.places)

    def mirrored(self) -> Features:
        """Return the features of the mirrored picture, without extracting again."""
        places = self.places.copy()
        places[:, 0] = self.width - places[:, 0]
        places[:, 3] = _wrapped(np.pi - places[:, 3])
        return Features(places, self.vectors[:, MIRROR_ORDER], self.width, self.height)


def _wrapped(angle: NDArray[Any]) -> NDArray[Any]:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def extract(picture: Picture, *, max_features: int) -> Features:
    """Extract at most `max_features` features, the strongest by contrast.

    Deterministic: the same pixels give the same features in the same order.
    """
    return extract_rated(picture, max_features=max_features)[0]


def extract_rated(picture: Picture, *, max_features: int) -> tuple[Features, FloatArray]:
    """Extract like `extract`, and return the contrast of each feature too: float32, (N,)."""
    import cv2

    grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
    longest = max(grey.shape)
    side = min(max(longest, SMALL_SIDE), SIDE)
    if side != longest:
        size = tuple(max(1, round(n * side / longest)) for n in grey.shape[::-1])
        how = cv2.INTER_AREA if side < longest else cv2.INTER_CUBIC
        grey = cv2.resize(grey, size, interpolation=how)
    unit = float(max(grey.shape))
    width, height = grey.shape[1] / unit, grey.shape[0] / unit
    found: Any = ()
    if min(grey.shape) >= 16:
        sift = cv2.SIFT_create(nfeatures=max_features, contrastThreshold=CONTRAST)
        found, raw = sift.detectAndCompute(grey, None)
    if not found:
        none = Features(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float32), width, height)
        return none, np.zeros(0, np.float32)
    values = [(*p.pt, p.size, np.deg2rad(p.angle)) for p in found[:max_features]]
    places = np.asarray(values, np.float32)
    places[:, :2] = (places[:, :2] + _CENTRE) / unit
    places[:, 2] = np.log2(places[:, 2] / unit)
    places[:, 3] = _wrapped(places[:, 3])
    vectors = np.asarray(raw[:max_features], np.float32)
    vectors = np.sqrt(vectors / np.maximum(vectors.sum(axis=1, keepdims=True), 1e-9))
    rated = np.asarray([p.response for p in found[:max_features]], np.float32)
    return Features(places, vectors, width, height), rated


def use_threads(count: int) -> None:
    """Let OpenCV use at most `count` threads of its own, in this process."""
    import cv2

    cv2.setNumThreads(count)


@dataclass(frozen=True, slots=True)
class Codebook:
    """The quantisers that all keypoint rows share; trained once, shipped, never per index.

    Attributes:
        coarse: float32, (1024, 128): centres of the inverted lists.
        code: float32, (32, 256, 4): centres of the product quantiser, by group of four dimensions.
    """

    coarse: FloatArray
    code: FloatArray


@lru_cache(maxsize=1)
def codebook() -> Codebook:
    """Load the shipped codebook (`index/weights/keypoints/README.md` says how it was trained)."""
    folder = resources.files("index") / "weights" / "keypoints"
    arrays = []
    for name in ("coarse.npy", "codebook.npy"):
        with resources.as_file(folder / name) as path:
            arrays.append(np.load(path, allow_pickle=False).astype(np.float32))
    return Codebook(arrays[0], arrays[1])


def encode(features: Features) -> NDArray[np.uint8]:
    """Code features into rows: uint8, (N, 40)."""
    book = codebook()
    vectors = features.vectors
    rows = np.zeros((len(features), ROW_BYTES), np.uint8)
    if not len(features):
        return rows
    groups = vectors.reshape(len(vectors), CODE_BYTES, 4)
    norms = (book.code**2).sum(axis=2)
    for group in range(CODE_BYTES):
        away = norms[group] - 2.0 * (groups[:, group] @ book.code[group].T)
        rows[:, group] = away.argmin(axis=1)
    lists = ((book.coarse**2).sum(axis=1) - 2.0 * (vectors @ book.coarse.T)).argmin(axis=1).astype("<u2")
    xy = np.clip(np.rint(features.places[:, :2] * 65535.0), 0, 65535).astype("<u2")
    scale = np.rint((features.places[:, 2] - _LOG_SCALE_MIN) / _LOG_SCALE_STEP)
    angle = np.rint((features.places[:, 3] + np.pi) / (2 * np.pi) * 256.0)
    rows[:, 32:34] = lists[:, None].view(np.uint8)
    rows[:, 34:38] = np.ascontiguousarray(xy).view(np.uint8)
    rows[:, 38] = np.clip(scale, 0, 255).astype(np.uint8)
    rows[:, 39] = angle.astype(np.int64) % 256
    return rows


def decode_places(rows: NDArray[np.uint8]) -> FloatArray:
    """Return the places (see `Features`) of rows: float32, (N, 4)."""
    places = np.empty((len(rows), 4), np.float32)
    places[:, :2] = np.ascontiguousarray(rows[:, 34:38]).view("<u2").astype(np.float32) / 65535.0
    places[:, 2] = rows[:, 38] * np.float32(_LOG_SCALE_STEP) + np.float32(_LOG_SCALE_MIN)
    places[:, 3] = rows[:, 39] * np.float32(2 * np.pi / 256.0) - np.float32(np.pi)
    return places


def decode_vectors(rows: NDArray[np.uint8]) -> FloatArray:
    """Return the approximate vectors of rows: float32, (N, 128), about unit length."""
    book = codebook()
    return book.code[np.arange(CODE_BYTES)[None, :], rows[:, :CODE_BYTES]].reshape(len(rows), 128)


def decode_lists(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the inverted list of each row: int64, (N,), 0–1023."""
    return np.ascontiguousarray(rows[:, 32:34]).view("<u2").astype(np.int64).ravel()


class KeypointDescriptor:
    """Many rows a picture; finds pasted and cropped parts, and verifies without pixels."""

    batched = False

    @property
    def spec(self) -> DescriptorSpec:
        """What makes its rows comparable."""
        preprocessing = {"side": SIDE, "small_side": SMALL_SIDE, "contrast": CONTRAST, "codebook": 1}
        return DescriptorSpec("keypoints", 1, Kind.LOCAL, ROW_BYTES, preprocessing)

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Describe pictures: (N, 40) uint8 rows each, N up to `MAX_REFERENCE_FEATURES`, also 0."""
        return [encode(extract(picture, max_features=MAX_REFERENCE_FEATURES)) for picture in pictures]

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """The same for the mirrored pictures."""
        found = (extract(picture, max_features=MAX_REFERENCE_FEATURES) for picture in pictures)
        return [encode(features.mirrored()) for features in found]


@dataclass(frozen=True, slots=True)
class Vote:
    """What the features of a query say for one reference, in one mirror state.

    Attributes:
        reference_id: The reference.
        mirrored: The query's features were mirrored first.
        support: Summed weight of the pairs that agree on one similarity transformation.
        pairs: How many distinct features of the query those pairs hold.
    """

    reference_id: int
    mirrored: bool
    support: float
    pairs: int


NEIGHBOURS = 4
"""Nearest rows asked for per feature; the last one only sets the distance of "nothing in particular"."""

MIN_WEIGHT = 0.02
MIN_PAIRS = 3
"""Votes of fewer agreeing pairs are chance: one pair fixes the transformation, a second agrees often."""

SHORTLIST = 24
"""References per mirror state, by plain votes, whose geometry is looked at."""


def vote(features: Features, store: LocalStore, *, shortlist: int = SHORTLIST) -> list[Vote]:
    """Find references that share parts with a query, in both mirror states.

    Args:
        features: Of the query.
        store: Rows of the index.
        shortlist: References per mirror state, by plain votes, whose geometry is looked at.

    Returns:
        The better mirror state of each reference with `MIN_PAIRS` agreeing pairs, most support first.
    """
    if len(features) < MIN_PAIRS or not len(store):
        return []
    tried = (features, features.mirrored())
    distances, rows = store.search(np.concatenate([s.vectors for s in tried]), NEIGHBOURS)
    best: dict[int, Vote] = {}
    for number, state in enumerate(tried):
        part = slice(number * len(features), (number + 1) * len(features))
        near = distances[part], rows[part]
        for found in _votes_of_state(state, near, store, mirrored=bool(number), shortlist=shortlist):
            kept = best.get(found.reference_id)
            if kept is None or found.support > kept.support:
                best[found.reference_id] = found
    return sorted(best.values(), key=lambda v: (-v.support, v.reference_id))


def _votes_of_state(
    features: Features,
    near: tuple[FloatArray, NDArray[np.int64]],
    store: LocalStore,
    *,
    mirrored: bool,
    shortlist: int,
) -> list[Vote]:
    distances, rows = near
    # A pair counts by how much nearer it is than the farthest neighbour asked for (an adaptive ratio test).
    # Where fewer rows were met than asked for, there is no such neighbour, and each counts whole.
    known = rows[:, -1] >= 0
    weights = np.ones_like(distances)
    weights[known] -= distances[known] / np.maximum(distances[known, -1:], 1e-6)
    feature, column = np.nonzero((rows >= 0) & (weights > MIN_WEIGHT))
    if feature.size < MIN_PAIRS:
        return []
    weight = weights[feature, column]
    row = rows[feature, column]
    owners, dense = np.unique(store.owners(row), return_inverse=True)
    totals = np.bincount(dense, weight)
    first = np.argsort(-totals, kind="stable")[:shortlist]
    first = first[np.bincount(dense)[first] >= MIN_PAIRS]
    looked_at = np.flatnonzero(np.isin(dense, first))
    places = store.places(row[looked_at])
    found = []
    for number in first:
        chosen = np.flatnonzero(dense[looked_at] == number)
        mine = looked_at[chosen]
        here, there = features.places[feature[mine]], places[chosen]
        agree = agreement(here, there)
        support = agree @ weight[mine]
        top = int(support.argmax())
        kept = agree[top]
        if int(kept.sum()) < MIN_PAIRS:  # neither features nor places can be more
            continue
        cells = np.unique(np.rint(there[kept, :2] * 200.0), axis=0)
        pairs = min(len(np.unique(feature[mine][kept])), len(cells))
        if pairs >= MIN_PAIRS:
            found.append(Vote(int(owners[number]), mirrored, float(support[top]), pairs))
    return found


def agreement(here: FloatArray, there: FloatArray) -> NDArray[np.bool_]:
    """Say which pairs agree with the similarity transformation that each single pair fixes.

    Args:
        here: float32, (N, 4): places (see `Features`) of each pair in one picture.
        there: Likewise in the other.

    Returns:
        bool, (N, N): row i says which pairs lie where the transformation of pair i puts them.
    """
    growth = there[:, 2] - here[:, 2]
    turn = there[:, 3] - here[:, 3]
    scale = np.exp2(np.clip(growth, -4.0, 4.0))
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    dx = here[None, :, 0] - here[:, None, 0]
    dy = here[None, :, 1] - here[:, None, 1]
    away_x = cosine[:, None] * dx - sine[:, None] * dy + there[:, None, 0] - there[None, :, 0]
    away_y = sine[:, None] * dx + cosine[:, None] * dy + there[:, None, 1] - there[None, :, 1]
    near = np.hypot(away_x, away_y) < 0.04 * np.clip(scale, 0.5, 3.0)[:, None]
    same_growth = np.abs(growth[None, :] - growth[:, None]) < 0.6
    away = np.abs(turn[None, :] - turn[:, None])
    same_turn = (away < 0.4) | (np.abs(away - 2 * np.pi) < 0.4) | (np.abs(away - 4 * np.pi) < 0.4)
    agreed: NDArray[np.bool_] = near & same_growth & same_turn
    return agreed
