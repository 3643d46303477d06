"""Trains towers for copy detection: the bundled one from nothing, yours from the bundled one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from detector.training.options import TrainOptions
from detector.training.report import TrainReport

__all__ = ["TrainOptions", "TrainReport", "train"]


def train(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    init: str | Path | None = "bundled",
    options: TrainOptions | None = None,
    on_progress: Callable[[str, float, str], None] | None = None,
) -> TrainReport:
    """Train a tower, or go on with a training that was cut short in the same folder.

    Args:
        images: Folders, lists, shards, as `build_index` takes them. Train on what you may train on.
        out: Folder for the tower; its checkpoint and log lie there too.
        init: ``"bundled"``, the folder of an earlier tower, or None for random weights.
        options: Length, rates, seed, device; the defaults suit fine-tuning on a laptop.
        on_progress: Called with what is being done (``"read"``, ``"train"``), how far (pictures read; the share
            trained, 0–1) and a word on it.

    Returns:
        What was done and measured; also in ``training.json``, ``README.md`` and ``curve.svg`` in `out`.

    Raises:
        SourceError: Too few pictures, or a source that cannot be read.
        WeightsError: `init`, or a checkpoint in `out`, cannot be used.
        UsageError: `out` is a file.
    """
    from detector.training.course import train_in

    return train_in(images, Path(out), init=init, options=options or TrainOptions(), on_progress=on_progress)
