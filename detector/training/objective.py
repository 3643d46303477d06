"""What the tower is trained to do: tell which work a view shows, among all the works it has lately seen.

SSCD's objective (Pizzi et al. 2022, arXiv:2202.10261): contrastive instance discrimination, with a second label for
mixed pictures, plus an entropy term that keeps nearest neighbours apart. A memory of past references (Wang et
al. 2020, arXiv:1912.06798) stands in for their batches of 4,096.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.05
"""As in SSCD."""

ENTROPY = 5.0
"""Weight of the entropy term. SSCD takes 30 in batches of 4,096; ours are small, so distances are larger."""

LEAST_HOST_SHARE = 0.3
"""A view that shows so much of another picture counts as a view of that one too."""

UNIQUE = -1
"""Group of a picture that has no near-duplicate."""


@dataclass
class Memory:
    """References of past steps, the oldest overwritten first.

    Attributes:
        rows: float32, (M, width), of unit length; zeros where nothing was written yet.
        groups: Group of near-duplicates of each: int64, (M,); `UNIQUE` for pictures without.
        place: Where the next one goes.
        filled: How many were written, at most M.
    """

    rows: Tensor
    groups: Tensor
    place: int = 0
    filled: int = 0

    def add(self, rows: Tensor, groups: Tensor) -> None:
        """Write references."""
        where = (torch.arange(len(rows), device=rows.device) + self.place) % len(self.rows)
        self.rows[where], self.groups[where] = rows.detach(), groups
        self.place = (self.place + len(rows)) % len(self.rows)
        self.filled = min(len(self.rows), self.filled + len(rows))


def same_work(left: Tensor, right: Tensor) -> Tensor:
    """Which pictures are near-duplicates: groups (N,), (M,) → bool, (N, M)."""
    return (left[:, None] == right[None]) & (left[:, None] != UNIQUE)


def labels(count: int, hosts: Tensor, host_shares: Tensor) -> Tensor:
    """Return how far each view is one of each work of the batch: float32, (N, count), rows of sum 1."""
    target = torch.eye(count, device=hosts.device)
    weight = torch.where(host_shares >= LEAST_HOST_SHARE, host_shares, torch.zeros_like(host_shares))
    target[torch.arange(count, device=hosts.device), hosts] += weight
    return target / target.sum(dim=1, keepdim=True)


def contrastive(
    views: Tensor, references: Tensor, target: Tensor, *, groups: Tensor, past: Tensor, past_groups: Tensor
) -> Tensor:
    """Cross-entropy of naming the work that each view shows, and the view that shows each work.

    Args:
        views: float32, (N, width), of unit length: one view of each work of the batch.
        references: float32, (N, width), of unit length: the works.
        target: float32, (N, N), from `labels`.
        groups: Groups of near-duplicates: int64, (N,). Such pairs are neither positive nor negative.
        past: float32, (M, width): references of other steps, negatives all but for near-duplicates.
        past_groups: int64, (M,).

    Returns:
        The loss, a scalar.
    """
    own = torch.eye(len(views), dtype=torch.bool, device=views.device)
    alike = same_work(groups, groups) & ~own
    present = (views @ references.T / TEMPERATURE).masked_fill(alike & (target == 0), -torch.inf)
    before = (views @ past.T / TEMPERATURE).masked_fill(same_work(groups, past_groups), -torch.inf)
    named = torch.cat([present, before], dim=1).log_softmax(dim=1)[:, : len(views)]
    shown = present.log_softmax(dim=0)
    naming = -(target * named.masked_fill(target == 0, 0)).sum(dim=1).mean()
    back = target / target.sum(dim=0, keepdim=True)
    showing = -(back * shown.masked_fill(target == 0, 0)).sum(dim=0).mean()
    return (naming + showing) / 2


def entropy(rows: Tensor, groups: Tensor) -> Tensor:
    """Kozachenko-Leonenko estimate of minus the entropy: small where each row is far from its nearest.

    Args:
        rows: float32, (N, width), of unit length.
        groups: int64, (N,): near-duplicates may be near.
    """
    excluded = same_work(groups, groups) | torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    nearest = (rows @ rows.T).masked_fill(excluded, -2.0).argmax(dim=1)
    distance = F.pairwise_distance(rows, rows[nearest], eps=1e-4)
    return -distance.log().mean()
