"""AUTOMATIC1111's text of parameters, which Forge, SD.Next, Fooocus and many others write too: read and written.

Its form (modules/infotext_utils.py of the web UI): the prompt, possibly of several lines; a line that begins
with ``Negative prompt:``, possibly followed by more; a last line of settings, ``Name: value`` separated by
commas, where a value that holds a comma, colon or line break stands as a JSON string.
"""

from __future__ import annotations

import json
import re
from typing import Any

from detector.generation import Generation
from detector.provenance.settings import extra_from, name_text, number, prompt_text, share, whole

MAX_TEXT = 200_000
"""Longest text looked at, in characters."""

_MAX_SETTINGS = 500
_MAX_VALUE = 20_000
_NEGATIVE = "Negative prompt:"
_LAST = re.compile(r"^[ \t]*Steps:[ \t]*\d+[ \t]*(?:,|$)", re.MULTILINE)
_NAME = re.compile(r"[^\W_][\w ./()+-]{0,60}")
_KNOWN = frozenset({"Seed", "Sampler", "CFG scale", "Model", "Size", "Model hash"})
_DECODER = json.JSONDecoder()


def read_infotext(text: str) -> Generation | None:
    """Return what such a text says, or None where it is none: neither settings nor a negative prompt.

    A “Denoising strength” beside settings of the second pass (“Hires …”) belongs to that pass, which begins
    from the model's own picture, so it stays in `extra`.
    """
    text = text[:MAX_TEXT].replace("\r\n", "\n").strip()
    place = max((found.start() for found in _LAST.finditer(text)), default=-1)
    if place < 0:
        place = text.rfind("\n") + 1
        if not _KNOWN & _settings(text[place:]).keys():
            place = len(text)
    settings = _settings(text[place:])
    prompt, found, negative = text[:place].partition("\n" + _NEGATIVE)
    if not found and prompt.startswith(_NEGATIVE):
        prompt, found, negative = "", _NEGATIVE, prompt[len(_NEGATIVE) :]
    if not settings and not found:
        return None
    second_pass = any(name.casefold().startswith(("hires", "first pass")) for name in settings)
    strength = None if second_pass else share(settings.get("Denoising strength"))
    taken: dict[str, Any] = {
        "prompt": prompt_text(prompt),
        "negative_prompt": prompt_text(negative),
        "model": name_text(settings.pop("Model", "")),
        "sampler": name_text(settings.pop("Sampler", "")),
        "seed": _popped(settings, "Seed", whole),
        "steps": _popped(settings, "Steps", whole),
        "guidance": _popped(settings, "CFG scale", number),
        "strength": strength,
    }
    if strength is not None:
        del settings["Denoising strength"]
    return Generation(tool=_tool(settings), **taken, extra=extra_from(settings))


def _popped(settings: dict[str, Any], name: str, read: Any) -> Any:
    """Take a value out of the settings where it can be read; otherwise it stays there."""
    value = read(settings.get(name))
    if value is not None:
        del settings[name]
    return value


def _tool(settings: dict[str, Any]) -> str:
    version = str(settings.get("Version", ""))
    app = str(settings.get("App", ""))
    if app.startswith("SD.Next"):
        return "SD.Next"
    for name in ("Fooocus", "ComfyUI"):
        if version.startswith(name):
            return name
    return "Forge" if re.match(r"f\d|neo|classic", version) else "AUTOMATIC1111"


def _settings(line: str) -> dict[str, Any]:
    """Return ``Name: value`` pairs; one pass, so that no text takes long."""
    pairs: dict[str, Any] = {}
    place = 0
    for _ in range(_MAX_SETTINGS):
        colon = line.find(":", place)
        if colon < 0:
            break
        # Words before the last comma belong to a value that should have been quoted.
        name = line[max(place, line.rfind(",", place, colon) + 1) : colon].strip()
        begin = colon + 1
        while line[begin : begin + 1] in (" ", "\t"):
            begin += 1
        value, place = _value(line, begin)
        if _NAME.fullmatch(name):
            pairs.setdefault(name, value)
    return pairs


def _value(line: str, begin: int) -> tuple[Any, int]:
    """Return the value that begins there, and where the next pair begins."""
    if line[begin : begin + 1] in ('"', "[", "{"):
        try:
            value, length = _DECODER.raw_decode(line[begin : begin + _MAX_VALUE])
        except (ValueError, RecursionError):
            pass
        else:
            comma = line.find(",", begin + length)
            return value, comma + 1 if comma >= 0 else len(line)
    comma = line.find(",", begin)
    end = comma if comma >= 0 else len(line)
    return line[begin:end].strip(), end + 1


def write_infotext(generation: Generation) -> str:
    """Return a generation in that form: for pasting into a tool, and readable without one."""
    lines = [generation.prompt] if generation.prompt else []
    if generation.negative_prompt:
        lines.append(f"{_NEGATIVE} {generation.negative_prompt}")
    values = {
        "Steps": generation.steps,
        "Sampler": generation.sampler,
        "Schedule type": generation.extra.get("Schedule type") or generation.extra.get("scheduler"),
        "CFG scale": generation.guidance,
        "Seed": generation.seed,
        "Size": generation.extra.get("Size"),
        "Model hash": generation.extra.get("Model hash"),
        "Model": generation.model,
        "Denoising strength": generation.strength,
        "Init image": generation.source,
    }
    said = [f"{name}: {_quoted(value)}" for name, value in values.items() if value not in (None, "")]
    return "\n".join([*lines, ", ".join(said)] if said else lines)


def _quoted(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',:\n"') else text
