"""Does a diffusion model give its training images back?  From captions, through img2img, beside controls.

from detector.audit import AuditOptions, audit

options = AuditOptions(seeds=8, device="cpu")
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from detector.audit.options import AuditOptions, Part

if TYPE_CHECKING:
    from detector.audit.report import AuditReport
    from detector.detector import Detector

__all__ = ["AuditOptions", "AuditReport", "Part", "audit"]

AuditProgress = Callable[[str, int, int], None]


def audit(
    pipeline: Any,
    index: str | Path | Detector | None,
    *,
    out: str | Path = "audit",
    works: str | Path | None = None,
    controls: str | Path | None = None,
    options: AuditOptions | None = None,
    command: Sequence[str] = (),
    on_progress: AuditProgress | None = None,
) -> AuditReport:
    """Audit a model, or go on with an audit that was cut short in the same folder.

    Args:
        pipeline: A folder that diffusers can load, a hub id, or a pipeline object, which is left as it was.
        index: Index of the training images, or a detector with it; None leaves out what is searched.
        out: Folder for the report, the generations and the log.
        works: List of works with captions; None: every reference of the index that has a caption. A column
            `repeats` says how often each was trained on; 0: held out, a control.
        controls: Folder or list of works that the model never saw, besides those.
        options: How; the defaults suit a laptop.
        command: Command line that asked for it, for the report.
        on_progress: Called with what is being done, how many pictures and measurements are done, of how many.

    Returns:
        What was found; also in ``audit.json``, ``audit.html``, ``findings.jsonl`` and ``plots/`` in `out`.

    Raises:
        UsageError: Nothing to audit with, or `out` holds another audit.
        WeightsError: The pipeline or the adapter cannot be loaded.
        SourceError: A list cannot be used.
        IndexFolderError: The index cannot be used.
    """
    from detector.audit.conduct import audit_in

    return audit_in(
        pipeline,
        index,
        out=Path(out),
        works=works,
        controls=controls,
        options=options or AuditOptions(),
        command=command,
        on_progress=on_progress,
    )


def __getattr__(name: str) -> Any:
    """Import the report's class on first use: its statistics need scipy."""
    if name == "AuditReport":
        from detector.audit.report import AuditReport

        return AuditReport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(ModuleType):
    """Importing this package binds `detector.audit` to it, where `from detector import audit` means the function."""

    def __call__(self, pipeline: Any, index: Any, **options: Any) -> AuditReport:
        """Do what `audit` does."""
        return audit(pipeline, index, **options)


sys.modules[__name__].__class__ = _Callable
