"""The documents are true: their code and commands run, their output is real, their links lead somewhere.

`python -m tests.test_docs` writes today's output under the commands in README.md that show theirs.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from detector import ImageReport
from detector.cli import app
from tests.benchmarks.first_hour import every_command

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "samples/README.md"),
    *("index/weights/keypoints/README.md", "samples/comfyui/README.md"),
)
PLACEHOLDERS = ["COMMAND"], ["--help"], ["--version"], ["--install-completion"], ["--show-completion"]
"""What may follow `detector` where a command is expected."""

COLUMNS = "96"
"""Width of the terminal in the README."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"\s+# exits with (\d+)\b.*$")
LINK = re.compile(r"\]\((?!https?://)([^)\s#]*)(#[^)\s]+)?\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")

ARTWORKS = ("stained-glass-3.webp", "poster-2.jpg", "city-3.jpg", "landscape-2.jpg", "woodcut-3.jpg")
GENERATED = ("0001.png", "0002.png", "0003.png", "0004.png", "0005.png")
EDITED = ("0024.png", "0027.webp")
"""A few of the samples, for what does not show its output."""


@dataclass(frozen=True)
class Command:
    """A command line in a document, and what is shown below it."""

    line: str
    shown: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        return shlex.split(EXIT_CODE.sub("", self.line))

    @property
    def exit_code(self) -> int:
        found = EXIT_CODE.search(self.line)
        return int(found.group(1)) if found else 0


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of some languages."""
    return [body for language, body in FENCE.findall(text) if language in languages]


def commands(block: str) -> list[Command]:
    """Return the commands of a `console` block."""
    found: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        else:
            found[-1] = Command(found[-1].line, (*found[-1].shown, line))
    return found


def run(words: list[str]) -> tuple[int, str]:
    """Run a command line, and return its exit code and what it wrote to stdout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        result = CliRunner(env={"COLUMNS": COLUMNS}).invoke(app, words[1:])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def masked(line: str) -> str:
    """Return a line without figures that differ from run to run or from machine to machine."""
    if "generated pictures" in line or "training images" in line:
        return line.strip()
    return re.sub(r"\d[\d,.]*", "#", line).strip()


def lay_out(folder: Path, *, artworks: tuple[str, ...] = (), generated: tuple[str, ...] = ()) -> None:
    """Copy the samples, or those named, to where the documents have them, and write labelled pairs."""
    (folder / "pairs.jsonl").write_text(labelled_pairs(), encoding="utf-8")
    for name, wanted in (("artworks", artworks), ("generated", generated), ("edited", EDITED)):
        target = folder / "samples" / name
        target.mkdir(parents=True)
        for path in (ROOT / "samples" / name).iterdir():
            if not wanted or path.name in wanted or path.suffix == ".csv":
                shutil.copy2(path, target)


def keep_a_few(folder: Path) -> None:
    """Leave a few generated pictures, so that what follows is quick."""
    for path in (folder / "samples" / "generated").iterdir():
        if path.name not in GENERATED and path.suffix != ".csv":
            path.unlink()


def click_command() -> Any:
    return typer.main.get_command(app)


def flags_of(command: Any) -> set[str]:
    spelled = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    return spelled | {"--help", "-h"}


def named_command(words: list[str]) -> tuple[str, Any]:
    """Return the longest command that a line begins with; the first word is ``detector``."""
    name, command = words[0], click_command()
    for word in words[1:]:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        name, command = f"{name} {word}", inner
    return name, command


# Commands


def test_readme_commands_run_in_order_and_show_real_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    problems = []
    for number, block in enumerate(blocks(README.read_text(encoding="utf-8"), "console")):
        if number == 1:
            keep_a_few(tmp_path)
        for command in commands(block):
            code, output = run(command.words)
            if code != command.exit_code:
                problems.append(f"{command.line}: exits with {code}\n{output}")
            real = {masked(line) for line in output.splitlines()}
            for line in command.shown:
                if line.strip() and "… and" not in line and masked(line) not in real:
                    problems.append(f"{command.line}: does not say {line!r}. Run: python -m tests.test_docs")
    assert not problems, "\n".join(problems)
    for written in ("report.html", "again.html", "findings.jsonl", "findings.csv", "drop.txt"):
        assert (tmp_path / written).is_file(), written


def test_every_command_line_names_a_command_and_options_that_exist() -> None:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = [
            line.removeprefix("$ ") for block in blocks(text, "console", "sh") for line in block.splitlines()
        ]
        prose = FENCE.sub("", text)
        inline = re.findall(r"`(detector [^`]+)`", prose)
        for line in [line for line in lines if line.startswith("detector ")] + inline:
            words = shlex.split(EXIT_CODE.sub("", line))
            found, command = named_command(words)
            inside = found.split()
            placeholder = words[len(inside) :][:1] in PLACEHOLDERS
            assert placeholder or not getattr(command, "commands", None) or len(words) == len(inside), (
                f"{name}: {line}: no such command"
            )
            unknown = {flag for flag in FLAG.findall(line) if flag not in flags_of(command)}
            assert not unknown, f"{name}: {line}: {found} has no {', '.join(sorted(unknown))}"


def test_every_option_named_in_the_readme_is_one_of_some_command() -> None:
    known = set().union(*(flags_of(command) for _, command in every_command()))
    prose = FENCE.sub("", README.read_text(encoding="utf-8"))
    named = {flag for code in re.findall(r"`([^`]+)`", prose) for flag in FLAG.findall(code)}
    assert named <= known


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    missing = [name for name, _ in every_command() if f"`{name}" not in text]
    assert not missing


def test_every_command_and_option_has_a_help_text() -> None:
    for name, command in every_command():
        assert (command.help or "").strip(), name
        for param in command.params:
            assert getattr(param, "help", None), f"{name} {param.name}"


def test_examples_in_help_texts_name_options_that_exist() -> None:
    for name, command in every_command():
        for example in re.findall(r"\[cyan\](detector .*?)\[/cyan\]", command.help or ""):
            found, called = named_command(shlex.split(example))
            unknown = {flag for flag in FLAG.findall(example) if flag not in flags_of(called)}
            assert not unknown, f"{name}: {example}: {found} has no {', '.join(sorted(unknown))}"


# Code


def docstring_code() -> Iterator[tuple[str, str]]:
    """Yield (module, code) of each indented example in a docstring."""
    for path in sorted([*(ROOT / "detector").rglob("*.py"), *(ROOT / "index").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                for part in re.findall(r"(?:^ {4}.*\n?|^\n)+", text, re.MULTILINE):
                    if re.search(r"^ +(?:from|import) (?:detector|index)\b", part, re.MULTILINE):
                        yield path.relative_to(ROOT).as_posix(), textwrap.dedent(part).strip("\n")


def labelled_pairs() -> str:
    """Return labelled pairs, as a person would write them from findings."""
    rows = []
    for number in range(60):
        copy = number % 2 == 0
        evidence = {
            "pdq_distance": (10 if copy else 110) + number % 7,
            "matches": 60,
            "inliers": (30 if copy else 4) + number % 5,
            "guided": 40 if copy else 2,
            "coverage": 0.9 if copy else 0.1,
            "reference_coverage": 0.9 if copy else 0.1,
            "aligned_similarity": (0.85 if copy else 0.1) + number % 3 / 100,
            "tiled_l2": 0.05 if copy else 0.5,
            "agreement": 0.9 if copy else 0.1,
            "verification": "keypoints" if copy else "none",
        }
        rows.append(json.dumps({"query": f"{number}.png", "evidence": evidence, "label": int(copy)}))
    return "\n".join(rows) + "\n"


def test_python_in_readme_and_docstrings_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, artworks=ARTWORKS, generated=GENERATED)
    (tmp_path / "generated").mkdir()
    shutil.copy(tmp_path / "samples" / "edited" / "0024.png", tmp_path / "generated" / "001.png")
    monkeypatch.chdir(tmp_path)
    readme = [("README.md", code) for code in blocks(README.read_text(encoding="utf-8"), "python")]
    docstrings = list(docstring_code())
    assert len(readme) >= 4
    assert docstrings
    for place, code in readme + docstrings:
        exec(compile(code, place, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "The Striped Fish" in printed
    assert "missing.index" in printed


def test_json_in_the_readme_is_a_finding() -> None:
    (block,) = blocks(README.read_text(encoding="utf-8"), "json")
    values = json.loads(block)
    assert ImageReport.from_dict(values).to_dict() == values


def test_toml_in_the_readme_is_a_policy(tmp_path: Path) -> None:
    from detector.rights import Policy

    (block,) = blocks(README.read_text(encoding="utf-8"), "toml")
    path = tmp_path / "policy.toml"
    path.write_text(block, encoding="utf-8")
    assert "artist:Atelier Clair".casefold() in {word.casefold() for word in Policy.from_file(path).allow}


def test_arrows_of_the_readme_are_imports() -> None:
    (block,) = blocks(README.read_text(encoding="utf-8"), "mermaid")
    paths = dict(re.findall(r"(\w+)\[([\w/.]+)\]", block))
    for here, there in re.findall(r"^\s*(\w+)(?:\[.*?\])? --> (\w+)", block, re.MULTILINE):
        target = paths[there].removesuffix(".py").replace("/", ".")
        imported: set[str] = set()
        files = ROOT / paths[here]
        for path in [files] if files.is_file() else files.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        assert any(name == target or name.startswith(f"{target}.") for name in imported), (
            f"{here} --> {there}"
        )


# Words and links


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    for target, anchor in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        path = document.parent / target if target else document
        assert path.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {"#" + re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert anchor in slugs, f"{name}: {target}{anchor}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_promise_no_more_than_no_match_in_this_index(name: str) -> None:
    from tests.test_architecture import BANNED_PHRASES

    assert not BANNED_PHRASES.findall((ROOT / name).read_text(encoding="utf-8"))


def test_contributing_names_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = (body for _, body in FENCE.findall(text) if body.startswith("detector/  "))
    modules = [path for package in ("detector", "index") for path in (ROOT / package).rglob("*.py")]
    missing = [
        path.relative_to(ROOT).as_posix()
        for path in modules
        if path.stem != "__init__" and not re.search(rf"(?<![\w/]){re.escape(path.name)}", tree)
    ]
    assert not missing


def test_pictures_in_the_readme_are_small() -> None:
    pictures = list((ROOT / "samples" / "pictures").glob("*.png"))
    assert pictures
    assert all(path.stat().st_size <= 300_000 for path in pictures)


def refresh() -> None:
    """Write today's output under the commands in the README that show theirs."""
    import os
    import tempfile

    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        lay_out(folder)
        os.chdir(folder)
        for number, block in enumerate(blocks(text, "console")):
            if number == 1:
                keep_a_few(folder)
            lines = []
            for command in commands(block):
                _, output = run(command.words)
                lines.append(f"$ {command.line}")
                if command.shown:
                    lines += [line.rstrip() for line in output.strip("\n").splitlines()]
            text = text.replace(f"```console\n{block}```", "```console\n" + "\n".join(lines) + "\n```")
        os.chdir(ROOT)
    README.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    refresh()
