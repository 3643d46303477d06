"""Is the model that is named the one that made these embeddings? A sample of pictures is described again."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from index.credits import NO_CREDITS, ColumnNames, find_column
from index.descriptors import Descriptor
from index.embeddings import Pair
from index.errors import UnreadableImageError
from index.images import MAX_BYTES, read_image
from index.items import SourceItem
from index.lists import named_item
from index.sources import open_source
from index.tables import Row, Table

MAX_LISTED = 100_000
"""Pictures, or rows, among which the sample is drawn."""

KEY = "key"
"""img2dataset's column of names: those of the pictures in its folders and shards."""

_AT_ONCE = 16
_TRIED = 4
"""Pictures looked for per picture wanted: files may be gone, and names may not be in the tables."""

_Sample = tuple[Pair, int, SourceItem]


@dataclass(frozen=True, slots=True)
class Compared:
    """What describing pictures again gave.

    Attributes:
        cosines: Of each picture to its row.
        farthest: Name of the picture with the smallest.
    """

    cosines: tuple[float, ...] = ()
    farthest: str = ""

    @property
    def min_cosine(self) -> float | None:
        """The smallest cosine, to four places."""
        return round(min(self.cosines), 4) if self.cosines else None


def compare(
    pairs: Sequence[Pair],
    descriptor: Descriptor,
    *,
    pictures: Sequence[Path],
    count: int,
    columns: ColumnNames,
    seed: int = 0,
) -> Compared:
    """Describe some pictures again, and compare them with their rows.

    Args:
        pairs: The embeddings and their tables.
        descriptor: The model that is said to have made them.
        pictures: Folders, shards or files to find the pictures in, by key or path; none: local files that rows name.
        count: Pictures to compare, at most.
        columns: Which column of a table holds the path, where its name does not say.
        seed: Of the sample.

    Returns:
        Nothing compared where no picture was found.

    Raises:
        SourceError: A folder or shard of pictures cannot be used.
    """
    if count < 1:
        return Compared()
    draw = random.Random(seed)
    wanted = _TRIED * count
    samples = (
        _of_pictures(pairs, pictures, wanted, columns, draw)
        if pictures
        else _of_rows(pairs, wanted, columns, draw)
    )
    cosines: list[float] = []
    names: list[str] = []
    while len(cosines) < count and (group := list(islice(samples, min(_AT_ONCE, count - len(cosines))))):
        for name, cosine in _cosines(descriptor, group):
            names.append(name)
            cosines.append(cosine)
    return Compared(tuple(cosines), names[int(np.argmin(cosines))]) if cosines else Compared()


def _cosines(descriptor: Descriptor, group: Sequence[_Sample]) -> Iterator[tuple[str, float]]:
    rows, pictures, names = [], [], []
    for pair, place, item in group:
        stored = pair.embeddings.read(place, 1)[0].astype(np.float64)
        length = float(np.linalg.norm(stored))
        if not 0 < length < np.inf:
            continue
        try:
            pictures.append(read_image(item.read(), locator=item.locator))
        except UnreadableImageError:
            continue
        rows.append(stored / length)
        names.append(item.locator)
    described = descriptor.describe(pictures)
    for name, stored, found in zip(names, rows, described, strict=True):
        yield name, float(found[0].astype(np.float64) @ stored)


def _of_rows(
    pairs: Sequence[Pair], wanted: int, columns: ColumnNames, draw: random.Random
) -> Iterator[_Sample]:
    """Yield rows, in random order, whose picture is a file at hand."""
    rows = (
        (pair, place, name)
        for pair in pairs
        for place, names in _named(pair.table, columns)
        for name in names[:1]
    )
    for pair, place, name in _drawn(rows, wanted, draw):
        folder = pair.table.path.parent
        for base in (folder, folder.parent, Path()):
            item = named_item(base, name, NO_CREDITS, pair.table.row_locator(place + 1), MAX_BYTES)
            if isinstance(item, SourceItem):
                yield pair, place, item
                break


def _of_pictures(
    pairs: Sequence[Pair], pictures: Sequence[Path], wanted: int, columns: ColumnNames, draw: random.Random
) -> Iterator[_Sample]:
    """Yield the rows of pictures given, found by the name without its ending; where that is not one picture's, not."""
    items = (each for each in chain.from_iterable(map(open_source, pictures)) if isinstance(each, SourceItem))
    by_stem: dict[str, list[SourceItem]] = {}
    for item in islice(items, MAX_LISTED):
        by_stem.setdefault(_stem(item.locator), []).append(item)
    stems = sorted(by_stem)
    draw.shuffle(stems)
    open_stems = {stem: by_stem[stem] for stem in stems[:wanted]}
    for pair in pairs:
        for place, names in _named(pair.table, columns, keys=True):
            for name in names:
                fitting = open_stems.get(_stem(name), [])
                whole = [item for item in fitting if item.locator.endswith(name)]
                found = whole or [item for item in fitting if _may_be(name, item, pictures)]
                if len(found) == 1:
                    del open_stems[_stem(name)]
                    yield pair, place, found[0]
                    break
            if not open_stems:
                return


def _named(table: Table, columns: ColumnNames, *, keys: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (place from 0, names of the picture: path, key) of each row that has any."""
    path, key = table.path_column(columns), find_column(table.columns, KEY) if keys else None
    read = [column for column in (path, key) if column is not None]
    if not read:
        return
    omit: Collection[str] = set(table.columns) - set(read)
    for place, row in enumerate(table.rows(omit=omit)):
        names = [_text(row.values.get(column)) for column in read] if isinstance(row, Row) else []
        if any(names):
            yield place, [name for name in names if name]


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, (str, int)) else ""


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/").rpartition("::")[2]).stem


def _may_be(name: str, item: SourceItem, pictures: Sequence[Path]) -> bool:
    """Whether folders speak against it: ``a/1.jpg`` is not ``b/1.jpg``, but may have moved to a folder or a shard."""
    folder = PurePosixPath(name.replace("\\", "/")).parent.name
    return not folder or item.offset >= 0 or item.path.parent in pictures or item.path.parent.name == folder


def _drawn(
    rows: Iterator[tuple[Pair, int, str]], count: int, draw: random.Random
) -> list[tuple[Pair, int, str]]:
    """Draw from the first `MAX_LISTED`, each as likely."""
    kept: list[tuple[Pair, int, str]] = []
    for number, row in enumerate(islice(rows, MAX_LISTED)):
        if len(kept) < count:
            kept.append(row)
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = row
    draw.shuffle(kept)
    return kept
