"""Every descriptor passes one contract, and gives the rows it always gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index.descriptors import DEFAULT_DESCRIPTORS, Descriptor, DescriptorSpec, Kind, create, parse_names
from index.errors import DescriptorError
from index.images import Picture, read_image
from index.keypoints import (
    MAX_REFERENCE_FEATURES,
    MIN_PAIRS,
    ROW_BYTES,
    KeypointDescriptor,
    decode_lists,
    decode_places,
    decode_vectors,
    encode,
    extract,
    vote,
)
from index.vectors import LocalStore

NAMES = ("pdq", "phash", "keypoints", "clip", "sscd")
CANONICAL = Path(__file__).parent / "data" / "canonical_descriptors.json"


@pytest.fixture(scope="module", params=NAMES)
def descriptor(request: pytest.FixtureRequest) -> Descriptor:
    if request.param == "clip":
        return create(f"clip:local-dir:{request.getfixturevalue('clip_folder')}", device="cpu")
    if request.param == "sscd":
        return create(f"sscd:{request.getfixturevalue('script_file')}", device="cpu")
    return create(request.param)


@pytest.fixture(scope="module")
def pictures(artworks: Path) -> list[Picture]:
    names = ("botanical-1.jpg", "city-2.jpg", "line-art-1.png", "geometric-3.webp", "still-life-2.jpg")
    return [read_image(artworks / name) for name in names]


def distance(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    return int(np.unpackbits(first ^ second).sum())


def assert_same_rows(kind: Kind, found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if kind is Kind.UNIT:
            np.testing.assert_allclose(one, other, atol=1e-5)  # sums of floats depend on a batch's size
        else:
            np.testing.assert_array_equal(one, other)


# The contract


def test_spec_survives_json(descriptor: Descriptor) -> None:
    spec = descriptor.spec
    assert DescriptorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.version >= 1
    assert (len(spec.weights_digest) == 64) == descriptor.batched
    assert isinstance(descriptor, Descriptor)


def test_rows_are_as_the_spec_says(descriptor: Descriptor, pictures: list[Picture]) -> None:
    spec = descriptor.spec
    for rows in descriptor.describe(pictures) + descriptor.describe_mirrored(pictures):
        assert rows.dtype == (np.float32 if spec.kind is Kind.UNIT else np.uint8)
        assert rows.ndim == 2
        assert rows.shape[1] == spec.width
        if spec.kind is Kind.LOCAL:
            assert 0 < len(rows) <= MAX_REFERENCE_FEATURES
        else:
            assert len(rows) == 1
        if spec.kind is Kind.UNIT:
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_rows_do_not_depend_on_batch_or_order(descriptor: Descriptor, pictures: list[Picture]) -> None:
    kind = descriptor.spec.kind
    together = descriptor.describe(pictures)
    assert_same_rows(kind, [descriptor.describe([picture])[0] for picture in pictures], together)
    assert_same_rows(kind, descriptor.describe(pictures[::-1])[::-1], together)
    mirrored = descriptor.describe_mirrored(pictures)
    assert_same_rows(kind, [descriptor.describe_mirrored([p])[0] for p in pictures], mirrored)
    assert descriptor.describe([]) == []
    assert descriptor.describe_mirrored([]) == []


def test_describing_twice_and_anew_gives_the_same_rows(
    descriptor: Descriptor, pictures: list[Picture]
) -> None:
    again = create(descriptor.spec.name, device="cpu" if descriptor.batched else None)
    assert again.spec == descriptor.spec
    assert_same_rows(descriptor.spec.kind, again.describe(pictures), descriptor.describe(pictures))


def test_different_pictures_have_different_rows(descriptor: Descriptor, pictures: list[Picture]) -> None:
    described = descriptor.describe(pictures)
    assert len({rows.tobytes() for rows in described}) == len(pictures)


def test_describing_leaves_pictures_alone(descriptor: Descriptor, pictures: list[Picture]) -> None:
    before = [picture.pixels.copy() for picture in pictures]
    descriptor.describe(pictures)
    descriptor.describe_mirrored(pictures)
    for picture, pixels in zip(pictures, before, strict=True):
        np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 300), (300, 2), (16, 16), (512, 17)])
def test_pictures_of_any_shape_are_described(descriptor: Descriptor, width: int, height: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = read_image(noise)
    for rows in descriptor.describe([picture]) + descriptor.describe_mirrored([picture]):
        assert rows.shape[1] == descriptor.spec.width
        assert np.isfinite(rows.astype(np.float32)).all()


@pytest.mark.parametrize("name", ["pdq", "phash", "keypoints"])
def test_flat_pictures_have_no_bits(name: str) -> None:
    descriptor = create(name)
    flat = [read_image(Image.new("RGB", (300, 200), colour)) for colour in ("white", "black", "teal")]
    for rows in descriptor.describe(flat) + descriptor.describe_mirrored(flat):
        assert rows.shape == (0, descriptor.spec.width)
        assert rows.dtype == np.uint8


# The mirrored state, which each gets in its own way


@pytest.fixture(scope="module")
def all_pictures(artworks: Path) -> list[Picture]:
    # Nearly all low frequencies of a regular tiling are zero, and the bits that stand for them are noise.
    paths = [
        path for path in sorted(artworks.iterdir()) if path.suffix != ".csv" and path.name != "tiling-1.png"
    ]
    return [read_image(path) for path in paths]


def test_pdq_of_the_mirrored_picture_is_exact(all_pictures: list[Picture]) -> None:
    pdq = create("pdq")
    flipped = pdq.describe([picture.mirrored() for picture in all_pictures])
    for found, expected in zip(pdq.describe_mirrored(all_pictures), flipped, strict=True):
        assert distance(found, expected) == 0


def test_phash_of_the_mirrored_picture_is_within_two_bits(all_pictures: list[Picture]) -> None:
    # Greys are rounded to 8 bits at 32×32, and a coefficient may lie right at the median.
    phash = create("phash")
    flipped = phash.describe([picture.mirrored() for picture in all_pictures])
    for found, expected in zip(phash.describe_mirrored(all_pictures), flipped, strict=True):
        assert distance(found, expected) <= 2


def test_keypoints_of_the_mirrored_picture_are_found_without_extracting_again(
    all_pictures: list[Picture],
) -> None:
    shares, offsets = [], []
    for picture in all_pictures:
        turned = extract(picture, max_features=400).mirrored()
        again = extract(picture.mirrored(), max_features=400)
        away = np.linalg.norm(turned.places[:, None, :2] - again.places[None, :, :2], axis=2)
        alike = turned.vectors @ again.vectors.T
        same = (away < 0.01) & (alike > 0.9)
        shares.append(same.any(axis=1).mean())
        best = np.where(away < 0.01, alike, -1).argmax(axis=1)[same.any(axis=1)]
        rows = np.flatnonzero(same.any(axis=1))
        offsets.append(np.median(turned.places[rows, 0] - again.places[best, 0]))
        turn = turned.places[rows, 3] - again.places[best, 3]
        assert np.median(np.abs((turn + np.pi) % (2 * np.pi) - np.pi)) < 0.1
    # SIFT is not exactly symmetric; by far the most features come back.
    assert np.mean(shares) > 0.7
    assert min(shares) > 0.4
    # A pixel is 1/320: places are those of the mirrored picture, without a shift of one.
    assert abs(np.median(offsets)) < 0.3 / 320


def test_mirrored_twice_is_unmirrored(pictures: list[Picture]) -> None:
    features = extract(pictures[0], max_features=400)
    back = features.mirrored().mirrored()
    np.testing.assert_array_equal(back.vectors, features.vectors)
    np.testing.assert_allclose(back.places, features.places, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "sscd"])
def test_neural_rows_of_the_mirrored_picture_are_near(
    name: str, pictures: list[Picture], request: pytest.FixtureRequest
) -> None:
    fixture = "clip_folder" if name == "clip" else "script_file"
    prefix = "clip:local-dir:" if name == "clip" else "sscd:"
    descriptor = create(f"{prefix}{request.getfixturevalue(fixture)}", device="cpu")
    flipped = descriptor.describe([picture.mirrored() for picture in pictures])
    for found, expected in zip(descriptor.describe_mirrored(pictures), flipped, strict=True):
        assert (found @ expected.T).item() > 0.999  # a centre crop may lie one column to the side


# Keypoint rows


def test_keypoint_rows_keep_places_and_vectors(pictures: list[Picture]) -> None:
    features = extract(pictures[1], max_features=400)
    rows = encode(features)
    assert rows.shape == (len(features), ROW_BYTES)
    places = decode_places(rows)
    np.testing.assert_allclose(places[:, :2], features.places[:, :2], atol=1 / 65535)
    np.testing.assert_allclose(places[:, 2], features.places[:, 2], atol=1 / 50 + 1e-4)
    turn = places[:, 3] - features.places[:, 3]
    assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi).max() <= np.pi / 256 + 1e-4
    vectors = decode_vectors(rows)
    assert vectors.shape == (len(features), 128)
    assert float(np.einsum("ij,ij->i", vectors, features.vectors).mean()) > 0.9
    lists = decode_lists(rows)
    assert lists.min() >= 0
    assert lists.max() < 1024


def test_features_are_in_the_picture_and_of_unit_length(pictures: list[Picture]) -> None:
    for picture in pictures:
        features = extract(picture, max_features=400)
        assert max(features.width, features.height) == 1.0
        assert features.width / features.height == pytest.approx(picture.width / picture.height, rel=0.01)
        assert (features.places[:, :2] >= 0).all()
        assert (features.places[:, 0] <= features.width).all()
        assert (features.places[:, 1] <= features.height).all()
        np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1.0, atol=1e-3)


def test_fewer_features_are_the_strongest_of_more(pictures: list[Picture]) -> None:
    many = {tuple(place) for place in extract(pictures[0], max_features=400).places.tolist()}
    few = {tuple(place) for place in extract(pictures[0], max_features=100).places.tolist()}
    assert len(few) == 100
    assert few <= many


def test_votes_find_a_pasted_part_in_either_mirror_state(pictures: list[Picture]) -> None:
    rows = KeypointDescriptor().describe(pictures)
    owners = np.repeat(np.arange(1, len(rows) + 1), [len(r) for r in rows])
    store = LocalStore(np.concatenate(rows), owners.astype(np.int64))
    whole = pictures[1].to_pil()
    part = whole.crop((0, 0, whole.width * 6 // 10, whole.height * 6 // 10))
    for mirrored in (False, True):
        canvas = pictures[4].to_pil()
        canvas.paste(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part, (20, 10))
        votes = vote(extract(read_image(canvas), max_features=500), store)
        found = {cast.reference_id: cast for cast in votes}
        assert found[2].mirrored is mirrored
        assert found[2].pairs >= 10
        assert set(list(found)[:2]) == {2, 5}


def test_votes_in_a_tiny_index_warn_of_nothing(pictures: list[Picture]) -> None:
    features = extract(pictures[0], max_features=400)
    for count in (1, 2, 3, 5, 20):
        store = LocalStore(encode(features)[:count], np.ones(count, np.int64))
        votes = vote(features, store)
        assert bool(votes) == (count >= MIN_PAIRS + 2) or count in (3, 5)
        assert all(np.isfinite(cast.support) for cast in votes)
    assert vote(features, LocalStore(np.zeros((0, ROW_BYTES), np.uint8), np.zeros(0, np.int64))) == []


# What rows stand for


@pytest.mark.parametrize("name", ["pdq", "phash"])
def test_a_copy_of_a_quarter_of_the_size_has_nearly_the_same_hash(name: str, artworks: Path) -> None:
    descriptor = create(name)
    worst = 0
    for path in sorted(artworks.glob("*-2.*")):
        with Image.open(path) as opened:
            whole = opened.convert("RGB")
        small = whole.resize((whole.width // 4, whole.height // 4), Image.Resampling.LANCZOS)
        first, second = descriptor.describe([read_image(whole), read_image(small)])
        worst = max(worst, distance(first, second))
    assert worst <= (8 if name == "pdq" else 4)


def canonical_values(artworks: Path) -> dict[str, Any]:
    values: dict[str, Any] = {"versions": {n: create(n).spec.version for n in DEFAULT_DESCRIPTORS}}
    for name in ("expressionist-2.jpg", "line-art-3.png", "stained-glass-3.webp"):
        picture = read_image(artworks / name)
        rows = {n: create(n).describe([picture])[0] for n in DEFAULT_DESCRIPTORS}
        strongest = rows["keypoints"][np.argsort(-rows["keypoints"][:, 38].astype(int), kind="stable")[:5]]
        values[name] = {
            "pdq": rows["pdq"][0].tobytes().hex(),
            "phash": rows["phash"][0].tobytes().hex(),
            "keypoints": len(rows["keypoints"]),
            "largest_keypoints": [row.tobytes().hex() for row in strongest],
            "clip:bundled": rows["clip:bundled"][0].astype("<f2").tobytes().hex(),
        }
    return values


def test_rows_are_what_they_always_were(artworks: Path) -> None:
    """A change here means that indexes that people have no longer fit: raise the descriptor's version.

    Then write the file anew with ``canonical_values``. Tolerances are for other builds of libjpeg, Pillow's
    resampling and OpenCV, whose rounding differs in the last bit; with the pinned set all is equal.
    """
    frozen, found = json.loads(CANONICAL.read_text()), canonical_values(artworks)
    assert found.pop("versions") == frozen.pop("versions")
    assert found.keys() == frozen.keys()
    for name, expected in frozen.items():
        for hashed, tolerance in (("pdq", 4), ("phash", 2)):
            bits = [np.frombuffer(bytes.fromhex(v[name][hashed]), np.uint8) for v in (found, frozen)]
            assert distance(*bits) <= tolerance, (name, hashed)
        assert abs(found[name]["keypoints"] - expected["keypoints"]) <= 0.02 * expected["keypoints"] + 1
        towers = [
            np.frombuffer(bytes.fromhex(v["clip:bundled"]), "<f2").astype(np.float32)
            for v in (found[name], expected)
        ]
        assert float(towers[0] @ towers[1]) > 0.999, name
        rows = [
            np.frombuffer(bytes.fromhex("".join(v["largest_keypoints"])), np.uint8).reshape(-1, ROW_BYTES)
            for v in (found[name], expected)
        ]
        places = [decode_places(r) for r in rows]
        near = np.linalg.norm(places[0][:, None, :2] - places[1][None, :, :2], axis=2) < 0.005
        alike = np.linalg.norm(decode_vectors(rows[0])[:, None] - decode_vectors(rows[1])[None], axis=2) < 0.2
        assert (near & alike).any(axis=0).sum() >= 4, name


# Names


def test_names_are_split_without_repeats() -> None:
    assert parse_names(" pdq, phash ,pdq,,") == ("pdq", "phash")
    with pytest.raises(DescriptorError, match="names no descriptor"):
        parse_names(" , ")


@pytest.mark.parametrize("name", ["", "PDQ", "dhash", "clip", "sscd", "pdq "])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(DescriptorError, match=r"unknown descriptor\. Known: pdq, phash, keypoints"):
        create(name)
