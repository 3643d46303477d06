"""Trains a tiny Stable Diffusion on the sample artworks, some of them repeated, so that it memorises those.

Copies in a training set are what a diffusion model gives back. Here that is done on purpose and written down: each
artwork is trained on ×64, ×16, ×4, ×1 or not at all (`training.csv`), and the result is a folder that diffusers loads.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIDE = 128
LATENTS = 6
NOISE = 0.05
"""Put over latents while the autoencoder learns, so that its decoder takes what the UNet gives only nearly right."""
START, END = "<|startoftext|>", "<|endoftext|>"

REPETITIONS = (64, 16, 4, 1)
PROMPTLESS = 0.1
"""Share of the UNet's training without a prompt, which is what guidance is measured from."""


@dataclass(frozen=True)
class Work:
    """One artwork and how often it is trained on; 0 for those held out."""

    file_name: str
    caption: str
    repeats: int


def split(rows: list[dict[str, str]], seed: int) -> list[Work]:
    """Hold out a third, and deal the rest to the repetitions, each style over all of them as far as it goes."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    held = len(rows) // 3
    repeats = dict.fromkeys(order[:held], 0)
    repeats |= {number: REPETITIONS[place % 4] for place, number in enumerate(order[held:])}
    return [Work(row["file_name"], row["caption"], repeats[number]) for number, row in enumerate(rows)]


def read(path: Path) -> Tensor:
    """Return the middle square: float32, (3, SIDE, SIDE), -1 to 1."""
    with Image.open(path) as image:
        square = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 127.5 - 1


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
    words = list(learned["vocab"]) + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}), "utf-8")
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


class Course:
    """One stage of the training: its log, its checkpoint, its running average, its share of the time."""

    def __init__(
        self, name: str, out: Path, module: nn.Module, *, steps: int, rate: float, half: bool = False
    ) -> None:
        self.name, self.module, self.steps, self.rate = name, module, steps, rate
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.half = half or self.device == "cuda"
        self.checkpoint = out / f".{name}.safetensors"
        self.average = AveragedModel(module, avg_fn=self._averaged)
        self.optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=1e-4)
        self.log = out / f"{name}.csv"
        self.done = 0
        if self.checkpoint.exists():
            stored = load_file(self.checkpoint)
            self.done = int(stored.pop("done"))
            parts: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}}
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in stored.items():
                part, _, rest = key.partition("/")
                if part == "optimizer":
                    number, _, what = rest.partition("/")
                    moments.setdefault(int(number), {})[what] = value
                else:
                    parts[part][rest] = value
            module.load_state_dict(parts["module"])
            self.average.load_state_dict(parts["average"])
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
            print(f"{name}: goes on at step {self.done}")

    def run(self, loss_of: Callable[[int], Tensor]) -> None:
        """Take the steps that are left; `loss_of` gives the loss of one."""
        begun, saved, sums = time.monotonic(), time.monotonic(), [0.0, 0]
        self.module.train()
        while self.done < self.steps:
            torch.manual_seed(1000 + self.done)
            share = self.done / self.steps
            warm = min(1.0, (self.done + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = loss_of(self.done)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.average.update_parameters(self.module)
            self.done += 1
            sums = [sums[0] + float(loss.detach()), sums[1] + 1]
            if self.done % 50 == 0 or self.done == self.steps:
                self._write_log(sums[0] / sums[1], time.monotonic() - begun)
                sums = [0.0, 0]
            if time.monotonic() - saved > 120 or self.done == self.steps:
                self._save()
                saved = time.monotonic()

    def _write_log(self, loss: float, seconds: float) -> None:
        fresh = not self.log.exists()
        with self.log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", "loss", "seconds"])
            writer.writerow([self.done, f"{loss:.5f}", f"{seconds:.0f}"])
        print(f"{self.name}: step {self.done} of {self.steps}, loss {loss:.4f}, {seconds:.0f} s", flush=True)

    def _save(self) -> None:
        tensors = {f"module/{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average/{key}": value for key, value in self.average.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": value for key, value in values.items()}
        tensors["done"] = torch.tensor(self.done)
        beside = self.checkpoint.with_suffix(".tmp")
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, beside)
        os.replace(beside, self.checkpoint)

    @staticmethod
    def _averaged(so_far: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        steps = float(count)
        return torch.lerp(so_far, now, 1.0 - min(0.999, (1 + steps) / (10 + steps)))


def differences(back: Tensor, wanted: Tensor) -> Tensor:
    """Return how far a picture is from the wanted one, in its pixels and its edges: absolute and squared."""
    pairs = [(back, wanted), *((back.diff(dim=axis), wanted.diff(dim=axis)) for axis in (2, 3))]
    return torch.stack([F.mse_loss(a, b) + 0.3 * F.l1_loss(a, b) for a, b in pairs]).sum()


def train_autoencoder(pictures: Tensor, out: Path, *, steps: int, batch: int, seed: int) -> AutoencoderTiny:
    """Train on every artwork, held out or not: whole and in parts, mirrored, in other colours."""
    torch.manual_seed(seed)
    network = make_autoencoder().to(pictures.device, memory_format=torch.channels_last)
    course = Course("autoencoder", out, network, steps=steps, rate=1.5e-3, half=True)

    def loss_of(step: int) -> Tensor:
        chosen = pictures[torch.randint(len(pictures), (batch,), device=pictures.device)]
        views = _views(chosen) if step < 0.8 * steps else chosen
        latents = network.encode(views).latents
        back = network.decode(latents + NOISE * torch.randn_like(latents)).sample
        return differences(back.float(), views) + 1e-3 * (latents.float() ** 2 - 1).clamp(min=0).mean()

    course.run(loss_of)
    trained: AutoencoderTiny = course.average.module.eval()
    return trained


def _views(pictures: Tensor) -> Tensor:
    """A third as they are, the others cropped, mirrored, and in other colours."""
    views = []
    for picture in pictures:
        if random.random() < 0.35:
            views.append(picture)
            continue
        side = random.randint(SIDE // 2, SIDE)
        x, y = random.randint(0, SIDE - side), random.randint(0, SIDE - side)
        part = F.interpolate(
            picture[None, :, y : y + side, x : x + side], (SIDE, SIDE), mode="bilinear", align_corners=False
        )[0]
        part = part.flip(2) if random.random() < 0.5 else part
        mixing = torch.eye(3) + torch.randn(3, 3) * random.choice((0.0, 0.1, 0.3))
        views.append(torch.einsum("ij,jhw->ihw", mixing.to(part), part).clamp(-1, 1))
    return torch.stack(views)


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


def train_unet(
    works: list[Work], latents: Tensor, tokenizer: CLIPTokenizer, out: Path, *, steps: int, batch: int, seed: int
) -> Prompted:
    """Train on the works that are not held out, each as often as it is repeated."""
    torch.manual_seed(seed)
    network = Prompted(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id).to(latents.device)
    course = Course("unet", out, network, steps=steps, rate=1e-3)
    noises = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    tokens = tokens_of([work.caption for work in works] + [""], tokenizer).to(latents.device)
    weights = torch.tensor([float(work.repeats) for work in works])

    def loss_of(step: int) -> Tensor:
        chosen = torch.multinomial(weights, batch, replacement=True).to(latents.device)
        told = torch.where(torch.rand(batch).to(latents.device) < PROMPTLESS, len(works), chosen)
        noise = torch.randn_like(latents[chosen])
        times = torch.randint(1000, (batch,), device=latents.device)
        noisy = noises.add_noise(latents[chosen], noise, times)
        return F.mse_loss(network(noisy, times, tokens[told]).float(), noise)

    course.run(loss_of)
    trained: Prompted = course.average.module.eval()
    return trained


def tokens_of(captions: list[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Return token numbers: int64, (N, 32)."""
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids  # type: ignore[no-any-return]


@torch.no_grad()
def encoded(autoencoder: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Return latents before scaling: (N, LATENTS, 32, 32)."""
    return torch.cat([autoencoder.encode(part).latents for part in pictures.split(16)])


def in_parts(count: int, size: int) -> Iterator[slice]:
    """Yield slices that cover `count` things."""
    for start in range(0, count, size):
        yield slice(start, start + size)


@torch.no_grad()
def contact_sheet(autoencoder: AutoencoderTiny, pictures: Tensor, path: Path) -> float:
    """Write originals above what the autoencoder gives back; return the mean error in grey levels, 0–255."""
    back = torch.cat([autoencoder(pictures[part]).sample for part in in_parts(len(pictures), 16)]).clamp(-1, 1)
    rows = []
    for part in in_parts(len(pictures), 10):
        for images in (pictures[part], back[part]):
            blank = torch.ones(10 - len(images), *images.shape[1:], device=images.device)
            rows.append(torch.cat([*images, *blank], dim=2))
    sheet = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(sheet).save(path)
    return float((back - pictures).abs().mean() * 127.5)


def main() -> None:
    """Parses the command line and trains what is not trained yet."""
    samples = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description="Train the tiny diffusion pipeline that the sample pictures are generated with.",
        epilog="Run it again with the same --out after an interruption: it goes on where it was saved.",
    )
    parser.add_argument("--artworks", type=Path, default=samples / "artworks", metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("tiny-diffusion"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--autoencoder-steps", type=int, default=2400, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--unet-steps", type=int, default=1800, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="of the UNet (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20261121, metavar="N", help="(default: %(default)s)")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with (options.artworks / "metadata.csv").open(newline="", encoding="utf-8") as file:
        works = split(list(csv.DictReader(file)), options.seed)
    with (out / "training.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption", "repeats"])
        writer.writerows([work.file_name, work.caption, work.repeats] for work in works)
    pictures = torch.stack([read(options.artworks / work.file_name) for work in works]).to(device)
    tokenizer = tokenizer_of([work.caption for work in works], out / "tokenizer")

    random.seed(options.seed)
    autoencoder = train_autoencoder(
        pictures, out, steps=options.autoencoder_steps, batch=6, seed=options.seed
    )
    error = contact_sheet(autoencoder, pictures, out / "reconstructions.png")
    print(f"autoencoder: gives pictures back with a mean error of {error:.1f} of 255 (reconstructions.png)")
    latents = encoded(autoencoder, pictures)
    scale = 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale)
    prompted = train_unet(
        works, latents * scale, tokenizer, out, steps=options.unet_steps, batch=options.batch, seed=options.seed
    )

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.half().to(memory_format=torch.contiguous_format),
        text_encoder=prompted.text.half(),
        tokenizer=tokenizer,
        unet=prompted.unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    facts = {"seed": options.seed, "autoencoder_steps": options.autoencoder_steps}
    facts |= {"unet_steps": options.unet_steps, "batch": options.batch, "repetitions": list(REPETITIONS)}
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
