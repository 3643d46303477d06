"""A connection to Milvus, a server or Milvus Lite, with its errors told in words; the only importer of pymilvus."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexConnectionError, IndexLockedError, IndexMissingError, UsageError

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0
MAX_TEXT = 65_535
"""Bytes of a text field, at most: https://milvus.io/docs/limitations.md."""

PAGE = 500
"""Entities read or deleted at a time: a text field is 64 kB at most, a message 64 MB."""

_SMALL = 2
"""Dimension of the vector that Milvus asks of every collection, where there is none to keep."""

INSTALL = 'pip install "replication-detector[milvus]"'


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a collection.

    Attributes:
        name: In the collection.
        kind: ``integer``, ``text`` or ``vector``.
        width: Columns of a vector; 0 for the rest.
        bits: Whether the vector's columns are bits, +1 or -1.
        searched: Whether an integer or text is filtered by, and gets an index.
    """

    name: str
    kind: str
    width: int = 0
    bits: bool = False
    searched: bool = False


class Server:
    """Collections of one server or database. May be shared between threads."""

    def __init__(self, shown: str, *, address: str = "", file: Path | None = None) -> None:
        """Connect.

        Args:
            shown: Where the index is, for messages.
            address: ``host:port`` of a server; its token is read from MILVUS_TOKEN.
            file: Of a Milvus Lite database, made when missing.

        Raises:
            IndexConnectionError: pymilvus or milvus-lite is missing, or the server does not answer.
            IndexLockedError: Another process has the database open.
        """
        self.shown = shown
        self.file = file
        self._guard = threading.RLock()
        self._client = self._connected(address, file)
        self._loaded: set[str] = set()

    def _connected(self, address: str, file: Path | None) -> Any:
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise IndexConnectionError(self.shown, f"needs pymilvus. Run: {INSTALL}") from error
        # It logs a traceback of every error, which is raised as well.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
        if file is None:
            try:
                return MilvusClient(
                    f"http://{address}", token=os.environ.get("MILVUS_TOKEN", ""), timeout=CONNECT_TIMEOUT_S
                )
            except Exception as error:
                raise IndexConnectionError(
                    self.shown,
                    f"no Milvus server answers at {address} as asked. Check the address, that it runs, and "
                    "MILVUS_TOKEN where it asks for one",
                ) from error
        try:
            import milvus_lite  # noqa: F401
        except ImportError as error:
            system = " It does not run on Windows: name a server there." if os.name == "nt" else ""
            raise IndexConnectionError(self.shown, f"needs milvus-lite. Run: {INSTALL}.{system}") from error
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL + 1)
        if file.is_file():
            raise UsageError(f"{file}: is a file of another kind. Name a new .db, or a folder for the index")
        if not file.parent.is_dir():
            raise UsageError(f"{file}: there is no folder {file.parent}. Make it first")
        strangers = file.is_dir() and not (file / "collections").is_dir() and any(file.iterdir())
        if strangers:
            raise UsageError(f"{file}: is a folder of other files. Name a new .db, or an index folder")
        try:
            return MilvusClient(str(file), timeout=CONNECT_TIMEOUT_S)
        except Exception as error:
            raise IndexLockedError(
                self.shown, "cannot be opened: another process has this database open, or it is damaged"
            ) from error

    @property
    def is_lite(self) -> bool:
        """Whether it is a database of this machine."""
        return self.file is not None

    def close(self) -> None:
        """Disconnect; a Milvus Lite database is free for other processes then."""
        with self._guard:
            self._client.close()
            if self.file is not None:
                with contextlib.suppress(Exception):
                    from milvus_lite.server_manager import server_manager_instance

                    server_manager_instance.release_server(str(self.file))

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            raise IndexConnectionError(
                self.shown,
                f"Milvus could not {doing}: {error.message or error}. What was committed is kept; once the cause "
                "is gone, the same command goes on from there",
            ) from error

    # Collections

    def has(self, collection: str) -> bool:
        """Say whether there is a collection of this name."""
        with self._told("say which collections it has"):
            return bool(self._client.has_collection(collection, timeout=REQUEST_TIMEOUT_S))

    def fields(self, collection: str) -> list[str]:
        """Return the names of a collection's fields."""
        with self._told("describe a collection"):
            found = self._client.describe_collection(collection, timeout=REQUEST_TIMEOUT_S)
        return [str(each["name"]) for each in found["fields"]]

    def make(self, collection: str, key: Field, fields: Sequence[Field], *, native: bool) -> None:
        """Make a collection, unless it is there; what it answers is consistent with all writes before.

        Args:
            collection: Its name.
            key: Its primary key.
            fields: The rest; without a vector among them it gets a small one, which says nothing.
            native: Store bits as bits, and floats as float16. Otherwise as float32.
        """
        from pymilvus import DataType

        if self.has(collection):
            return
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        indexes = self._client.prepare_index_params()
        kinds = {"integer": DataType.INT64, "text": DataType.VARCHAR}
        small = [] if any(f.kind == "vector" for f in fields) else [Field("nothing", "vector", _SMALL)]
        for field in (key, *fields, *small):
            if field.kind == "vector":
                as_bits, as_halves = native and field.bits, native and field not in small
                kind = DataType.BINARY_VECTOR if as_bits else DataType.FLOAT_VECTOR
                if as_halves and not as_bits:
                    kind = DataType.FLOAT16_VECTOR
                schema.add_field(field.name, kind, dim=field.width)
                indexes.add_index(
                    field.name,
                    index_type="BIN_FLAT" if as_bits else "FLAT",
                    metric_type="HAMMING" if as_bits else "IP",
                )
                continue
            options: dict[str, Any] = {"max_length": MAX_TEXT} if field.kind == "text" else {}
            schema.add_field(field.name, kinds[field.kind], is_primary=field is key, **options)
            if field.searched:
                indexes.add_index(field.name, index_type="INVERTED")
        with self._told("make a collection"):
            self._client.create_collection(
                collection,
                schema=schema,
                index_params=indexes,
                consistency_level="Strong",
                timeout=REQUEST_TIMEOUT_S,
            )

    def drop(self, collection: str) -> None:
        """Delete a collection."""
        with self._told("delete a collection"):
            self._client.drop_collection(collection, timeout=REQUEST_TIMEOUT_S)

    def _load(self, collection: str) -> str:
        """Make sure that a collection can be asked: Milvus lets go of those that were not used since it started."""
        with self._guard:
            if collection not in self._loaded:
                self._client.load_collection(collection, timeout=REQUEST_TIMEOUT_S)
                self._loaded.add(collection)
        return collection

    # Entities

    def put(self, collection: str, entities: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace entities by primary key."""
        with self._told("write"):
            for start in range(0, len(entities), PAGE):
                page = [dict(each) for each in entities[start : start + PAGE]]
                self._client.upsert(collection, page, timeout=REQUEST_TIMEOUT_S)

    def put_plain(self, collection: str, entities: Sequence[Mapping[str, Any]]) -> None:
        """The same for a collection without vectors of its own."""
        self.put(collection, [{**each, "nothing": [0.0] * _SMALL} for each in entities])

    def get(self, collection: str, keys: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Return entities by primary key, in no order; those that are missing are left out."""
        found: list[dict[str, Any]] = []
        with self._told("read"):
            for start in range(0, len(keys), PAGE):
                page = list(keys[start : start + PAGE])
                found += self._client.get(
                    self._load(collection), ids=page, output_fields=list(fields), timeout=REQUEST_TIMEOUT_S
                )
        return found

    def iterate(self, collection: str, condition: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the entities for which a condition holds, in no order; memory holds a page of them."""
        with self._told("read"):
            pages = self._client.query_iterator(
                self._load(collection), batch_size=PAGE, filter=condition, output_fields=list(fields)
            )
            try:
                while page := pages.next():
                    yield from (dict(each) for each in page)
            finally:
                pages.close()

    def count(self, collection: str, condition: str = "") -> int:
        """Count entities."""
        with self._told("count"):
            found = self._client.query(
                self._load(collection),
                filter=condition,
                output_fields=["count(*)"],
                timeout=REQUEST_TIMEOUT_S,
            )
        return int(found[0]["count(*)"])

    def delete(self, collection: str, keys: Sequence[Any]) -> None:
        """Delete entities by primary key."""
        with self._told("delete"):
            for start in range(0, len(keys), PAGE):
                self._client.delete(
                    self._load(collection), ids=list(keys[start : start + PAGE]), timeout=REQUEST_TIMEOUT_S
                )

    def erase(self, collections: Sequence[str]) -> None:
        """Ask that what was deleted is gone from the disk too, now rather than when Milvus gets round to it."""
        with self._told("compact"):
            for collection in collections:
                self._client.flush(collection, timeout=REQUEST_TIMEOUT_S)
                self._client.compact(collection, timeout=REQUEST_TIMEOUT_S)

    def nearest(
        self, collection: str, vectors: Sequence[Any], limit: int, *, condition: str, fields: Sequence[str]
    ) -> list[list[tuple[float, dict[str, Any]]]]:
        """Return for each vector the (value, fields) of the nearest entities, nearest first.

        Args:
            collection: With one vector field, ``row``.
            vectors: As stored.
            limit: Entities a vector.
            condition: Which entities count; empty for all.
            fields: To return.
        """
        with self._told("search"):
            found = self._client.search(
                self._load(collection),
                data=list(vectors),
                limit=limit,
                anns_field="row",
                filter=condition,
                output_fields=list(fields),
                timeout=REQUEST_TIMEOUT_S,
            )
        return [[(float(hit["distance"]), dict(hit["entity"])) for hit in hits] for hits in found]

    def refuse_missing(self, collection: str) -> None:
        """Raise IndexMissingError where there is no collection of this name."""
        if not self.has(collection):
            raise IndexMissingError(
                self.shown, f"no such index. Build one: detector index build PICTURES --out {self.shown}"
            )


def to_vector(row: NDArray[Any], *, bits: bool, native: bool) -> Any:
    """Return a row, uint8 bit strings or floats, as Milvus takes it."""
    if bits:
        return row.tobytes() if native else np.unpackbits(row).astype(np.float32) * 2.0 - 1.0
    half = row.astype(np.float16)
    return half if native else half.astype(np.float32)


def to_query(row: NDArray[Any], *, bits: bool, native: bool) -> Any:
    """Return a row to search for as Milvus takes it; float rows are rounded only where they must be."""
    return to_vector(row, bits=bits, native=native) if bits or native else row.astype(np.float32)


def from_vector(value: Any, *, bits: bool, native: bool) -> NDArray[Any]:
    """Return a row as Milvus gave it: uint8 bit strings or float16."""
    if native:
        raw = value[0] if isinstance(value, list) and value and isinstance(value[0], bytes) else value
        return np.frombuffer(bytes(raw), np.uint8 if bits else np.float16)
    floats = np.asarray(value, np.float32)
    return np.packbits(floats > 0) if bits else floats.astype(np.float16)


def text_of(value: Any) -> str:
    """Return plain JSON as text, for a text field."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
