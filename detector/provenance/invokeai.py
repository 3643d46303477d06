"""InvokeAI's records of three generations: `invokeai_metadata`, `sd-metadata`, and the command line of `Dream`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from detector.generation import Generation
from detector.provenance.settings import generation_from, parsed_json, prompt_text

TOOL = "InvokeAI"

_MAX_COMMAND = 20_000
_FLAG = re.compile(r"(?<!\S)-([A-Za-z])[ \t]*([^\s-]\S*)")
_FLAGS = {
    "s": "steps",
    "S": "seed",
    "C": "cfg_scale",
    "A": "sampler",
    "I": "init_image",
    "f": "strength",
    "W": "width",
    "H": "height",
}


def read_metadata(text: str) -> Generation | None:
    """Return what `invokeai_metadata` (version 3 on) says, or None where it is no such JSON."""
    values = parsed_json(text)
    if not isinstance(values, Mapping):
        return None
    return _as_told(values, str(values.get("generation_mode", "")))


def read_sd_metadata(text: str) -> Generation | None:
    """Return what `sd-metadata` (version 2) says, or None where it is no such JSON."""
    values = parsed_json(text)
    if not isinstance(values, Mapping):
        return None
    image = values.get("image")
    if isinstance(values.get("images"), list) and values["images"]:
        image = values["images"][0]
    if not isinstance(image, Mapping):
        return None
    about = {name: values[name] for name in ("model_weights", "app_version", "model_hash") if name in values}
    return _as_told({**image, **about}, str(image.get("type", "")))


def _as_told(values: Mapping[str, Any], mode: str) -> Generation:
    """Read the settings; a strength that is recorded with a picture made from text alone means nothing."""
    generation = generation_from(values, tool=TOOL)
    if "txt2img" in mode:
        return replace(generation, strength=None, source="")
    return generation


def read_dream(text: str) -> Generation | None:
    """Return what `Dream` (version 1) says: a prompt in quotes and flags; None where it is something else."""
    text = text[:_MAX_COMMAND].strip()
    end = text.rfind('"')
    if not text.startswith('"') or end < 1:
        return None
    flags = {
        _FLAGS[flag]: value.strip('"') for flag, value in _FLAG.findall(text[end + 1 :]) if flag in _FLAGS
    }
    if "init_image" not in flags:
        flags.pop("strength", None)
    return replace(generation_from(flags, tool=TOOL), prompt=prompt_text(text[1:end]))
