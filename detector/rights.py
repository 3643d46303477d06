"""Rights: which licences clear a match, what each asks for, and which opt-outs a work carries.

Nothing here says what the law says. It repeats what is recorded, reads it with doubt in the rights holder's
favour (`detector.licences`), and applies a policy that the user wrote. A little over 400 lines, because
licences and opt-outs are one thing to whoever reads a finding.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detector.licences import (
    VOCABULARY,
    Licence,
    LicenceFamily,
    is_creative_commons,
    normalise,
    reserves_all_rights,
    states_nothing,
    stem_of,
)
from detector.report import ImageReport, Occurrence, Reference
from index.errors import UsageError

__all__ = [
    "Licence",
    "LicenceFamily",
    "OptOut",
    "OptOutSignal",
    "Policy",
    "credit_line",
    "judge",
    "licence_sentence",
    "normalise",
    "opt_out_sentences",
    "opt_outs",
]

POLICY_FORMAT_VERSION = 1
"""Version of the form of ``policy.toml``."""

_FAMILIES = {
    family.value
    for family in (
        LicenceFamily.PUBLIC_DOMAIN,
        LicenceFamily.ATTRIBUTION,
        LicenceFamily.SHARE_ALIKE,
        LicenceFamily.PERMISSIVE,
        LicenceFamily.COPYLEFT,
    )
}
_GRANTS_NOTHING = (LicenceFamily.ALL_RIGHTS_RESERVED, LicenceFamily.UNKNOWN)
_STEMS = {stem_of(licence).lower(): stem_of(licence) for licence in VOCABULARY.values()}
_FORMS = (
    "an SPDX id (CC-BY-4.0), every version of one (CC-BY-*), a family "
    f"({', '.join(sorted(_FAMILIES))}), LicenseRef-…, artist:NAME or source:DOMAIN/PREFIX"
)


@dataclass(frozen=True)
class Policy:
    """Which references are cleared. An empty policy clears nothing.

    An *occurrence* is allowed by its licence (id, family, or ``CC-BY-*``: that licence in every version and
    port, never CC BY-SA or CC BY-NC), or by its artist or source, as licensed to you. A *reference* is
    cleared only if

    - at least one of its occurrences is allowed, and
    - every other one is allowed too or is silent on licences: one with another licence, or with a statement
      that cannot be read, contradicts, and so does "all rights reserved" in the file's own notice; and
    - where only an artist or a source is allowed, no licence, every occurrence that names an artist is.

    An unknown licence clears nothing; "all rights reserved" cannot be allowed, only its artist or source.

    Attributes:
        allow: Licence ids, families, globs, ``artist:NAME``, ``source:DOMAIN/PREFIX``; any case, brought to
            one spelling here.

    Raises:
        UsageError: An entry of ``allow`` means nothing, or grants nothing.
    """

    allow: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Bring `allow` to one spelling, so that an entry that means nothing fails here and not silently."""
        object.__setattr__(self, "allow", frozenset(_allowed_word(word) for word in self.allow))

    @classmethod
    def from_flags(cls, values: Sequence[str]) -> Policy:
        """Read ``--allow-licence`` values.

        Args:
            values: One entry each; several licences may share one, with commas between (not artists or
                sources, whose names may hold commas).

        Raises:
            UsageError: A value means nothing, or grants nothing.
        """
        words: list[str] = []
        for value in values:
            whole = re.match(r"\s*(?:artist|source):", value, re.I)
            words += [value] if whole else [part for part in value.split(",") if part.strip()]
            if not value.strip():
                raise UsageError(f"--allow-licence: {value!r} is empty; give {_FORMS}")
        return cls(frozenset(words))

    @classmethod
    def from_file(cls, path: str | Path) -> Policy:
        """Read a ``policy.toml``.

        Its keys, all optional, are ``format_version = 1``, ``allow`` (licences, or any entry of `allow`),
        ``artists`` (names) and ``sources`` (``DOMAIN/PREFIX``), each a list of strings.

        Args:
            path: The file.

        Raises:
            UsageError: It cannot be read, is not TOML, or has a key or an entry that means nothing.
        """
        values = _read_toml(Path(path))
        keys = ("format_version", "allow", "artists", "sources")
        for key in values:
            if key not in keys:
                raise UsageError(
                    f"{path}: unknown key {key!r}{_nearest(key, keys)}; known: {', '.join(keys)}"
                )
        version = values.get("format_version", POLICY_FORMAT_VERSION)
        if type(version) is not int or version != POLICY_FORMAT_VERSION:
            raise UsageError(
                f"{path}: has format_version {version!r}; this version reads {POLICY_FORMAT_VERSION}. "
                "Run: pip install -U replication-detector"
            )
        words: list[str] = []
        for key, prefix in (("allow", ""), ("artists", "artist:"), ("sources", "source:")):
            entries = values.get(key, [])
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                raise UsageError(f'{path}: {key} is {entries!r}; write a list of strings: {key} = ["…"]')
            words += [f"{prefix}{entry}" for entry in entries]
        try:
            return cls(frozenset(words))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def clears(self, reference: Reference) -> bool:
        """Return whether this policy clears a reference (the rule is in the class)."""
        cleared_by_licence = named_to_others = False
        allowed = 0
        for occurrence in reference.occurrences:
            licence = normalise(occurrence.licence)
            reserved = reserves_all_rights(occurrence.extra.get("copyright_notice", ""))
            by_licence = self._allows_licence(licence) and not reserved
            if by_licence or self._allows_maker(occurrence):
                allowed += 1
                cleared_by_licence |= by_licence
            elif reserved or licence.id or not states_nothing(occurrence.licence):
                return False
            elif occurrence.artist.strip():
                named_to_others = True
        return allowed > 0 and (cleared_by_licence or not named_to_others)

    def _allows_licence(self, licence: Licence) -> bool:
        if not licence.id or licence.family in _GRANTS_NOTHING:
            return False
        if licence.id in self.allow or licence.family.value in self.allow:
            return True
        if licence.family is LicenceFamily.OTHER:
            identifier = licence.id.lower()
            return any(
                identifier == word or (word.endswith("*") and identifier.startswith(word[:-1]))
                for word in (entry.lower() for entry in self.allow if entry.startswith("LicenseRef-"))
            )
        return f"{stem_of(licence)}-*" in self.allow

    def _allows_maker(self, occurrence: Occurrence) -> bool:
        if occurrence.artist.strip() and f"artist:{_name_key(occurrence.artist)}" in self.allow:
            return True
        source = _source_key(occurrence.source)
        return bool(source) and any(
            source == prefix or source.startswith(tuple(prefix + boundary for boundary in "/?# "))
            for prefix in (word.removeprefix("source:") for word in self.allow if word.startswith("source:"))
        )


def judge(report: ImageReport, policy: Policy) -> ImageReport:
    """Return the same findings with what the policy clears marked so, and the verdict following."""
    return report.with_cleared(tuple(policy.clears(match.reference) for match in report.matches))


def _allowed_word(word: str) -> str:
    """Return the one spelling of an entry of `Policy.allow`."""
    text = " ".join(word.split())
    kind, colon, name = text.partition(":")
    if colon and kind.lower() in ("artist", "source"):
        key = _name_key(name) if kind.lower() == "artist" else _source_key(name)
        if not key:
            raise UsageError(f"{word!r} names no {kind.lower()}; write {kind.lower()}:NAME")
        return f"{kind.lower()}:{key}"
    family = re.sub(r"[\s_]+", "-", text.lower())
    if family in _FAMILIES:
        return family
    if text.endswith("*"):
        return _allowed_glob(word, text)
    licence = normalise(text)
    if not licence.id:
        choices = [*(entry.id for entry in VOCABULARY.values()), *_FAMILIES]
        raise UsageError(f"{word!r} names no known licence{_nearest(text, choices)}; give {_FORMS}")
    if licence.family in _GRANTS_NOTHING:
        raise UsageError(
            f"{word!r} grants nothing, so it cannot be allowed; for works licensed to you, "
            "give artist:NAME or source:DOMAIN/PREFIX"
        )
    if (
        is_creative_commons(licence)
        and not re.search(r"\d", licence.id)
        and not text.startswith("LicenseRef-")
    ):
        stem = stem_of(licence)
        raise UsageError(f"{word!r} states no version; give {stem}-4.0, or {stem}-* for every version")
    return licence.id


def _allowed_glob(word: str, text: str) -> str:
    stem = text.rstrip("*").rstrip("-")
    if text == f"{stem}-*" and stem.lower() in _STEMS:
        return f"{_STEMS[stem.lower()]}-*"
    own = re.fullmatch(r"LicenseRef-([A-Za-z0-9.-]*[A-Za-z0-9])-\*", text, re.I)
    if own:
        return f"LicenseRef-{own[1]}-*"
    raise UsageError(
        f"{word!r} is no pattern; the * stands for the version of one licence (CC-BY-*, CC-BY-SA-*) or the "
        f"end of your own LicenseRef-NAME-*{_nearest(text, [f'{known}-*' for known in _STEMS.values()])}"
    )


def _name_key(name: str) -> str:
    return " ".join(name.casefold().split())


def _source_key(source: str) -> str:
    """Return a source as ``domain/path`` with the domain in lower case; "" where it may deceive."""
    text = " ".join(source.split())
    plain = re.match(r"(?:https?:)?//", text, re.I) is None
    # "\" and "@" make browsers and parsers disagree about the domain; ".." steps out of the allowed prefix.
    if "\\" in text or ".." in unquote(re.sub(r"[?#].*", "", text)).split("/"):
        return ""
    try:
        parts = urlsplit(f"//{text}" if plain else text)
        if "@" in parts.netloc:
            return ""
        domain, rest = parts.netloc.lower().removeprefix("www."), text.split(parts.netloc, 1)[-1]
    except ValueError:
        return ""
    return f"{domain}{rest}".rstrip("/") if parts.netloc else ""


def _nearest(word: str, choices: Iterable[str]) -> str:
    by_key = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_key, n=1, cutoff=0.7)
    return f" (did you mean {by_key[close[0]]}?)" if close else ""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path}: reading it needs Python 3.11 or newer; use --allow-licence instead"
        ) from error
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); check --policy") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except (ValueError, OverflowError, RecursionError) as error:
        # Numbers, dates and depth raise their own, besides TOML's.
        raise UsageError(
            f'{path}: is not TOML ({error}); write for example: allow = ["public-domain"]'
        ) from error


def credit_line(occurrence: Occurrence) -> str:
    """Return a credit ready to copy: title, author, licence with its address, source.

    After Creative Commons' recommended practice, https://wiki.creativecommons.org/wiki/Recommended_practices_for_attribution.
    """
    title, artist, source, raw = (
        _one_line(t) for t in (occurrence.title, occurrence.artist, occurrence.source, occurrence.licence)
    )
    licence = normalise(occurrence.licence)
    work = f"“{title}”" if title else "Untitled"
    parts = [f"{work} by {artist}" if artist else f"{work}, artist not recorded"]
    if licence.name:
        parts.append(f"{licence.name} ({licence.url})" if licence.url else licence.name)
    else:
        recorded = raw and not states_nothing(raw)
        parts.append(f"licence as recorded: “{raw}”" if recorded else "licence not recorded")
    return ", ".join([*parts, source] if source else parts)


def licence_sentence(reference: Reference) -> str:
    """Return one plain sentence on what the recorded licence of a reference asks for.

    It repeats the licence; it says nothing on whether a use is allowed by law.

    Args:
        reference: With any number of occurrences; the one that records most is credited.
    """
    stated: dict[str, list[Occurrence]] = {}
    for occurrence in reference.occurrences:
        if not states_nothing(occurrence.licence):
            licence = normalise(occurrence.licence)
            stated.setdefault(licence.id or _one_line(occurrence.licence).casefold(), []).append(occurrence)
    if len(stated) > 1:
        names = [normalise(o[0].licence).name or f"“{_one_line(o[0].licence)}”" for o in stated.values()]
        recorded = "; ".join(names)
        return f"Different licences are recorded ({recorded}): ask the rights holder which holds before use."
    if not stated:
        return "No licence is recorded: ask the rights holder before use."
    (occurrences,) = stated.values()
    fullest = max(occurrences, key=lambda o: sum(map(bool, (o.title, o.artist, o.source))))
    return _sentence(normalise(fullest.licence), fullest)


def _sentence(licence: Licence, occurrence: Occurrence) -> str:
    credit = credit_line(occurrence).rstrip(".")
    family, at = licence.family, f" at {licence.url}" if licence.url else ""
    if family is LicenceFamily.UNKNOWN:
        recorded = f"{licence.name} (rightsstatements.org)" if licence.name else f"“{_one_line(licence.raw)}”"
        return f"The recorded licence, {recorded}, gives no clear terms: ask the rights holder before use."
    if family is LicenceFamily.ALL_RIGHTS_RESERVED:
        statement = f" ({licence.name})" if licence.url else ""
        return f"All rights are reserved{statement}: ask the rights holder before use."
    if family is LicenceFamily.OTHER:
        return f"{licence.name} has terms of its own: read them, or ask the rights holder, before use."
    if family is LicenceFamily.LIMITED:
        return f"Recorded as “{licence.name}”, which has limits: read them{at} before use."
    if family is LicenceFamily.PUBLIC_DOMAIN:
        kind = "public domain" if licence.id == "LicenseRef-Public-Domain" else licence.name
        return (
            f"Recorded as {kind}, which asks for no permission and no credit; a credit is welcome: {credit}."
        )
    if family is LicenceFamily.STOCK:
        return f"The {licence.name} sets limits{at} but asks for no credit; a credit is welcome: {credit}."
    if family is LicenceFamily.PERMISSIVE:
        return f"{licence.name} asks that its notice and the credit stay with every copy: {credit}."
    if family is LicenceFamily.COPYLEFT:
        return f"{licence.name} asks for its notice, and for the same licence on changed versions: {credit}."
    elements = licence.elements
    limits = [
        words
        for element, words in (
            ("nc", "does not cover commercial use"),
            ("nd", "does not cover sharing changed versions"),
            ("sa", "asks for the same licence on changed versions"),
        )
        if element in elements
    ]
    then = f"; it {' and '.join(limits)}" if limits else ""
    return f"{licence.name} asks for credit, a link to the licence and a note of any changes{then}: {credit}."


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class OptOutSignal(Enum):
    """The conventions by which a work says that it is not for mining or training."""

    PLUS = "plus"
    """PLUS Data Mining, https://ns.useplus.org/LDF/ldf-XMPSpecification#DataMining (IPTC 2023.1)."""
    C2PA = "c2pa"
    """C2PA and CAWG training and data mining assertion, https://cawg.io/training-and-data-mining/."""
    NOAI = "noai"
    """``noai``, ``noimageai`` in robots directives, https://www.deviantart.com/team/journal/UPDATE-All-Deviations-Are-Opted-Out-of-AI-Datasets-934500371."""
    TDM = "tdm"
    """TDM Reservation Protocol, https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/."""


@dataclass(frozen=True, slots=True)
class OptOut:
    """One opt-out as recorded, and what it says.

    Attributes:
        key: The column or metadata field it was read from.
        value: Its value as recorded.
        sentence: The same in plain words.
    """

    signal: OptOutSignal
    key: str
    value: str
    sentence: str

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON values."""
        return {"signal": self.signal.value, "key": self.key, "value": self.value, "sentence": self.sentence}


_OPT_OUT_KEYS = {
    "optoutplus": OptOutSignal.PLUS,
    "plusdatamining": OptOutSignal.PLUS,
    "xmpplusdatamining": OptOutSignal.PLUS,
    "datamining": OptOutSignal.PLUS,
    "optoutc2pa": OptOutSignal.C2PA,
    "c2patrainingmining": OptOutSignal.C2PA,
    "cawgtrainingmining": OptOutSignal.C2PA,
    "optoutnoai": OptOutSignal.NOAI,
    "noai": OptOutSignal.NOAI,
    "noimageai": OptOutSignal.NOAI,
    "xrobotstag": OptOutSignal.NOAI,
    "robots": OptOutSignal.NOAI,
    "tdmreservation": OptOutSignal.TDM,
}
_OFF = frozenset(("", "0", "0.0", "false", "no", "none", "null", "nan", "n/a", "allowed", "off"))
_PLUS_USES = (
    ("GENAIMLTRAINING", "training generative AI models"),
    ("AIMLTRAINING", "training AI or machine-learning models"),
    ("EXCEPTSEARCHENGINEINDEXING", "data mining, other than indexing by search engines"),
    ("SEE", "data mining, other than under the terms it points to"),
)
_C2PA_ENTRY = re.compile(
    r"(?:c2pa|cawg)\.(\w+)[\"'\s:={(]+(?:use[\"'\s:=]+)?(not[ _-]?allowed|constrained|allowed)", re.I
)
_C2PA_USES = {
    "data_mining": "data mining",
    "ai_inference": "use as input to AI models",
    "ai_training": "training AI models other than generative ones",
    "ai_generative_training": "training generative AI models",
}


def opt_outs(occurrence: Occurrence) -> tuple[OptOut, ...]:
    """Return the opt-outs that an occurrence carries, as recorded in its columns or read from its file.

    They are shown, and change neither verdict nor clearing. A permission (``DMI-ALLOWED``) is no opt-out; a
    value under a known key that cannot be read counts as one.

    Args:
        occurrence: Its ``extra`` holds ``opt_out:plus``, ``opt_out:c2pa``, ``opt_out:noai`` (from the file),
            or columns such as ``noai``, ``X-Robots-Tag``, ``data_mining``, ``plus:DataMining``,
            ``tdm-reservation``.
    """
    found: dict[tuple[OptOutSignal, str], OptOut] = {}
    for key, value in occurrence.extra.items():
        signal = _OPT_OUT_KEYS.get(re.sub(r"[^a-z0-9]", "", key.lower()))
        if signal is None:
            continue
        sentence = _opt_out_sentence(signal, key.lower(), _one_line(value))
        if sentence:
            found.setdefault((signal, sentence), OptOut(signal, key, value, sentence))
    return tuple(found.values())


def opt_out_sentences(occurrences: Iterable[Occurrence]) -> tuple[str, ...]:
    """Return what the opt-outs of a work's occurrences say, each sentence once."""
    return tuple(dict.fromkeys(each.sentence for place in occurrences for each in opt_outs(place)))


def _opt_out_sentence(signal: OptOutSignal, key: str, value: str) -> str:
    if signal is OptOutSignal.PLUS:
        return _plus_sentence(value)
    if signal is OptOutSignal.C2PA:
        return _c2pa_sentence(value)
    if signal is OptOutSignal.TDM:
        reserved = value.lower() not in _OFF
        return "Its source reserves the rights of text and data mining (TDM reservation)." if reserved else ""
    words = set(re.findall(r"[a-z0-9.]+", value.lower()))
    named = words & {"noai", "noimageai"}
    # In a robots directive only these two words count; a column of that name is a flag.
    flagged = "robots" not in key and value.lower() not in _OFF
    return "Its source says “noai”: not for training AI models." if named or flagged else ""


def _plus_sentence(value: str) -> str:
    term = re.sub(r"[^A-Z]", "", value.rsplit("/", 1)[-1].upper() if "//" in value else value.upper())
    if value.lower() in _OFF - {"no", "false", "0", "0.0", "off"} or term in (
        "DMIALLOWED",
        "DMIUNSPECIFIED",
        "UNSPECIFIED",
    ):
        return ""
    readable = (
        "PROHIBITED" in term
        or value.lower() in _OFF
        or term in ("NOTALLOWED", "DISALLOWED", "DENY", "DENIED")
    )
    if not readable:
        return f"Its metadata sets a data mining term that is not known here: “{value}”."
    use = next((words for name, words in _PLUS_USES if name in term), "data mining")
    return f"Its metadata says (PLUS Data Mining): not for {use}."


def _c2pa_sentence(value: str) -> str:
    entries = [(name.lower(), re.sub(r"[ _-]", "", use.lower())) for name, use in _C2PA_ENTRY.findall(value)]
    if not entries:
        bare = re.sub(r"[^a-z]", "", value.lower())
        if bare == "allowed" or not value:
            return ""
        entries = (
            [("data_mining", "notallowed"), ("ai_training", "notallowed")] if bare == "notallowed" else []
        )
    if not entries:
        return (
            f"Its content credentials hold a training and data mining term that is not known here: “{value}”."
        )
    parts = []
    for use, words in (("notallowed", "do not allow"), ("constrained", "allow only under conditions")):
        named = [_C2PA_USES.get(name, name.replace("_", " ")) for name, stated in entries if stated == use]
        if named:
            parts.append(f"{words} {', '.join(dict.fromkeys(named))}")
    return f"Its content credentials (C2PA) {' and '.join(parts)}." if parts else ""
