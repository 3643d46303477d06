"""A folder of pictures → a gallery and queries with known truth: edits, unrelated pictures, hard negatives.

Works that show the same picture twice in the folder are kept once, so that "unrelated" means it.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests.benchmarks.edits import EDITS, Edit, Edited
from tests.benchmarks.edits import by_name as edit_named
from tests.benchmarks.queries import SEED, split
from tests.benchmarks.regions import FULL, Polygon

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SAME_PDQ = 56
"""PDQ distance, mirrored or not, up to which two files of the folder are taken for the same picture."""

UNRELATED, SAME_ARTIST, SAME_LOOK, SAME_TEMPLATE = "unrelated", "same artist", "same look", "same template"
UNRELATED_EDITED = "unrelated, edited"
NEGATIVES = (UNRELATED, UNRELATED_EDITED, SAME_ARTIST, SAME_LOOK, SAME_TEMPLATE)
TEMPLATES = 12


@dataclass(frozen=True)
class Work:
    """A picture of the folder and who made it."""

    path: Path
    artist: str = ""

    def open(self) -> Image.Image:
        """Return it upright enough for editing: RGB."""
        with Image.open(self.path) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class Query:
    """A picture under test.

    Attributes:
        name: File name, unique.
        kind: An edit's name, or one of `NEGATIVES`.
        group: An edit's group, or the kind of a negative.
        reference: File name of the reference it replicates, or ``""``.
        related: File name of the reference that a hard negative is close to, or ``""``.
        region: Where the reference shows, fractions of the query.
    """

    name: str
    kind: str
    group: str
    reference: str = ""
    related: str = ""
    region: Polygon = FULL


@dataclass(frozen=True)
class Halves:
    """The works indexed, those indexed only as the content of a poster, and those held out."""

    references: tuple[Work, ...]
    posters: tuple[Work, ...]
    held_out: tuple[Work, ...]


def works_of(folder: Path) -> list[Work]:
    """Return the folder's pictures by name, each shown once, with artists where metadata.csv has them."""
    artists: dict[str, str] = {}
    metadata = folder / "metadata.csv"
    if metadata.exists():
        with metadata.open(encoding="utf-8-sig", newline="") as stream:
            artists = {row["file_name"]: row.get("artist") or "" for row in csv.DictReader(stream)}
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES]
    works = [Work(path, artists.get(path.name, "")) for path in found]
    return [work for work, again in zip(works, _seen_before(works), strict=True) if not again]


def _seen_before(works: Sequence[Work]) -> list[bool]:
    """Mark every work that shows an earlier one, by PDQ and its mirror image."""
    import pdqhash

    kept = np.zeros((len(works), 256), np.float32)
    count = 0
    flags = []
    for work in works:
        states, _ = pdqhash.compute_dihedral(np.asarray(work.open()))
        # As ±1, a distance is (256 - product) / 2. The sixth state is the mirror image.
        signs = np.asarray([states[0], states[5]], np.float32) * 2.0 - 1.0
        nearest = (256.0 - float((signs @ kept[:count].T).max(initial=-256.0))) / 2.0
        flags.append(nearest <= SAME_PDQ)
        if not flags[-1]:
            kept[count] = signs[0]
            count += 1
    return flags


def halve(works: Sequence[Work], *, seed: int = SEED, swap: bool = False) -> Halves:
    """Split works in two; `swap` gives the halves the other way round."""
    by_path = {work.path: work for work in works}
    one, other = split(list(by_path), seed=seed)
    if swap:
        one, other = other, one
    held_out = tuple(by_path[p] for p in other)
    posters = min(TEMPLATES, len(held_out) // 4)
    return Halves(tuple(by_path[p] for p in one), held_out[:posters], held_out[posters:])


def write_references(halves: Halves, out: Path) -> None:
    """Copy the references, and add the posters: one template each."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for work in halves.references:
        shutil.copyfile(work.path, out / work.path.name)
    for number, content in enumerate(halves.posters):
        poster(content.open(), number).image.save(out / poster_name(number), quality=92)
    with (out / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", "artist"])
        writer.writerows([work.path.name, work.artist] for work in halves.references)


def poster_name(number: int) -> str:
    """Return the file name of a template's reference."""
    return f"poster-{number:02d}.jpg"


def poster(content: Image.Image, number: int) -> Edited:
    """Set a picture into template `number`: a frame, a title and a line of small print that stay the same."""
    rng = random.Random(f"template {number}")
    paper = tuple(rng.randint(150, 255) for _ in range(3))
    ink = tuple(rng.randint(0, 90) for _ in range(3))
    canvas = Image.new("RGB", (480, 600), paper)
    draw = ImageDraw.Draw(canvas)
    for ring in range(rng.randint(1, 3)):
        gap = 10 + 9 * ring
        draw.rectangle((gap, gap, 479 - gap, 599 - gap), outline=ink, width=rng.randint(1, 4))
    words = [
        rng.choice(("GALLERY", "MUSEUM", "SALON", "ATELIER", "EXPO", "BIENNALE", "PRINTS")) for _ in range(2)
    ]
    draw.text((60, 470), " ".join(words), fill=ink, font=ImageFont.load_default(34))
    dates = f"{rng.randint(1, 28)} MAY – {rng.randint(1, 30)} JUNE {rng.randint(1950, 2020)}"
    small = f"{dates} · ROOM {rng.randint(1, 9)}"
    draw.text((60, 520), small, fill=ink, font=ImageFont.load_default(17))
    inner = content.resize((360, 380), Image.Resampling.BICUBIC)
    canvas.paste(inner, (60, 60))
    return Edited(
        canvas, ((60 / 480, 60 / 600), (420 / 480, 60 / 600), (420 / 480, 440 / 600), (60 / 480, 440 / 600))
    )


def look(image: Image.Image) -> NDArray[np.float32]:
    """Describe colours, layout and strokes, only to find similar looks: float32, (N,), unit length."""
    pixels = np.asarray(image.resize((64, 64), Image.Resampling.BOX), np.uint8)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    layout = cv2.resize(lab, (4, 4), interpolation=cv2.INTER_AREA).ravel() / 128.0 - 1.0
    colours = np.histogramdd(lab.reshape(-1, 3), bins=(4, 6, 6), range=((0, 256), (80, 180), (80, 180)))[
        0
    ].ravel()
    colours = np.sqrt(colours / colours.sum()) * 3.0
    across, down = (cv2.Sobel(lab[..., 0], cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
    turns = np.histogram(np.arctan2(down, across) % np.pi, 8, (0, np.pi), weights=np.hypot(across, down))[0]
    turns = np.sqrt(turns / max(turns.sum(), 1e-6)) * 1.5
    vector = np.concatenate([layout, colours, turns]).astype(np.float32)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)


def queries_of(
    halves: Halves, *, positives: int, unrelated: int, seed: int = SEED, edits: Sequence[Edit] = EDITS
) -> Iterator[tuple[Query, Image.Image]]:
    """Make queries one by one: `positives` edits, then `unrelated` pictures, then hard negatives.

    Each is seeded by itself: its picture does not hang on which others are asked for.
    """
    references, held_out = halves.references, halves.held_out
    order = list(range(len(references)))
    random.Random(seed).shuffle(order)
    for number in range(positives):
        edit = edits[number % len(edits)]
        work = references[order[(number // len(edits) + 31 * number) % len(order)]]
        edited = apply(edit, work, held_out, seed=seed, number=number)
        query = Query(f"p{number:05d}.jpg", edit.name, edit.group, work.path.name, region=edited.region)
        yield query, edited.image
    for number in range(unrelated):
        work = held_out[number % len(held_out)]
        name = f"u{number:05d}.jpg"
        if number < len(held_out):
            yield Query(name, UNRELATED, UNRELATED), work.open()
        else:
            again = number // len(held_out) - 1
            edit = edits[(again * 11 + number) % len(edits)]
            edited = apply(edit, work, held_out, seed=seed, number=number)
            yield Query(name, UNRELATED_EDITED, UNRELATED_EDITED), edited.image
    yield from _hard_negatives(halves, seed=seed)


def apply(edit: Edit, work: Work, hosts: Sequence[Work], *, seed: int, number: int) -> Edited:
    """Edit a work; the generator is seeded by the edit, the work and the number."""
    rng = random.Random(f"{seed} {edit.name} {work.path.name} {number}")
    host = rng.choice([other for other in hosts if other.path != work.path])
    return edit.make(work.open(), rng, host.open())


def _hard_negatives(halves: Halves, *, seed: int) -> Iterator[tuple[Query, Image.Image]]:
    references, held_out = halves.references, halves.held_out
    by_artist: dict[str, str] = {w.artist: w.path.name for w in references if w.artist}
    for number, work in enumerate(w for w in held_out if w.artist in by_artist):
        yield (
            Query(f"a{number:05d}.jpg", SAME_ARTIST, SAME_ARTIST, related=by_artist[work.artist]),
            work.open(),
        )
    table = np.stack([look(work.open()) for work in references])
    closest = [(float((table @ look(work.open())).max()), work) for work in held_out]
    closest.sort(key=lambda pair: (-pair[0], pair[1].path.name))
    for number, (_, work) in enumerate(closest[: max(1, len(closest) // 4)]):
        nearest = references[int((table @ look(work.open())).argmax())].path.name
        # Seen through the same filter: alike in colour, texture and softness, still another picture.
        edited = apply(edit_named("all, medium"), work, held_out, seed=seed, number=number)
        yield Query(f"l{number:05d}.jpg", SAME_LOOK, SAME_LOOK, related=nearest), edited.image
    for number in range(len(halves.posters) * 5):
        template = number % len(halves.posters)
        made = poster(held_out[7 * number % len(held_out)].open(), template).image
        query = Query(f"t{number:05d}.jpg", SAME_TEMPLATE, SAME_TEMPLATE, related=poster_name(template))
        yield query, made


def encoded(image: Image.Image, *, quality: int = 90) -> bytes:
    """Return a picture as JPEG bytes, which is how queries are met."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
