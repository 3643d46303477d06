"""How far a prompt moves the noise prediction: large for memorised prompts, and seen before any picture is made.

Wen, Liu, Chen & Lyu 2024, "Detecting, Explaining, and Mitigating Memorization in Diffusion Models" (ICLR): the
magnitude ‖ε(x, prompt) - ε(x, nothing)‖ is larger for memorised prompts, from the first denoising step on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.audit.pipelines import calm
from index.errors import UsageError


def why_not(pipe: Any) -> str:
    """Say why prompts cannot be measured on a pipeline, or return an empty string."""
    name = type(pipe).__name__
    missing = [
        part
        for part in ("unet", "text_encoder", "tokenizer", "scheduler", "encode_prompt")
        if getattr(pipe, part, None) is None
    ]
    if missing:
        return f"{name} has no {missing[0]}: prompts are measured on pipelines like Stable Diffusion 1 and 2"
    if getattr(pipe.unet.config, "addition_embed_type", None) is not None:
        return f"the UNet of {name} asks for more than a prompt: not supported yet"
    return ""


def prompt_magnitude(
    pipe: Any,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    steps: int = 25,
    first: int = 1,
    guidance: float = 7.5,
    size: int | None = None,
) -> NDArray[np.float64]:
    """Measure how far prompts move the noise prediction at the first denoising steps.

    Every prompt sees the same noise, so that the prompts alone make the difference. Compare the result with that
    of prompts which the model never saw: its scale differs from model to model.

    Args:
        pipe: A pipeline with `unet`, `text_encoder`, `tokenizer` and `scheduler`; stays as it is.
        prompts: Any number; they go through the UNet at once.
        seeds: Of the noise; the mean over them is returned.
        steps: Denoising steps of a whole generation.
        first: How many of them to look at, from the first on.
        guidance: Scale by which denoising goes on, where `first` is above 1.
        size: Side of the pictures in pixels; None: as the UNet was made for.

    Returns:
        float64, (prompts,): ‖ε(x, prompt) - ε(x, nothing)‖₂ over one picture's latents, mean over steps and seeds.
        For a model that predicts v instead of ε, the same of v.

    Raises:
        UsageError: The pipeline is none whose prompts can be measured.
    """
    import torch

    reason = why_not(pipe)
    if reason:
        raise UsageError(reason)
    unet = pipe.unet
    side = unet.config.sample_size if size is None else size // pipe.vae_scale_factor
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    with calm(), torch.inference_mode():
        told, untold = pipe.encode_prompt(
            prompt=list(prompts),
            device=unet.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )
        sums = torch.zeros(len(prompts), dtype=torch.float64)
        for seed in seeds:
            scheduler.set_timesteps(steps, device=unet.device)
            generator = torch.Generator("cpu").manual_seed(seed)
            noise = torch.randn((1, unet.config.in_channels, side, side), generator=generator)
            latents = noise.to(unet.device, unet.dtype).repeat(len(prompts), 1, 1, 1)
            latents = latents * scheduler.init_noise_sigma
            for time in scheduler.timesteps[:first]:
                scaled = scheduler.scale_model_input(latents, time)
                with_words = unet(scaled, time, encoder_hidden_states=told).sample
                without = unet(scaled, time, encoder_hidden_states=untold).sample
                moved = with_words - without
                sums += moved.double().flatten(1).norm(dim=1).cpu()
                if first > 1:
                    guided = without + guidance * moved
                    latents = scheduler.step(guided, time, latents).prev_sample
    found: NDArray[np.float64] = (sums / (len(seeds) * first)).numpy()
    return found
