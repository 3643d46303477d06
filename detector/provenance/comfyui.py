"""ComfyUI's graphs → `Generation`: from the picture that was saved back to the sampler and what fed it.

A file holds two JSON texts: `prompt`, the graph as it ran (node id → ``class_type`` and ``inputs``, where a link
is ``[node id, output]``), and `workflow`, the graph as drawn. The first is read; the second where it is alone.
Anyone can write nodes, so they are known by what feeds what rather than by name wherever that is enough.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from detector.generation import Generation
from detector.provenance.settings import (
    MAX_PROMPT,
    extra_from,
    name_text,
    number,
    parsed_json,
    prompt_text,
    share,
    whole,
)

TOOL = "ComfyUI"

MAX_NODES = 5_000
"""Graphs with more nodes are not read; the largest that are passed around have some hundreds."""

MAX_DELIMITER = 100
"""Characters between texts that a node joins."""

_MAX_DEPTH = 30

_FOLDER = re.compile(r" \[(?:input|output|temp)\]$")  # what ComfyUI adds to the name of a loaded picture

# Links that carry no picture and no latent: everything else is followed from a saved picture to what made it.
_NO_PICTURE = frozenset(
    {
        *("model", "positive", "negative", "conditioning", "vae", "clip", "control_net", "clip_vision"),
        *(
            "clip_vision_output",
            "style_model",
            "noise",
            "guider",
            "sampler",
            "sigmas",
            "mask",
            "seed",
            "text",
        ),
        *("upscale_model", "prompt", "options", "bbox_detector", "sam_model_opt"),
    }
)
_NO_TEXT = frozenset(
    {
        *("model", "vae", "clip", "control_net", "clip_vision", "clip_vision_output", "style_model", "image"),
        *("images", "pixels", "mask", "latent", "samples", "latent_image"),
    }
)
_HELPERS = ("sigmas", "sampler", "noise", "guider")
_EDITS = ("ReferenceLatent", "TextEncodeQwenImageEdit")
"""Nodes that put a picture into the conditioning, for models that edit one."""

_LOADS = ("ckpt_name", "unet_name", "gguf_name", "model_name", "model_path")
_TEXTS = ("text", "string", "value", "prompt", "clip_l", "clip_g", "t5xxl")

# Order of the values that a drawn node shows, of the nodes that ComfyUI itself has; None: not an input.
_WIDGETS: dict[str, tuple[str | None, ...]] = {
    "KSampler": ("seed", None, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", None, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", None, "cfg"),
    "RandomNoise": ("noise_seed",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model"),
    "LoadImage": ("image",),
    "EmptyLatentImage": ("width", "height"),
}


def read_graph(prompt: Any, workflow: Any = None) -> Generation | None:
    """Return what a graph says about the picture that it saved.

    Args:
        prompt: The graph as it ran: JSON text, or what it says.
        workflow: The graph as drawn, likewise; read where `prompt` is none.

    Returns:
        The generation, or None where there is no graph. Of several samplers in a row (a second pass at a
        higher resolution, a refiner) the first counts: it begins from noise or from the picture that went in.
    """
    nodes = _nodes(_read(prompt)) or _nodes(_as_run(_read(workflow)))
    if not nodes:
        return None
    graph = _Graph(nodes)
    samplers = graph.samplers()
    if not samplers:
        return Generation(tool=TOOL, source=graph.loaded())
    return graph.generation(samplers[-1], passes=len(samplers))


def _read(graph: Any) -> Any:
    return parsed_json(graph) if isinstance(graph, str) else graph


def _nodes(graph: Any) -> dict[str, _Node]:
    """Return the nodes of a graph as it ran; what has another form is left out."""
    if not isinstance(graph, Mapping) or len(graph) > MAX_NODES:
        return {}
    return {
        str(key): _Node(node["class_type"], node["inputs"])
        for key, node in graph.items()
        if isinstance(node, Mapping)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), Mapping)
    }


def _as_run(workflow: Any) -> dict[str, Any]:
    """Return a drawn graph in the form of one that ran, with the values of the nodes in `_WIDGETS`."""
    drawn = workflow.get("nodes") if isinstance(workflow, Mapping) else None
    wires = workflow.get("links") if isinstance(workflow, Mapping) else None
    if not isinstance(drawn, list) or len(drawn) > MAX_NODES:
        return {}
    origins = {
        wire[0]: [str(wire[1]), wire[2]]
        for wire in (wires if isinstance(wires, list) else [])
        if isinstance(wire, list) and len(wire) >= 3 and isinstance(wire[0], int)
    }
    graph: dict[str, Any] = {}
    for node in drawn:
        kind = node.get("type") if isinstance(node, Mapping) else None
        if not isinstance(kind, str):
            continue
        values = node.get("widgets_values")
        shown = values if isinstance(values, list) else []
        inputs = {name: value for name, value in zip(_WIDGETS.get(kind, ()), shown, strict=False) if name}
        for plug in node.get("inputs") if isinstance(node.get("inputs"), list) else []:
            if isinstance(plug, Mapping) and isinstance(plug.get("link"), int) and plug["link"] in origins:
                inputs[str(plug.get("name"))] = origins[plug["link"]]
        graph[str(node.get("id"))] = {"class_type": kind, "inputs": inputs}
    return graph


class _Node:
    __slots__ = ("inputs", "kind")

    def __init__(self, kind: str, inputs: Mapping[str, Any]) -> None:
        self.kind = kind
        self.inputs = inputs


class _Graph:
    """A graph that ran; every walk through it visits a node once, so that cycles end."""

    def __init__(self, nodes: dict[str, _Node]) -> None:
        self._nodes = nodes
        self._texts: dict[str, str] = {}
        self._pictureless: set[str] = set()  # nodes that no loaded picture led to

    def _linked(self, value: Any) -> str | None:
        """Return the id of the node that a value links to."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            key = str(value[0])
            return key if key in self._nodes else None
        return None

    def _walk(
        self, start: Collection[str], follows: Callable[[str], bool], seen: set[str] | None = None
    ) -> Iterator[str]:
        """Yield node ids, nearest first, against the direction of the links that `follows` admits by name.

        Nodes in `seen` are passed over; those met are added. Walks from each of thousands of nodes that share it take
        no longer than one.
        """
        seen = set() if seen is None else seen
        waiting = deque(key for key in start if key not in seen)
        seen.update(start)
        while waiting:
            key = waiting.popleft()
            yield key
            for name, value in self._nodes[key].inputs.items():
                other = self._linked(value) if follows(name) else None
                if other is not None and other not in seen:
                    seen.add(other)
                    waiting.append(other)

    def samplers(self) -> list[str]:
        """Return the samplers behind the saved picture, the last to run first; else any there are."""
        seen: set[str] = set()
        for _, key in self._outputs():
            found = [each for each in self._walk([key], _carries_picture, seen) if self._is_sampler(each)]
            if found:
                return found
        return [key for key in self._nodes if self._is_sampler(key)][:1]

    def loaded(self) -> str:
        """Return the name of the picture behind the saved one in a graph without a sampler."""
        return next((name for _, key in self._outputs() if (name := self._picture([key]))), "")

    def _outputs(self) -> list[tuple[int, str]]:
        """Return the nodes that save pictures, then those that show them."""
        ranked = (_output_rank(item) for item in self._nodes.items())
        return sorted((place for place in ranked if place[0] < 2), key=lambda place: place[0])

    def _is_sampler(self, key: str) -> bool:
        inputs = self._nodes[key].inputs
        guided = any(self._linked(inputs.get(name)) for name in ("positive", "guider"))
        return guided and any(name in inputs for name in ("seed", "noise_seed", "noise"))

    def generation(self, sampler: str, *, passes: int) -> Generation:
        """Return what one sampler and what feeds it say."""
        parts = list(self._walk([sampler], lambda name: name in _HELPERS))
        positive, reference, guidance = self._conditioning(parts, ("positive", "conditioning"))
        negative, _, _ = self._conditioning(parts, ("negative",))
        source = self._picture([sampler]) or reference
        went_in = bool(self._picture([sampler]))
        cfg = self._first(parts, ("cfg",), number)
        model, loras = self._model(parts)
        rest = {
            "scheduler": self._first(parts, ("scheduler",), name_text),
            "cfg": cfg if guidance is not None else None,
            "loras": ", ".join(loras),
            "Size": self._size([sampler]),
            "passes": passes if passes > 1 else None,
        }
        return Generation(
            tool=TOOL,
            prompt=prompt_text(positive),
            negative_prompt=prompt_text(negative),
            model=model,
            sampler=self._first(parts, ("sampler_name",), name_text) or "",
            seed=self._first(parts, ("seed", "noise_seed"), whole),
            steps=self._first(parts, ("steps",), whole),
            guidance=cfg if guidance is None else guidance,
            strength=self._strength(parts) if went_in else None,
            source=source,
            extra=extra_from(rest),
        )

    def _first(self, keys: Collection[str], names: Collection[str], read: Callable[[Any], Any]) -> Any:
        """Return the first value of one of these names that can be read, links to a node of one value included."""
        for key in keys:
            for name in names:
                found = read(self._value(self._nodes[key].inputs.get(name)))
                if found not in (None, ""):
                    return found
        return None

    def _value(self, value: Any) -> Any:
        for _ in range(_MAX_DEPTH):
            key = self._linked(value)
            if key is None:
                return value
            inputs = self._nodes[key].inputs
            value = next(
                (inputs[name] for name in ("value", "seed", "int", "float", "number") if name in inputs), None
            )
        return None

    def _strength(self, parts: Collection[str]) -> float | None:
        """Return the share of the noise that was put over the picture: `denoise`, or where the steps begin."""
        told = self._first(parts, ("denoise",), share)
        if told is not None:
            return float(told)
        steps = self._first(parts, ("steps",), whole)
        begin = self._first(parts, ("start_at_step",), whole)
        return share(1 - begin / steps) if steps and begin is not None else None

    def _picture(self, start: Collection[str]) -> str:
        """Return the name of the nearest picture that was loaded and led here."""
        seen = set(self._pictureless)
        for key in self._walk(start, _carries_picture, seen):
            node = self._nodes[key]
            if node.kind.startswith(("LoadImage", "Load Image")) and not node.kind.startswith(
                "LoadImageMask"
            ):
                name = name_text(node.inputs.get("image"))
                return _FOLDER.sub("", name) or "a picture without a name"
        self._pictureless = seen
        return ""

    def _size(self, start: Collection[str]) -> str:
        for key in self._walk(start, _carries_picture):
            inputs = self._nodes[key].inputs
            if self._nodes[key].kind.startswith("Empty"):
                width, height = (whole(self._value(inputs.get(side))) for side in ("width", "height"))
                return f"{width}x{height}" if width and height else ""
        return ""

    def _model(self, parts: Collection[str]) -> tuple[str, list[str]]:
        """Return the name of the checkpoint, and the adapters on the way to it."""
        loras: list[str] = []
        for key in self._walk(parts, lambda name: name == "model" or name in _HELPERS):
            inputs = self._nodes[key].inputs
            adapter = name_text(inputs.get("lora_name"))
            if adapter:
                weight = number(self._value(inputs.get("strength_model")))
                loras.append(adapter if weight is None else f"{adapter} ({weight:g})")
            for name in _LOADS:
                if isinstance(inputs.get(name), str):
                    return name_text(inputs[name]), loras
        return "", loras

    def _conditioning(self, parts: Collection[str], names: Collection[str]) -> tuple[str, str, float | None]:
        """Return the text behind a conditioning, a picture in it, and a guidance scale on the way."""
        start = next(
            (
                link
                for key in parts
                for name in names
                if self._linked(link := self._nodes[key].inputs.get(name))
            ),
            None,
        )
        texts: dict[str, None] = {}
        reference, guidance = "", None
        seen: set[tuple[str, bool]] = set()
        waiting = deque([(start, 0)] if start is not None else [])
        while waiting:
            link, depth = waiting.popleft()
            key = self._linked(link)
            second = link[1] == 1
            if key is None or (key, second) in seen or depth > MAX_NODES:
                continue
            seen.add((key, second))
            node = self._nodes[key]
            if node.kind == "ConditioningZeroOut":
                continue
            if node.kind == "FluxGuidance" and guidance is None:
                guidance = number(self._value(node.inputs.get("guidance")))
            if node.kind.startswith(_EDITS):
                reference = reference or self._picture([key])
            own = [self._text(node.inputs[name]) for name in node.inputs if _is_text(name)]
            texts.update(dict.fromkeys(text for text in own if text))
            paired = all(self._linked(node.inputs.get(name)) for name in ("positive", "negative"))
            skip = ("positive" if second else "negative",) if paired else ()
            waiting.extend(
                (value, depth + 1)
                for name, value in node.inputs.items()
                if name not in _NO_TEXT and name not in skip and not _is_text(name) and self._linked(value)
            )
        return "\n".join(texts), reference, guidance

    def _text(self, value: Any, depth: int = 0) -> str:
        """Return a text, or what the nodes that make it join together, as far as they show it."""
        key = self._linked(value)
        if key is None:
            return value.strip()[:MAX_PROMPT] if isinstance(value, str) else ""
        if key not in self._texts and depth <= _MAX_DEPTH:
            self._texts[key] = ""  # what a cycle finds
            inputs = self._nodes[key].inputs
            if isinstance(inputs.get("populated_text"), str):  # wildcards, as they came out
                parts = [inputs["populated_text"].strip()]
            else:
                parts = [self._text(inputs[name], depth + 1) for name in inputs if _is_text(name)]
            joiner = inputs.get("delimiter")
            between = joiner[:MAX_DELIMITER] if isinstance(joiner, str) else " "
            self._texts[key] = between.join(dict.fromkeys(part for part in parts if part))[:MAX_PROMPT]
        return self._texts.get(key, "")


def _output_rank(item: tuple[str, _Node]) -> tuple[int, str]:
    """Return 0 for nodes that save pictures, 1 for those that show them, 2 for others; and the id."""
    kind = item[1].kind.casefold().replace(" ", "")
    if "image" in kind or "webp" in kind or "png" in kind:
        rank = 0 if "save" in kind else 1 if "preview" in kind else 2
        return rank, item[0]
    return 2, item[0]


def _carries_picture(name: str) -> bool:
    return name not in _NO_PICTURE


def _is_text(name: str) -> bool:
    return name.startswith(_TEXTS)
