"""The licence vocabulary: any licence string → one id, read so that doubt never becomes permission.

How a string is read (`normalise`):

1. Every licence it *mentions* is found: SPDX ids, ``LicenseRef-…``, licence URIs, names, plain words.
2. Outside brackets every other word must be one this module knows to be neutral ("licence", "version", "by
   age of the work", …). Inside brackets any words may stand ("(repo licence)", "(NASA)"), except negations,
   doubts, conditions and limits ("not", "only", "probably", "non-commercial", …). Otherwise the licence is
   unknown.
3. Several mentions resolve to one that is at least as restrictive as all the others ("Unsplash licence / CC0"
   is Unsplash); where none is (CC BY-NC / CC BY-ND), the licence is unknown. This also holds for SPDX ``OR``.
4. "All rights reserved", anywhere, wins; a bare copyright notice ("© 2020 Jane") without a licence means the
   same.

An unknown licence has the id "" and is never cleared, whatever the policy. The raw string is always kept.

Vocabularies: SPDX https://spdx.org/licenses/ (ids of list 3.27; no meaning may be inferred from
``NOASSERTION``, https://spdx.github.io/spdx-spec/v2.3/package-information/#713-concluded-license-field),
Creative Commons https://creativecommons.org/licenses/list.en, https://creativecommons.org/public-domain/,
Rights Statements https://rightsstatements.org/page/1.0/.

Longer than 400 lines because the tables and the words that the four rules turn on are kept in one place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache, partial
from urllib.parse import urlsplit


class LicenceFamily(Enum):
    """What licences have in common, as far as a rights policy cares."""

    PUBLIC_DOMAIN = "public-domain"
    """No copyright, or waived: CC0, Public Domain Mark, PDDL, "public domain"."""
    ATTRIBUTION = "attribution"
    """Asks for credit and no more: CC BY."""
    SHARE_ALIKE = "share-alike"
    """Asks for credit and the same licence on changed versions: CC BY-SA."""
    NON_COMMERCIAL = "non-commercial"
    """Does not cover commercial use: CC BY-NC, CC BY-NC-SA."""
    NO_DERIVATIVES = "no-derivatives"
    """Does not cover sharing changed versions: CC BY-ND, CC BY-NC-ND."""
    PERMISSIVE = "permissive"
    """Software licences that ask to keep their notice: MIT, BSD, Apache."""
    COPYLEFT = "copyleft"
    """Asks for the same licence on changed versions: GPL, Free Art License."""
    STOCK = "stock"
    """A picture site's own licence: Unsplash, Pexels, Pixabay."""
    LIMITED = "limited"
    """Free of copyright in part, or with conditions: rightsstatements.org NoC-*, no known copyright."""
    OTHER = "other"
    """A ``LicenseRef-…`` whose terms are the publisher's own."""
    ALL_RIGHTS_RESERVED = "all-rights-reserved"
    """In copyright, no licence given."""
    UNKNOWN = "unknown"
    """Nothing recorded, or nothing that can be read with certainty."""


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence string, read.

    Attributes:
        id: SPDX id where there is one, else ``LicenseRef-…``; "" where unknown.
        raw: The string as recorded.
        name: As people write it, e.g. ``CC BY-SA 4.0``; "" where unknown.
        url: Where its text is, or "".
    """

    id: str
    raw: str
    name: str
    url: str
    family: LicenceFamily

    @property
    def elements(self) -> frozenset[str]:
        """What a Creative Commons licence asks, of ``by``, ``nc``, ``nd``, ``sa``; empty for all others."""
        return frozenset(stem_of(self).lower().split("-")[1:]) if is_creative_commons(self) else frozenset()

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON values."""
        return {
            "id": self.id,
            "raw": self.raw,
            "name": self.name,
            "url": self.url,
            "family": self.family.value,
        }


F = LicenceFamily
UNKNOWN = Licence("", "", "", "", F.UNKNOWN)
PUBLIC_DOMAIN = Licence("LicenseRef-Public-Domain", "", "Public domain", "", F.PUBLIC_DOMAIN)
ALL_RIGHTS_RESERVED = Licence(
    "LicenseRef-All-Rights-Reserved", "", "All rights reserved", "", F.ALL_RIGHTS_RESERVED
)
_CC = "https://creativecommons.org/"

# id, name, family, other spellings (regular expressions, matched as whole words, any case)
_LISTED: tuple[tuple[str, str, LicenceFamily, str], ...] = (
    ("CC-PDDC", "CC Public Domain Dedication", F.PUBLIC_DOMAIN, ""),
    ("CC-SA-1.0", "CC SA 1.0", F.SHARE_ALIKE, ""),
    ("PDDL-1.0", "PDDL 1.0", F.PUBLIC_DOMAIN, r"PDDL(?: 1\.0)?"),
    ("Unlicense", "Unlicense", F.PUBLIC_DOMAIN, ""),
    ("ODC-By-1.0", "ODC-By 1.0", F.PERMISSIVE, r"ODC[ -]By(?: 1\.0)?"),
    ("ODbL-1.0", "ODbL 1.0", F.COPYLEFT, r"ODbL(?: 1\.0)?"),
    ("OGL-UK-3.0", "OGL UK 3.0", F.PERMISSIVE, r"Open Government Licen[cs]e v?3(?:\.0)?"),
    ("etalab-2.0", "Etalab 2.0", F.PERMISSIVE, r"Licence Ouverte 2\.0"),
    ("CDLA-Permissive-2.0", "CDLA-Permissive 2.0", F.PERMISSIVE, ""),
    ("DL-DE-BY-2.0", "dl-de/by-2-0", F.PERMISSIVE, r"dl-de/by-2-0"),
    ("DL-DE-ZERO-2.0", "dl-de/zero-2-0", F.PUBLIC_DOMAIN, r"dl-de/zero-2-0"),
    ("MIT", "MIT", F.PERMISSIVE, r"MIT|Expat"),
    ("MIT-0", "MIT-0", F.PERMISSIVE, ""),
    ("0BSD", "0BSD", F.PERMISSIVE, ""),
    ("BSD-2-Clause", "BSD 2-Clause", F.PERMISSIVE, r"BSD[ -]2(?:[ -]clause)?"),
    ("BSD-3-Clause", "BSD 3-Clause", F.PERMISSIVE, r"BSD[ -]3(?:[ -]clause)?"),
    ("ISC", "ISC", F.PERMISSIVE, ""),
    ("Zlib", "zlib", F.PERMISSIVE, ""),
    ("Apache-2.0", "Apache 2.0", F.PERMISSIVE, r"Apache(?: licen[cs]e)?,?(?: v| version)? ?2(?:\.0)?"),
    ("MPL-2.0", "MPL 2.0", F.COPYLEFT, r"MPL v?2(?:\.0)?"),
    ("OFL-1.1", "SIL OFL 1.1", F.COPYLEFT, r"(?:SIL )?OFL(?: 1\.1)?"),
    (
        "LAL-1.2",
        "Free Art License 1.2",
        F.COPYLEFT,
        r"(?:Free Art Licen[cs]e|Licence Art Libre|FAL|LAL) 1\.2",
    ),
    (
        "LAL-1.3",
        "Free Art License 1.3",
        F.COPYLEFT,
        r"(?:Free Art Licen[cs]e|Licence Art Libre|FAL|LAL) 1\.3",
    ),
)
# The same for what SPDX does not list, with the address of the terms.
_UNLISTED: tuple[tuple[str, str, LicenceFamily, str, str], ...] = (
    ("Free-Art", "Free Art License", F.COPYLEFT, r"Free Art Licen[cs]e|Licence Art Libre|FAL|LAL", ""),
    ("Unsplash", "Unsplash licence", F.STOCK, r"Unsplash(?:\.com)?", "https://unsplash.com/license"),
    ("Pexels", "Pexels licence", F.STOCK, r"Pexels(?:\.com)?", "https://www.pexels.com/license/"),
    (
        "Pixabay",
        "Pixabay licence",
        F.STOCK,
        r"Pixabay(?:\.com)?",
        "https://pixabay.com/service/license-summary/",
    ),
    (
        "No-Known-Copyright",
        "No known copyright restrictions",
        F.LIMITED,
        r"no known (?:copyright )?restrictions(?: on (?:publication|use))?",
        "https://www.flickr.com/commons/usage/",
    ),
)
_STATEMENTS = {
    "InC": "In Copyright",
    "InC-OW-EU": "In Copyright - EU Orphan Work",
    "InC-EDU": "In Copyright - Educational Use Permitted",
    "InC-NC": "In Copyright - Non-Commercial Use Permitted",
    "InC-RUU": "In Copyright - Rights-holder(s) Unlocatable or Unidentifiable",
    "NoC-CR": "No Copyright - Contractual Restrictions",
    "NoC-NC": "No Copyright - Non-Commercial Use Only",
    "NoC-OKLR": "No Copyright - Other Known Legal Restrictions",
    "NoC-US": "No Copyright - United States",
    "NKC": "No Known Copyright",
    "CNE": "Copyright Not Evaluated",
    "UND": "Copyright Undetermined",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Ported Creative Commons licences that have an SPDX id; other ports become LicenseRef-….
_SPDX_PORTS = _words(
    """
    CC-BY-2.5-AU CC-BY-3.0-AT CC-BY-3.0-AU CC-BY-3.0-DE CC-BY-3.0-IGO CC-BY-3.0-NL CC-BY-3.0-US
    CC-BY-NC-3.0-DE CC-BY-NC-ND-3.0-DE CC-BY-NC-ND-3.0-IGO CC-BY-NC-SA-2.0-DE CC-BY-NC-SA-2.0-FR
    CC-BY-NC-SA-2.0-UK CC-BY-NC-SA-3.0-DE CC-BY-NC-SA-3.0-IGO CC-BY-ND-3.0-DE CC-BY-SA-2.0-UK
    CC-BY-SA-2.1-JP CC-BY-SA-3.0-AT CC-BY-SA-3.0-DE CC-BY-SA-3.0-IGO
    """
)
_PORTS = _words(
    """
    ar at au be bg br ca ch cl cn co cr cz de dk ec ee eg es fi fr ge gr gt hk hr hu ie igo il in it jp
    kr lu mk mt mx my ng nl no nz pe ph pl pr pt ro rs scotland se sg si th tw ug uk us ve vn za
    """
)
_PORT_WORDS = {
    "united states": "us",
    "germany": "de",
    "austria": "at",
    "netherlands": "nl",
    "france": "fr",
    "australia": "au",
    "japan": "jp",
    "spain": "es",
    "england and wales": "uk",
    "england & wales": "uk",
}
_CC_VERSIONS = {"1": "1.0", "2": "2.0", "3": "3.0", "4": "4.0"}
_GNU_VERSIONS = {
    "GPL": ("1.0", "2.0", "3.0"),
    "LGPL": ("2.0", "2.1", "3.0"),
    "AGPL": ("1.0", "3.0"),
    "GFDL": ("1.1", "1.2", "1.3"),
}
_SILENT = frozenset(
    {"", "not stated", "not specified"}
    | {"unknown licence", "unknown license", "licence unknown", "license unknown"}
    | _words("noassertion unknown n/a na nan null - -- ? unspecified undefined")
)
_WITHOUT = frozenset(("none", "no licence", "no license", "not licensed"))
_RESERVED = frozenset(("copyright", "copyrighted", "proprietary"))


def is_creative_commons(licence: Licence) -> bool:
    """Return whether it is one of the six Creative Commons attribution licences, in any version or port."""
    return licence.id.removeprefix("LicenseRef-").startswith("CC-BY") and licence.family is not F.OTHER


def stem_of(licence: Licence) -> str:
    """Return its id without version and port: ``CC-BY-SA`` for ``CC-BY-SA-3.0-DE``."""
    own = licence.id if licence.family is F.OTHER else licence.id.removeprefix("LicenseRef-")
    return re.split(r"-(?=\d)", own, maxsplit=1)[0]


def _creative_commons(elements: str, version: str = "", port: str = "") -> Licence | None:
    asked = set(re.findall("nc|nd|sa", elements.lower()))
    version, port = _CC_VERSIONS.get(version, version), port.lower()
    known = version in ("", "1.0", "2.0", "2.1", "2.5", "3.0", "4.0") and (not port or port in _PORTS)
    if not known or {"nd", "sa"} <= asked or (port and version in ("", "4.0")):
        return None
    code = "-".join(["by", *(e for e in ("nc", "nd", "sa") if e in asked)])
    name = " ".join(part for part in ("CC", code.upper(), version, port.upper()) if part)
    identifier = name.replace(" ", "-")
    if not version or (port and identifier not in _SPDX_PORTS) or (version == "2.1" and not port):
        identifier = f"LicenseRef-{identifier}"
    # The first version had its elements the other way round: https://creativecommons.org/licenses/by-nd-nc/1.0/
    code = "by-nd-nc" if (code, version) == ("by-nc-nd", "1.0") else code
    url = f"{_CC}licenses/{code}/{version}/{port + '/' if port else ''}" if version else ""
    family = (
        F.NO_DERIVATIVES
        if "nd" in asked
        else F.NON_COMMERCIAL
        if "nc" in asked
        else F.SHARE_ALIKE
        if "sa" in asked
        else F.ATTRIBUTION
    )
    return Licence(identifier, "", name, url, family)


def _gnu(kind: str, version: str = "", rest: str = "") -> Licence | None:
    kind = kind.upper()
    if not version:
        return Licence(f"LicenseRef-{kind}", "", kind, "https://www.gnu.org/licenses/", F.COPYLEFT)
    version = version if "." in version else f"{version}.0"
    if version not in _GNU_VERSIONS[kind]:
        return None
    identifier = f"{kind}-{version}-{'or-later' if '+' in rest or 'later' in rest.lower() else 'only'}"
    return Licence(identifier, "", identifier, f"https://spdx.org/licenses/{identifier}.html", F.COPYLEFT)


def _statement(code: str) -> Licence | None:
    known = {c.lower(): c for c in _STATEMENTS}.get(code.lower())
    if known is None:
        return None
    url = f"https://rightsstatements.org/vocab/{known}/1.0/"
    if known in ("CNE", "UND"):
        return Licence("", "", _STATEMENTS[known], url, F.UNKNOWN)
    family = F.ALL_RIGHTS_RESERVED if known.startswith("InC") else F.LIMITED
    return Licence(f"LicenseRef-RightsStatements-{known}", "", _STATEMENTS[known], url, family)


_CC0 = Licence("CC0-1.0", "", "CC0 1.0", f"{_CC}publicdomain/zero/1.0/", F.PUBLIC_DOMAIN)
_PDM = Licence("CC-PDM-1.0", "", "Public Domain Mark 1.0", f"{_CC}publicdomain/mark/1.0/", F.PUBLIC_DOMAIN)


def _fixed() -> Iterator[Licence]:
    yield from (_CC0, _PDM, PUBLIC_DOMAIN, ALL_RIGHTS_RESERVED)
    for identifier, name, family, _ in _LISTED:
        yield Licence(identifier, "", name, f"https://spdx.org/licenses/{identifier}.html", family)
    for identifier, name, family, _, url in _UNLISTED:
        yield Licence(f"LicenseRef-{identifier}", "", name, url, family)
    ruled = [_statement(code) for code in _STATEMENTS] + [_gnu(kind) for kind in _GNU_VERSIONS]
    for elements in ("", "nc", "nd", "sa", "nc-nd", "nc-sa"):
        ruled += [_creative_commons(elements, v) for v in ("", "1.0", "2.0", "2.5", "3.0", "4.0")]
    yield from (licence for licence in ruled if licence is not None and licence.id)


VOCABULARY: dict[str, Licence] = {licence.id.lower(): licence for licence in _fixed()}
"""Licences by lower-case id: all that have a fixed one. The others (ports, GNU versions) come by rule."""

_BY_NAME = {
    licence.name.lower(): licence
    for licence in (*map(_statement, _STATEMENTS), *VOCABULARY.values())
    if licence is not None
}

_ELEMENT_NAMES = (
    (re.compile(r"non[\s-]*commercial", re.I), "nc"),
    (re.compile(r"no[\s-]*deriv(?:ative|ativ)?s?(?:[\s-]*works?)?", re.I), "nd"),
    (re.compile(r"share[\s-]*alike", re.I), "sa"),
)
_VERSION = r"(?:[\s_-]*(?:v(?:er(?:sion)?)?\.?\s*)?(?P<version>\d+(?:\.\d+)*)(?!\w))"
_PORT = (
    rf"(?:[\s_-]+(?:(?:international|unported|generic)\b|(?P<port>{'|'.join((*_PORT_WORDS, *_PORTS))})"
    r"(?=\s*(?:$|[,;)\]|/.]|licen[cs]e\b))))?"
)
_RESERVES = (
    r"\ball\s+rights?\s+(?:are\s+)?reserved\b|(?<!some )(?<!no )(?<!not )\brights\s+reserved\b"
    r"|\balle rechte vorbehalten\b|\btous droits réservés\b|\btodos los derechos reservados\b"
    r"|\btodos os direitos reservados\b|\btutti i diritti riservati\b|\balle rechten voorbehouden\b"
)
_WORD = r"(?<![\w-])(?:{})(?![\w-]*\w)"
_MENTIONS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        ("ref", _WORD.format(r"(?<!:)LicenseRef-[A-Za-z0-9.-]+")),
        (
            "reserved",
            _RESERVES,
        ),
        (
            "cc0",
            r"(?<![\w-])(?:(?:cc|creative\s+commons)[\s_-]*(?:0|zero))(?:[\s_-]*v?1(?:\.0)?)?(?![\w.]*\w)(?:\s+universal\b)?",
        ),
        (
            "cc",
            r"(?<![\w-])(?:cc|creative\s+commons)[\s_:-]*by(?![a-z])"
            rf"(?P<elements>(?:[\s_/-]*(?:nc|sa|nd)(?![a-z]))*)(?:{_VERSION}{_PORT})?",
        ),
        (
            "cc",
            r"(?<![\w-])(?P<full>creative\s+commons[\s:,-]+)?attribution(?P<elements>(?:[\s,-]*"
            r"(?:non[\s-]*commercial|no[\s-]*deriv(?:ative|ativ)?s?(?:[\s-]*works?)?|share[\s-]*alike))*)"
            rf"(?![a-z])(?:\s+licen[cs]e)?(?:{_VERSION}{_PORT})?",
        ),
        (
            "pdm",
            r"(?<![\w-])(?:(?:public[\s_-]*domain[\s_-]*mark|cc[\s_-]*pdm|pdm)(?:[\s_-]*v?1(?:\.0)?)?)(?![\w.]*\w)",
        ),
        (
            "pd",
            r"(?<![\w-])(?:(?:in|into|to)\s+the\s+)?(?:public[\s_-]*domain|domaine public|dominio público"
            r"|domínio público|pubblico dominio|gemeinfrei|publiek domein)(?!\w)",
        ),
        (
            "gnu",
            r"(?<![\w-])(?:GNU\s+)?(?P<kind>[AL]?GPL|GFDL)(?:[\s-]*(?:v|version\s*)?(?P<version>\d(?:\.\d)?))?"
            r"(?P<rest>\+|[\s-]*(?:or[\s-]later|only))?(?![\w-]*\w)",
        ),
    )
)
_ENTRIES: tuple[tuple[Licence, re.Pattern[str]], ...] = tuple(
    (VOCABULARY[identifier.lower()], re.compile(_WORD.format(pattern), re.I))
    for identifier, pattern in (
        *((i, re.escape(i)) for i, *_ in sorted(_LISTED, key=lambda row: -len(row[0]))),
        *((i, spelling) for i, _, _, spelling in _LISTED if spelling),
        *((f"LicenseRef-{i}", spelling) for i, _, _, spelling, _ in _UNLISTED),
    )
)

_URL = re.compile(
    r"(?:https?:)?//[^\s<>\"'()\[\];,]+|(?<![\w./@-])(?:www\.)?"
    r"(?:creativecommons|rightsstatements|spdx|opensource|gnu|artlibre|unsplash|pexels|pixabay)\.(?:org|com)/[^\s<>\"'()\[\];,]*",
    re.I,
)
_NEUTRAL = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"\bversion (?:is )?(?:not (?:stated|specified|given)|unspecified|unknown)\b",
        r"\bimages? not individually credited\b",  # says nothing against the licence of the whole
        r"\b(?:some|no) rights reserved\b",  # Creative Commons' own slogans; they name no licence
        r"\bby age(?: of the work)?\b",
    )
)
# Age is a fact about the work, which a repository that says nothing does not touch.
_SILENT_REPOSITORY = re.compile(
    r"\b(?:repo|repository|source|site) (?:gives|states|has|names) no licen[cs]e\b", re.I
)
_BY_AGE = re.compile(r"\bby age\b", re.I)
_PUBLIC_DOMAIN_CODE = re.compile(
    r"PD(?:-(?:old(?:-\d+)?(?:-expired)?|art|self|author|user|nasa|usgov(?:-[\w-]+)?))?", re.I
)
_BLOCKERS = re.compile(
    r"\b(?:"
    r"not|no|non|never|none|nor|neither|cannot|without|except(?:ion|ions|ing)?|excluding|excludes?"
    r"|unless|only|but|however|until|formerly|previously|pending|expire[sd]?|probabl[ey]|possibl[ey]"
    r"|perhaps|maybe|may be|might|presumabl[ey]|presumed|apparently|likely|unclear|uncertain|unsure"
    r"|unknown|unverified|unconfirmed|disputed|doubtful|alleged(?:ly)?|claim(?:s|ed)?|assumed"
    r"|guess(?:ed)?|wrong(?:ly)?|fake|false(?:ly)?|editorial|personal|private|educational|research"
    r"|restrict(?:ed|ions?|ive)|limited|prohibit(?:s|ed)?|forbidden|forbids|revoked|withdrawn|removed"
    r"|permissions?|ask|contact|fee|paid|pay|purchase|subscription|if|some|parts?|partly|partial(?:ly)?"
    r"|mixed|various|multiple|different|other|others|nc|nd|commercial|noncommercial|derivatives?"
    r"|noderivatives?|modifications?|draft|proposed|requested|planned|intended|rejected|denied"
    r"|disallowed|invalid|void|violat\w+|copyvio|conflict\w*|default|placeholder|example|will|soon|todo"
    r"|tbd|tbc|metadata|annotations?|captions?|text|texts|code|software|database|thumbnails?|fonts?"
    r"|nicht|kein|keine|ohne|außer|nur|pas|sans|sauf|aucun|aucune|sin|excepto|solo|senza|niet|geen"
    r"|zonder|alleen|não|sem|exceto"
    r")\b|n't\b|n’t\b|\b(?:after|before|from|as of|since)\s+\d{4}|[?!¬≠~<>]"
    r"|\bin\s+(?:the\s+)?(?:u\.?s|usa|united states|e\.?u|uk|u\.k|canada|australia|japan|germany"
    r"|country|countries)\b",
    re.I,
)
_TERRITORY = re.compile(
    r"\W*(?:the\W+)?(?:u\.?s\.?(?:a\.?)?|united states(?: of america)?|e\.?u\.?|european union|u\.?k\.?"
    r"|united kingdom|canada|australia|japan|germany|france|russia|india|china|[a-z]{2})\W*",
    re.I,
)
_NOTICE_SIGN = re.compile(r"©|\bcopyright\s*(?=©|\d{4}|by\b)", re.I)
_NOTICE = re.compile(
    r"(?:copyright\s*)?(?:©|\bcopyright\b)\s*[^\ue000-\uf8ff()\[\].,;/|©]{0,80}?"
    r"(?=\s*(?:$|[.,;/|()\[\]]|-\s|(?:licen[cs]ed|released|published)\b))",
    re.I,
)
_ATTRIBUTED = re.compile(
    r"^.{0,300}?\b(?:licen[cs]ed|released|published|(?:made )?available) under "
    r"(?=(?:an? |the |terms of )*[\ue000-\uefff])",
    re.I,
)
_FILLERS = _words(
    """
    licence license licences licenses licensed lizenz licencia under the a an is are this it work works
    image images photo photos photograph picture pictures and or by v version international unported
    generic universal public dedication dedicated deed legalcode legal released available published
    distributed terms of creative commons attribution spdx identifier
    """
)
_PLAIN_MARKS = frozenset(" .,;:/|&-\"'“”‘’*_()[]")
_LINK = "\uf000"
_LONGEST = 500


def states_nothing(raw: str) -> bool:
    """Return whether a licence string says no more than that none is recorded ("", ``NOASSERTION``)."""
    return _tidy(raw).lower() in _SILENT


def reserves_all_rights(notice: str) -> bool:
    """Return whether a copyright notice says in so many words that all rights are reserved."""
    return re.search(_RESERVES, _tidy(notice), re.I) is not None


def _tidy(raw: str) -> str:
    text = unicodedata.normalize("NFKC", raw).replace("\ufeff", " ")
    text = re.sub(r"[\u2010-\u2015\u2212]", "-", re.sub(r"[\ue000-\uf8ff]", "\ufffd", text))
    return " ".join(text.split()).strip()


def _from_url(url: str) -> Licence | None:
    """Return the licence that an address stands for, or None for any other address."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return None
    if "@" in parts.netloc or "\\" in url:
        return None
    steps = [s for s in parts.path.rstrip(".:").lower().split("/") if s]
    if host == "creativecommons.org":
        return _from_creative_commons_path(steps)
    if host == "rightsstatements.org" and len(steps) >= 2 and steps[0] in ("vocab", "page"):
        return _statement(steps[1])
    if host in ("spdx.org", "opensource.org", "gnu.org") and len(steps) == 2 and steps[0].startswith("licen"):
        named = re.sub(r"\.(?:html|en|txt|json)", "", steps[1])
        return VOCABULARY.get(named) or (_only_mention(named) if host != "opensource.org" else None)
    if host == "artlibre.org" and steps[:1] in (["licence"], ["license"]):
        return VOCABULARY["lal-1.3"]
    if steps[:1] in (["license"], ["service"]):
        stocks = {"unsplash.com": "unsplash", "pexels.com": "pexels", "pixabay.com": "pixabay"}
        return VOCABULARY.get(f"licenseref-{stocks.get(host, '?')}")
    return None


def _from_creative_commons_path(steps: list[str]) -> Licence | None:
    place, code = (*steps, "", "")[:2]
    rest = [s for s in steps[2:] if not re.match(r"(?:deed|legalcode)\b", s)]
    version, port = (*rest, "", "")[:2]
    if place == "publicdomain" or (place, code) == ("licenses", "publicdomain"):
        named = {("zero", "1.0"): _CC0, ("mark", "1.0"): _PDM, ("zero", ""): _CC0, ("mark", ""): _PDM}
        dedication = code == "publicdomain" or (code, version) == ("certification", "1.0")
        return VOCABULARY["cc-pddc"] if dedication else named.get((code, version))
    if place != "licenses" or len(rest) > 2:
        return None
    if (code, version) == ("sa", "1.0"):
        return VOCABULARY["cc-sa-1.0"]
    if not re.fullmatch(r"by(?:-(?:nc|nd|sa)){0,2}", code):
        return None
    return _creative_commons(code[2:], version, port)


def _only_mention(text: str) -> Licence | None:
    mentions, rest = _find(text)
    return mentions[0] if len(mentions) == 1 and not rest.strip(chr(0xE000)) else None


def _licence_ref(text: str) -> Licence:
    own = text[len("LicenseRef-") :]
    known = VOCABULARY.get(text.lower())
    if known is not None:
        return known
    if own.lower() in _SILENT | _WITHOUT:
        return UNKNOWN
    found = re.fullmatch(
        r"CC-BY(?P<elements>(?:-(?:NC|ND|SA))*)-(?P<version>\d\.\d)(?:-(?P<port>\w+))?", own, re.I
    )
    if found:
        ours = _creative_commons(found["elements"], found["version"], found["port"] or "")
        if ours is not None and ours.id.lower() == text.lower():
            return ours
    return Licence(f"LicenseRef-{own}", "", f"LicenseRef-{own}", "", F.OTHER)


def _from_match(kind: str, found: re.Match[str]) -> Licence | None:
    if kind == "ref":
        return _licence_ref(found[0])
    if kind == "cc":
        elements, version = found["elements"], found["version"] or ""
        for pattern, short in _ELEMENT_NAMES:
            elements = pattern.sub(short, elements)
        port = (found["port"] or "").lower()
        return _creative_commons(elements, version, _PORT_WORDS.get(port, port))
    if kind == "gnu":
        return _gnu(found["kind"], found["version"] or "", found["rest"] or "")
    return {"reserved": ALL_RIGHTS_RESERVED, "cc0": _CC0, "pdm": _PDM, "pd": PUBLIC_DOMAIN}[kind]


def _find(text: str) -> tuple[list[Licence], str]:
    """Return the licences mentioned, and the text with the n-th of them as the private character U+E000 + n.

    A mention that cannot be read (CC BY 5.0) is `UNKNOWN`; an address that names no licence becomes U+F000.
    """
    mentions: list[Licence] = []

    def put(licence: Licence | None) -> str:
        mentions.append(licence or UNKNOWN)
        return chr(0xE000 + len(mentions) - 1)

    def put_url(found: re.Match[str]) -> str:
        licence = _from_url(found[0])
        unreadable = licence is None and re.match(
            r"\W*(?:https?:)?\W*(?:www\.)?creativecommons\.org/(?:lic|pub)", found[0]
        )
        return put(licence) if licence is not None or unreadable else _LINK

    def put_word(kind: str, found: re.Match[str]) -> str:
        # "attribution" alone, without Creative Commons, elements or version, is a word like any other.
        spelled_out = "full" in found.re.groupindex
        if spelled_out and not (found["full"] or found["elements"] or found["version"]):
            return found[0]
        return put(_from_match(kind, found))

    def put_entry(licence: Licence, _: re.Match[str]) -> str:
        return put(licence)

    text = _URL.sub(put_url, text)
    for kind, pattern in _MENTIONS:
        text = pattern.sub(partial(put_word, kind), text)
    for licence, pattern in _ENTRIES:
        text = pattern.sub(partial(put_entry, licence), text)
    return mentions, text


def _brackets(text: str) -> tuple[str, list[str]]:
    """Return what stands outside round and square brackets, and the clauses inside them."""
    remarks: list[str] = []

    def take(found: re.Match[str]) -> str:
        remarks.extend(re.split(r"[;()\[\]]", found[0][1:-1]))
        return " "

    before = ""
    while before != text:
        before, text = text, re.sub(r"\([^()]*\)|\[[^\[\]]*\]", take, text)
    return text, remarks


def _is_understood(text: str) -> bool:
    """Return whether nothing beside the mentions could change what they mean (rule 2 of the module)."""
    for pattern in _NEUTRAL:
        text = pattern.sub(" ", text)
    head, remarks = _brackets(text)
    # A mention in front of the negation test: "CC BY 3.0 no" is Norway's, and was taken out with the mention.
    if _BLOCKERS.search(text) or any(_TERRITORY.fullmatch(r) for r in remarks if r.strip()):
        return False
    head = _ATTRIBUTED.sub(" ", _NOTICE.sub(" ", head))
    words = re.findall(r"[^\W_]+", head)
    marks = re.sub(r"[^\W_]|[\ue000-\uefff]", "", head)
    return all(w.lower() in _FILLERS for w in words) and set(marks) <= _PLAIN_MARKS


def _strictest(mentions: list[Licence]) -> Licence:
    """Return the mention that is at least as restrictive as every other, or `UNKNOWN` where there is none."""
    by_id = {m.id: m for m in mentions}
    if "" in by_id:
        return by_id[""] if len(by_id) == 1 else UNKNOWN
    groups: dict[str, list[Licence]] = {}
    for licence in by_id.values():
        free = licence.family is F.PUBLIC_DOMAIN
        groups.setdefault(
            "free" if free else stem_of(licence) if licence.elements else licence.id, []
        ).append(licence)
    merged: list[Licence] = []
    for key, members in groups.items():
        generic = PUBLIC_DOMAIN if key == "free" else VOCABULARY.get(f"licenseref-{key.lower()}", members[0])
        specific = [m for m in members if m.id != generic.id]
        merged.append(specific[0] if len(specific) == 1 else generic)

    def covers(strict: Licence, loose: Licence) -> bool:
        if strict is loose or loose.family is F.PUBLIC_DOMAIN:
            return True
        return bool(loose.elements) and loose.elements < strict.elements

    return next((m for m in merged if all(covers(m, other) for other in merged)), UNKNOWN)


def _resolve(text: str) -> Licence:
    lower = text.lower()
    if lower in _SILENT or lower in _WITHOUT:
        return UNKNOWN
    if lower in _RESERVED:
        return ALL_RIGHTS_RESERVED
    if _PUBLIC_DOMAIN_CODE.fullmatch(text):
        return PUBLIC_DOMAIN
    if lower in VOCABULARY or lower in _BY_NAME:
        return VOCABULARY.get(lower) or _BY_NAME[lower]
    text = re.sub(r"\(\s*c\s*\)", "©", text, flags=re.I)
    if _BY_AGE.search(text):
        text = _SILENT_REPOSITORY.sub(" ", text)
    mentions, rest = _find(text[:_LONGEST])
    if ALL_RIGHTS_RESERVED in mentions:
        return ALL_RIGHTS_RESERVED
    notice = _NOTICE_SIGN.search(rest) is not None
    found = _strictest(mentions) if mentions and len(text) <= _LONGEST and _is_understood(rest) else UNKNOWN
    if notice and found.family in (F.PUBLIC_DOMAIN, F.UNKNOWN):
        return ALL_RIGHTS_RESERVED
    return found


@lru_cache(maxsize=4096)
def normalise(raw: str) -> Licence:
    """Read a licence string into the one vocabulary; whatever is in doubt comes back unknown.

    Args:
        raw: An SPDX id or expression, a licence URI, or words, as found in a list or a file.

    Returns:
        The licence, with ``raw`` kept; id "" and family `LicenceFamily.UNKNOWN` where it cannot be told. It
        never raises, and reads its own ids back as themselves.
    """
    return replace(_resolve(_tidy(raw)), raw=raw)
