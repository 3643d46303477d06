"""The answer of a look-up in plain sentences, for the terminal, the dossier and the pages alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from detector.report import LEVEL_WORDS, Match
from detector.reports.wording import evidence_in_words, plain, plural

if TYPE_CHECKING:
    from detector.artists.report import FoundWork, LookupReport

REASON_WORDS = {
    "name": "by the name recorded with it",
    "picture": "by your picture",
    "source": "by the source recorded with it",
}
"""Why a work was found."""

MONTHS = "January February March April May June July August September October November December".split()

NO_FINDING = "This is a measurement of similarity and a record of what is in an index, not a legal finding."


def summary_in_words(report: LookupReport) -> str:
    """Return the answer in one or two sentences."""
    sure = [work for work in report.works if work.verified]
    alike = len(report.works) - len(sure)
    if not report.works:
        return _nothing(report)
    said = []
    if sure:
        said.append(_counted(sure, report))
    if alike:
        resembles = "resembles" if alike == 1 else "resemble"
        more = "another work" if alike == 1 and sure else plural(alike, "more work" if sure else "work")
        said.append(
            f"{_capital(more)} in it strongly {resembles} a picture of yours, which could not be verified: look at "
            f"{'it' if alike == 1 else 'them'} yourself."
        )
    return " ".join(said)


def _nothing(report: LookupReport) -> str:
    asked = []
    if report.name:
        asked.append("under this name")
    if report.pictures:
        asked.append("close to this picture" if len(report.pictures) == 1 else "close to these pictures")
    if report.source_contains:
        asked.append(f"from “{plain(report.source_contains)}”")
    listed = " or ".join([", ".join(asked[:-1]), asked[-1]] if len(asked) > 1 else asked)
    unread = len(report.unreadable)
    if report.pictures and unread == len(report.pictures) and not (report.name or report.source_contains):
        return "The picture could not be read." if unread == 1 else "None of the pictures could be read."
    return f"No work {listed} was found in this index. That says nothing about works outside it."


def _counted(sure: list[FoundWork], report: LookupReport) -> str:
    count = len(sure)
    sentence = f"{plural(count, 'work')} {'is' if count == 1 else 'are'} in this training set"
    repeated = sum(work.copies > 1 for work in sure)
    if repeated:
        share = (
            "it" if count == 1 else f"all {count:,} of them" if repeated == count else f"{repeated:,} of them"
        )
        sentence += f", {share} more than once"
    if not report.findings:
        return sentence + "."
    replicas = {
        (replica.query, replica.sha256) for work in sure for replica in work.replicas if replica.level >= 3
    }
    hit = sum(any(replica.level >= 3 for replica in work.replicas) for work in sure)
    if not hit:
        looked = plural(report.generated, "generated picture")
        return f"{sentence}. None of the {looked} in the findings replicates {'it' if count == 1 else 'one of them'}."
    which = "it" if count == 1 else "all of them" if hit == count else f"{hit:,} of them"
    verb = "replicates" if len(replicas) == 1 else "replicate"
    return f"{sentence}; {plural(len(replicas), 'generated picture')} {verb} {which}."


def copies_in_words(work: FoundWork) -> str:
    """Say how often the index holds a work."""
    places, near = len(work.reference.occurrences), work.near_duplicates
    said = "This very picture stands at " + ("one place" if places == 1 else f"{places:,} places")
    return (
        said
        + (f", and {plural(near, 'near-duplicate')} of it elsewhere" if near else "")
        + " in the training set."
    )


def memorisation_in_words(work: FoundWork) -> str:
    """Say what repetition means for the risk that a model memorises a work; promises nothing either way.

    Repeated pictures are what models memorise first: Carlini et al. 2023 (https://arxiv.org/abs/2301.13188)
    extracted pictures that were mostly repeated a hundred times and more; Somepalli et al. 2023
    (https://arxiv.org/abs/2305.20086) and Webster et al. 2023 (https://arxiv.org/abs/2303.12733) find the same.
    """
    copies = work.copies
    if copies <= 1:
        return (
            "It was found once. Works that a training set holds once are memorised less often than repeated ones; "
            "that is no assurance."
        )
    degree = "twice" if copies == 2 else f"{copies:,} times"
    return (
        f"The index holds it {degree}, near-duplicates counted. Works that a training set repeats are more likely to "
        "be memorised than works that stand in it once; whether this one is, only what a model generates can show."
    )


def replicas_in_words(work: FoundWork, report: LookupReport) -> str:
    """Say how many generated pictures of the saved findings replicate a work; nothing where there are none read."""
    if not report.findings:
        return ""
    verified = [replica for replica in work.replicas if replica.level >= 3]
    alike = len(work.replicas) - len(verified)
    looked = plural(report.generated, "generated picture")
    if not work.replicas:
        return f"None of the {looked} in the findings matches it."
    said = ""
    if verified:
        verb = "replicates" if len(verified) == 1 else "replicate"
        closest = f"the closest is a {LEVEL_WORDS[verified[0].level]} (level {verified[0].level})"
        said = f"{len(verified):,} of {looked} in the findings {verb} it; {closest}."
    if alike:
        verb = "resembles" if alike == 1 else "resemble"
        said += f" {alike:,} {'more ' if verified else f'of {looked} '}strongly {verb} it, not verified."
    return said.strip()


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def evidence_of_yours(match: Match) -> list[str]:
    """Return the measured facts of a match whose query is a picture of the artist's."""
    said = (words.replace("the generated picture", "your picture") for words in evidence_in_words(match))
    return [words.replace("The generated picture", "Your picture") for words in said]


def date_in_words(made: str) -> str:
    """Return ``21 November 2026`` of an ISO 8601 time; what is none comes back as it is."""
    try:
        moment = time.strptime(made[:10], "%Y-%m-%d")
    except ValueError:
        return made
    return f"{moment.tm_mday} {MONTHS[moment.tm_mon - 1]} {moment.tm_year}"
