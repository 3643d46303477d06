"""An audit from beginning to end: open, choose, measure, evaluate, write."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.audit.analysis import figures_of
from detector.audit.course import GENERATIONS, Course, generation_of
from detector.audit.log import LOG, Item, Log
from detector.audit.options import AuditOptions, Part
from detector.audit.pipelines import open_model, versions
from detector.audit.plots import plots_of
from detector.audit.report import AuditReport
from detector.audit.works import Work, choose_works, digest_of
from detector.report import ImageReport
from detector.reports.atomic import replacing, write_error
from detector.reports.jsonl import findings_line
from index.errors import UsageError
from index.reference_index import file_digest
from index.searching import Searchable

if TYPE_CHECKING:
    from detector.detector import Detector

REPORT, PAGE, FINDINGS, PLOTS = "audit.json", "audit.html", "findings.jsonl", "plots"

COLUMNS = ("file_name", "prompt", "seed", "strength", "source", "steps", "guidance", "sampler", "model")


def audit_in(
    pipeline: Any,
    index: str | Path | Detector | None,
    *,
    out: Path,
    works: str | Path | None,
    controls: str | Path | None,
    options: AuditOptions,
    command: Sequence[str],
    on_progress: Callable[[str, int, int], None] | None,
) -> AuditReport:
    """Audit a model; see `detector.audit.audit`."""
    _refuse_foreign(out)
    with ExitStack() as stack:
        detector = _opened(index, options, stack)
        opened = detector.index if detector is not None else None
        chosen = choose_works(opened, works=works, controls=controls, limit=options.limit, seed=options.seed)
        model = open_model(pipeline, device=options.device, dtype=options.dtype, size=options.size)
        if options.lora:
            model.require_adapters(options.lora)
        facts = model.facts | ({"adapter": _adapter_facts(options.lora)} if options.lora else {})
        described = _index_facts(opened)
        identity = {
            "model": model.digest if not options.lora else {"sha256": model.digest, **facts["adapter"]},
            "index": described and described["sha256"],
            "list of works": digest_of(chosen),
            "options": options.identity(),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(Log(out, identity))
            (out / GENERATIONS).mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(out, error) from error
        course = Course(
            model,
            chosen,
            options,
            detector=detector,
            folder=out,
            log=log,
            on_measured=on_progress or (lambda doing, done, total: None),
        )
        course.run()
        carlini = Part.CARLINI in options.only and Part.CARLINI.value not in course.skipped
        figures = {
            variant: figures_of(_of(log.items, variant), chosen, options, folder=out, groups=carlini)
            for variant in course.variants
        }
        report = AuditReport(
            out,
            model.name,
            facts,
            described,
            options,
            tuple(chosen),
            figures,
            guidance=course.guidance,
            img2img_prompts=course.img2img_prompts,
            skipped=dict(course.skipped),
            left_out=dict(course.left_out),
            run={"command": list(command), "device": model.device, "versions": versions()},
        )
        _write(report, course, log.items)
    return report


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds something else than an audit, before any work is done.

    Raises:
        UsageError: It does, or it is a file.
    """
    if out.is_file():
        raise UsageError(f"--out {out}: is a file. Name a folder")
    try:
        others = [entry.name for entry in out.iterdir()] if out.exists() else []
    except OSError as error:
        raise write_error(out, error) from error
    if others and LOG not in others:
        raise UsageError(f"--out {out}: holds something else already ({others[0]}). Name a new folder")


def _opened(index: str | Path | Detector | None, options: AuditOptions, stack: ExitStack) -> Detector | None:
    from detector.detector import Detector

    if index is None or isinstance(index, Detector):
        return index
    return stack.enter_context(Detector.open(index, device=options.device))


def _index_facts(index: Searchable | None) -> dict[str, Any] | None:
    """Return what tells one state of an index from another."""
    if index is None:
        return None
    info = index.info()
    what = [info.generation, info.references, info.occurrences, [spec.to_dict() for spec in info.descriptors]]
    digest = hashlib.sha256(json.dumps(what).encode())
    for path, number in index.find_occurrences():
        digest.update(f"{number} {path}\n".encode("utf-8", "replace"))
    return {
        "path": info.path,
        "references": info.references,
        "occurrences": info.occurrences,
        "descriptors": [spec.name for spec in info.descriptors],
        "sha256": digest.hexdigest(),
    }


def _adapter_facts(path: str) -> dict[str, Any]:
    place = Path(path)
    files = sorted(place.rglob("*.safetensors")) if place.is_dir() else [place] if place.is_file() else []
    return {"adapter": path, "files": {file.name: file_digest(file) for file in files}}


def _of(items: Mapping[str, Item], variant: str) -> dict[str, Item]:
    return {name.split("/", 1)[1]: item for name, item in items.items() if name.split("/")[0] == variant}


def _write(report: AuditReport, course: Course, items: Mapping[str, Item]) -> None:
    """Write every file of the report, the page last."""
    from detector.reports.audit_page import write_html

    folder = report.folder
    works = {work.name: work for work in report.works}
    pictures = {name: item for name, item in sorted(items.items()) if "file" in item}
    with replacing(folder / GENERATIONS / "metadata.csv") as file:
        file.write(_metadata(course, pictures, works))
    with replacing(folder / FINDINGS) as file:
        for item in pictures.values():
            if "report" in item:
                found = ImageReport.from_dict(item["report"])
                made = generation_of(course, item, works[item["work"]])
                file.write(findings_line(replace(found, generation=made)))
    with replacing(folder / REPORT) as file:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")
    plots = {variant: plots_of(figures) for variant, figures in report.variants.items()}
    for variant, drawn in plots.items():
        (folder / PLOTS).mkdir(exist_ok=True)
        for name, svg in drawn.items():
            with replacing(folder / PLOTS / f"{variant}-{name}.svg") as file:
                file.write(svg)
    index = course.detector.index if course.detector is not None else None
    write_html(report, folder / PAGE, items=items, plots=plots, index=index)


def _metadata(course: Course, pictures: Mapping[str, Item], works: Mapping[str, Work]) -> bytes:
    """Return how every picture was made, as a table that image folders carry."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    for item in pictures.values():
        values = generation_of(course, item, works[item["work"]]).to_dict()
        name = Path(item["file"]).name
        writer.writerow({"file_name": name} | {key: values[key] for key in COLUMNS[1:]})
    return text.getvalue().encode("utf-8", "replace")
