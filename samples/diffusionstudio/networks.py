"""The networks of the tiny diffusion pipeline: tokenizer, autoencoder, text encoder, UNet."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIDE = 128
LATENTS = 6
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_of(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary from the captions, in CLIP's form."""
    learner = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=1500, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"]]
    words = [*learned["vocab"], START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({word: number for number, word in enumerate(words)}), "utf-8"
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)


def make_autoencoder() -> AutoencoderTiny:
    """Return one that takes 128 × 128 × 3 to 32 × 32 × LATENTS.

    The first three channels pass the colours through from the start, a quarter of the size, so that training is about
    the detail alone: from random weights it takes most of an hour until there is any colour.
    """
    network = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        latent_channels=LATENTS,
        num_encoder_blocks=(1, 1, 3),
        num_decoder_blocks=(5, 3, 1),
    )
    with torch.no_grad():
        for layers in (network.encoder.layers, network.decoder.layers):
            for layer in layers:
                if isinstance(layer, nn.Conv2d):
                    _pass_colours(layer)
                elif hasattr(layer, "conv"):
                    layer.conv[-1].weight.mul_(0.1)[:3] = 0
                    layer.conv[-1].bias.zero_()
        # Colours are 0 to 1 inside, as the network rectifies, and -1 to 1 as latents.
        to_latents, from_latents = network.encoder.layers[-1], network.decoder.layers[0]
        to_latents.weight[:3] *= 2
        to_latents.bias[:3] = -1
        from_latents.weight[:3] /= 2
        from_latents.bias[:3] = 0.5
        network.decoder.layers[-1].weight[:, 3:] = 0
    return network


def _pass_colours(layer: nn.Conv2d) -> None:
    """Make the first three channels out the first three in, averaged where the layer halves the size."""
    layer.weight[:3] = 0
    if layer.bias is not None:
        layer.bias[:3] = 0
    for colour in range(3):
        if layer.stride[0] == 2:
            layer.weight[colour, colour, 1:, 1:] = 0.25
        else:
            layer.weight[colour, colour, 1, 1] = 1


def make_unet(width: int) -> UNet2DConditionModel:
    """Return one for 32 × 32 latents, 7.1 M parameters, that is told of prompts of this width."""
    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=LATENTS,
        out_channels=LATENTS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 160),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=8,
    )


class Prompted(nn.Module):
    """The text encoder and the UNet, which learn together."""

    def __init__(self, words: int, start: int, end: int) -> None:
        super().__init__()
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words,
                hidden_size=128,
                intermediate_size=256,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=32,
                bos_token_id=start,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.unet = make_unet(128)

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """Return the noise that is predicted."""
        predicted: Tensor = self.unet(noisy, times, self.text(tokens)[0]).sample
        return predicted
