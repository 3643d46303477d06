"""Where the recorded licence of a work is another than the one that its artist states."""

from __future__ import annotations

from detector.artists.report import Contradiction
from detector.licences import (
    Licence,
    LicenceFamily,
    is_creative_commons,
    normalise,
    reserves_all_rights,
    states_nothing,
    stem_of,
)
from detector.report import Occurrence, Reference

_GRANTS = {
    LicenceFamily.PUBLIC_DOMAIN: 4,
    LicenceFamily.ATTRIBUTION: 3,
    LicenceFamily.PERMISSIVE: 3,
    LicenceFamily.SHARE_ALIKE: 2,
    LicenceFamily.COPYLEFT: 2,
    LicenceFamily.NON_COMMERCIAL: 1,
    LicenceFamily.NO_DERIVATIVES: 1,
    LicenceFamily.ALL_RIGHTS_RESERVED: 0,
}
"""How much a family of licences grants, where families can be compared at all; the others only differ."""


def contradictions_of(reference: Reference, stated: str) -> tuple[Contradiction, ...]:
    """Compare what is recorded for a reference with what its artist states.

    Args:
        reference: With its occurrences.
        stated: The artist's own licence, as in the vocabulary of `detector.licences`; other words are compared
            as text.

    Returns:
        One entry an occurrence that records another licence, whether it grants more or less. An occurrence that
        records none contradicts nothing.
    """
    own = normalise(stated)
    found = (_contradiction(place, own, stated.strip()) for place in reference.occurrences)
    return tuple(each for each in found if each is not None)


def is_recorded(place: Occurrence) -> bool:
    """Return whether an occurrence records a licence at all."""
    return not states_nothing(place.licence)


def _contradiction(place: Occurrence, own: Licence, stated: str) -> Contradiction | None:
    if not is_recorded(place):
        return None
    recorded = normalise(place.licence)
    if _same(recorded, own, place.licence, stated):
        return None
    ours = own.name or f"“{stated}”"
    if not recorded.id:
        said = _one_line(place.licence)
        words = f"Recorded with terms that cannot be read with certainty, “{said}”; you state {ours}."
    else:
        words = (
            f"Recorded as {recorded.name}, which {_compared(recorded, own)} {ours}, the licence you state."
        )
    if recorded.id != "LicenseRef-All-Rights-Reserved" and reserves_all_rights(
        place.extra.get("copyright_notice", "")
    ):
        words += " The copyright notice in the file itself reserves all rights."
    return Contradiction(place.path, place.licence.strip(), stated, words)


def _same(recorded: Licence, own: Licence, raw: str, stated: str) -> bool:
    if not recorded.id or not own.id:
        return _one_line(raw).casefold() == _one_line(stated).casefold()
    if recorded.id == own.id:
        return True
    # "CC BY" without a version is any version of it.
    unversioned = not all(any(c.isdigit() for c in licence.id) for licence in (recorded, own))
    both = is_creative_commons(recorded) and is_creative_commons(own)
    return both and unversioned and stem_of(recorded) == stem_of(own)


def _compared(recorded: Licence, own: Licence) -> str:
    if is_creative_commons(recorded) and is_creative_commons(own):
        if stem_of(recorded) == stem_of(own):
            return "is another version of"
        if recorded.elements < own.elements:
            return "grants more than"
        return "grants less than" if recorded.elements > own.elements else "differs from"
    first, second = _GRANTS.get(recorded.family), _GRANTS.get(own.family)
    if first is None or second is None or first == second:
        return "differs from"
    return "grants more than" if first > second else "grants less than"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
