"""The course of an audit: what is measured in which order, batch by batch, into the log."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from detector.audit import prompts as prompt_signal
from detector.audit.likeness import tiled_correlation, tiled_distances
from detector.audit.log import Item, Log
from detector.audit.options import AuditOptions, Part
from detector.audit.pipelines import Model
from detector.audit.works import Work, picture_of
from detector.detail import has_too_little_detail
from detector.generation import Generation
from detector.report import ImageReport
from index.descriptors import Descriptor, Kind, create
from index.errors import UnreadableImageError
from index.images import from_array

if TYPE_CHECKING:
    from detector.detector import Detector

GENERATIONS = "generations"
WITHOUT, WITH = "model", "adapter"
"""The two variants of a model that is audited with an adapter; the first alone where there is none."""

PROMPT_SEEDS = 4
"""Noises over which the prompts' signal is averaged: it costs two UNet calls each."""

Measured = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """One picture to be generated.

    Attributes:
        key: Name of its item in the log, and of its file.
        number: Which of the work's pictures of this kind, from 0.
        strength: Of img2img; None: from the caption alone.
    """

    key: str
    work: Work
    number: int
    seed: int
    file: str
    strength: float | None = None


class Course:
    """Measures what is not in the log yet."""

    def __init__(
        self,
        model: Model,
        works: Sequence[Work],
        options: AuditOptions,
        *,
        detector: Detector | None,
        folder: Path,
        log: Log,
        on_measured: Measured,
    ) -> None:
        """Keep what it works with.

        Args:
            model: Opened.
            works: Members and controls.
            options: How.
            detector: With the index; None: nothing is searched.
            folder: Of the audit.
            log: Opened.
            on_measured: Called with what is being done, how many items are done, of how many.
        """
        self.model, self.works, self.options = model, works, options
        self.detector, self.folder, self.log = detector, folder, log
        self.guidance = model.guidance(options.guidance)
        self.skipped: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self._on_measured = on_measured
        self._places = {work.name: place for place, work in enumerate(works)}
        self._inputs: dict[str, NDArray[np.uint8]] = {}
        self._plan()

    @property
    def variants(self) -> tuple[str, ...]:
        """The model as it is; and, where one is audited, with its adapter."""
        return (WITHOUT, WITH) if self.options.lora else (WITHOUT,)

    def run(self) -> None:
        """Measure everything."""
        self._total = sum(self._count(part) for part in self._parts()) * len(self.variants)
        for variant in self.variants:
            with contextlib.ExitStack() as stack:
                if variant == WITH:
                    stack.enter_context(self.model.adapter(str(self.options.lora)))
                for part in self._parts():
                    {
                        Part.PROMPTS: self._prompts,
                        Part.TXT2IMG: self._generate,
                        Part.IMG2IMG: self._reconstruct,
                    }[part](variant)

    def captioned(self) -> list[Work]:
        """Return the works with a caption."""
        return [work for work in self.works if work.caption]

    @property
    def img2img_prompts(self) -> str:
        """``captions`` where every work has one; else ``none``, so that members and controls are treated alike."""
        with_pictures = [work for work in self.works if work.name in self._inputs]
        return "captions" if all(work.caption for work in with_pictures) else "none"

    def _parts(self) -> list[Part]:
        """What is measured, cheapest first; Carlini's groups are made of the generations."""
        wanted = [part for part in self.options.only if part.value not in self.skipped]
        generated = Part.TXT2IMG in wanted or Part.CARLINI in wanted
        order = [Part.PROMPTS] if Part.PROMPTS in wanted else []
        order += [Part.TXT2IMG] if generated else []
        return order + ([Part.IMG2IMG] if Part.IMG2IMG in wanted else [])

    def _plan(self) -> None:
        """Find out what cannot be done, and why."""
        options, skip = self.options, self.skipped
        reasons = {
            Part.TXT2IMG: self.model.why_not("txt2img"),
            Part.CARLINI: self.model.why_not("txt2img"),
            Part.IMG2IMG: self.model.why_not("img2img"),
            Part.PROMPTS: prompt_signal.why_not(self.model.pipeline),
        }
        if self.detector is None:
            reasons[Part.TXT2IMG] = reasons[Part.TXT2IMG] or "no index was given to search: --index FOLDER"
        if options.seeds < options.group_size:
            reasons[Part.CARLINI] = reasons[Part.CARLINI] or (
                f"a group has {options.group_size} pictures: --seeds {options.group_size} or more"
            )
        if not self.captioned():
            for part in (Part.TXT2IMG, Part.CARLINI, Part.PROMPTS):
                reasons[part] = reasons[part] or "no work has a caption"
        if Part.IMG2IMG in options.only and not reasons[Part.IMG2IMG]:
            self._read_inputs()
            if not self._inputs:
                reasons[Part.IMG2IMG] = "no work has a picture that can be read"
        skip |= {part.value: reason for part, reason in reasons.items() if reason and part in options.only}

    def _read_inputs(self) -> None:
        """Read the works' pictures: the middle square, at the model's size, as is usual in training."""
        index = self.detector.index if self.detector is not None else None
        side = self.model.size
        for work in self.works:
            try:
                picture = picture_of(work, index)
            except UnreadableImageError as error:
                self.left_out[work.name] = error.reason
                continue
            square = ImageOps.fit(picture.to_pil(), (side, side), Image.Resampling.LANCZOS)
            self._inputs[work.name] = np.asarray(square, np.uint8).copy()

    def _count(self, part: Part) -> int:
        if part is Part.IMG2IMG:
            return len(self._inputs) * len(self.options.strengths) * self.options.img2img_seeds
        return len(self.captioned()) * (self.options.seeds if part is Part.TXT2IMG else 1)

    def _batches(self, requests: Sequence[Any], keys: Sequence[str]) -> Iterator[list[Any]]:
        """Yield batches of which something is missing.

        Always cut at the same places: a picture comes out the same to the last bit only in the same batch.
        """
        size = self.options.batch_size
        for start in range(0, len(requests), size):
            if any(key not in self.log.items for key in keys[start : start + size]):
                yield list(requests[start : start + size])

    def _done(self, doing: str, items: list[tuple[str, Item]]) -> None:
        self.log.add(items)
        self._on_measured(doing, len(self.log.items), self._total)

    def _prompts(self, variant: str) -> None:
        works = self.captioned()
        keys = [f"{variant}/prompts/{work.name}" for work in works]
        for batch in self._batches(works, keys):
            seeds = [seed_of(self.options.seed, "prompts", number) for number in range(PROMPT_SEEDS)]
            found = prompt_signal.prompt_magnitude(
                self.model.pipeline,
                [work.caption for work in batch],
                seeds=seeds,
                steps=self.options.steps,
                first=self.options.prompt_steps,
                guidance=self.guidance or 1.0,
                size=self.model.size,
            )
            measured = [
                (f"{variant}/prompts/{work.name}", {"work": work.name, "magnitude": round(float(value), 6)})
                for work, value in zip(batch, found, strict=True)
            ]
            self._done("prompts", measured)

    def _generate(self, variant: str) -> None:
        works, seeds = self.captioned(), range(self.options.seeds)
        requests = [self._request(variant, work, number) for work in works for number in seeds]
        for batch in self._batches(requests, [each.key for each in requests]):
            pictures = self.model.generate(
                [each.work.caption for each in batch],
                [each.seed for each in batch],
                steps=self.options.steps,
                guidance=self.guidance,
            )
            self._save(batch, pictures)
            items = []
            searched = self._searched(batch)
            for each, pixels, found in zip(batch, pictures, searched, strict=True):
                item: Item = {"work": each.work.name, "n": each.number, "seed": each.seed, "file": each.file}
                item["detail"] = not has_too_little_detail(from_array(pixels))
                if found is not None:
                    item |= {
                        "own": _own_level(each.work, found),
                        "any": found.level,
                        "report": found.to_dict(),
                    }
                items.append((each.key, item))
            self._done("captions", items)

    def _searched(self, batch: Sequence[Request]) -> list[ImageReport | None]:
        if self.detector is None or Part.TXT2IMG not in self.options.only:
            return [None] * len(batch)
        paths = [self.folder / each.file for each in batch]
        return list(self.detector.check_many(paths))

    def _reconstruct(self, variant: str) -> None:
        works = [work for work in self.works if work.name in self._inputs]
        tower = self._tower()
        for strength in self.options.strengths:
            seeds = range(self.options.img2img_seeds)
            requests = [self._request(variant, work, number, strength) for work in works for number in seeds]
            for batch in self._batches(requests, [each.key for each in requests]):
                inputs = [self._inputs[each.work.name] for each in batch]
                captions = self.img2img_prompts == "captions"
                pictures = self.model.reconstruct(
                    [each.work.caption if captions else "" for each in batch],
                    inputs,
                    [each.seed for each in batch],
                    strength=strength,
                    steps=self.options.steps,
                    guidance=self.guidance,
                )
                self._save(batch, pictures)
                rows = tower.describe([from_array(pixels) for pixels in [*inputs, *pictures]])
                items = []
                for number, (each, given, pixels) in enumerate(zip(batch, inputs, pictures, strict=True)):
                    cosine = float((rows[number] * rows[len(batch) + number]).sum())
                    distance = float(tiled_distances([given, pixels])[0, 1])
                    item = {"work": each.work.name, "strength": strength, "n": each.number, "seed": each.seed}
                    item |= {"file": each.file, "correlation": round(tiled_correlation(given, pixels), 6)}
                    item |= {"tiled_l2": round(distance, 6), "cosine": round(cosine, 6)}
                    items.append((each.key, item))
                self._done("reconstructions", items)

    def _request(self, variant: str, work: Work, number: int, strength: float | None = None) -> Request:
        kind = "txt2img" if strength is None else f"img2img-{strength:g}"
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in Path(work.name).stem)
        file = f"{GENERATIONS}/{variant}-{self._places[work.name]:04d}-{stem[:40]}-{kind}-{number}.png"
        # The same seeds with and without an adapter: what differs is the adapter's doing.
        seed = seed_of(self.options.seed, f"{kind}/{work.name}", number)
        return Request(f"{variant}/{kind}/{work.name}/{number}", work, number, seed, file, strength)

    def _save(self, batch: Sequence[Request], pictures: Sequence[NDArray[np.uint8]]) -> None:
        for each, pixels in zip(batch, pictures, strict=True):
            Image.fromarray(pixels).save(self.folder / each.file)

    def _tower(self) -> Descriptor:
        """Return the index's first neural descriptor, else the one that comes with the package."""
        for descriptor in self.detector.index.descriptors().values() if self.detector is not None else ():
            if descriptor.spec.kind is Kind.UNIT:
                return descriptor
        return create("clip:bundled", device=self.options.device)


def seed_of(seed: int, what: str, number: int) -> int:
    """Return the seed of one picture: 31 bits that hang on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{what}/{number}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def generation_of(course: Course, item: Item, work: Work) -> Generation:
    """Return how a picture of an audit was generated, as findings have it."""
    strength = item.get("strength")
    prompted = strength is None or course.img2img_prompts == "captions"
    return Generation(
        tool="detector audit",
        prompt=work.caption if prompted else "",
        model=course.model.name,
        sampler=course.model.sampler,
        seed=item["seed"],
        steps=course.options.steps,
        guidance=course.guidance,
        strength=strength,
        source="" if strength is None else work.path or work.name,
    )


def _own_level(work: Work, found: ImageReport) -> int | None:
    """Return the level against the work's own reference; None where the index does not have it."""
    if work.reference_id is None:
        return None
    return max((m.level for m in found.matches if m.reference.id == work.reference_id), default=0)
