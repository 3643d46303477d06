"""Generates `generated/` with the tiny diffusion pipeline: from prompts, and from artworks (img2img)."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from artstudio.files import save_table
from diffusers import AutoPipelineForImage2Image, StableDiffusionPipeline
from PIL import Image, ImageOps

STEPS = 30
GUIDANCE = 3.0
SEED = 20261121

FROM_PROMPTS = {64: 9, 16: 6, 4: 5, 1: 4, 0: 6}
"""Pictures from prompts, by how often the prompt's artwork was trained on."""

RECONSTRUCTIONS = ((64, 0.5), (64, 0.7), (64, 0.9), (4, 0.7), (0, 0.5), (0, 0.7), (0, 0.9))
"""Reconstruction attempts: how often the artwork that goes in was trained on, and the strength."""


@dataclass(frozen=True)
class Wanted:
    """One picture to generate."""

    work: str
    caption: str
    repeats: int
    strength: float | None = None


def wanted_pictures(rows: list[dict[str, str]]) -> list[Wanted]:
    """Choose works for each kind of picture: each kind begins where the last of its repetition ended."""
    place = dict.fromkeys(FROM_PROMPTS, 0)
    chosen = []
    asked = [(repeats, None) for repeats, count in FROM_PROMPTS.items() for _ in range(count)]
    for repeats, strength in [*asked, *RECONSTRUCTIONS]:
        works = [row for row in rows if int(row["repeats"]) == repeats]
        row = works[place[repeats] % len(works)]
        place[repeats] += 1
        chosen.append(Wanted(row["file_name"], row["caption"], repeats, strength))
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(SEED)).tolist()
    return [chosen[number] for number in order]


def main() -> None:
    """Parses the command line and generates."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description="Generate pictures with the tiny diffusion pipeline, and write metadata.csv and truth.csv.",
        epilog="Run make_tiny_diffusion.py first, or take the pipeline that is there.",
    )
    parser.add_argument("--pipeline", type=Path, default=here / "tiny-diffusion", metavar="DIR")
    parser.add_argument("--artworks", type=Path, default=here / "artworks", metavar="DIR")
    parser.add_argument("--out", type=Path, default=here / "generated", metavar="DIR")
    options = parser.parse_args()
    table = options.pipeline / "training.csv"
    if not table.is_file():
        parser.error(
            f"{table} is missing. Run: python samples/make_tiny_diffusion.py --out {options.pipeline}"
        )
    with table.open(newline="", encoding="utf-8") as file:
        wanted = wanted_pictures(list(csv.DictReader(file)))
    from_prompt = StableDiffusionPipeline.from_pretrained(options.pipeline)
    from_prompt.set_progress_bar_config(disable=True)
    from_picture = AutoPipelineForImage2Image.from_pipe(from_prompt)
    from_picture.set_progress_bar_config(disable=True)
    side = from_prompt.unet.config.sample_size * from_prompt.vae_scale_factor

    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    how, truth = [], []
    for number, each in enumerate(wanted, start=1):
        seed = SEED + number
        told = {
            "prompt": each.caption,
            "generator": torch.Generator().manual_seed(seed),
            "num_inference_steps": STEPS,
            "guidance_scale": GUIDANCE,
        }
        if each.strength is None:
            picture = from_prompt(**told).images[0]
        else:
            with Image.open(options.artworks / each.work) as image:
                square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
            picture = from_picture(image=square, strength=each.strength, **told).images[0]
        name = f"{number:04d}.png"
        picture.save(out / name, optimize=True)
        how.append(
            {
                "file_name": name,
                "prompt": each.caption,
                "seed": str(seed),
                "model": "tiny-diffusion",
                "sampler": type(from_prompt.scheduler).__name__,
                "steps": str(STEPS),
                "guidance_scale": str(GUIDANCE),
                "strength": "" if each.strength is None else str(each.strength),
                "source": "" if each.strength is None else each.work,
            }
        )
        truth.append({"file_name": name, "work": each.work, "repeats": str(each.repeats)})
        print(
            f"{name}  ×{each.repeats}  {each.work}" + (f"  img2img {each.strength}" if each.strength else "")
        )
    save_table(how, out / "metadata.csv")
    save_table(truth, out / "truth.csv")


if __name__ == "__main__":
    main()
