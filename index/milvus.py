"""`MilvusIndex`: an index in collections of a Milvus server, or of a Milvus Lite database.

Collections of the index NAME: ``NAME`` (references), ``NAME_occurrences``, ``NAME_facts`` (manifest, calibration, what
was rejected or erased, batches begun), and ``NAME_rows_…`` for each descriptor: Milvus lets an entity have one vector
of each kind, never none, and four kinds in all, whereas a picture has one row or more, or none.

The commit point is the entity in ``NAME``: written last, deleted first. Rows and occurrences of a reference that has
none do not exist for any reader. A batch begun is noted before its rows are written, so that what a killed writer left
is deleted by the next one. Ids follow from the picture's digest: several writers may add to one index, and whatever is
written twice replaces itself. Longer than 400 lines because every write to the collections is in one place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index import descriptors as registry
from index.calibration import Null, calibrate
from index.catalog import OccurrenceRecord, ReferenceRecord
from index.credits import Credits
from index.descriptors import DescriptorSpec, Kind
from index.errors import GARBLED, IndexCorruptError, IndexVersionError, UsageError
from index.items import Rejected, in_utf8
from index.milvus_rows import MilvusBits, MilvusUnits, ServerRows
from index.milvus_server import MAX_TEXT, Field, Server, text_of, to_vector
from index.reference_index import IndexInfo, NewReference
from index.requests import REMOVED_ON_REQUEST, forgotten_key
from index.searching import Searchable

if TYPE_CHECKING:
    from index.locations import Location

FORMAT_VERSION = 1
KIND = "replication-detector index in Milvus"

ID_BITS = 53
"""Of an id: the first bits of the picture's digest, as many as a JSON reader keeps of a number."""

PROBES = 3
"""Ids a picture may have, one after the other, where others have taken the first: among five billion pictures some
1,400 pairs begin alike (the square of their number over 2^54)."""

STALE_S = 86_400.0
"""Age from which a batch on a server counts as given up by its writer. A Milvus Lite database has one writer."""

BATCH = 500
"""References written between two notes of what was begun."""

REMEMBERED = 1_000_000
"""References known to be there, and files known to be in it, that a process keeps in memory."""

_KEY = Field("id", "integer")
_REFERENCE = (
    Field("sha256", "text"),
    Field("facts", "text"),
    Field("thumbnail", "text"),
)
_OCCURRENCE = (
    Field("reference", "integer", searched=True),
    Field("path", "text"),
    Field("facts", "text"),
)
_FACT = (Field("kind", "text", searched=True), Field("value", "text"))


class MilvusIndex(Searchable):
    """An index in Milvus. Use `create` or `open`; readers may share it between threads.

    A reader sees what is committed when it asks; of references that it has met before it believes that they are there.
    """

    def __init__(
        self,
        location: Location,
        server: Server,
        manifest: dict[str, Any],
        *,
        writable: bool,
        device: str | None,
    ) -> None:
        """Used by `create` and `open`."""
        super().__init__(location.folder or Path(str(location)), manifest, device=device)
        self.location = location
        self._server = server
        self._writable = writable
        self._name = location.collection
        self._alive: set[int] = set()
        self._rejected_buffer: list[tuple[Rejected, int, int]] = []
        self._memory = threading.Lock()
        if writable:
            self._sweep()

    # Opening and closing

    @staticmethod
    def _connect(location: Location) -> Server:
        return Server(str(location), address=location.server, file=location.folder)

    @classmethod
    def exists(cls, location: Location) -> bool:
        """Say whether there is a collection at a location, ours or not.

        Raises:
            IndexConnectionError, IndexLockedError: See `index.milvus_server.Server`.
        """
        if location.folder is not None and not location.folder.exists():
            return False
        server = cls._connect(location)
        try:
            return server.has(location.collection)
        finally:
            server.close()

    @classmethod
    def create(
        cls,
        location: Location,
        *,
        descriptors: Sequence[str],
        thumbnails: bool = True,
        regions: bool = False,
        squares: bool = True,
        device: str | None = None,
    ) -> MilvusIndex:
        """Make the collections of an index and open it for writing.

        Raises:
            UsageError: There is a collection of this name, or a descriptor is one that Milvus cannot hold.
            DescriptorError: A descriptor is unknown, or its weights are missing.
            IndexConnectionError: See `index.milvus_server.Server`.
        """
        if not descriptors:
            raise UsageError("name at least one descriptor. Example: pdq,phash")
        made = [registry.create(name, device=device) for name in dict.fromkeys(descriptors)]
        for descriptor in made:
            if descriptor.spec.kind is Kind.LOCAL:
                rest = ",".join(d.spec.name for d in made if d.spec.kind is not Kind.LOCAL) or "pdq,phash"
                raise UsageError(
                    f"{descriptor.spec.name}: thousands of local features a picture are kept by index folders "
                    f"alone, not by Milvus. Give --descriptors {rest}, or name a folder with --out"
                )
        server = cls._connect(location)
        try:
            if server.has(location.collection):
                raise UsageError(f"{location}: a collection is there already. Name another one with --out")
            # Milvus Lite has neither bit strings nor float16 (https://milvus.io/docs/milvus_lite.md).
            native = not server.is_lite
            manifest = {
                "format_version": FORMAT_VERSION,
                "kind": KIND,
                "descriptors": [descriptor.spec.to_dict() for descriptor in made],
                "thumbnails": thumbnails,
                "regions": regions,
                "squares": squares,
                "native_vectors": native,
            }
            name = location.collection
            server.make(f"{name}_facts", Field("key", "text"), _FACT, native=native)
            server.make(f"{name}_occurrences", Field("key", "text"), _OCCURRENCE, native=native)
            for descriptor in made:
                spec = descriptor.spec
                bits = spec.kind is Kind.BITS
                row = Field("row", "vector", width=spec.width * (8 if bits else 1), bits=bits)
                fields = (Field("reference", "integer", searched=True), Field("number", "integer"))
                batch = Field("batch", "text", searched=True)
                server.make(
                    _rows_name(name, spec.name), Field("key", "text"), (*fields, batch, row), native=native
                )
            facts = [{"key": "manifest", "kind": "manifest", "value": text_of(manifest)}]
            server.put_plain(f"{name}_facts", facts)
            # Last: an index exists from here on; a creation that was killed before is taken up again.
            server.make(name, _KEY, _REFERENCE, native=native)
            index = cls(location, server, manifest, writable=True, device=device)
        except BaseException:
            server.close()
            raise
        index._descriptors = {descriptor.spec.name: descriptor for descriptor in made}
        return index

    @classmethod
    def open(cls, location: Location, *, writable: bool = False, device: str | None = None) -> MilvusIndex:
        """Open an index in Milvus.

        Raises:
            IndexMissingError: There is no such collection.
            UsageError: The collection is not one of ours.
            IndexVersionError: It has a format of a newer version.
            IndexCorruptError: Its manifest cannot be read.
            IndexConnectionError, IndexLockedError: See `index.milvus_server.Server`.
        """
        if location.folder is not None and not location.folder.exists():
            from index.errors import IndexMissingError

            raise IndexMissingError(
                str(location), f"no such index. Build one: detector index build PICTURES --out {location}"
            )
        server = cls._connect(location)
        try:
            server.refuse_missing(location.collection)
            return cls(location, server, _read_manifest(server, location), writable=writable, device=device)
        except BaseException:
            server.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        self._server.close()

    def __enter__(self) -> MilvusIndex:
        return self

    @property
    def name(self) -> str:
        """Where it is, as a user names it."""
        return str(self.location)

    # Reading

    @property
    def _native(self) -> bool:
        return bool(self._manifest.get("native_vectors", False))

    @property
    def generation(self) -> int:
        """0: several writers may commit at once, in no order."""
        return 0

    @property
    def manifest_sha256(self) -> str:
        """Digest of the manifest as stored, sorted JSON without spaces."""
        text = json.dumps(self._manifest, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return self._server.count(self._name)

    def _living(self, ids: Sequence[int]) -> set[int]:
        """Return those of some references that are there; what was met before is believed to be."""
        wanted = set(ids)
        with self._memory:
            unknown = wanted - self._alive
        if unknown:
            found = {int(each["id"]) for each in self._server.get(self._name, sorted(unknown), ["id"])}
            with self._memory:
                if len(self._alive) > REMEMBERED:
                    self._alive.clear()
                self._alive |= found
            unknown -= found
        return wanted - unknown

    def store(self, name: str) -> MilvusBits | MilvusUnits:
        """Return the searchable store of a descriptor.

        Raises:
            DescriptorError: The index lacks this descriptor.
        """
        spec = self.spec(name)
        bits = spec.kind is Kind.BITS
        rows = ServerRows(
            self._server,
            _rows_name(self._name, name),
            bits=bits,
            native=self._native,
            width=spec.width,
            living=self._living,
        )
        return MilvusBits(rows) if bits else MilvusUnits(rows)

    def _stored_nulls(self) -> dict[str, Any]:
        return dict(self._fact("calibration") or {})

    def _added_since_calibration(self) -> int:
        return len(self) - min((null.references for null in self.calibration().values()), default=0)

    def calibrate(self) -> dict[str, Null]:
        """Fit and store how near unrelated pictures come in this index (`index.calibration`)."""
        self._must_write()
        nulls = calibrate(self)
        self._put_facts([("calibration", "calibration", {n: null.to_dict() for n, null in nulls.items()})])
        with self._guard:
            self._nulls = nulls
        return nulls

    def reference_ids(self) -> list[int]:
        """Return the ids of all references, ascending; memory holds them all."""
        return sorted(int(each["id"]) for each in self._server.iterate(self._name, "id >= 0", ["id"]))

    def digests(self) -> set[str]:
        """Return the SHA-256 digests of all references; memory holds them all."""
        pages = self._server.iterate(self._name, "id >= 0", ["sha256"])
        return {str(each["sha256"]) for each in pages}

    def _find(self, sha256: str) -> tuple[int | None, int | None]:
        """Return the id of the reference with this digest, or None, and the first id that it could get."""
        first = int(sha256, 16) >> (4 * len(sha256) - ID_BITS)
        ids = [(first + step) % (1 << ID_BITS) for step in range(PROBES)]
        taken = {int(e["id"]): str(e["sha256"]) for e in self._server.get(self._name, ids, ["id", "sha256"])}
        mine = next((number for number in ids if taken.get(number) == sha256), None)
        return mine, next((number for number in ids if number not in taken), None)

    def id_of(self, sha256: str) -> int | None:
        """Return the id of the reference with this digest, or None."""
        return self._find(sha256)[0]

    def has(self, sha256: str) -> bool:
        """Say whether there is a reference with this digest."""
        return self.id_of(sha256) is not None

    def reference(self, reference_id: int) -> tuple[ReferenceRecord, tuple[OccurrenceRecord, ...]] | None:
        """Return a reference and its occurrences, or None where it is gone."""
        found = self._server.get(self._name, [reference_id], ["id", "sha256", "facts"])
        if not found:
            return None
        facts = json.loads(found[0]["facts"])
        record = ReferenceRecord(
            reference_id,
            str(found[0]["sha256"]),
            int(facts["width"]),
            int(facts["height"]),
            tuple(facts["trim"]),
        )
        places = self._server.iterate(
            f"{self._name}_occurrences", f"reference == {reference_id}", ["path", "facts"]
        )
        occurrences = sorted((_occurrence(each) for each in places), key=lambda place: place.path)
        return (record, tuple(occurrences)) if occurrences else None

    def thumbnail(self, reference_id: int) -> bytes | None:
        """Return a reference's thumbnail as WebP, or None."""
        found = self._server.get(self._name, [reference_id], ["thumbnail"])
        return base64.b64decode(found[0]["thumbnail"]) or None if found else None

    def _occurrences(self, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the occurrences whose reference is there, page by page."""
        page: list[dict[str, Any]] = []
        wanted = sorted({"reference", *fields})
        for each in self._server.iterate(f"{self._name}_occurrences", "reference >= 0", wanted):
            page.append(each)
            if len(page) == BATCH:
                yield from self._of_living(page)
                page = []
        yield from self._of_living(page)

    def _of_living(self, page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        alive = self._living([int(each["reference"]) for each in page])
        return [each for each in page if int(each["reference"]) in alive]

    def find_occurrences(
        self, *, path: str | None = None, artist: str | None = None, source_contains: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (path, reference id) of what `remove` would forget, by path; reads all occurrences."""
        found = []
        trunk = None if path is None else in_utf8(path).rstrip("/")
        for each in self._occurrences(["path", "facts"]):
            place = _occurrence(each)
            here = trunk is None or place.path == trunk or place.path.startswith((trunk + "/", trunk + "::"))
            by = artist is None or place.credits.artist.casefold() == artist.casefold()
            if here and by and (source_contains is None or source_contains in place.credits.source):
                found.append((place.path, int(each["reference"])))
        return sorted(found)

    def named(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Yield (reference id, artist, extra columns) of the occurrences that have any, each triple once."""
        seen: set[tuple[int, str, str]] = set()
        for each in self._occurrences(["path", "facts"]):
            given = _occurrence(each).credits
            if given.artist or given.extra:
                extra = json.dumps(given.extra, ensure_ascii=False, sort_keys=True)
                seen.add((int(each["reference"]), given.artist, extra))
        for number, artist, extra in sorted(seen):
            yield number, artist, json.loads(extra)

    def is_known(self, path: str, size: int, mtime_ns: int, *, take_back: bool = False) -> bool:
        """Say whether an occurrence was added, or rejected, with this size and time of change.

        Args:
            path: Of the occurrence.
            size: In bytes.
            mtime_ns: When its file was last changed.
            take_back: Rejections of erased pictures do not count.
        """
        if size < 0 or mtime_ns == 0:
            return False
        places = self._server.get(f"{self._name}_occurrences", [_key(path)], ["reference", "path", "facts"])
        for each in self._of_living(places):
            place = _occurrence(each)
            if (place.size, place.mtime_ns) == (size, mtime_ns):
                return True
        rejected = self._fact(f"rejected {_key(path)}")
        if rejected is None or (take_back and rejected["reason"] == REMOVED_ON_REQUEST):
            return False
        return (rejected["size"], rejected["mtime_ns"]) == (size, mtime_ns)

    def rejected(self, *, limit: int = -1) -> list[Rejected]:
        """Return the files that could not become references, by path."""
        found = [json.loads(each["value"]) for each in self._facts("rejected")]
        files = sorted(
            (Rejected(f["path"], f["reason"], f["detail"]) for f in found), key=lambda r: r.locator
        )
        return files if limit < 0 else files[:limit]

    def forgotten(self) -> frozenset[str]:
        """Return the keys (`index.requests.forgotten_key`) of pictures that are not to be taken in again."""
        return frozenset(str(each["key"]).split(" ")[1] for each in self._facts("forgotten"))

    def counts(self) -> tuple[int, int, int]:
        """Return how many references, occurrences and rejected files there are."""
        occurrences = self._server.count(f"{self._name}_occurrences")
        return len(self), occurrences, self._server.count(f"{self._name}_facts", 'kind == "rejected"')

    def info(self) -> IndexInfo:
        """Return what this index is and holds. Bytes on disk are those of a Milvus Lite database; 0 of a server."""
        references, occurrences, rejected = self.counts()
        folder = self.location.folder
        files = [] if folder is None else [entry for entry in folder.rglob("*") if entry.is_file()]
        return IndexInfo(
            path=self.name,
            format_version=int(self._manifest["format_version"]),
            generation=self.generation,
            references=references,
            occurrences=occurrences,
            rejected=rejected,
            descriptors=self.specs,
            rows={spec.name: len(self.store(spec.name)) for spec in self.specs},
            bytes_on_disk=sum(entry.stat().st_size for entry in files),
            thumbnails=self.keeps_thumbnails,
            regions=self.has_regions,
            squares=self.has_squares,
        )

    def check(self) -> list[str]:
        """Compare the collections with each other; reads every id.

        Returns:
            One sentence a problem; empty where all is well.
        """
        problems = []
        live = set(self.reference_ids())
        placed = self._server.iterate(f"{self._name}_occurrences", "reference >= 0", ["reference"])
        owners = {int(each["reference"]) for each in placed}
        if bare := live - owners:
            problems.append(f"{len(bare)} references have no occurrence, the first is {min(bare)}")
        if lost := owners - live:
            problems.append(f"occurrences of {len(lost)} references that are not there wait to be deleted")
        for spec in self.specs:
            name = _rows_name(self._name, spec.name)
            if not self._server.has(name):
                problems.append(f"the collection {name} is missing")
                continue
            described = {
                int(e["reference"]) for e in self._server.iterate(name, "number >= 0", ["reference"])
            }
            if spec.kind is Kind.UNIT and (missing := live - described):
                problems.append(
                    f"{len(missing)} references have no {spec.name} row, the first is {min(missing)}"
                )
            if left := described - live:
                problems.append(
                    f"{spec.name} rows of {len(left)} references that are not there wait to be deleted"
                )
        return problems

    # Writing

    def _must_write(self) -> None:
        if not self._writable:
            raise UsageError(f"{self.name}: was opened for reading. Open it with writable=True")

    def merge_small_segments(self) -> None:
        """Do nothing: Milvus merges its own segments."""

    def reject(self, rejected: Rejected, *, size: int = -1, mtime_ns: int = 0) -> None:
        """Record a file that cannot become a reference; written with the next `add`."""
        self._rejected_buffer.append((rejected, size, mtime_ns))

    def add(self, batch: Sequence[NewReference], *, take_back: bool = False) -> int:
        """Add described pictures; the same picture at another path is one more occurrence.

        Args:
            batch: What to add, committed `BATCH` at a time.
            take_back: Admit pictures that were erased and are remembered as such.

        Returns:
            How many new references there are.

        Raises:
            UsageError: A picture was erased, and `take_back` is not given. Nothing was added.
            IndexConnectionError: The server failed. What was committed is kept.
        """
        self._must_write()
        forgotten = self.forgotten() if batch else frozenset()
        keys = {new.sha256: forgotten_key(new.sha256) for new in batch} if forgotten else {}
        if not take_back:
            for new in batch:
                if keys.get(new.sha256) in forgotten:
                    raise UsageError(
                        f"{new.occurrence.path}: was removed on request. To admit it again, give take_back=True"
                    )
        rejections = [
            (
                f"rejected {_key(r.locator)}",
                "rejected",
                {
                    "path": r.locator,
                    "reason": r.reason,
                    "detail": r.detail,
                    "size": size,
                    "mtime_ns": mtime_ns,
                },
            )
            for r, size, mtime_ns in self._rejected_buffer
        ]
        self._put_facts(rejections)
        self._rejected_buffer.clear()
        added = sum(self._add(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH))
        taken = [f"forgotten {key}" for key in keys.values() if key in forgotten]
        self._server.delete(f"{self._name}_facts", taken)
        self._forget_caches()
        return added

    def _add(self, batch: Sequence[NewReference]) -> int:
        """Commit one batch: note, rows, occurrences, references, note gone."""
        numbers: dict[str, int] = {}
        fresh: dict[int, NewReference] = {}
        for new in batch:
            if new.sha256 in numbers:
                continue
            number, free = self._find(new.sha256)
            if number is None:
                free = next((n for n in (free,) if n is not None and n not in fresh), None)
                if new.rows is None:
                    raise IndexCorruptError(self.name, f"{new.sha256} came without its rows")
                if free is None:
                    raise IndexCorruptError(
                        self.name, f"{new.sha256}: all {PROBES} ids that it may have are taken"
                    )
                number = free
                fresh[number] = new
            numbers[new.sha256] = number
        paths = {_key(new.occurrence.path): new for new in batch}
        before = self._server.get(f"{self._name}_occurrences", list(paths), ["key", "reference"])
        bereft = sorted(
            {
                int(each["reference"])
                for each in before
                if int(each["reference"]) != numbers[paths[str(each["key"])].sha256]
            }
        )
        note = uuid.uuid4().hex
        self._put_facts([(f"begun {note}", "begun", {"since": time.time(), "bereft": bereft})])
        for spec in self.specs:
            bits = spec.kind is Kind.BITS
            entities = [
                {
                    "key": f"{number}-{place}",
                    "reference": number,
                    "number": place,
                    "batch": note,
                    "row": to_vector(row, bits=bits, native=self._native),
                }
                for number, new in fresh.items()
                for place, row in enumerate((new.rows or {})[spec.name])
            ]
            self._server.put(_rows_name(self._name, spec.name), entities)
        self._server.put_plain(
            f"{self._name}_occurrences",
            [
                {
                    "key": key,
                    "reference": numbers[new.sha256],
                    "path": new.occurrence.path,
                    "facts": _occurrence_text(new.occurrence),
                }
                for key, new in paths.items()
            ],
        )
        self._server.put_plain(self._name, [_reference_entity(n, new) for n, new in fresh.items()])
        self._drop_orphans(bereft)
        self._server.delete(f"{self._name}_facts", [f"begun {note}"])
        return len(fresh)

    def remove(
        self,
        *,
        path: str | None = None,
        artist: str | None = None,
        source_contains: str | None = None,
        erase: bool = False,
    ) -> tuple[int, int]:
        """Forget occurrences that fit every given condition; a reference with none left is gone, its rows too.

        Args:
            path: An exact path, or a folder or shard.
            artist: An exact artist, whatever its case.
            source_contains: A part of the source.
            erase: Remember gone pictures by a key, so that no later build takes them in again, and ask Milvus to
                rewrite its segments without them at once.

        Returns:
            How many occurrences, and how many references, are gone.

        Raises:
            UsageError: No condition was given.
        """
        self._must_write()
        if path is None and artist is None and source_contains is None:
            raise UsageError("remove needs a path, an artist or a part of a source")
        found = self.find_occurrences(path=path, artist=artist, source_contains=source_contains)
        ids = sorted({number for _, number in found})
        note = uuid.uuid4().hex
        for start in range(0, len(ids), BATCH):
            facts = {"since": time.time(), "bereft": ids[start : start + BATCH]}
            self._put_facts([(f"begun {note} {start}", "begun", facts)])
        gone_keys = [_key(place) for place, _ in found]
        self._server.delete(f"{self._name}_occurrences", gone_keys)
        self._server.delete(f"{self._name}_facts", [f"rejected {key}" for key in gone_keys])
        gone = self._drop_orphans(ids, remember=erase)
        if erase and gone:
            self._server.erase(self._collections())
        begun = [f"begun {note} {start}" for start in range(0, len(ids), BATCH)]
        self._server.delete(f"{self._name}_facts", begun)
        self._forget_caches()
        return len(found), len(gone)

    def _drop_orphans(self, among: Iterable[int], *, remember: bool = False) -> list[int]:
        """Delete those of some references that have no occurrence left, and their rows."""
        gone = []
        for number in among:
            if self._server.count(f"{self._name}_occurrences", f"reference == {number}"):
                continue
            found = self._server.get(self._name, [number], ["sha256"])
            if remember and found:
                key = forgotten_key(str(found[0]["sha256"]))
                self._put_facts([(f"forgotten {key}", "forgotten", {"since": time.time()})])
            self._server.delete(self._name, [number])
            self._delete_rows(number)
            gone += [number] if found else []
        with self._memory:
            self._alive.difference_update(gone)
        return gone

    def _delete_rows(self, number: int) -> None:
        for spec in self.specs:
            name = _rows_name(self._name, spec.name)
            rows = self._server.iterate(name, f"reference == {number}", ["key"])
            self._server.delete(name, [str(each["key"]) for each in rows])

    def _sweep(self) -> None:
        """Delete what batches left that were begun and never ended: the traces of a writer that was killed."""
        for each in list(self._facts("begun")):
            facts = json.loads(each["value"])
            if not self._server.is_lite and time.time() - float(facts["since"]) < STALE_S:
                continue
            note = str(each["key"]).split(" ")[1]
            for spec in self.specs:
                name = _rows_name(self._name, spec.name)
                rows = list(self._server.iterate(name, f'batch == "{note}"', ["key", "reference"]))
                alive = self._living([int(row["reference"]) for row in rows])
                lost = [row for row in rows if int(row["reference"]) not in alive]
                self._server.delete(name, [str(row["key"]) for row in lost])
                self._delete_places({int(row["reference"]) for row in lost})
            self._drop_orphans([int(number) for number in facts["bereft"]])
            self._server.delete(f"{self._name}_facts", [str(each["key"])])
        with self._memory:
            self._alive.clear()

    def _delete_places(self, numbers: Iterable[int]) -> None:
        name = f"{self._name}_occurrences"
        for number in numbers:
            places = list(self._server.iterate(name, f"reference == {number}", ["key"]))
            self._server.delete(name, [str(each["key"]) for each in places])

    def _forget_caches(self) -> None:
        with self._guard:
            self._wholes = None
            self._size = None

    def _collections(self) -> list[str]:
        rows = [_rows_name(self._name, spec.name) for spec in self.specs]
        return [self._name, f"{self._name}_occurrences", f"{self._name}_facts", *rows]

    # Facts

    def _fact(self, key: str) -> Any:
        found = self._server.get(f"{self._name}_facts", [key], ["value"])
        return json.loads(found[0]["value"]) if found else None

    def _facts(self, kind: str) -> Iterator[dict[str, Any]]:
        return self._server.iterate(f"{self._name}_facts", f'kind == "{kind}"', ["key", "value"])

    def _put_facts(self, facts: Sequence[tuple[str, str, Any]]) -> None:
        entities = [{"key": key, "kind": kind, "value": text_of(value)} for key, kind, value in facts]
        self._server.put_plain(f"{self._name}_facts", entities)


def _rows_name(collection: str, descriptor: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9]+", "_", descriptor)[:40].strip("_")
    return f"{collection}_rows_{readable}_{hashlib.sha256(descriptor.encode()).hexdigest()[:8]}"


def _key(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()


def _reference_entity(number: int, new: NewReference) -> dict[str, Any]:
    facts = {"width": new.width, "height": new.height, "trim": list(new.trim)}
    small = base64.b64encode(new.thumbnail or b"").decode("ascii")
    # What does not fit is left out: its own file, or nothing, verifies it.
    kept = small if len(small) <= MAX_TEXT else ""
    return {"id": number, "sha256": new.sha256, "facts": text_of(facts), "thumbnail": kept}


def _occurrence_text(place: OccurrenceRecord) -> str:
    given = place.credits
    facts = {
        "size": place.size,
        "mtime_ns": place.mtime_ns,
        "artist": given.artist,
        "title": given.title,
        "licence": given.licence,
        "source": given.source,
        "caption": given.caption,
        "extra": given.extra,
    }
    text = text_of(facts)
    if len(text.encode()) > MAX_TEXT:
        text = text_of({**facts, "caption": "", "extra": {}})
    if len(text.encode()) > MAX_TEXT or len(place.path.encode()) > MAX_TEXT:
        raise UsageError(
            f"{place.path[:200]}: what is said of it does not fit into Milvus ({MAX_TEXT:,} bytes)"
        )
    return text


def _occurrence(entity: dict[str, Any]) -> OccurrenceRecord:
    facts = json.loads(entity["facts"])
    given = Credits(
        facts["artist"], facts["title"], facts["licence"], facts["source"], facts["caption"], facts["extra"]
    )
    return OccurrenceRecord(str(entity["path"]), given, int(facts["size"]), int(facts["mtime_ns"]))


def _read_manifest(server: Server, location: Location) -> dict[str, Any]:
    name = f"{location.collection}_facts"
    found: list[dict[str, Any]] = []
    if server.has(name) and {"key", "kind", "value"} <= set(server.fields(name)):
        found = server.get(name, ["manifest"], ["value"])
    if not found:
        raise UsageError(
            f"{location}: is a collection of something else. Name another one, or a new one with --out"
        )
    try:
        manifest = json.loads(found[0]["value"])
        version = int(manifest["format_version"])
        if manifest["kind"] != KIND or version < 1:
            raise ValueError(f"kind {manifest['kind']}, format_version {version}")
        if version > FORMAT_VERSION:
            raise IndexVersionError(str(location), version, FORMAT_VERSION)
        for values in manifest["descriptors"]:
            DescriptorSpec.from_dict(values)
    except GARBLED as error:
        raise IndexCorruptError(str(location), f"its manifest is garbled: {error!r}") from error
    return dict(manifest)
