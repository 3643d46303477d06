"""How a query was generated, on a page: a badge, a note, a fold with the settings, and what filters go by."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from detector.generation import Generation
from detector.provenance.infotext import write_infotext
from detector.report import ImageReport, Match
from detector.reports.markup import Markup, element, joined, text
from detector.reports.wording import (
    folded,
    one_line,
    plain,
    reconstruction_in_words,
    reconstruction_note,
    shortened,
)

FROM_PICTURE, FROM_TEXT = "img2img", "txt2img"

_NONE = "-"
"""Value of a filter's option for what is not recorded; an empty one stands for all."""

MAX_COUNTED = 10_000
"""Different prompts told apart for grouping; memory stays flat in scans of more."""

MAX_MODELS = 200
"""Models in the filter."""

_WAYS = {FROM_TEXT: "From text", FROM_PICTURE: "From a picture", "": "Not recorded"}


@dataclass(slots=True)
class Generated:
    """What the filters of a page can go by, gathered over all queries.

    Attributes:
        models: Number of each model in the filter.
        recorded: Queries whose generation is recorded.
    """

    models: dict[str, int] = field(default_factory=dict)
    recorded: int = 0
    _by_model: Counter[str] = field(default_factory=Counter)
    _ways: Counter[str] = field(default_factory=Counter)
    _prompts: Counter[str] = field(default_factory=Counter)

    def add(self, report: ImageReport, *, finding: bool) -> None:
        """Count a query."""
        made = report.generation
        self.recorded += made is not None
        self._ways[way_of(made)] += 1
        model = made.model if made is not None else ""
        if model and len(self.models) < MAX_MODELS:
            self.models.setdefault(model, len(self.models))
        if model in self.models or not model:
            self._by_model[model] += 1
        key = prompt_key(made)
        if finding and (key in self._prompts or len(self._prompts) < MAX_COUNTED):
            self._prompts[key] += 1

    def choices(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Return name, label and options of each filter that has something to choose between."""
        found = []
        if len(self._by_model) > 1:
            models = [
                (str(self.models[name]) if name else _NONE, shortened(plain(name), 48) or "Not recorded")
                for name, _ in self._by_model.most_common()
            ]
            found.append(("model", "Model", [("", "All models"), *models]))
        if len(self._ways) > 1:
            ways = [(way or _NONE, label) for way, label in _WAYS.items() if self._ways[way]]
            found.append(("way", "Made", [("", "In any way"), *ways]))
        groups = []
        if len(self._prompts) > 1 and max(self._prompts.values()) > 1:
            groups.append(("prompt", "Prompt"))
        if len(self._by_model) > 1:
            groups.append(("model", "Model"))
        if groups:
            found.append(("group", "Group by", [("", "Nothing"), *groups]))
        return found


def way_of(generation: Generation | None) -> str:
    """Return what the filter calls the way that a picture was made."""
    if generation is None:
        return ""
    return FROM_PICTURE if generation.is_reconstruction else FROM_TEXT


def prompt_key(generation: Generation | None) -> str:
    """Return what pictures of the same prompt share, or an empty string where none is recorded."""
    if generation is None or not generation.prompt:
        return ""
    return hashlib.sha256(generation.prompt.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def attributes(generation: Generation | None, models: dict[str, int]) -> dict[str, str | int | None]:
    """Return the attributes of a card or row that filters read; none where nothing is recorded."""
    return {
        "data_way": way_of(generation) or None,
        "data_model": models.get(generation.model) if generation is not None else None,
        "data_prompt": prompt_key(generation) or None,
    }


def findable(generation: Generation | None) -> str:
    """Return what the text search finds a picture by, folded."""
    return "" if generation is None else folded(f"{generation.prompt} {generation.model}")[:2000]


def badge(generation: Generation | None) -> Markup | None:
    """Return the mark of a picture that was made from another one."""
    if generation is None or not generation.is_reconstruction:
        return None
    return element("span", shortened(plain(reconstruction_in_words(generation)), 90), class_="tag attempt")


def note(generation: Generation | None, match: Match) -> Markup | None:
    """Return what closeness means for such a picture."""
    if generation is None or not generation.is_reconstruction:
        return None
    return element("p", reconstruction_note(generation, match), class_="note attempt")


def fold(generation: Generation | None) -> Markup | None:
    """Return the settings, folded, with a text that makes the picture again; nothing where none is recorded."""
    if generation is None:
        return None
    guidance = "" if generation.guidance is None else f"{generation.guidance:g}"
    strength = "" if generation.strength is None else f"{generation.strength:g}"
    rows = {
        "Prompt": _lines(generation.prompt, class_="prompt"),
        "Negative": _lines(generation.negative_prompt),
        "Model": text(generation.model),
        "Seed": text("" if generation.seed is None else str(generation.seed)),
        "Sampler": text(generation.sampler),
        "Steps": text("" if generation.steps is None else str(generation.steps)),
        "Guidance": text(guidance),
        "Strength": text(strength),
        "Went in": element("bdi", generation.source) if generation.source else text(""),
        "Recorded by": text(generation.tool),
    }
    shown = [element("div", element("dt", k), element("dd", v)) for k, v in rows.items() if v]
    again = write_infotext(generation)
    if again:
        shown.append(element("div", element("dt", "Make it again"), element("dd", _lines(again, tag="pre"))))
    if not shown:
        return None
    seed = f"seed {generation.seed}" if generation.seed is not None else ""
    prompt = f"“{shortened(one_line(generation.prompt), 60)}”" if generation.prompt else ""
    brief = ", ".join(filter(None, [prompt, seed])) or plain(generation.tool)
    summary = element("summary", "How it was generated", " ", element("span", brief, class_="why"))
    return element("details", summary, element("dl", *shown), class_="how")


def _lines(value: str, *, tag: str = "span", class_: str | None = None) -> Markup:
    """Return text of several lines, each escaped by itself so that its breaks stay breaks."""
    if not value:
        return text("")
    return element(tag, joined((text(line) for line in value.split("\n")), "\n"), class_=class_)
