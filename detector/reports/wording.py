"""Findings in plain English, for the page and the terminal alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

from detector.generation import Generation
from detector.report import LEVEL_WORDS, SQUARE, Evidence, Match, Occurrence, ScanSummary

NBSP = "\u00a0"

NOT_RECORDED = "not recorded"

WHOLE_COVERAGE = 0.9
"""From this share on people would call it the whole picture; the rest is rounding and cut edges."""

REASONS: dict[str, str] = {
    "too_little_detail": "shows too little detail to be a copy of anything (flat, blank or tiny)",
    "missing": "the file is not there",
    "permission_denied": "no permission to read the file",
    "is_a_directory": "is a folder, not a picture",
    "not_a_file": "is a socket, pipe or device, not a file",
    "too_large": "the file is larger than the limit",
    "empty": "the file is empty",
    "read_error": "the disk could not read the file",
    "not_an_image": "is not a picture in a format that can be read",
    "truncated": "the file breaks off in the middle",
    "corrupt": "the file is damaged",
    "too_many_pixels": "has more pixels than the limit allows",
    "unsupported_array": "is not an array of pixels that can be read",
    "bad_vector": "has a row without direction (all zeros, or not finite)",
    "took_too_long": "takes too long to decode",
    "worker_died": "took down the workers that had it in hand, more than once",
    "decoder_died": "cannot be decoded: the program that tried broke off",
    "removed_on_request": "was removed on request and is not taken in again (--take-back would)",
}
"""Reason codes of `ImageReport.reason` as the second half of a sentence about the picture."""

_HEADLINES: dict[int, str] = {
    5: "Verbatim copy of",
    4: "Near copy of",
    3: "Partial copy of",
    2: "Strongly resembles",
    1: "Weakly resembles",
    0: "Does not resemble",
}

# Invisible or order-changing: controls, lone surrogates (undecodable bytes of file names), line and paragraph
# separators, bidirectional marks, overrides and isolates, byte order mark.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


_ROW = re.compile(r"row \d+")


def plain(text: str) -> str:
    r"""Return text that shows what it holds: nothing invisible, nothing that reorders or moves the cursor.

    A line break becomes ``\n``, a right-to-left override ``\u202e``, an undecodable byte ``\xff``.
    """
    return _UNPRINTABLE.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    named = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}.get(code)
    if named:
        return named
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def percent(share: float) -> str:
    """Return a share, 0–1, as ``38 %``; what rounds to nothing is ``less than 1 %``."""
    bounded = min(max(share, 0.0), 1.0)
    return f"less than 1{NBSP}%" if 0 < bounded < 0.005 else f"{bounded * 100:.0f}{NBSP}%"


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, with an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def folded(text: str) -> str:
    """Return text as searches compare it: lower case, without accents; as the page's script folds what is typed."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


def one_line(text: str) -> str:
    """Return text on one line: line breaks and runs of spaces become a space."""
    return plain(" ".join(text.split()))


def plural(count: int, one: str, many: str = "") -> str:
    """Return ``1 picture``, ``2 pictures``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def level_in_words(level: int) -> str:
    """Return ``4 near copy``."""
    return f"{level} {LEVEL_WORDS.get(level, '')}".strip()


def headline(level: int) -> str:
    """Return the words before the reference's title: ``Near copy of``."""
    return _HEADLINES.get(level, "Resembles")


def reason_in_words(reason: str) -> str:
    """Return a reason code as the end of a sentence; codes unknown here are shown as they are."""
    return REASONS.get(reason, reason.replace("_", " "))


def file_name(path: str) -> str:
    """Return the last part of a path, whichever system wrote it, also inside a tar shard."""
    inner = path.rsplit("::", 1)[-1]
    pure = PureWindowsPath(inner) if re.match(r"[A-Za-z]:\\|\\\\", inner) else PurePosixPath(inner)
    return pure.name or path


def described(occurrences: Iterable[Occurrence]) -> Occurrence:
    """Return the place that says most about a reference: with a title, an artist, a licence."""
    best = max(
        occurrences,
        key=lambda o: (bool(o.title) + bool(o.artist), bool(o.licence), bool(o.source)),
        default=None,
    )
    return best or Occurrence(path="")


def title_of(occurrence: Occurrence) -> str:
    """Return the title, or the file name where no title is recorded."""
    name = file_name(occurrence.path)
    if _ROW.fullmatch(name) and occurrence.source:  # of a table, which says nothing of the picture
        name = file_name(occurrence.source.partition("?")[0].rstrip("/"))
    return occurrence.title.strip() or name or "untitled"


def region_in_words(match: Match) -> str:
    """Return what is shared: ``whole picture``, ``part: 38 % of the picture``, ``shows 42 % of the work``."""
    facts = match.evidence
    if facts.coverage is None:
        return ""
    if facts.coverage < WHOLE_COVERAGE:
        return f"part: {percent(facts.coverage)} of the picture"
    if facts.reference_coverage is not None and facts.reference_coverage < WHOLE_COVERAGE:
        return f"shows {percent(facts.reference_coverage)} of the work"
    return "whole picture"


def evidence_in_words(match: Match) -> list[str]:
    """Return the measured facts as sentences, the weightiest first."""
    facts = match.evidence
    groups = [_geometry(facts), _comparison(match), _distances(facts)]
    if match.p_value is not None:
        groups.append([_chance(match.p_value)])
    return [_sentence(clauses) for clauses in groups if clauses]


def _geometry(facts: Evidence) -> list[str]:
    clauses = []
    if facts.inliers:
        points = plural(facts.inliers, "matching point")
        if facts.matches and facts.matches > facts.inliers:
            points = f"{facts.inliers:,} of {facts.matches:,} matching points"
        clauses.append(f"{points} {'agrees' if facts.inliers == 1 else 'agree'} on one transformation")
    if facts.coverage is not None and facts.reference_coverage is not None:
        clauses.append(
            f"the shared region covers {percent(facts.coverage)} of the generated picture "
            f"and {percent(facts.reference_coverage)} of the work"
        )
    elif facts.coverage is not None:
        clauses.append(f"the shared region covers {percent(facts.coverage)} of the generated picture")
    return clauses


def _comparison(match: Match) -> list[str]:
    facts = match.evidence
    clauses = []
    if match.mirrored:
        clauses.append("the generated picture shows the work mirrored left to right")
    if facts.aligned_similarity is not None:
        clauses.append(f"laid over each other, their structure agrees to {facts.aligned_similarity:.2f} of 1")
    if facts.tiled_l2 is not None:
        clauses.append(f"the tile that differs most differs by {percent(facts.tiled_l2)}")
    if facts.template:
        clauses.append("it is the same template, where everything but one region agrees")
    if facts.verification == "dense":
        clauses.append("aligned by their brightness, as there were too few distinct points")
    elif facts.verification == "identical":
        clauses = ["the very same file, byte for byte"]
    elif facts.verification == "none":
        clauses.append("a point-by-point comparison did not confirm it")
    elif facts.verification == "unverified":
        clauses.append("not compared point by point")
    return clauses


def _distances(facts: Evidence) -> list[str]:
    clauses = []
    if facts.pdq_distance is not None:
        clauses.append(f"PDQ distance {facts.pdq_distance} of 256")
    if facts.phash_distance is not None:
        clauses.append(f"pHash distance {facts.phash_distance} of 64")
    if clauses and facts.reference_frame == SQUARE:
        clauses[-1] += " to the middle square of the work"
    clauses += [f"cosine {value:.2f} ({name})" for name, value in facts.cosines.items()]
    return clauses


def _chance(p_value: float) -> str:
    if p_value >= 0.5:
        return "unrelated pictures often come this close in this index"
    if p_value < 1e-9:
        return "fewer than one in 1,000,000,000 unrelated pictures would come this close in this index"
    odds = 1 / p_value
    digits = max(0, len(str(int(odds))) - 2)
    rounded = round(odds / 10**digits) * 10**digits
    return f"about one in {rounded:,} unrelated pictures would come this close in this index"


def _sentence(clauses: list[str]) -> str:
    text = "; ".join(clauses)
    return text[:1].upper() + text[1:] + "."


def near_duplicates_in_words(count: int) -> str:
    """Say what near-duplicates of a reference in the index mean, or nothing where there are none."""
    if count <= 0:
        return ""
    return (
        f"{plural(count, 'near-duplicate')} of this work {'is' if count == 1 else 'are'} in the index too. "
        "What a training set holds several times is what models memorise most."
    )


def places_in_words(count: int) -> str:
    """Say at how many places of the training set the picture stands, or nothing for one."""
    return f"This very picture stands at {count:,} places of the training set." if count > 1 else ""


def generation_in_words(generation: Generation) -> str:
    """Return how a picture was generated in one line: ``“a cat”, model sd15, seed 42, 20 steps of Euler a``."""
    steps = plural(generation.steps, "step") if generation.steps is not None else ""
    sampler = plain(generation.sampler)
    sampling = f"{steps} of {sampler}" if steps and sampler else steps or sampler
    said = [
        f"“{shortened(one_line(generation.prompt), 80)}”" if generation.prompt else "",
        f"model {plain(generation.model)}" if generation.model else "",
        f"seed {generation.seed}" if generation.seed is not None else "",
        sampling,
        f"guidance {generation.guidance:g}" if generation.guidance is not None else "",
    ]
    words = ", ".join(part for part in said if part)
    return (
        f"{words} ({plain(generation.tool)})"
        if words and generation.tool
        else words or plain(generation.tool)
    )


def reconstruction_in_words(generation: Generation) -> str:
    """Return ``reconstruction attempt at strength 0.4 from cat.png``, as far as that is recorded."""
    strength = f" at strength {generation.strength:g}" if generation.strength is not None else ""
    source = f" from {file_name(generation.source)}" if generation.source else ""
    return f"reconstruction attempt{strength}{source}"


def reconstruction_note(generation: Generation, match: Match) -> str:
    """Say what closeness means where a picture went in, and whether that is this match's, going by its name."""
    went_in = "A picture went in."
    names = {file_name(place.path).casefold() for place in match.reference.occurrences if place.path}
    if generation.source:
        source = file_name(generation.source)
        if source.casefold() not in names:
            return (
                f"What went in, {source}, has another file name than this training image: unless it shows the same, "
                "the model brought this in by itself."
            )
        went_in = "The picture that went in has the file name of this training image."
    return (
        f"{went_in} At low strength, what goes in comes out again from any model: closeness to it is no evidence "
        "by itself that the model memorised it."
    )


def summary_in_words(summary: ScanSummary) -> str:
    """Return the outcome of a scan in one sentence."""
    total = summary.queries
    if total == 0:
        return "No generated pictures were looked at."
    if summary.replica:
        verb = "replicates" if summary.replica == 1 else "replicate"
        return f"{_share(summary.replica, total)} {verb} a training image in this index."
    if summary.possible:
        verb = "resembles" if summary.possible == 1 else "resemble"
        return f"{_share(summary.possible, total)} strongly {verb} a training image in this index."
    if summary.cleared:
        verb = "matches" if summary.cleared == 1 else "match"
        return f"{_share(summary.cleared, total)} {verb} only training images that your policy clears."
    if summary.unreadable == total:
        return f"None of the {plural(total, 'generated picture')} could be read."
    readable = total - summary.unreadable
    if readable == 1:
        return "The generated picture has no match in this index."
    return f"None of the {readable:,} generated pictures has a match in this index."


def _share(count: int, total: int) -> str:
    if count == total:
        return "The generated picture" if total == 1 else f"All {total:,} generated pictures"
    return f"{count:,} of {total:,} generated pictures"


def counts_in_words(summary: ScanSummary) -> str:
    """Return the counts that `summary_in_words` leaves out, as short sentences, or nothing."""
    parts = []
    if summary.replica and summary.possible:
        verb = "resembles" if summary.possible == 1 else "resemble"
        parts.append(f"{summary.possible:,} more strongly {verb} one, not verified.")
    if summary.cleared and (summary.replica or summary.possible):
        verb = "matches" if summary.cleared == 1 else "match"
        parts.append(f"{summary.cleared:,} {verb} cleared works only.")
    rest = max(0, summary.no_match - summary.cleared)
    if rest and (summary.replica or summary.possible or summary.cleared):
        parts.append(f"{rest:,} {'has' if rest == 1 else 'have'} no match in this index.")
    if summary.unreadable and summary.unreadable < summary.queries:
        parts.append(f"{summary.unreadable:,} could not be read.")
    return " ".join(parts)


def duration_in_words(seconds: float) -> str:
    """Return ``12 s``, ``3 min 20 s`` or ``2 h 5 min``; nothing for 0."""
    if seconds <= 0:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours:,}{NBSP}h {minutes_left}{NBSP}min"
    return f"{minutes}{NBSP}min {rest}{NBSP}s" if minutes else f"{rest}{NBSP}s"
