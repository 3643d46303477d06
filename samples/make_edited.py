"""Writes edited artworks, unrelated pictures, and the truth about them: cases that tests know the answer to."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from artstudio.canvas import RGB, Canvas, blur, displace, grain, grid, noise, ramp, resize, to_rgb
from artstudio.catalogue import draw
from artstudio.files import save, save_table
from PIL import Image

_SEED = 20240607
_FORMATS = ("png", "jpg", "jpg", "webp", "jpg", "jpg")

# The works each edit is made from, by file name without extension.
_EDITED = {
    "recompressed": "landscape-2 engraving-1 poster-2",
    "cropped": "seascape-3 tiling-2 cubist-1",
    "mirrored": "still-life-2 city-3 woodcut-2",
    "recoloured": "flow-field-2 geometric-1 botanical-1",
    "pasted": "stained-glass-3 collage-2 fractal-1",
    "retextured": "landscape-3 watercolour-2 still-life-1",
    "rotated": "seascape-2 expressionist-1 engraving-3",
    "text": "glitch-1 pointillism-3 line-art-2",
    "border": "woodcut-3 collage-1 city-1",
}
_HOSTS = ("geometric", "collage", "poster")
_UNRELATED = (
    "flow_field fractal tiling woodcut engraving landscape seascape city "
    "still_life botanical line_art pointillism watercolour expressionist cubist stained_glass"
).split()


@dataclass(frozen=True)
class _Query:
    """One picture of the folder, before it has a name.

    Attributes:
        picture: uint8, (height, width, 3).
        reference: File name of the artwork it was made from; empty where there is none.
        edit: What was done to the artwork, or what the unrelated picture is.
        region: Where a pasted part lies: x0,y0,x1,y1 as shares of this picture; empty otherwise.
    """

    picture: RGB
    reference: str
    edit: str
    region: str = ""


def _recompressed(picture: RGB, rng: np.random.Generator) -> RGB:
    height, width = picture.shape[:2]
    small = to_rgb(resize(picture, width=int(width * 0.8), height=int(height * 0.8)))
    coded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(18, 26))])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy()


def _cropped(picture: RGB, rng: np.random.Generator) -> RGB:
    height, width = picture.shape[:2]
    share = 0.6**0.5
    tall, wide = int(height * share), int(width * share)
    top, left = int(rng.integers(0, height - tall)), int(rng.integers(0, width - wide))
    return picture[top : top + tall, left : left + wide].copy()


def _mirrored(picture: RGB, rng: np.random.Generator) -> RGB:
    return picture[:, ::-1].copy()


def _recoloured(picture: RGB, rng: np.random.Generator) -> RGB:
    hsv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(25, 70)) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.7, 1.2), 0, 255)
    turned = np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), np.float32)
    return to_rgb(255 * (turned / 255) ** rng.uniform(0.8, 1.2))


def _retextured(picture: RGB, rng: np.random.Generator) -> RGB:
    height, width = picture.shape[:2]
    small = to_rgb(resize(picture, width=width // 2, height=height // 2))
    flat = resize(cv2.medianBlur(small, 5), width=width, height=height, method=cv2.INTER_CUBIC)
    push = [(noise(rng, width=width, height=height, cell=90, octaves=3) - 0.5) * 16 for _ in range(2)]
    moved = displace(flat, dx=push[0], dy=push[1])
    strokes = noise(rng, width=width, height=height, cell=9, octaves=2, stretch=3) - 0.5
    tint = rng.uniform(0.86, 1.14, 3).astype(np.float32)
    sharp = moved + 0.8 * (moved - blur(moved, sigma=3))
    return grain(sharp * tint * (1 + 0.22 * strokes[..., None]), rng, strength=4)


def _rotated(picture: RGB, rng: np.random.Generator) -> RGB:
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 10 * float(rng.choice([-1, 1])), 1)
    turned = cv2.warpAffine(
        picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255)
    )
    return np.asarray(turned, np.uint8)


def _with_text(picture: RGB, rng: np.random.Generator) -> RGB:
    canvas = Canvas(picture)
    size = canvas.width / 9
    for line, words in enumerate(("MONDAY AGAIN", "but make it art")):
        place = (canvas.width / 2, canvas.height * (0.12 + 0.76 * line))
        canvas.text(place[0] + 2, place[1] + 2, words, size=size, colour=(10, 10, 10))
        canvas.text(*place, words, size=size, colour=(255, 255, 255))
    return canvas.image()


def _bordered(picture: RGB, rng: np.random.Generator) -> RGB:
    colour = tuple(int(channel) for channel in rng.integers(20, 240, 3))
    edge = round(min(picture.shape[:2]) * 0.12)
    framed = cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=colour)
    return np.asarray(framed, np.uint8)


_EDITS: Mapping[str, Callable[[RGB, np.random.Generator], RGB]] = {
    "recompressed": _recompressed,
    "cropped": _cropped,
    "mirrored": _mirrored,
    "recoloured": _recoloured,
    "retextured": _retextured,
    "rotated": _rotated,
    "text": _with_text,
    "border": _bordered,
}


def _pasted(picture: RGB, host: RGB, rng: np.random.Generator) -> tuple[RGB, str]:
    """Pastes a part with 40 % of the artwork's area into another picture."""
    height, width = picture.shape[:2]
    share = 0.4**0.5
    tall, wide = int(height * share), int(width * share)
    top, left = int(rng.integers(0, height - tall)), int(rng.integers(0, width - wide))
    part = picture[top : top + tall, left : left + wide]
    room_y, room_x = host.shape[0] - tall, host.shape[1] - wide
    y, x = int(rng.integers(room_y // 8, room_y)), int(rng.integers(room_x // 8, room_x))
    whole = host.copy()
    whole[y : y + tall, x : x + wide] = part
    sides = (x / host.shape[1], y / host.shape[0], (x + wide) / host.shape[1], (y + tall) / host.shape[0])
    return whole, ",".join(f"{side:.4f}" for side in sides)


def _edited(artworks: Path, rng: np.random.Generator) -> list[_Query]:
    queries = []
    for edit, names in _EDITED.items():
        for place, name in enumerate(names.split()):
            path = next(artworks.glob(f"{name}.*"))
            with Image.open(path) as image:
                picture = np.asarray(image.convert("RGB"))
            if edit == "pasted":
                host = draw(_HOSTS[place], variant=3, width=640, height=608)
                whole, region = _pasted(picture, host, rng)
                queries.append(_Query(whole, path.name, edit, region))
            else:
                queries.append(_Query(_EDITS[edit](picture, rng), path.name, edit))
    return queries


def _unrelated(rng: np.random.Generator) -> list[_Query]:
    sizes = ((512, 512), (512, 640), (608, 512), (576, 576))
    queries = []
    for place, family in enumerate(_UNRELATED):
        width, height = sizes[place % len(sizes)]
        queries.append(_Query(draw(family, variant=3, width=width, height=height), "", "unrelated"))
    queries.append(_Query(np.full((512, 512, 3), (176, 92, 70), np.uint8), "", "flat colour"))
    x, y = grid(640, 512)
    fade = ramp((x / 640 + y / 512) / 2, [(28, 40, 92), (240, 170, 120)])
    queries.append(_Query(to_rgb(fade), "", "gradient"))
    return queries


def main() -> None:
    """Parses the command line and writes the folder."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description="Write edited copies of the sample artworks, unrelated pictures, and truth.csv.",
        epilog="Run make_artworks.py first. The same library versions give the same bytes on every run.",
    )
    parser.add_argument(
        "--artworks",
        type=Path,
        default=here / "artworks",
        metavar="DIR",
        help="folder that make_artworks.py wrote (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=here / "edited",
        metavar="DIR",
        help="folder to write to; files of the same names are replaced (default: %(default)s)",
    )
    options = parser.parse_args()
    if not (options.artworks / "metadata.csv").is_file():
        parser.error(f"{options.artworks} has no metadata.csv. Run: python samples/make_artworks.py")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    queries = _edited(options.artworks, rng) + _unrelated(rng)
    rows = []
    for number, place in enumerate(rng.permutation(len(queries)), start=1):
        query = queries[place]
        name = f"{number:04d}.{_FORMATS[number % len(_FORMATS)]}"
        # A photographic PNG would cost as much as five JPEGs.
        if name.endswith("png") and query.edit not in {"flat colour", "gradient", "border"}:
            query = _Query(_shrunk(query.picture), query.reference, query.edit, query.region)
        save(query.picture, out / name, quality=84)
        rows.append(
            {"file_name": name, "reference": query.reference, "edit": query.edit, "region": query.region}
        )
        print(f"{name}  {query.edit}  {query.reference}")
    save_table(rows, out / "truth.csv")


def _shrunk(picture: RGB, *, side: int = 384) -> RGB:
    scale = side / max(picture.shape[:2])
    width, height = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return to_rgb(resize(picture, width=width, height=height))


if __name__ == "__main__":
    main()
