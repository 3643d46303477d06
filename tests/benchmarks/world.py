"""The pictures and embeddings that the crash tests index: made up, tiny, and written to by nobody."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from index.searching import Query

FIRST, SECOND = 8, 4
"""Pictures that indexes are built of, and those added later."""

WIDTH = 256
"""Columns of rows of embeddings."""

SHARD = 5
"""Rows in a file of embeddings."""


@dataclass(frozen=True)
class World:
    """What the operations read; nothing writes to it.

    Attributes:
        folder: Holds all of it.
        queries: Pictures described for searches, by the descriptors of an index.
    """

    folder: Path
    queries: dict[tuple[str, ...], list[Query]]

    @property
    def first(self) -> Path:
        """Pictures that indexes are built of."""
        return self.folder / "first"

    @property
    def second(self) -> Path:
        """Pictures that are added: new ones, one that is known, one that cannot be read."""
        return self.folder / "second"

    @property
    def rows(self) -> Path:
        """Embeddings with their tables, as clip-retrieval lays them out."""
        return self.folder / "rows"


def make_world(folder: Path, *, seed: int) -> World:
    """Paint pictures and write embeddings."""
    rng = np.random.default_rng(seed)
    world = World(folder, {})
    for place, count in ((world.first, FIRST), (world.second, SECOND)):
        place.mkdir(parents=True)
        lines = ["file_name,artist,licence"]
        for number in range(count):
            _paint(rng).save(place / f"{number:02d}.png")
            lines.append(f"{number:02d}.png,Artist {number % 4},CC-BY-4.0")
        (place / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(world.first / "03.png", world.second / "again.png")
    (world.second / "broken.png").write_bytes((world.first / "04.png").read_bytes()[:200])
    for name in ("img_emb", "metadata"):
        (world.rows / name).mkdir(parents=True)
    for shard in range(2):
        np.save(
            world.rows / "img_emb" / f"img_emb_{shard}.npy",
            rng.standard_normal((SHARD, WIDTH)).astype(np.float16),
        )
        table = [f"https://pictures.example/{shard}/{n}.jpg,a picture {n}" for n in range(SHARD)]
        text = "\n".join(["url,caption", *table]) + "\n"
        (world.rows / "metadata" / f"metadata_{shard}.csv").write_text(text, encoding="utf-8")
    return world


def _paint(rng: np.random.Generator) -> Image.Image:
    size = tuple(rng.integers(84, 110, 2).tolist())
    coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize(size)
    noise = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    return Image.blend(coarse, noise.filter(ImageFilter.GaussianBlur(2)), 0.4)
