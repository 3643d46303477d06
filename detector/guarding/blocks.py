"""A block for diffusers' modular pipelines that checks what was decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detector.detector import Detector
from detector.guarding.checks import (
    MIN_LEVEL,
    OnMatch,
    blanked,
    judged,
    opened,
    policy_of,
    raise_replication,
    valid_level,
)
from detector.guarding.pictures import known
from detector.guarding.report import GuardReport
from index.errors import UsageError

NAME = "replication"
"""Of the block's output in a `PipelineState`."""


def replication_block(
    detector: Detector | str | Path,
    *,
    on_match: OnMatch | str = OnMatch.ANNOTATE,
    min_level: int = MIN_LEVEL,
    callback: Callable[[GuardReport], object] | None = None,
) -> Any:
    """Return a block that checks `images` and puts what it finds into the state, as `replication`.

    Put it after the block that decodes: ``blocks.sub_blocks.insert("replication_check",
    replication_block(detector), len(blocks.sub_blocks))``. The output is a list of plain values, one a picture, as
    of `GuardReport.to_dict`. diffusers marks its modular pipelines as experimental: their interface may change.

    Args:
        detector: Whose index, policy and scoring decide; or the path of an index.
        on_match: ``annotate``, ``blank`` or ``raise``; a block cannot have pictures made again.
        min_level: Level from which a match counts, 1–5.
        callback: Called with the report of each picture.

    Raises:
        UsageError: An argument is of the wrong kind, or this diffusers has no modular pipelines.
        IndexFolderError: The index cannot be opened.
    """
    policy, level = policy_of(on_match), valid_level(min_level)
    if policy is OnMatch.REGENERATE:
        raise UsageError(
            "on_match='regenerate' needs the whole pipeline, and a block is a part of one. Give 'blank' or 'raise'"
        )
    try:
        from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam
    except ImportError as error:
        raise UsageError("this diffusers has no modular pipelines. Run: pip install -U diffusers") from error
    found, _ = opened(detector)

    # diffusers copies blocks deeply, so an instance holds nothing: the index stays where it is, in the closure.
    class ReplicationBlock(ModularPipelineBlocks):  # type: ignore[misc]
        """Checks decoded pictures against an index."""

        @property
        def description(self) -> str:
            return "Says of each picture whether it replicates a training image of an index"

        @property
        def inputs(self) -> list[Any]:
            return [InputParam("images", required=True, description="Decoded pictures")]

        @property
        def intermediate_outputs(self) -> list[Any]:
            return [OutputParam(NAME, type_hint=list, description="What was found, one a picture")]

        def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
            block_state = self.get_block_state(state)
            images = known(block_state.images, maker="the block before")
            reports = judged(found, images, policy=policy, min_level=level, callback=callback)
            raise_replication(
                reports, advice="Use another prompt or seed, or give the block on_match='blank'"
            )
            block_state.images = blanked(images, reports)
            block_state.replication = [report.to_dict() for report in reports]
            self.set_block_state(state, block_state)
            return components, state

    return ReplicationBlock()
