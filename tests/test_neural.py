"""`index.neural`: towers saved to disk, loaded through the names that users write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index.build import build_index
from index.descriptors import Descriptor, DescriptorSpec, Kind, create
from index.errors import DescriptorError, WeightsError
from index.images import Picture, read_image
from index.neural import BUNDLED, ClipDescriptor
from index.reference_index import ReferenceIndex
from index.torch_tower import TorchTower, weights_digest
from index.torchscript import TRUST_VARIABLE, TorchScriptDescriptor
from tests.conftest import TINY_TOWER, TOWER_SIDE, save_script
from tests.conftest import save_clip_folder as save_folder

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

SIDE = TOWER_SIDE
TINY = TINY_TOWER


def picture(seed: int, width: int = 2 * SIDE, height: int = 2 * SIDE) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    noise = rng.integers(0, 32, (height, width, 3), dtype=np.uint8)
    return of(coarse[rows][:, columns] // 2 + noise)


def of(pixels: np.ndarray[Any, Any]) -> Picture:
    pixels = np.ascontiguousarray(pixels)
    return Picture(pixels, pixels.shape[1], pixels.shape[0], "", "")


def flipped(one: Picture) -> Picture:
    return of(one.pixels[:, ::-1])


@pytest.fixture(scope="module")
def state(tower_state: dict[str, Any]) -> dict[str, Any]:
    return tower_state


@pytest.fixture(scope="module")
def folder(clip_folder: Path) -> Path:
    return clip_folder


@pytest.fixture(scope="module")
def script(script_file: Path) -> Path:
    return script_file


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model under a name of its own, as an open_clip user adds one."""
    path = tmp_path_factory.mktemp("configs") / "tiny-test-tower.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture(params=["clip", "sscd"])
def descriptor(request: pytest.FixtureRequest, folder: Path, script: Path) -> Descriptor:
    name = f"clip:local-dir:{folder}" if request.param == "clip" else f"sscd:{script}"
    return create(name, device="cpu")


def rows(descriptor: Descriptor, pictures: list[Picture]) -> np.ndarray[Any, Any]:
    return np.concatenate(descriptor.describe(pictures))


def test_importing_the_module_loads_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys, index.neural as n, index.torchscript as t;"
        "n.ClipDescriptor('ViT-B-32/openai'); t.TorchScriptDescriptor('x.pt');"
        "sys.exit(bool({'torch', 'torchvision', 'open_clip', 'timm', 'transformers'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_each_picture_gets_one_unit_row_as_wide_as_the_spec_says(descriptor: Descriptor) -> None:
    assert isinstance(descriptor, Descriptor)
    assert descriptor.batched
    assert descriptor.spec.kind is Kind.UNIT
    pictures = [picture(1), picture(2, 50, 90), picture(3, 7, 5), picture(4, 512, 300)]
    described = descriptor.describe(pictures)
    assert len(described) == 4
    for row in described + descriptor.describe_mirrored(pictures):
        assert row.shape == (1, descriptor.spec.width)
        assert row.dtype == np.float32
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    assert descriptor.describe([]) == descriptor.describe_mirrored([]) == []


def test_rows_tell_pictures_apart(descriptor: Descriptor) -> None:
    first, second, again = rows(descriptor, [picture(1), picture(2), picture(1)])
    assert first @ again == pytest.approx(1, abs=1e-6)
    assert first @ second < 0.9999


def test_batch_size_and_order_do_not_matter(folder: Path, script: Path) -> None:
    pictures = [picture(seed, 40 + seed, 70 - seed) for seed in range(11)]
    for kind, name in ((ClipDescriptor, f"local-dir:{folder}"), (TorchScriptDescriptor, str(script))):
        whole = rows(kind(name, device="cpu", batch_size=64), pictures)
        small = kind(name, device="cpu", batch_size=3)
        np.testing.assert_allclose(rows(small, pictures), whole, atol=1e-5)
        np.testing.assert_allclose(rows(small, pictures[::-1])[::-1], whole, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([rows(small, [one]) for one in pictures]), whole, atol=1e-5)


def test_mirrored_rows_are_those_of_the_flipped_picture(descriptor: Descriptor) -> None:
    # Sides twice and four times the model's: resizing and centre crop are exactly symmetric.
    side = descriptor.spec.preprocessing["size"]
    side = side if isinstance(side, int) else side[0]
    pictures = [picture(1, 2 * side, 2 * side), picture(2, 4 * side, 2 * side)]
    if side > 64:
        pictures = [picture(1, side, side), picture(2, side, side)]
    expected = rows(descriptor, [flipped(one) for one in pictures])
    afresh = np.concatenate(descriptor.describe_mirrored(pictures))
    np.testing.assert_allclose(afresh, expected, atol=1e-5)
    assert np.abs(afresh - rows(descriptor, pictures)).max() > 1e-3


def test_mirroring_after_describing_does_not_preprocess_again(descriptor: Descriptor) -> None:
    pictures = [picture(seed) for seed in range(5)]
    afresh = np.concatenate(descriptor.describe_mirrored(pictures))
    descriptor.describe(pictures)
    for one in pictures:
        one.pixels[:] = 0  # would change the rows if the pixels were read again
    np.testing.assert_allclose(np.concatenate(descriptor.describe_mirrored(pictures)), afresh, atol=1e-5)


def test_mirroring_other_pictures_than_the_last_described_reads_them(descriptor: Descriptor) -> None:
    expected = np.concatenate(descriptor.describe_mirrored([picture(2)]))
    descriptor.describe([picture(1)])
    np.testing.assert_allclose(
        np.concatenate(descriptor.describe_mirrored([picture(2)])), expected, atol=1e-5
    )
    descriptor.describe([picture(seed) for seed in range(70)])
    np.testing.assert_allclose(
        np.concatenate(descriptor.describe_mirrored([picture(2)])), expected, atol=1e-5
    )


def test_long_strips_are_described_without_a_huge_enlargement(descriptor: Descriptor) -> None:
    wide, high = picture(1, 512, 1), picture(1, 1, 512)
    assert np.isfinite(rows(descriptor, [wide, high])).all()


def test_rows_are_those_of_open_clip_itself(folder: Path) -> None:
    from PIL import Image

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    one = picture(5, 90, 61)
    with torch.inference_mode():
        tensor = transform(Image.fromarray(one.pixels))[None]
        expected = model.eval().encode_image(tensor, normalize=True).numpy()
    np.testing.assert_allclose(rows(ClipDescriptor(f"local-dir:{folder}"), [one]), expected, atol=1e-5)


def test_the_models_own_preprocessing_is_used_and_written_down(state: dict[str, Any], tmp_path: Path) -> None:
    squash = save_folder(tmp_path / "squash", state, resize_mode="squash", interpolation="bilinear")
    descriptor = ClipDescriptor(f"local-dir:{squash}")
    written = descriptor.spec.preprocessing
    assert (written["resize_mode"], written["interpolation"]) == ("squash", "bilinear")
    assert written["mean"] == [0.5, 0.4, 0.3]
    strip = picture(1, 2 * SIDE, SIDE)
    ends = of(np.where(np.arange(2 * SIDE)[None, :, None] < 8, 0, strip.pixels))
    seen, unseen = rows(descriptor, [strip, ends])
    assert seen @ unseen < 0.9999  # a centre crop would not have seen that end


def test_spec_survives_the_manifest(descriptor: Descriptor) -> None:
    spec = descriptor.spec
    assert DescriptorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert len(spec.weights_digest) == 64
    assert spec.preprocessing["smaller_pictures"] == "enlarged"


def test_one_checkpoint_gives_one_digest_whatever_its_container(
    state: dict[str, Any], folder: Path, named: str, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}}, tmp_path / "trained.pt")
    save_file(state, tmp_path / "plain.safetensors")
    first = ClipDescriptor(f"local-dir:{folder}")
    for file in ("plain.pt", "trained.pt", "plain.safetensors"):
        other = ClipDescriptor(f"{named}/{tmp_path / file}")
        assert other.spec.name == f"clip:{named}/{tmp_path / file}"
        assert other.spec.weights_digest == first.spec.weights_digest
        assert other.spec.width == 24


def test_digest_follows_the_image_tower_and_not_the_text_tower(
    state: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    first = ClipDescriptor(f"local-dir:{folder}").spec
    bent = dict(state)
    bent["visual.proj"] = state["visual.proj"].clone()
    bent["visual.proj"][0, 0] += 1e-4
    assert ClipDescriptor(f"local-dir:{save_folder(tmp_path / 'a', bent)}").spec.weights_digest != (
        first.weights_digest
    )
    worded = dict(state, text_projection=state["text_projection"] + 1)
    assert ClipDescriptor(f"local-dir:{save_folder(tmp_path / 'b', worded)}").spec.weights_digest == (
        first.weights_digest
    )


def test_same_weights_in_another_architecture_have_another_spec(
    state: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    # Neither shows in the weights: QuickGELU has none, and heads share one matrix.
    first = ClipDescriptor(f"local-dir:{folder}").spec
    quick = save_folder(tmp_path / "quick", state, TINY | {"quick_gelu": True})
    heads = save_folder(
        tmp_path / "heads", state, TINY | {"vision_cfg": TINY["vision_cfg"] | {"head_width": 16}}
    )
    for other in (quick, heads):
        spec = ClipDescriptor(f"local-dir:{other}").spec
        assert spec.weights_digest == first.weights_digest
        assert spec.preprocessing["architecture"] != first.preprocessing["architecture"]


def test_weights_digest_covers_names_shapes_and_values_but_not_float_width() -> None:
    base = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4)}
    digest = weights_digest(base)
    assert weights_digest(dict(reversed(base.items()))) == digest
    assert weights_digest(base | {"a": base["a"].half()}) == digest
    assert weights_digest(base | {"a": base["a"].bfloat16()}) == digest
    assert weights_digest(base | {"a": base["a"].t().contiguous().t()}) == digest
    assert weights_digest(base | {"a": base["a"].reshape(3, 2)}) != digest
    assert weights_digest(base | {"a": base["a"] + 1}) != digest
    assert weights_digest({"b": base["a"], "n": base["n"]}) != digest


def test_towers_that_open_clip_builds_otherwise_work_too(tmp_path: Path) -> None:
    resnet = TINY | {
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    }
    captioner = TINY | {
        "vision_cfg": TINY["vision_cfg"]
        | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TINY["text_cfg"] | {"embed_cls": True},
        "multimodal_cfg": {"context_length": 8, "width": 24, "heads": 2, "layers": 1},
        "custom_text": True,
    }
    for number, config in enumerate((resnet, TINY | {"custom_text": True}, captioner)):
        kwargs = {key: value for key, value in config.items() if key != "custom_text"}
        kind = (
            "CoCa" if "multimodal_cfg" in config else "CustomTextCLIP" if "custom_text" in config else "CLIP"
        )
        maker = open_clip.CoCa if kind == "CoCa" else getattr(open_clip.model, kind)
        torch.manual_seed(number)
        state = {name: tensor.clone().contiguous() for name, tensor in maker(**kwargs).state_dict().items()}
        place = save_folder(tmp_path / str(number), state, config)
        descriptor = ClipDescriptor(f"local-dir:{place}", device="cpu")
        assert rows(descriptor, [picture(1), picture(2)]).shape == (2, 24)


def test_the_model_is_loaded_once_by_many_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = open_clip.create_model_from_pretrained
    monkeypatch.setattr(
        open_clip, "create_model_from_pretrained", lambda *a, **k: (loads.append(a), real(*a, **k))[1]
    )
    descriptor = ClipDescriptor(f"local-dir:{folder}")
    assert not loads
    described: list[Any] = []
    threads = [
        threading.Thread(target=lambda: described.append(rows(descriptor, [picture(1)]))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(described) == 6


def test_float16_that_overflows_is_done_again_in_float32(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(ClipDescriptor(f"local-dir:{folder}", device="cpu"), [picture(1)])
    calls = []

    def run(self: TorchTower, inputs: Any) -> Any:
        def overflowing(batch: Any) -> Any:
            calls.append(torch.is_autocast_enabled("cpu"))
            features = self.encode(batch)
            return features * float("inf") if calls[-1] else features

        return plain(replace(self, half=True, encode=overflowing), inputs)

    plain = TorchTower.run
    monkeypatch.setattr(TorchTower, "run", run)
    np.testing.assert_allclose(
        rows(ClipDescriptor(f"local-dir:{folder}", device="cpu"), [picture(1)]), expected, atol=1e-5
    )
    assert calls == [True, False]


def test_a_flat_picture_gets_a_unit_row_even_where_the_model_gives_zeros(tmp_path: Path) -> None:
    descriptor = TorchScriptDescriptor(str(save_script(tmp_path / "m.pt", bias=False)), input_side=16)
    tower = replace(descriptor._tower(), run=lambda inputs: np.zeros((len(inputs), 16), np.float32))
    zeros = descriptor._rows(tower, np.zeros((2, 16, 16, 3), np.uint8), mirrored=False)
    assert [row.tolist() for row in zeros] == [[[1.0] + [0.0] * 15]] * 2


def test_torchscript_digest_is_that_of_the_file_and_its_weights(script: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(script.read_bytes())
    other = save_script(tmp_path / "other.pt", seed=4)
    digests = [TorchScriptDescriptor(str(path)).spec.weights_digest for path in (script, copy, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("key", "value"), [("layers", 2**64 + 1), ("layers", [3, 10**9]), ("width", 10**300)]
)
def test_a_tower_without_end_is_refused_before_it_is_built(
    key: str, value: Any, tower_state: dict[str, Any], tmp_path: Path
) -> None:
    endless = TINY | {"vision_cfg": TINY["vision_cfg"] | {key: value}}
    folder = save_folder(tmp_path / "endless", tower_state, endless)
    with pytest.raises(WeightsError, match=f"could not be loaded .*{key} is .*the limit is"):
        ClipDescriptor(f"local-dir:{folder}").spec  # noqa: B018


def test_a_torchscript_file_runs_only_where_it_is_named_as_trusted(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "models"
    for named in ("", str(tmp_path), str(script.with_name("model.torchscript")), f"{tmp_path}{os.pathsep}"):
        monkeypatch.setenv(TRUST_VARIABLE, named)
        monkeypatch.setattr("torch.jit.load", lambda *_, **__: pytest.fail("it was loaded"))
        with pytest.raises(
            WeightsError, match=f"was not loaded.*export {TRUST_VARIABLE}=.*model.torchscript.pt"
        ):
            TorchScriptDescriptor(str(script)).spec  # noqa: B018
    monkeypatch.undo()
    for named in (str(script), str(script.parent), f"{beside}{os.pathsep}{script}"):
        monkeypatch.setenv(TRUST_VARIABLE, named)
        assert TorchScriptDescriptor(str(script)).spec.width == 16
    (tmp_path / "link.pt").symlink_to(script)
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match="was not loaded"):
        TorchScriptDescriptor(str(tmp_path / "link.pt")).spec  # noqa: B018


def test_an_index_of_others_that_names_a_torchscript_file_runs_nothing(
    script: Path, artworks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "art.index"
    build_index(artworks, folder, descriptors=(f"sscd:{script}",))
    monkeypatch.delenv(TRUST_VARIABLE)
    monkeypatch.setattr("torch.jit.load", lambda *_, **__: pytest.fail("it was loaded"))
    with ReferenceIndex.open(folder) as index, pytest.raises(WeightsError, match=f"export {TRUST_VARIABLE}="):
        index.descriptors()


def test_damaged_weights_are_reported_not_described(state: dict[str, Any], tmp_path: Path) -> None:
    broken = dict(state, **{"visual.proj": state["visual.proj"] * float("nan")})
    descriptor = ClipDescriptor(f"local-dir:{save_folder(tmp_path / 'nan', broken)}")
    with pytest.raises(WeightsError, match=r"damaged weights.*--descriptors pdq,phash,keypoints"):
        descriptor.describe([picture(1)])


def test_unusable_checkpoints_are_weights_errors(
    state: dict[str, Any], folder: Path, script: Path, named: str, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file(dict(state, **{"visual.proj": torch.zeros(3, 3)}), tmp_path / "shapes.safetensors")
    whole = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"state_dict": Trap()}, tmp_path / "pickle.pt")
    (tmp_path / "script.pt").write_bytes(script.read_bytes())
    for file in tmp_path.iterdir():
        with pytest.raises(WeightsError) as caught:
            _ = ClipDescriptor(f"{named}/{file}").spec
        text = str(caught.value)
        assert "could not be loaded" in text
        assert "--descriptors pdq,phash,keypoints" in text
        assert "\n" not in text
        assert len(text) < 900
    assert not Trap.sprung


class Trap:
    """An object whose unpickling would run code."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


def test_missing_places_say_what_is_missing(tmp_path: Path, named: str) -> None:
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    for name, words in (
        (f"clip:local-dir:{tmp_path / 'gone'}", "no open_clip_config.json in"),
        (f"clip:local-dir:{tmp_path / 'empty'}", "no open_clip_config.json in"),
        (f"clip:local-dir:{half}", "must hold open_clip_config.json and open_clip_model.safetensors"),
        (f"clip:{named}/{tmp_path / 'gone.pt'}", "there is no checkpoint file"),
        (f"clip:{named}/gone.safetensors", "there is no checkpoint file"),
        (f"sscd:{tmp_path / 'gone.pt'}", "there is no file"),
    ):
        with pytest.raises(WeightsError) as caught:
            create(name).describe([picture(1)])
        assert words in str(caught.value)
        assert "--descriptors pdq,phash,keypoints" in str(caught.value)
        assert caught.value.descriptor == name


def test_a_package_without_its_tower_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.neural.BUNDLED", tmp_path / "gone")
    with pytest.raises(
        WeightsError, match=r"is gone.*Install the package anew.*--descriptors pdq,phash,keypoints"
    ):
        create("clip:bundled").describe([picture(1)])


def test_the_bundled_tower_tells_a_copy_from_other_pictures(artworks: Path) -> None:
    paths = sorted(artworks.glob("*.jpg"))[:12]
    pictures = [read_image(path) for path in paths]
    copies = []
    for path in paths:
        with Image.open(path) as opened:
            small = opened.convert("L").convert("RGB").resize((opened.width // 3, opened.height // 3))
        copies.append(read_image(small))
    tower = create("clip:bundled")
    rows, again = (np.concatenate(tower.describe(some)) for some in (pictures, copies))
    assert (rows @ again.T).argmax(axis=0).tolist() == list(range(12))
    assert np.allclose(
        np.concatenate(tower.describe_mirrored([p.mirrored() for p in pictures])), rows, atol=1e-5
    )


def test_folded_normalisation_changes_no_row(artworks: Path) -> None:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{BUNDLED}")
    path = sorted(artworks.glob("*.jpg"))[0]
    picture_ = read_image(path)
    with torch.inference_mode():
        plain = torch.nn.functional.normalize(
            model.eval().encode_image(transform(picture_.to_pil())[None])
        ).numpy()
    assert np.allclose(create("clip:bundled").describe([picture_])[0], plain, atol=1e-5)


def test_files_that_are_not_torchscript_are_weights_errors(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("no program")
    for file in tmp_path.iterdir():
        with pytest.raises(WeightsError, match="is no TorchScript module"):
            _ = TorchScriptDescriptor(str(file)).spec


def test_torchscript_that_gives_no_rows_is_a_weights_error(tmp_path: Path) -> None:
    for number, module in enumerate((torch.nn.Identity(), torch.nn.Linear(5, 5))):
        path = tmp_path / f"{number}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.script(module).save(str(path))
        with pytest.raises(WeightsError, match="is no TorchScript module"):
            _ = TorchScriptDescriptor(str(path), input_side=16).spec


@pytest.mark.parametrize("name", ["clip:ViT-B-32/laion2b_s34b_b79k", "clip:hf-hub:some-org/some-model"])
def test_offline_without_cached_weights_says_how_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the variable is read when it is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        _ = create(name).spec
    text = str(caught.value)
    assert text.startswith(f"{name}: its weights could not be loaded")
    assert "open_clip.create_model_from_pretrained('" in text
    assert "--descriptors pdq,phash,keypoints" in text
    assert "\n" not in text
    assert capfd.readouterr().err == ""


def test_cached_weights_are_used_without_asking_the_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def no_network(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    monkeypatch.setattr(huggingface_hub.file_download, "get_hf_file_metadata", no_network)
    repository = tmp_path / "models--some-org--some-model"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    cached = ClipDescriptor("hf-hub:some-org/some-model", device="cpu")
    local = ClipDescriptor(f"local-dir:{folder}", device="cpu")
    assert cached.spec.weights_digest == local.spec.weights_digest
    assert cached.spec.preprocessing == local.spec.preprocessing
    assert open_clip.pretrained.hf_hub_download.keywords.get("local_files_only") is None


def test_without_a_network_the_hub_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    asked = []

    class Unplugged:
        def head(self, url: str, **_: Any) -> Any:
            asked.append(url)
            raise OSError("network is unreachable")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", Unplugged)
    with pytest.raises(WeightsError, match="Get them once, where there is a network"):
        _ = ClipDescriptor("ViT-B-32/laion2b_s34b_b79k").spec
    assert len(asked) == 1
    assert capfd.readouterr().err == ""


def test_tags_trained_with_quick_gelu_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def create_model(source: str, pretrained: str, **options: Any) -> Any:
        asked[f"{source}/{pretrained}"] = options
        raise RuntimeError("no weights here")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create_model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("ViT-B-32/openai", "ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(WeightsError, match="no weights here"):
            _ = ClipDescriptor(name).spec
    assert asked["ViT-B-32/openai"]["force_quick_gelu"] is True
    assert asked["ViT-B-32/laion2b_s34b_b79k"]["force_quick_gelu"] is False
    assert all(options["weights_only"] is True for options in asked.values())


def test_loading_leaves_the_logging_of_the_application_alone(folder: Path) -> None:
    code = (
        "import logging, sys, index.neural as n;"
        "n.ClipDescriptor('local-dir:' + sys.argv[1]).spec; sys.exit(len(logging.getLogger().handlers))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=root, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-23/openai", "ViT-B-32"),
        ("ViT-B-32/laion2b", "laion2b_s34b_b79k"),
        ("ViT-B-32", "names no weights"),
        ("/openai", "names no weights"),
        ("hf-hub:", "names no weights"),
        ("local-dir:", "names no weights"),
        ("", "names no weights"),
    ],
)
def test_names_that_lead_nowhere_show_near_ones(name: str, words: str) -> None:
    with pytest.raises(DescriptorError, match=words) as caught:
        _ = create(f"clip:{name}").spec
    assert not isinstance(caught.value, WeightsError)


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "meta"])
def test_devices_that_are_not_there_are_named(device: str, folder: Path, script: Path) -> None:
    for name in (f"clip:local-dir:{folder}", f"sscd:{script}"):
        with pytest.raises(DescriptorError, match=rf"no device {device} on this computer\. It has .*cpu"):
            _ = create(name, device=device).spec


def test_sizes_out_of_range_are_refused(script: Path, folder: Path) -> None:
    with pytest.raises(DescriptorError, match="batch_size is 0"):
        ClipDescriptor(f"local-dir:{folder}", batch_size=0)
    with pytest.raises(DescriptorError, match="input_side"):
        TorchScriptDescriptor(str(script), input_side=0)


def test_a_model_loads_while_another_is_at_work(artworks: Path) -> None:
    picture = read_image(next(iter(sorted(artworks.glob("*.jpg")))))
    at_work, stop = ClipDescriptor("bundled"), threading.Event()
    failed: list[Exception] = []
    at_work.describe([picture])

    def work() -> None:
        while not stop.is_set():
            try:
                at_work.describe([picture.cropped(0, 0, 64, 64)])
            except Exception as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        ClipDescriptor("bundled").describe([picture])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
