"""The artist's look-up: photographs of works must lead to them, and variants of names to exactly their works."""

from __future__ import annotations

import csv
import random
import shutil
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from detector import Detector, ReferenceIndex, build_index, lookup
from tests.benchmarks import rerender
from tests.benchmarks.results import Options, Result, Table, progress, share
from tests.benchmarks.workload import Work, works_of

PHOTOGRAPHS = 250
LEAST_FOUND = 0.90
PLASTER, FRAME, MAT = (186, 180, 170), (70, 45, 25), (238, 234, 225)


def run(options: Options) -> Result:
    """Measure."""
    folder = options.scratch("lookup")
    index = folder / "art.index"
    shutil.rmtree(index, ignore_errors=True)
    progress("lookup: indexing")
    build_index(options.data, index)
    works = works_of(options.data)
    result = Result("lookup", pictures=len(works))
    _photographs(result, index, works, folder / "photographs", options)
    _names(result, index, options)
    return result


def _photographs(result: Result, index: Path, works: list[Work], folder: Path, options: Options) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    count = min(len(works), 25 if options.quick else PHOTOGRAPHS)
    progress(f"lookup: {count} photographs")
    truth: dict[str, tuple[str, str]] = {}
    for number, work in enumerate(random.Random(options.seed).sample(works, count)):
        kind = list(KINDS)[number % len(KINDS)]
        path = folder / f"{number:03d}.jpg"
        KINDS[kind](work.open(), random.Random(options.seed + number)).save(path, quality=72)
        truth[path.name] = kind, work.path.name
    began = time.monotonic()
    found: dict[str, dict[str, int]] = defaultdict(dict)
    with Detector.open(index) as detector:
        for path in sorted(folder.iterdir()):
            for each in lookup(detector, pictures=[path]).works:
                assert each.match is not None
                for place in each.reference.occurrences:
                    found[path.name][Path(place.path).name] = each.match.level
    rows, seen, sure, wrong = [], 0, 0, 0
    for kind in KINDS:
        mine = [(name, meant) for name, (which, meant) in truth.items() if which == kind]
        levels = [found[name].get(meant, 0) for name, meant in mine]
        others = sum(
            level >= 3 and other != meant for name, meant in mine for other, level in found[name].items()
        )
        shown, verified = sum(level >= 2 for level in levels), sum(level >= 3 for level in levels)
        seen, sure, wrong = seen + shown, sure + verified, wrong + others
        rows.append((kind, len(mine), share(shown, len(mine)), share(verified, len(mine)), others))
    rows.append(("**all**", len(truth), share(seen, len(truth)), share(sure, len(truth)), wrong))
    columns = ("photograph", "n", "shown (level ≥ 2)", "verified (level ≥ 3)", "another work verified")
    each_s = (time.monotonic() - began) / len(truth)
    result.tables.append(Table("Photographs of works", columns, rows, f"{each_s:.2f} s a picture."))
    result.bar("photographs that lead to their work", seen / len(truth), least=LEAST_FOUND)


def _names(result: Result, index: Path, options: Options) -> None:
    metadata = options.data / "metadata.csv"
    if not metadata.exists():
        return
    made: dict[str, set[str]] = defaultdict(set)
    with metadata.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            made[row.get("artist") or ""].add(row["file_name"])
    people = [name for name in sorted(made) if _is_plain(name)]
    variants = 0
    wrong: list[str] = []
    with ReferenceIndex.open(index) as opened:
        for name in people:
            for variant in _variants(name):
                report = lookup(opened, variant)
                found = {Path(o.path).name for work in report.works for o in work.reference.occurrences}
                # One picture may lie in the folder under several names: it is one reference.
                expected = {file for artist in report.artists for file in made[artist]}
                variants += 1
                if report.artists != (name,) or not made[name] <= found or found - expected:
                    wrong.append(f"{variant} → {', '.join(report.artists) or 'nothing'}")
    row = (len(people), variants, share(variants - len(wrong), variants))
    result.tables.append(
        Table(
            "Variants of names", ("artists", "variants", "found exactly their works"), [row], "; ".join(wrong)
        )
    )
    result.bar(
        "variants that find exactly their artist's works", 1 - len(wrong) / max(variants, 1), least=0.95
    )


def _is_plain(name: str) -> bool:
    words = name.split()
    return 2 <= len(words) <= 3 and all(word.isalpha() and word[0].isupper() for word in words)


def _variants(name: str) -> list[str]:
    words = name.split()
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return [f"{words[-1]}, {' '.join(words[:-1])}", bare.lower(), name.upper()]


def _slanted(
    image: Image.Image, rng: random.Random, amount: float, around: tuple[int, int, int]
) -> Image.Image:
    """Return it seen from a side: its corners moved by up to `amount` of its sides."""
    width, height = image.size
    margin = 0.12
    wide, high = round(width * (1 + 2 * margin)), round(height * (1 + 2 * margin))
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    rows, values = [], []
    for x, y in corners:
        u = x + margin * width + rng.uniform(-amount, amount) * width
        v = y + margin * height + rng.uniform(-amount, amount) * height
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
        values += [x, y]
    back = np.linalg.solve(np.array(rows, float), np.array(values, float))
    seen = image.convert("RGBA").transform(
        (wide, high), Image.Transform.PERSPECTIVE, tuple(back), Image.Resampling.BICUBIC
    )
    scene = Image.new("RGB", (wide, high), around)
    scene.paste(seen, (0, 0), seen)
    return scene


def _with_glare(image: Image.Image, rng: random.Random) -> Image.Image:
    width, height = image.size
    mask = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(mask)
    for _ in range(2):
        x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.1, 0.7) * height
        radius = rng.uniform(0.1, 0.22) * min(width, height)
        draw.ellipse((x - 1.4 * radius, y - radius, x + 1.4 * radius, y + radius), fill=242)
    mask = mask.filter(ImageFilter.GaussianBlur(min(width, height) * 0.05))
    return Image.composite(Image.new("RGB", image.size, (255, 252, 240)), image, mask)


def _framed(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return it in a mat and a frame, on a wall."""
    side = min(image.size)
    frame, mat = round(side * rng.uniform(0.06, 0.12)), round(side * rng.uniform(0.08, 0.2))
    outer = Image.new("RGB", (image.width + 2 * (frame + mat), image.height + 2 * (frame + mat)), FRAME)
    outer.paste(Image.new("RGB", (image.width + 2 * mat, image.height + 2 * mat), MAT), (frame, frame))
    outer.paste(image, (frame + mat, frame + mat))
    wall = Image.new("RGB", (round(outer.width * 1.25), round(outer.height * 1.25)), PLASTER)
    wall.paste(outer, (round(outer.width * 0.12), round(outer.height * 0.1)))
    return wall


def _lit(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return it under a warm light from a side, with a sensor's noise."""
    pixels = np.asarray(image, np.float32)
    height, width, _ = pixels.shape
    across = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1.1), width)[None, :, None]
    down = np.linspace(rng.uniform(0.8, 1.05), rng.uniform(0.7, 1), height)[:, None, None]
    cast = np.array([1.06, 1.0, rng.uniform(0.8, 0.95)])
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 5, pixels.shape)
    return Image.fromarray(np.clip(pixels * across * down * cast + noise, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "slanted by up to 9 % of a side": lambda image, rng: _lit(
        _slanted(image, rng, 0.09, (120, 110, 100)), rng
    ),
    "glare": lambda image, rng: _lit(_with_glare(_slanted(image, rng, 0.03, (90, 85, 80)), rng), rng),
    "framed, on a wall": lambda image, rng: _lit(_slanted(_framed(image, rng), rng, 0.03, PLASTER), rng),
    "blurred": lambda image, rng: _lit(_slanted(image, rng, 0.04, (60, 60, 60)), rng).filter(
        ImageFilter.GaussianBlur(2.2)
    ),
    "slanted, with glare and blur": lambda image, rng: rerender.photograph(image, rng, strength=2)[0],
}
