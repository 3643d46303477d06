"""What a training was and what came of it: the report, the model card, the curve."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.training.log import Check
from detector.training.options import TrainOptions

REPORT = "training.json"
CARD = "README.md"
CURVE = "curve.svg"

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainReport:
    """A finished training.

    Attributes:
        folder: The open_clip folder: ``clip:local-dir:FOLDER`` is its descriptor.
        sources: What it was trained on, as given.
        pictures: Pictures trained on.
        held_out: Pictures held out and measured on.
        rejected: Files that could not be read, with the reason.
        init: What it began from; None for random weights.
        options: How it was trained.
        trunk: timm's name of the network.
        checks: What was measured on the way, the untrained tower first.
        results: From `finish.finish`.
        sha256: Digest of the weights file.
    """

    folder: Path
    sources: tuple[str, ...]
    pictures: int
    held_out: int
    rejected: tuple[tuple[str, str], ...]
    init: str | None
    options: TrainOptions
    trunk: str
    checks: tuple[Check, ...]
    results: dict[str, float]
    sha256: str

    @property
    def descriptor(self) -> str:
        """Name under which an index takes the tower."""
        return f"clip:local-dir:{self.folder}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "descriptor": self.descriptor,
            "sources": list(self.sources),
            "pictures": self.pictures,
            "held_out": self.held_out,
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
            "init": self.init,
            "trunk": self.trunk,
            "options": asdict(self.options),
            "steps": self.checks[-1].step,
            "views": self.checks[-1].views,
            "seconds": self.checks[-1].seconds,
            "checks": [asdict(check) for check in self.checks],
            "results": self.results,
            "sha256": self.sha256,
        }

    def save(self) -> None:
        """Write report, card and, where matplotlib is installed, the curve into the folder."""
        text = json.dumps(_finite(self.to_dict()), indent=2, ensure_ascii=False) + "\n"
        (self.folder / REPORT).write_text(text, encoding="utf-8")
        (self.folder / CARD).write_text(self.card(), encoding="utf-8")
        self._draw()

    def card(self) -> str:
        """Return the model card, Markdown."""
        last = self.checks[-1]
        options = " ".join(f"{name}={value}" for name, value in self.options.identity().items())
        sources = "\n".join(f"- `{source}`" for source in self.sources)
        measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in self.results.items())
        return f"""# A copy-detection tower

`{self.trunk}` in open_clip's format, made by `detector train` for the training-image replication detector.

## Data

{self.pictures:,} pictures, {self.held_out:,} more held out to measure on, and procedural pictures
({self.options.procedural:.0%} of every batch):

{sources}

## Recipe

Began from {self.init or "random weights"}. {last.step:,} steps, {last.views:,} views, {last.seconds / 60:.0f} minutes.
Seed {self.options.seed}. Options: {options}.
Contrastive instance discrimination with strong copy edits, an entropy term, mixed pictures and whitening after
training, as in SSCD (Pizzi et al. 2022, arXiv:2202.10261).

## Measured on the held-out pictures, each under three strong random edits

| | |
| --- | ---: |
{measured}

Weights: SHA-256 `{self.sha256}`.

## Limits

It tells copies of a picture from other pictures. It says nothing about style, and a cosine alone is no verdict:
the detector verifies what it proposes. Pictures unlike its training pictures are told apart less well.
"""

    def _draw(self) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        minutes = [check.seconds / 60 for check in self.checks]
        left.plot(minutes, [check.loss for check in self.checks], color="#3b6ea5", label="training")
        left.plot(minutes, [check.held_out_loss for check in self.checks], color="#c05621", label="held out")
        left.set(xlabel="minutes trained", ylabel="contrastive loss")
        left.legend(frameon=False)
        right.plot(
            minutes, [check.recall for check in self.checks], color="#3b6ea5", label="recall at rank 1"
        )
        right.plot(minutes, [check.average_precision for check in self.checks], color="#c05621", label="µAP")
        right.set(xlabel="minutes trained", ylim=(0, 1))
        right.legend(frameon=False)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(self.folder / CURVE)


def _finite(value: Any) -> Any:
    """JSON has no NaN: the untrained tower has no loss yet."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
