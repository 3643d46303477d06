"""Tiny pipelines with random weights, saved to folders, and a stand-in for one that has memorised a picture.

Pictures are 32 pixels wide: the classes are diffusers' own, their networks are a few thousand parameters.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SIDE = 32
WIDTH = 32
"""Of text embeddings."""

CALM = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def clip_tokenizer() -> CLIPTokenizer:
    """One token a character."""
    words = [letter + end for end in ("", "</w>") for letter in string.printable[:95]]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def clip_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5() -> tuple[T5Tokenizer, T5EncoderModel]:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [(letter, -3.0) for letter in string.ascii_lowercase]
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=WIDTH,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=1,
        num_heads=2,
        dropout_rate=0,
    )
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16), T5EncoderModel(config)


def autoencoder(latents: int, **settings: Any) -> AutoencoderKL:
    """One that halves width and height."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latents,
        norm_num_groups=2,
        sample_size=SIDE,
        **settings,
    )


def unet(**settings: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=SIDE // 2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=settings.pop("cross_attention_dim", WIDTH),
        norm_num_groups=2,
        attention_head_dim=2,
        **settings,
    )


def ddim() -> DDIMScheduler:
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def stable_diffusion(**parts: Any) -> StableDiffusionPipeline:
    tokenizer = clip_tokenizer()
    own = {
        "vae": autoencoder(4),
        "text_encoder": CLIPTextModel(clip_config(tokenizer)),
        "tokenizer": tokenizer,
        "unet": unet(),
        "scheduler": ddim(),
    }
    return StableDiffusionPipeline(**(own | CALM | parts))


def control(count: int) -> Callable[[], StableDiffusionControlNetPipeline]:
    """Make one with this many control networks."""

    def make() -> StableDiffusionControlNetPipeline:
        parts = stable_diffusion().components
        nets = [
            ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 8))
            for _ in range(count)
        ]
        for net in nets:  # as made, they begin as zeros, and no control would show
            torch.nn.init.normal_(net.controlnet_mid_block.weight, std=0.3)
            torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.3)
        return StableDiffusionControlNetPipeline(**(parts | CALM), controlnet=nets if count > 1 else nets[0])

    return make


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    tokenizer = clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(clip_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(tokenizer)),
        tokenizer=tokenizer,
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 1),
        ),
        scheduler=ddim(),
        add_watermarker=False,
    )


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    tokenizer = clip_tokenizer()
    tokenizer_3, text_encoder_3 = t5()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIDE // 2,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=WIDTH,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=2 * WIDTH,
            out_channels=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(4, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(clip_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(clip_config(tokenizer)),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def flux() -> FluxPipeline:
    tokenizer = clip_tokenizer()
    tokenizer_2, text_encoder_2 = t5()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(1, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(clip_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def saved(make: Callable[[], Any], folder: Path) -> Path:
    """Make a pipeline with seeded weights and save it."""
    torch.manual_seed(5)
    make().save_pretrained(folder)
    return folder


@dataclass
class Memoriser:
    """Called like a pipeline; some seeds make it return one and the same picture, the others unrelated ones.

    Attributes:
        picture: What was memorised.
        others: Pictures for the other seeds.
        memorised: Seeds that bring it back.
        calls: The arguments of every call.
    """

    picture: Image.Image
    others: list[Image.Image]
    memorised: set[int]
    calls: list[dict[str, Any]]
    scheduler: Any = None

    def __call__(
        self,
        prompt: str | list[str] = "",
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int | None = 1,
        generator: Any = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        self.calls.append({key: value for key, value in locals().items() if key != "self"})
        prompts = (
            len(prompt_embeds) if prompt_embeds is not None else 1 if isinstance(prompt, str) else len(prompt)
        )
        count = prompts * (num_images_per_prompt or 1)
        if isinstance(generator, list):
            assert len(generator) == count
            seeds = [each.initial_seed() for each in generator]
        else:
            seeds = [(generator.initial_seed() if generator is not None else 0) + at for at in range(count)]
        made = [
            self.picture if seed in self.memorised else self.others[seed % len(self.others)] for seed in seeds
        ]
        for each in generator if isinstance(generator, list) else [generator]:
            if each is not None:
                torch.rand(1, generator=each)
        images: Any = made
        if output_type != "pil":
            images = np.stack([np.asarray(image, np.float32) / 255 for image in made])
        if output_type == "pt":
            images = torch.from_numpy(images.transpose(0, 3, 1, 2))
        flags = [False] * count
        if not return_dict:
            return images, flags
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flags)
