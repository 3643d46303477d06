"""`ReferenceIndex`: one index folder, created, opened, added to, removed from, searched and checked here.

The only writer of an index folder. DESIGN section 3 has the layout and the invariants; `index.catalog` holds
the commit point. Longer than 400 lines because every write to the folder must be in one place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import descriptors as registry
from index import sketches as sketching
from index.calibration import Null, calibrate
from index.catalog import FILE_NAME as CATALOG_FILE
from index.catalog import Catalog, OccurrenceRecord, ReferenceRecord, SegmentRecord
from index.descriptors import DescriptorSpec, Kind
from index.errors import (
    GARBLED,
    IndexCorruptError,
    IndexFolderError,
    IndexLockedError,
    IndexMissingError,
    IndexVersionError,
    IndexWriteError,
    UsageError,
)
from index.items import Rejected
from index.plain import must_be_file, must_be_plain, read_file
from index.requests import (
    ACCEPTED,
    DECLINED,
    MAX_STATEMENT,
    OPEN,
    REMOVED_ON_REQUEST,
    RemovalRequest,
    bounded,
    find_request,
    forgotten_key,
    now,
)
from index.requests import requests as requests_of
from index.searching import Searchable
from index.segments import STEM, Rows, ids_path, map_segment, write_segment
from index.sketches import Measured, Sketches, SketchRecord
from index.thumbnails import FILE_NAME as THUMBNAIL_FILE
from index.thumbnails import Thumbnails
from index.vectors import BitStore, LocalStore, Sketched, UnitStore, open_store

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LOCK_FILE = "writer.lock"
_FOLDERS = {"vectors", "ann"}
_OURS = (
    _FOLDERS
    | {MANIFEST, f"{MANIFEST}.tmp", LOCK_FILE, f"{LOCK_FILE}.held"}
    | {
        name + suffix
        for name in (CATALOG_FILE, THUMBNAIL_FILE)
        for suffix in ("", "-wal", "-shm", "-journal")
    }
)
"""Names in an index folder; a creation that was killed leaves some of them, and is taken up again."""

ERASING = "erasing"
"""Fact that is true from the commit that gives references up to the end of overwriting them: a kill may lie between."""

CALIBRATED_TO = "calibrated_to"
"""Fact: the highest id given when the index was last calibrated."""

MAX_MANIFEST_BYTES = 16 * 1024 * 1024
"""A larger manifest is none."""

_ROWS_FILE = re.compile(rf"{STEM}(\.ids)?\.npy")

ASKED_AGAIN = 3
"""Times that a reader looks again for small copies, which a writer may erase and put back between two looks."""

NAMED_WITHIN_S = 1.0
"""How long a writer may take from getting the lock to saying who it is."""

MERGE_ABOVE = 24
"""Small segments of one descriptor that a writer leaves standing before it merges them."""


@dataclass(frozen=True, slots=True)
class NewReference:
    """A described picture on its way into an index.

    Attributes:
        rows: By descriptor name; None where the digest was known already and nothing was described.
        thumbnail: WebP bytes, or None.
    """

    sha256: str
    width: int
    height: int
    occurrence: OccurrenceRecord
    rows: dict[str, NDArray[Any]] | None
    thumbnail: bytes | None = None
    trim: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class ImportedFrom:
    """Where rows came from that others had described; kept in the manifest.

    Attributes:
        source: As named by who imported them.
        compared: Pictures described again to see whether the model is the one named; 0: none was at hand.
        min_cosine: Of those, the smallest cosine to the row imported; None where none was compared.
    """

    source: str
    compared: int = 0
    min_cosine: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImportedFrom:
        """Read what `to_dict` wrote."""
        least = values.get("min_cosine")
        return cls(str(values["source"]), int(values["compared"]), None if least is None else float(least))


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What `detector index info` shows."""

    path: str
    format_version: int
    generation: int
    references: int
    occurrences: int
    rejected: int
    descriptors: tuple[DescriptorSpec, ...]
    rows: dict[str, int] = field(default_factory=dict)
    bytes_on_disk: int = 0
    thumbnails: bool = False
    regions: bool = False
    squares: bool = False
    open_requests: int = 0
    imported: tuple[ImportedFrom, ...] = ()
    sketches: dict[str, SketchRecord] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        values["descriptors"] = [spec.to_dict() for spec in self.descriptors]
        values["imported"] = [each.to_dict() for each in self.imported]
        values["sketches"] = {name: each.to_dict() for name, each in self.sketches.items()}
        return values


class ReferenceIndex(Searchable):
    """An index folder. Use `create` or `open`; readers may share it between threads."""

    def __init__(
        self, path: Path, manifest: dict[str, Any], *, lock: Any, device: str | None, new: bool = False
    ) -> None:
        """Used by `create` and `open`."""
        super().__init__(path, manifest, device=device)
        self._lock = lock
        self._stores: dict[str, BitStore | UnitStore | LocalStore] = {}
        writable = lock is not None
        self._catalog = Catalog(path, writable=writable, create=new)
        self._thumbnails = Thumbnails(path, writable=writable and bool(manifest.get("thumbnails", True)))
        self._numbers: dict[str, int] = {}
        self._rejected_buffer: list[tuple[Rejected, int, int]] = []
        self._pinned: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        if writable:
            self._sweep()
        else:
            self._pin()

    # Opening and closing

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        descriptors: Sequence[str] = registry.DEFAULT_DESCRIPTORS,
        thumbnails: bool = True,
        regions: bool = False,
        squares: bool = True,
        device: str | None = None,
    ) -> ReferenceIndex:
        """Make an index folder and open it for writing.

        Raises:
            UsageError: There is something else at this path.
            DescriptorError: A descriptor is unknown, or its weights are missing.
            IndexWriteError: The folder cannot be made.
        """
        folder = Path(path)
        if (folder / MANIFEST).exists():
            raise _there_already(folder)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file. Name a folder for the index")
        if folder.is_dir() and any(entry.name not in _OURS for entry in folder.iterdir()):
            raise UsageError(f"{folder}: holds other files. Name a new or empty folder for the index")
        if not descriptors:
            raise UsageError("name at least one descriptor. Example: pdq,phash,keypoints")
        made = [registry.create(name, device=device) for name in dict.fromkeys(descriptors)]
        manifest = {
            "format_version": FORMAT_VERSION,
            "kind": "replication-detector index",
            "descriptors": [d.spec.to_dict() for d in made],
            "thumbnails": thumbnails,
            "regions": regions,
            "squares": squares,
        }
        with _write_errors(folder):
            # Folders that get a new entry: until they are synced, a power cut can take the index out of them.
            whole = folder.absolute()
            new_in = [whole.parent, *(each.parent for each in whole.parents if not each.exists())]
            (folder / "vectors").mkdir(parents=True, exist_ok=True)
            lock = _acquire(folder)
            try:
                if (folder / MANIFEST).exists():  # since this was looked at: another program made it
                    raise _there_already(folder)
                text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
                index = cls(folder, manifest, lock=lock, device=device, new=True)
                if index.generation:
                    index._close_files()
                    raise IndexCorruptError(
                        folder,
                        f"holds an index whose {MANIFEST} is missing. Restore it, or name a new folder",
                    )
                _write_atomically(folder / MANIFEST, text.encode())
                for made_in in new_in:
                    _sync_folder(made_in)
            except BaseException:
                lock.release()
                raise
        index._descriptors = {d.spec.name: d for d in made}
        return index

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False, device: str | None = None) -> ReferenceIndex:
        """Open an index folder.

        Args:
            path: The folder.
            writable: Take the writer's lock, to add, remove or compact.
            device: Where neural descriptors run; None chooses.

        Raises:
            IndexMissingError: There is no index here.
            IndexVersionError: It has a format of a newer version.
            IndexCorruptError: Its manifest or catalogue cannot be read.
            IndexLockedError: Another process is writing to it.
        """
        folder = Path(path)
        manifest = _read_manifest(folder)
        if not writable:
            return cls(folder, manifest, lock=None, device=device)
        with _write_errors(folder):
            lock = _acquire(folder)
            try:
                return cls(folder, manifest, lock=lock, device=device)
            except BaseException:
                lock.release()
                raise

    def close(self) -> None:
        """Close files and, for a writer, give the lock back."""
        self._close_files()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK_FILE).write_text("", encoding="utf-8")
            self._lock.release()
            self._lock = None

    def _close_files(self) -> None:
        self._pinned.clear()
        self._catalog.close()
        self._thumbnails.close()

    def __enter__(self) -> ReferenceIndex:
        return self

    # Writing

    def _must_write(self) -> None:
        if self._lock is None:
            raise UsageError(f"{self.path}: was opened for reading. Open it with writable=True")

    def is_known(self, path: str, size: int, mtime_ns: int, *, take_back: bool = False) -> bool:
        """Say whether an occurrence was added, or rejected, with this size and time of change.

        Args:
            path: Of the occurrence.
            size: In bytes.
            mtime_ns: When its file was last changed.
            take_back: Rejections of erased pictures do not count.
        """
        passed_over = REMOVED_ON_REQUEST if take_back else ""
        return self._catalog.is_known(path, size, mtime_ns, but_rejected_as=passed_over)

    def known_among(
        self, paths: Sequence[str], size: int, mtime_ns: int, *, take_back: bool = False
    ) -> set[str]:
        """Return those of some paths that `is_known` says yes to, all with this size and time of change."""
        passed_over = REMOVED_ON_REQUEST if take_back else ""
        return self._catalog.known_among(paths, size, mtime_ns, but_rejected_as=passed_over)

    def forgotten(self) -> frozenset[str]:
        """Return the keys (`index.requests.forgotten_key`) of pictures that are not to be taken in again."""
        return self._catalog.forgotten()

    def digests(self) -> set[str]:
        """Return the SHA-256 digests of all references."""
        return self._catalog.digests()

    def has(self, sha256: str) -> bool:
        """Say whether there is a reference with this digest."""
        return self._catalog.id_of(sha256) is not None

    def reject(self, rejected: Rejected, *, size: int = -1, mtime_ns: int = 0) -> None:
        """Record a file that cannot become a reference; committed with the next `add`."""
        self._rejected_buffer.append((rejected, size, mtime_ns))

    def add(self, batch: Sequence[NewReference], *, take_back: bool = False) -> int:
        """Add described pictures in one commit; the same picture at another path is one more occurrence.

        Args:
            batch: What to add.
            take_back: Admit pictures that were erased and are remembered as such.

        Returns:
            How many new references there are.

        Raises:
            UsageError: A picture was erased, and `take_back` is not given. Nothing was added.
            IndexWriteError: The disk is full or the folder cannot be written to. Nothing was added.
        """
        self._must_write()
        if not batch and not self._rejected_buffer:
            return 0
        forgotten = self._catalog.forgotten_among({new.sha256: None for new in batch}, forgotten_key)
        if forgotten and not take_back:
            for new in batch:
                if new.sha256 in forgotten:
                    raise UsageError(
                        f"{new.occurrence.path}: was removed on request. To admit it again, give take_back=True"
                    )
        thumbnails = [(new.sha256, new.thumbnail) for new in batch if new.thumbnail is not None]
        with _write_errors(self.path):
            if thumbnails:
                self._thumbnails.put(thumbnails)
            with self._catalog.transaction():
                ids = self._catalog.ids_of({new.sha256: None for new in batch})
                firsts = {new.sha256: new for new in reversed(batch) if new.sha256 not in ids}
                fresh = [new for new in batch if firsts.get(new.sha256) is new]
                for new in fresh:
                    if new.rows is None:
                        raise IndexCorruptError(self.path, f"{new.sha256} came without its rows")
                given = self._catalog.add_references(
                    [(new.sha256, new.width, new.height, new.trim) for new in fresh]
                )
                ids.update((new.sha256, number) for new, number in zip(fresh, given, strict=True))
                bereft = self._catalog.put_occurrences((ids[new.sha256], new.occurrence) for new in batch)
                for rejected, size, mtime_ns in self._rejected_buffer:
                    self._catalog.put_rejected(rejected, size=size, mtime_ns=mtime_ns)
                self._catalog.take_back(forgotten.values())
                for spec in self.specs:
                    described = [new.rows[spec.name] for new in fresh if new.rows is not None]
                    self._append(spec, list(zip(given, described, strict=True)))
                self._catalog.drop_orphans(bereft)
        self._rejected_buffer.clear()
        self._forget_caches()
        return len(fresh)

    def _forget_caches(self) -> None:
        with self._guard:
            self._stores.clear()
            self._wholes = None
            self._size = None

    def _append(self, spec: DescriptorSpec, described: Sequence[tuple[int, NDArray[Any]]]) -> None:
        rows = [array for _, array in described if len(array)]
        if not rows:
            return
        dtype = np.float16 if spec.kind is Kind.UNIT else np.uint8
        owners = np.repeat([number for number, _ in described], [len(array) for _, array in described])
        block = np.concatenate(rows).astype(dtype), owners.astype(np.int64)
        self._write_segment(spec, [block], len(owners))

    def _write_segment(
        self, spec: DescriptorSpec, blocks: Iterable[tuple[NDArray[Any], NDArray[np.int64]]], count: int
    ) -> None:
        path = self.path / "vectors" / f"{_slug(spec.name)}-{self._next_number(spec.name):06d}.npy"
        write_segment(path, blocks, count=count, width=spec.width)
        _sync_folder(path.parent)
        self._catalog.add_segment(spec.name, path.name, count, file_digest(path, ids_path(path)))

    def _next_number(self, descriptor: str) -> int:
        if descriptor not in self._numbers:
            start = _slug(descriptor) + "-"
            used = [
                int(entry.name[len(start) :].split(".", 1)[0])
                for entry in (self.path / "vectors").iterdir()
                if re.fullmatch(re.escape(start) + r"\d{6,}(\.ids)?\.npy", entry.name)
            ]
            self._numbers[descriptor] = max(used, default=0)
        self._numbers[descriptor] += 1
        return self._numbers[descriptor]

    def _sweep(self) -> None:
        """Delete what no commit names: the traces of a writer that was killed."""
        named = {segment.file for segment in self._catalog.segments()}
        folder = self.path / "vectors"
        folder.mkdir(exist_ok=True)
        # A catalogue of another index, or a garbled one: nothing is deleted on its word.
        if not named <= {entry.name for entry in folder.iterdir()}:
            return
        rows = (entry for entry in folder.glob("*.npy") if _ROWS_FILE.fullmatch(entry.name))
        _delete(entry for entry in rows if entry.name.replace(".ids.npy", ".npy") not in named)
        kept = {path for each in self.sketches().values() for path in sketching.paths(self._ann, each.file)}
        _delete(entry for entry in self._ann.glob("*") if entry not in kept and entry.is_file())
        (self.path / f"{MANIFEST}.tmp").unlink(missing_ok=True)

    def remove(
        self,
        *,
        path: str | None = None,
        artist: str | None = None,
        source_contains: str | None = None,
        erase: bool = False,
    ) -> tuple[int, int]:
        """Forget occurrences that fit every given condition; a reference with none left is gone from search.

        With `erase`, its picture is also remembered by a key, so that no later build takes it in again. Where that was
        interrupted, the same call completes it, though nothing is left to forget.

        Args:
            path: An exact path, or a folder or shard.
            artist: An exact artist, whatever its case.
            source_contains: A part of the source.
            erase: Overwrite rows and thumbnails of gone references at once, not at the next `compact`.

        Returns:
            How many occurrences, and how many references, are gone.

        Raises:
            UsageError: No condition was given.
        """
        self._must_write()
        if path is None and artist is None and source_contains is None:
            raise UsageError("remove needs a path, an artist or a part of a source")
        found = self._catalog.find_occurrences(path=path, artist=artist, source_contains=source_contains)
        with _write_errors(self.path), self._catalog.transaction():
            self._catalog.forget(p for p, _ in found)
            gone = self._catalog.drop_orphans(number for _, number in found)
            if erase and gone:
                self._remember(gone)
        self._forget_caches()
        if erase and (gone or self._catalog.fact(ERASING)):
            self.compact()
        return len(found), len(gone)

    def _remember(self, digests: Iterable[str]) -> None:
        self._catalog.remember_forgotten({digest: forgotten_key(digest) for digest in digests}, now())
        self._catalog.set_fact(ERASING, True)

    def accept_request(self, request_id: str, *, reason: str = "") -> tuple[int, int]:
        """Erase the references that a removal request names, wherever they occur, and record its acceptance.

        Both are one commit; rows and thumbnails are overwritten after it. Where that was interrupted, accepting the
        request again completes it. Near-duplicates of those references stay.

        Args:
            request_id: Of an open or declined request, or the unique beginning of it.
            reason: Of the decision.

        Returns:
            How many occurrences, and how many references, are gone.

        Raises:
            UsageError: There is no such request.
        """
        self._must_write()
        words = bounded(reason, MAX_STATEMENT, "the reason")
        asked = find_request(self._catalog, request_id)
        paths: list[str] = []
        gone: list[str] = []
        if asked.state != ACCEPTED:
            ids = [number for d in asked.sha256s if (number := self._catalog.id_of(d)) is not None]
            paths = [place.path for number in ids for place in self._catalog.occurrences(number)]
            with _write_errors(self.path), self._catalog.transaction():
                self._catalog.forget(paths)
                gone = self._catalog.drop_orphans(ids)
                self._remember(asked.sha256s)
                self._catalog.decide_request(asked.id, ACCEPTED, decided=now(), reason=words)
            self._forget_caches()
        self.compact()
        return len(paths), len(gone)

    def decline_request(self, request_id: str, *, reason: str) -> None:
        """Record that a removal request is declined, and why.

        Args:
            request_id: Of an open request, or the unique beginning of it.
            reason: Of the decision.

        Raises:
            UsageError: There is no such request, it is decided already, or no reason is given.
        """
        self._must_write()
        words = bounded(reason, MAX_STATEMENT, "the reason")
        if not words:
            raise UsageError("a removal request is declined with a reason. Say why")
        asked = find_request(self._catalog, request_id)
        if asked.state != OPEN:
            raise UsageError(
                f"{self.path}: request {asked.id} was {asked.state} on {asked.decided[:10]}. "
                "Only open requests can be declined"
            )
        with _write_errors(self.path), self._catalog.transaction(new_generation=False):
            self._catalog.decide_request(asked.id, DECLINED, decided=now(), reason=words)

    def compact(self) -> int:
        """Rewrite segments without rows of gone references, merged; erase their thumbnails.

        Returns:
            How many rows were erased.
        """
        self._must_write()
        erased = 0
        with _write_errors(self.path):
            for spec in self.specs:
                erased += self._merge(spec, self._catalog.segments(spec.name), only_live=True)
            self._purge_sketches()
            self._thumbnails.keep_only(self._catalog.digests())
            self._sweep()
            self._catalog.vacuum()
            if self._catalog.fact(ERASING):
                with self._catalog.transaction(new_generation=False):
                    self._catalog.set_fact(ERASING, None)
                self._catalog.empty_log()
        return erased

    def _purge_sketches(self) -> None:
        """Write sketches anew without gone references; those that cannot be read are dropped."""
        for name, found in self.sketches().items():
            stored = self._load_sketches(name, found)
            if stored is None:
                self.drop_sketches(name)
                continue
            live = np.asarray(self.reference_ids(), np.int64)
            at = np.minimum(np.searchsorted(live, stored.ids), max(len(live) - 1, 0))
            gone = live[at] != stored.ids if len(live) else np.ones(len(stored.ids), np.bool_)
            if gone.any():
                self.put_sketches(
                    name, stored.without(gone), found.ranked, found.measured, last_id=found.last_id
                )

    def put_sketches(
        self, name: str, made: Sketches, ranked: int, measured: Measured, *, last_id: int
    ) -> SketchRecord:
        """Keep sketches of a descriptor (`index.sketches`), instead of those there were.

        Args:
            name: Of the descriptor.
            made: The sketches.
            ranked: Rows to rank exactly for each row asked for.
            measured: How they do.
            last_id: Highest reference that they cover.
        """
        self._must_write()
        known = self.sketches()
        number = 1 + max((int(each.file.rsplit("-", 1)[1]) for each in known.values()), default=0)
        stem = f"{_slug(name)}-{number:06d}"
        with _write_errors(self.path):
            self._ann.mkdir(exist_ok=True)
            _sync_folder(self.path)
            sketching.save(made, self._ann, stem)
            _sync_folder(self._ann)
            digest = file_digest(*sketching.paths(self._ann, stem))
            record = SketchRecord(stem, digest, last_id, len(made.ids), ranked, measured, made.nbytes)
            self._keep_sketches({**known, name: record})
        return record

    def drop_sketches(self, name: str) -> None:
        """Search a descriptor exactly from now on."""
        self._must_write()
        with _write_errors(self.path):
            self._keep_sketches({other: each for other, each in self.sketches().items() if other != name})

    def _keep_sketches(self, records: dict[str, SketchRecord]) -> None:
        with self._catalog.transaction():
            self._catalog.set_fact("sketches", {name: each.to_dict() for name, each in records.items()})
        self._sweep()

    def merge_small_segments(self) -> None:
        """Merge the newest segments where many were left; called at the end of a build.

        A large segment is rewritten only with as many rows that came after it: adding few references to a large index
        costs what they cost, and a row is rewritten at most as often as the index can double.
        """
        self._must_write()
        with _write_errors(self.path):
            for spec in self.specs:
                segments = self._catalog.segments(spec.name)
                if len(segments) > MERGE_ABOVE:
                    self._merge(spec, segments[-_newest_to_merge([each.rows for each in segments]) :])
            self._sweep()

    def _merge(
        self, spec: DescriptorSpec, segments: Sequence[SegmentRecord], *, only_live: bool = False
    ) -> int:
        """Write the newest segments, or all, as one without rows of gone references; return how many those were."""
        rows = self._rows(spec, segments)
        live = len(rows)
        dead = rows.total - live
        if len(segments) <= 1 and not (only_live and dead):
            return 0
        self._forget_caches()  # Windows does not delete a file that a store has mapped
        with self._catalog.transaction():
            if live:
                self._write_segment(spec, ((block, ids) for block, ids, _ in rows.blocks()), live)
            self._catalog.drop_segments(segment.id for segment in segments)
        return dead

    def calibrate(self) -> dict[str, Null]:
        """Fit and store how near unrelated pictures come in this index (`index.calibration`)."""
        self._must_write()
        nulls = calibrate(self)
        with _write_errors(self.path), self._catalog.transaction():
            self._catalog.set_fact("calibration", {name: null.to_dict() for name, null in nulls.items()})
            self._catalog.set_fact(CALIBRATED_TO, self._catalog.last_id)
        with self._guard:
            self._nulls = nulls
        return nulls

    def note_import(self, imported: ImportedFrom) -> None:
        """Keep in the manifest where rows came from, and whether their model was checked.

        A check of the same source is not forgotten where a later import of it has no pictures at hand.
        """
        self._must_write()
        known = {each.source: each for each in self.imported()}
        if imported.compared or imported.source not in known:
            known[imported.source] = imported
        self._manifest["imported"] = [each.to_dict() for each in known.values()]
        text = json.dumps(self._manifest, indent=2, sort_keys=True) + "\n"
        with _write_errors(self.path):
            _write_atomically(self.path / MANIFEST, text.encode())

    def shards_done(self) -> dict[str, list[int]]:
        """Return the files of rows that were imported whole: by name, their sizes and times of change then."""
        found = self._catalog.fact("shards_done")
        return found if isinstance(found, dict) else {}

    def note_shard_done(self, name: str, stamp: list[int]) -> None:
        """Keep that a file of rows was imported whole, so that it is passed over from now on."""
        self._must_write()
        with _write_errors(self.path), self._catalog.transaction(new_generation=False):
            self._catalog.set_fact("shards_done", {**self.shards_done(), name: stamp})

    # Reading

    def imported(self) -> tuple[ImportedFrom, ...]:
        """Return where rows came from that others had described; empty where all were described here."""
        return tuple(ImportedFrom.from_dict(each) for each in self._manifest.get("imported", ()))

    def reference_ids(self) -> list[int]:
        """Return the ids of all references, ascending."""
        return self._catalog.reference_ids()

    def _stored_nulls(self) -> dict[str, Any]:
        return dict(self._catalog.fact("calibration") or {})

    def _added_since_calibration(self) -> int:
        known = self._catalog.fact(CALIBRATED_TO)
        return self._catalog.last_id - (known if isinstance(known, int) else 0)

    @property
    def generation(self) -> int:
        """How many commits this index had seen when it was opened (a reader), or has seen (the writer)."""
        return self._catalog.generation

    @property
    def manifest_sha256(self) -> str:
        """Digest of the manifest's file."""
        return file_digest(self.path / MANIFEST)

    def __len__(self) -> int:
        return self._catalog.counts()[0]

    @property
    def _ann(self) -> Path:
        return self.path / "ann"

    def sketches(self) -> dict[str, SketchRecord]:
        """Return the sketches there are, by descriptor; a reader searches with them.

        A garbled record is left out: sketches are a cache, and `check` says so.
        """
        return self._sketches_in(self._catalog)

    def _sketches_in(self, catalog: Catalog) -> dict[str, SketchRecord]:
        stored = catalog.fact("sketches")
        known = {spec.name for spec in self.specs}
        found = {}
        for name, each in stored.items() if isinstance(stored, dict) else ():
            with contextlib.suppress(*GARBLED):
                if name in known:
                    found[name] = SketchRecord.from_dict(each)
        return found

    def _load_sketches(self, name: str, found: SketchRecord) -> Sketches | None:
        """Map sketches; None where they cannot be read: they are a cache, and the exact search needs none."""
        try:
            return sketching.load(self._ann, found.file, width=self.spec(name).width)
        except (OSError, ValueError, EOFError):
            return None

    def _sketched(self, name: str) -> Sketched | None:
        # A writer calibrates and looks for duplicates: it searches exactly.
        found = self.sketches().get(name) if self._lock is None else None
        stored = self._load_sketches(name, found) if found is not None else None
        if found is None or stored is None:
            return None
        return Sketched(stored, last_id=found.last_id, ranked=found.ranked)

    def rows(self, name: str) -> Rows:
        """Return the rows of a descriptor where they lie.

        Raises:
            DescriptorError: The index lacks this descriptor.
            IndexCorruptError: A segment cannot be read.
        """
        return self._rows(self.spec(name))

    def _pin(self) -> None:
        """Map the segments of this reader's generation: a writer that merges them may unlink them after."""
        for _ in range(8):
            try:
                for segment in self._catalog.segments():
                    try:
                        self._pinned[segment.file] = map_segment(self.path / "vectors" / segment.file)
                    except FileNotFoundError:
                        raise
                    except (OSError, ValueError, EOFError):
                        continue  # `_rows` says so
                return
            except FileNotFoundError:
                # Merged since the catalogue was opened: a newer one names the files that are there now.
                before = self._catalog.generation
                self._catalog.close()
                self._catalog = Catalog(self.path, writable=False)
                self._pinned.clear()
                if self._catalog.generation == before:
                    return

    def _rows(self, spec: DescriptorSpec, records: Sequence[SegmentRecord] | None = None) -> Rows:
        dtype = np.float16 if spec.kind is Kind.UNIT else np.uint8
        segments = []
        for segment in self._catalog.segments(spec.name) if records is None else records:
            try:
                pinned = self._pinned.get(segment.file)
                mapped, ids = pinned or map_segment(self.path / "vectors" / segment.file)
            except (OSError, ValueError, EOFError) as error:
                raise IndexCorruptError(
                    self.path,
                    f"segment {segment.file} cannot be read. Run: detector index check --index {self.path}",
                ) from error
            fits = mapped.shape == (segment.rows, spec.width) and ids.shape == (segment.rows,)
            contiguous = mapped.flags.c_contiguous and ids.flags.c_contiguous
            if not (fits and contiguous) or mapped.dtype != dtype or ids.dtype != np.int64:
                raise IndexCorruptError(
                    self.path,
                    f"segment {segment.file} has another shape than was committed. "
                    f"Run: detector index check --index {self.path}",
                )
            segments.append((mapped, ids))
        return Rows(segments, width=spec.width, dtype=dtype, live=self._catalog.live_ranges())

    def store(self, name: str) -> BitStore | UnitStore | LocalStore:
        """Return the searchable store of a descriptor, made on first use.

        Raises:
            DescriptorError: The index lacks this descriptor.
        """
        with self._guard:
            if name not in self._stores:
                spec = self.spec(name)
                self._stores[name] = open_store(spec.kind, self._rows(spec), self._sketched(name))
            return self._stores[name]

    def reference(self, reference_id: int) -> tuple[ReferenceRecord, tuple[OccurrenceRecord, ...]] | None:
        """Return a reference and its occurrences, or None where it is gone."""
        record = self._catalog.reference(reference_id)
        return None if record is None else (record, self._catalog.occurrences(reference_id))

    def thumbnail(self, reference_id: int) -> bytes | None:
        """Return a reference's thumbnail as WebP, or None."""
        record = self._catalog.reference(reference_id)
        return None if record is None else self._thumbnails.get(record.sha256)

    def id_of(self, sha256: str) -> int | None:
        """Return the id of the reference with this digest, or None."""
        return self._catalog.id_of(sha256)

    def requests(self, *, state: str | None = None) -> list[RemovalRequest]:
        """Return the removal requests as they are on disk now, newest first (`index.requests.requests`)."""
        return requests_of(self.path, state=state)

    def find_occurrences(
        self, *, path: str | None = None, artist: str | None = None, source_contains: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (path, reference id) of what `remove` would forget, by path."""
        return self._catalog.find_occurrences(path=path, artist=artist, source_contains=source_contains)

    def named(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Yield (reference id, artist, extra columns) of the occurrences that have any, each triple once."""
        return self._catalog.named()

    def rejected(self, *, limit: int = -1) -> list[Rejected]:
        """Return the files that could not become references, by path."""
        return self._catalog.rejected(limit=limit)

    def counts(self) -> tuple[int, int, int]:
        """Return how many references, occurrences and rejected files there are."""
        return self._catalog.counts()

    def info(self) -> IndexInfo:
        """Return what this index is and holds; goes through its folder for the size."""
        references, occurrences, rejected = self.counts()
        rows = {spec.name: sum(s.rows for s in self._catalog.segments(spec.name)) for spec in self.specs}
        size = 0
        for entry in self.path.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a writer is at work
                size += entry.stat().st_size if entry.is_file() else 0
        return IndexInfo(
            path=str(self.path),
            format_version=int(self._manifest["format_version"]),
            generation=self.generation,
            references=references,
            occurrences=occurrences,
            rejected=rejected,
            descriptors=self.specs,
            rows=rows,
            bytes_on_disk=size,
            thumbnails=self.keeps_thumbnails,
            regions=self.has_regions,
            squares=self.has_squares,
            open_requests=len(self.requests(state=OPEN)),
            imported=self.imported(),
            sketches=self.sketches(),
        )

    def check(self) -> list[str]:
        """Compare every part with what was committed.

        Returns:
            One sentence a problem; empty where all is well.
        """
        try:
            problems = self._catalog.problems()
            live = np.asarray(self._catalog.reference_ids(), np.int64)
        except IndexCorruptError as error:
            return [str(error)]
        folder = self.path / "vectors"
        for spec in self.specs:
            covered = [np.zeros(0, np.int64)]
            for segment in self._catalog.segments(spec.name):
                path = folder / segment.file
                try:
                    digest = file_digest(path, ids_path(path))
                    _, ids = map_segment(path)
                except FileNotFoundError:
                    if segment.file in self._pinned and segment.file not in self._named_now():
                        covered.append(self._pinned[segment.file][1])
                    else:
                        problems.append(f"segment {segment.file} is missing")
                except (OSError, ValueError, EOFError) as error:
                    problems.append(f"segment {segment.file} cannot be read: {error}")
                else:
                    if ids.ndim != 1 or ids.dtype != np.int64:
                        problems.append(f"segment {segment.file} has ids that are none")
                        continue
                    covered.append(ids)
                    if np.any(np.diff(ids) < 0):
                        problems.append(f"segment {segment.file} has its ids out of order")
                    if digest != segment.sha256:
                        problems.append(f"segment {segment.file} is not what was committed (digest differs)")
            missing = np.setdiff1d(live, np.concatenate(covered))
            if spec.kind is Kind.UNIT and len(missing):
                problems.append(
                    f"{len(missing)} references have no {spec.name} row, the first is {missing[0]}"
                )
        stored = self._catalog.fact("sketches") or {}
        if not isinstance(stored, dict) or stored.keys() != self.sketches().keys():
            problems.append(
                f"records of sketches are garbled: searches are exact. Run: detector index optimize --index {self.path}"
            )
        for name, each in self.sketches().items():
            try:
                intact = file_digest(*sketching.paths(self._ann, each.file)) == each.sha256
            except OSError:
                intact = False
            if (not intact or self._load_sketches(name, each) is None) and each.file in self._named_now():
                problems.append(
                    f"sketches of {name} are not what was committed: matches may be missed. Make them anew: "
                    f"detector index optimize --index {self.path}"
                )
        if self.keeps_thumbnails:
            try:
                bare = self._catalog.digests() - self._thumbnails.digests()
            except IndexCorruptError as error:
                problems.append(str(error))
            else:
                for _ in range(ASKED_AGAIN if bare else 0):
                    with self._newest() as newest:
                        bare &= newest.digests()
                    bare -= self._thumbnails.digests()
                if bare:
                    problems.append(f"{len(bare)} references have no thumbnail")
        return problems

    @contextlib.contextmanager
    def _newest(self) -> Iterator[Catalog]:
        """Give the catalogue as it is now: a writer may have gone on since this reader opened it."""
        newest = self._catalog if self._lock is not None else Catalog(self.path, writable=False)
        try:
            yield newest
        finally:
            if newest is not self._catalog:
                newest.close()

    def _named_now(self) -> set[str]:
        """Return the files of segments and the stems of sketches that the newest commit names."""
        with self._newest() as newest:
            sketches = {each.file for each in self._sketches_in(newest).values()}
            return sketches | {segment.file for segment in newest.segments()}


def _there_already(folder: Path) -> UsageError:
    return UsageError(f"{folder}: an index is there already. Add to it: detector index add … --out {folder}")


RESTORE = "Restore it from a copy, or build the index anew"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        text = read_file(path, max_bytes=MAX_MANIFEST_BYTES).decode("utf-8")
    except FileNotFoundError as error:
        if not folder.exists():
            raise IndexMissingError(
                folder, f"no such index. Build one: detector index build PICTURES --out {folder}"
            ) from error
        raise IndexMissingError(
            folder,
            f"is no index (it has no {MANIFEST}). Build one: detector index build PICTURES --out {folder}",
        ) from error
    except NotADirectoryError as error:
        raise IndexMissingError(folder, "is a file, not an index folder") from error
    except PermissionError as error:
        raise IndexFolderError(folder, "cannot be read: permission denied") from error
    except (OSError, UnicodeDecodeError) as error:
        raise IndexCorruptError(
            folder, f"its {MANIFEST} cannot be read ({getattr(error, 'strerror', None) or error}). {RESTORE}"
        ) from error
    try:
        manifest = json.loads(text)
        version = int(manifest["format_version"])
        if version > FORMAT_VERSION:
            raise IndexVersionError(folder, version, FORMAT_VERSION)
        if version < 1:
            raise ValueError(f"format_version {version}")
        for values in manifest["descriptors"]:
            DescriptorSpec.from_dict(values)
        for values in manifest.get("imported", ()):
            ImportedFrom.from_dict(values)
    except GARBLED as error:
        raise IndexCorruptError(folder, f"its {MANIFEST} is garbled ({error}). {RESTORE}") from error
    return dict(manifest)


def _newest_to_merge(rows: Sequence[int]) -> int:
    """Say how many of the newest segments become one, by the rows of each, oldest first.

    An older one is taken in where it is no larger than all newer ones together, or where too many would be left.
    Only the newest, since ids ascend from one segment to the next.
    """
    count, together = 1, rows[-1]
    for older in reversed(rows[:-1]):
        if older > together and len(rows) - count < MERGE_ABOVE:
            break
        count, together = count + 1, together + older
    return count


def _acquire(folder: Path) -> Any:
    from filelock import FileLock, Timeout

    must_be_plain(folder, files=_OURS - _FOLDERS, folders=_FOLDERS)
    lock_path = folder / LOCK_FILE
    # The lock is on a file of its own so that its holder can be read from the other one.
    lock = FileLock(str(lock_path) + ".held", timeout=0)
    until = time.monotonic() + NAMED_WITHIN_S
    while True:
        try:
            lock.acquire()
        except Timeout as error:
            holder = ""
            with contextlib.suppress(OSError, UnicodeDecodeError):
                holder = lock_path.read_text(encoding="utf-8").strip()
            if holder or time.monotonic() > until:
                words = (
                    f"is being written to by another process ({holder or 'unknown'}). Wait for it, or stop it"
                )
                raise IndexLockedError(folder, words) from error
            time.sleep(0.01)
        else:
            break
    command = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    lock_path.write_text(
        f"process {os.getpid()} on {socket.gethostname()}, {command}, since {started}", encoding="utf-8"
    )
    return lock


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IndexWriteError(
            folder,
            f"cannot be written: {error.strerror or error}. Check permissions and free space; what was "
            "committed is kept, and the same command goes on from there",
        ) from error


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle on a folder to flush
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(files: Iterable[Path]) -> None:
    """Delete files for good: a power cut does not bring back what was erased."""
    emptied = set()
    for file in list(files):
        # On Windows a reader may still have it open: the next writer sweeps again.
        with contextlib.suppress(PermissionError):
            file.unlink()
            emptied.add(file.parent)
    for folder in emptied:
        _sync_folder(folder)


def file_digest(*paths: Path) -> str:
    """Return the SHA-256 of files' bytes, one after the other, as hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        must_be_file(path)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _slug(descriptor: str) -> str:
    if re.fullmatch(r"[a-z0-9]{1,20}", descriptor):
        return descriptor
    readable = re.sub(r"[^A-Za-z0-9]+", "_", descriptor)[:40].strip("_")
    return f"{readable}-{hashlib.sha256(descriptor.encode()).hexdigest()[:8]}"
