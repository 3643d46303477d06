"""A guard round a diffusers pipeline: every picture is checked against an index before it leaves.

It depends on what a call returns, never on the pipeline's class: diffusers has no safety hook in SDXL, SD3, Flux and
later. For pipelines that do have one there is `ReplicationSafetyChecker`, for modular ones `replication_block`.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from detector.audit.prompts import prompt_magnitude, why_not
from detector.detector import Detector
from detector.guarding.calls import Call
from detector.guarding.checks import (
    MIN_LEVEL,
    OnMatch,
    check,
    counts,
    opened,
    policy_of,
    raise_replication,
    valid_level,
)
from detector.guarding.pictures import blacked, images_in, replaced, with_images
from detector.guarding.report import Action, GuardReport, Try
from index.errors import ReplicationError, UsageError

MAX_TRIES = 4
"""Pictures made at most for one place, the first included."""

_PROMPT_ADVICE = "Use another prompt, or guard without max_prompt_magnitude and let the pictures decide"

_ADVICE = (
    "Use another prompt or seed, guard with on_match='regenerate' or 'blank', or allow the licence in the "
    "detector's policy"
)


def guard(
    pipe: Any,
    detector: Detector | str | Path,
    *,
    on_match: OnMatch | str = OnMatch.ANNOTATE,
    min_level: int = MIN_LEVEL,
    max_tries: int = MAX_TRIES,
    max_prompt_magnitude: float | None = None,
    callback: Callable[[GuardReport], object] | None = None,
) -> GuardedPipeline:
    """Put a guard round a pipeline.

    Args:
        pipe: A diffusers pipeline, or anything that is called like one. It is not changed.
        detector: Whose index, policy and scoring decide; or the path of an index, which is opened.
        on_match: What to do with a picture that replicates a training image (`OnMatch`).
        min_level: Level from which a match counts, 1–5; matches that the policy clears never count.
        max_tries: Pictures made at most for one place under ``regenerate``, the first included.
        max_prompt_magnitude: Refuse a call before anything is generated where a prompt moves the first noise
            prediction further than this (`detector.audit.prompts.prompt_magnitude`): an early sign that the model
            has memorised what it asks for. Its scale differs from model to model: take a bound from prompts that
            yours never saw. None leaves the sign alone.
        callback: Called with the report of each picture, in order, once the whole call is decided.

    Returns:
        What is called, configured and moved like the pipeline; its results have `reports` too.

    Raises:
        UsageError: An argument is of the wrong kind, or `pipe` is guarded already, or modular.
        IndexFolderError: The index cannot be opened.
    """
    if isinstance(pipe, GuardedPipeline):
        raise UsageError(
            "the pipeline is guarded already. Guard guarded.pipeline, or index both sets in one index"
        )
    if any(kind.__name__ == "ModularPipeline" for kind in type(pipe).__mro__):
        raise UsageError(
            f"{type(pipe).__name__} is a modular pipeline, whose blocks return what they like. "
            "Put replication_block(detector) after the block that decodes"
        )
    if not callable(pipe):
        raise UsageError(
            f"{pipe!r:.60} is no pipeline: it cannot be called. Give a diffusers pipeline object"
        )
    policy = policy_of(on_match)
    if max_tries not in range(1, 1001):
        raise UsageError(f"max_tries={max_tries!r} is no number of tries. Give 1 to 1000")
    if max_prompt_magnitude is not None and (reason := why_not(pipe)):
        raise UsageError(f"max_prompt_magnitude: {reason}")
    level = valid_level(min_level)
    found, own = opened(detector)
    return GuardedPipeline(pipe, found, own, policy, level, max_tries, max_prompt_magnitude, callback)


class GuardedPipeline:
    """A pipeline whose pictures are checked; `guard` makes one.

    Attributes of the pipeline are had and set through it; methods that return the pipeline, such as ``to``, return
    the guard. Its own are `pipeline` and `close`, and ``with`` closes it.
    """

    __slots__ = (
        *("_callback", "_detector", "_max_prompt_magnitude", "_max_tries", "_min_level"),
        *("_on_match", "_owns", "_pipeline"),
    )

    def __init__(
        self,
        pipeline: Any,
        detector: Detector,
        owns: bool,
        on_match: OnMatch,
        min_level: int,
        max_tries: int,
        max_prompt_magnitude: float | None,
        callback: Callable[[GuardReport], object] | None,
    ) -> None:
        values = (
            *(callback, detector, max_prompt_magnitude, max_tries, min_level),
            *(on_match, owns, pipeline),
        )
        for name, value in zip(GuardedPipeline.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def pipeline(self) -> Any:
        """The pipeline itself, without a guard."""
        return self._pipeline

    def close(self) -> None:
        """Close the index, where the guard opened it."""
        if self._owns:
            self._detector.close()

    def __enter__(self) -> GuardedPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pipeline, check its pictures, and act on those that replicate a training image.

        Args:
            args: As for the pipeline.
            kwargs: As for the pipeline.

        Returns:
            What the pipeline returns; in addition it has `reports`, a `GuardReport` a picture. Pictures without a
            match that counts are bit for bit the pipeline's.

        Raises:
            UsageError: Latents are asked for, or the result holds no pictures.
            ReplicationError: The policy is ``raise``, and a match counts; or a prompt is refused.
        """
        call = Call(self._pipeline, args, kwargs)
        call.require_pictures()
        if self._max_prompt_magnitude is not None:
            self._require_unmoved(call, self._max_prompt_magnitude)
        result, images, first = self._made(call.run)
        total = len(first)
        changes: dict[int, Any] = {}
        taken: dict[int, Any] = {}
        reports: list[GuardReport] = []
        for position, each in enumerate(first):
            tries = [_noted(each, call, position, total, call.seed(position))]
            action = self._on_match.action if counts(each.finding, self._min_level) else Action.NONE
            if action is Action.REGENERATED:
                taken |= self._again(call, position, total, tries)
                if position in taken:
                    changes[position] = images_in(taken[position], maker=call.maker)[0]
                else:
                    action = Action.BLANKED
            if action is Action.BLANKED:
                changes[position] = blacked(images[position])
            reports.append(GuardReport(action, tuple(tries)))
        final = tuple(reports)
        if self._callback is not None:
            for report in final:
                self._callback(report)
        raise_replication(final, advice=_ADVICE)
        return with_images(result, replaced(images, changes), taken=taken, reports=final)

    def _require_unmoved(self, call: Call, bound: float) -> None:
        """Refuse prompts that move the first noise prediction too far."""
        prompts = call.prompts()
        if not prompts:
            raise UsageError("max_prompt_magnitude needs prompts as text. Give prompt=…, not embeddings")
        found = prompt_magnitude(self._pipeline, prompts)
        for prompt, magnitude in zip(prompts, found.tolist(), strict=True):
            if magnitude > bound:
                raise ReplicationError(
                    f"the prompt “{prompt}” moves the first noise prediction by {magnitude:.3g}, more than "
                    f"max_prompt_magnitude={bound:.3g}: an early sign that the model has memorised what it asks "
                    f"for. {_PROMPT_ADVICE}"
                )

    def _made(self, run: Callable[[], Any]) -> tuple[Any, Any, list[Try]]:
        """Return a result, its pictures, and what was found in them."""
        begun = time.perf_counter()
        result = run()
        images = images_in(result, maker=type(self._pipeline).__name__)
        each = (time.perf_counter() - begun) / max(1, len(images))
        return result, images, check(self._detector, images, generation_s=each)

    def _again(self, call: Call, position: int, total: int, tries: list[Try]) -> dict[int, Any]:
        """Make one picture anew until none of its matches counts; append every try."""
        while len(tries) < self._max_tries:
            seed = call.new_seed(position, len(tries))
            result, images, made = self._made(functools.partial(call.run_one, position, total, seed))
            if len(images) != 1:
                raise UsageError(
                    f"{call.maker} was asked for image {position + 1} of {total} alone and made {len(images)}. "
                    "Give its arguments by keyword, or guard it with on_match='blank'"
                )
            tries.append(_noted(made[0], call, position, total, seed))
            if not counts(made[0].finding, self._min_level):
                return {position: result}
        return {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in GuardedPipeline.__slots__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._pipeline, name)
        if not inspect.ismethod(value) or value.__self__ is not self._pipeline:
            return value

        @functools.wraps(value)
        def passed_on(*args: Any, **kwargs: Any) -> Any:
            returned = value(*args, **kwargs)
            return self if returned is self._pipeline else returned

        return passed_on

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(GuardedPipeline, name):
            raise AttributeError(f"{name} belongs to the guard and stays as it is. Call guard again")
        setattr(self._pipeline, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._pipeline, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._pipeline)})

    def __repr__(self) -> str:
        settings = f"on_match={self._on_match.value!r}, min_level={self._min_level}"
        return f"GuardedPipeline({type(self._pipeline).__name__}, {settings})"


def _noted(made: Try, call: Call, position: int, total: int, seed: int | None) -> Try:
    """Return a try with its seed, its place, and how it was generated."""
    finding = replace(
        made.finding, query=f"image {position + 1}", generation=call.generation(position, total, seed)
    )
    return replace(made, seed=seed, finding=finding)
