"""Time per picture of each stage of a check, run one after another on one thread."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from detector import Detector
from detector.detail import has_too_little_detail
from index.descriptors import Kind
from index.images import read_image
from index.keypoints import MAX_QUERY_FEATURES, extract, vote
from index.vectors import use_threads

TOTAL = "whole check"
VERIFY = "verification"
Seconds = dict[str, list[float]]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let OpenCV and FAISS use one thread inside."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    use_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def time_stages(detector: Detector, paths: Sequence[Path]) -> tuple[Seconds, list[tuple[float, float]]]:
    """Run every stage for itself, and the whole check.

    Returns:
        Seconds a picture by stage, and wall and CPU seconds of each verified candidate.
    """
    index = detector.index
    descriptors = index.descriptors()
    spent: Seconds = defaultdict(list)
    verified: list[tuple[float, float]] = []
    with one_thread():
        detector.check(paths[0])  # stores are made on first use
        for path in paths:
            started = time.perf_counter()
            detector.check(path)
            spent[TOTAL].append(time.perf_counter() - started)
            clock = _Clock(spent)
            picture = read_image(path)
            clock.lap("read")
            for spec in index.specs:
                if spec.kind is Kind.LOCAL:
                    features = extract(picture, max_features=MAX_QUERY_FEATURES)
                    clock.lap(f"{spec.name}: describe")
                    vote(features, index.store(spec.name))
                else:
                    rows = descriptors[spec.name].describe([picture])
                    rows += descriptors[spec.name].describe_mirrored([picture])
                    clock.lap(f"{spec.name}: describe")
                    for row in rows:
                        if len(row):
                            index.store(spec.name).search(row, 20)
                clock.lap(f"{spec.name}: search")
            query = index.describe([picture])[0]
            admitted = detector.worth_verifying(query)
            clock.skip()
            if not has_too_little_detail(picture):
                for candidate in admitted[: detector.plausible.top]:
                    started, busy = time.perf_counter(), time.thread_time()
                    detector._verifier.verify(query, candidate)
                    verified.append((time.perf_counter() - started, time.thread_time() - busy))
            clock.lap(VERIFY)
    return dict(spent), verified


class _Clock:
    def __init__(self, spent: Seconds) -> None:
        self._spent = spent
        self._at = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._spent[stage].append(now - self._at)
        self._at = time.perf_counter()

    def skip(self) -> None:
        self._at = time.perf_counter()


def rows_of(spent: Seconds) -> list[tuple[str, str, str, str, str]]:
    """Return table rows: stage, mean, median and 95th percentile in ms, share of the stages' sum."""
    total = sum(float(np.sum(v)) for name, v in spent.items() if name != TOTAL)
    rows = []
    for name, values in spent.items():
        ms = np.asarray(values) * 1e3
        part = "" if name == TOTAL else f"{ms.sum() / 1e3 / total:.1%}"
        percentile = float(np.percentile(ms, 95))
        rows.append((name, f"{ms.mean():.1f}", f"{np.median(ms):.1f}", f"{percentile:.1f}", part))
    return rows
