"""A safety checker for the pipelines that have a place for one, such as Stable Diffusion 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detector.detector import Detector
from detector.guarding.checks import MIN_LEVEL, OnMatch, blanked, judged, opened, valid_level
from detector.guarding.report import Action, GuardReport


class ReplicationSafetyChecker:
    """Blacks out pictures that replicate a training image, where diffusers asks a `safety_checker`.

    Give it to a pipeline as ``safety_checker``, with any ``feature_extractor``, which diffusers insists on;
    `transformers.CLIPImageProcessor()` needs no download. The result's `nsfw_content_detected` then says which
    pictures were blacked out. It holds no weights: moving the pipeline leaves it as it is, and saving the pipeline
    leaves it out. DeepFloyd IF asks its checker for something else; put `guard` round it.

    Attributes:
        reports: What was said of each picture of the last call.
    """

    def __init__(
        self,
        detector: Detector | str | Path,
        *,
        min_level: int = MIN_LEVEL,
        callback: Callable[[GuardReport], object] | None = None,
    ) -> None:
        """Take a detector, or open an index.

        Args:
            detector: Whose index, policy and scoring decide; or the path of an index.
            min_level: Level from which a match counts, 1–5.
            callback: Called with the report of each picture.

        Raises:
            UsageError: An argument is of the wrong kind.
            IndexFolderError: The index cannot be opened.
        """
        self._min_level = valid_level(min_level)
        self._detector, self._owns = opened(detector)
        self._callback = callback
        self.reports: tuple[GuardReport, ...] = ()

    def close(self) -> None:
        """Close the index, where it was opened here."""
        if self._owns:
            self._detector.close()

    def __call__(self, images: Any, clip_input: Any = None) -> tuple[Any, list[bool]]:
        """Check pictures and black out those that replicate a training image.

        Args:
            images: A tensor (N, C, H, W) in -1–1, as diffusers decodes it, or an array (N, H, W, C) in 0–1.
            clip_input: What the feature extractor made of them; not looked at.

        Returns:
            The pictures, zeros for those blacked out, and for each whether it was.
        """
        shown = images / 2 + 0.5 if hasattr(images, "detach") else images
        self.reports = judged(
            self._detector,
            shown,
            policy=OnMatch.BLANK,
            min_level=self._min_level,
            callback=self._callback,
        )
        return blanked(images, self.reports), [report.action is Action.BLANKED for report in self.reports]
