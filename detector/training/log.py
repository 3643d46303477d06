"""The log of a training: what was measured on held-out pictures, check by check."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from detector.reports.atomic import replacing


@dataclass(frozen=True)
class Check:
    """How well the tower tells held-out works, at some moment of the training.

    Attributes:
        step: Steps trained.
        views: Views trained on.
        seconds: Time trained.
        loss: Contrastive loss, mean since the last check.
        spread: Entropy term, mean since the last check.
        recall: Share of edited held-out pictures whose own reference is the nearest.
        average_precision: µAP of the same: one ranking over all queries.
        held_out_loss: Cross-entropy of naming the work that each of those shows. Comparable over a training, which
            `loss` is not: its negatives grow harder as the memory fills and rows settle.
    """

    step: int
    views: int
    seconds: float
    loss: float
    spread: float
    recall: float
    average_precision: float
    held_out_loss: float = math.nan


def read_log(path: Path) -> list[Check]:
    """Read the checks of a training so far; none without a log."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Check(int(row["step"]), int(row["views"]), *(float(row[name]) for name in list(row)[2:]))
            for row in csv.DictReader(file)
        ]


def write_log(path: Path, checks: list[Check]) -> None:
    """Write the checks, one row each, in place of what was there."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(Check.__dataclass_fields__))
    writer.writeheader()
    for check in checks:
        row = asdict(check)
        writer.writerow(
            {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
        )
    with replacing(path) as file:
        file.write(text.getvalue().encode())
