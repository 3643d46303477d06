"""open_clip and the Hugging Face hub, kept quiet, and asked for the network only where the cache lacks something."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

_HUB = threading.Lock()

_WEIGHTS = {".bin", ".pt", ".safetensors"}

MAX_LAYERS, MAX_SIZE = 1_000, 10_000_000
"""Of a model's configuration. The deepest towers have some sixty layers, the largest vocabularies 250,000 words."""


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's chatter off the terminal; an application that has set up logging still gets it."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # without any handler, logging.info() would install one on stderr for good
    try:
        with warnings.catch_warnings():
            # Left after force_quick_gelu: roberta-ViT-B-32, which has it though its one tag does not say so.
            warnings.filterwarnings("ignore", "QuickGELU mismatch", UserWarning)
            yield
    finally:
        root.removeHandler(silent)


def cached_models() -> list[str]:
    """Return the descriptors ``clip:MODEL/TAG`` whose weights the hub's cache holds; asks no network."""
    import open_clip
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    found = []
    for model, tag in open_clip.list_pretrained():
        place = open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "")
        names = place.strip("/").split("/")
        if len(names) < 2:
            continue
        snapshots = (cache / "--".join(["models", *names[:2]]) / "snapshots").glob("*/*")
        if any(file.suffix in _WEIGHTS and file.exists() for file in snapshots):
            found.append(f"clip:{model}/{tag}")
    return found


def cached_first(build: Callable[[], Any]) -> Any:
    """Build from the hub's cache without asking the network; where that fails and there is one, with it.

    The hub's client asks for a newer file even when it has one, and without a network tries each for 24 s.
    """
    from huggingface_hub import constants, get_session
    from open_clip import pretrained as hub

    with _HUB:
        online = hub.hf_hub_download
        hub.hf_hub_download = partial(online, local_files_only=True)
        try:
            return build()
        except Exception as error:  # as in ClipDescriptor._load
            try:
                get_session().head(constants.ENDPOINT, timeout=10)
            except Exception:  # requests' or httpx's, by the client's version
                raise error from None
        finally:
            hub.hf_hub_download = online
    return build()


def refuse_endless(config: Any, key: str = "") -> None:
    """Refuse a model's configuration of which a model could be built for ever.

    Raises:
        ValueError: It has more than `MAX_LAYERS` in one place, or a larger number than `MAX_SIZE`.
    """
    if isinstance(config, dict):
        for name, value in config.items():
            refuse_endless(value, name)
    elif isinstance(config, list):
        for value in config:
            refuse_endless(value, key)
    elif isinstance(config, int | float):
        most = MAX_LAYERS if key in ("layers", "depth") else MAX_SIZE
        if not abs(config) <= most:
            raise ValueError(f"{key} is {config:.6g}; the limit is {most:,}")
