"""What an installation can do, what is missing for what, and the next step: behind `detector doctor`.

Packages are tried in a process of their own (`detector.probing`), since one that is broken may do more than raise.
Nothing said here names a person: the home folder is ``~``, and the account's name is left out of paths.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import index
from detector.probing import Answer, ask
from detector.versions import installed

FORMAT_VERSION = 1

DISTRIBUTION = "replication-detector"

LEAST_FREE_BYTES = 200_000_000

USES = {
    "server": "pages for artists and a REST API (detector serve)",
    "audit": "audits of models (detector audit)",
    "parquet": "lists and embeddings in Parquet files",
    "milvus": "indexes in Milvus",
    "ray": "clusters (--ray)",
}
"""What the extras are for; those for developing are not looked at."""

MODULES = {
    "faiss-cpu": "faiss",
    "milvus-lite": "milvus_lite",
    "open-clip-torch": "open_clip",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
}
"""Modules of packages that are called something else."""


class State(str, Enum):
    """How it is with one thing."""

    GOOD = "good"
    MISSING = "missing"
    """Not there, and not needed for the main job."""
    WARNING = "warning"
    """There, and not in order; the main job works all the same."""
    BROKEN = "broken"
    """The main job, or what was asked for, does not work."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was looked at.

    Attributes:
        area: ``program``, ``packages``, ``device``, ``weights``, ``uses``, ``trial`` or ``index``.
        name: What was looked at.
        value: What was found, in words.
        state: How it is with it.
        step: What to do about it; empty where nothing is to be done.
    """

    area: str
    name: str
    value: str
    state: State = State.GOOD
    step: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {
            "area": self.area,
            "name": self.name,
            "value": self.value,
            "state": self.state.value,
            "step": self.step,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an installation can do.

    Attributes:
        facts: In the order in which they are shown.
    """

    facts: tuple[Fact, ...]

    @property
    def works(self) -> bool:
        """Whether the main job, and what was asked for, works."""
        return all(fact.state is not State.BROKEN for fact in self.facts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "works": self.works,
            "facts": [fact.to_dict() for fact in self.facts],
        }


def diagnose(
    index_at: str | Path | None = None, *, on_progress: Callable[[str], None] | None = None
) -> Diagnosis:
    """Look at versions, packages, devices, weights, and whether a small index can be built and searched.

    Args:
        index_at: An index that should work too.
        on_progress: Told what is being tried.

    Returns:
        What was found; nothing is raised for what is broken.
    """
    from detector import __version__

    needed, extras = _requirements()
    here = installed([name for names in (needed, *extras.values()) for name in names])
    say = on_progress or (lambda text: None)
    wanted = None if index_at is None else os.fspath(index_at)
    tasks = [f"import {_module(name)}" for name in here]
    tasks += ["codecs", "devices", "models", "trial"]
    tasks += [f"index {wanted}"] if wanted is not None else []
    answers = ask(tasks, say)
    facts = [
        Fact("program", DISTRIBUTION, __version__),
        Fact("program", "Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Fact("program", "system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        *_packages(needed, here, answers),
        *_devices(answers),
        *_weights(answers),
        *_uses(extras, here, answers),
        _trial(answers["trial"]),
    ]
    if wanted is not None:
        facts.append(_index(wanted, answers[f"index {wanted}"]))
    hide = _nameless()
    return Diagnosis(tuple(Fact(f.area, f.name, hide(f.value), f.state, hide(f.step)) for f in facts))


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of packages needed, and those of each extra in `USES`, as the installation lists them."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    needed: list[str] = []
    extras: dict[str, list[str]] = {name: [] for name in USES}
    for line in lines:
        name = re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)", line)
        if extra is None:
            needed.append(name)
        elif extra[1] in extras and not (os.name == "nt" and '!= "Windows"' in line.replace("'", '"')):
            extras[extra[1]].append(name)
    return needed, extras


def _module(name: str) -> str:
    plain = re.sub(r"[-_.]+", "-", name).lower()
    return MODULES.get(plain, plain.replace("-", "_"))


# What is said of the answers


def _packages(needed: Sequence[str], here: dict[str, str], answers: dict[str, Answer]) -> Iterator[Fact]:
    again = f"pip install --force-reinstall {DISTRIBUTION}"
    if not needed:
        yield Fact(
            "packages",
            "list",
            "this copy is not installed, so what it needs is not known",
            State.WARNING,
            "Install it: pip install . in its folder",
        )
    for name in needed:
        if name not in here:
            step = f"Install it: pip install {name}"
            yield Fact("packages", name, "is not installed", State.BROKEN, step)
            continue
        error = answers[f"import {_module(name)}"].error
        if error:
            said = f"{here[name]} cannot be imported: {_line(error)}"
            yield Fact("packages", name, said, State.BROKEN, f"Install it anew: {again}")
        else:
            yield Fact("packages", name, here[name])


def _devices(answers: dict[str, Answer]) -> Iterator[Fact]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Fact("device", "processor cores", str(usable))
    memory = _memory_bytes()
    if memory:
        yield Fact("device", "memory", f"{memory / 2**30:.0f} GiB")
    cards = answers["devices"]
    if cards.error:
        yield Fact("device", "accelerator", f"cannot be asked for: {_line(cards.error)}", State.WARNING)
    else:
        yield Fact(
            "device", "accelerator", "; ".join(cards.value) or "none: neural descriptors run on the CPU"
        )
    try:
        free = shutil.disk_usage(Path.cwd()).free
    except OSError as error:
        yield Fact(
            "device", "working folder", f"cannot be read: {error}", State.WARNING, "Change to another one"
        )
        return
    little = free < LEAST_FREE_BYTES
    yield Fact(
        "device",
        "free disk here",
        f"{free / 1e9:,.1f} GB",
        State.WARNING if little else State.GOOD,
        "Free some space, or write the index elsewhere with --out" if little else "",
    )
    formats = answers["codecs"]
    if formats.error:
        yield Fact("device", "picture formats", f"unknown: {_line(formats.error)}", State.WARNING)
        return
    lacking = formats.value["lacking"]
    yield Fact(
        "device",
        "picture formats",
        ", ".join(formats.value["readable"]),
        State.WARNING if lacking else State.GOOD,
        f"To read {', '.join(lacking)}: pip install --force-reinstall pillow" if lacking else "",
    )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0


def _weights(answers: dict[str, Answer]) -> Iterator[Fact]:
    file = Path(index.__file__).parent / "weights" / "bundled" / "open_clip_model.safetensors"
    if file.is_file():
        yield Fact("weights", "clip:bundled", f"{file.stat().st_size / 1e6:.1f} MB, with the package")
    else:
        step = f"Install the package anew: pip install --force-reinstall {DISTRIBUTION}"
        yield Fact("weights", "clip:bundled", "its file is missing", State.BROKEN, step)
    offline = any(
        os.environ.get(name, "") not in ("", "0") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
    network = (
        "kept from the network by HF_HUB_OFFLINE"
        if offline
        else "the network is used for weights you name only"
    )
    models = answers["models"]
    if models.error:
        yield Fact("weights", "others in the cache", f"unknown: {_line(models.error)}", State.WARNING)
    else:
        yield Fact("weights", "others in the cache", f"{', '.join(models.value) or 'none'}; {network}")


def _uses(extras: dict[str, list[str]], here: dict[str, str], answers: dict[str, Answer]) -> Iterator[Fact]:
    for extra, names in extras.items():
        if not names:
            continue
        step = f'Install it: pip install "{DISTRIBUTION}[{extra}]"'
        missing = [name for name in names if name not in here]
        broken = [
            f"{name} {here[name]} cannot be imported: {_line(error)}"
            for name in names
            if name in here and (error := answers[f"import {_module(name)}"].error)
        ]
        if missing:
            yield Fact("uses", USES[extra], f"not installed: {', '.join(missing)}", State.MISSING, step)
        elif broken:
            yield Fact("uses", USES[extra], "; ".join(broken), State.WARNING, step.replace("it:", "it anew:"))
        else:
            yield Fact("uses", USES[extra], ", ".join(f"{name} {here[name]}" for name in names))


def _trial(answer: Answer) -> Fact:
    what = "index two pictures, check one"
    if answer.error:
        step = "Look at what is broken above; where nothing is, report this with detector doctor --json"
        return Fact("trial", what, _line(answer.error), State.BROKEN, step)
    found = answer.value
    if found["verdict"] != "replica":
        said = f"the copy was not found (verdict {found['verdict']}, level {found['level']})"
        return Fact(
            "trial", what, said, State.BROKEN, "Report this with the output of detector doctor --json"
        )
    return Fact("trial", what, f"the copy was found, level {found['level']}")


def _index(path: str, answer: Answer) -> Fact:
    name = Path(path).name or path
    if answer.error:
        kind, _, said = answer.error.partition(": ")
        ours = kind.endswith("Error") and kind.startswith(("Index", "Weights", "Descriptor", "Usage"))
        said = said if ours else answer.error
        step = "" if ours else "Try detector index check, or build the index anew from its pictures"
        return Fact("index", name, _line(said, 1000), State.BROKEN, step)
    found = answer.value
    size = f"{found['bytes_on_disk'] / 1e6:,.1f} MB"
    said = f"{found['references']:,} references by {', '.join(found['descriptors'])}; {size}; format "
    said += str(found["format_version"])
    if found["rejected"]:
        said += f"; {found['rejected']:,} files could not be used"
    if found["open_requests"]:
        said += f"; {found['open_requests']:,} removal requests are open"
    if not found["references"]:
        step = f"Add pictures: detector index add PICTURES --index {name}"
        return Fact("index", name, said, State.WARNING, step)
    return Fact("index", name, said)


def _line(text: str, most: int = 300) -> str:
    """Return a text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _nameless() -> Callable[[str], str]:
    """Return what takes the home folder and the account's name out of texts."""
    homes = {str(Path.home()), os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~"))}
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = ""

    def hide(text: str) -> str:
        for home in sorted(homes, key=len, reverse=True):
            if len(home) > 1:
                text = re.sub(re.escape(home) + r"(?=$|[^\w-])", "~", text)
        if user:
            text = re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\]|$)", "…", text)
        return text

    return hide
