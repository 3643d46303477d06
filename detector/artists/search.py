"""The look-up itself: names, pictures and sources against one index, and what saved findings say of the works."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.artists.contradictions import contradictions_of
from detector.artists.findings import Findings
from detector.artists.names import ArtistNames
from detector.artists.report import MIN_LEVEL, FoundWork, IndexFacts, LookupReport
from detector.detector import Detector, reference_of, unreadable
from detector.report import ImageReport, Match, Verdict
from detector.versions import installed
from index.errors import UsageError
from index.items import Rejected
from index.locations import open_index
from index.searching import Searchable
from index.sources import iter_folder, locator_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from detector.artists import LookupProgress
    from detector.scoring import ScoringModel

BATCH = 8
"""Pictures checked at once."""

SUGGESTIONS = 8

_VERSIONS = (
    "replication-detector",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "faiss-cpu",
    "imagehash",
    "pdqhash",
    "open_clip_torch",
    "torch",
    "rapidfuzz",
)
"""What the figures hang on."""


def looked_up(
    index: Searchable | Detector | str | Path,
    name: str,
    *,
    pictures: Sequence[str | Path | tuple[str, Image | bytes]],
    source_contains: str,
    licence: str,
    findings: Findings | Sequence[str | Path],
    command: str,
    on_progress: LookupProgress | None,
) -> LookupReport:
    """Look works up; see `detector.artists.lookup`."""
    _must_ask(name, bool(pictures), source_contains)
    entries = list(_entries(pictures))
    if pictures and not entries:
        where = ", ".join(str(each) for each in pictures)
        raise UsageError(f"{where}: no picture found. Name pictures of the works, or folders that hold some")
    read = findings if isinstance(findings, Findings) else Findings.read(findings)
    with ExitStack() as stack:
        if isinstance(index, (str, Path)):
            index = stack.enter_context(open_index(index))
        detector = index if isinstance(index, Detector) else Detector(index)
        reports: list[ImageReport] = []
        for start in range(0, len(entries), BATCH):
            reports += _checked(detector, entries[start : start + BATCH])
            if on_progress is not None:
                on_progress(len(reports), len(entries))
        report = gathered(
            detector,
            reports,
            name=name,
            source_contains=source_contains,
            licence=licence,
            findings=read,
            names=None,
            command=command,
        )
    return replace(
        report, picture_files=frozenset(name for name, entry in entries if isinstance(entry, Path))
    )


def gathered(
    index: Searchable | Detector,
    reports: Sequence[ImageReport],
    *,
    name: str,
    source_contains: str,
    licence: str,
    findings: Findings | None,
    names: ArtistNames | None,
    command: str,
) -> LookupReport:
    """Look works up with pictures that are checked already; see `detector.artists.lookup_reports`."""
    name, source_contains, licence = name.strip(), source_contains.strip(), licence.strip()
    _must_ask(name, bool(reports), source_contains)
    opened = index.index if isinstance(index, Detector) else index
    read = Findings() if findings is None else findings
    reasons: dict[int, dict[str, None]] = {}
    artists: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    if name:
        names = ArtistNames.of(opened) if names is None else names
        artists = names.find(name)
        suggestions = tuple(spelling for spelling, _ in names.suggest(name, SUGGESTIONS))
        for spelling in artists:
            _because("name", names.references(spelling), reasons)
    best: dict[int, tuple[Match, str]] = {}
    for report in reports:
        for match in report.matches:
            rank = (match.level, match.score)
            known = best.get(match.reference.id)
            if match.level >= MIN_LEVEL and (known is None or rank > (known[0].level, known[0].score)):
                best[match.reference.id] = match, report.query
    _because("picture", best, reasons)
    for part in {source_contains, source_contains.lower()} - {""}:
        _because("source", (i for _, i in opened.find_occurrences(source_contains=part)), reasons)
    works = []
    for number, why in reasons.items():
        work = _work(opened, number, tuple(why), best.get(number), licence=licence, findings=read)
        works += [work] if work is not None else []
    return LookupReport(
        name=name,
        index=_facts_of(opened),
        pictures=tuple(report.query for report in reports),
        source_contains=source_contains,
        licence=licence,
        works=tuple(sorted(works, key=_importance)),
        artists=artists,
        suggestions=suggestions,
        unmatched=tuple(
            report.query
            for report in reports
            if report.verdict is not Verdict.UNREADABLE and all(m.level < MIN_LEVEL for m in report.matches)
        ),
        unreadable=tuple((r.query, r.reason or "") for r in reports if r.verdict is Verdict.UNREADABLE),
        findings=read.files,
        generated=read.generated,
        skipped=read.skipped,
        scoring_sha256=_digest_of(_scoring(index)),
        versions={"python": platform.python_version(), **installed(_VERSIONS)},
        made=_now(),
        command=command,
    )


def _must_ask(name: str, pictures: bool, source_contains: str) -> None:
    if not (name.strip() or pictures or source_contains.strip()):
        raise UsageError(
            "nothing to look up. Give an artist's name, pictures of the works, or a part of their source"
        )


def _entries(pictures: Sequence[str | Path | tuple[str, Image | bytes]]) -> Iterator[tuple[str, Any]]:
    """Yield (name, picture) of what was given, folders opened; a `Rejected` where a file cannot be one."""
    for given in pictures:
        if isinstance(given, tuple):
            yield given
            continue
        for entry in iter_folder(given):
            yield (entry.locator if isinstance(entry, Rejected) else locator_of(entry)), entry


def _checked(detector: Detector, entries: Sequence[tuple[str, Any]]) -> list[ImageReport]:
    readable = [(name, entry) for name, entry in entries if not isinstance(entry, Rejected)]
    found = iter(detector.check_many([entry for _, entry in readable], names=[name for name, _ in readable]))
    return [
        unreadable(name, entry.reason) if isinstance(entry, Rejected) else next(found)
        for name, entry in entries
    ]


def _because(reason: str, ids: Any, reasons: dict[int, dict[str, None]]) -> None:
    for number in ids:
        reasons.setdefault(number, {})[reason] = None


def _work(
    index: Searchable,
    number: int,
    reasons: tuple[str, ...],
    found: tuple[Match, str] | None,
    *,
    licence: str,
    findings: Findings,
) -> FoundWork | None:
    """Return all there is to say of a reference; None where it is gone since."""
    reference = reference_of(index, number)
    if reference is None:
        return None
    work = FoundWork(
        reference,
        reasons,
        near_duplicates=index.near_duplicates(number),
        replicas=findings.of(reference.sha256),
        match=found[0] if found else None,
        picture=found[1] if found else "",
    )
    if not licence or not work.verified:
        return work
    return replace(work, contradictions=contradictions_of(reference, licence))


def _importance(work: FoundWork) -> tuple[Any, ...]:
    """Sort works: sure ones first, then those that come back most closely, most often; then by path."""
    closest = max((replica.level for replica in work.replicas), default=0)
    path = work.reference.occurrences[0].path if work.reference.occurrences else ""
    return (not work.verified, -closest, -len(work.replicas), -work.copies, path, work.reference.id)


def _facts_of(index: Searchable) -> IndexFacts:
    references, occurrences, _ = index.counts()
    return IndexFacts(
        path=index.name if index.name.startswith("milvus:") else index.path.as_posix(),
        manifest_sha256=index.manifest_sha256,
        generation=index.generation,
        references=references,
        occurrences=occurrences,
        descriptors=tuple(
            {"name": spec.name, "version": spec.version, "weights_digest": spec.weights_digest}
            for spec in index.specs
        ),
    )


def _scoring(index: Searchable | Detector) -> ScoringModel:
    from detector.scoring import shipped_model

    return index.scoring if isinstance(index, Detector) else shipped_model()


def _digest_of(model: ScoringModel) -> str:
    text = json.dumps(model.to_dict(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _now() -> str:
    """Return the time, or what SOURCE_DATE_EPOCH says it is (https://reproducible-builds.org/specs/)."""
    stamp = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(stamp) if stamp.isdigit() else None))
