"""What the shell proposes as values of options when the Tab key is pressed: fast, so nothing heavy is imported.

A function returns nothing where it knows nothing; the shell then proposes files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

LEVELS = ("1", "2", "3", "4", "5", "never")
DESCRIPTORS = ("pdq", "phash", "keypoints", "clip:bundled", "clip:local-dir:", "clip:hf-hub:", "sscd:")
SHOWN_FOLDERS = 1_000
"""Entries of a folder that are looked at: a folder of a million pictures must not hold up the shell."""


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what proposes these words."""

    def propose(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return propose


def several_of(*words: str) -> Callable[[str], list[str]]:
    """Return what proposes these words in a list with commas between, each once."""

    def propose(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        taken = before.split(",")
        return [before + comma + word for word in words if word.startswith(begun) and word not in taken]

    return propose


def licences(incomplete: str) -> list[str]:
    """Propose SPDX ids and the other forms of --allow-licence."""
    from detector.licences import VOCABULARY

    known = ["public-domain", "CC-BY-*", "artist:", "source:", *sorted({v.id for v in VOCABULARY.values()})]
    return [word for word in known if word.startswith(incomplete)]


def indexes(incomplete: str) -> list[str]:
    """Propose index folders and Milvus Lite databases."""
    from itertools import islice

    folder, begun = _split(incomplete)
    found = []
    try:
        for entry in islice(folder.iterdir(), SHOWN_FOLDERS):
            if entry.name.startswith(begun) and (
                entry.suffix == ".db" or (entry / "manifest.json").is_file()
            ):
                found.append(incomplete[: len(incomplete) - len(begun)] + entry.name)
    except OSError:
        return []
    return sorted(found)


def _split(incomplete: str) -> tuple[Path, str]:
    """Return the folder that a begun path lies in, and the beginning of its name."""
    head, slash, name = incomplete.rpartition("/")
    return Path(head + slash or ".").expanduser(), name
