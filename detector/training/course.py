"""One training from its pictures to the finished folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from detector.training.finish import finish
from detector.training.log import Check
from detector.training.loop import CHECKPOINT, Trainer
from detector.training.options import RATE_FROM_NOTHING, RATE_FURTHER, TrainOptions
from detector.training.overlays import overlays
from detector.training.pictures import read_pictures
from detector.training.report import TrainReport
from detector.training.tower import TRUNK, Tower, load_tower, model_config
from index.errors import UsageError
from index.neural import BUNDLED

Progress = Callable[[str, float, str], None]


def train_in(
    images: Sequence[str | Path],
    folder: Path,
    *,
    init: str | Path | None,
    options: TrainOptions,
    on_progress: Progress | None,
) -> TrainReport:
    """Do what `detector.training.train` says."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file. Name a folder for the tower.")
    if not images:
        raise UsageError("no pictures were named. Name folders, lists or shards with --images")
    say: Progress = on_progress or (lambda what, how_far, word: None)

    tower = _begin(init, options)
    pictures = read_pictures(images, progress=lambda count: say("read", float(count), ""))
    if options.rate is None:
        options = replace(options, rate=RATE_FROM_NOTHING if init is None else RATE_FURTHER)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(tower, pictures, overlays=overlays(options.seed), options=options, folder=folder)
    last: list[Check] = []

    def on_step(share: float, loss: float) -> None:
        word = f"loss {loss:.2f}"
        if last:
            word += f", held-out recall {last[-1].recall:.1%}"
        say("train", share, word)

    checks = trainer.run(on_check=lambda check: last.append(check), on_step=on_step)
    results, digest = finish(trainer, folder)
    report = TrainReport(
        folder=folder,
        sources=tuple(str(source) for source in images),
        pictures=len(trainer.pixels),
        held_out=len(trainer.held_out),
        rejected=pictures.rejected,
        init=None if init is None else str(init),
        options=options,
        trunk=str(tower.config["model_cfg"]["vision_cfg"]["timm_model_name"]),
        checks=tuple(checks),
        results=results,
        sha256=digest,
    )
    report.save()
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return report


def _begin(init: str | Path | None, options: TrainOptions) -> Tower:
    if init is None:
        torch.manual_seed(options.seed)
        return Tower(model_config(TRUNK))
    return load_tower(BUNDLED if str(init) == "bundled" else Path(init))
