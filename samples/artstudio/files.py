"""Writes the sample pictures and their tables, the same bytes every time."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from artstudio.canvas import RGB


def save(picture: RGB, path: Path, *, quality: int = 88) -> None:
    """Writes a picture in the format that its extension names."""
    image = Image.fromarray(picture)
    if path.suffix == ".png":
        image.save(path, optimize=True)
    elif path.suffix == ".webp":
        image.save(path, quality=quality, method=6)
    else:
        image.save(path, quality=quality, optimize=True)


def save_table(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Writes rows that share their columns as UTF-8 CSV."""
    with path.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
