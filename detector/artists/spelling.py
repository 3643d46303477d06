"""When two spellings of a person's name are equal: one key for all usual spellings of a name.

Case, accents, special letters, punctuation, "Last, First", life dates and brackets make no difference. What says
that a work is *not* quite by that person ("after", "workshop of", "attributed to") stays in the key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

PARTICLES = frozenset(
    "af al am auf aus ben bin bint da dal dalla das de degli dei del della den der des di do dos du e el ibn la las "
    "le les lo los of op san st ten ter the to und van vom von y z zu zum zur".split()
)
"""Words of names that are never shortened to an initial and tell nobody apart."""

MAX_LENGTH = 400
"""Characters of a field that are read; longer ones are lists or texts, not names."""

_MOST_READINGS = 8
"""Times that a key is read again until it stays as it is; names of people take one."""

# After casefolding. Letters that Unicode does not take apart into a letter and a mark.
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",
        "ħ": "h",
        "ŧ": "t",
        "æ": "ae",
        "œ": "oe",
    }
)
# Written out where a keyboard lacks them: Dürer, Duerer.
_WRITTEN_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_APOSTROPHES = re.compile("['\u2018\u2019\u201b\u02bb\u02bc\u02b9\u00b4`\u2032\uff07]")
# Marks that writers leave out: of Latin, Greek and Cyrillic letters; points of Hebrew; vowels of Arabic. Those of
# other scripts are letters to their readers.
_MARKS = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670]"
)

_DATE_WORDS = frozenset(
    "b d c ca circa fl act active born died dead about before until geb gest nee ne en to and bis present century "
    "centuries cent early late mid".split()
)
_DATE = re.compile(r"\d+(?:s|st|nd|rd|th|e)?")
_TRAILING_DATES = re.compile(r"[\s,]+\d{4}\s*[-–—]\s*(?:\d{4}|\d{2}|present)?\s*$")
_GENERATION = frozenset(
    "jr jnr sr snr ii iii iv junior senior pere fils the elder the younger elder younger der altere der jungere".split()
)
_GENERATION_PHRASE = re.compile(
    r"(?:jn?r|sn?r|i{2,3}|iv|junior|senior|pere|fils|(?:the |der )?(?:elder|younger|altere|jungere))\.?"
)

_OF = r"(?: of| de| d| di| da| du| von| vom| des| nach| van)"
_QUALIFIERS: tuple[tuple[str, str, str], ...] = (
    # Said in the key; before the name; behind it, after a comma or in brackets.
    (
        "attributed to",
        r"(?:formerly |tentatively )?(?:attributed|attrib\.?|attr\.?|ascribed|given) to|attribue[e]? a|attribuito a|"
        r"atribuid[oa] a|zugeschrieben|toegeschreven aan|possibly(?: by)?|probably(?: by)?|perhaps(?: by)?",
        r"(?:formerly |tentatively )?(?:attributed|attribution|attrib\.?|attr\.?|ascribed)(?: to)?|attribue[e]?|"
        r"zugeschrieben|possibly|probably|perhaps|\?|uncertain|disputed",
    ),
    (
        "after",
        r"(?:copy |copie |kopie )?(?:after|dapres|nach|naar)|based on|cop(?:y|ies) of|copyist of|forge(?:r|ry) of|"
        r"reproduction of|print after",
        r"(?:copy )?after|dapres|copy(?: of)?|copyist(?: of)?|forgery|reproduction",
    ),
    (
        "workshop of",
        rf"(?:workshop|studio|werkstatt|bottega|taller|atelier){_OF}",
        r"(?:workshop|studio|werkstatt|bottega|taller|atelier|assistants?)(?: of)?",
    ),
    (
        "circle of",
        rf"(?:circle|umkreis|kreis|cerchia|entourage|cercle){_OF}",
        r"(?:circle|umkreis|kreis|cerchia|entourage)(?: of)?",
    ),
    (
        "follower of",
        rf"(?:followers?|nachfolger|suiveur|seguace|pupils?|students?|schuler|eleve|imitators?|associate){_OF}",
        r"(?:followers?|nachfolger|suiveur|seguace|pupils?|students?|imitators?)(?: of)?",
    ),
    ("school of", rf"(?:school|schule|ecole|scuola){_OF}", r"(?:school|schule|ecole|scuola)(?: of)?"),
    (
        "manner of",
        rf"(?:in (?:the )?)?(?:manner|style|stil|maniere|maniera|stile){_OF}|inspired by|(?:homage|tribute) to|"
        r"fan ?art of",
        r"(?:in (?:the )?)?(?:manner|style|maniera)(?: of)?|inspired(?: by)?|homage|tribute|fan ?art",
    ),
)
_BEFORE = tuple((said, re.compile(rf"(?:{before})[\s:]+(?=\S)")) for said, before, _ in _QUALIFIERS)
_BEHIND = tuple((said, re.compile(rf"(?:{behind})[.:]?")) for said, _, behind in _QUALIFIERS)
_AND_WORKSHOP = re.compile(
    r"\s*(?:,|&|\+|\band\b|\bwith\b|\bund\b|\bet\b|\be\b)\s*(?:his |her |the )?"
    r"(?:workshop|studio|assistants?|school|werkstatt|bottega|atelier|pupils?|circle|followers?)\s*$"
)
_BETWEEN = re.compile(r"\s*(?:[;|\n+&]|\s/\s|\band\b)\s*")
_BY_AND_AFTER = re.compile(r"(.*\S)\s+((?:after|nach|dapres|naar)\s+\S.*)")
# "Clair, Atelier" may be the workshop of somebody called Clair, or a house called Atelier Clair.
_HOUSE = re.compile(r"([^,]+),\s*(atelier|bottega|studio|taller|werkstatt|workshop)\.?")
_BRACKETS = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}]")
_IDENTIFIED = re.compile(
    r"(?:ulan|viaf|wikidata|orcid|isni)(?:[ _-]?id)?\s*[:=]?\s+(?=\S)|(?:ulan|viaf|wikidata|orcid|isni):"
)
_ADDRESS = re.compile(r"(?:https?://|www\.)\S*?([^/\s?#]+)/*(?:[?#]\S*)?")
_HANDLE = re.compile(r"@[^\s@/,;]+")
_HANDLE_LIKE = re.compile(r"(?=.*[0-9_.-])[a-z0-9][a-z0-9_.-]*[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Reading:
    """One name as it was read.

    Attributes:
        keys: What it is equal by; two names are equal where they share one. The first is the usual one.
        bare: The same without "after", "workshop of" and the like; empty where there is none of these.
    """

    keys: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()

    @property
    def is_qualified(self) -> bool:
        """Whether it says that a work is not quite by the person named."""
        return bool(self.bare)


def normal_form(name: str) -> str:
    """Return the key that all usual spellings of a name share; an empty string where nothing is left.

    Applying it again changes nothing, and "Last, First" has the key of "First Last".
    """
    keys = whole_reading(name).keys
    return keys[0] if keys else ""


def whole_reading(name: str) -> Reading:
    """Read a field as one name."""
    return _reading(_plain(name), _plain(name, written_out=True))


def readings_of(field: str, *, handle: bool = False) -> list[Reading]:
    """Read a field that may name several people.

    Args:
        field: As recorded.
        handle: It comes from a column of handles or identifiers, so that one word is one.

    Returns:
        The field as one name; where that can be, each of the names in it; names in brackets.
    """
    plain, written_out = _plain(field), _plain(field, written_out=True)
    found = [_reading(plain, written_out)]
    pieces = list(zip(_people(plain), _people(written_out), strict=False))
    found += [_reading(one, other) for one, other in pieces if one != plain]
    if handle and found[0].keys and " " not in plain and not plain.startswith("@"):
        found.append(Reading((f"@{plain}",)))
    unique = dict.fromkeys(reading for reading in found if reading.keys)
    return list(unique)


def _plain(name: str, *, written_out: bool = False) -> str:
    """Return a name in lower case, without accents and apostrophes, its other punctuation kept."""
    text = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", name[:MAX_LENGTH]))
    text = _APOSTROPHES.sub("", text).casefold()
    if written_out:
        text = unicodedata.normalize("NFC", text).translate(_WRITTEN_OUT)
    while True:
        before = text
        text = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
        text = _APOSTROPHES.sub("", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
        if text == before:
            return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def _words(text: str) -> str:
    """Return the words of a text, everything but letters, digits and their marks a gap."""
    kept = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in text.replace("&", " and "))
    return " ".join(kept.split())


def _reading(plain: str, written_out: str) -> Reading:
    usual, said = _key(plain)
    other = usual if written_out == plain else _key(written_out)[0]
    keys = tuple(dict.fromkeys(key for key in (usual, other) if key))
    if _HANDLE_LIKE.fullmatch(plain):
        keys = tuple(dict.fromkeys([*keys, f"@{plain}"]))
    if not said:
        return Reading(keys)
    house = _HOUSE.fullmatch(plain)
    if house:
        keys = tuple(dict.fromkeys([*keys, f"{house[2]} {_words(house[1])}"]))
    bare = tuple(key.removeprefix(said + " ") for key in keys if key.startswith(said + " "))
    return Reading(keys, bare)


def _key(text: str) -> tuple[str, str]:
    """Return the key of one name, and what it says before it ("after", "workshop of"), or nothing."""
    key, said = _key_once(text)
    if key == text:
        return key, said
    # What brackets and commas stood between may read otherwise without them: a key is its own key.
    for _ in range(_MOST_READINGS):
        before, (key, said) = key, _key_once(key)
        if key == before:
            break
    return key, said


def _key_once(text: str) -> tuple[str, str]:
    text = _IDENTIFIED.sub("", text.strip(), count=1) if _IDENTIFIED.match(text.strip()) else text.strip()
    address = _ADDRESS.fullmatch(text)
    if address:
        return "@" + address[1].removeprefix("@"), ""
    if _HANDLE.fullmatch(text):
        return text, ""
    said: dict[str, None] = {}
    together = _AND_WORKSHOP.search(text)
    if together and _words(text[: together.start()]):
        said["workshop of"] = None
        text = text[: together.start()]
    tail: list[str] = []
    text = _BRACKETS.sub(lambda found: _bracket(found[1], said, tail), text)
    text = _TRAILING_DATES.sub("", text)
    parts = [part.strip() for part in text.split(",") if _words(part) or part.strip() == "?"]
    parts = [part for place, part in enumerate(parts) if not (place and _take(part, said, tail))]
    if parts and parts[-1].endswith("?") and _words(parts[-1]):
        said["attributed to"] = None
    if parts:
        parts[0] = _without_qualifier(parts[0], said)
    ordered = [parts[1], parts[0]] if len(parts) == 2 else parts
    words = " ".join(filter(None, [_words(part) for part in [*ordered, *tail]]))
    words = _without_qualifier(words, said)
    before = " ".join(said) if words else ""
    return (f"{before} {words}" if before else words), before


def _bracket(inside: str, said: dict[str, None], tail: list[str]) -> str:
    """Take what stands in brackets: a qualifier, a "junior", or something that is left out of the key."""
    _take(inside.strip(), said, tail)
    return " "


def _take(part: str, said: dict[str, None], tail: list[str]) -> bool:
    """Take a part that is no name: say whether it was one."""
    for word, pattern in _BEHIND:
        if pattern.fullmatch(part):
            said[word] = None
            return True
    if _GENERATION_PHRASE.fullmatch(part):
        tail.append(part)
        return True
    words = _words(part).split()
    dates = [word for word in words if _DATE.fullmatch(word)]
    return bool(dates) and all(word in _DATE_WORDS or word in dates for word in words)


def _without_qualifier(text: str, said: dict[str, None]) -> str:
    found = True
    while found:
        found = False
        for word, pattern in _BEFORE:
            match = pattern.match(text)
            if match and _words(text[match.end() :]):
                said[word] = None
                text, found = text[match.end() :], True
    return text


def _people(plain: str) -> Iterator[str]:
    """Yield the people that one field may name: between separators, in brackets, either side of a comma."""
    if _AND_WORKSHOP.search(plain):
        return
    for inside in _BRACKETS.findall(plain):
        if _words(inside) and not any(c.isdigit() for c in inside) and not _take(inside.strip(), {}, []):
            yield inside.strip()
    text = _BRACKETS.sub(" ", plain)
    pieces = [piece.strip() for piece in _BETWEEN.split(text) if _words(piece)]
    if len(pieces) > 1:
        yield from pieces
    for piece in pieces:
        engraved = _BY_AND_AFTER.fullmatch(piece)
        if engraved:
            yield from engraved.groups()
        parts = [part.strip() for part in piece.split(",") if _words(part)]
        parts = [part for place, part in enumerate(parts) if not (place and _take(part, {}, []))]
        if len(parts) > 1 and all(_is_full(part) for part in parts):
            yield from parts


def _is_full(part: str) -> bool:
    """Return whether a part has a given name and a surname of its own, so that a comma may part two people."""
    words = [word for word in _words(part).split() if word not in PARTICLES and word not in _GENERATION]
    return len(words) >= 2 and all(len(word) > 1 for word in words)
