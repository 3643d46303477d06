"""Rules that hold for all of the code and the documents, as tests check them: how many checks, how many broken."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.benchmarks.results import Options, Result, Table, progress

ROOT = Path(__file__).resolve().parents[2]

RULES: dict[str, tuple[str, ...]] = {
    "architecture: who imports what, owners of libraries, sizes of modules, names, docstrings, nothing unpickled": (
        "tests/test_architecture.py",
    ),
    "no connection is opened by building, checking, scanning and reporting": ("tests/test_offline.py",),
    "programs in weights files run only where they are named as trusted": (
        "tests/test_neural.py",
        "-k",
        "torchscript",
    ),
    "documents: commands and code run, pasted output is today's, links lead somewhere": (
        "tests/test_docs.py",
    ),
}
"""What a rule is, and what pytest is asked for."""


def run(options: Options) -> Result:
    """Measure."""
    result = Result("rules")
    rows, checked, broken = [], 0, 0
    for name, words in RULES.items():
        progress(f"rules: {name.split(':')[0]}")
        counts, failed = _counted(words, options.scratch("rules") / "junit.xml")
        checked += counts["tests"] - counts["skipped"]
        broken += counts["failures"] + counts["errors"]
        bad = ", ".join(failed) or "none"
        rows.append((name, counts["tests"] - counts["skipped"], counts["skipped"], bad))
    note = (
        "Skipped: a rule that does not concern the module, or needs a package that is not there. Decoders, parsers and "
        "index files are under “Broken and hostile files”; SECURITY.md says what is trusted and why."
    )
    result.tables.append(Table("Rules", ("rule", "checks", "skipped", "broken"), rows, note))
    result.bar("rules checked", checked, least=1000)
    result.bar("rules broken", broken, most=0)
    return result


def _counted(words: tuple[str, ...], report: Path) -> tuple[dict[str, int], list[str]]:
    """Run tests; return pytest's counts and the names of those that failed.

    Raises:
        RuntimeError: pytest gave no report.
    """
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report.resolve()}",
        *words,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not report.is_file():
        raise RuntimeError(done.stdout + done.stderr)
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    bad = [
        case
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return counts, [str(case.get("name")) for case in bad]
