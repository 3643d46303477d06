"""The guard: policies on a stand-in that memorised a picture, the same on diffusers' own classes, its adapters."""

from __future__ import annotations

import copy
import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

import detector as public  # noqa: E402
from detector import (  # noqa: E402
    Action,
    Detector,
    GuardedPipeline,
    GuardReport,
    ImageReport,
    OnMatch,
    ReplicationError,
    ReplicationSafetyChecker,
    UsageError,
    Verdict,
    build_index,
    guard,
    replication_block,
)
from detector.audit.prompts import prompt_magnitude  # noqa: E402
from detector.guarding.calls import Call  # noqa: E402
from detector.guarding.pictures import as_pil, readable  # noqa: E402
from detector.metadata import read_generation, read_report_in  # noqa: E402
from detector.rights import Policy  # noqa: E402
from tests import pipelines  # noqa: E402
from tests.pipelines import SIDE, Memoriser, saved  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "samples" / "tiny-diffusion"

MEMORISED = "flow-field-1.jpg"
INDEXED = (MEMORISED, "landscape-2.jpg", "poster-2.jpg", "stained-glass-3.webp", "woodcut-3.jpg")
UNRELATED = ("city-1.jpg", "botanical-1.jpg", "engraving-2.jpg")
SENTENCE = "Replicates “Tidewater” by Ines Marlowe (CC0-1.0), level "


def picture(folder: Path, name: str) -> Image.Image:
    """A sample at one size, as a pipeline would return it."""
    with Image.open(folder / name) as image:
        return image.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def works(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("works")
    for name in (*INDEXED, "metadata.csv"):
        shutil.copy2(artworks / name, folder)
    return folder


@pytest.fixture(scope="module")
def small_index(works: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "art.index"
    build_index(works, folder, descriptors=["pdq", "phash", "keypoints"])
    return folder


@pytest.fixture(scope="module")
def detector(small_index: Path) -> Iterator[Detector]:
    with Detector.open(small_index) as found:
        yield found


@pytest.fixture
def pipe(artworks: Path) -> Memoriser:
    """Brings one picture back from the seeds 1 and 3."""
    others = [picture(artworks, name) for name in UNRELATED]
    return Memoriser(picture(artworks, MEMORISED), others, memorised={1, 3}, calls=[])


def generators(*seeds: int) -> list[Any]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pixels(images: Any) -> list[bytes]:
    return [np.asarray(image).tobytes() for image in readable(images)]


class Seen(Detector):
    """Calls those pictures replicas whose pixels it was shown."""

    def __init__(self, genuine: Detector) -> None:
        super().__init__(genuine.index)
        self.seen: set[bytes] = set()
        self.template = genuine.check(picture(ROOT / "samples" / "artworks", MEMORISED))

    def check_many(self, images: Any, *, names: Any = None, lists: Any = None) -> list[ImageReport]:
        reports = []
        for name, image in zip(names, images, strict=True):
            found = np.asarray(image).tobytes() in self.seen
            reports.append(
                replace(self.template, query=name) if found else ImageReport(name, Verdict.NO_MATCH)
            )
        return reports


# Policies


def test_annotate_returns_everything_as_it_is_and_says_what_was_found(
    pipe: Memoriser, detector: Detector
) -> None:
    bare = pipe(["a", "b"], generator=generators(1, 2))
    result = guard(pipe, detector)(["a", "b"], generator=generators(1, 2))
    assert type(result) is type(bare)
    assert pixels(result.images) == pixels(bare.images)
    replica, other = result.reports
    assert (replica.action, other.action) == (Action.ANNOTATED, Action.NONE)
    assert replica.verdict is Verdict.REPLICA
    assert replica.level >= 4
    assert replica.sentences[0].startswith(SENTENCE)
    assert "asks for no permission" in replica.sentences[0]
    assert other.matches == ()
    assert other.sentences == ()
    assert replica.check_s > 0
    assert replica.generation_s > 0


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
@pytest.mark.parametrize("on_match", list(OnMatch))
def test_every_output_type_and_both_return_dicts_agree(
    pipe: Memoriser, detector: Detector, on_match: OnMatch, output_type: str, return_dict: bool
) -> None:
    asked = {"prompt": ["a", "b", "c"], "output_type": output_type, "return_dict": return_dict}
    bare = pipe(**asked, generator=generators(0, 1, 2))
    guarded = guard(pipe, detector, on_match=on_match)
    if on_match is OnMatch.RAISE:
        with pytest.raises(ReplicationError) as raised:
            guarded(**asked, generator=generators(0, 1, 2))
        reports = raised.value.reports
    else:
        result = guarded(**asked, generator=generators(0, 1, 2))
        before, after = (each.images if return_dict else each[0] for each in (bare, result))
        reports = result.reports
        assert isinstance(result, tuple) is not return_dict
        assert result[1] == [False] * 3
        assert type(after) is type(before)
        if output_type != "pil":
            assert after.dtype == before.dtype
            assert bool((after[0] == before[0]).all())
            assert bool((after[2] == before[2]).all())
        first, middle, last = pixels(after)
        assert (first, last) == (pixels(before)[0], pixels(before)[2])
        assert (middle == pixels(before)[1]) is (on_match is OnMatch.ANNOTATE)
        assert (not any(middle)) is (on_match is OnMatch.BLANK)
    assert [report.action for report in reports] == [Action.NONE, on_match.action, Action.NONE]
    first_look = [report.tries[0].finding for report in reports]
    expected = detector.check_many(
        [*pixels_as_arrays(bare, return_dict)], names=["image 1", "image 2", "image 3"]
    )
    assert [replace(finding, generation=None) for finding in first_look] == expected


def pixels_as_arrays(bare: Any, return_dict: bool) -> list[Any]:
    return [np.asarray(as_pil(image)) for image in (bare.images if return_dict else bare[0])]


def test_regenerate_makes_only_the_flagged_one_again_and_records_every_try(
    pipe: Memoriser, detector: Detector
) -> None:
    asked = {
        "prompt": ["a", "b"],
        "negative_prompt": ["c", "d"],
        "num_images_per_prompt": 2,
        "guidance_scale": 3.0,
    }
    bare = pipe(**asked, generator=generators(0, 2, 4, 3))
    pipe.calls.clear()
    result = guard(pipe, detector, on_match="regenerate")(**asked, generator=generators(0, 2, 4, 3))
    report = result.reports[3]
    assert report.action is Action.REGENERATED
    assert report.tries[0].seed == 3
    assert report.tries[0].finding.level >= 4
    assert report.level < 3
    assert pixels(result.images)[:3] == pixels(bare.images)[:3]
    assert pixels(result.images)[3] != pixels(bare.images)[3]
    (whole, *again) = pipe.calls
    assert len(again) == len(report.tries) - 1 >= 1
    for call, made in zip(again, report.tries[1:], strict=True):
        assert call["prompt"] == ["b"]
        assert call["negative_prompt"] == ["d"]
        assert call["num_images_per_prompt"] == 1
        assert call["guidance_scale"] == 3.0
        assert call["generator"].initial_seed() == made.seed
        assert made.finding.generation.seed == made.seed
        assert made.finding.generation.prompt == "b"
    assert whole["prompt"] == ["a", "b"]


def test_new_seeds_follow_from_the_generator_and_its_state(pipe: Memoriser, detector: Detector) -> None:
    guarded = guard(pipe, detector, on_match="regenerate")

    def seeds(generator: Any) -> list[int | None]:
        return [each.seed for each in guarded("a", generator=generator).reports[0].tries]

    fresh, used = generators(1, 1)
    torch.rand(3, generator=used)
    first = seeds(fresh)
    assert first == seeds(generators(1)[0])
    assert first != seeds(fresh)
    assert seeds(used)[0] is None
    pipe.memorised.add(0)
    unknown = seeds(None)
    assert unknown[0] is None
    assert isinstance(unknown[1], int)
    assert unknown[1] != seeds(None)[1]


def test_regenerating_does_not_touch_the_given_generator_or_the_global_one(
    pipe: Memoriser, detector: Detector
) -> None:
    (bare,), (guarded,) = generators(1), generators(1)
    pipe("a", generator=bare)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    guard(pipe, detector, on_match="regenerate")("a", generator=guarded)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(bare.get_state(), guarded.get_state())


def test_where_every_try_replicates_the_picture_is_black(pipe: Memoriser, detector: Detector) -> None:
    pipe.others = [pipe.picture]
    result = guard(pipe, detector, on_match="regenerate", max_tries=3)("a")
    (report,) = result.reports
    assert report.action is Action.BLANKED
    assert len(report.tries) == 3
    assert len({each.seed for each in report.tries}) == 3
    assert not any(pixels(result.images)[0])


def test_latents_are_left_out_of_another_try_and_embeddings_cut(pipe: Memoriser, detector: Detector) -> None:
    embeddings = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    asked = {"prompt_embeds": embeddings, "latents": torch.zeros(2, 4, 8, 8)}
    result = guard(pipe, detector, on_match="regenerate")(**asked, generator=generators(0, 1))
    again = pipe.calls[1]
    assert again["latents"] is None
    assert torch.equal(again["prompt_embeds"], embeddings[1:])
    assert result.reports[1].tries[0].finding.generation.extra["latents"] == "given"


def test_flags_of_a_new_picture_take_the_place_of_the_old_ones(pipe: Memoriser, detector: Detector) -> None:
    def flagging(**asked: Any) -> Any:
        result = pipe(**asked)
        result.nsfw_content_detected = [len(result.images) == 1] * len(result.images)
        return result

    result = guard(flagging, detector, on_match="regenerate")(prompt=["a", "b"], generator=generators(0, 1))
    assert result.nsfw_content_detected == [False, True]


def test_raise_names_picture_work_artist_and_licence(pipe: Memoriser, detector: Detector) -> None:
    told: list[GuardReport] = []
    with pytest.raises(ReplicationError) as raised:
        guard(pipe, detector, on_match="raise", callback=told.append)(["a", "b"], generator=generators(0, 1))
    assert str(raised.value).startswith(f"image 2 of 2 {SENTENCE[0].lower()}{SENTENCE[1:]}")
    assert "on_match='regenerate'" in str(raised.value)
    assert [report.action for report in raised.value.reports] == [Action.NONE, Action.RAISED]
    assert tuple(told) == raised.value.reports
    assert isinstance(raised.value, public.DetectorError)


def test_callback_is_called_once_a_picture_with_the_final_report(pipe: Memoriser, detector: Detector) -> None:
    told: list[GuardReport] = []
    result = guard(pipe, detector, on_match="regenerate", callback=told.append)(
        ["a"] * 3, generator=generators(0, 1, 2)
    )
    assert tuple(told) == result.reports


def test_cleared_licences_pass(pipe: Memoriser, small_index: Path) -> None:
    with Detector.open(small_index, policy=Policy.from_flags(["public-domain"])) as lenient:
        result = guard(pipe, lenient, on_match="raise")("a", generator=generators(1)[0])
    (report,) = result.reports
    assert report.action is Action.NONE
    assert report.matches[0].cleared
    assert "cleared by the policy" in report.sentences[0]
    assert report.level == 0


def test_the_bound_for_the_level_decides(pipe: Memoriser, detector: Detector, artworks: Path) -> None:
    work = picture(artworks, MEMORISED).resize((160, 160))
    pipe.picture = pipe.others[0].copy()
    pipe.picture.paste(work, (60, 60))
    asked = {"generator": generators(1)[0]}
    (report,) = guard(pipe, detector)("a", **asked).reports
    assert report.level == 3
    assert (
        guard(pipe, detector, on_match="blank", min_level=3)("a", **asked).reports[0].action is Action.BLANKED
    )
    assert guard(pipe, detector, on_match="blank", min_level=4)("a", **asked).reports[0].action is Action.NONE


def test_what_cannot_be_checked_is_not_let_through(pipe: Memoriser, detector: Detector) -> None:
    class Blind(Detector):
        def check_many(self, images: Any, *, names: Any = None, lists: Any = None) -> list[ImageReport]:
            return [ImageReport(name, Verdict.UNREADABLE, reason="too_many_pixels") for name in names]

    blind = Blind(detector.index)
    assert not any(pixels(guard(pipe, blind, on_match="blank")("a").images)[0])
    with pytest.raises(ReplicationError, match="could not be checked"):
        guard(pipe, blind, on_match="raise")("a")


# What is asked and what comes back


def test_latents_are_refused_before_anything_is_generated(pipe: Memoriser, detector: Detector) -> None:
    for args in ({"output_type": "latent"},):
        with pytest.raises(UsageError, match="'pil', 'np' or 'pt'"):
            guard(pipe, detector)("a", **args)
    with pytest.raises(UsageError, match="latent"):
        guard(pipe, detector)("a", 2, 1.0, None, 1, None, None, None, "latent")
    assert pipe.calls == []


def test_arguments_by_position_are_understood(pipe: Memoriser, detector: Detector) -> None:
    result = guard(pipe, detector, on_match="regenerate")(
        ["a", "b"], 2, 1.0, ["c", "d"], 1, generators(0, 1), None, None, "np", False
    )
    assert isinstance(result, tuple)
    assert pipe.calls[1]["prompt"] == ["b"]
    assert pipe.calls[1]["negative_prompt"] == ["d"]
    assert pipe.calls[1]["output_type"] == "np"
    assert pipe.calls[1]["return_dict"] is False


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ({"frames": np.zeros((1, 4, 8, 8, 3))}, "frames"),
        ((np.zeros((1, 4, 8, 8, 3)),), "shape"),
        ((torch.zeros(1, 4, 8, 8),), "shape"),
        (([[Image.new("RGB", (8, 8))]],), "a list with list"),
        ((), "NoneType"),
        ("text", "str"),
    ],
    ids=["video", "video tuple", "latents", "layers", "empty tuple", "text"],
)
def test_results_without_pictures_are_refused(detector: Detector, returned: Any, named: str) -> None:
    def pipe(prompt: str) -> Any:
        return returned

    with pytest.raises(UsageError, match=named):
        guard(pipe, detector)("a")


def test_arrays_with_values_that_are_none_are_checked_as_black(detector: Detector) -> None:
    images = np.full((1, 32, 32, 3), np.nan, np.float32)
    (report,) = guard(lambda prompt: (images,), detector)("a").reports
    assert report.finding.reason == "too_little_detail"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_black_pictures_keep_size_and_mode(detector: Detector, pipe: Memoriser, mode: str) -> None:
    def made(prompt: str) -> Any:
        return ([pipe.picture.convert(mode)],)

    seen = Seen(detector)
    seen.seen.add(np.asarray(pipe.picture.convert(mode)).tobytes())
    (image,) = guard(made, seen, on_match="blank")("a")[0]
    assert (image.mode, image.size) == (mode, pipe.picture.size)
    assert image.convert("RGBA").getextrema() == ((0, 0), (0, 0), (0, 0), (255, 255))


def test_a_pipeline_that_cannot_be_asked_for_one_picture_is_named(
    pipe: Memoriser, detector: Detector
) -> None:
    def stubborn(*args: Any) -> Any:
        return pipe(*args, generator=generators(0, 1))

    with pytest.raises(UsageError, match="on_match='blank'"):
        guard(stubborn, detector, on_match="regenerate")(["a", "b"])


def test_mistakes_in_the_pipelines_arguments_are_the_pipelines_to_name(
    pipe: Memoriser, detector: Detector
) -> None:
    with pytest.raises(TypeError, match="steps"):
        guard(pipe, detector)("a", steps=3)


def test_how_it_was_generated_is_in_the_findings(pipe: Memoriser, detector: Detector) -> None:
    asked = {
        "prompt": ["a", "b"],
        "negative_prompt": "n",
        "num_images_per_prompt": 2,
        "num_inference_steps": 7,
    }
    reports = guard(pipe, detector)(**asked, generator=torch.Generator().manual_seed(11)).reports
    generation = reports[2].finding.generation
    assert (generation.tool, generation.prompt, generation.negative_prompt) == ("detector", "b", "n")
    assert (generation.seed, generation.steps, generation.guidance) == (11, 7, 7.5)
    assert generation.extra == {"pipeline": "Memoriser", "picture": "3 of 4"}
    assert not generation.is_reconstruction


# The object


def test_attributes_pass_through_in_both_directions(pipe: Memoriser, detector: Detector) -> None:
    guarded = guard(pipe, detector)
    assert guarded.calls is pipe.calls
    guarded.scheduler = "another"
    assert pipe.scheduler == "another"
    guarded.note = 1
    assert pipe.note == 1  # type: ignore[attr-defined]
    del guarded.note
    assert not hasattr(pipe, "note")
    assert not hasattr(guarded, "note")
    assert guarded.pipeline is pipe
    assert {"memorised", "pipeline"} <= set(dir(guarded))
    assert "Memoriser" in repr(guarded)
    with pytest.raises(AttributeError, match="Call guard again"):
        guarded.pipeline = None
    assert copy.copy(guarded.scheduler) == "another"


def test_the_index_is_opened_and_closed_where_a_path_is_given(pipe: Memoriser, small_index: Path) -> None:
    with guard(pipe, str(small_index)) as guarded:
        assert guarded("a", generator=generators(1)[0]).reports[0].level >= 4
    guard(pipe, small_index).close()


def test_a_detector_that_was_given_stays_open(pipe: Memoriser, detector: Detector) -> None:
    guard(pipe, detector).close()
    assert detector.check(pipe.picture).level >= 4


def test_wrong_use_is_named(pipe: Memoriser, detector: Detector, tmp_path: Path) -> None:
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: guard(guard(pipe, detector), detector), "guarded already"),
        (lambda: guard(3, detector), "cannot be called"),
        (lambda: guard(pipe, 3), "path of an index"),  # type: ignore[arg-type]
        (lambda: guard(pipe, detector, on_match="explode"), "annotate, blank, regenerate, raise"),
        (lambda: guard(pipe, detector, min_level=0), "1 to 5"),
        (lambda: guard(pipe, detector, min_level=6), "1 to 5"),
        (lambda: guard(pipe, detector, max_tries=0), "1 to 1000"),
        (lambda: replication_block(detector, on_match="regenerate"), "'blank' or 'raise'"),
        (lambda: ReplicationSafetyChecker(None), "path of an index"),  # type: ignore[arg-type]
    ]
    for call, named in wrong:
        with pytest.raises(UsageError, match=named):
            call()
    with pytest.raises(public.IndexMissingError):
        guard(pipe, tmp_path / "none.index")


def test_the_public_name_is_the_function_whatever_was_imported_before() -> None:
    assert public.GuardReport is GuardReport
    assert public.guard is guard
    assert callable(public.guard)


# Reports


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_saved_pictures_hold_findings_and_generation(
    pipe: Memoriser, detector: Detector, tmp_path: Path, ending: str, output_type: str
) -> None:
    result = guard(pipe, detector)("tides", generator=generators(1)[0], output_type=output_type)
    (report,) = result.reports
    path = tmp_path / f"made.{ending}"
    report.save(result.images[0], path)
    found = read_report_in(path)
    assert found is not None
    assert found.matches == report.matches
    generation = read_generation(path)
    assert generation is not None
    assert (generation.tool, generation.prompt, generation.seed) == ("detector", "tides", 1)
    assert generation.extra["guard"] == "annotated"
    with Image.open(path) as image:
        assert image.size == pipe.picture.size
        if ending == "png":
            assert image.convert("RGB").tobytes() == pipe.picture.tobytes()
    assert detector.check(path).generation == generation


def test_reports_are_json(pipe: Memoriser, detector: Detector) -> None:
    (report,) = guard(pipe, detector, on_match="regenerate")("a", generator=generators(1)[0]).reports
    values = json.loads(json.dumps(report.to_dict()))
    assert values["action"] == "regenerated"
    assert [each["seed"] for each in values["tries"]] == [each.seed for each in report.tries]
    assert ImageReport.from_dict(values["finding"]) == report.finding
    assert values["check_s"] == pytest.approx(sum(each["check_s"] for each in values["tries"]))


def test_hostile_titles_cannot_move_the_cursor(detector: Detector) -> None:
    from detector.guarding.report import match_in_words

    match = Seen(detector).template.matches[0]
    place = replace(match.reference.occurrences[0], title="A\x1b[2J\u202eB", artist="C\nD", licence="E\rF")
    hostile = replace(match, reference=replace(match.reference, occurrences=(place,)))
    assert match_in_words(hostile).isprintable()


# diffusers' own classes


def control_images(count: int) -> list[Image.Image]:
    random = np.random.default_rng(2)
    return [Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)) for _ in range(count)]


def half(at: int) -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE) if at else (0, 0, SIDE, SIDE // 2))
    return mask


def classes() -> dict[str, tuple[str, str, Callable[[], dict[str, Any]]]]:
    """Class of each pipeline, the folder that it is loaded from, and arguments for two prompts."""
    started = {"image": control_images(2), "strength": 0.6, "num_inference_steps": 4}
    return {
        "sd": ("StableDiffusionPipeline", "sd", dict),
        "sdxl": ("StableDiffusionXLPipeline", "sdxl", dict),
        "sd3": ("StableDiffusion3Pipeline", "sd3", lambda: {"max_sequence_length": 8}),
        "flux": ("FluxPipeline", "flux", lambda: {"max_sequence_length": 8}),
        "img2img": ("StableDiffusionImg2ImgPipeline", "sd", lambda: started),
        "sdxl img2img": ("StableDiffusionXLImg2ImgPipeline", "sdxl", lambda: started),
        "inpaint": (
            "StableDiffusionInpaintPipeline",
            "sd",
            # The pipeline encodes each picture once, with the first generators: so as many pictures as generators.
            lambda: (
                started
                | {"prompt": ["a cat", "cow", "sea", "sky"], "num_images_per_prompt": 1}
                | {"image": control_images(4), "mask_image": [half(0), half(1)] * 2}
            ),
        ),
        "controlnet": ("StableDiffusionControlNetPipeline", "control", lambda: {"image": control_images(2)}),
        "controlnets": (
            "StableDiffusionControlNetPipeline",
            "controls",
            lambda: {"image": control_images(2)},
        ),
        "controlnets, by prompt": (
            "StableDiffusionControlNetPipeline",
            "controls",
            lambda: {"image": [control_images(2), control_images(4)[2:]]},
        ),
    }


MAKERS: dict[str, Callable[[], Any]] = {
    "sd": pipelines.stable_diffusion,
    "sdxl": pipelines.stable_diffusion_xl,
    "sd3": pipelines.stable_diffusion_3,
    "flux": pipelines.flux,
    "control": pipelines.control(1),
    "controls": pipelines.control(2),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pipelines")

    def folder(name: str) -> Path:
        made = root / name
        return made if made.exists() else saved(MAKERS[name], made)

    return folder


def loaded(kind: str, folder: Path, **parts: Any) -> Any:
    calm = (
        pipelines.CALM if kind in ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline") else {}
    )
    pipe = getattr(diffusers, kind).from_pretrained(folder, **(calm | parts))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=list(classes()))
def real(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> tuple[Any, dict[str, Any]]:
    """A pipeline through `from_pretrained`, and arguments that make four pictures from two prompts."""
    kind, folder, asked = classes()[request.param]
    arguments = {"prompt": ["a cat", "sea"], "num_images_per_prompt": 2, "num_inference_steps": 2} | asked()
    if "strength" not in arguments:
        arguments |= {"height": SIDE, "width": SIDE}
    return loaded(kind, folders(folder)), arguments


def test_on_every_class_untouched_pictures_are_bit_for_bit_the_pipelines(
    real: tuple[Any, dict[str, Any]], detector: Detector
) -> None:
    pipe, asked = real
    guarded = guard(pipe, detector, on_match="regenerate")
    for output_type in ("pil", "np", "pt"):
        bare = pipe(**asked, output_type=output_type, generator=generators(1, 2, 3, 4))
        for return_dict in (True, False) if output_type == "np" else (True,):
            result = guarded(
                **asked, output_type=output_type, return_dict=return_dict, generator=generators(1, 2, 3, 4)
            )
            images = result.images if return_dict else result[0]
            if output_type == "pil":
                assert images == bare.images
            else:
                assert bool((images == bare.images).all())
            assert [report.action for report in result.reports] == [Action.NONE] * 4
            assert [report.finding.generation.seed for report in result.reports] == [1, 2, 3, 4]


def test_on_every_class_one_picture_is_made_again_from_its_own_arguments(
    real: tuple[Any, dict[str, Any]], detector: Detector
) -> None:
    pipe, asked = real
    bare = pipe(**asked, output_type="np", generator=generators(1, 2, 3, 4)).images
    call = Call(pipe, (), asked | {"output_type": "np"})
    for position in range(4):
        alone = call.run_one(position, 4, position + 1).images
        assert np.allclose(alone, bare[position : position + 1], atol=1e-3), position
    seen = Seen(detector)
    seen.seen.add(pixels(bare)[2])
    result = guard(pipe, seen, on_match="regenerate")(
        **asked, output_type="np", generator=generators(1, 2, 3, 4)
    )
    assert [report.action for report in result.reports] == [
        *[Action.NONE] * 2,
        Action.REGENERATED,
        Action.NONE,
    ]
    assert np.array_equal(result.images[[0, 1, 3]], bare[[0, 1, 3]])
    assert not np.allclose(result.images[2], bare[2], atol=1e-3)
    again = result.reports[2].tries[1]
    assert np.array_equal(result.images[2], call.run_one(2, 4, again.seed).images[0])
    generation = again.finding.generation
    assert generation.prompt == "sea"
    assert generation.sampler == type(pipe.scheduler).__name__
    assert generation.model == Path(pipe.config["_name_or_path"]).name
    assert generation.strength == asked.get("strength")


def test_pipelines_are_moved_and_set_through_the_guard(
    folders: Callable[[str], Path], detector: Detector
) -> None:
    pipe = loaded("StableDiffusionPipeline", folders("sd"))
    guarded = guard(pipe, detector)
    assert guarded.to("cpu") is guarded
    assert isinstance(guarded, GuardedPipeline)
    scheduler = diffusers.DDPMScheduler.from_config(guarded.scheduler.config)
    guarded.scheduler = scheduler
    assert pipe.scheduler is scheduler
    guarded.enable_attention_slicing()
    guarded.set_progress_bar_config(disable=True)
    assert guarded.device.type == "cpu"
    report = guarded("a", num_inference_steps=2, height=SIDE, width=SIDE).reports[0]
    assert report.finding.generation.sampler == "DDPMScheduler"


def test_prompt_embeddings_of_a_real_pipeline_are_cut(
    folders: Callable[[str], Path], detector: Detector
) -> None:
    pipe = loaded("StableDiffusionXLPipeline", folders("sdxl"))
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    embeddings = pipe.encode_prompt(["a cat", "sea"], device="cpu", num_images_per_prompt=1)
    asked = dict(zip(names, embeddings, strict=True))
    asked |= {"num_inference_steps": 2, "height": SIDE, "width": SIDE, "output_type": "np"}
    bare = pipe(**asked, generator=generators(1, 2)).images
    assert np.allclose(Call(pipe, (), asked).run_one(1, 2, 2).images, bare[1:], atol=1e-3)


def test_a_picture_that_went_in_is_named(
    folders: Callable[[str], Path], detector: Detector, tmp_path: Path
) -> None:
    pipe = loaded("StableDiffusionImg2ImgPipeline", folders("sd"))
    control_images(1)[0].save(tmp_path / "from.png")
    with Image.open(tmp_path / "from.png") as image:
        result = guard(pipe, detector)("a", image=image, strength=0.5, num_inference_steps=2)
    generation = result.reports[0].finding.generation
    assert (generation.source, generation.strength) == ("from.png", 0.5)
    assert generation.is_reconstruction


# Adapters


def test_safety_checker_blacks_out_in_a_real_pipeline(
    folders: Callable[[str], Path], detector: Detector, tmp_path: Path
) -> None:
    from transformers import CLIPImageProcessor

    seen = Seen(detector)
    checker = ReplicationSafetyChecker(seen)
    bare = loaded("StableDiffusionPipeline", folders("sd"))
    pipe = loaded(
        "StableDiffusionPipeline",
        folders("sd"),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(),
        requires_safety_checker=True,
    ).to("cpu")
    asked = {"prompt": ["a", "b"], "num_inference_steps": 2, "height": SIDE, "width": SIDE}
    for output_type in ("pil", "np", "pt"):
        made = bare(**asked, output_type=output_type, generator=generators(1, 2)).images
        seen.seen = {pixels(made)[1]}
        result = pipe(**asked, output_type=output_type, generator=generators(1, 2))
        assert result.nsfw_content_detected == [False, True]
        assert pixels(result.images)[0] == pixels(made)[0]
        assert not any(pixels(result.images)[1])
        assert [report.action for report in checker.reports] == [Action.NONE, Action.BLANKED]
        assert checker.reports[1].sentences[0].startswith(SENTENCE)
    other = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    assert other.safety_checker is checker
    pipe.save_pretrained(tmp_path / "saved")
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "saved", **pipelines.CALM)
    assert again.safety_checker is None


def test_safety_checker_finds_a_work_in_decoded_tensors_and_in_arrays(
    pipe: Memoriser, small_index: Path
) -> None:
    told: list[GuardReport] = []
    checker = ReplicationSafetyChecker(small_index, callback=told.append)
    values = np.stack([np.asarray(image, np.float32) / 255 for image in (pipe.others[0], pipe.picture)])
    tensor = torch.from_numpy(values.transpose(0, 3, 1, 2)) * 2 - 1
    for images in (values, tensor, tensor.half()):
        kept = copy.deepcopy(images)
        checked, flags = checker(images=images, clip_input=None)
        assert flags == [False, True]
        assert all(type(flag) is bool for flag in flags)
        assert bool((checked[0] == kept[0]).all())
        assert not bool(checked[1].any())
        assert bool((images == kept).all())
    assert len(told) == 6
    checker.close()


def modular(block: Any, images: Any) -> Any:
    """A modular pipeline that decodes nothing: its first block makes these pictures."""
    from diffusers.modular_pipelines import (
        InputParam,
        ModularPipelineBlocks,
        OutputParam,
        SequentialPipelineBlocks,
    )

    class Decode(ModularPipelineBlocks):  # type: ignore[misc]
        @property
        def inputs(self) -> list[Any]:
            return [InputParam("prompt", required=True)]

        @property
        def intermediate_outputs(self) -> list[Any]:
            return [OutputParam("images")]

        def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
            block_state = self.get_block_state(state)
            block_state.images = images
            self.set_block_state(state, block_state)
            return components, state

    blocks = SequentialPipelineBlocks.from_blocks_dict({"decode": Decode()})
    blocks.sub_blocks.insert("replication_check", block, len(blocks.sub_blocks))
    return blocks.init_pipeline()


def test_modular_block_annotates_with_plain_values(pipe: Memoriser, detector: Detector) -> None:
    images = [pipe.others[0], pipe.picture]
    made = modular(replication_block(detector), images)
    state = made(prompt="a")
    other, found = state.get("replication")
    assert json.loads(json.dumps(found)) == found
    assert (other["action"], found["action"]) == ("none", "annotated")
    assert found["sentences"][0].startswith(SENTENCE)
    assert state.get("images") == images
    assert made(state=state, prompt="b", output="replication")[1]["action"] == "annotated"
    with pytest.raises(UsageError, match="replication_block"):
        guard(made, detector)


def test_modular_block_blanks_and_raises(pipe: Memoriser, detector: Detector) -> None:
    values = np.stack([np.asarray(image, np.float32) / 255 for image in (pipe.others[0], pipe.picture)])
    images = modular(replication_block(detector, on_match="blank"), values)(prompt="a", output="images")
    assert np.array_equal(images[0], values[0])
    assert not images[1].any()
    with pytest.raises(ReplicationError, match="Tidewater"):
        modular(replication_block(detector, on_match="raise"), values)(prompt="a")


# The README


def test_the_readmes_example_runs(
    pipe: Memoriser,
    works: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.test_docs import README, blocks

    class Loaded:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return Loaded()

        def to(self, device: str) -> Any:
            return pipe

    text = README.read_text(encoding="utf-8")
    (code,) = [block for block in blocks(text, "py") if "guard(" in block]
    monkeypatch.setattr(diffusers, "DiffusionPipeline", Loaded)
    monkeypatch.chdir(tmp_path)
    build_index(works, "art.index", descriptors=["pdq", "phash", "keypoints"])
    pipe.memorised = {1}
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "none 0\nregenerated 0\n"
    assert read_generation(tmp_path / "1.png").extra["tries"] == "2"  # type: ignore[union-attr]
    reports = guard(pipe, tmp_path / "art.index")("a", num_images_per_prompt=2).reports
    assert " ".join(text.split()).count(reports[1].sentences[0].split("; a credit")[0])


# The trained pipeline of the samples


def told_apart() -> tuple[list[str], list[str]]:
    """Captions that were repeated most, and captions of works held out."""
    with (TINY / "training.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    most = max(int(row["repeats"]) for row in rows)
    pick = {most: [], 0: []}  # type: dict[int, list[str]]
    for row in rows:
        if int(row["repeats"]) in pick:
            pick[int(row["repeats"])].append(row["caption"])
    return pick[most][:3], pick[0][:3]


def test_a_memorised_prompt_is_refused_before_anything_is_generated(sample_index: Path) -> None:
    memorised, held_out = told_apart()
    pipe = loaded("StableDiffusionPipeline", TINY, **pipelines.CALM).to(torch.float32)
    unseen = prompt_magnitude(pipe, held_out)
    with guard(pipe, sample_index, max_prompt_magnitude=float(unseen.max())) as guarded:
        reached: list[int] = []
        asked: dict[str, Any] = {
            "num_inference_steps": 1,
            "callback_on_step_end": lambda *a: reached.append(1) or {},
        }
        for prompt in (memorised[0], [held_out[0], memorised[1]]):
            with pytest.raises(
                ReplicationError, match=re.escape(memorised[0 if prompt == memorised[0] else 1])
            ):
                guarded(prompt, **asked)
        assert not reached
        assert len(guarded(held_out[0], **asked).reports) == 1
        assert reached
        with pytest.raises(UsageError, match="prompts as text"):
            guarded(prompt_embeds=torch.zeros(1, 32, 128), **asked)


def test_the_early_sign_is_refused_where_it_cannot_be_measured(pipe: Memoriser, detector: Detector) -> None:
    with pytest.raises(UsageError, match="max_prompt_magnitude: Memoriser has no unet"):
        guard(pipe, detector, max_prompt_magnitude=3.0)


@pytest.mark.slow
@pytest.mark.skipif(not (TINY / "model_index.json").is_file(), reason="samples/tiny-diffusion is not there")
@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_no_replica_leaves_a_pipeline_that_memorised(
    sample_index: Path, output_type: str, return_dict: bool
) -> None:
    memorised, held_out = told_apart()
    pipe = loaded("StableDiffusionPipeline", TINY, **pipelines.CALM).to(torch.float32)
    prompts = [*memorised, *held_out]
    asked = {
        "prompt": prompts,
        "num_inference_steps": 20,
        "guidance_scale": 2.0,
        "output_type": output_type,
        "return_dict": return_dict,
    }
    bare = pipe(**asked, generator=generators(*range(len(prompts))))
    with Detector.open(sample_index) as found:
        guarded = guard(pipe, found, on_match="regenerate", max_tries=2)
        result = guarded(**asked, generator=generators(*range(len(prompts))))
        before, after = (pixels(each.images if return_dict else each[0]) for each in (bare, result))
        assert all(report.level < 3 for report in found.check_many(readable(result[0])))
    actions = [report.action for report in result.reports]
    assert any(action is not Action.NONE for action in actions[: len(memorised)])
    for position, action in enumerate(actions):
        assert (before[position] == after[position]) is (action is Action.NONE), prompts[position]
        if action is Action.BLANKED:
            assert not any(after[position])
