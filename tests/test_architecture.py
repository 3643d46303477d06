"""The architecture as tables: who may import whom, which module owns which library, what may exist at all.

A change that edits a table says why in its commit message.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL_FOLDERS = {"detector", "index", "samples", "tests"}

# Every module, by folder. A new one is added here, and to the tree in CONTRIBUTING.md.
LAYOUT = {
    "index": """
        __init__ background build calibration catalog comparing containers credits descriptors duplicates embedded
        embeddings errors flattening folders hub images importing items keypoints lists locations migrations milvus
        milvus_rows milvus_server neural opencv_tower optimizing perceptual plain reference_index regions requests
        searching segments shards sketches sources tables thumbnails torch_tower torchscript tracing vectors workers
        """,
    "detector": """
        __init__ __main__ calibrate cli clusters detail detector diagnosis distributed duplicates generation geometry
        licences metadata pixels probing processes report rights scan scoring verify versions
        """,
    "detector/artists": """
        __init__ bundle cards contradictions dossier findings names pictures report search spelling words
        """,
    "detector/audit": """
        __init__ analysis conduct course figures groups likeness log options pipelines plots prompts report
        statistics works
        """,
    "detector/guarding": """
        __init__ blocks calls checker checks pictures pipeline report
        """,
    "detector/provenance": """
        __init__ comfyui infotext invokeai lists settings
        """,
    "detector/reports": """
        __init__ atomic audit_page audit_tables cards duplicates_page generation jsonl markup page pictures spreadsheet
        terminal wording
        """,
    "detector/commands": """
        __init__ artist auditing building calibrating checking completing console doctor duplicates importing indexing
        optimizing options progress
        requests scanning serving training
        """,
    "detector/training": """
        __init__ autoencoder course draws edits finish geometry graph log loop objective options overlays pictures
        procedural report tower
        """,
    "detector/server": None,  # any module
}

# Which package may import which of ours. The one arrow: detector → index.
ARROWS = {
    "index": {"index"},
    "detector": {"detector", "index"},
}

# Third-party libraries, and sqlite3: who may import them. "*" is everyone. Imports for type checkers alone
# (under `if TYPE_CHECKING:`) do not count.
OWNERS: dict[str, set[str]] = {
    "numpy": {"*"},
    # Models
    "torch": {
        "index/torch_tower.py",
        "index/torchscript.py",
        "detector/training/*",
        "detector/guarding/calls.py",
        "detector/audit/pipelines.py",
        "detector/audit/prompts.py",
    },
    "torchvision": set(),
    "open_clip": {"index/neural.py", "index/torch_tower.py", "index/hub.py", "detector/training/*"},
    "timm": {"detector/training/*"},
    "safetensors": {"index/opencv_tower.py", "detector/training/*"},
    "onnx": {"detector/training/graph.py"},
    "huggingface_hub": {"index/hub.py"},
    "diffusers": {"detector/guarding/blocks.py", "detector/audit/pipelines.py"},
    "transformers": {"detector/audit/pipelines.py"},
    "accelerate": set(),
    # Search and pictures
    "faiss": {"index/vectors.py"},
    "cv2": {
        "index/keypoints.py",
        "index/opencv_tower.py",
        "detector/geometry.py",
        "detector/pixels.py",
        "detector/verify.py",
    },
    "pdqhash": {"index/perceptual.py"},
    "imagehash": {"index/perceptual.py"},
    "PIL": {
        "index/containers.py",
        "index/embedded.py",
        "index/flattening.py",
        "index/images.py",
        "index/neural.py",
        "index/opencv_tower.py",
        "index/perceptual.py",
        "index/thumbnails.py",
        "index/torchscript.py",
        "detector/audit/analysis.py",
        "detector/audit/course.py",
        "detector/audit/pipelines.py",
        "detector/detail.py",
        "detector/guarding/pictures.py",
        "detector/metadata.py",
        "detector/probing.py",  # asks Pillow which formats it was built with
        "detector/verify.py",
        "detector/reports/pictures.py",
        "detector/training/edits.py",
        "detector/training/overlays.py",
        "detector/training/pictures.py",
    },
    # Storage and sources
    "sqlite3": {"index/catalog.py", "index/migrations.py", "index/thumbnails.py", "detector/server/scans.py"},
    "rapidfuzz": {"detector/artists/names.py"},
    "filelock": {"index/reference_index.py"},
    "pyarrow": {"index/tables.py"},
    "defusedxml": {"index/embedded.py"},
    # Surfaces
    "typer": {"detector/cli.py", "detector/commands/*"},
    "rich": {"detector/commands/*", "detector/reports/terminal.py"},
    "scipy": {"detector/calibrate.py", "detector/audit/analysis.py", "detector/audit/statistics.py"},
    "matplotlib": {"detector/calibrate.py", "detector/audit/plots.py", "detector/training/report.py"},
    "fastapi": {"detector/server/*"},
    "starlette": {"detector/server/*"},
    "pydantic": {"detector/server/*"},
    "python_multipart": {"detector/server/uploads.py"},
    "prometheus_client": {"detector/server/metrics.py"},
    "uvicorn": {"detector/server/*"},
    "jinja2": {"detector/server/rendering.py"},
    "markupsafe": {"detector/server/rendering.py"},
    # Other back ends
    "pymilvus": {"index/milvus_server.py"},
    "milvus_lite": {"index/milvus_server.py"},
    "ray": {"detector/distributed.py"},
}

# Imported on first use only: inside functions, never when a module of ours is imported.
LAZY = {
    "accelerate",
    "cv2",
    "diffusers",
    "faiss",
    "fastapi",
    "matplotlib",
    "onnx",
    "open_clip",
    "pyarrow",
    "prometheus_client",
    "pydantic",
    "pymilvus",
    "python_multipart",
    "ray",
    "starlette",
    "timm",
    "torch",
    "torchvision",
    "transformers",
    "uvicorn",
}

# These import heavy libraries at once, for they are imported on first use themselves: by `train` and `serve`.
EAGER = {"detector/training/*", "detector/server/*"}

# `import detector` and `detector --help` load none of these either: they cost tenths of a second.
NOT_AT_START = LAZY | {"PIL", "imagehash", "numpy", "pdqhash", "scipy"}

MAY_PRINT_AND_EXIT = {"detector/cli.py"}

BANNED_LIBRARIES = {
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "pickle",
    "shelve",
}  # They run what they read.

BANNED_MODULE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}

# What no user-facing text says. Where a text must quote one of these, ALLOWED_PHRASES has it by module.
BANNED_PHRASES = re.compile(r"\binfring|\b(?:is|are) (?:an? )?(?:original|safe)\b", re.IGNORECASE)
ALLOWED_PHRASES: dict[str, set[str]] = {}

LONG = 400
EXCUSE = re.compile(rf"\b(?:longer than|over) {LONG} lines\b", re.IGNORECASE)


def sources() -> list[Path]:
    return sorted(path for package in ARROWS for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield (dotted name, line, whether inside a function) of each import that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level + (node.module or ""), node.lineno, inside)
        elif isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(ast.Module([other], []), inside=inside)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, inside=inside or function)


def allowed(module: str, places: set[str]) -> bool:
    return bool(places & {"*", module, module.rsplit("/", 1)[0] + "/*"})


@pytest.fixture(params=sources(), ids=name_of)
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_packages_import_along_the_arrow_only(module: Path) -> None:
    may = ARROWS[name_of(module).split("/")[0]]
    for target, line, _ in imports(parsed(module)):
        assert not target.startswith("."), f"{name_of(module)}:{line}: write the import of {target} in full"
        top = target.split(".")[0]
        assert top not in TOP_LEVEL_FOLDERS - may, f"{name_of(module)}:{line} imports {target}"


def test_libraries_are_imported_by_their_owners_only(module: Path) -> None:
    for target, line, _ in imports(parsed(module)):
        top = target.split(".")[0]
        if top in ARROWS or (top in sys.stdlib_module_names and top not in OWNERS):
            continue
        assert top in OWNERS, f"{name_of(module)}:{line}: {top} has no owner in OWNERS"
        owners = OWNERS[top]
        assert allowed(name_of(module), owners), (
            f"{name_of(module)}:{line}: {top} belongs to {sorted(owners)}"
        )


def test_heavy_libraries_are_imported_inside_functions(module: Path) -> None:
    if allowed(name_of(module), EAGER):
        pytest.skip("imported on first use itself")
    for target, line, inside in imports(parsed(module)):
        assert inside or target.split(".")[0] not in LAZY, (
            f"{name_of(module)}:{line} imports {target} at once"
        )


def test_nothing_can_unpickle(module: Path) -> None:
    tree = parsed(module)
    for target, line, _ in imports(tree):
        assert target.split(".")[0] not in BANNED_LIBRARIES, f"{name_of(module)}:{line} imports {target}"
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            unsafe = (node.arg, node.value.value) in {("allow_pickle", True), ("weights_only", False)}
            assert not unsafe, f"{name_of(module)}:{node.value.lineno}: {node.arg}={node.value.value}"


def test_only_the_command_line_prints_and_exits(module: Path) -> None:
    if allowed(name_of(module), MAY_PRINT_AND_EXIT):
        pytest.skip("this is the command line")
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            forbidden = {"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit"}
            assert called not in forbidden, f"{name_of(module)}:{node.lineno} calls {called}"


def test_module_is_in_the_layout_and_named_for_its_job(module: Path) -> None:
    folder, _, stem = name_of(module).removesuffix(".py").rpartition("/")
    assert stem not in BANNED_MODULE_NAMES, f"{name_of(module)}: name it for what it does"
    assert folder in LAYOUT, f"{name_of(module)}: add its folder to LAYOUT, and to CONTRIBUTING.md"
    stems = LAYOUT[folder]
    assert stems is None or stem in stems.split(), (
        f"{name_of(module)}: add it to LAYOUT, and to CONTRIBUTING.md"
    )


def test_module_says_what_it_is_for_and_why_it_is_long(module: Path) -> None:
    docstring = ast.get_docstring(parsed(module))
    assert docstring, f"{name_of(module)} has no docstring"
    lines = len(module.read_text(encoding="utf-8").splitlines())
    if lines > LONG:
        excuse = f"Longer than {LONG} lines because …"
        assert EXCUSE.search(docstring), f"{name_of(module)} has {lines} lines: split it, or say “{excuse}”"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what users may get to read from a file: strings of Python, all of a page."""
    if path.suffix == ".py":
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
    else:
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)


def test_no_text_promises_more_than_no_match_in_this_index() -> None:
    found = [
        f"{name_of(path)}:{line}: {match.group()}"
        for package in ARROWS
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in {".css", ".html", ".js", ".py"}
        for line, text in texts(path)
        for match in BANNED_PHRASES.finditer(text)
        if match.group() not in ALLOWED_PHRASES.get(name_of(path), set())
    ]
    assert not found


def test_top_level_folders_are_the_four() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: ignored folders cannot be told from ours")
    files = [name for name in listing.stdout.decode("utf-8").split("\0") if "/" in name]
    folders = {name.split("/")[0] for name in files}
    assert {name for name in folders if not name.startswith(".")} == TOP_LEVEL_FOLDERS


# The public surface


def lazily_exported() -> set[str]:
    """Names that type checkers see imported in detector/__init__.py."""
    for node in parsed(ROOT / "detector" / "__init__.py").body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            froms = [found for found in node.body if isinstance(found, ast.ImportFrom)]
            return {alias.asname or alias.name for found in froms for alias in found.names}
    return set()


def test_every_public_name_is_in_all_and_can_be_had() -> None:
    import detector

    assert lazily_exported() == set(detector.__all__) - {"__version__"}
    assert detector.__all__ == sorted(detector.__all__)
    for name in detector.__all__:
        assert getattr(detector, name) is not None
        assert name in dir(detector)


def test_every_error_and_every_part_of_a_report_is_public() -> None:
    import detector

    for path in (ROOT / "index" / "errors.py", ROOT / "detector" / "report.py"):
        classes = {node.name for node in parsed(path).body if isinstance(node, ast.ClassDef)}
        assert {name for name in classes if not name.startswith("_")} <= set(detector.__all__), name_of(path)


def test_every_public_name_is_in_the_readme() -> None:
    import detector

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in detector.__all__ if not re.search(rf"\b{name}\b", readme)] == []


def test_unknown_names_are_refused_as_of_any_module() -> None:
    import detector

    with pytest.raises(AttributeError, match="no attribute 'Originality'"):
        detector.Originality  # noqa: B018


# What gets loaded when


def run_python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False
    )


def loaded_by(*arguments: str) -> set[str]:
    """Top-level names of all modules that a run of Python imports, as the interpreter itself reports them."""
    done = run_python("-X", "importtime", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_import_detector_loads_nothing_heavy() -> None:
    loaded = loaded_by("-c", "import detector")
    assert "detector" in loaded
    assert not loaded & NOT_AT_START


def test_help_answers_without_loading_anything_heavy() -> None:
    loaded = loaded_by("-m", "detector", "--help")
    assert "detector" in loaded
    assert not loaded & NOT_AT_START


def test_help_names_the_commands() -> None:
    done = run_python("-m", "detector", "--help")
    assert done.returncode == 0, done.stderr
    for command in ("index", "scan", "check", "report"):
        assert re.search(rf"\b{command}\b", done.stdout), command


def test_no_module_loads_a_heavy_library_by_being_imported() -> None:
    # Server and Ray modules are only imported where their extras are installed.
    own = [p for p in sources() if not name_of(p).startswith("detector/server/")]
    modules = [dotted(p) for p in own if not allowed(name_of(p), EAGER)] + ["detector.training"]
    statements = "; ".join(f"import {name}" for name in modules if not name.endswith("__main__"))
    assert not loaded_by("-c", statements) & LAZY


@pytest.mark.parametrize("shadow", ["index.py", "index/__init__.py"])
def test_a_users_own_index_is_named_and_not_run(tmp_path: Path, shadow: str) -> None:
    path = tmp_path / shadow
    path.parent.mkdir(exist_ok=True)
    path.write_text("print('it ran')\n", encoding="utf-8")
    script = f"import sys; sys.path[:1] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import detector"
    done = run_python("-c", script, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert str(path) in last
    assert "rename" in last
    assert "it ran" not in done.stdout


# Packaging


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for extra in project["optional-dependencies"].values() for text in extra]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name == project["name"]:
            continue
        assert name in versions, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(versions[name], prereleases=True), (
            f"{requirement} is not {name}'s pin"
        )


def test_constraints_are_exact_versions_and_name_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r'[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]* ; python_version >= "3\.11"', line), (
                line
            )


def test_make_targets_that_the_readme_relies_on_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("bench", "clean", "demo", "help", "lint", "test"):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
