"""The wheel, as somebody gets it: built from what is tracked, installed in a new environment outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = "--no-deps --no-index --disable-pip-version-check --quiet".split()


def build_wheel(folder: Path) -> Path:
    """Build the wheel in a folder, from a copy of the tracked files: a build leaves folders beside its sources.

    Raises:
        LookupError: What is needed to build it is not installed, or this is no git checkout.
        RuntimeError: The build failed; the text is its output.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        raise LookupError("not a git checkout: what belongs to the sources is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.startswith(("tests/", ".")) or not (ROOT / name).is_file():
            continue
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), "./source", cwd=folder)
    return next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Make an environment in a new folder, with the wheel in it, and return the folder of its commands.

    The packages that the wheel needs are those of the running environment, lent by a line in a `.pth` file; what is
    installed there for editing is not lent, for such files are not followed twice.

    Raises:
        LookupError, RuntimeError: As `build_wheel`.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    own = {"base": str(folder), "platbase": str(folder)}
    scripts = Path(sysconfig.get_path("scripts", vars=own))
    packages = Path(sysconfig.get_path("purelib", vars=own))
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)), encoding="utf-8")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    _pip("install", "--ignore-installed", str(wheel), cwd=folder, python=python)
    return scripts


def _pip(verb: str, *words: str, cwd: Path, python: Path = Path(sys.executable)) -> None:
    """Run pip of the running environment for the one that a Python belongs to."""
    command = [sys.executable, "-m", "pip", "--python", str(python), verb, *OFFLINE, *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
    if "No module named pip" in done.stderr:
        raise LookupError("pip is not installed")
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
