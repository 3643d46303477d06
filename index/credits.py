"""Who made a picture and under which terms: `Credits`, and how a table's columns become them.

Columns are recognised without regard to case, spaces, dashes and underscores. For each field the first column
in this order that says something in the row at hand is taken; what is not taken is kept in `Credits.extra`:

- artist: artist, artist_name, artists, author, author_name, authors, creator, creator_name, creators,
  photographer, painter, illustrator, byline, by, attribution, credit, credits, credit_text
- title: title, work_title, artwork_title, artwork, work, object_name, headline, name
- licence: licence, license, licence_name, license_name, licence_type, license_type, licence_id, license_id,
  licence_url, license_url, rights, rights_statement, usage_terms, copyright, copyright_notice
- source: url, source, source_url, image_url, link, page_url, original_url, web_url, landing_page, permalink
- caption: caption, text, prompt, description, image_description, alt, alt_text
- path: file_name, path, file, file_path, image_path, image_file, image, img_path, img, local_path

A column named by the user (`ColumnNames`) stands alone for its field: the usual names then go to `extra`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

_NAMES: dict[str, tuple[str, ...]] = {
    "artist": (
        *("artist", "artistname", "artists", "author", "authorname", "authors", "creator", "creatorname"),
        *("creators", "photographer", "painter", "illustrator", "byline", "by", "attribution"),
        *("credit", "credits", "credittext"),
    ),
    "title": ("title", "worktitle", "artworktitle", "artwork", "work", "objectname", "headline", "name"),
    "licence": (
        *("licence", "license", "licencename", "licensename", "licencetype", "licensetype", "licenceid"),
        *("licenseid", "licenceurl", "licenseurl", "rights", "rightsstatement", "usageterms"),
        *("copyright", "copyrightnotice"),
    ),
    "source": (
        *("url", "source", "sourceurl", "imageurl", "link", "pageurl", "originalurl", "weburl"),
        *("landingpage", "permalink"),
    ),
    "caption": ("caption", "text", "prompt", "description", "imagedescription", "alt", "alttext"),
    "path": (
        *("filename", "path", "file", "filepath", "imagepath", "imagefile", "image", "imgpath", "img"),
        "localpath",
    ),
}
_USUAL = {name: (role, rank) for role, names in _NAMES.items() for rank, name in enumerate(names)}
_SEPARATORS = re.compile(r"[\s_\-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")
_NOT_SAID = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>"})
_MAX_CACHED_NAMES = 10_000
_MAX_NESTED = 4


@dataclass(frozen=True, slots=True)
class Credits:
    """What is said about one occurrence of a picture; an empty string means "not said".

    Attributes:
        artist: Who made it.
        title: What it is called.
        licence: Its licence, as written there: an SPDX id, a URL, a sentence.
        source: Where it was taken from, usually a URL.
        caption: The text it was, or would be, trained with.
        extra: Every other column, as given, as text; ``opt_out:…`` keys hold opt-out signals.
    """

    artist: str = ""
    title: str = ""
    licence: str = ""
    source: str = ""
    caption: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def filled_from(self, other: Credits) -> Credits:
        """Return these credits, what they leave empty taken from `other`; own values win, also in `extra`."""
        return Credits(
            artist=self.artist or other.artist,
            title=self.title or other.title,
            licence=self.licence or other.licence,
            source=self.source or other.source,
            caption=self.caption or other.caption,
            extra={**other.extra, **self.extra} if other.extra else self.extra,
        )

    @property
    def empty(self) -> bool:
        """True when none of the five fields says anything."""
        return not (self.artist or self.title or self.licence or self.source or self.caption)


NO_CREDITS = Credits()
"""Nothing is said."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """Columns to read each field from; ``None`` means the usual names (see the module's table)."""

    artist: str | None = None
    title: str | None = None
    licence: str | None = None
    source: str | None = None
    caption: str | None = None
    path: str | None = None

    def told(self) -> dict[str, str]:
        """Return the fields that the user named a column for, with its name."""
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {role: name for role, name in pairs if name is not None}


USUAL_COLUMNS = ColumnNames()
"""Nothing told: the usual names."""


def normalised(column: str) -> str:
    """Return a column's name as it is compared: lower case, without spaces, dashes and underscores."""
    return _SEPARATORS.sub("", column).casefold()


def clean_text(text: str, *, max_length: int | None = None) -> str:
    """Return text that can be stored and shown: stripped, valid, no control characters but tab and newline.

    Bytes read with ``surrogateescape`` are taken for Windows-1252, the usual non-UTF-8 of spreadsheets.

    Args:
        text: Any text.
        max_length: Cut to this many characters, with an ellipsis.

    Returns:
        The cleaned text.
    """
    if text.isprintable():  # neither surrogates nor controls: most texts
        text = text.strip()
    else:
        if _LONE_SURROGATES.search(text):
            try:
                text = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
            except UnicodeEncodeError:  # surrogates that never were bytes, as in JSON's "\ud800"
                text = _LONE_SURROGATES.sub("\ufffd", text)
        text = _CONTROLS.sub("", text).strip()
    if max_length is not None and len(text) > max_length:
        text = text[: max_length - 1].rstrip() + "…"
    return text


def as_text(value: Any) -> str:
    """Return a cell as text: lists and objects as compact JSON; "" for None, NaN and bytes."""
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bytes | bytearray | memoryview):
        return ""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if type(value) is int:
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except RecursionError:
        return ""
    except (TypeError, ValueError):
        text = str(value)
    else:
        text = text[1:-1] if text[:1] == '"' else text  # a date, a decimal: what `_plain` made of it
    return clean_text(text)


def _plain(value: Any) -> str:
    return "" if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _field_text(value: Any, depth: int = 0) -> str:
    """Return a cell as a credit: names joined by commas, schema.org objects by their name."""
    if isinstance(value, list | tuple) and depth < _MAX_NESTED:
        parts = [_field_text(each, depth + 1) for each in value[:100]]
        return ", ".join(part for part in parts if part)
    if isinstance(value, dict):
        for key in ("name", "url", "@id"):
            if isinstance(value.get(key), str):
                return as_text(value[key])
    text = as_text(value)
    return "" if text in _NOT_SAID else text


class CreditReader:
    """Turns rows (column → value) into `Credits`.

    Attributes:
        found: Fields whose told column has been seen in a row so far.
    """

    def __init__(self, columns: ColumnNames = USUAL_COLUMNS) -> None:
        """Keep the columns told by the user; see `ColumnNames`."""
        self._told = columns.told()
        self._told.pop("path", None)
        self._roles: dict[str, tuple[tuple[str, int], ...]] = {}
        self.found: set[str] = set()

    def _roles_of(self, column: str) -> tuple[tuple[str, int], ...]:
        roles = self._roles.get(column)
        if roles is None:
            name = normalised(column)
            told = [
                (role, -2 if column == want else -1)
                for role, want in self._told.items()
                if column == want or name == normalised(want)
            ]
            self.found.update(role for role, _ in told)
            usual = _USUAL.get(name)
            if not told and usual is not None and usual[0] != "path" and usual[0] not in self._told:
                told = [usual]
            roles = tuple(told)
            if len(self._roles) < _MAX_CACHED_NAMES:
                self._roles[column] = roles
        return roles

    def read(self, row: Mapping[str, Any], omit: Collection[str] = ()) -> Credits:
        """Return the credits of one row.

        Args:
            row: Column → value, as the table gives them.
            omit: Columns that are no credits: the path, the picture's bytes.

        Returns:
            The fields, and every other column that says something in `extra`.
        """
        best: dict[str, tuple[int, str, str]] = {}
        extra: dict[str, str] = {}
        for column, value in row.items():
            if column in omit:
                continue
            roles = self._roles_of(column)
            text = _field_text(value) if roles else as_text(value)
            if not text:
                continue
            taken = False
            for role, rank in roles:
                other = best.get(role)
                if other is None or rank < other[0]:
                    if other is not None:
                        extra[other[2]] = other[1]
                    best[role] = (rank, text, column)
                    taken = True
            if not taken:
                extra[clean_text(column)] = text
        credits = Credits(**{role: text for role, (_, text, _) in best.items()}, extra=extra)
        return _with_stored_exif(credits)


def _with_stored_exif(credits: Credits) -> Credits:
    """Fill artist and licence from img2dataset's `exif` column: the file itself was re-encoded without it."""
    text = credits.extra.get("exif", "")
    if (credits.artist and credits.licence) or ("Artist" not in text and "Copyright" not in text):
        return credits
    try:
        exif = json.loads(text)
    except (ValueError, RecursionError):
        return credits
    if not isinstance(exif, dict):
        return credits
    return replace(
        credits,
        artist=credits.artist or as_text(exif.get("Image Artist") or exif.get("Artist")),
        licence=credits.licence or as_text(exif.get("Image Copyright") or exif.get("Copyright")),
    )


def find_column(columns: Iterable[str], told: str) -> str | None:
    """Return the column the user means: that very name, else one that differs in case and separators."""
    columns = list(columns)
    if told in columns:
        return told
    return next((column for column in columns if normalised(column) == normalised(told)), None)


def usual_path_column(columns: Iterable[str]) -> str | None:
    """Return the column that names the files, or None when no column has a usual name for that."""
    ranked = [(_USUAL.get(normalised(column), ("", 0)), column) for column in columns]
    paths = [(rank, column) for (role, rank), column in ranked if role == "path"]
    return min(paths, key=lambda each: each[0])[1] if paths else None
