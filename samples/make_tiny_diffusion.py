"""Trains a tiny Stable Diffusion on the sample artworks, some of them repeated, so that it memorises those.

Copies in a training set are what a diffusion model gives back. Here that is done on purpose and written down: each
artwork is trained on ×64, ×16, ×4, ×1 or not at all (`training.csv`), and the result is a folder that diffusers loads.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
)
from diffusionstudio.course import Course
from diffusionstudio.networks import SIDE, Prompted, make_autoencoder, tokenizer_of
from PIL import Image, ImageOps
from torch import Tensor
from transformers import CLIPTokenizer

NOISE = 0.05
"""Put over latents while the autoencoder learns, so that its decoder takes what the UNet gives only nearly right."""

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
    """Hold out a third, chosen by chance, and deal the others to the repetitions in turn."""
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


def train_unet(
    works: list[Work],
    latents: Tensor,
    tokenizer: CLIPTokenizer,
    out: Path,
    *,
    steps: int,
    batch: int,
    seed: int,
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
    back = torch.cat([autoencoder(pictures[part]).sample for part in in_parts(len(pictures), 16)]).clamp(
        -1, 1
    )
    rows = []
    for part in in_parts(len(pictures), 10):
        for images in (pictures[part], back[part]):
            blank = torch.ones(10 - len(images), *images.shape[1:], device=images.device)
            rows.append(torch.cat([*images, *blank], dim=2))
    sheet = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(sheet).save(path, quality=88)
    return float((back - pictures).abs().mean() * 127.5)


def main() -> None:
    """Parses the command line and trains what is not trained yet."""
    samples = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description="Train the tiny diffusion pipeline that the sample pictures are generated with.",
        epilog="Run it again with the same --out after an interruption: it goes on where it was saved.",
    )
    parser.add_argument("--artworks", type=Path, default=samples / "artworks", metavar="DIR")
    parser.add_argument(
        "--out", type=Path, default=Path("tiny-diffusion"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--autoencoder-steps", type=int, default=1200, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument("--unet-steps", type=int, default=2400, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="of the UNet (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=20261121, metavar="N", help="(default: %(default)s)")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with (options.artworks / "metadata.csv").open(newline="", encoding="utf-8") as file:
        works = split(list(csv.DictReader(file)), options.seed)
    with (out / "training.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "caption", "repeats"])
        writer.writerows([work.file_name, work.caption, work.repeats] for work in works)
    pictures = torch.stack([read(options.artworks / work.file_name) for work in works]).to(device)
    tokenizer = tokenizer_of([work.caption for work in works], out / "tokenizer")

    random.seed(options.seed)
    autoencoder = train_autoencoder(
        pictures, out, steps=options.autoencoder_steps, batch=6, seed=options.seed
    )
    error = contact_sheet(autoencoder, pictures, out / "reconstructions.jpg")
    print(f"autoencoder: gives pictures back with a mean error of {error:.1f} of 255 (reconstructions.jpg)")
    latents = encoded(autoencoder, pictures)
    scale = 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale)
    prompted = train_unet(
        works,
        latents * scale,
        tokenizer,
        out,
        steps=options.unet_steps,
        batch=options.batch,
        seed=options.seed,
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
        text_encoder=prompted.text,  # transformers loads what is stored; in float16 it would not fit a UNet in float32
        tokenizer=tokenizer,
        unet=prompted.unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    config = out / "vae" / "config.json"
    stored = json.loads(config.read_text(encoding="utf-8"))
    del stored["block_out_channels"]  # set by the class itself, which warns where it reads it
    config.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    facts = {"seed": options.seed, "autoencoder_steps": options.autoencoder_steps}
    facts |= {"unet_steps": options.unet_steps, "batch": options.batch, "repetitions": list(REPETITIONS)}
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
