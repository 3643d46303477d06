"""All that can be seen of an index, with references named by digest; compared before and after an interruption."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from index.reference_index import ReferenceIndex
from tests.benchmarks.world import World

Seen = dict[str, Any]


def seen(folder: Path, world: World) -> Seen:
    """Return all that a user can see of an index, with references named by digest, and what `check` says."""
    with ReferenceIndex.open(folder) as index:
        references = {}
        rows = {spec.name: index.rows(spec.name) for spec in index.specs}
        for number in index.reference_ids():
            entry = index.reference(number)
            assert entry is not None
            record, occurrences = entry
            made = {name: _digest(each.rows_of(number).tobytes()) for name, each in rows.items()}
            places = sorted((o.path, o.size, o.mtime_ns, str(o.credits)) for o in occurrences)
            copy = index.thumbnail(number)
            references[record.sha256] = [
                [record.width, record.height, list(record.trim)],
                places,
                made,
                copy and _digest(copy),
            ]
        return {
            "references": references,
            "searches": _searches(index, world),
            "rejected": sorted((r.locator, r.reason) for r in index.rejected()),
            "requests": sorted((r.state, r.sha256s, r.name, r.reason) for r in index.requests()),
            "forgotten": sorted(index.forgotten()),
            "calibration": {
                name: [
                    f"{value:.5g}" if isinstance(value, float) else value for value in null.to_dict().values()
                ]
                for name, null in index.calibration().items()
            },
            "imported": [each.to_dict() for each in index.imported()],
            "shards done": index.shards_done(),
            "sketches": {name: each.rows for name, each in index.sketches().items()},
            "check": index.check(),
            "generation": index.generation,
            "dead rows": sum(each.total - len(each) for each in rows.values()),
        }


def _searches(index: ReferenceIndex, world: World) -> list[Any]:
    names = tuple(spec.name for spec in index.specs)
    found = []
    for query in world.queries.get(names, ()):
        candidates = index.search(query)
        answers = []
        for candidate in candidates:
            entry = index.reference(candidate.reference_id)
            assert entry is not None
            alike = {name: round(value, 4) for name, value in candidate.similarities.items()}
            answers.append((entry[0].sha256, alike, candidate.mirrored))
        found.append(answers[:5])
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


COMPARED = (
    "references",
    "searches",
    "rejected",
    "requests",
    "forgotten",
    "calibration",
    "imported",
    "shards done",
    "sketches",
)


def lost(now: Seen, before: Seen | None, after: Seen) -> list[str]:
    """Say what an interrupted index lacks that was there before and stays, or has that was never put in."""
    earlier = before["references"] if before else {}
    found, later = now["references"], after["references"]
    problems = []
    for digest, value in earlier.items():
        if digest in later and digest not in found:
            problems.append(f"reference {digest[:8]} is lost")
        elif digest in found and found[digest] not in (value, later.get(digest)):
            problems.append(f"reference {digest[:8]} is neither as before nor as after")
    for digest, value in found.items():
        if digest not in earlier and digest not in later:
            problems.append(f"reference {digest[:8]} came from nowhere")
        elif digest not in earlier and value != later[digest]:
            problems.append(f"reference {digest[:8]} is not as it will be")
    if before and not set(map(str, before["forgotten"])) & set(map(str, after["forgotten"])) <= set(
        map(str, now["forgotten"])
    ):
        problems.append("erased pictures were forgotten to be so")
    if before and len(now["requests"]) < len(before["requests"]):
        problems.append("removal requests are lost")
    return problems


def differing(now: Seen, wanted: Seen) -> list[str]:
    """Say in what two indexes differ, ids, order and generations aside."""
    return [f"other {name}" for name in COMPARED if now[name] != wanted[name]]


def leavings(case: Path, folder: Path, *, erases: bool, now: Seen) -> list[str]:
    """Say what is left behind that no commit names, once a writer has closed."""
    problems = []
    with ReferenceIndex.open(folder) as index:
        named = {segment.file for segment in index._catalog.segments()}
        sketched = {each.file for each in index.sketches().values()}
    for entry in sorted(case.rglob("*")):
        if entry.is_dir():
            continue
        name, above = entry.name, entry.parent.name
        if above == "vectors":
            known = name.replace(".ids.npy", ".npy") in named
        elif above == "ann":
            known = name.split(".")[0] in sketched
        else:
            known = entry.parent == folder and bool(
                re.fullmatch(r"manifest\.json|(catalog|thumbnails)\.sqlite|writer\.lock(\.held)?", name)
            )
        if not known:
            problems.append(f"left behind: {os.path.relpath(entry, case)}")
    if erases and now["dead rows"]:
        problems.append(f"{now['dead rows']} rows of gone references are still there")
    return problems
