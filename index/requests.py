"""Removal requests: filed by those whose works an index holds, decided by whoever keeps the index.

Filing and reading take SQLite's own lock for an instant, never the writer's lock on the folder: they work while an
index is built, and a reader pinned to an older generation sees them too. Deciding is up to the writer
(`ReferenceIndex.accept_request`, `ReferenceIndex.decline_request`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from index.catalog import FILE_NAME, Catalog
from index.errors import IndexMissingError, UsageError

OPEN, ACCEPTED, DECLINED = STATES = ("open", "accepted", "declined")
"""What a request can be."""

REMOVED_ON_REQUEST = "removed_on_request"
"""Reason of `Rejected` for a file whose picture was erased and is not taken in again."""

MAX_NAME = 200
MAX_CONTACT = 254
"""Characters; the longest e-mail address that mail servers pass on (RFC 5321, erratum 1690)."""

MAX_STATEMENT = 4000
"""Characters: about two pages, of a statement or of the reason of a decision."""

MAX_PICTURES = 2000
"""Pictures one request may name."""

MAX_OPEN = 1000
"""Requests that may wait for a decision: what strangers can make an index grow by."""


@dataclass(frozen=True, slots=True)
class RemovalRequest:
    """Somebody's wish that an index forget some of its references.

    Attributes:
        id: 16 random hex digits.
        state: ``open``, ``accepted`` or ``declined``.
        made: When it was filed, ISO 8601 in UTC, to the second.
        sha256s: The references asked about, by digest, sorted: ids die with their references. Of a picture that was
            erased since, its `forgotten_key` instead.
        name: Of who asks, as they gave it.
        contact: How to reach them, as they gave it; empty if they did not.
        statement: Their words, as they gave them.
        decided: When it was decided, like `made`; empty while it is open.
        reason: Of the decision; empty while it is open.
    """

    id: str
    state: str
    made: str
    sha256s: tuple[str, ...]
    name: str
    contact: str
    statement: str
    decided: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "sha256s": list(self.sha256s)}


def forgotten_key(sha256: str) -> str:
    """Return what an erased picture is remembered by: 64 hex digits, from which its own digest does not follow.

    Whoever has the picture can tell that it was erased; whoever has the index alone learns nothing of the picture.
    """
    return hashlib.sha256(f"forgotten {sha256}".encode()).hexdigest()


def file_request(
    folder: str | Path, sha256s: Iterable[str], *, name: str, contact: str = "", statement: str = ""
) -> RemovalRequest:
    """Ask that references be removed from an index; works while a writer is busy with it.

    The same pictures asked for from the same contact (without one: under the same name) are one request as long as it
    is open. What comes back then is the first one, with its texts.

    Args:
        folder: The index folder. Its generation does not change.
        sha256s: Digests of references that are in the index.
        name: Who asks.
        contact: How to reach them, such as an e-mail address.
        statement: Why, in their words.

    Returns:
        The request as it is kept.

    Raises:
        UsageError: No or too many pictures are named, one is not in this index, a text is missing or too long, or
            too many requests are open. Its text can be shown to strangers: it names no folder.
        IndexMissingError, IndexVersionError, IndexCorruptError, IndexLockedError, IndexWriteError: See
            `ReferenceIndex.open`.
    """
    digests = tuple(sorted({str(digest).strip().lower() for digest in sha256s}))
    if not digests:
        raise UsageError("a removal request names no picture. Choose at least one")
    if len(digests) > MAX_PICTURES:
        raise UsageError(
            f"a removal request names {len(digests):,} pictures; the limit is {MAX_PICTURES:,}. "
            "File several of them"
        )
    given = (
        bounded(name, MAX_NAME, "the name"),
        bounded(contact, MAX_CONTACT, "the contact"),
        bounded(statement, MAX_STATEMENT, "the statement"),
    )
    if not given[0]:
        raise UsageError("a removal request has no name. Say who asks")
    with _catalog(Path(folder), writable=True) as catalog, catalog.transaction(new_generation=False):
        unknown = [digest for digest in digests if catalog.id_of(digest) is None]
        if unknown:
            raise UsageError(
                f"this index holds no reference with the digest {unknown[0][:80]}"
                + (f", nor {len(unknown) - 1:,} others that were asked for" if unknown[1:] else "")
                + ". Look the works up again: the index may have changed"
            )
        waiting = catalog.requests(state=OPEN)
        for row in waiting:
            known = _request(catalog, row)
            same_asker = known.contact == given[1] and (given[1] or known.name == given[0])
            if same_asker and known.sha256s == digests:
                return known
        if len(waiting) >= MAX_OPEN:
            raise UsageError(
                f"{len(waiting):,} removal requests wait for a decision, and no more are taken until "
                "whoever keeps this index has decided some. Try again later"
            )
        made = RemovalRequest(secrets.token_hex(8), OPEN, now(), digests, *given, "", "")
        catalog.add_request((made.id, made.made, *given), digests)
        return made


def requests(folder: str | Path, *, state: str | None = None) -> list[RemovalRequest]:
    """Return the removal requests of an index as they are on disk now, newest first.

    Args:
        folder: The index folder.
        state: ``open``, ``accepted`` or ``declined``; None for all.

    Raises:
        UsageError: There is no such state.
        IndexMissingError, IndexVersionError, IndexCorruptError: See `ReferenceIndex.open`.
    """
    if state is not None and state not in STATES:
        raise UsageError(f"{state}: is no state of a removal request. Give {', '.join(STATES)}")
    with _catalog(Path(folder), writable=False) as catalog:
        return [_request(catalog, row) for row in catalog.requests(state=state)]


def request(folder: str | Path, request_id: str) -> RemovalRequest:
    """Return the removal request with this id, or the only one whose id begins with it.

    Raises:
        UsageError: There is none, or there are several.
        IndexMissingError, IndexVersionError, IndexCorruptError: See `ReferenceIndex.open`.
    """
    with _catalog(Path(folder), writable=False) as catalog:
        return find_request(catalog, request_id)


def find_request(catalog: Catalog, request_id: str) -> RemovalRequest:
    """Return the request of a catalogue with this id or unique beginning of one.

    Raises:
        UsageError: There is none, or there are several.
    """
    wanted = request_id.strip().lower()
    found = catalog.requests(id_begins=wanted) if wanted else []
    where = catalog.path.parent
    if not found:
        raise UsageError(
            f"{where}: has no removal request {request_id!r}. List them: "
            f"detector index requests list --index {where}"
        )
    if len(found) > 1:
        named = ", ".join(row[1] for row in found[:3]) + (", …" if len(found) > 3 else "")
        raise UsageError(f"{request_id}: is the beginning of {len(found)} ids ({named}). Give more digits")
    return _request(catalog, found[0])


def find_traces(folder: str | Path) -> bool:
    """Say whether the catalogue's log still holds bytes, perhaps of what was erased.

    SQLite keeps the log as long as another program has the catalogue open. Call this after the writer has closed.
    """
    log = Path(folder) / f"{FILE_NAME}-wal"
    return log.is_file() and log.stat().st_size > 0


def erase_traces(folder: str | Path) -> bool:
    """Empty the catalogue's log, perhaps of what was erased, and say whether that is done.

    It is not as long as a program reads the catalogue as it was before the log was last brought into it.

    Raises:
        IndexMissingError, IndexVersionError, IndexCorruptError, IndexLockedError, IndexWriteError: See
            `ReferenceIndex.open`.
    """
    with _catalog(Path(folder), writable=True) as catalog:
        catalog.empty_log()
    return not find_traces(folder)


def bounded(text: str, most: int, what: str) -> str:
    """Return a text as it is kept: without blanks at its ends, NULs and half characters.

    Raises:
        UsageError: It is longer than `most` characters.
    """
    kept = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip()
    if len(kept) > most:
        raise UsageError(f"{what} has {len(kept):,} characters; the limit is {most:,}. Shorten it")
    return kept


def now() -> str:
    """Return the time as it is kept: ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def _catalog(folder: Path, *, writable: bool) -> Iterator[Catalog]:
    if not (folder / FILE_NAME).is_file():
        raise IndexMissingError(
            folder, f"no such index. Build one: detector index build PICTURES --out {folder}"
        )
    catalog = Catalog(folder, writable=writable)
    try:
        yield catalog
    finally:
        catalog.close()


def _request(catalog: Catalog, row: tuple[Any, ...]) -> RemovalRequest:
    number, identity, state, made, name, contact, statement, decided, reason = row
    return RemovalRequest(
        identity, state, made, catalog.requested(number), name, contact, statement, decided, reason
    )
