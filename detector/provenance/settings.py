"""Named settings → `Generation`: what a seed, a sampler, a guidance scale is called by tools and lists.

Names are compared without regard to case, spaces, dashes and underscores. For each field the first of these
that says something is taken; what is not taken is kept in `Generation.extra`:

- prompt: prompt, positive_prompt, positive
- negative_prompt: negative_prompt, negative, uc
- model: model, model_name, model_id, checkpoint, base_model, model_weights, sd_model_name, pipeline
- sampler: sampler, sampler_name, scheduler
- seed: seed, noise_seed
- steps: steps, num_inference_steps, num_steps, sampling_steps
- guidance: guidance, guidance_scale, cfg_scale, cfg
- strength: strength, denoising_strength, img2img_strength, init_image_creativity, denoise
- source: init_image, init_image_path, init_img, input_image, source_image, image_path; and `source`, which lists
  of artworks use for an address: only beside a strength
- tool: tool, generator, software, app
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from detector.generation import Generation
from index.credits import as_text, clean_text, normalised

MAX_PROMPT = 10_000
"""Longest prompt taken over, in characters; the longest that tools are used with have some 2,000."""

MAX_NAME = 500
"""Longest name of a model, sampler, tool or picture, and longest value in `Generation.extra`, in characters."""

MAX_EXTRA = 60
"""Most values in `Generation.extra`."""

MAX_SEED = 2**64
"""Tools draw seeds of at most 64 bits; what is larger is no seed."""

_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "positiveprompt", "positive"),
    "negative_prompt": ("negativeprompt", "negative", "uc"),
    "model": (
        *("model", "modelname", "modelid", "checkpoint", "basemodel", "modelweights", "sdmodelname"),
        "pipeline",
    ),
    "sampler": ("sampler", "samplername", "scheduler"),
    "seed": ("seed", "noiseseed"),
    "steps": ("steps", "numinferencesteps", "numsteps", "samplingsteps"),
    "guidance": ("guidance", "guidancescale", "cfgscale", "cfg"),
    "strength": ("strength", "denoisingstrength", "img2imgstrength", "initimagecreativity", "denoise"),
    "source": ("initimage", "initimagepath", "initimg", "inputimage", "sourceimage", "imagepath"),
    "tool": ("tool", "generator", "software", "app"),
}
_WHOLE = ("seed", "steps")
_NUMBERS = (*_WHOLE, "guidance", "strength")
_NAMED_BY = ("name", "model_name", "image_name", "path", "prompt")  # keys of what InvokeAI writes as objects


def generation_from(
    values: Mapping[str, Any], *, tool: str = "", omit: Collection[str] = (), source_named: bool = False
) -> Generation:
    """Return what settings say.

    Args:
        values: Name → value of any type, as read.
        tool: What recorded them; empty takes a column of that meaning.
        omit: Names that are no settings, such as the file name.
        source_named: A value named `source` is the picture that went in, whatever else is said.

    Returns:
        The generation; empty where nothing in `values` says how a picture was generated.
    """
    left: dict[str, Any] = {}
    by_name: dict[str, str] = {}
    for name, value in values.items():
        if name not in omit and value is not None and len(left) <= 10 * MAX_EXTRA:
            left[name] = value
            by_name.setdefault(normalised(name), name)
    found: dict[str, Any] = {}
    for role, names in _NAMES.items():
        for name in names:
            told = by_name.get(name)
            value = _field(role, left[told]) if told in left else None
            if told is not None and value not in (None, ""):
                found[role] = value
                del left[told]
                break
    source = by_name.get("source")
    if "source" not in found and source in left and (source_named or found.get("strength") is not None):
        found["source"] = name_text(left.pop(source))
    if tool:
        found["tool"] = tool
    return Generation(**found, extra=extra_from(left))


def _field(role: str, value: Any) -> Any:
    if role in _WHOLE:
        return whole(value)
    if role == "strength":
        return share(value)
    if role in _NUMBERS:
        return number(value)
    return prompt_text(value) if role in ("prompt", "negative_prompt") else name_text(value)


def number(value: Any) -> float | None:
    """Return a finite number, or None for everything else; text is read as a number."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def share(value: Any) -> float | None:
    """Return a number between 0 and 1, or None for everything else."""
    found = number(value)
    return found if found is not None and 0.0 <= found <= 1.0 else None


def whole(value: Any) -> int | None:
    """Return a whole number of at most 64 bits, exactly, or None for everything else."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = int(value)
        except ValueError:  # "42.0", as tables write whole numbers beside empty cells
            value = number(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < MAX_SEED else None


def prompt_text(value: Any) -> str:
    """Return a prompt: text, or InvokeAI's list of weighted texts joined."""
    if isinstance(value, list):
        value = "\n".join(part for part in (_named(each) for each in value[:20]) if part)
    return clean_text(_named(value).replace("\r\n", "\n"), max_length=MAX_PROMPT)


def name_text(value: Any) -> str:
    """Return a name: text, a number, or the name in an object; empty for everything else."""
    return clean_text(_named(value), max_length=MAX_NAME).replace("\n", " ")


def _named(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in _NAMED_BY if isinstance(value.get(key), str)), "")
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and whole(value) else ""


def extra_from(values: Mapping[str, Any]) -> dict[str, str]:
    """Return other values as text, those that say something, at most `MAX_EXTRA` of them."""
    extra: dict[str, str] = {}
    for name, value in values.items():
        if len(extra) == MAX_EXTRA:
            break
        if value is None or value == [] or value == {}:
            continue
        text = clean_text(as_text(value), max_length=MAX_NAME)
        if text and isinstance(name, str):
            extra[clean_text(name, max_length=80)] = text
    return extra


def says_something(generation: Generation) -> bool:
    """Return whether anything but the tool and extras is recorded."""
    empty = Generation(tool=generation.tool, extra=generation.extra)
    return generation != empty


def filled_from(own: Generation | None, other: Generation | None) -> Generation | None:
    """Return `own`, what it leaves empty taken from `other`; own values win, also in `extra`."""
    if own is None or other is None:
        return own or other
    gaps = {
        each.name: getattr(other, each.name)
        for each in fields(Generation)
        if each.name != "extra" and getattr(own, each.name) in (None, "")
    }
    return replace(own, **gaps, extra={**other.extra, **own.extra})


def parsed_json(text: str) -> Any:
    """Return what JSON says, or None where it is none; NaN, which Python's writers leave in, becomes None."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
