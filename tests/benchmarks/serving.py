"""`detector serve` under load: clients that all ask at once, against a scan of the same pictures in one process."""

from __future__ import annotations

import http.client
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from detector import Detector, build_index
from tests.benchmarks.results import Options, Result, Table, progress
from tests.benchmarks.workload import encoded, halve, queries_of, works_of, write_references

CLIENTS = 32
MOST_TIMES = 4.0
"""The 95th percentile of a client's wait, in shares of what it would wait if all pictures were only scanned."""

QUERIES = 400
BOUNDARY = "benchmark"


def run(options: Options) -> Result:
    """Measure."""
    work = options.scratch("serving")
    halves = halve(works_of(options.data), seed=options.seed)
    write_references(halves, work / "references")
    shutil.rmtree(work / "art.index", ignore_errors=True)
    build_index(work / "references", work / "art.index")
    pictures = _queries(options, work / "queries")
    progress(f"serving: {len(pictures)} pictures, {CLIENTS} clients, {options.seconds:g} s")
    before = _scanned(work / "art.index", work / "queries")
    seconds, statuses, elapsed = _served(work / "art.index", pictures, options.seconds)
    after = _scanned(work / "art.index", work / "queries")
    throughput = 2.0 / (1.0 / before + 1.0 / after)
    fair = CLIENTS / throughput
    p50, p95, worst = (float(np.percentile(seconds, q)) for q in (50, 95, 100))
    rate = len(seconds) / elapsed
    result = Result("serving", pictures=len(pictures))
    columns = ("", "pictures/s", "median s", "p95 s", "most s")
    rows = [
        ("`Detector.scan`, before and after", f"{before:.1f}, {after:.1f}", "", "", ""),
        (f"{CLIENTS} clients at once", f"{rate:.1f}", f"{p50:.2f}", f"{p95:.2f}", f"{worst:.2f}"),
    ]
    note = f"{CLIENTS} clients / throughput of the scan = {fair:.2f} s. Answers: {dict(statuses)}."
    result.tables.append(Table("`POST /v1/check` under load, one picture a request", columns, rows, note))
    result.bar("p95 wait, in times of clients / throughput of a scan", p95 / fair, most=MOST_TIMES)
    result.bar("answers other than 200", float(sum(statuses.values()) - statuses[200]), most=0)
    result.figures |= {"seconds": seconds, "scan": [before, after], "rate": rate}
    return result


def _queries(options: Options, folder: Path) -> list[bytes]:
    """Write queries, half of them edits of references, and return their bytes in a random order."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    half = (60 if options.quick else QUERIES) // 2
    halves = halve(works_of(options.data), seed=options.seed)
    made = []
    for query, image in itertools.islice(
        queries_of(halves, positives=half, unrelated=half, seed=options.seed), 2 * half
    ):
        made.append(encoded(image))
        (folder / f"{Path(query.name).stem}.jpg").write_bytes(made[-1])
    order = np.random.default_rng(options.seed).permutation(len(made))
    return [made[place] for place in order]


def _scanned(index: Path, folder: Path) -> float:
    """Return how many pictures a second a scan in this process checks, once everything is loaded."""
    with Detector.open(index) as detector:
        detector.scan(next(iter(sorted(folder.iterdir()))))
        summary = detector.scan(folder).summary
    return summary.queries / summary.seconds


def _served(index: Path, pictures: list[bytes], seconds: float) -> tuple[list[float], Counter[int], float]:
    """Let all clients ask for a while; return every wait, answers by status, and the seconds until the last one."""
    command = [sys.executable, "-m", "detector", "serve", "--index", str(index), "--port", "0", "--rate", "0"]
    server = subprocess.Popen(
        [*command, "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        said = ""
        while not said.endswith("}\n"):
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {said}")
            said += line
        address = json.loads(said)["address"].removeprefix("http://").rstrip("/")
        waits: list[float] = []
        statuses: Counter[int] = Counter()
        _ask(address, pictures[:4], time.monotonic() + 1.0, [], Counter())
        started = time.monotonic()
        until = started + seconds
        shares = [pictures[number::CLIENTS] or pictures for number in range(CLIENTS)]
        clients = [
            threading.Thread(target=_ask, args=(address, share, until, waits, statuses)) for share in shares
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        elapsed = time.monotonic() - started
    finally:
        server.terminate()
        server.wait(timeout=60)
    return waits, statuses, elapsed


def _ask(
    address: str, pictures: list[bytes], until: float, waits: list[float], statuses: Counter[int]
) -> None:
    """Ask for one picture after the other until the time is over."""
    connection = http.client.HTTPConnection(address, timeout=120)
    for picture in itertools.cycle(pictures):
        if time.monotonic() >= until:
            break
        started = time.perf_counter()
        connection.request("POST", "/v1/check", body=picture, headers={"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        waits.append(time.perf_counter() - started)
        statuses[answer.status] += 1
    connection.close()
