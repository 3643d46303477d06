"""A server that tests can talk to: the real web server at a free port of this machine, in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from detector.server.app import create_app
from detector.server.options import ServerOptions
from detector.server.running import bind


@contextlib.contextmanager
def served(index: Path, **chosen: Any) -> Iterator[httpx.Client]:
    """Serve an index; yields a client whose base is the server's address.

    Args:
        index: The index folder.
        chosen: Of `ServerOptions`; there is no limit on requests unless one is given.
    """
    options = ServerOptions(index=index, port=0, **{"rate_per_minute": 0, **chosen})
    bound = bind(options)
    app = create_app(options)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=60.0) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        bound.close()
