"""Artists' names: which spellings in an index a name means, and which it is merely like.

`detector.artists.spelling` says when two spellings are equal; equal ones are found, initials where they leave no
doubt. Everything else (likeness by rapidfuzz, "workshop of …") is only ever suggested.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from detector.artists.spelling import PARTICLES, Reading, readings_of, whole_reading

if TYPE_CHECKING:
    from index.searching import Searchable

ALIAS_COLUMNS = frozenset(
    """
    alias aliases aka alsoknownas alternatename alternatenames alternativename alternativenames altname altnames
    artistalias artistaliases artisthandle artistid creatoralias handle handles isni knownas nickname orcid othername
    othernames pseudonym pseudonyms realname screenname ulan ulanid ulanuri user userhandle username viaf viafid
    wikidata wikidataid
    """.split()
)
"""Columns beside the artist's that hold further names of the same person, without case and punctuation."""

MIN_LIKENESS = 72.0
"""Of 100, of the whole names: two slips in a dozen letters are less likely another person than a typing error."""

MIN_PART = 85.0
"""Of 100, of those words that the shorter name has: a surname alone finds the full name."""

_BY_PART, _BY_LESS = 0.95, 0.85
"""What is asked for as a part of a name counts a little less than the whole of it; a part of what is asked, less."""


class ArtistNames:
    """The artists of an index, by spelling; a value that does not follow the index."""

    def __init__(self, named: Iterable[tuple[int, str, Mapping[str, str]]]) -> None:
        """Take occurrences.

        Args:
            named: Of each occurrence: its reference's id, its artist, its other columns.
        """
        works: defaultdict[str, set[int]] = defaultdict(set)
        aliases: set[str] = set()
        for number, artist, extra in named:
            if artist.strip():
                works[artist.strip()].add(number)
            for alias in _aliases(extra):
                works[alias].add(number)
                aliases.add(alias)
        self._works = dict(works)
        self._spellings: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._qualified: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._initials: defaultdict[str, set[str]] = defaultdict(set)
        for spelling in sorted(self._works):
            for reading in readings_of(spelling, handle=spelling in aliases):
                self._take(spelling, reading)

    @classmethod
    def of(cls, index: Searchable) -> ArtistNames:
        """Read the names of an index."""
        return cls(index.named())

    def _take(self, spelling: str, reading: Reading) -> None:
        for key in reading.keys:
            self._spellings[key][spelling] = None
        if reading.is_qualified:
            for bare in reading.bare:
                self._qualified[bare][spelling] = None
        else:
            for key in reading.keys:
                pattern = _pattern(key)
                if pattern:
                    self._initials[pattern].add(key)

    def __len__(self) -> int:
        """Return how many spellings there are."""
        return len(self._works)

    def references(self, spelling: str) -> frozenset[int]:
        """Return the ids of the references that record a spelling, as `find` or `suggest` gave it."""
        return frozenset(self._works.get(spelling, ()))

    def find(self, name: str) -> tuple[str, ...]:
        """Return the spellings that a name means, sorted.

        Args:
            name: In any usual spelling.

        Returns:
            Spellings that are equal but for case, accents, order, punctuation and dates; with initials for given
            names where only one person in the index fits them. Empty where there is none.
        """
        keys = set(whole_reading(name).keys)
        sure, _ = self._by_initials(keys)
        found = {spelling for key in keys | sure for spelling in self._spellings.get(key, ())}
        return tuple(sorted(found))

    def suggest(self, name: str, n: int = 8) -> list[tuple[str, int]]:
        """Return spellings that a name does not mean but is like, the likest first.

        Args:
            name: As far as it is typed.
            n: At most this many.

        Returns:
            Each with the number of works that record it; for an empty name the most frequent ones.
        """
        reading = whole_reading(name)
        found = set(self.find(name))
        ranked: dict[str, float] = {}
        if not reading.keys:
            ranked = {spelling: float(len(ids)) for spelling, ids in self._works.items()}
        else:
            _, doubtful = self._by_initials(set(reading.keys))
            for key, likeness in self._alike(reading.keys[0], 4 * n):
                self._rank(ranked, self._spellings[key], likeness)
            for key in reading.bare or reading.keys:
                self._rank(ranked, self._qualified.get(key, ()), 99.0)
                self._rank(ranked, self._spellings.get(key, ()), 99.0)
            for key in doubtful:
                self._rank(ranked, self._spellings[key], 98.0)
        order = sorted(ranked, key=lambda s: (-round(ranked[s]), -len(self._works[s]), s))
        return [(spelling, len(self._works[spelling])) for spelling in order if spelling not in found][:n]

    @staticmethod
    def _rank(ranked: dict[str, float], spellings: Iterable[str], likeness: float) -> None:
        for spelling in spellings:
            ranked[spelling] = max(ranked.get(spelling, 0.0), likeness)

    def _by_initials(self, keys: set[str]) -> tuple[set[str], set[str]]:
        """Return the keys that one of these means by initials, and those that it may mean among others."""
        sure: set[str] = set()
        doubtful: set[str] = set()
        for key in keys:
            bucket = self._initials.get(_pattern(key), set())
            near, waiting = {key}, [key]
            while waiting:
                current = waiting.pop()
                fits = {other for other in bucket - near if _agree(current, other)}
                near |= fits
                waiting += fits
            direct = {other for other in near if _agree(key, other)} - {key}
            clear = all(_agree(a, b) for a in near for b in near)
            (sure if clear else doubtful).update(direct)
        return sure, doubtful - sure

    def _alike(self, key: str, limit: int) -> Iterator[tuple[str, float]]:
        from rapidfuzz import fuzz, process

        choices = list(self._spellings)
        for choice, likeness, _ in process.extract(
            key, choices, scorer=fuzz.token_sort_ratio, limit=limit, score_cutoff=MIN_LIKENESS
        ):
            yield choice, likeness
        words = _without_particles(key)
        if not words:
            return
        telling = [_without_particles(choice) for choice in choices]
        for _, likeness, place in process.extract(
            words, telling, scorer=fuzz.token_set_ratio, limit=limit, score_cutoff=MIN_PART
        ):
            less = len(set(telling[place].split())) < len(set(words.split()))
            yield choices[place], (_BY_LESS if less else _BY_PART) * likeness
        begun = [choice for choice in choices if any(word.startswith(key) for word in choice.split())]
        for choice in begun[:limit]:
            yield choice, _BY_PART * 100.0


def _pattern(key: str) -> str:
    """Return a name with its given names as initials; nothing where there is none to shorten."""
    *given, last = key.split() or [""]
    if not given or len(last) < 2 or key.startswith("@"):
        return ""
    return " ".join([*(word if word in PARTICLES else word[0] for word in given), last])


def _agree(one: str, other: str) -> bool:
    """Return whether two names with one pattern differ in nothing but initials."""
    pairs = zip(one.split(), other.split(), strict=True)
    return all(a == b or len(a) == 1 or len(b) == 1 for a, b in pairs)


def _without_particles(key: str) -> str:
    return " ".join(word for word in key.split() if word not in PARTICLES)


def _aliases(extra: Mapping[str, str]) -> Iterator[str]:
    for column, value in extra.items():
        if re.sub(r"[^a-z0-9]", "", column.lower()) in ALIAS_COLUMNS:
            yield from _listed(value)


def _listed(value: str) -> Iterator[str]:
    """Yield the entries of a column: a JSON list, or texts with semicolons or bars between them."""
    entries: list[object] = list(re.split(r"[;|\n]", value))
    if value.lstrip().startswith("["):
        try:
            decoded = json.loads(value)
        except (ValueError, RecursionError):
            decoded = None
        if isinstance(decoded, list):
            entries = decoded
    for entry in entries:
        if isinstance(entry, str) and entry.strip():
            yield entry.strip()
