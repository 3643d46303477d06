"""One call of a pipeline: what was asked for, and the same call for one of its pictures with another seed."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.generation import Generation
from detector.reports.wording import file_name
from index.errors import UsageError

TOOL = "detector"
"""`Generation.tool` of what a guard records."""

# Arguments that hold one value a prompt where they are lists, arrays or tensors. IP adapters take a list by adapter,
# edits a list by edit.
_BY_PROMPT = re.compile(r"^(?!(negative_)?ip_adapter|editing_).*(prompt|embed|image|mask|class_labels)")
_STARTED_FROM = ("image", "mask_image", "masked_image_latents")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Call:
    """A pipeline's arguments by name. The pipeline is not changed."""

    def __init__(self, pipeline: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take the arguments apart; nothing runs yet."""
        self.pipeline = pipeline
        self.maker = type(pipeline).__name__
        self._asked = args, dict(kwargs)
        self._loose: tuple[Any, ...] = ()
        self._given: dict[str, Any] = dict(kwargs)
        self._defaults: dict[str, Any] = {}
        self._open = True
        with contextlib.suppress(
            TypeError, ValueError
        ):  # the pipeline itself says what is wrong with its arguments
            self._bind(inspect.signature(pipeline))
        self._generators = self._noted_generators()

    def _bind(self, signature: inspect.Signature) -> None:
        args, kwargs = self._asked
        kinds = {name: each.kind for name, each in signature.parameters.items()}
        given: dict[str, Any] = {}
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                self._loose = value
            elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
                given |= value
            else:
                given[name] = value
        self._given = given
        self._open = inspect.Parameter.VAR_KEYWORD in kinds.values()
        self._defaults = {
            name: each.default
            for name, each in signature.parameters.items()
            if each.default is not each.empty
        }

    def require_pictures(self) -> None:
        """Refuse what cannot be checked, before anything is generated.

        Raises:
            UsageError: Latents are asked for.
        """
        if self.argument("output_type") == "latent":
            raise UsageError(
                "output_type='latent' gives no pictures, so a guard has nothing to check. Ask for 'pil', 'np' or "
                "'pt', or decode the latents of the bare pipeline and give the pictures to Detector.check_many"
            )

    def argument(self, name: str) -> Any:
        """Return an argument as given, else its default, else None."""
        return self._given.get(name, self._defaults.get(name))

    def prompts(self) -> list[str]:
        """Return the prompts as text, none where there are only embeddings."""
        asked = self.argument("prompt")
        texts = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, (list, tuple)) else []
        return [text for text in texts if isinstance(text, str)]

    def run(self) -> Any:
        """Call the pipeline with exactly what was given."""
        args, kwargs = self._asked
        return self.pipeline(*args, **kwargs)

    def run_one(self, position: int, total: int, seed: int) -> Any:
        """Call the pipeline for one picture of the call, from another seed.

        Args:
            position: Of the picture in the result.
            total: Pictures in the result.
            seed: For a new generator, on the device of the one given.
        """
        arguments = self.one(position, total)
        if "generator" in self._defaults or "generator" in self._given or self._open:
            arguments["generator"] = self._generator(position, seed)
        return self.pipeline(*self._loose, **arguments)

    def one(self, position: int, total: int) -> dict[str, Any]:
        """Return the arguments for one picture of the call, but for its generator.

        `latents` are left out, as they would give the same picture again.
        """
        arguments = {name: self._part(name, value, position, total) for name, value in self._given.items()}
        for name in ("latents", "generator"):
            arguments.pop(name, None)
        for name in ("num_images_per_prompt", "batch_size"):
            if name in arguments:
                arguments[name] = 1
        return arguments

    def seed(self, position: int) -> int | None:
        """Return the seed that a picture was generated with, where it is known and tells all."""
        noted = self._noted(position)
        return noted[1] if noted is not None and noted[2] else None

    def new_seed(self, position: int, number: int) -> int:
        """Return a seed of 32 bits for another try: drawn from the state that the given generator was in, or at random.

        Args:
            position: Of the picture in the result.
            number: Of the try, from 1.
        """
        noted = self._noted(position)
        if noted is None:
            return secrets.randbits(32)
        text = f"{position}:{number}:".encode() + noted[0]
        return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")

    def generation(self, position: int, total: int, seed: int | None) -> Generation:
        """Return how a picture was generated, as far as the call tells."""
        extra = {"pipeline": self.maker}
        if total > 1:
            extra["picture"] = f"{position + 1} of {total}"
        if self.argument("latents") is not None:
            extra["latents"] = "given"
        steps, guidance = self.argument("num_inference_steps"), self.argument("guidance_scale")
        source, strength = self._source(position, total)
        return Generation(
            tool=TOOL,
            prompt=self._text("prompt", position, total),
            negative_prompt=self._text("negative_prompt", position, total),
            model=_model_of(self.pipeline),
            sampler=_sampler_of(self.pipeline),
            seed=seed,
            steps=steps if isinstance(steps, int) else None,
            guidance=float(guidance) if isinstance(guidance, (int, float)) else None,
            strength=strength,
            source=source,
            extra=extra,
        )

    def _part(self, name: str, value: Any, position: int, total: int) -> Any:
        """Return the part of an argument that one picture was made from."""
        nets = getattr(getattr(self.pipeline, "controlnet", None), "nets", ())
        guiding = "control_image" if "control_image" in self._defaults else "image"
        if name == guiding and isinstance(value, list) and 1 < len(value) == len(nets):
            by_prompt = len(value) == total // self._repeats(total) and isinstance(value[0], list)
            if not by_prompt:  # then it is by control network
                return [self._row(name, each, position, total) for each in value]
        return self._row(name, value, position, total)

    def _repeats(self, total: int) -> int:
        """Return how many pictures were made of each prompt."""
        several = self.argument("num_images_per_prompt")
        return several if isinstance(several, int) and several > 0 and total % several == 0 else 1

    def _row(self, name: str, value: Any, position: int, total: int) -> Any:
        length = _length(name, value)
        if length < 2 or not _BY_PROMPT.match(name):
            return value
        repeats = self._repeats(total)
        if "strength" in self._defaults and name in _STARTED_FROM:
            at = position % length  # these pipelines go through the pictures again and again
        elif length == total // repeats:
            at = position // repeats
        elif length == total:
            at = position
        else:
            return value
        return [value[at]] if isinstance(value, list) else value[at : at + 1]

    def _text(self, name: str, position: int, total: int) -> str:
        value = self._part(name, self.argument(name), position, total)
        while isinstance(value, (list, tuple)):
            value = value[0] if value else ""
        return value if isinstance(value, str) else ""

    def _source(self, position: int, total: int) -> tuple[str, float | None]:
        """Return name of the picture that went in, and strength: of img2img, inpainting and edits by an image."""
        image = self._part("image", self.argument("image"), position, total)
        strength = self.argument("strength")
        if image is None or (strength is None and hasattr(self.pipeline, "controlnet")):
            return "", None
        first = image[0] if isinstance(image, list) and image else image
        path = first if isinstance(first, (str, Path)) else getattr(first, "filename", "")
        share = float(strength) if isinstance(strength, (int, float)) else None
        unnamed = "" if share is not None else "not recorded"
        return file_name(str(path)) if path else unnamed, share

    def _noted_generators(self) -> list[tuple[bytes, int, bool]]:
        """Note of each generator, before it is used: its state, its seed, and whether it is fresh from that seed."""
        given: Any = self._given.get("generator")
        noted = []
        for each in given if isinstance(given, list) else (given,):
            if not hasattr(each, "get_state"):
                return []
            state, seed = each.get_state().numpy().tobytes(), int(each.initial_seed())
            fresh = type(each)(device=each.device).manual_seed(seed).get_state().numpy().tobytes()
            noted.append((state, seed, state == fresh))
        return noted

    def _noted(self, position: int) -> tuple[bytes, int, bool] | None:
        if not self._generators:
            return None
        return self._generators[position if position < len(self._generators) else 0]

    def _generator(self, position: int, seed: int) -> Any:
        given: Any = self._given.get("generator")
        if isinstance(given, list) and given:
            given = given[position if position < len(given) else 0]
        if given is not None:
            return type(given)(device=given.device).manual_seed(seed)
        import torch

        return torch.Generator("cpu").manual_seed(seed)  # every pipeline takes this one, wherever it runs


def _length(name: str, value: Any) -> int:
    """Return how many values an argument holds, 1 where it is one value."""
    if isinstance(value, list):
        return len(value)
    shape: Any = getattr(value, "shape", ())
    own = 2 if "mask" in name and "image" in name else 3 if "image" in name and "embed" not in name else 1
    return int(shape[0]) if len(shape) > own else 1


def _model_of(pipeline: Any) -> str:
    """Return the model's name: of a hub id all of it, of a path the last part."""
    config = getattr(pipeline, "config", None)
    name = str(config.get("_name_or_path") or "") if isinstance(config, Mapping) else ""
    return name if _HUB_NAME.fullmatch(name) and not Path(name).exists() else file_name(name.rstrip("/\\"))


def _sampler_of(pipeline: Any) -> str:
    scheduler = getattr(pipeline, "scheduler", None)
    return "" if scheduler is None else type(scheduler).__name__
