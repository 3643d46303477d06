"""Where an index is: a folder, a Milvus Lite database beside one's files, or a collection of a Milvus server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from index.descriptors import DEFAULT_DESCRIPTORS, Kind, create
from index.errors import UsageError
from index.milvus import MilvusIndex
from index.reference_index import MANIFEST, ReferenceIndex

AnyIndex: TypeAlias = ReferenceIndex | MilvusIndex
"""What `open_index` returns."""

DEFAULT_COLLECTION = "training_images"
"""Collection of a Milvus Lite database that is named without one."""

# A Path folds the two slashes into one, and turns them round on Windows.
_SERVER = re.compile(r"milvus:/{1,2}(?P<server>[^/]+)/(?P<collection>[^/]+)/?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where an index is.

    Attributes:
        folder: The index folder, or the Milvus Lite database; None for a server.
        server: ``host:port``; empty for the others.
        collection: Its name in Milvus; empty for an index folder.
    """

    folder: Path | None
    server: str = ""
    collection: str = ""

    @property
    def is_milvus(self) -> bool:
        """Whether it is a collection, on a server or in a Milvus Lite database."""
        return bool(self.collection)

    def __str__(self) -> str:
        if self.server:
            return f"milvus://{self.server}/{self.collection}"
        if self.collection and self.collection != DEFAULT_COLLECTION:
            return f"{self.folder}/{self.collection}"
        return str(self.folder)


def parse_location(text: str | Path) -> Location:
    """Read where an index is.

    ``milvus://host:port/collection`` is a collection of a server; ``art.db`` and ``art.db/collection`` are in a Milvus
    Lite database; everything else is a folder, as is an index folder whose name ends in ``.db``.

    Raises:
        UsageError: It begins like a server's and is none, or the name of the collection cannot be one.
    """
    given = Path(text).as_posix() if isinstance(text, Path) else text.replace("\\", "/")
    if given.startswith("milvus:"):
        found = _SERVER.fullmatch(given)
        if found is None:
            raise UsageError(f"{given}: names no collection. Write milvus://host:19530/collection")
        server = found["server"]
        if "@" in server:
            raise UsageError(
                f"milvus://…@{server.rpartition('@')[2]}: keep the token off the command line. Set MILVUS_TOKEN"
            )
        if ":" not in server:
            server += ":19530"
        return Location(None, server, _collection(found["collection"], given))
    folder = Path(text)
    if folder.suffix.lower() == ".db" and not (folder / MANIFEST).exists():
        return Location(folder, "", DEFAULT_COLLECTION)
    parent = folder.parent
    if parent.suffix.lower() == ".db" and not (parent / MANIFEST).exists() and not folder.exists():
        return Location(parent, "", _collection(folder.name, given))
    return Location(folder)


def _collection(name: str, given: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{given}: a collection's name is of letters, digits and _, and begins with no digit"
        )
    return name


def open_index(where: str | Path, *, writable: bool = False, device: str | None = None) -> AnyIndex:
    """Open an index, wherever it is.

    Args:
        where: See `parse_location`.
        writable: Open it to add and remove.
        device: Where neural descriptors run; None chooses.

    Raises:
        IndexMissingError, IndexVersionError, IndexCorruptError, IndexLockedError: See `ReferenceIndex.open`.
        IndexConnectionError: The Milvus server does not answer.
    """
    location = parse_location(where)
    if location.is_milvus:
        return MilvusIndex.open(location, writable=writable, device=device)
    return ReferenceIndex.open(Path(where), writable=writable, device=device)


def open_or_create(
    where: str | Path,
    *,
    descriptors: Sequence[str] | None = None,
    thumbnails: bool = True,
    regions: bool = False,
    squares: bool = True,
    device: str | None = None,
) -> AnyIndex:
    """Open an index for writing, or make one where there is none.

    Args:
        where: See `parse_location`.
        descriptors: Names of those wanted; None takes the default set for a new index and an old one's own.
        thumbnails: Whether a new index keeps small copies.
        regions: Whether a new index describes windows.
        squares: Whether a new index describes middle squares.
        device: Where neural descriptors run; None chooses.

    Raises:
        UsageError: There is an index with other descriptors, or something else.
        IndexLockedError, IndexWriteError, IndexConnectionError, DescriptorError: See `open_index`.
    """
    location = parse_location(where)
    exists = MilvusIndex.exists(location) if location.is_milvus else (Path(where) / MANIFEST).exists()
    if exists:
        index = open_index(where, writable=True, device=device)
        present = [spec.name for spec in index.specs]
        if descriptors is not None and set(descriptors) != set(present):
            index.close()
            raise UsageError(
                f"{location}: has the descriptors {','.join(present)}, not {','.join(descriptors)}. Leave "
                "--descriptors out to add to it, or name another index with --out"
            )
        return index
    options = {"thumbnails": thumbnails, "regions": regions, "squares": squares}
    if location.is_milvus:
        wanted = descriptors or [n for n in DEFAULT_DESCRIPTORS if create(n).spec.kind is not Kind.LOCAL]
        return MilvusIndex.create(location, descriptors=wanted, device=device, **options)
    return ReferenceIndex.create(
        Path(where), descriptors=descriptors or DEFAULT_DESCRIPTORS, device=device, **options
    )


def local_folder(where: str | Path, doing: str) -> Path:
    """Return an index folder, for what works on folders alone.

    Args:
        where: As given.
        doing: What is to be done with it, for the message: "compacting".

    Raises:
        UsageError: It is a Milvus collection.
    """
    location = parse_location(where)
    if location.is_milvus:
        raise UsageError(
            f"{location}: {doing} works on index folders, and this is a Milvus collection. Build a folder from the "
            "same pictures: detector index build PICTURES --out art.index"
        )
    return Path(where)
