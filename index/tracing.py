"""Models run in any number of threads, but none while one is traced.

torch.fx traces a model by changing how every module of the process is called. A model that runs meanwhile, in another
thread, breaks off with “module is not installed as a submodule”.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_models = threading.Condition()
_at_work = 0


@contextmanager
def running() -> Iterator[None]:
    """Run a model; waits while one is traced."""
    global _at_work
    with _models:
        _at_work += 1
    try:
        yield
    finally:
        with _models:
            _at_work -= 1
            _models.notify_all()


@contextmanager
def none_running() -> Iterator[None]:
    """Trace a model; waits until none runs, and lets none begin."""
    with _models:
        _models.wait_for(lambda: _at_work == 0)
        yield
