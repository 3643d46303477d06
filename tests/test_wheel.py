"""The wheel holds all that is needed: installed elsewhere, in an empty folder, the demo and the doctor work."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.benchmarks.first_hour import tell
from tests.benchmarks.wheels import build_wheel, install

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked."""
    pytest.importorskip("setuptools", minversion="77.0.3")
    try:
        return build_wheel(tmp_path_factory.mktemp("wheel"))
    except LookupError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """The commands of a new environment with the wheel in it."""
    return install(wheel, wheel.parent / "environment")


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


def test_the_demo_runs_from_the_wheel_alone(environment: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [
            str(environment / "python"),
            "-c",
            "import detector, index; print(detector.__file__, index.__file__)",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.count(str(environment.parent)) == 2
    done = tell(["demo"], tmp_path, command=[str(environment / "detector")], PYTHONPATH="")
    assert done.ended == 0, done.said
    assert "28 of 37 generated pictures replicate" in done.said
    assert {path.name for path in tmp_path.iterdir()} == {"detector-demo"}
    assert (tmp_path / "detector-demo" / "report.html").stat().st_size > 100_000


def test_the_doctor_finds_the_installed_wheel_in_order(environment: Path, tmp_path: Path) -> None:
    done = tell(["doctor"], tmp_path, command=[str(environment / "detector")], PYTHONPATH="")
    assert done.ended == 0, done.said
