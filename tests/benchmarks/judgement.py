"""The judgement on edits, re-renderings and hard negatives, beside hash peers in the same run.

Half the works are indexed, half held out. A prediction is a (query, reference) with its score: ours are the
matches of a report, a peer's its nearest references within its bound.
"""

from __future__ import annotations

import io
import shutil
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from detector import Detector, ImageReport, Verdict, build_index
from tests.benchmarks import costs, galleries, peers, reliability
from tests.benchmarks.edits import EDITS, GROUP_A, GROUP_B
from tests.benchmarks.measures import Prediction, interval, rank, wilson
from tests.benchmarks.regions import iou
from tests.benchmarks.results import Options, Result, Table, progress, share
from tests.benchmarks.workload import (
    NEGATIVES,
    SAME_TEMPLATE,
    Halves,
    Query,
    encoded,
    halve,
    queries_of,
    works_of,
    write_references,
)

OURS = "ours"
NO_TOWER = "ours, without the tower"
WITHOUT = ("pdq", "phash", "keypoints")
GROUPS = {"A: light, medium": GROUP_A, "B: heavy, parts, re-renderings": GROUP_B}
PER_10_000 = 10_000
LEAST_IOU = 0.6


@dataclass
class Judged:
    """Everything said of the queries, by query number."""

    queries: list[Query] = field(default_factory=list)
    reports: list[ImageReport] = field(default_factory=list)
    predictions: dict[str, list[Prediction]] = field(default_factory=lambda: defaultdict(list))

    def numbers(self, groups: tuple[str, ...]) -> list[int]:
        """Return the numbers of the queries of these groups."""
        return [n for n, query in enumerate(self.queries) if query.group in groups]


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("judgement")
    works = works_of(options.data)
    halves = halve(works, seed=options.seed)
    write_references(halves, work / "references")
    shutil.rmtree(work / "art.index", ignore_errors=True)
    build_index(work / "references", work / "art.index")
    shutil.rmtree(work / "plain.index", ignore_errors=True)
    build_index(work / "references", work / "plain.index", descriptors=WITHOUT)
    result = Result("judgement", pictures=len(works))
    positives, unrelated = (2 * len(EDITS), 60) if options.quick else (40 * len(EDITS), 4000)
    with Detector.open(work / "art.index") as detector:
        judged = judge(detector, halves, work, positives=positives, unrelated=unrelated, seed=options.seed)
        _ranking(result, judged, options)
        _kinds(result, judged)
        galleries.false_alarms(result, judged.queries, judged.reports)
        galleries.alike(result, works, work, quick=options.quick)
        reliability.calibration(result, judged.queries, judged.reports, options)
        _regions(result, judged, options)
        costs.verification(result, detector, judged.queries, work / "queries", quick=options.quick)
    return result


def judge(
    detector: Detector, halves: Halves, work: Path, *, positives: int, unrelated: int, seed: int
) -> Judged:
    """Make the queries, write them to work/queries, and put them to the detector and the peers."""
    shutil.rmtree(work / "queries", ignore_errors=True)
    (work / "queries").mkdir()
    progress(f"judgement: {positives} edits, {unrelated} unrelated pictures and hard negatives")
    judged = Judged()
    for query, image in queries_of(halves, positives=positives, unrelated=unrelated, seed=seed):
        (work / "queries" / query.name).write_bytes(encoded(image))
        judged.queries.append(query)
    paths = [work / "queries" / query.name for query in judged.queries]
    scan = detector.scan(paths, on_progress=_every(500))
    judged.reports = list(scan)
    for number, (query, report) in enumerate(zip(judged.queries, judged.reports, strict=True)):
        for match in report.matches:
            true = _file_of(match) == query.reference
            judged.predictions[OURS].append(Prediction(number, match.score, true))
    progress("judgement: peers")
    progress("judgement: the same without the tower")
    with Detector.open(work / "plain.index") as plain:
        for number, report in enumerate(plain.scan(paths, on_progress=_every(500))):
            for match in report.matches:
                true = _file_of(match) == judged.queries[number].reference
                judged.predictions[NO_TOWER].append(Prediction(number, match.score, true))
    names = sorted(path.name for path in (work / "references").glob("*") if path.suffix != ".csv")
    for peer in peers.all_peers():
        table = peers.table_of(peer, [_opened(work / "references" / name) for name in names])
        found = judged.predictions[peer.name]
        for number, nearest in enumerate(_in_threads(peer, table, paths)):
            wanted = judged.queries[number].reference
            found += [Prediction(number, score, names[place] == wanted) for place, score in nearest]
    return judged


def _in_threads(peer: peers.Peer, table: peers.Bits, paths: list[Path]) -> Iterator[list[tuple[int, float]]]:
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda path: peers.nearest(peer, table, _opened(path)), paths)


def _opened(path: Path) -> Image.Image:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return image.convert("RGB")


def _file_of(match: object) -> str:
    return Path(match.reference.occurrences[0].path).name  # type: ignore[attr-defined]


def _every(step: int):  # type: ignore[no-untyped-def]
    def tell(state) -> None:  # type: ignore[no-untyped-def]
        if state.done % step == 0:
            progress(f"judgement: {state.done} of {state.total}")

    return tell


def _ranking(result: Result, judged: Judged, options: Options) -> None:
    """Micro-average precision and recall at 90 % precision, ours and the peers', overall and by group."""
    negatives = judged.numbers(NEGATIVES)
    rows, recalls = [], {}
    chosen = {"all": GROUP_A + GROUP_B, **GROUPS, **{g: (g,) for g in GROUP_A + GROUP_B}}
    for title, groups in chosen.items():
        positives = judged.numbers(groups)
        for system, predictions in judged.predictions.items():
            ranked = rank(predictions, positives + negatives, positives, seed=options.seed)
            rows.append((title, system, ranked.positives, *ranked.cells()))
            recalls[title, system] = ranked.recall
            result.figures[f"{title} / {system}"] = {"µAP": ranked.average, "recall@P90": ranked.recall}
            if system == OURS and title in GROUPS:
                least = 0.97 if title.startswith("A") else 0.90
                result.bar(f"µAP, group {title}", ranked.average, least=least)
    result.bar("µAP, all edits", result.figures[f"all / {OURS}"]["µAP"], least=0.97)
    group = next(title for title in GROUPS if title.startswith("B"))
    used = {name: recalls[group, name] for name in judged.predictions if name not in (OURS, NO_TOWER)}
    beyond = recalls[group, OURS] / max(used.pop(peers.PDQ_UNBOUNDED), 1e-6)
    times = recalls[group, OURS] / max(*used.values(), 1e-6)
    result.bar("recall at 90 % precision on group B, times the best peer's", times, least=2)
    note = (
        f"With each group's edits: the same {len(negatives)} pictures without a reference. 95 % bootstrap. "
        f"PDQ without its bound is no common use; recall on group B is {beyond:.2f} times its own."
    )
    columns = ("edits", "system", "n", "µAP", "recall at 90 % precision")
    result.tables.append(Table("Ranking", columns, rows, note))


def _kinds(result: Result, judged: Judged) -> None:
    """Verdict `replica` with the right reference first, per kind of edit, and what PDQ finds."""
    rows = []
    for edit in EDITS:
        numbers = [n for n, query in enumerate(judged.queries) if query.kind == edit.name]
        if not numbers:
            continue
        found = [n for n in numbers if _found(judged, n)]
        possible = sum(judged.reports[n].verdict is Verdict.POSSIBLE for n in numbers)
        near = {p.query for p in judged.predictions[peers.PDQ] if p.true} & set(numbers)
        rows.append(
            (edit.name, edit.group, len(numbers), share(len(found), len(numbers)), possible, len(near))
        )
    columns = ("edit", "group", "n", "replica, right reference first", "possible", "PDQ ≤ 31 finds")
    result.tables.append(Table("By kind of edit, at the default bound", columns, rows))
    result.figures["misses"] = [
        {
            "query": q.name,
            "kind": q.kind,
            "reference": q.reference,
            "verdict": judged.reports[n].verdict.value,
        }
        for n, q in enumerate(judged.queries)
        if q.reference and not _found(judged, n)
    ]
    template = [judged.reports[n] for n in judged.numbers((SAME_TEMPLATE,))]
    if template:
        flagged = [r.best for r in template if r.verdict is Verdict.REPLICA and r.best]
        result.figures["templates"] = {
            "n": len(template),
            "replica": len(flagged),
            "recognised as template": sum(match.evidence.template for match in flagged),
        }


def _found(judged: Judged, number: int) -> bool:
    report = judged.reports[number]
    best = report.best
    right = best is not None and _file_of(best) == judged.queries[number].reference
    return right and report.verdict is Verdict.REPLICA


def _regions(result: Result, judged: Judged, options: Options) -> None:
    """Overlap of the reported region with the true one, among those found."""
    rows = []
    for group in ("pasted parts", "photographs", "crops", "light"):
        overlaps = [
            iou(match.query_region, judged.queries[n].region)
            for n in judged.numbers((group,))
            if _found(judged, n) and (match := judged.reports[n].best) is not None
        ]
        good = sum(value >= LEAST_IOU for value in overlaps)
        values = np.asarray(overlaps)
        low, high = interval(
            lambda drawn, v=values: float(np.median(v[drawn])), len(values), seed=options.seed
        )
        middle = f"{np.median(values):.3f} ({low:.3f}–{high:.3f})" if overlaps else "–"
        rows.append((group, len(overlaps), share(good, len(overlaps)), middle))
        if group == "pasted parts":
            result.bar("pasted parts found with IoU ≥ 0.6", good / max(len(overlaps), 1), least=0.8)
            result.figures["IoU ≥ 0.6, pasted parts"] = wilson(good, len(overlaps))
    columns = ("group", "found", "IoU ≥ 0.6", "median IoU")
    result.tables.append(Table("Reported region against the true one, in the query", columns, rows))
