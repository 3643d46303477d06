"""What is done once after training: whitening, float16, the background set, the card and the curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.training.draws import Draws
from detector.training.loop import CHECK_BATCH, Trainer, retrieval
from detector.training.procedural import procedural
from detector.training.tower import Tower, load_tower, save_tower
from index.neural import BACKGROUND

STRENGTHS = (0.0, 0.5, 1.0)
"""How far the rows are whitened: each direction is divided by its spread to this power. 1 is SSCD's; the best on
the held-out pictures is taken, for a short training leaves directions that hold nothing but noise."""

RIDGE = 1e-4
"""Variance added to each direction, as a share of the largest."""

BACKGROUND_PICTURES = 4096
BACKGROUND_PROCEDURAL = 512


def finish(trainer: Trainer, folder: Path) -> tuple[dict[str, float], str]:
    """Whiten the averaged tower and write it with its background set.

    Args:
        trainer: After its run.
        folder: Where the open_clip folder goes.

    Returns:
        Recall at rank 1 and µAP on held-out pictures, by strength of whitening and as saved; and the SHA-256 of the
        weights file.
    """
    tower = Tower(trainer.tower.config).to(trainer.device)
    average = {name.removeprefix("module."): value for name, value in trainer.average.state_dict().items()}
    tower.load_state_dict(
        {name: value for name, value in average.items() if name != "n_averaged"}, strict=False
    )
    tower.eval()
    seen = background_rows(trainer, tower, count=BACKGROUND_PICTURES)
    references, queries = trainer.held_out_views()
    results: dict[str, float] = {}
    projection = tower.projection()
    plain = projection.weight.detach().clone(), projection.bias.detach().clone()
    best, best_strength = -1.0, 0.0
    for strength in STRENGTHS:
        _fold(tower, plain, seen, strength)
        recall, precision = retrieval(trainer.rows(queries, tower), trainer.rows(references, tower))
        results |= {f"recall, whitened {strength:g}": recall, f"µAP, whitened {strength:g}": precision}
        if precision > best:
            best, best_strength = precision, strength
    _fold(tower, plain, seen, best_strength)
    digest = save_tower(tower, folder)
    saved = load_tower(folder).to(trainer.device).eval()
    recall, precision = retrieval(trainer.rows(queries, saved), trainer.rows(references, saved))
    results |= {"whitening": best_strength, "recall as saved": recall, "µAP as saved": precision}
    rows = F.normalize(background_rows(trainer, saved, count=BACKGROUND_PICTURES)).half().cpu().numpy()
    np.save(folder / BACKGROUND, rows)
    return results, digest


def background_rows(trainer: Trainer, tower: Tower, *, count: int) -> Tensor:
    """Return rows of training pictures and procedural ones: float32, (at most count, width), not of unit length."""
    draws = Draws(trainer.options.seed + 3, 0, trainer.device)
    chosen = draws.order(len(trainer.pixels))[: count - BACKGROUND_PROCEDURAL]
    rows = [
        trainer.rows(_shrunk(trainer.pixels[part].float() / 255, tower.side), tower)
        for part in torch.split(chosen, CHECK_BATCH)
    ]
    for _ in range(0, BACKGROUND_PROCEDURAL, 64):
        rows.append(trainer.rows(_shrunk(procedural(draws, 64, trainer.pixels.shape[-1]), tower.side), tower))
    return torch.cat(rows)


def _shrunk(pictures: Tensor, side: int) -> Tensor:
    return F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _fold(tower: Tower, plain: tuple[Tensor, Tensor], rows: Tensor, strength: float) -> None:
    """Make the projection whiten: weights W, bias b → V (W x + b - mean), V from the rows' covariance.

    SSCD whitens after training on a disjoint set (Pizzi et al. 2022, section 4.5); PCA whitening as in Jégou and
    Chum 2012, https://doi.org/10.1007/978-3-642-33709-3_55. Strength 0 leaves the projection as it was trained.
    """
    if strength == 0:
        weight, bias = plain
    else:
        raw = rows.double()
        values, vectors = torch.linalg.eigh(torch.cov(raw.T))
        scale = (values.clamp(min=0) + RIDGE * values.max()) ** (-strength / 2)
        turn = vectors @ torch.diag(scale / scale.mean()) @ vectors.T
        weight, bias = turn @ plain[0].double(), turn @ (plain[1].double() - raw.mean(dim=0))
    layer = tower.projection()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
