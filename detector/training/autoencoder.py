"""A small image autoencoder, whose round trip stands in for that of a latent diffusion model.

Latent diffusion models see a picture through an autoencoder that keeps an eighth of each side (Rombach et al.
2022, arXiv:2112.10752); what it cannot keep it invents. Ours is trained for some hundred steps on the training
pictures before the tower is, then left as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT = 12
"""Channels of the latent, at an eighth of each side: 3 * 64 / 12 = 16 values become one."""

WIDTH = 32


class Autoencoder(nn.Module):
    """Pictures → latents, an eighth of each side → pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3 * 16, 2 * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * WIDTH, 4 * WIDTH, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * WIDTH, LATENT, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT, 4 * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * WIDTH, 4 * WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * WIDTH, 8 * WIDTH, 1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(2 * WIDTH, 3 * 16, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, pictures: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """Return the round trip of pictures (N, 3, S, S), S a multiple of 8, 0–1; `noise` is added to latents."""
        latent = torch.tanh(self.encoder(F.pixel_unshuffle(pictures * 2 - 1, 4)))
        decoded: Tensor = self.decoder(latent + noise)
        return (decoded + 1) / 2
