"""Makes queries with known truth from a folder of pictures: edits of half of them, the other half unedited.

python tests/benchmarks/queries.py PICTURES OUT   writes OUT/references/ (links), OUT/queries/, OUT/truth.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

SEED = 20261120
Box = tuple[float, float, float, float]
FULL: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Edited:
    """An edited picture, and where (fractions of it) the reference shows."""

    image: Image.Image
    region: Box = FULL


def jpeg_quality_20(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Recompress at quality 20."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=20)
    return Edited(Image.open(buffer).convert("RGB"))


def resized_to_quarter(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Shrink both sides to a quarter."""
    size = (max(1, image.width // 4), max(1, image.height // 4))
    return Edited(image.resize(size, Image.Resampling.BICUBIC))


def mirrored(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Flip left to right."""
    return Edited(ImageOps.mirror(image))


def cropped_to_60(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Keep a window of 60 % of the area."""
    side = 0.6**0.5
    width, height = round(image.width * side), round(image.height * side)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return Edited(image.crop((x, y, x + width, y + height)))


def rotated_by_10(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Turn by 10° either way, corners black."""
    return Edited(image.rotate(rng.choice((-10, 10)), Image.Resampling.BICUBIC))


def colour_shifted(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Turn the hue, change saturation, contrast and brightness."""
    hue, saturation, value = image.convert("HSV").split()
    shift = rng.randint(20, 80)
    turned = Image.merge("HSV", (hue.point(lambda v: (v + shift) % 256), saturation, value)).convert("RGB")
    turned = ImageEnhance.Color(turned).enhance(rng.uniform(0.5, 1.6))
    turned = ImageEnhance.Contrast(turned).enhance(rng.uniform(0.7, 1.3))
    return Edited(ImageEnhance.Brightness(turned).enhance(rng.uniform(0.8, 1.2)))


def text_over_it(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Write three lines of large text across it."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for line in range(3):
        size = max(14, result.width // rng.randint(7, 12))
        words = "".join(rng.choice("ABCDEFGHKLMNPRSTUVWXYZ ") for _ in range(16))
        at = (rng.randint(0, result.width // 4), result.height * (2 * line + 1) // 7)
        colour = (rng.choice((0, 255)), rng.choice((0, 255)), 255)
        draw.text(
            at, words, fill=colour, font=ImageFont.load_default(size), stroke_width=2, stroke_fill="black"
        )
    return Edited(result)


def part_pasted(image: Image.Image, rng: random.Random, host: Image.Image) -> Edited:
    """Paste a part of 40 % of its area into another picture, at a random size and place."""
    side = 0.4**0.5
    width, height = round(image.width * side), round(image.height * side)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    part = image.crop((x, y, x + width, y + height))
    canvas = host.copy()
    scale = rng.uniform(0.5, 0.75) * min(canvas.width / width, canvas.height / height)
    part = part.resize(
        (max(8, round(width * scale)), max(8, round(height * scale))), Image.Resampling.BICUBIC
    )
    left, top = rng.randint(0, canvas.width - part.width), rng.randint(0, canvas.height - part.height)
    canvas.paste(part, (left, top))
    box = (
        left / canvas.width,
        top / canvas.height,
        (left + part.width) / canvas.width,
        (top + part.height) / canvas.height,
    )
    return Edited(canvas, box)


Edit = Callable[[Image.Image, random.Random, Image.Image], Edited]
WHOLE: tuple[Edit, ...] = (
    jpeg_quality_20,
    resized_to_quarter,
    mirrored,
    rotated_by_10,
    colour_shifted,
    text_over_it,
)
PARTS: tuple[Edit, ...] = (cropped_to_60, part_pasted)
UNRELATED = "unrelated"


def split(pictures: list[Path], *, seed: int = SEED) -> tuple[list[Path], list[Path]]:
    """Return (references, held out): a random half each, deterministic."""
    order = sorted(pictures)
    random.Random(seed).shuffle(order)
    return sorted(order[::2]), sorted(order[1::2])


def make(pictures: Path, out: Path, *, queries: int = 2000, unrelated: int = 500, seed: int = SEED) -> None:
    """Write references, queries and truth.csv (file_name, reference, edit, x0, y0, x1, y1)."""
    found = [p for p in sorted(pictures.iterdir()) if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}]
    references, held_out = split(found, seed=seed)
    if out.exists():
        shutil.rmtree(out)
    (out / "references").mkdir(parents=True)
    (out / "queries").mkdir()
    for path in references:
        shutil.copyfile(path, out / "references" / path.name)
    if (pictures / "metadata.csv").exists():
        kept = {p.name for p in references}
        with (pictures / "metadata.csv").open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            rows = [row for row in reader if row["file_name"] in kept]
            names = list(reader.fieldnames or ())
        with (out / "references" / "metadata.csv").open("w", encoding="utf-8", newline="") as target:
            writer = csv.DictWriter(target, names)
            writer.writeheader()
            writer.writerows(rows)
    edits = WHOLE + PARTS
    rng = random.Random(seed)
    with (out / "truth.csv").open("w", encoding="utf-8", newline="") as stream:
        truth = csv.writer(stream)
        truth.writerow(["file_name", "reference", "edit", "x0", "y0", "x1", "y1"])
        for number in range(queries - unrelated):
            edit = edits[number % len(edits)]
            path = references[(number // len(edits) * 7 + number) % len(references)]
            host_path = rng.choice(held_out)
            with Image.open(path) as image, Image.open(host_path) as host:
                edited = edit(image.convert("RGB"), rng, host.convert("RGB"))
            name = f"q{number:05d}.jpg"
            edited.image.save(out / "queries" / name, quality=20 if edit is jpeg_quality_20 else 90)
            truth.writerow([name, path.name, edit.__name__, *(f"{v:.4f}" for v in edited.region)])
        for number in range(unrelated):
            path = held_out[number % len(held_out)]
            name = f"u{number:05d}.jpg"
            if number < len(held_out):
                shutil.copyfile(path, out / "queries" / name)
            else:
                edit = edits[number % (len(edits) - 1)]
                with Image.open(path) as image:
                    edited = edit(image.convert("RGB"), rng, image.convert("RGB"))
                edited.image.save(out / "queries" / name, quality=90)
            truth.writerow([name, "", UNRELATED, *FULL])


def main() -> None:
    """Parse and make."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    make(arguments.pictures, arguments.out, queries=arguments.queries, seed=arguments.seed)
    print(f"{len(os.listdir(arguments.out / 'queries'))} queries in {arguments.out}")


if __name__ == "__main__":
    main()
