"""Which works an audit looks at: those that the model was trained on, and controls that it never saw."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from detector.reports.wording import file_name
from index.credits import CreditReader, as_text, normalised
from index.errors import SourceError, UnreadableImageError, UsageError
from index.images import Picture, read_image
from index.items import Rejected, SourceItem
from index.lists import named_item
from index.searching import Searchable
from index.sources import open_source
from index.tables import TABLE_SUFFIXES, Row, open_table

REPEAT_COLUMNS = frozenset({"repeats", "repeat", "repetitions", "copies"})
ROLE_COLUMNS = frozenset({"split", "set", "role", "subset"})
HELD_OUT = frozenset({"control", "heldout", "test", "validation", "val", "unseen"})
"""Words of those columns, without spaces, dashes and underscores, for a work that was never trained on."""

EXAMPLE = "a list with the columns file_name, caption and, for what was held out, repeats 0"


@dataclass(frozen=True)
class Work:
    """One work: its caption, its picture, and what is known of how often the model saw it.

    Attributes:
        name: Unique in an audit: the file's name.
        caption: The text it was, or would have been, trained with; empty where it has none.
        control: The model never saw it.
        repeats: How often it was trained on, as the list says; None where it does not.
        reference_id: Its number in the index; None where it is not in there.
        sha256: Of the reference's file, or an empty string.
        path: Where its picture was when it was indexed, or is; an empty string where there is none.
        occurrences: Places of it in the index.
        near_duplicates: Other references of the index that nearly equal it.
        item: Its picture, where the list or folder has it.
    """

    name: str
    caption: str
    control: bool = False
    repeats: int | None = None
    reference_id: int | None = None
    sha256: str = ""
    path: str = ""
    occurrences: int = 0
    near_duplicates: int = 0
    item: SourceItem | None = field(default=None, repr=False, compare=False)

    @property
    def copies(self) -> int:
        """How often the model saw it: as the list says, else how often the index has it, near-duplicates too."""
        if self.control:
            return 0
        return self.repeats if self.repeats is not None else self.occurrences + self.near_duplicates

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture to compare with."""
        return self.item is not None or self.reference_id is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(replace(self, item=None))
        del values["item"]
        return values


def choose_works(
    index: Searchable | None,
    *,
    works: str | Path | None = None,
    controls: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Work]:
    """Return the works of an audit, members first.

    Args:
        index: Of the training images; None: only `works` says what there is.
        works: List with captions and, best, `repeats` or a column that says which works were held out. None takes
            every reference of the index that has a caption.
        controls: Folder or list of works that the model never saw.
        limit: Members, and controls, at most; spread over the numbers of repeats.
        seed: Of the choice.

    Raises:
        SourceError: A list cannot be used.
        UsageError: There is nothing to audit with.
    """
    known = _Known(index)
    if works is not None:
        found = list(_listed(Path(works), known, control=False))
    elif index is not None:
        found = list(known.captioned())
        if not found:
            raise UsageError(
                f"{index.path}: no reference has a caption to prompt with. Name {EXAMPLE}: --works LIST.csv"
            )
    else:
        raise UsageError(
            f"there are no works to audit with. Name the training images: --index FOLDER, or {EXAMPLE}: "
            "--works LIST.csv"
        )
    if controls is not None:
        path = Path(controls)
        if path.suffix.lower() in TABLE_SUFFIXES:
            found += _listed(path, known, control=True)
        else:
            never_seen = list(_pictures(path))
            if not never_seen:
                raise UsageError(
                    f"--controls {path}: holds no picture. Name a folder of works that the model never saw"
                )
            found += never_seen
    named = _once(found)
    members = [work for work in named if not work.control]
    if not members:
        raise UsageError("every work is a control: the audit needs works that the model was trained on, too")
    chosen = _limited(members + [work for work in named if work.control], limit, seed)
    return [_with_near_duplicates(work, index) for work in chosen]


def digest_of(works: Sequence[Work]) -> str:
    """Return the SHA-256 of what an audit that goes on must have again: names, captions, roles, pictures."""
    rows = [[w.name, w.caption, w.control, w.repeats, w.sha256] for w in works]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


def picture_of(work: Work, index: Searchable | None) -> Picture:
    """Return a work's picture: from its list or folder, its place when indexed, or the index's small copy.

    Raises:
        UnreadableImageError: It is at none of them.
    """
    if work.item is not None:
        return read_image(work.item.read(), locator=work.name)
    if index is not None and work.reference_id is not None:
        found = index.reference(work.reference_id)
        for occurrence in found[1] if found is not None else ():
            if Path(occurrence.path).is_file():
                picture = read_image(occurrence.path)
                if picture.sha256 == work.sha256:  # no other picture in its place
                    return picture
        stored = index.thumbnail(work.reference_id)
        if stored is not None:
            return read_image(stored, locator=work.name)
    raise UnreadableImageError(work.name, "missing", "neither its file nor a small copy in the index")


class _Known:
    """The occurrences of an index, found by the last part of their path."""

    def __init__(self, index: Searchable | None) -> None:
        self.index = index
        self._by_name: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for path, number in index.find_occurrences() if index is not None else ():
            self._by_name[file_name(path)].append((path, number))

    def captioned(self) -> Iterator[Work]:
        """Yield a work for each reference with a caption: the first of its captions."""
        for number in self.index.reference_ids() if self.index is not None else ():
            work = self.completed(Work("", ""), number)
            if work.caption:
                yield replace(work, name=file_name(work.path))

    def completed(self, work: Work, number: int) -> Work:
        """Return a work with what the index knows of a reference."""
        found = self.index.reference(number) if self.index is not None else None
        if found is None or self.index is None:
            return work
        record, occurrences = found
        caption = next((o.credits.caption for o in occurrences if o.credits.caption.strip()), "")
        return replace(
            work,
            caption=work.caption or caption,
            reference_id=number,
            sha256=record.sha256,
            path=work.path or occurrences[0].path,
            occurrences=len(occurrences),
        )

    def numbers(self, name: str) -> set[int]:
        """Return the references that a row names: its whole path where that decides, else its last part."""
        named = name.replace("\\", "/").removeprefix("./")
        fitting = self._by_name.get(file_name(named), [])
        exact = {number for path, number in fitting if path == named or path.endswith("/" + named)}
        return exact or {number for _, number in fitting}


def _listed(path: Path, known: _Known, *, control: bool) -> Iterator[Work]:
    if not path.is_file():
        raise SourceError(path, f"is no file. Name {EXAMPLE}")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise SourceError(path, f"is no list ({', '.join(sorted(TABLE_SUFFIXES))}). Name {EXAMPLE}")
    table = open_table(path)
    files = next((name for name in table.columns if normalised(name) == "filename"), None)
    files = files or next((n for n in table.columns if normalised(n) in ("path", "file", "image")), None)
    reader = CreditReader()
    rows = 0
    for row in table.rows(omit=table.blobs):
        if isinstance(row, Rejected):
            raise SourceError(path, f"{row.locator}: {row.detail or row.reason}. Mend or delete that row")
        rows += 1
        yield _row(row, path, files, reader, known, control=control)
    if not rows:
        raise SourceError(path, f"has no rows. It needs {EXAMPLE}")


def _row(
    row: Row, path: Path, files: str | None, reader: CreditReader, known: _Known, *, control: bool
) -> Work:
    name = as_text(row.values.get(files)).strip() if files else ""
    caption = reader.read(row.values, {files} if files else ()).caption.strip()
    if not name and not caption:
        raise SourceError(path, f"row {row.number} has neither a file name nor a caption. It needs {EXAMPLE}")
    repeats, held_out = _seen(row, path)
    control = control or held_out
    work = Work(file_name(name) if name else caption[:60], caption, control, 0 if control else repeats)
    numbers = known.numbers(name) if name else set()
    if len(numbers) > 1:
        raise SourceError(
            path, f"row {row.number}: {name} is the name of {len(numbers)} references. Give more of its path"
        )
    item = named_item(path.parent, name, reader.read({}), name, 2**40) if name else None
    if isinstance(item, SourceItem):
        work = replace(work, item=item, path=item.locator)
    return known.completed(work, numbers.pop()) if numbers else work


def _seen(row: Row, path: Path) -> tuple[int | None, bool]:
    """Return how often a row was trained on, if it says so, and whether it is a control."""
    repeats: int | None = None
    held_out = False
    for column, value in row.values.items():
        name, word = normalised(column), as_text(value).strip()
        if name in ROLE_COLUMNS:
            held_out = held_out or normalised(word) in HELD_OUT
        if name in REPEAT_COLUMNS and word:
            if normalised(word) in HELD_OUT:
                held_out = True
                continue
            try:
                repeats = int(float(word))
            except (ValueError, OverflowError):
                repeats = -1
            if repeats < 0:
                raise SourceError(
                    path,
                    f"row {row.number}: {column} is {word!r:.40}; give how often it was trained on, or 0",
                )
    return repeats, held_out or repeats == 0


def _pictures(path: Path) -> Iterator[Work]:
    for item in open_source(path):
        if isinstance(item, SourceItem):
            name = file_name(item.locator)
            yield Work(name, item.credits.caption.strip(), True, 0, path=item.locator, item=item)


def _with_near_duplicates(work: Work, index: Searchable | None) -> Work:
    if index is None or work.reference_id is None:
        return work
    return replace(work, near_duplicates=index.near_duplicates(work.reference_id))


def _once(works: Sequence[Work]) -> list[Work]:
    """Return works under names of their own; one that is named twice, and is a control once, is a control."""
    numbered: dict[str, Work] = {}
    places: dict[tuple[str, Any], str] = {}
    for work in works:
        key = ("reference", work.reference_id) if work.reference_id is not None else ("path", work.path)
        if key[1] and key in places and numbered[places[key]].caption == work.caption:
            if work.control:
                numbered[places[key]] = replace(numbered[places[key]], control=True, repeats=0)
            continue
        name, number = work.name, 2
        while name in numbered:
            name, number = f"{work.name} ({number})", number + 1
        numbered[name] = replace(work, name=name)
        places[key] = name
    return list(numbered.values())


def _limited(works: list[Work], limit: int | None, seed: int) -> list[Work]:
    """Keep `limit` members and `limit` controls: one of each number of repeats in turn, drawn by the seed."""
    if limit is None:
        return works
    kept: set[str] = set()
    for control in (False, True):
        groups: dict[int, list[Work]] = defaultdict(list)
        for work in works:
            if work.control is control:
                groups[work.repeats or 0].append(work)
        drawer = random.Random(f"{seed} {control}")
        queues = [drawer.sample(group, len(group)) for _, group in sorted(groups.items(), reverse=True)]
        for turn in range(max(map(len, queues), default=0)):
            for queue in queues:
                if turn < len(queue) and sum(w.control is control and w.name in kept for w in works) < limit:
                    kept.add(queue[turn].name)
    return [work for work in works if work.name in kept]
