"""`detector.geometry`, `detector.pixels`, `detector.verify`: what two pictures share, and where."""

from __future__ import annotations

import io
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from detector import Detector, pixels
from detector.geometry import Alignment, align, chance_of, is_plausible, project
from detector.report import Evidence, Verdict
from detector.verify import MIN_DENSE_AGREEMENT, MIN_INLIERS, Verified, Verifier
from index.build import BuildOptions, build_index
from index.images import read_image
from index.keypoints import Features, extract
from index.reference_index import ReferenceIndex
from index.searching import Candidate

SEED = 31
SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "artworks"
Matrix = np.ndarray[Any, Any]


def picture(name: str, side: int = 320) -> Image.Image:
    with Image.open(SAMPLES / name) as image:
        opened = image.convert("RGB")
    opened.thumbnail((side, side), Image.Resampling.BICUBIC)
    return opened


def features(image: Image.Image, count: int = 400) -> Features:
    return extract(read_image(image), max_features=count)


def frame(image: Image.Image) -> Matrix:
    return np.array(image.size, float) / max(image.size)


def similarity(scale: float, degrees: float, x: float, y: float) -> Matrix:
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, x], [s, c, y], [0.0, 0.0, 1.0]])


def warped(image: Image.Image, forth: Matrix) -> tuple[Image.Image, Matrix]:
    """Warp a picture by a map in its long-side units; return the truth, from the warped one back to it."""
    import cv2

    long = float(max(image.size))
    grow = np.diag([long, long, 1.0])
    moved = cv2.warpPerspective(
        np.asarray(image),
        grow @ forth @ np.linalg.inv(grow),
        image.size,
        flags=cv2.INTER_AREA,
        borderValue=(128, 128, 128),
    )
    return Image.fromarray(moved), np.linalg.inv(forth)


def largest_error(found: Matrix, truth: Matrix, frame: Matrix) -> float:
    """Largest distance, over a grid of the query that the truth lays into the reference, in its long sides."""
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), -1).reshape(-1, 2) * frame
    there = project(truth, grid)
    seen = ((there >= 0) & (there <= 1)).all(axis=1)
    assert seen.sum() >= 8
    return float(np.abs(project(found, grid) - there)[seen].max())


def iou(polygon: Any, box: tuple[float, float, float, float]) -> float:
    """Of a polygon and a box, both in fractions."""
    side = 500
    drawn = Image.new("1", (side, side))
    ImageDraw.Draw(drawn).polygon([(x * side, y * side) for x, y in np.asarray(polygon).tolist()], fill=1)
    true = Image.new("1", (side, side))
    ImageDraw.Draw(true).rectangle([edge * side for edge in box], fill=1)
    one, other = np.asarray(drawn), np.asarray(true)
    return float((one & other).sum() / (one | other).sum())


# Geometry


def synthetic(matrix: Matrix, *, pairs: int = 60, strangers: int = 60) -> tuple[Features, Features]:
    """Features of a query, and of a reference where the matrix puts them, with strangers among both."""
    rng = np.random.default_rng(SEED)
    count = pairs + strangers
    here = np.column_stack(
        [rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(-6, -4, count), rng.uniform(-3, 3, count)]
    )
    there = here.copy()
    there[:, :2] = project(matrix, here[:, :2])
    # Scale and angle follow the map as it is at each place.
    step = 1e-4
    for place, (x, y, _, angle) in enumerate(here):
        ahead = np.array([[x, y], [x + step * math.cos(angle), y + step * math.sin(angle)]])
        start, end = project(matrix, ahead)
        there[place, 3] = math.atan2(end[1] - start[1], end[0] - start[0])
        there[place, 2] += math.log2(np.hypot(*(end - start)) / step)
    vectors = rng.normal(size=(count, 128))
    other = vectors + 0.2 * rng.normal(size=vectors.shape)
    there[pairs:, :2] = rng.uniform(0.1, 0.9, (strangers, 2))
    other[pairs:] = rng.normal(size=(strangers, 128))
    order = rng.permutation(count)

    def made(places: Matrix, rows: Matrix) -> Features:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return Features(places.astype(np.float32), rows.astype(np.float32), 1.0, 1.0)

    return made(here, vectors), made(there[order], other[order])


MAPS = {
    "similarity": similarity(0.6, 25, 0.2, 0.1),
    "upside down": similarity(0.9, 180, 0.95, 0.95),
    "enlarged": similarity(2.0, -10, -0.6, -0.3),
    "affine": np.array([[0.9, 0.2, 0.05], [-0.1, 0.7, 0.15], [0.0, 0.0, 1.0]]),
    "homography": np.array([[0.85, 0.05, 0.05], [0.02, 0.8, 0.05], [0.25, 0.1, 1.0]]),
}


@pytest.mark.parametrize("name", MAPS)
def test_alignment_recovers_a_known_map_from_features_among_strangers(name: str) -> None:
    found = align(*synthetic(MAPS[name]))
    assert found is not None
    assert found.inliers >= 45
    assert found.inliers <= found.matches
    assert len(found.here) == len(found.there) >= found.inliers
    assert largest_error(found.matrix, MAPS[name], np.ones(2)) < 0.03
    assert np.abs(project(found.matrix, found.here) - found.there).max() < 0.05


WARPS = {
    "rotated and shrunk": similarity(0.6, 25, 0.3, 0.05),
    "perspective": np.array([[0.8, 0.05, 0.05], [0.03, 0.75, 0.06], [0.2, 0.05, 1.0]]),
    "moved": similarity(1.0, 0, 0.1, 0.15),
}


@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("artwork", ["cubist-1.jpg", "still-life-1.jpg"])
def test_alignment_recovers_the_warp_of_an_artwork(artwork: str, name: str, mirrored: bool) -> None:
    reference = picture(artwork)
    query, truth = warped(reference, WARPS[name])
    assert query.size == reference.size
    if mirrored:
        flipped = query.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert not strong(align(features(flipped, 500), features(reference)))
        found = align(features(flipped, 500).mirrored(), features(reference))
    else:
        found = align(features(query, 500), features(reference))
    assert strong(found)
    assert found is not None
    assert largest_error(found.matrix, truth, frame(query)) < 0.02
    assert found.reference_frame == pytest.approx(tuple(frame(reference)))


def test_a_strong_perspective_is_recovered_as_one() -> None:
    tilted = np.array([[0.8, 0.05, 0.05], [0.03, 0.75, 0.06], [0.5, 0.1, 1.0]])
    found = align(*synthetic(tilted, pairs=120))
    assert found is not None
    assert abs(found.matrix[2, 0]) > 0.3
    assert largest_error(found.matrix, tilted, np.ones(2)) < 0.01


def test_a_mild_perspective_is_no_affine_map_although_one_explains_all_features() -> None:
    slanted = np.array([[0.8, 0.05, 0.05], [0.03, 0.75, 0.06], [0.15, 0.05, 1.0]])
    for artwork in ("cubist-1.jpg", "expressionist-1.jpg", "flow-field-1.jpg"):
        reference = picture(artwork)
        query, truth = warped(reference, slanted)
        found = align(features(query, 500), features(reference))
        assert found is not None
        assert largest_error(found.matrix, truth, frame(query)) < 0.01, artwork


def test_few_pairs_close_together_fix_no_tilt() -> None:
    query, reference = synthetic(similarity(0.8, 10, 0.1, 0.1), pairs=14, strangers=20)
    found = align(query, reference)
    assert found is not None
    assert np.abs(found.matrix[2, :2] / found.matrix[2, 2]).max() < 0.05


def moved_part(count: int, side: float, shift: float) -> Alignment:
    """Inliers on a square of a reference, moved in the query, and two stray pairs at its far corners."""
    there = np.random.default_rng(SEED).uniform(0.1, 0.1 + side, (count, 2))
    there[:4] = 0.1 + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    strays = np.array([[0.99, 0.99], [0.01, 0.99]])
    sure = np.arange(count + 2) < count
    here = np.vstack([there + shift, strays])
    return Alignment(np.eye(3), 2 * count, count, here, np.vstack([there, strays]), sure, (1.0, 1.0))


@pytest.mark.parametrize(
    ("count", "side", "shift", "strays_count"),
    [(40, 0.5, 0.3, False), (8, 0.5, 0.3, True), (40, 0.2, 0.3, True), (40, 0.5, 0.0, True)],
    ids=["a part elsewhere", "few inliers", "a shared word", "the same template"],
)
def test_stray_pairs_are_left_out_of_a_large_part_elsewhere(
    count: int, side: float, shift: float, strays_count: bool
) -> None:
    found = moved_part(count, side, shift)
    anchors = found.anchors((1.0, 1.0))
    assert len(anchors) == (count + 2 if strays_count else count)
    assert (anchors.max() > 0.95) == strays_count


def strong(found: Alignment | None) -> bool:
    return found is not None and found.inliers >= MIN_INLIERS


def test_unrelated_pictures_do_not_align() -> None:
    names = [
        "cubist-1.jpg",
        "city-3.jpg",
        "landscape-2.jpg",
        "fractal-1.jpg",
        "engraving-1.jpg",
        "poster-2.jpg",
    ]
    described = [features(picture(name)) for name in names]
    for number, query in enumerate(described):
        for reference in described[number + 1 :]:
            assert not strong(align(query, reference))
            assert not strong(align(query.mirrored(), reference))


def test_few_or_strange_features_do_not_align() -> None:
    query, reference = synthetic(np.eye(3), pairs=0)
    assert align(query, reference) is None
    few = replace(query, places=query.places[:2], vectors=query.vectors[:2])
    assert align(few, reference) is None
    assert align(query, few) is None
    empty = replace(query, places=query.places[:0], vectors=query.vectors[:0])
    assert align(empty, empty) is None


@pytest.mark.parametrize("matrix", [*MAPS.values(), *WARPS.values()])
def test_edits_are_plausible_maps_and_so_is_their_multiple(matrix: Matrix) -> None:
    assert is_plausible(matrix)
    assert is_plausible(-3.0 * matrix)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([-1.0, 1.0, 1.0]),
        np.diag([1.0, 0.0, 1.0]),
        np.diag([0.01, 0.01, 1.0]),
        np.diag([20.0, 20.0, 1.0]),
        np.diag([1.0, 0.3, 1.0]),
        np.array([[1.0, 3.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.9, 0.0, 1.0]]),
        np.diag([1.0, 1.0, 0.0]),
        np.full((3, 3), np.nan),
        np.diag([np.inf, 1.0, 1.0]),
    ],
    ids="flip,line,collapse,blow-up,squeeze,shear,tilt,no-depth,nan,infinite".split(","),
)
def test_what_no_edit_does_is_implausible(matrix: Matrix) -> None:
    assert not is_plausible(matrix)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 10**9))
def test_chance_falls_with_inliers_and_rises_with_references(matches: int, inliers: int, size: int) -> None:
    chance = chance_of(matches, inliers, references=size)
    assert 0.0 <= chance <= 1.0
    assert chance_of(matches, inliers + 1, references=size) <= chance
    assert chance_of(matches, inliers, references=10 * size + 1) >= chance
    assert chance_of(matches + 1, inliers, references=size) >= chance * 0.99


def test_chance_of_few_pairs_is_certain_and_of_many_none() -> None:
    assert chance_of(100, 1, references=1) == 1.0
    assert chance_of(0, 0, references=0) == 1.0
    assert chance_of(40, 30, references=10**6) < 1e-30


# Pixels


def pasted(part: Image.Image, ground: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Paste a picture, stretched by little, into a box in fractions."""
    sheet = ground.copy()
    left, top, right, bottom = (round(e * s) for e, s in zip(box, ground.size * 2, strict=True))
    sheet.paste(part.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return sheet


def compared(query: Image.Image, reference: Image.Image) -> pixels.Comparison:
    found = align(features(query, 500), features(reference))
    assert found is not None
    compared = pixels.compare(np.asarray(query), np.asarray(reference), found.matrix, found.here)
    assert compared is not None
    return compared


@pytest.mark.parametrize(
    ("part", "ground", "box"),
    [
        ("cubist-1.jpg", "landscape-2.jpg", (0.1, 0.2, 0.65, 0.75)),
        ("city-3.jpg", "fractal-3.jpg", (0.35, 0.3, 0.95, 0.8)),
        ("fractal-1.jpg", "city-3.jpg", (0.3, 0.1, 0.95, 0.65)),
        ("woodcut-1.jpg", "seascape-1.jpg", (0.05, 0.05, 0.6, 0.6)),
    ],
)
def test_region_of_a_pasted_picture_is_where_it_was_pasted(
    part: str, ground: str, box: tuple[float, float, float, float]
) -> None:
    found = compared(pasted(picture(part), picture(ground, 480), box), picture(part))
    assert iou(found.query_region, box) >= 0.6
    assert found.coverage == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), abs=0.1)
    assert found.reference_coverage == pytest.approx(1.0, abs=0.1)
    assert found.agreement > 0.7


@pytest.mark.parametrize("name", ["cubist-1.jpg", "city-1.jpg", "stained-glass-1.jpg"])
def test_a_crop_covers_the_query_and_its_share_of_the_reference(name: str) -> None:
    reference = picture(name, 480)
    width, height = reference.size
    box = (0.2, 0.3, 0.8, 0.85)
    crop = reference.crop((int(0.2 * width), int(0.3 * height), int(0.8 * width), int(0.85 * height)))
    found = compared(crop, reference)
    assert found.coverage > 0.9
    assert found.reference_coverage == pytest.approx(0.6 * 0.55, abs=0.1)
    assert iou(found.reference_region, box) >= 0.8


def whole(query: Image.Image, reference: Image.Image) -> pixels.Comparison | None:
    here, there = np.asarray(query), np.asarray(reference)
    return pixels.compare(here, there, pixels.frame_on_frame(here, there))


def test_a_picture_agrees_with_itself_at_any_size() -> None:
    reference = picture("cubist-1.jpg", pixels.SIDE)
    same = whole(reference, reference)
    assert same is not None
    assert (same.coverage, same.reference_coverage) == pytest.approx((1.0, 1.0), abs=0.02)
    assert same.agreement == same.overlap_agreement == 1.0
    assert min(same.exactness, same.similarity) > 0.999
    assert same.tiled_l2 < 1e-6
    assert same.differing == 0.0
    for side in (160, 480):
        resized = whole(picture("cubist-1.jpg", side), reference)
        assert resized is not None
        assert min(resized.agreement, resized.coverage) > 0.95
        assert resized.tiled_l2 < 0.08


def test_one_differing_tile_shows_although_all_else_is_equal() -> None:
    reference = picture("cubist-1.jpg")
    changed = reference.copy()
    width, height = reference.size
    corner = (width // 2, height // 2)
    tile = reference.crop((*corner, corner[0] + width // 4, corner[1] + height // 4))
    changed.paste(Image.eval(tile, lambda value: 255 - value), corner)
    found = whole(changed, reference)
    assert found is not None
    mean = np.sqrt(np.mean((np.asarray(changed, float) - np.asarray(reference, float)) ** 2)) / 255
    assert found.coverage > 0.9
    assert found.tiled_l2 > 0.25
    assert found.tiled_l2 > 2.5 * mean


def scattered(seed: int) -> Image.Image:
    """One flat background, different small things at different places."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (320, 240), (196, 188, 170))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = rng.integers(10, 270), rng.integers(10, 190)
        draw.polygon(
            [(int(x + a), int(y + b)) for a, b in rng.integers(0, 45, (5, 2))],
            fill=tuple(int(v) for v in rng.integers(0, 150, 3)),
        )
    return image


def test_a_flat_background_alone_does_not_agree() -> None:
    for seed in range(6):
        found = whole(scattered(2 * seed), scattered(2 * seed + 1))
        assert found is None or found.overlap_agreement < MIN_DENSE_AGREEMENT
    assert whole(Image.new("RGB", (320, 240), "white"), Image.new("RGB", (320, 240), "white")) is None


def test_frames_that_do_not_meet_are_not_compared() -> None:
    array = np.asarray(picture("cubist-1.jpg"))
    assert pixels.compare(array, array, similarity(1.0, 0, 5.0, 5.0)) is None


def test_refinement_betters_a_matrix_that_is_slightly_wrong() -> None:
    reference = picture("engraving-1.jpg")
    query, truth = warped(reference, similarity(0.9, 4, 0.05, 0.03))
    wrong = truth @ similarity(1.01, 0.5, 0.006, -0.005)
    here, there = np.asarray(query), np.asarray(reference)
    refined = pixels.refine(here, there, wrong)
    assert refined is not None
    assert largest_error(refined, truth, frame(query)) < 0.4 * largest_error(wrong, truth, frame(query))
    before, after = pixels.compare(here, there, wrong), pixels.compare(here, there, refined)
    assert after is not None
    assert after.agreement > (before.agreement if before is not None else 0.0)


def test_dense_alignment_finds_the_shift_of_blurred_line_art() -> None:
    reference = picture("line-art-1.png").filter(ImageFilter.GaussianBlur(5))
    query, truth = warped(reference, similarity(0.97, 1.5, 0.02, 0.015))
    query = query.filter(ImageFilter.GaussianBlur(2))
    here, there = np.asarray(query), np.asarray(reference)
    found = pixels.align_dense(here, there)
    assert found is not None
    assert largest_error(found, truth, frame(query)) < 0.012 < largest_error(np.eye(3), truth, frame(query))


def test_flat_pictures_have_no_dense_alignment() -> None:
    flat = np.full((200, 320, 3), 128, np.uint8)
    assert pixels.align_dense(flat, flat) is None
    assert pixels.refine(flat, flat, np.eye(3)) is None


@pytest.mark.parametrize(("query", "reference"), [((320, 240), (240, 320)), ((100, 100), (320, 80))])
def test_frame_on_frame_lays_corners_on_corners(query: tuple[int, int], reference: tuple[int, int]) -> None:
    matrix = pixels.frame_on_frame(np.zeros((*query, 3), np.uint8), np.zeros((*reference, 3), np.uint8))
    end = project(matrix, np.array([[query[1], query[0]]]) / max(query))
    assert end[0] == pytest.approx(np.array([reference[1], reference[0]]) / max(reference))


# Verification against an index

MEMBERS = ("cubist-1.jpg", "line-art-1.png", "city-1.jpg")


def poster(inside: str) -> Image.Image:
    """A frame of ornaments, always the same, round a picture."""
    sheet = picture("stained-glass-1.jpg", 480).resize((480, 480))
    sheet.paste(picture(inside, 480).resize((230, 230)), (125, 125))
    return sheet


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    for name in MEMBERS:
        shutil.copy(SAMPLES / name, folder / name)
    poster("landscape-2.jpg").save(folder / "poster.png")
    scattered(1).save(folder / "flat.png")
    return folder


@pytest.fixture(scope="module")
def built(members: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "art.index"
    build_index(members, folder, options=BuildOptions(workers=1))
    return folder


def verified(folder: Path, query: Any, name: str) -> Verified:
    """Verify a query against one reference, whether search proposes it or not."""
    with ReferenceIndex.open(folder) as index:
        described = index.describe([read_image(query)])[0]
        found = {
            Path(known[1][0].path).name: number
            for number in index.reference_ids()
            if (known := index.reference(number)) is not None
        }
        for candidate in index.search(described):
            if candidate.reference_id == found[name]:
                return Verifier(index).verify(described, candidate)
        return Verifier(index).verify(described, Candidate(found[name], {}, False, None, 0.0))


def recompressed(name: str, *, quality: int = 60, mirrored: bool = False) -> bytes:
    with Image.open(SAMPLES / name) as image:
        opened = image.convert("RGB")
    if mirrored:
        opened = opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stream = io.BytesIO()
    opened.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_the_same_file_is_identical_whatever_its_name(built: Path, members: Path, tmp_path: Path) -> None:
    found = verified(built, shutil.copy(members / "city-1.jpg", tmp_path / "x.jpg"), "city-1.jpg")
    assert found.evidence.verification == "identical"
    assert found.evidence.coverage == found.evidence.reference_coverage == found.evidence.agreement == 1.0
    assert found.evidence.tiled_l2 == 0.0
    assert found.evidence.pdq_distance == 0
    assert found.query_region == found.reference_region == ((0, 0), (1, 0), (1, 1), (0, 1))


@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
def test_a_recompressed_copy_agrees_whole_in_the_state_it_is_in(built: Path, mirrored: bool) -> None:
    found = verified(built, recompressed("cubist-1.jpg", mirrored=mirrored), "cubist-1.jpg")
    evidence = found.evidence
    assert found.mirrored is mirrored
    assert evidence.verification == "keypoints"
    assert evidence.inliers is not None
    assert evidence.inliers > 50
    assert min(evidence.coverage or 0, evidence.reference_coverage or 0, evidence.agreement or 0) > 0.9
    assert not evidence.template
    assert iou(found.query_region, (0, 0, 1, 1)) > 0.9


def test_region_of_a_mirrored_part_is_given_in_the_query_as_it_is(built: Path) -> None:
    part = picture("cubist-1.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    box = (0.05, 0.1, 0.55, 0.7)
    found = verified(built, pasted(part, picture("landscape-2.jpg", 480), box), "cubist-1.jpg")
    assert found.mirrored
    assert iou(found.query_region, box) >= 0.6


def test_an_unrelated_picture_is_tried_and_not_verified(built: Path) -> None:
    for name in (*MEMBERS, "poster.png"):
        evidence = verified(built, SAMPLES / "fractal-1.jpg", name).evidence
        assert evidence.verification == "none"
        assert evidence.agreement is None
        assert not evidence.template


def test_another_picture_in_the_same_frame_is_a_template_and_a_copy_is_not(built: Path) -> None:
    other = verified(built, poster("fractal-1.jpg"), "poster.png").evidence
    assert other.template
    assert min(other.coverage or 0, other.reference_coverage or 0) >= 0.75
    stream = io.BytesIO()
    poster("landscape-2.jpg").save(stream, "JPEG", quality=50)
    copy = verified(built, stream.getvalue(), "poster.png").evidence
    assert copy.verification == "keypoints"
    assert not copy.template
    with Detector.open(built) as detector:
        assert detector.check(poster("fractal-1.jpg")).level == 3
        assert detector.check(stream.getvalue()).level >= 4


def test_blurred_line_art_without_features_is_verified_dense(built: Path) -> None:
    soft = picture("line-art-1.png").filter(ImageFilter.GaussianBlur(4)).resize((64, 64))
    found = verified(built, soft, "line-art-1.png").evidence
    assert found.verification == "dense"
    assert (found.agreement or 0) > 0.6
    assert found.inliers is None


def test_a_shared_flat_background_is_no_replica(built: Path) -> None:
    with Detector.open(built) as detector:
        for seed in range(2, 8):
            assert detector.check(scattered(seed)).verdict is not Verdict.REPLICA


# What an index may lack


def bare(members: Path, folder: Path, *, thumbnails: bool, keypoints: bool) -> Path:
    names = ["pdq", "phash", *(["keypoints"] if keypoints else [])]
    options = BuildOptions(workers=1, thumbnails=thumbnails)
    build_index(members, folder, descriptors=names, options=options)
    return folder


def own(members: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(members / "cubist-1.jpg", folder / "cubist-1.jpg")
    shutil.copy(members / "city-1.jpg", folder / "city-1.jpg")
    return folder


def test_without_thumbnails_the_references_own_file_serves_until_it_changes(
    built: Path, members: Path, tmp_path: Path
) -> None:
    files = own(members, tmp_path)
    folder = bare(files, tmp_path / "a.index", thumbnails=False, keypoints=True)
    query = recompressed("cubist-1.jpg")
    with_file = verified(folder, query, "cubist-1.jpg")
    with_thumbnail = verified(built, query, "cubist-1.jpg")
    assert with_file.evidence.inliers == with_thumbnail.evidence.inliers
    assert with_file.evidence.agreement == pytest.approx(with_thumbnail.evidence.agreement, abs=0.05)

    shutil.copy(members / "city-1.jpg", files / "cubist-1.jpg")  # another picture under its name
    changed = verified(folder, query, "cubist-1.jpg")
    (files / "cubist-1.jpg").unlink()
    gone = verified(folder, query, "cubist-1.jpg")
    assert changed == gone
    evidence = gone.evidence
    assert evidence.verification == "keypoints"
    assert evidence.inliers == with_file.evidence.inliers
    for name in ("agreement", "exactness", "aligned_similarity", "tiled_l2"):
        assert getattr(evidence, name) is None
    assert evidence.coverage == pytest.approx(1.0, abs=0.25)
    assert iou(gone.query_region, (0, 0, 1, 1)) > 0.7
    with Detector.open(folder) as detector:
        assert detector.check(query).verdict is Verdict.REPLICA


def test_without_keypoints_those_of_the_thumbnail_serve(members: Path, tmp_path: Path) -> None:
    folder = bare(own(members, tmp_path), tmp_path / "a.index", thumbnails=True, keypoints=False)
    shutil.rmtree(tmp_path / "own")
    part = pasted(picture("cubist-1.jpg"), picture("landscape-2.jpg", 480), (0.1, 0.2, 0.65, 0.75))
    found = verified(folder, part, "cubist-1.jpg")
    assert found.evidence.verification == "keypoints"
    assert (found.evidence.inliers or 0) >= MIN_INLIERS
    assert iou(found.query_region, (0.1, 0.2, 0.65, 0.75)) >= 0.6


def test_with_nothing_to_verify_with_a_close_hash_stays_unverified(members: Path, tmp_path: Path) -> None:
    folder = bare(own(members, tmp_path), tmp_path / "a.index", thumbnails=False, keypoints=False)
    shutil.rmtree(tmp_path / "own")
    found = verified(folder, recompressed("cubist-1.jpg"), "cubist-1.jpg")
    assert found.evidence.verification == "unverified"
    assert found.evidence.pdq_distance is not None
    assert found.evidence == Evidence(
        pdq_distance=found.evidence.pdq_distance, phash_distance=found.evidence.phash_distance
    )
    with Detector.open(folder) as detector:
        assert detector.check(recompressed("cubist-1.jpg")).verdict is Verdict.POSSIBLE


def test_a_damaged_small_copy_leaves_the_file_to_be_compared(own_index: Path, artworks: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(own_index / "thumbnails.sqlite")
    connection.execute(
        "UPDATE thumbnail SET webp = ?", (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6,)
    )
    connection.commit()
    connection.close()
    with Detector.open(own_index) as detector:
        report = detector.check(artworks / "city-3.jpg")
        assert report.best is not None
        assert report.best.level == 5
