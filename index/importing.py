"""Embeddings that others have written → index: their model checked on pictures, rows committed in batches, resumable.

An imported reference may have no digest of its picture. Where the table records none, its identity is derived from
its address, else from its row, and marked (`UNSEEN`): no picture's digest begins like that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import descriptors as registry
from index.build import SHOWN_REJECTIONS, BuildProgress, ProgressCallback
from index.catalog import OccurrenceRecord
from index.comparing import Compared, compare
from index.credits import ColumnNames, CreditReader, Credits
from index.descriptors import DescriptorSpec, Kind
from index.embeddings import Pair, find_pairs
from index.errors import DescriptorError, UsageError
from index.items import Rejected, locator_of
from index.reference_index import MANIFEST, ImportedFrom, NewReference, ReferenceIndex
from index.requests import REMOVED_ON_REQUEST, forgotten_key
from index.tables import Row

BATCH_ROWS = 16_384
"""Rows a commit: the most work that a kill can lose, and what is held in memory; 17 MB of rows of 512."""

COMPARED = 64
"""Pictures described again to check the model."""

MIN_COSINE = 0.98
"""Cosine of a row to the same picture described here. Rows made in float16 on a GPU differ by about 0.001
(`index.neural`), which leaves room for other decoders and for pictures stored smaller."""

MAX_FAR = 0.05
"""Share of the compared pictures that may be farther: files that have changed since."""

UNSEEN = "unseen:"
"""Begins the identity of a reference whose picture's digest is not known."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How embeddings are imported.

    Attributes:
        tables: Tables or folders of them; none looks beside the embeddings (`index.embeddings.find_pairs`).
        pictures: Folders, tar shards or pictures of which some are described again, to check the model; none takes
            local files that the tables name, where there are any.
        compared: How many; 0 checks nothing.
        batch_rows: Rows a commit.
        columns: Which columns hold what, where their names do not say.
        device: Where the model runs; None chooses.
        take_back: Admit references that were erased; otherwise they are rejected.
    """

    tables: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    compared: int = COMPARED
    batch_rows: int = BATCH_ROWS
    columns: ColumnNames = field(default_factory=ColumnNames)
    device: str | None = None
    take_back: bool = False


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        descriptor: That the rows are of.
        added: New references.
        occurrences: Rows taken in, those of new references included.
        unchanged: Rows passed over, since they are in the index already.
        rejected: Rows that could not become references.
        rejections: The first of those, with their reasons.
        references: In the index now.
        compared: Pictures described again; 0: the model was not checked.
        min_cosine: The smallest cosine of those to their rows, or None.
        seconds: Wall time.
    """

    path: str
    descriptor: str
    added: int
    occurrences: int
    unchanged: int
    rejected: int
    rejections: tuple[Rejected, ...]
    references: int
    compared: int
    min_cosine: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "rejections"}
        named = [{"path": r.locator, "reason": r.reason, "detail": r.detail} for r in self.rejections]
        return {**values, "rejections": named}


def import_embeddings(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str,
    options: ImportOptions | None = None,
    on_progress: ProgressCallback | None = None,
) -> ImportReport:
    """Index embeddings that are there already, without their pictures; or go on with, or add to, such an index.

    Args:
        sources: `.npy` files, or folders as clip-retrieval writes them; each row one picture.
        out: The index folder. It has the one descriptor, and no small copies.
        model: What the rows were made with: ``ViT-B-32/laion2b_s34b_b79k`` or any other name of a neural descriptor,
            with or without ``clip:``.
        options: How they are imported.
        on_progress: Called about once a batch, from the calling thread.

    Returns:
        What was done. Rows that cannot be used are counted, listed and recorded in the index.

    Raises:
        UsageError: Nothing is there to import, embeddings and tables do not fit together, the rows are not of this
            model, or the index has other descriptors.
        SourceError: A file cannot be used.
        IndexLockedError, IndexWriteError, DescriptorError: See `ReferenceIndex`.
    """
    chosen = options or ImportOptions()
    named = [Path(sources)] if isinstance(sources, (str, Path)) else [Path(source) for source in sources]
    if not named:
        raise UsageError("name at least one .npy file, or a folder of them")
    started = time.monotonic()
    pairs = find_pairs(named, tables=chosen.tables)
    for pair in pairs:
        pair.table.check_told(chosen.columns)
    descriptor = registry.create(_descriptor_name(model), device=chosen.device)
    spec = descriptor.spec
    for pair in pairs:
        _must_fit(pair, spec)
    compared = compare(
        pairs, descriptor, pictures=chosen.pictures, count=chosen.compared, columns=chosen.columns
    )
    _must_be_near(compared, spec.name, given=bool(chosen.pictures))
    with _open_or_create(Path(out), spec, chosen.device) as index:
        for source in named:
            index.note_import(ImportedFrom(locator_of(source), len(compared.cosines), compared.min_cosine))
        run = _Run(index, spec, chosen, sum(pair.embeddings.rows for pair in pairs), on_progress)
        for pair in pairs:
            run.take(pair)
        index.merge_small_segments()
        if index.calibration_is_stale:
            index.calibrate()
        return ImportReport(
            path=str(out),
            descriptor=spec.name,
            added=run.added,
            occurrences=run.occurrences,
            unchanged=run.unchanged,
            rejected=run.rejected,
            rejections=tuple(run.rejections),
            references=len(index),
            compared=len(compared.cosines),
            min_cosine=compared.min_cosine,
            seconds=time.monotonic() - started,
        )


def _descriptor_name(model: str) -> str:
    name = model.strip()
    return name if name.startswith(("clip:", "sscd:")) else f"clip:{name}"


def _must_fit(pair: Pair, spec: DescriptorSpec) -> None:
    if spec.kind is not Kind.UNIT or pair.embeddings.width != spec.width:
        raise DescriptorError(
            spec.name,
            f"gives rows of {spec.width}, {pair.embeddings.path} has rows of {pair.embeddings.width}: it was made "
            "with another model. Name that one with --model",
        )


def _must_be_near(compared: Compared, name: str, *, given: bool) -> None:
    cosines = compared.cosines
    if given and not cosines:
        raise UsageError(
            "none of the pictures given with --pictures is named in the tables (by key, or by path), so the model "
            "cannot be checked. Name the pictures that the embeddings were made of, or leave --pictures out"
        )
    far = [value for value in cosines if value < MIN_COSINE]
    if len(far) > MAX_FAR * len(cosines):
        raise UsageError(
            f"the embeddings are not what {name} makes of these pictures: {len(far)} of {len(cosines)} compared have "
            f"a cosine below {MIN_COSINE} to their row, the smallest {min(far):.3f} ({compared.farthest}). Another "
            "model, other preprocessing, or rows in another order than the table's. Name the right --model; "
            "nothing was imported"
        )


def _open_or_create(folder: Path, spec: DescriptorSpec, device: str | None) -> ReferenceIndex:
    if not (folder / MANIFEST).exists():
        return ReferenceIndex.create(
            folder, descriptors=(spec.name,), thumbnails=False, squares=False, device=device
        )
    index = ReferenceIndex.open(folder, writable=True, device=device)
    try:
        names = ",".join(each.name for each in index.specs)
        if names != spec.name or index.keeps_thumbnails:
            raise UsageError(
                f"{folder}: has {names}{' and small copies' if index.keeps_thumbnails else ''}, which embeddings alone "
                f"cannot give. Only an index with {spec.name} and no small copies takes them: name another --out"
            )
        index.descriptors()  # the same weights and preprocessing
    except BaseException:
        index.close()
        raise
    return index


class _Run:
    """One import: blocks of rows with their table's rows, a commit each."""

    def __init__(
        self,
        index: ReferenceIndex,
        spec: DescriptorSpec,
        options: ImportOptions,
        total: int,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._index = index
        self._name = spec.name
        self._options = options
        self._total = total
        self._on_progress = on_progress
        self._reader = CreditReader(options.columns)
        self._forgotten = frozenset() if options.take_back else index.forgotten()
        self.added = self.occurrences = self.unchanged = self.rejected = 0
        self.rejections: list[Rejected] = []

    def take(self, pair: Pair) -> None:
        """Import one file of rows, or what of it is not in the index yet."""
        path, table = pair.embeddings.path, pair.table
        name = locator_of(path)
        stamp = [
            each for file in (path, table.path) for each in (os.stat(file).st_size, os.stat(file).st_mtime_ns)
        ]
        if not self._options.take_back and self._index.shards_done().get(name) == stamp:
            self.unchanged += pair.embeddings.rows
            self._tell()
            return
        start, whole = 0, True
        for block in _blocks(table.rows(omit=table.blobs), self._options.batch_rows):
            broken = (
                block[-1] if isinstance(block[-1], Rejected) and block[-1].reason == "broken_table" else None
            )
            rows = block[:-1] if broken else block
            self._commit(pair, start, rows, stamp[3])
            start += len(rows)
            if broken:
                whole = False
                self._reject(broken)
                self._index.add([])
        if whole:
            self._index.note_shard_done(name, stamp)

    def _commit(self, pair: Pair, start: int, block: Sequence[Row | Rejected], mtime_ns: int) -> None:
        size = pair.embeddings.width * pair.embeddings.dtype.itemsize
        named: list[tuple[int, Row, str]] = []
        for place, row in enumerate(block):
            if isinstance(row, Rejected):
                self._reject(row)
            else:
                named.append((place, row, pair.table.row_locator(row.number)))
        known = self._index.known_among(
            [locator for *_, locator in named], size, mtime_ns, take_back=self._options.take_back
        )
        fresh = [each for each in named if each[2] not in known]
        self.unchanged += len(named) - len(fresh)
        batch: list[NewReference] = []
        if fresh:
            unit, usable = unit_rows(pair.embeddings.read(start, len(block)))
            for place, row, locator in fresh:
                credits = self._reader.read(row.values, pair.table.blobs)
                digest = identity(row.values, credits, unit[place])
                if not usable[place]:
                    self._reject(Rejected(locator, "bad_vector", "zero, or not finite"), size, mtime_ns)
                elif self._forgotten and forgotten_key(digest) in self._forgotten:
                    self._reject(Rejected(locator, REMOVED_ON_REQUEST), size, mtime_ns)
                else:
                    place_of = OccurrenceRecord(locator, credits, size, mtime_ns)
                    rows = {self._name: unit[place : place + 1]}
                    batch.append(NewReference(digest, *_size_of(row.values), place_of, rows))
        self.added += self._index.add(batch, take_back=self._options.take_back)
        self.occurrences += len(batch)
        self._tell()

    def _reject(self, rejected: Rejected, size: int = -1, mtime_ns: int = 0) -> None:
        self.rejected += 1
        if len(self.rejections) < SHOWN_REJECTIONS:
            self.rejections.append(rejected)
        self._index.reject(rejected, size=size, mtime_ns=mtime_ns)

    def _tell(self) -> None:
        if self._on_progress is not None:
            done = self.occurrences + self.unchanged + self.rejected
            with contextlib.suppress(BrokenPipeError):
                self._on_progress(BuildProgress(done, self._total, self.added, self.rejected))


def _blocks(rows: Iterator[Row | Rejected], size: int) -> Iterator[list[Row | Rejected]]:
    while block := list(islice(rows, size)):
        yield block


def unit_rows(values: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Scale rows to unit length.

    Args:
        values: float32 or float64, (N, width).

    Returns:
        float16, (N, width), zeros where a row has no direction; and which rows have one, bool, (N,).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(values).max(axis=1, keepdims=True)
        usable = np.isfinite(largest[:, 0]) & (largest[:, 0] > 0)
        largest[~usable] = 1.0
        scaled = values / largest  # squares of very large or small values would leave the range
        scaled[~usable] = 0.0
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    lengths[~usable] = 1.0
    return (scaled / lengths).astype(np.float16), usable


def identity(values: Mapping[str, Any], credits: Credits, row: NDArray[np.float16]) -> str:
    """Return what a reference without its picture is known by.

    Args:
        values: The table's row.
        credits: What was read from it.
        row: As stored: float16, (width,).

    Returns:
        The SHA-256 of its file where the table records that; else `UNSEEN` and a digest of its address, so that a
        picture listed twice is one reference; of a picture without an address, of its row.
    """
    recorded = values.get("sha256")
    if isinstance(recorded, str) and _SHA256.fullmatch(recorded):
        return recorded.lower()
    told = (
        b"address\n" + credits.source.encode("utf-8", "replace")
        if credits.source
        else b"row\n" + row.tobytes()
    )
    return UNSEEN + hashlib.sha256(told).hexdigest()


def _size_of(values: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height in pixels as img2dataset records them, 0 where it does not say."""
    for names in (("original_width", "original_height"), ("width", "height")):
        found = [values.get(name) for name in names]
        if all(isinstance(each, (int, float)) and 0 < each < 1e9 for each in found):
            return int(found[0] or 0), int(found[1] or 0)
    return 0, 0
