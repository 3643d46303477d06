"""The wheel holds all that is needed: installed elsewhere, in an empty folder, the demo and the doctor work."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def run(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked: a build leaves folders beside its sources."""
    pytest.importorskip("setuptools", minversion="77.0.3")
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: what belongs to the sources is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.startswith(("tests/", ".")) or not (ROOT / name).is_file():
            continue
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    options = "wheel --no-deps --no-build-isolation --no-index --disable-pip-version-check --quiet"
    done = run("-m", "pip", *options.split(), "--wheel-dir", str(folder), "./source", cwd=folder)
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed")
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel in a folder of its own, without its dependencies."""
    target = wheel.parent / "installed"
    options = "install --no-deps --no-index --disable-pip-version-check --quiet"
    done = run("-m", "pip", *options.split(), "--target", str(target), str(wheel), cwd=wheel.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> dict[str, str]:
    """Variables of somebody who has nothing but the wheel: an empty home folder, no network."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PYTHONPATH": str(installed),
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }


def test_the_wheel_holds_weights_pages_samples_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for ending in (
        "index/weights/bundled/open_clip_model.safetensors",
        "detector/scoring.json",
        "detector/reports/page.html",
        "samples/artworks/metadata.csv",
        "samples/generated/0001.png",
    ):
        assert any(name.endswith(ending) for name in names), ending
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if ".dist-info" not in top and ".data" not in top} == {"detector", "index"}
    assert wheel.stat().st_size < 25_000_000


def test_the_demo_runs_from_the_wheel_alone(
    installed: Path, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(
        "-c", "import detector, index; print(detector.__file__, index.__file__)", cwd=empty, **elsewhere
    )
    assert where.stdout.count(str(installed)) == 2, where.stdout + where.stderr
    done = run("-m", "detector", "demo", cwd=empty, **elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "28 of 37 generated pictures replicate" in done.stdout
    assert {path.name for path in empty.iterdir()} == {"detector-demo"}
    assert (empty / "detector-demo" / "report.html").stat().st_size > 100_000


def test_the_doctor_finds_the_installed_wheel_in_order(elsewhere: dict[str, str], tmp_path: Path) -> None:
    done = run("-m", "detector", "doctor", cwd=tmp_path, **elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
