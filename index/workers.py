"""A pool of workers for describing pictures: processes where forking is safe, threads elsewhere.

Python's own part of describing a picture (headers, hashes, bookkeeping) runs on one core however many threads there
are; forked processes have no such bound and start at once. Forking is safe only while the process has one thread and
no library with threads of its own; a thread pool does the same work everywhere else.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

THREADED_LIBRARIES = ("torch", "faiss", "cv2")
"""Libraries with thread pools of their own, which a forked child would find without their threads."""

_PR_SET_PDEATHSIG = 1
"""Linux prctl(2): the signal that a process gets when its parent dies."""


def can_fork() -> bool:
    """Say whether forking this process now is safe: Linux, one thread, no library with threads loaded."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    return not any(name in sys.modules for name in THREADED_LIBRARIES)


def start(count: int, prepare: Callable[..., None], *arguments: Any, processes: bool) -> Executor:
    """Start workers.

    Args:
        count: How many.
        prepare: Called with the arguments in each worker before its first task; a module-level function.
        arguments: Can be pickled.
        processes: Take processes if that is safe now; tasks and results then have to be picklable.
    """
    if processes and count > 1 and can_fork():
        context = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(count, context, _prepare_process, (prepare, arguments))
    return ThreadPoolExecutor(count, "describe", prepare, arguments)


def _prepare_process(prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import ctypes

    # Ctrl-C reaches the whole group: the parent commits what is done and stops the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prepare(*arguments)
