"""False alarms: unrelated pictures and hard negatives, also in a gallery of pictures that look alike."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector import Detector, ImageReport, Verdict, build_index
from tests.benchmarks.measures import wilson
from tests.benchmarks.results import Result, Table, progress
from tests.benchmarks.workload import (
    NEGATIVES,
    SAME_TEMPLATE,
    UNRELATED,
    UNRELATED_EDITED,
    Query,
    Work,
    look,
)

PER = 10_000
MOST = 5
ONE_ARTIST = 30
"""Works that one artist needs for a gallery of them alone."""

ALIKE = 120
"""Works of the gallery of similar looks; as many again are put to it."""


def false_alarms(result: Result, queries: Sequence[Query], reports: Sequence[ImageReport]) -> None:
    """Count verdicts on pictures without a reference, by kind, per 10,000."""
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    raised = []
    for query, report in zip(queries, reports, strict=True):
        if query.reference:
            continue
        verdicts[query.group].append(report.verdict)
        if report.verdict is Verdict.REPLICA and report.best is not None:
            first = Path(report.best.reference.occurrences[0].path).name
            evidence = report.best.evidence.to_dict()
            raised.append(
                {
                    "query": query.name,
                    "kind": query.kind,
                    "first": first,
                    "score": report.score,
                    "evidence": evidence,
                }
            )
    rows = [_row(kind, verdicts[kind]) for kind in NEGATIVES if kind in verdicts]
    plain = verdicts[UNRELATED] + verdicts[UNRELATED_EDITED]
    rows.append(_row("**unrelated, both**", plain))
    note = (
        "Upper bound: 95 % Wilson. Pictures with the same template share frame and text with a reference; "
        "they are no copies of its content, and count here, not among the unrelated."
    )
    columns = ("kind", "n", "replica", "per 10,000", "at most (95 %)", "possible")
    result.tables.append(Table("False alarms at the default bound", columns, rows, note))
    alarms = sum(v is Verdict.REPLICA for v in plain)
    result.bar("false replica per 10,000 unrelated", alarms / max(len(plain), 1) * PER, most=MOST)
    result.figures["false alarms"] = {
        "unrelated": len(plain),
        "upper_per_10000": wilson(alarms, len(plain))[1] * PER,
        "raised": raised,
        "same template": dict(Counter(v.value for v in verdicts[SAME_TEMPLATE])),
    }


def _row(kind: str, verdicts: Sequence[Verdict]) -> tuple[object, ...]:
    count = len(verdicts)
    alarms = sum(v is Verdict.REPLICA for v in verdicts)
    possible = sum(v is Verdict.POSSIBLE for v in verdicts)
    rate = alarms / max(count, 1) * PER
    return kind, count, alarms, f"{rate:.1f}", f"{wilson(alarms, count)[1] * PER:.1f}", possible


def alike(result: Result, works: Sequence[Work], folder: Path, *, quick: bool) -> None:
    """Put pictures to a gallery of one artist, or, where no artist has enough works, of similar looks."""
    size = 12 if quick else ALIKE
    chosen, title = _one_artist(works, 12 if quick else ONE_ARTIST), "one artist"
    if not chosen:
        chosen, title = _similar(works, 2 * min(size, len(works) // 4)), "pictures that look alike"
    progress(f"judgement: a gallery of {title}, {len(chosen)} works")
    columns = ("kind", "n", "replica", "per 10,000", "at most (95 %)", "possible")
    verdicts: list[Verdict] = []
    for turn in (0, 1):
        gallery, queries = chosen[turn::2], chosen[1 - turn :: 2]
        shutil.rmtree(folder / "alike", ignore_errors=True)
        (folder / "alike" / "references").mkdir(parents=True)
        for work in gallery:
            shutil.copyfile(work.path, folder / "alike" / "references" / work.path.name)
        build_index(folder / "alike" / "references", folder / "alike" / "art.index")
        with Detector.open(folder / "alike" / "art.index") as detector:
            scan = detector.scan([work.path for work in queries])
            verdicts += [report.verdict for report in scan]
            mirrored = detector.check_many([_mirrored(work) for work in queries])
            verdicts += [report.verdict for report in mirrored]
    note = (
        f"{len(chosen)} works: one half indexed, the other put to it, also mirrored; then the halves swapped."
    )
    result.tables.append(Table(f"A gallery of {title}", columns, [_row(title, verdicts)], note))
    alarms = sum(v is Verdict.REPLICA for v in verdicts)
    result.bar(
        f"false replica per 10,000, gallery of {title}", alarms / max(len(verdicts), 1) * PER, most=MOST
    )


def _mirrored(work: Work):  # type: ignore[no-untyped-def]
    from PIL import ImageOps

    return ImageOps.mirror(work.open())


def _one_artist(works: Sequence[Work], least: int) -> list[Work]:
    counts = Counter(work.artist for work in works if work.artist)
    if not counts or counts.most_common(1)[0][1] < least:
        return []
    artist = counts.most_common(1)[0][0]
    return [work for work in works if work.artist == artist]


def _similar(works: Sequence[Work], count: int) -> list[Work]:
    """The densest neighbourhood of looks: the work whose `count` nearest are nearest, and those."""
    table = np.stack([look(work.open()) for work in works])
    alike = table @ table.T
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    centre = int(np.take_along_axis(alike, nearest, axis=1).mean(axis=1).argmax())
    return [works[int(n)] for n in nearest[centre]]
