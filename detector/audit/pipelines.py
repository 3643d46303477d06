"""A diffusers pipeline as an audit uses it: loaded, described exactly, and asked for pictures."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.versions import installed
from index.errors import UsageError, WeightsError
from index.reference_index import file_digest

NEEDS_AUDIT = "Run: pip install 'replication-detector[audit]'"
MODEL_INDEX = "model_index.json"

_CONFIGS = (".json", ".txt", ".model")


class Model:
    """A pipeline under audit. Nothing of it is changed for good.

    Attributes:
        name: Folder or hub id, or the class of an object that came without.
        device: Where it runs.
        size: Side of its square pictures in pixels.
        facts: What it is exactly: configs, digests of weights, scheduler. Plain JSON values.
    """

    def __init__(self, pipeline: Any, name: str, *, size: int | None, facts: dict[str, Any]) -> None:
        """Wrap a pipeline; `open_model` makes one."""
        self.pipeline = pipeline
        self.name = name
        self.device = str(pipeline.device)
        self.size = size or _native_size(pipeline)
        scheduler = getattr(pipeline, "scheduler", None)
        self.facts = facts | {
            "class": type(pipeline).__name__,
            "scheduler": None if scheduler is None else _configured(scheduler),
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "size": self.size,
        }
        self._tasks: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over `facts`."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @property
    def sampler(self) -> str:
        """Class of the scheduler."""
        return str((self.facts["scheduler"] or {}).get("class", ""))

    def why_not(self, task: str) -> str:
        """Say why this pipeline cannot do a task, or return an empty string.

        Args:
            task: ``txt2img`` or ``img2img``.
        """
        try:
            self._task(task)
        except UsageError as error:
            return str(error)
        return ""

    def guidance(self, asked: float | None) -> float | None:
        """Return the guidance scale of a generation: as asked, else the pipeline's default."""
        if asked is not None:
            return asked
        parameter = inspect.signature(self._task("txt2img").__call__).parameters.get("guidance_scale")
        default = parameter.default if parameter is not None else None
        return float(default) if isinstance(default, (int, float)) else None

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float | None
    ) -> list[NDArray[np.uint8]]:
        """Generate a picture a prompt, each from a seed of its own.

        Returns:
            uint8, (size, size, 3) each.
        """
        return self._called(
            "txt2img",
            prompts,
            seeds,
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=self.size,
            width=self.size,
        )

    def reconstruct(
        self,
        prompts: Sequence[str],
        pictures: Sequence[NDArray[np.uint8]],
        seeds: Sequence[int],
        *,
        strength: float,
        steps: int,
        guidance: float | None,
    ) -> list[NDArray[np.uint8]]:
        """Put noise over pictures and let the model take it away again, by img2img.

        Args:
            prompts: One a picture.
            pictures: uint8, (size, size, 3) each.
            seeds: One a picture.
            strength: Share of the noise, 0–1.
            steps: Of a whole generation; img2img takes the share `strength` of them, at least one.
            guidance: Classifier-free guidance scale, or None.
        """
        from PIL import Image

        least = int(np.ceil(1 / strength))
        return self._called(
            "img2img",
            prompts,
            seeds,
            image=[Image.fromarray(pixels) for pixels in pictures],
            strength=strength,
            num_inference_steps=max(steps, least),
            guidance_scale=guidance,
            height=self.size,
            width=self.size,
        )

    def require_adapters(self, path: str) -> None:
        """Make sure, before any work is done, that an adapter can be loaded.

        Raises:
            UsageError: There is no such file, the pipeline takes none, or peft is missing.
        """
        if not Path(path).exists() and path.count("/") != 1:
            raise UsageError(f"--lora {path}: there is no such file or folder")
        if not hasattr(self.pipeline, "load_lora_weights"):
            raise UsageError(f"--lora {path}: {type(self.pipeline).__name__} takes no adapter")
        if find_spec("peft") is None:
            raise UsageError(f"--lora {path}: adapters need peft. {NEEDS_AUDIT}")

    @contextlib.contextmanager
    def adapter(self, path: str) -> Iterator[None]:
        """Have the pipeline use a LoRA adapter inside the block.

        Raises:
            UsageError: See `require_adapters`.
            WeightsError: The adapter cannot be loaded.
        """
        self.require_adapters(path)
        with calm():
            try:
                self.pipeline.load_lora_weights(
                    path, adapter_name="audited", local_files_only=Path(path).exists()
                )
            except Exception as error:  # as many kinds as there are formats of adapters
                raise WeightsError(path, f"cannot be loaded as an adapter ({_short(error)})") from error
        try:
            yield
        finally:
            self.pipeline.unload_lora_weights()

    def _task(self, task: str) -> Any:
        if task in self._tasks:
            return self._tasks[task]
        from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image

        wanted = AutoPipelineForText2Image if task == "txt2img" else AutoPipelineForImage2Image
        name = type(self.pipeline).__name__
        try:
            with calm():
                made = wanted.from_pipe(self.pipeline)
        except Exception as error:
            parameters = inspect.signature(self.pipeline.__call__).parameters
            if "prompt" not in parameters or ("image" in parameters) != (task == "img2img"):
                raise UsageError(f"{name} cannot do {task} ({_short(error)})") from error
            made = self.pipeline  # a class that diffusers does not know, which is called alike
        self._tasks[task] = made
        return made

    def _called(
        self, task: str, prompts: Sequence[str], seeds: Sequence[int], **asked: Any
    ) -> list[NDArray[np.uint8]]:
        import torch

        pipeline = self._task(task)
        takes = inspect.signature(pipeline.__call__).parameters
        arguments = {key: value for key, value in asked.items() if key in takes and value is not None}
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with _unwatched(pipeline), calm(), torch.inference_mode():
            result = pipeline(prompt=list(prompts), generator=generators, output_type="np", **arguments)
        images = np.nan_to_num(np.asarray(result.images, np.float64))
        return list((images.clip(0.0, 1.0) * 255.0).round().astype(np.uint8))


def open_model(
    pipeline: Any, *, device: str | None = None, dtype: str = "float32", size: int | None = None
) -> Model:
    """Load a pipeline, or wrap one.

    Args:
        pipeline: A folder that diffusers can load, a hub id, or a pipeline object, which stays where it is.
        device: Where to run it; None takes the best device there is.
        dtype: What to load it in.
        size: Side of the pictures in pixels; None: as the model was made for.

    Raises:
        UsageError: There is no such folder, or diffusers is missing.
        WeightsError: It cannot be loaded.
    """
    for library in ("diffusers", "transformers"):
        if find_spec(library) is None:
            raise UsageError(f"an audit needs {library}. {NEEDS_AUDIT}")
    if not isinstance(pipeline, (str, Path)):
        name = str(getattr(pipeline.config, "_name_or_path", "") or type(pipeline).__name__)
        return Model(pipeline, name, size=size, facts={"components": _components(pipeline)})
    folder = _folder(pipeline)  # a mistyped name is told before torch and diffusers are loaded
    import torch
    from diffusers import DiffusionPipeline

    from index.torch_tower import choose_device

    where = choose_device("detector audit", device)
    with calm():
        try:
            loaded = DiffusionPipeline.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
            )
            loaded = loaded.to(where, getattr(torch, dtype))
        except Exception as error:  # diffusers raises what its components raise
            raise WeightsError(
                str(pipeline),
                f"cannot be loaded as a diffusers pipeline ({_short(error)}). Save it anew with "
                "pipeline.save_pretrained(FOLDER), as safetensors",
            ) from error
    return Model(loaded, str(pipeline), size=size, facts=_files(folder))


def versions() -> dict[str, str]:
    """Return the versions of what the figures hang on."""
    return installed(
        ("replication-detector", "torch", "diffusers", "transformers", "accelerate", "peft", "numpy")
    )


def _folder(pipeline: str | Path) -> Path:
    """Return the folder of a pipeline: the one named, or the hub's cached copy."""
    path = Path(pipeline)
    if path.is_file():
        raise UsageError(
            f"{path}: is a single file. Make a folder of it first: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)"
        )
    if path.is_dir():
        if not (path / MODEL_INDEX).is_file():
            raise UsageError(
                f"{path}: holds no {MODEL_INDEX}, so it is no diffusers pipeline. Save one there with "
                "pipeline.save_pretrained(FOLDER)"
            )
        return path
    name = str(pipeline)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UsageError(f"{name}: there is no such folder. Name a diffusers folder, or a hub id: ORG/NAME")
    from diffusers import DiffusionPipeline

    with calm():
        failures = []
        for cached in (True, False):
            try:
                return Path(DiffusionPipeline.download(name, local_files_only=cached, use_safetensors=True))
            except Exception as error:  # whatever the hub's client raises, first without the network
                failures.append(error)
    raise WeightsError(
        name,
        f"there is no such folder, and the hub does not give it ({_short(failures[-1])}). Check the name; without "
        "a network, name a folder",
    ) from failures[-1]


def _files(folder: Path) -> dict[str, Any]:
    """Return every config, and the digest of every weight file, of the pipeline's components."""
    configs: dict[str, Any] = {}
    weights: list[dict[str, Any]] = []
    parts = [MODEL_INDEX, *sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")]
    paths = [folder / parts[0]]
    paths += sorted(p for part in parts[1:] for p in (folder / part).rglob("*") if p.is_file())
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            size = path.stat().st_size
            weights.append({"file": name, "bytes": size, "sha256": file_digest(path)})
        elif path.suffix in _CONFIGS:
            small = path.name in (MODEL_INDEX, "config.json", "scheduler_config.json")
            configs[name] = json.loads(path.read_text("utf-8")) if small else {"sha256": file_digest(path)}
    return {"configs": configs, "weights": weights}


def _components(pipeline: Any) -> dict[str, Any]:
    """Return class, config and digest of weights of the components of an object."""
    from index.torch_tower import weights_digest

    found: dict[str, Any] = {}
    for name, part in sorted(pipeline.components.items()):
        if part is None:
            continue
        found[name] = _configured(part)
        if hasattr(part, "state_dict") and hasattr(part, "parameters"):
            found[name]["weights_sha256"] = weights_digest(part.state_dict())
    return found


def _configured(part: Any) -> dict[str, Any]:
    config = getattr(part, "config", None) or {}
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    # Where the files lay is no property of the model.
    plain = {k: v for k, v in values.items() if k not in ("_name_or_path", "name_or_path")}
    return {"class": type(part).__name__, "config": json.loads(json.dumps(plain, default=str))}


def _native_size(pipeline: Any) -> int:
    core = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(getattr(core, "config", None), "sample_size", None)
    sample = sample or getattr(pipeline, "default_sample_size", None)
    if not isinstance(sample, int):
        raise UsageError("the pipeline does not say the size of its pictures. Give it in pixels: --size 512")
    return int(sample * getattr(pipeline, "vae_scale_factor", 8))


@contextlib.contextmanager
def _unwatched(pipeline: Any) -> Iterator[None]:
    """Without the pipeline's own bars, and without a safety checker, which would black out what is measured."""
    bars = getattr(pipeline, "_progress_bar_config", None)
    checker = getattr(pipeline, "safety_checker", None)
    pipeline.set_progress_bar_config(disable=True)
    if checker is not None:
        pipeline.safety_checker = None
    try:
        yield
    finally:
        pipeline._progress_bar_config = bars if bars is not None else {}
        if checker is not None:
            pipeline.safety_checker = checker


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Keep diffusers and transformers from writing bars and advice to the terminal."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [
        (each, each.get_verbosity(), each.is_progress_bar_enabled())
        for each in (of_diffusers, of_transformers)
    ]
    for each, _, _ in before:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each, verbosity, bars in before:
            each.set_verbosity(verbosity)
            if bars:
                each.enable_progress_bar()


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
