"""Says of generated images whether they replicate a training image, which one, where, and how sure that is.

    from detector import Detector, build_index

    build_index("samples/artworks", "art.index")
    with Detector.open("art.index") as detector:
        report = detector.check("generated/001.png")

Importing this package loads nothing heavy: each name below is imported from its module on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Action",
    "AuditOptions",
    "AuditReport",
    "BuildReport",
    "Contradiction",
    "DescriptorError",
    "Detector",
    "DetectorError",
    "Diagnosis",
    "DuplicateCluster",
    "DuplicateMember",
    "DuplicateReport",
    "Evidence",
    "FoundWork",
    "Generation",
    "GuardReport",
    "GuardedPipeline",
    "ImageReport",
    "ImportReport",
    "IndexConnectionError",
    "IndexCorruptError",
    "IndexFolderError",
    "IndexLockedError",
    "IndexMissingError",
    "IndexVersionError",
    "IndexWriteError",
    "Keep",
    "LookupReport",
    "Match",
    "Occurrence",
    "OnMatch",
    "Reference",
    "ReferenceIndex",
    "Relation",
    "RemovalRequest",
    "Replica",
    "ReplicationError",
    "ReplicationSafetyChecker",
    "ScanReport",
    "ScanSummary",
    "SourceError",
    "Tie",
    "TrainOptions",
    "TrainReport",
    "Try",
    "UnreadableImageError",
    "UsageError",
    "Verdict",
    "WeightsError",
    "__version__",
    "audit",
    "build_index",
    "diagnose",
    "file_request",
    "find_duplicates",
    "guard",
    "import_embeddings",
    "lookup",
    "read_drop_list",
    "read_generation",
    "read_report_in",
    "replication_block",
    "train",
]


def _require_own_index() -> None:
    """Raise where `import index` gives something else than the package beside this one.

    A user's own index.py is found, not run: it may be the very script that is importing us.
    """
    loaded = sys.modules.get("index")
    if loaded is not None:
        if getattr(loaded, "__distribution__", None) == "replication-detector":
            return
        found = getattr(loaded, "__file__", None)
    else:
        spec = importlib.util.find_spec("index")
        found = spec.origin if spec else None
        ours = Path(__file__).resolve().parent.parent / "index" / "__init__.py"
        if found and Path(found).resolve() == ours:
            return
    raise ImportError(
        f"`import index` finds {found or 'no package of this name'} instead of the package `index` that "
        "comes with replication-detector: rename that file or folder, or start Python from another folder.",
        name="index",
        path=found,
    )


_require_own_index()

if TYPE_CHECKING:
    from detector.artists import lookup
    from detector.artists.report import Contradiction, FoundWork, LookupReport, Replica
    from detector.audit import AuditOptions, AuditReport, audit
    from detector.detector import Detector, build_index
    from detector.diagnosis import Diagnosis, diagnose
    from detector.duplicates import (
        DuplicateCluster,
        DuplicateMember,
        DuplicateReport,
        Keep,
        Relation,
        Tie,
        find_duplicates,
        read_drop_list,
    )
    from detector.generation import Generation
    from detector.guarding.blocks import replication_block
    from detector.guarding.checker import ReplicationSafetyChecker
    from detector.guarding.checks import OnMatch
    from detector.guarding.pipeline import GuardedPipeline, guard
    from detector.guarding.report import Action, GuardReport, Try
    from detector.metadata import read_generation, read_report_in
    from detector.report import (
        Evidence,
        ImageReport,
        Match,
        Occurrence,
        Reference,
        ScanSummary,
        Verdict,
    )
    from detector.scan import ScanReport
    from detector.training import TrainOptions, TrainReport, train
    from index.build import BuildReport
    from index.errors import (
        DescriptorError,
        DetectorError,
        IndexConnectionError,
        IndexCorruptError,
        IndexFolderError,
        IndexLockedError,
        IndexMissingError,
        IndexVersionError,
        IndexWriteError,
        ReplicationError,
        SourceError,
        UnreadableImageError,
        UsageError,
        WeightsError,
    )
    from index.importing import ImportReport, import_embeddings
    from index.reference_index import ReferenceIndex
    from index.requests import RemovalRequest, file_request
else:
    _HOMES = {
        "detector.artists": ("lookup",),
        "detector.artists.report": ("Contradiction", "FoundWork", "LookupReport", "Replica"),
        "detector.audit": ("AuditOptions", "AuditReport", "audit"),
        "detector.detector": ("Detector", "build_index"),
        "detector.diagnosis": ("Diagnosis", "diagnose"),
        "detector.duplicates": (
            "DuplicateCluster",
            "DuplicateMember",
            "DuplicateReport",
            "Keep",
            "Relation",
            "Tie",
            "find_duplicates",
            "read_drop_list",
        ),
        "detector.guarding.blocks": ("replication_block",),
        "detector.guarding.checker": ("ReplicationSafetyChecker",),
        "detector.guarding.checks": ("OnMatch",),
        "detector.guarding.pipeline": ("GuardedPipeline", "guard"),
        "detector.guarding.report": ("Action", "GuardReport", "Try"),
        "detector.metadata": ("read_generation", "read_report_in"),
        "detector.generation": ("Generation",),
        "detector.report": (
            "Evidence",
            "ImageReport",
            "Match",
            "Occurrence",
            "Reference",
            "ScanSummary",
            "Verdict",
        ),
        "detector.scan": ("ScanReport",),
        "detector.training": ("TrainOptions", "TrainReport", "train"),
        "index.build": ("BuildReport",),
        "index.errors": tuple(name for name in __all__ if name.endswith("Error")),
        "index.importing": ("ImportReport", "import_embeddings"),
        "index.reference_index": ("ReferenceIndex",),
        "index.requests": ("RemovalRequest", "file_request"),
    }

    def __getattr__(name: str) -> Any:
        """Import a public name from its module on first use."""
        for module, names in _HOMES.items():
            if name in names:
                globals()[name] = value = getattr(importlib.import_module(module), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
