"""Saved findings of scans and audits, read for what replicates a reference; a line that is garbled is reported."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from detector.artists.report import MIN_LEVEL, Replica
from detector.report import FORMAT_VERSION, ImageReport, Reference
from detector.reports.jsonl import MAX_LINE_BYTES
from index.errors import SourceError, UsageError

FINDINGS, AUDIT_LOG = "findings.jsonl", "audit.jsonl"
"""What an audit's folder holds: its findings once it is finished, its log from the start."""


class Findings:
    """Generated pictures that replicate or strongly resemble references, by the references' digests.

    Attributes:
        files: The files that were read.
        generated: How many lines they have, each of one generated picture.
        skipped: Lines that could not be read: ``(file, line, reason)``.
    """

    def __init__(self) -> None:
        """Hold nothing yet; use `read`."""
        self.files: tuple[str, ...] = ()
        self.generated = 0
        self.skipped: tuple[tuple[str, int, str], ...] = ()
        self._replicas: dict[str, tuple[Replica, ...]] = {}

    @classmethod
    def read(cls, paths: Sequence[str | Path]) -> Findings:
        """Read saved findings.

        Args:
            paths: JSON lines of ``detector scan --jsonl``; folders of ``detector audit``, or folders that hold
                such files. Naming a file twice makes no difference.

        Returns:
            What was found in them, at level 2 or higher.

        Raises:
            UsageError: A path does not exist, or a folder holds no findings.
            SourceError: A file cannot be read, or no line of it is a finding.
        """
        found = cls()
        replicas: defaultdict[str, list[Replica]] = defaultdict(list)
        skipped: list[tuple[str, int, str]] = []
        references: dict[tuple[str, int], Reference] = {}
        files = list(dict.fromkeys(file for path in paths for file in _files(Path(path))))
        for file in files:
            found.generated += _take(file, replicas, skipped, references)
        found.files = tuple(file.as_posix() for file in files)
        found.skipped = tuple(skipped)
        found._replicas = {
            digest: _once(sorted(each, key=lambda r: (-r.level, -r.score, r.query, r.findings)))
            for digest, each in replicas.items()
        }
        return found

    def of(self, sha256: str) -> tuple[Replica, ...]:
        """Return the generated pictures that replicate a reference, the closest first.

        Args:
            sha256: The reference's digest: ids differ from index to index.
        """
        return self._replicas.get(sha256, ())

    def __len__(self) -> int:
        """Return how many references are replicated or strongly resembled."""
        return len(self._replicas)


def _once(replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Return each generated picture once, its closest finding first: two scans may have looked at it."""
    kept: dict[tuple[str, str], Replica] = {}
    for replica in replicas:
        kept.setdefault((replica.query, replica.sha256), replica)
    return tuple(kept.values())


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of findings that a path names."""
    if not path.exists():
        raise UsageError(f"{path}: does not exist. Name findings: detector scan … --jsonl findings.jsonl")
    if not path.is_dir():
        yield path
        return
    if (path / FINDINGS).is_file():
        yield path / FINDINGS
        return
    if (path / AUDIT_LOG).is_file():
        raise UsageError(
            f"{path}: holds an audit that is not finished. Run the same detector audit command again, which goes on "
            "from there"
        )
    files = sorted(file for file in path.glob("*.jsonl") if file.is_file())
    if not files:
        raise UsageError(
            f"{path}: holds no findings (*.jsonl). Make some: detector scan … --jsonl findings.jsonl"
        )
    yield from files


def _take(
    file: Path,
    replicas: defaultdict[str, list[Replica]],
    skipped: list[tuple[str, int, str]],
    references: dict[tuple[str, int], Reference],
) -> int:
    """Read one file; return of how many generated pictures it tells.

    Args:
        file: JSON lines.
        replicas: By digest; what is found is added.
        skipped: Lines that cannot be read are added.
        references: Those seen before, so that a work found a thousand times is held once.
    """
    name, read, garbled = file.as_posix(), 0, []
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if len(raw) > MAX_LINE_BYTES:
                    raise SourceError(file, f"line {number} is too long for a finding. Name findings")
                if not raw.strip():
                    continue
                try:
                    report = _finding(raw, first=number == 1)
                except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
                    garbled.append((name, number, _reason(raw, error)))
                    continue
                read += 1
                if report is not None:
                    _keep(report, name, replicas, references)
    except OSError as error:
        raise SourceError(
            file, f"cannot be read ({error.strerror}). Make findings: detector scan … --jsonl FILE"
        ) from error
    if garbled and not read:
        newer = garbled[0][2].startswith("has format_version")
        step = "Run: pip install -U replication-detector" if newer else "Name a file of detector scan --jsonl"
        raise SourceError(file, f"holds no findings: line {garbled[0][1]} {garbled[0][2]}. {step}")
    skipped += garbled
    return read


def _finding(raw: bytes, *, first: bool) -> ImageReport | None:
    """Read a line; None where it is a finding without a match of level 2 or higher, and not worth keeping."""
    values = json.loads(raw.decode("utf-8-sig" if first else "utf-8"))
    if not isinstance(values, dict) or "query" not in values or "verdict" not in values:
        raise ValueError("is no finding")
    if values.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"has format_version {values.get('format_version')!r}; this version reads {FORMAT_VERSION}"
        )
    matches = values.get("matches") or []
    values["matches"] = [match for match in matches if int(match["level"]) >= MIN_LEVEL]
    report = ImageReport.from_dict(values)
    return report if report.matches else None


def _reason(raw: bytes, error: Exception) -> str:
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError)):
        return "is not JSON" if raw.endswith(b"\n") else "is cut off (an interrupted scan)"
    said = " ".join(str(error).split())[:120]
    return said if said.startswith(("is ", "has ")) else f"is no finding ({said})"


def _keep(
    report: ImageReport,
    file: str,
    replicas: defaultdict[str, list[Replica]],
    references: dict[tuple[str, int], Reference],
) -> None:
    for match in report.matches:
        reference = match.reference
        known = references.setdefault((reference.sha256, reference.id), reference)
        kept = replace(match, reference=known) if known == reference else match
        replicas[reference.sha256].append(
            Replica(
                report.query, match.level, match.score, kept, file, report.generation, sha256=report.sha256
            )
        )
