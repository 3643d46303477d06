"""Kills a build at random moments, goes on with the same command, and compares with one built in peace."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from index.images import read_image
from index.reference_index import ReferenceIndex
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import SUFFIXES

KILLS = 20
ROUNDS = 8
"""Fresh indexes over which the kills are spread."""

SEARCHES = 50


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("kills")
    kills = 3 if options.quick else KILLS
    rng = random.Random(options.seed)
    progress(f"kills: seed {options.seed}")
    pictures = [path for path in sorted(options.data.iterdir()) if path.suffix.lower() in SUFFIXES]
    peace = work / "peace.index"
    shutil.rmtree(peace, ignore_errors=True)
    started = time.monotonic()
    if _build(options.data, peace).wait() != 0:
        raise RuntimeError("the build in peace failed")
    seconds = time.monotonic() - started
    asked = rng.sample(pictures, min(SEARCHES, len(pictures)))
    wanted = _contents(peace, asked)
    rows, differing, done = [], 0, 0
    spread = [kills // ROUNDS + (n < kills % ROUNDS) for n in range(min(ROUNDS, kills))]
    for number, times in enumerate(spread or [kills]):
        folder = work / "killed.index"
        shutil.rmtree(folder, ignore_errors=True)
        moments = []
        for _ in range(times):
            # Several kills of one index come earlier each, or later ones would find it finished.
            moment = rng.uniform(0.05, 1.0) * seconds / (1.0 if times == 1 else 0.75 * times)
            moments.append(moment)
            done += _killed(options.data, folder, moment)
        started = time.monotonic()
        code = _build(options.data, folder).wait()
        rest = time.monotonic() - started
        problems = _differences(folder, asked, wanted) if code == 0 else [f"the last build ended with {code}"]
        differing += bool(problems)
        at = " ".join(f"{m:.2f}" for m in moments)
        progress(f"kills: round {number + 1}, at {at} s: {problems or 'the same'}")
        rows.append((number + 1, at, f"{rest:.1f}", "; ".join(problems) or "none"))
    result = Result("kills", pictures=len(pictures))
    note = (
        f"{done} of {kills} builds were still running when killed. In peace: {seconds:.1f} s. Compared: "
        "digests, occurrences with their credits, counts, rows, candidates and similarities of "
        f"{len(asked)} searches; and check()."
    )
    columns = ("index", "kill -9 after, s", "build to the end, s", "differences")
    result.tables.append(Table(f"{kills} kills, seed {options.seed}", columns, rows, note))
    result.bar("indexes that differ", float(differing), most=0)
    result.bar("kills that met a running build, share", done / max(kills, 1), least=0.75)
    return result


def _build(data: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "detector", "index", "build", str(data), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _killed(data: Path, out: Path, moment: float) -> bool:
    """Start a build, kill it after so many seconds; say whether it was still running."""
    child = _build(data, out)
    try:
        child.wait(timeout=moment)
        return False
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return True


def _contents(folder: Path, asked: list[Path]) -> dict[str, Any]:
    """What a user can see of an index, with references named by digest."""
    with ReferenceIndex.open(folder) as index:
        digests = sorted(index.digests())
        searches = []
        for path in asked:
            query = index.describe([read_image(path)])[0]
            found = []
            for candidate in index.search(query):
                entry = index.reference(candidate.reference_id)
                assert entry is not None
                votes = candidate.vote.pairs if candidate.vote else 0
                alike = {name: round(value, 6) for name, value in candidate.similarities.items()}
                found.append((entry[0].sha256, alike, votes, candidate.mirrored))
            searches.append(found)
        info = index.info()
        return {
            "digests": digests,
            "counts": (info.references, info.occurrences, info.rejected, sorted(info.rows.items())),
            "occurrences": _occurrences(index),
            "searches": searches,
            "check": index.check(),
        }


def _occurrences(index: ReferenceIndex) -> dict[str, list[tuple[str, str]]]:
    """Paths and credits of every reference; numbers of references may have gaps."""
    found: dict[str, list[tuple[str, str]]] = {}
    for number in range(1, 10 * len(index) + 1):
        entry = index.reference(number)
        if entry is not None:
            found[entry[0].sha256] = sorted((o.path, str(o.credits)) for o in entry[1])
        if len(found) == len(index):
            break
    return found


def _differences(folder: Path, asked: list[Path], wanted: dict[str, Any]) -> list[str]:
    found = _contents(folder, asked)
    problems = [f"other {name}" for name in wanted if name != "check" and found[name] != wanted[name]]
    return problems + list(found["check"])
