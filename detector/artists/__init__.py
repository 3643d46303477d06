"""Are an artist's works in a training set, how often, and does a model give them back?  `lookup`.

    from detector import lookup

    report = lookup("art.index", "Clair, Atelier", findings=["findings.jsonl"])
    print(report.summary)

`lookup_reports` does the same with pictures that are checked already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from detector.artists.findings import Findings
    from detector.artists.names import ArtistNames
    from detector.artists.report import LookupReport
    from detector.detector import Detector
    from detector.report import ImageReport
    from index.searching import Searchable

__all__ = ["LookupProgress", "lookup", "lookup_reports"]

LookupProgress = Callable[[int, int], None]
"""Called with how many pictures are checked, of how many."""


def lookup(
    index: Searchable | Detector | str | Path,
    name: str = "",
    *,
    pictures: Sequence[str | Path | tuple[str, Image | bytes]] = (),
    source_contains: str = "",
    licence: str = "",
    findings: Findings | Sequence[str | Path] = (),
    command: str = "",
    on_progress: LookupProgress | None = None,
) -> LookupReport:
    """Look an artist's works up: by name, by picture, by source, or by several of them at once.

    What any of them finds is in the answer, with every reason why.

    Args:
        index: A folder, or opened.
        name: The artist, in any usual spelling: accents, case, "Last, First" and initials make no difference.
            What is merely like it becomes a suggestion.
        pictures: Pictures of the works, or folders of them; or pairs of a name and a picture, decoded or encoded.
            An edit of a work finds it: a photograph of it, a part, a print in a frame.
        source_contains: Part of the source that an occurrence records, such as ``mysite.example``.
        licence: The artist's own licence, to be compared with what is recorded.
        findings: Saved findings of scans and audits (JSON lines; of an audit, its folder), or read already.
        command: Command line that asked, for the report.
        on_progress: Called once a batch of pictures, with done and total.

    Returns:
        What was found; `LookupReport.works` is empty where nothing was.

    Raises:
        UsageError: Nothing was asked for, or a path does not exist.
        SourceError: A file of findings cannot be read, or holds no finding.
        IndexFolderError: The index cannot be used.

    Example:
        >>> report = lookup("art.index", "Abara, Lien", findings=["findings.jsonl"])
        >>> print(report.summary)
        3 works are in this training set; 2 generated pictures replicate 1 of them.
    """
    from detector.artists.search import looked_up

    return looked_up(
        index,
        name,
        pictures=pictures,
        source_contains=source_contains,
        licence=licence,
        findings=findings,
        command=command,
        on_progress=on_progress,
    )


def lookup_reports(
    index: Searchable | Detector,
    reports: Sequence[ImageReport],
    *,
    name: str = "",
    source_contains: str = "",
    licence: str = "",
    findings: Findings | None = None,
    names: ArtistNames | None = None,
    command: str = "",
) -> LookupReport:
    """Look an artist's works up, with pictures that are checked already.

    Args:
        index: Opened; the one that the reports were made with.
        reports: What `Detector.check_many` says of the artist's pictures, their names as `ImageReport.query`.
        name: As for `lookup`.
        source_contains: Likewise.
        licence: Likewise.
        findings: Likewise, read already.
        names: The artists' names of this index, read already; None reads them.
        command: Likewise.

    Returns:
        What was found.

    Raises:
        UsageError: Nothing was asked for.
    """
    from detector.artists.search import gathered

    return gathered(
        index,
        reports,
        name=name,
        source_contains=source_contains,
        licence=licence,
        findings=findings,
        names=names,
        command=command,
    )
