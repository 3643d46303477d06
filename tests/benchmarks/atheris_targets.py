"""Parsers under a fuzzer that is led by coverage: `python -m tests.benchmarks.atheris_targets metadata -runs=100000`.

Needs Atheris, which is no part of any extra: `pip install atheris`; it has wheels for CPython on Linux. Everything
after the name of the target goes to libFuzzer: `-max_total_time=60`, a folder of inputs to begin with.
"""

from __future__ import annotations

import importlib
import io
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from index.errors import DetectorError


def metadata(data: bytes) -> None:
    """EXIF, XMP, IPTC, C2PA, PNG text, and what generators write there."""
    from detector.metadata import read_generation, read_report_in
    from index.embedded import read_credits

    read_credits(data)
    read_generation(data)
    read_report_in(data)


def graph(data: bytes) -> None:
    """What ComfyUI and AUTOMATIC1111 write."""
    from detector.provenance.comfyui import read_graph
    from detector.provenance.infotext import read_infotext

    text = data.decode("utf-8", "replace")
    read_infotext(text)
    read_graph(text)


def picture(data: bytes) -> None:
    """Encoded pictures."""
    from index.images import read_image

    if data:
        read_image(data, max_pixels=1_000_000)


def table(data: bytes) -> None:
    """CSV and JSON lines."""
    from index.sources import open_source

    for name in ("list.csv", "list.jsonl"):
        _in_file(name, data, lambda path: list(open_source(path)))


def shard(data: bytes) -> None:
    """Tars; where the bytes are none, they are a member's."""
    from index.sources import open_source

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("a.json")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    for made in (data, buffer.getvalue()):
        _in_file("0.tar", made, lambda path: list(open_source(path)))


def findings(data: bytes) -> None:
    """Saved findings."""
    from detector.reports.jsonl import findings_line, read_findings

    _in_file("found.jsonl", data, lambda path: [findings_line(each) for each in read_findings(path)])


def embeddings(data: bytes) -> None:
    """The head of a `.npy` file."""
    from index.embeddings import open_embeddings

    _in_file("rows.npy", data, open_embeddings)


def _in_file(name: str, data: bytes, use: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        with suppress(DetectorError):
            use(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (metadata, graph, picture, table, shard, findings, embeddings)
}


def main() -> int:
    """Fuzz one target until an input makes it raise, or as long as libFuzzer is told."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        print(f"name a target: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("Atheris is not installed. Run: pip install atheris", file=sys.stderr)
        return 2
    target = TARGETS[sys.argv.pop(1)]
    with atheris.instrument_imports(include=["detector", "index"]):
        target(b"{}")  # loads the modules that it needs

    def once(data: bytes) -> None:
        with suppress(DetectorError):
            target(data)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
