"""The node “Replication check”: do these pictures replicate a training image in an index?

It imports nothing of ComfyUI, so it can be tested without; and nothing of the detector before it runs, so
ComfyUI starts as fast as before.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from detector import Detector, ImageReport

PASS, BLANK = "pass", "blank"

_lock = threading.Lock()
_opened: tuple[Path, Detector] | None = None  # ComfyUI keeps nothing in nodes, so it is kept here


class ReplicationCheck:
    """Checks every picture of a batch against an index of training images."""

    CATEGORY = "image/analysis"
    DESCRIPTION = "Says whether pictures replicate a training image in an index of the replication detector."
    FUNCTION = "check"
    RETURN_TYPES = ("IMAGE", "BOOLEAN", "STRING")
    RETURN_NAMES = ("images", "replicates", "findings")
    OUTPUT_TOOLTIPS = (
        "The pictures; those that replicate are black where on_match is blank.",
        "Whether any of them replicates.",
        "What was found, a line a picture; below that as JSON lines.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        level = "Level from which a picture replicates: 3 partial copy, 4 near copy, 5 verbatim copy."
        index = "Folder made by: detector index build PICTURES --out art.index"
        return {
            "required": {
                "images": ("IMAGE",),
                "index": ("STRING", {"default": "art.index", "tooltip": index}),
                "min_level": ("INT", {"default": 3, "min": 1, "max": 5, "tooltip": level}),
                "on_match": ([PASS, BLANK], {"default": PASS}),
            }
        }

    def check(
        self, images: torch.Tensor, index: str, min_level: int, on_match: str
    ) -> tuple[torch.Tensor, bool, str]:
        """Check a batch.

        Args:
            images: float, (B, H, W, C), 0–1, RGB or RGBA.
            index: Path of the index folder.
            min_level: Level from which a picture replicates, 1–5.
            on_match: `PASS` gives all pictures on, `BLANK` black ones for those that replicate.

        Returns:
            The pictures, whether any replicates, and what was found.
        """
        pictures = [image.detach().float().cpu().numpy() for image in images]
        names = [f"image {number + 1}" for number in range(len(pictures))]
        with _lock:  # the index must not be closed under a check
            reports = _detector(index).check_many(pictures, names=names)
        flagged = [report.level >= min_level for report in reports]
        if on_match == BLANK and any(flagged):
            images = images.clone()
            for number, found in enumerate(flagged):
                if found:
                    images[number] = 0.0
        lines = [_line(report) for report in reports]
        lines += ["", *(json.dumps(report.to_dict(), ensure_ascii=False) for report in reports)]
        return images, any(flagged), "\n".join(lines)


def _detector(index: str) -> Detector:
    """Return the detector over an index, opened once; that of another path is closed first."""
    global _opened
    try:
        from detector import Detector, UsageError
    except ImportError as error:
        raise RuntimeError(
            "The replication detector is not installed in the Python that runs ComfyUI. With that Python, run: "
            "python -m pip install PATH-OF-ITS-REPOSITORY"
        ) from error
    if not index.strip():
        raise UsageError(
            "Name the folder of an index in `index`. Make one: detector index build PICTURES --out art.index"
        )
    path = Path(index.strip()).expanduser().resolve()
    if _opened is not None and _opened[0] != path:
        _opened[1].close()
        _opened = None
    if _opened is None:
        _opened = path, Detector.open(path)
    return _opened[1]


def _line(report: ImageReport) -> str:
    """Say in one line what was found."""
    from detector.report import LEVEL_WORDS, Verdict

    if report.verdict is Verdict.UNREADABLE:
        return f"{report.query}: could not be checked ({report.reason})"
    match = report.best
    if match is None or match.level < 2:
        return f"{report.query}: no match in this index"
    work = match.reference.occurrences[0]
    by = f" by {work.artist}" if work.artist else ""
    licence = work.licence or "licence not recorded"
    cleared = ", cleared" if match.cleared else ""
    return (
        f"{report.query}: level {match.level}, {LEVEL_WORDS[match.level]}, score {match.score:.2f}: "
        f"{work.title or work.path}{by}, {licence}{cleared}"
    )


NODE_CLASS_MAPPINGS = {"ReplicationCheck": ReplicationCheck}
NODE_DISPLAY_NAME_MAPPINGS = {"ReplicationCheck": "Replication check"}
