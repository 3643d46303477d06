"""How pictures were generated, as their files and lists beside them say; findings saved in pictures."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import struct
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from detector import Detector
from detector.cli import app
from detector.generation import Generation
from detector.metadata import GenerationLists, read_generation, read_report_in, write_picture
from detector.provenance import comfyui
from detector.provenance.comfyui import read_graph
from detector.provenance.infotext import read_infotext, write_infotext
from detector.provenance.settings import MAX_EXTRA, MAX_NAME, MAX_PROMPT, filled_from, generation_from
from detector.report import Evidence, ImageReport, Match, Occurrence, Reference, Verdict
from detector.scan import ScanOptions
from index.errors import UsageError

INFOTEXT = (
    'a cat, "quoted", (soft light:1.2)\n'
    "in two lines: and a colon\n"
    "Negative prompt: text, watermark\n"
    "more of it\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 3141592653, Size: 512x768, "
    'Model hash: 6ce0161689, Model: "v1-5, pruned", Denoising strength: 0.4, '
    'Lora hashes: "one: 12ab, two: 34cd", Version: v1.10.1'
)
SAID = Generation(
    tool="AUTOMATIC1111",
    prompt='a cat, "quoted", (soft light:1.2)\nin two lines: and a colon',
    negative_prompt="text, watermark\nmore of it",
    model="v1-5, pruned",
    sampler="DPM++ 2M",
    seed=3141592653,
    steps=20,
    guidance=7.5,
    strength=0.4,
    extra={
        "Schedule type": "Karras",
        "Size": "512x768",
        "Model hash": "6ce0161689",
        "Lora hashes": "one: 12ab, two: 34cd",
        "Version": "v1.10.1",
    },
)


def encoded(kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, kind, **options)
    return buffer.getvalue()


def png(**texts: str) -> bytes:
    """A PNG with text chunks; underscores of the names stand for what Python forbids there."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name.replace("sd_", "sd-"), text)
    return encoded(pnginfo=info)


def with_comment(comment: bytes, kind: str = "JPEG", *, first: bool = False) -> bytes:
    """A picture with an EXIF UserComment, in EXIF's own directory or in the first one."""
    exif = Image.Exif()
    (exif if first else exif.get_ifd(0x8769))[0x9286] = comment
    return encoded(kind, exif=exif.tobytes())


# AUTOMATIC1111 and what writes the same


def test_infotext_of_a_png_is_read_with_quotes_commas_and_lines() -> None:
    assert read_generation(png(parameters=INFOTEXT)) == SAID


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + ("猫, " + INFOTEXT).encode("utf-16-be"),
        b"UNICODE\0" + ("猫, " + INFOTEXT).encode("utf-16-le"),
        b"UNICODE\0" + ("猫, " + INFOTEXT).encode("utf-16"),
        b"UNICODE\0" + ("猫, " + INFOTEXT).encode(),
        b"ASCII\0\0\0" + ("猫, " + INFOTEXT).encode(),
        b"\0" * 8 + ("猫, " + INFOTEXT).encode(),
        ("猫, " + INFOTEXT).encode(),
    ],
    ids=["big endian", "little endian", "with a mark", "wrongly declared", "ascii", "undefined", "bare"],
)
def test_infotext_of_an_exif_comment_is_read_in_every_coding(kind: str, comment: bytes) -> None:
    assert read_generation(with_comment(comment, kind)) == replace(SAID, prompt="猫, " + SAID.prompt)


def test_a_comment_in_the_first_directory_is_read_too() -> None:
    assert read_generation(with_comment(b"ASCII\0\0\0" + INFOTEXT.encode(), first=True)) == SAID


def test_compressed_and_international_chunks_are_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", INFOTEXT, zip=True)
    assert read_generation(encoded(pnginfo=info)) == SAID
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", "猫\nSteps: 3, Seed: 1", zip=True)
    found = read_generation(encoded(pnginfo=info))
    assert found is not None
    assert (found.prompt, found.steps) == ("猫", 3)


def test_chunks_behind_the_pixels_are_read() -> None:
    chunk = b"tEXtparameters\0" + INFOTEXT.encode("latin-1")
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    plain = encoded()
    assert read_generation(plain[:-12] + packed + plain[-12:]) == SAID


@pytest.mark.parametrize(
    ("settings_line", "tool"),
    [
        ("Steps: 8, Seed: 1, Version: v1.10.1", "AUTOMATIC1111"),
        ("Steps: 8, Seed: 1, Version: f2.0.1v1.10.1-previous-659-gc055f2d4", "Forge"),
        ("Steps: 8, Seed: 1, App: SD.Next, Version: 1bd1d5c", "SD.Next"),
        ("Steps: 8, Seed: 1, Version: Fooocus v2.5.5", "Fooocus"),
    ],
)
def test_the_tool_is_told_by_its_version(settings_line: str, tool: str) -> None:
    found = read_infotext(f"a cat\n{settings_line}")
    assert found is not None
    assert (found.tool, found.prompt, found.seed) == (tool, "a cat", 1)


def test_a_denoising_strength_of_the_second_pass_is_no_img2img() -> None:
    found = read_infotext(
        "a cat\nSteps: 8, Seed: 1, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 4"
    )
    assert found is not None
    assert found.strength is None
    assert not found.is_reconstruction
    assert found.extra["Denoising strength"] == "0.5"


def test_values_in_brackets_are_one_value() -> None:
    text = 'cat\nSteps: 8, Civitai resources: [{"type":"lora","weight":1, "x": "a, Seed: 9"}], Seed: 2'
    found = read_infotext(text)
    assert found is not None
    assert found.seed == 2
    assert json.loads(found.extra["Civitai resources"])[0]["type"] == "lora"


def test_settings_in_another_order_are_found_and_a_prompt_that_names_steps_stays_one() -> None:
    found = read_infotext("Steps: 2 men on stairs\nSampler: Euler a, Seed: 7, Size: 8x8")
    assert found is not None
    assert (found.prompt, found.sampler, found.seed) == ("Steps: 2 men on stairs", "Euler a", 7)


@pytest.mark.parametrize("text", ["", "Canon EOS, taken at noon", "a: b", "Photo: me, Place: here", "\n\n"])
def test_other_texts_are_no_infotext(text: str) -> None:
    assert read_infotext(text) is None
    assert read_generation(with_comment(b"ASCII\0\0\0" + text.encode())) is None


def test_numbers_that_are_none_are_kept_as_said() -> None:
    found = read_infotext("cat\nSteps: 8, Seed: random, CFG scale: nan, Denoising strength: 3")
    assert found is not None
    assert (found.seed, found.guidance, found.strength) == (None, None, None)
    assert found.extra == {"Seed": "random", "CFG scale": "nan", "Denoising strength": "3"}


def test_what_is_written_for_making_it_again_is_read_back() -> None:
    again = read_infotext(write_infotext(SAID))
    assert again is not None
    kept = {k: v for k, v in SAID.extra.items() if k in ("Schedule type", "Size", "Model hash")}
    assert again == replace(SAID, extra=kept)
    assert write_infotext(Generation(tool="x")) == ""


def test_fooocus_own_scheme_is_read() -> None:
    values = {
        "base_model": "juggernautXL_v8",
        "prompt": "a cat",
        "negative_prompt": "dog",
        "seed": "977",
        "sampler": "dpmpp_2m_sde_gpu",
        "steps": 30,
        "guidance_scale": 4.0,
        "version": "Fooocus v2.5.5",
    }
    found = read_generation(png(parameters=json.dumps(values), fooocus_scheme="fooocus"))
    assert found == Generation(
        tool="Fooocus",
        prompt="a cat",
        negative_prompt="dog",
        model="juggernautXL_v8",
        sampler="dpmpp_2m_sde_gpu",
        seed=977,
        steps=30,
        guidance=4.0,
        extra={"version": "Fooocus v2.5.5"},
    )


# ComfyUI


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def from_text() -> dict[str, Any]:
    """ComfyUI's own first workflow, as it ran."""
    return {
        "3": node(
            "KSampler",
            seed=2**60 + 1,
            steps=20,
            cfg=8.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a fish", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }


def from_picture(denoise: float = 0.6) -> dict[str, Any]:
    graph = from_text()
    graph["3"]["inputs"] |= {"denoise": denoise, "latent_image": ["11", 0]}
    graph["10"] = node("LoadImage", image="city-1.jpg [input]")
    graph["11"] = node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    return graph


FROM_TEXT = Generation(
    tool="ComfyUI",
    prompt="a fish",
    negative_prompt="blurry",
    model="v1-5-pruned.safetensors",
    sampler="euler",
    seed=2**60 + 1,
    steps=20,
    guidance=8.0,
    extra={"scheduler": "normal", "Size": "512x768"},
)


def test_a_graph_in_a_png_is_followed_from_the_saved_picture() -> None:
    assert read_generation(png(prompt=json.dumps(from_text()), workflow="{}")) == FROM_TEXT


def test_nan_as_comfyui_writes_it_is_tolerated() -> None:
    graph = from_text()
    graph["4"]["is_changed"] = float("nan")
    assert "NaN" in json.dumps(graph)
    assert read_generation(png(prompt=json.dumps(graph))) == FROM_TEXT


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_a_graph_in_exif_is_read(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(from_text())
    exif[0x010F] = "workflow:" + json.dumps({"nodes": []})
    assert read_generation(encoded(kind, exif=exif)) == FROM_TEXT
    comment = json.dumps({"prompt": from_text(), "workflow": {}}).encode()
    assert read_generation(with_comment(comment, kind)) == FROM_TEXT


def test_a_picture_that_went_in_makes_the_denoising_a_strength() -> None:
    found = read_graph(from_picture())
    assert found is not None
    assert (found.strength, found.source, found.is_reconstruction) == (0.6, "city-1.jpg", True)


def test_pictures_for_control_and_marks_over_the_result_are_not_what_went_in() -> None:
    graph = from_text()
    graph["10"] = node("LoadImage", image="pose.png")
    graph["12"] = node(
        "ControlNetApplyAdvanced",
        positive=["6", 0],
        negative=["7", 0],
        control_net=["13", 0],
        image=["10", 0],
        strength=1.0,
    )
    graph["13"] = node("ControlNetLoader", control_net_name="openpose")
    graph["14"] = node("ImageCompositeMasked", destination=["8", 0], source=["15", 0], x=0, y=0)
    graph["15"] = node("LoadImage", image="logo.png")
    graph["3"]["inputs"] |= {"positive": ["12", 0], "negative": ["12", 1]}
    graph["9"]["inputs"]["images"] = ["14", 0]
    assert read_graph(graph) == FROM_TEXT


def test_of_two_passes_the_first_counts() -> None:
    graph = from_text()
    graph["20"] = node("LatentUpscale", samples=["3", 0], width=1024, height=1024)
    second = dict(graph["3"]["inputs"]) | {"seed": 5, "denoise": 0.5, "latent_image": ["20", 0], "steps": 10}
    graph["21"] = node("KSampler", **second)
    graph["8"]["inputs"]["samples"] = ["21", 0]
    assert read_graph(graph) == replace(FROM_TEXT, extra={**FROM_TEXT.extra, "passes": "2"})


def test_an_advanced_sampler_that_starts_late_has_the_strength_of_what_is_left() -> None:
    graph = from_picture()
    inputs = graph["3"]["inputs"]
    seed = inputs.pop("seed")
    del inputs["denoise"]
    inputs |= {"noise_seed": seed, "start_at_step": 12, "end_at_step": 20, "add_noise": "enable"}
    graph["3"]["class_type"] = "KSamplerAdvanced"
    found = read_graph(graph)
    assert found is not None
    assert (found.seed, found.strength) == (2**60 + 1, pytest.approx(0.4))


def test_a_sampler_in_parts_is_put_together() -> None:
    graph = {
        "1": node(
            "SamplerCustomAdvanced",
            noise=["2", 0],
            guider=["3", 0],
            sampler=["4", 0],
            sigmas=["5", 0],
            latent_image=["6", 0],
        ),
        "2": node("RandomNoise", noise_seed=["20", 0]),
        "20": node("PrimitiveInt", value=77),
        "3": node("BasicGuider", model=["7", 0], conditioning=["8", 0]),
        "4": node("KSamplerSelect", sampler_name="euler"),
        "5": node("BasicScheduler", model=["7", 0], scheduler="simple", steps=28, denoise=1.0),
        "6": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
        "7": node("LoraLoaderModelOnly", model=["10", 0], lora_name="ink.safetensors", strength_model=0.8),
        "8": node("FluxGuidance", conditioning=["9", 0], guidance=3.5),
        "9": node("CLIPTextEncodeFlux", clip=["11", 0], clip_l="a fish", t5xxl=["12", 0], guidance=3.5),
        "10": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "11": node("DualCLIPLoader", clip_name1="a", clip_name2="b"),
        "12": node("StringConcatenate", string_a="a fish", string_b=["13", 0], delimiter=", "),
        "13": node("ShowText|pysssss", text=["14", 0], text_0="in ink"),
        "14": node("PrimitiveString", value="in ink"),
        "15": node("VAEDecode", samples=["1", 0], vae=["16", 0]),
        "16": node("VAELoader", vae_name="ae.safetensors"),
        "17": node("PreviewImage", images=["15", 0]),
    }
    assert read_graph(graph) == Generation(
        tool="ComfyUI",
        prompt="a fish\na fish, in ink",
        model="flux1-dev.safetensors",
        sampler="euler",
        seed=77,
        steps=28,
        guidance=3.5,
        extra={"scheduler": "simple", "loras": "ink.safetensors (0.8)", "Size": "1024x1024"},
    )


def test_conditionings_are_followed_and_one_that_is_zeroed_says_nothing() -> None:
    graph = from_text()
    graph["30"] = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["31", 0])
    graph["31"] = node("CLIPTextEncode", text="on a plate", clip=["4", 1])
    graph["32"] = node("ConditioningZeroOut", conditioning=["6", 0])
    graph["3"]["inputs"] |= {"positive": ["30", 0], "negative": ["32", 0]}
    found = read_graph(graph)
    assert found is not None
    assert (found.prompt, found.negative_prompt) == ("a fish\non a plate", "")


def test_a_picture_in_the_conditioning_of_an_editing_model_went_in() -> None:
    graph = from_text()
    graph["30"] = node("ReferenceLatent", conditioning=["6", 0], latent=["31", 0])
    graph["31"] = node("VAEEncode", pixels=["32", 0], vae=["4", 2])
    graph["32"] = node("LoadImage", image="city-1.jpg")
    graph["3"]["inputs"]["positive"] = ["30", 0]
    found = read_graph(graph)
    assert found is not None
    assert (found.prompt, found.strength, found.source) == ("a fish", None, "city-1.jpg")


def test_a_drawn_graph_is_read_where_the_one_that_ran_is_not_there() -> None:
    drawn = {
        "nodes": [
            {"id": 1, "type": "LoadImage", "widgets_values": ["city-1.jpg", "image"]},
            {"id": 2, "type": "VAEEncode", "inputs": [{"name": "pixels", "link": 1}], "widgets_values": []},
            {"id": 3, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["a fish"]},
            {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["v1-5.safetensors"]},
            {
                "id": 5,
                "type": "KSampler",
                "inputs": [
                    {"name": "model", "link": 2},
                    {"name": "positive", "link": 3},
                    {"name": "latent_image", "link": 4},
                ],
                "widgets_values": [9, "randomize", 12, 6.5, "euler", "karras", 0.5],
            },
            {
                "id": 6,
                "type": "SaveImage",
                "inputs": [{"name": "images", "link": 5}],
                "widgets_values": ["x"],
            },
            {"id": 7, "type": "Note", "widgets_values": {"text": "a note"}, "inputs": None},
        ],
        "links": [
            [1, 1, 0, 2, 0, "IMAGE"],
            [2, 4, 0, 5, 0, "MODEL"],
            [3, 3, 0, 5, 1, "CONDITIONING"],
            [4, 2, 0, 5, 3, "LATENT"],
            [5, 5, 0, 6, 0, "IMAGE"],
        ],
    }
    assert read_generation(png(workflow=json.dumps(drawn))) == Generation(
        tool="ComfyUI",
        prompt="a fish",
        model="v1-5.safetensors",
        sampler="euler",
        seed=9,
        steps=12,
        guidance=6.5,
        strength=0.5,
        source="city-1.jpg",
        extra={"scheduler": "karras"},
    )


def test_a_graph_without_a_sampler_names_the_picture_that_went_in() -> None:
    graph = {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0])}
    assert read_graph(graph) == Generation(tool="ComfyUI", source="a.png")


# InvokeAI


def test_invokeai_metadata_are_read() -> None:
    values = {
        "app_version": "5.4.2",
        "generation_mode": "img2img",
        "positive_prompt": "a cat",
        "negative_prompt": "dog",
        "seed": 356120443,
        "cfg_scale": 7.5,
        "steps": 50,
        "scheduler": "dpmpp_2m_sde_k",
        "model": {"key": "x", "name": "dreamshaper-8", "base": "sd-1", "type": "main"},
        "strength": 0.7,
        "init_image": {"image_name": "2f1c.png"},
        "loras": [],
    }
    found = read_generation(png(invokeai_metadata=json.dumps(values)))
    assert found == Generation(
        tool="InvokeAI",
        prompt="a cat",
        negative_prompt="dog",
        model="dreamshaper-8",
        sampler="dpmpp_2m_sde_k",
        seed=356120443,
        steps=50,
        guidance=7.5,
        strength=0.7,
        source="2f1c.png",
        extra={"app_version": "5.4.2", "generation_mode": "img2img"},
    )
    values |= {"generation_mode": "txt2img", "model": {"model_name": "old", "base_model": "sd-1"}}
    found = read_generation(png(invokeai_metadata=json.dumps(values)))
    assert found is not None
    assert (found.model, found.strength, found.source) == ("old", None, "")


def test_older_invokeai_records_are_read() -> None:
    values = {
        "model": "stable diffusion",
        "model_weights": "stable-diffusion-1.5",
        "app_version": "2.2.4",
        "image": {
            "prompt": [{"prompt": "a cat", "weight": 1.0}],
            "steps": 50,
            "cfg_scale": 7.5,
            "seed": 42,
            "sampler": "k_lms",
            "type": "img2img",
            "strength": 0.75,
            "init_image_path": "in/cat.png",
        },
    }
    found = read_generation(png(sd_metadata=json.dumps(values)))
    assert found is not None
    assert (found.tool, found.prompt, found.model) == ("InvokeAI", "a cat", "stable-diffusion-1.5")
    assert (found.seed, found.sampler, found.strength) == (42, "k_lms", 0.75)
    assert found.source == "in/cat.png"

    dream = '"a cat, "big"" -s 50 -S 4012 -W 512 -H 512 -C 7.5 -A k_lms -I cat.png -f 0.6'
    found = read_generation(png(Dream=dream))
    assert found is not None
    assert (found.prompt, found.seed, found.steps) == ('a cat, "big"', 4012, 50)
    assert (found.guidance, found.sampler, found.source, found.strength) == (7.5, "k_lms", "cat.png", 0.6)
    assert read_generation(png(Dream="no quotes -s 50")) is None


def test_several_records_fill_each_others_gaps() -> None:
    found = read_generation(png(parameters="a cat\nSteps: 8, Seed: 1", prompt=json.dumps(from_picture())))
    assert found is not None
    assert (found.tool, found.prompt, found.seed) == ("AUTOMATIC1111", "a cat", 1)
    assert (found.strength, found.source, found.model) == (0.6, "city-1.jpg", "v1-5-pruned.safetensors")


def test_single_texts_of_scripts_are_read_where_there_is_a_seed() -> None:
    found = read_generation(png(prompt="a cat", seed="5", Software="my script"))
    assert found == Generation(tool="my script", prompt="a cat", seed=5)
    assert read_generation(png(prompt="a cat")) is None
    assert read_generation(png(Author="Ada", Software="GIMP")) is None


# Hostile files


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\0\0", b"RIFF\0\0\0\0WEBP", b"MM\0*"]
)
def test_files_that_are_none_say_nothing(data: bytes) -> None:
    assert read_generation(data) is None
    assert read_report_in(data) is None


def test_a_path_is_read_and_a_missing_one_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(parameters=INFOTEXT))
    assert read_generation(tmp_path / "a.png") == read_generation(str(tmp_path / "a.png")) == SAID
    assert read_generation(tmp_path / "gone.png") is None
    assert read_generation(tmp_path) is None


def chain(length: int) -> dict[str, Any]:
    """A graph of one long chain of texts, each joining the one before twice."""
    graph = from_text()
    graph["6"]["inputs"]["text"] = ["t0", 0]
    for n in range(length):
        following = [f"t{n + 1}", 0] if n + 1 < length else "x"
        graph[f"t{n}"] = node("Join", text_a=following, text_b=following, text=f"{n}")
    return graph


def full(size: int) -> dict[str, Any]:
    """A graph in which every node links to every other and to itself."""
    keys = [str(n) for n in range(size)]
    links = {f"positive{key}": [key, 0] for key in keys} | {f"text{key}": [key, 0] for key in keys}
    return {key: node("KSampler", seed=1, positive=["0", 0], latent_image=["1", 0], **links) for key in keys}


def cyclic() -> dict[str, Any]:
    graph = from_text()
    graph["5"] = node("LatentUpscale", samples=["3", 0])
    graph["6"]["inputs"]["text"] = ["6", 0]
    graph["4"] = node("LoraLoader", model=["4", 0], lora_name="l")
    graph["3"]["inputs"]["seed"] = ["40", 0]
    graph["40"] = node("Reroute", value=["40", 0])
    return graph


HOSTILE: dict[str, dict[str, str]] = {
    "no json": {"prompt": "{", "workflow": "[", "invokeai_metadata": "nan", "sd_metadata": "{"},
    "deep": {"prompt": "[" * 100_000, "invokeai_metadata": '{"a":' * 100_000, "parameters": "{" * 100_000},
    "wrong types": {
        "prompt": json.dumps(
            {"1": {"class_type": 3, "inputs": []}, "2": [], "3": node("SaveImage", images=7)}
        ),
        "workflow": json.dumps(
            {"nodes": [1, None, {"type": []}, {"type": "KSampler", "widgets_values": {}}]}
        ),
        "invokeai_metadata": json.dumps({"seed": {}, "model": [[]], "positive_prompt": 3, "strength": "x"}),
        "sd_metadata": json.dumps({"image": [], "images": [3]}),
        "replication_report": json.dumps({"generation": {"seed": "x"}, "format_version": 1, "matches": 3}),
    },
    "cyclic": {"prompt": json.dumps(cyclic())},
    "doubling": {"prompt": json.dumps(chain(3000))},
    "full": {"prompt": json.dumps(full(120))},
    "many nodes": {
        "prompt": json.dumps({str(n): node("SaveImage", images=[str(n + 1), 0]) for n in range(9_000)})
    },
    "long line": {"parameters": "a" * 900_000},
    "many colons": {"parameters": "Steps: 1, " + ":" * 500_000},
    "many quotes": {"parameters": "Steps: 1, " + 'a: "' * 200_000},
    "many brackets": {"parameters": "Steps: 1, " + "a: [1," * 100_000},
    "many lines": {"parameters": "\n".join(["Steps: 1"] * 100_000)},
    "many flags": {"Dream": '"' * 300_000 + " -s" * 100_000},
    "spaces": {"parameters": " \t" * 400_000 + "Steps:", "Dream": '"a" ' + "-S " * 200_000},
    "long numbers": {
        "parameters": "cat\nSteps: 1, Seed: " + "9" * 100_000,
        "prompt": '{"1":' + "9" * 9_000 + "}",
    },
    "huge seed": {"parameters": f"cat\nSteps: 1, Seed: {2**70}, CFG scale: 1e999"},
    "surrogates": {"invokeai_metadata": '{"positive_prompt": "\\ud800 \\u202e \\u0000", "seed": 1}'},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_neither_raise_nor_take_long(name: str) -> None:
    data = png(**HOSTILE[name])
    begun = time.process_time()
    found = read_generation(data)
    assert time.process_time() - begun < 5.0  # quadratic readers take minutes here
    assert read_report_in(data) is None
    if found is not None:
        assert len(found.prompt) <= MAX_PROMPT
        assert all(len(value) <= MAX_NAME for value in found.extra.values())
        assert Generation.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        found.prompt.encode("utf-8")


def test_a_bomb_of_repeated_chunks_is_given_up() -> None:
    inside = b"prompt\0\0" + zlib.compress(b"[" * 1_000_000, 9)
    chunk = struct.pack(">I", len(inside)) + b"zTXt" + inside + b"\0" * 4
    begun = time.process_time()
    assert read_generation(b"\x89PNG\r\n\x1a\n" + chunk * 5_000) is None
    assert time.process_time() - begun < 5.0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(["1", 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "seed",
        "steps",
        "cfg",
        "positive",
        "negative",
        "latent_image",
        "text",
        "model",
        "image",
        "images",
        "denoise",
    ]
)
kinds = st.sampled_from(["KSampler", "SaveImage", "LoadImage", "CLIPTextEncode", "FluxGuidance", "VAEEncode"])
link = st.tuples(st.sampled_from(["1", "2", "3", "4"]), st.integers(0, 1)).map(list)
graphs = st.dictionaries(
    st.sampled_from(["1", "2", "3", "4"]),
    st.fixed_dictionaries({"class_type": kinds, "inputs": st.dictionaries(names, link | values, max_size=8)}),
)


@pytest.mark.fuzz
@settings(max_examples=300, deadline=None)
@given(graphs | values)
def test_any_graph_is_read_or_not_and_nothing_raises(graph: Any) -> None:
    read_graph(graph)
    read_graph(None, {"nodes": [graph], "links": [graph]})
    read_generation(png(invokeai_metadata=json.dumps(graph), sd_metadata=json.dumps({"image": graph})))


@pytest.mark.fuzz
@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=':," \n\\[]{}aSteps-9é猫', max_size=80))
def test_any_text_is_read_or_not_and_nothing_raises(text: str) -> None:
    read_infotext(text)
    read_infotext("cat\nSteps: 1, " + text)
    read_generation(with_comment(b"UNICODE\0" + text.encode("utf-16-le")))


def test_settings_are_bounded() -> None:
    many = {f"key {n}": "v" * 10_000 for n in range(5_000)} | {"prompt": "p" * 50_000, "seed": 1}
    found = generation_from({"prompt": "p" * 50_000} | many)
    assert len(found.prompt) <= MAX_PROMPT
    assert len(found.extra) == MAX_EXTRA
    assert max(map(len, found.extra.values())) <= MAX_NAME


# Lists beside pictures


def listed(folder: Path, *rows: dict[str, Any], name: str = "metadata.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    return folder


ROW: dict[str, Any] = {
    "file_name": "a.png",
    "prompt": "a cat",
    "negative_prompt": "dog",
    "seed": 7,
    "model": "tiny",
    "scheduler": "DDIM",
    "num_inference_steps": 30,
    "guidance_scale": 5.0,
    "strength": 0.4,
    "source": "city-1.jpg",
    "repeats": 64,
}
LISTED = Generation(
    prompt="a cat",
    negative_prompt="dog",
    model="tiny",
    sampler="DDIM",
    seed=7,
    steps=30,
    guidance=5.0,
    strength=0.4,
    source="city-1.jpg",
    extra={"repeats": "64"},
)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_list_says_how_a_picture_was_generated(tmp_path: Path, name: str) -> None:
    listed(tmp_path, ROW, {**ROW, "file_name": "b.png", "strength": "", "source": "", "seed": 8}, name=name)
    lists = GenerationLists()
    assert lists.about(tmp_path / "a.png") == LISTED
    second = lists.about(tmp_path / "b.png")
    assert second is not None
    assert (second.seed, second.is_reconstruction) == (8, False)
    assert lists.about(tmp_path / "c.png") is None


def test_a_list_of_artworks_is_not_taken_for_generations(tmp_path: Path, artworks: Path) -> None:
    assert GenerationLists().about(artworks / "city-1.jpg") is None
    listed(tmp_path, {"file_name": "a.png", "caption": "a cat", "source": "https://example.org/1"})
    assert GenerationLists().about(tmp_path / "a.png") is None


def test_a_caption_is_a_prompt_only_beside_a_seed_and_without_a_prompt(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "caption": "the caption", "seed": 3}
    listed(tmp_path, row)
    found = GenerationLists().about(tmp_path / "a.png")
    assert found == Generation(prompt="the caption", seed=3)
    listed(tmp_path, {**row, "prompt": "the prompt"})
    found = GenerationLists().about(tmp_path / "a.png")
    assert found == Generation(prompt="the prompt", seed=3, extra={"caption": "the caption"})


def test_lists_above_hold_up_to_the_folder_that_was_named(tmp_path: Path) -> None:
    listed(tmp_path / "top", {**ROW, "file_name": "train/x/a.png", "seed": 1, "sampler": "PNDM"})
    listed(tmp_path / "top" / "train" / "x", {"file_name": "./a.png", "seed": 2})
    picture = tmp_path / "top" / "train" / "x" / "a.png"
    near = GenerationLists().about(picture)
    assert near == Generation(seed=2)
    both = GenerationLists([tmp_path / "top"]).about(picture)
    assert both is not None
    assert (both.seed, both.prompt) == (2, "a cat")


def test_each_list_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.provenance import lists as module

    listed(tmp_path, *({**ROW, "file_name": f"{n}.png"} for n in range(50)))
    opened: list[Path] = []
    real = module.open_table
    monkeypatch.setattr(module, "open_table", lambda path: (opened.append(path), real(path))[1])
    lists = GenerationLists()
    assert all(lists.about(tmp_path / f"{n}.png") is not None for n in range(50))
    assert opened == [tmp_path / "metadata.csv"]
    listed(tmp_path, {**ROW, "file_name": "0.png", "seed": 99})
    changed = lists.about(tmp_path / "0.png")
    assert changed is not None
    assert changed.seed == 99
    assert len(opened) == 2


def test_a_broken_list_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metadata.parquet").write_bytes(b"no parquet")
    listed(tmp_path, ROW, name="metadata.jsonl")
    with caplog.at_level(logging.WARNING, logger="detector"):
        assert GenerationLists().about(tmp_path / "a.png") == LISTED
    assert "metadata.parquet" in caplog.text


def test_the_file_wins_and_the_list_fills_its_gaps() -> None:
    own = Generation(prompt="mine", seed=0, extra={"k": "mine"})
    assert filled_from(own, replace(LISTED, extra={"k": "list", "l": "list"})) == replace(
        LISTED, prompt="mine", seed=0, extra={"k": "mine", "l": "list"}
    )
    assert filled_from(None, LISTED) == filled_from(LISTED, None) == LISTED
    assert filled_from(None, None) is None


# Findings in pictures


def finding(matches: int = 2, places: int = 1, **extra: str) -> ImageReport:
    occurrences = tuple(
        Occurrence(f"artworks/{n}.jpg", "Ada", "Wörk", "CC0-1.0", "", "c", dict(extra)) for n in range(places)
    )
    found = tuple(
        Match(
            4,
            0.9 - n / 100,
            Evidence(inliers=50, cosines={"clip:bundled": 0.9}),
            Reference(n, "ab", 9, 9, occurrences),
        )
        for n in range(matches)
    )
    made = Generation(
        "detector", "猫 \U0001f600\nline", "no", "m", "DDIM", 2**63, 30, 5.0, 0.4, "a.png", {"k": "ü"}
    )
    return ImageReport("q.png", Verdict.REPLICA, 4, 0.9, None, found, "ab", 8, 8, made)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16", "F", "YCbCr"])
def test_findings_saved_in_a_picture_are_read_back(tmp_path: Path, name: str, mode: str) -> None:
    path, report = tmp_path / name, finding()
    write_picture(Image.new(mode, (16, 12)), path, report)
    assert read_report_in(path) == report
    assert read_generation(path) == report.generation
    with Image.open(path) as image:
        assert image.size == (16, 12)
        image.load()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_pixels_and_profile_survive_in_a_png_and_transparency_turns_white_in_a_jpeg(tmp_path: Path) -> None:
    image = Image.effect_noise((32, 32), 80).convert("RGB")
    image.info["icc_profile"] = b"profile"
    write_picture(image, tmp_path / "a.png", finding())
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.tobytes() == image.tobytes()
        assert saved.info["icc_profile"] == b"profile"
    write_picture(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), tmp_path / "a.jpg", finding())
    with Image.open(tmp_path / "a.jpg") as saved:
        assert saved.getpixel((4, 4)) == (255, 255, 255)


def test_a_jpeg_keeps_the_strongest_matches_that_fit(tmp_path: Path) -> None:
    report = finding(matches=10, places=100, note="x" * 200)
    write_picture(Image.new("RGB", (8, 8)), tmp_path / "a.jpg", report)
    kept = read_report_in(tmp_path / "a.jpg")
    assert kept is not None
    assert (kept.level, kept.score, kept.generation) == (report.level, report.score, report.generation)
    assert kept.matches
    assert kept.matches[0].reference.id == 0
    write_picture(Image.new("RGB", (8, 8)), tmp_path / "a.webp", report)
    assert read_report_in(tmp_path / "a.webp") == report


@pytest.mark.parametrize("name", ["a.gif", "a", "a.tiff", "a.png.txt"])
def test_other_endings_are_refused_by_naming_those_that_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        write_picture(Image.new("RGB", (8, 8)), tmp_path / name, finding())
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    def full(self: Image.Image, file: Any, *rest: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(UsageError, match="No space left"):
            write_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", finding())
    assert (tmp_path / "a.png").read_bytes() == b"old"
    with pytest.raises(UsageError, match="cannot be written"):
        write_picture(Image.new("RGB", (8, 8)), tmp_path / "no" / "a.png", finding())


# Scans


@pytest.fixture(scope="module")
def detector(sample_index: Path) -> Any:
    with Detector.open(sample_index) as opened:
        yield opened


@pytest.fixture
def folder(edited: Path, tmp_path: Path) -> Path:
    """Three generated pictures: one listed, one that says it itself and is listed, one with nothing."""
    target = tmp_path / "generated"
    rows = [{**ROW, "file_name": f"part/{name}"} for name in ("0004.jpg", "0006.png")]
    listed(target, *rows)
    (target / "part").mkdir()
    for name in ("0004.jpg", "0005.jpg"):
        shutil.copy(edited / name, target / "part")
    with Image.open(edited / "0006.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", "a dog\nSteps: 9, Seed: 1")
        image.save(target / "part" / "0006.png", pnginfo=info)
    (target / "part" / "broken.png").write_bytes(b"no picture")
    return target


def test_scans_know_where_pictures_came_from(detector: Detector, folder: Path, tmp_path: Path) -> None:
    written = []
    for workers in (1, 3):
        jsonl = tmp_path / f"{workers}.jsonl"
        scan = detector.scan(folder, jsonl=jsonl, options=ScanOptions(workers=workers, batch_size=1))
        written.append(jsonl.read_bytes())
    assert written[0] == written[1]
    made = {Path(report.query).name: report.generation for report in scan}
    assert made["0004.jpg"] == LISTED
    assert made["0005.jpg"] is None
    assert made["0006.png"] == replace(LISTED, tool="AUTOMATIC1111", prompt="a dog", seed=1, steps=9)
    assert made["broken.png"] is None


def test_a_resumed_scan_keeps_what_it_read(detector: Detector, folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    detector.scan(folder, jsonl=whole)
    cut.write_bytes(whole.read_bytes()[:-300])
    detector.scan(folder, jsonl=cut, options=ScanOptions(resume=True))
    assert cut.read_bytes() == whole.read_bytes()


def test_a_check_reads_the_file_and_the_list_beside_it(detector: Detector, folder: Path) -> None:
    report = detector.check(folder / "part" / "0006.png")
    assert report.generation is not None
    assert (report.generation.seed, report.generation.model) == (
        1,
        "",
    )  # the list lies above: a scan's matter
    data = (folder / "part" / "0006.png").read_bytes()
    assert detector.check(data).generation == report.generation
    with Image.open(folder / "part" / "0006.png") as image:
        assert detector.check(image).generation is None


def test_check_says_in_a_line_how_a_picture_was_generated(
    sample_index: Path, folder: Path, edited: Path
) -> None:
    listed(folder / "part", {**ROW, "file_name": "0005.jpg"})
    arguments = ["check", str(folder / "part" / "0005.jpg"), "--index", str(sample_index)]
    said = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments).stdout.split())
    assert "Generated: “a cat”, model tiny, seed 7, 30 steps of DDIM, guidance 5 " in said
    assert (
        "Reconstruction attempt at strength 0.4 from city-1.jpg: closeness to that is no evidence by itself."
        in said
    )
    arguments[1] = str(edited / "0005.jpg")
    assert "Generated" not in CliRunner().invoke(app, arguments).stdout


def test_what_a_file_says_changes_no_verdict(detector: Detector, edited: Path, tmp_path: Path) -> None:
    shutil.copy(edited / "0004.jpg", tmp_path)
    before = detector.check(tmp_path / "0004.jpg")
    listed(tmp_path, {**ROW, "file_name": "0004.jpg"})
    after = detector.check(tmp_path / "0004.jpg")
    assert before.generation is None
    assert after == replace(before, generation=LISTED)


def _steps_of(graph: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    steps = 0
    link = comfyui._Graph._linked

    def counted(self: comfyui._Graph, value: Any) -> str | None:
        nonlocal steps
        steps += 1
        return link(self, value)

    monkeypatch.setattr(comfyui._Graph, "_linked", counted)
    read_graph(graph)
    return steps


def test_thousands_of_outputs_without_a_sampler_take_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = {
        str(n): {"class_type": "SaveImage", "inputs": {"images": [str((n + 1) % 1000), 0]}}
        for n in range(1000)
    }
    assert _steps_of(ring, monkeypatch) < 20_000


def test_thousands_of_edits_without_a_picture_take_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    chain: dict[str, Any] = {
        str(n): {
            "class_type": "ReferenceLatent",
            "inputs": {"conditioning": [str(n + 1), 0], "latent": [str(n + 1), 0]},
        }
        for n in range(1000)
    }
    chain |= {
        "save": {"class_type": "SaveImage", "inputs": {"images": ["sampler", 0]}},
        "sampler": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["0", 0]}},
    }
    assert _steps_of(chain, monkeypatch) < 60_000


def test_a_delimiter_of_megabytes_is_not_repeated() -> None:
    texts = {f"text_{n:04d}": str(n) for n in range(2_000)}
    nodes = {
        "1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["3", 0]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["4", 0]}},
        "4": {"class_type": "Text Concatenate", "inputs": {"delimiter": "x" * 500_000, **texts}},
    }
    tracemalloc.start()
    found = read_graph(nodes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert found.prompt.startswith("0x")
    assert most < 50_000_000
