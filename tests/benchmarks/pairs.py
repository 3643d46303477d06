"""Labelled pairs for fitting the score: queries over a folder, every verified candidate a JSON line.

python -m tests.benchmarks.pairs FOLDER OUT.jsonl [--positives N] [--unrelated N] [--seed N] [--both]

A line holds the query, its kind and group, the reference, ``label`` (1 where that is the one edited), the
candidate's rank, whether the default `Plausible` would have verified it, the evidence, and both regions.
A query without a plausible candidate has no line; standard error says how many there were, by group.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

from detector import Detector, build_index
from detector.detail import has_too_little_detail
from detector.detector import Plausible
from index.images import read_image
from index.reference_index import ReferenceIndex
from tests.benchmarks.queries import SEED
from tests.benchmarks.workload import Halves, Query, encoded, halve, queries_of, works_of, write_references

LAX = Plausible(min_pairs=3, max_pdq=90, max_phash=14, min_cosine=0.5, top=10)


def pairs_of(detector: Detector, query: Query, data: bytes) -> list[dict[str, Any]]:
    """Verify every plausible candidate of one query, those a lax bound lets through included."""
    usual = Plausible()
    picture = read_image(data, locator=query.name)
    if has_too_little_detail(picture):
        return []
    described = detector.index.describe([picture])[0]
    lines = []
    admitted = detector.worth_verifying(described)
    for rank, candidate in enumerate(admitted[: detector.plausible.top]):
        found = detector.index.reference(candidate.reference_id)
        assert found is not None
        name = Path(found[1][0].path).name
        verified = detector._verifier.verify(described, candidate)
        lines.append(
            {
                "query": query.name,
                "kind": query.kind,
                "group": query.group,
                "reference": name,
                "label": int(name == query.reference),
                "related": bool(name == query.related),
                "rank": rank,
                "plausible": usual.admits(candidate, detector.index.p_values(candidate)),
                "pairs": candidate.vote.pairs if candidate.vote is not None else 0,
                "mirrored": verified.mirrored,
                "evidence": verified.evidence.to_dict(),
                "query_region": [list(p) for p in verified.query_region],
                "true_region": [list(p) for p in query.region] if name == query.reference else [],
            }
        )
    return lines


def half_pairs(
    halves: Halves, folder: Path, *, positives: int, unrelated: int, seed: int, workers: int
) -> Iterator[tuple[Query, list[dict[str, Any]]]]:
    """Index one half with the default descriptors, and yield the lines of every query, in order."""
    write_references(halves, folder / "references")
    build_index(folder / "references", folder / "art.index")
    with ReferenceIndex.open(folder / "art.index") as index, ThreadPoolExecutor(workers) as pool:
        detector = Detector(index, plausible=LAX)
        made = queries_of(halves, positives=positives, unrelated=unrelated, seed=seed)
        window = []
        for query, image in made:
            window.append((query, pool.submit(pairs_of, detector, query, encoded(image))))
            if len(window) > 4 * workers:
                first, future = window.pop(0)
                yield first, future.result()
        for query, future in window:
            yield query, future.result()


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--positives", type=int, default=3000)
    parser.add_argument("--unrelated", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--both", action="store_true", help="again with the halves the other way round")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    works = works_of(chosen.folder)
    print(f"{len(works)} different works", file=sys.stderr)
    with chosen.out.open("w", encoding="utf-8") as stream:
        for swap in (False, True)[: 1 + chosen.both]:
            halves = halve(works, seed=chosen.seed, swap=swap)
            with tempfile.TemporaryDirectory() as folder:
                results = half_pairs(
                    halves,
                    Path(folder),
                    positives=chosen.positives,
                    unrelated=chosen.unrelated,
                    seed=chosen.seed + swap,
                    workers=chosen.workers,
                )
                tally: dict[str, list[bool]] = {}
                for number, (query, lines) in enumerate(results, start=1):
                    tally.setdefault(query.group, []).append(any(line["label"] for line in lines))
                    for line in lines:
                        line["query"] = f"{int(swap)}/{query.name}"
                        stream.write(json.dumps(line, separators=(",", ":")) + "\n")
                    if number % 200 == 0:
                        print(f"{number} queries", file=sys.stderr)
                for group, found in tally.items():
                    print(f"{group}: {sum(found)} of {len(found)} with the true pair", file=sys.stderr)


if __name__ == "__main__":
    main()
