"""The evidence as one zip file: dossier, report, small pictures, digests, and how somebody else can verify it.

The same report, index and pictures give the same bytes: entries come in a fixed order with a fixed time.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from detector.artists.dossier import pieces_of
from detector.artists.pictures import SmallCopies
from detector.artists.report import LookupReport, Replica
from detector.artists.words import NO_FINDING
from detector.reports.atomic import replacing
from detector.reports.wording import file_name, plain, plural

if TYPE_CHECKING:
    from PIL.Image import Image

    from index.searching import Searchable

DOSSIER, REPORT, SUMS, VERIFY = "dossier.html", "report.json", "SHA256SUMS", "HOW-TO-VERIFY.txt"

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold: bytes must not hang on the clock."""

_UNIX = 3
_FILE = 0o100644 << 16

_ABSOLUTE = re.compile(r"(?<![\w.~-])(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\s\"']*[\\/]([^\s\"'\\/]+)")


def write_bundle(
    report: LookupReport,
    target: str | Path | IO[bytes],
    *,
    index: Searchable,
    pictures: Mapping[str, Image | bytes] | None = None,
) -> None:
    """Write the evidence.

    The bundle names files as the index does; of all other paths of this machine it keeps the last part only.

    Args:
        report: What was found.
        target: File to write, which appears whole or not at all; or a stream.
        index: The index, open, for its small copies of the references.
        pictures: The artist's pictures by name, decoded or encoded, where they did not come from files.

    Raises:
        UsageError: The file cannot be written.
    """
    copies = SmallCopies(report, index=index, pictures=pictures or {})
    files: dict[str, bytes] = {}
    files[DOSSIER] = "".join(pieces_of(_portable_page(report), copies)).encode("utf-8")
    files[REPORT] = _encoded(_with_files(report, copies))
    files |= dict(copies.files())
    files[VERIFY] = how_to_verify(portable(report)).encode("utf-8", "backslashreplace")
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    files[SUMS] = sums.encode("utf-8")
    with ExitStack() as stack:
        stream = stack.enter_context(replacing(target)) if isinstance(target, (str, Path)) else target
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in sorted(files.items()):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.create_system = _UNIX
                entry.external_attr = _FILE
                is_picture = name.endswith(".webp")
                entry.compress_type = zipfile.ZIP_STORED if is_picture else zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)


def portable(report: LookupReport) -> LookupReport:
    """Return a report without absolute paths of this machine, but for those that the index records."""
    works = tuple(
        replace(work, picture=_last(work.picture), replicas=tuple(map(_portable_replica, work.replicas)))
        for work in report.works
    )
    return replace(
        report,
        works=works,
        pictures=tuple(map(_last, report.pictures)),
        unmatched=tuple(map(_last, report.unmatched)),
        unreadable=tuple((_last(name), reason) for name, reason in report.unreadable),
        findings=tuple(file_name(file) for file in report.findings),
        skipped=tuple((file_name(file), line, reason) for file, line, reason in report.skipped),
        index=replace(report.index, path=file_name(report.index.path)),
        command=_ABSOLUTE.sub(lambda found: "…/" + found[1], report.command),
    )


def how_to_verify(report: LookupReport) -> str:
    """Return the text that goes with the evidence: what it is, and how to come to the same figures."""
    index, lines = report.index, [f"{plain(report.summary)}", "", NO_FINDING, ""]

    def part(heading: str, *said: str) -> None:
        lines.extend([heading, "-" * len(heading), *said, ""])

    part(
        "Are these the files that were made?",
        f"Unpack the zip file and run, in its folder: sha256sum -c {SUMS}",
        f"(on a Mac: shasum -a 256 -c {SUMS}). Every file must be OK.",
    )
    part(
        "How to come to the same figures",
        "With the same index, the same version of the program and the same files:",
        "",
        f"    {plain(report.command) or 'detector artist … (asked through the library or a server)'}",
        "",
        "“…/” stands for a folder of the machine that this was made on. The index must be in the state named here:",
        "detector index info --index FOLDER shows its state, and this its manifest's digest:",
        "sha256sum FOLDER/manifest.json",
    )
    part(
        "What was used",
        f"date               {report.made}",
        *(f"{name:<18} {number}" for name, number in sorted(report.versions.items())),
        f"index              {plain(index.path)}, state {index.generation}: {plural(index.references, 'picture')} at "
        f"{plural(index.occurrences, 'place')}",
        f"index manifest     SHA-256 {index.manifest_sha256}",
        *(
            f"descriptor         {each.get('name')}, version {each.get('version')}"
            + (
                f", weights SHA-256 {each['weights_digest']}"
                if each.get("weights_digest")
                else ", without weights"
            )
            for each in index.descriptors
        ),
        f"scoring model      SHA-256 {report.scoring_sha256}",
        *(f"findings           {plain(file)}" for file in report.findings),
    )
    part(
        "What is in here",
        f"{DOSSIER}      everything on one page, for people; open it in a browser, or print it",
        f"{REPORT}       the same for programs",
        "pictures/         small copies: of training images, by their number in the index; of the pictures that were",
        "                  given; of generated pictures whose files were at hand",
        f"{SUMS}        digests of all these files",
    )
    part(
        "What the numbers mean",
        "The SHA-256 of a training image is that of its file: whoever has that file can compare it.",
        "The score, from 0 to 1, says how sure the measurement is that one picture holds the other or a part of it.",
        "The level says how closely: 5 verbatim, 4 near copy, 3 partial copy, all three verified; 2 strong resemblance",
        "that could not be verified. Works that were not found may still be in other training sets.",
        "Artists, titles, licences and sources are repeated as the index records them; nobody has checked them here.",
    )
    return "\n".join(lines).rstrip() + "\n"


def _portable_page(report: LookupReport) -> LookupReport:
    """Return the report as the page shows it: it names pictures and findings by the last part of their paths alone.

    Its works keep the names by which their small copies are found.
    """
    short = portable(report)
    return replace(short, works=report.works, picture_files=report.picture_files)


def _with_files(report: LookupReport, copies: SmallCopies) -> dict[str, Any]:
    """Return the report as JSON values, with the names of the small copies beside what they are of."""
    values = portable(report).to_dict()
    for work, said in zip(report.works, values["works"], strict=True):
        said["reference_picture"] = copies.name_of_reference(work.reference)
        said["own_picture"] = copies.name_of_own(work.picture) if work.match is not None else ""
        for replica, each in zip(work.replicas, said["replicas"], strict=True):
            each["generated_picture"] = copies.name_of_generated(replica)
    return values


def _portable_replica(replica: Replica) -> Replica:
    return replace(replica, query=_last(replica.query), findings=file_name(replica.findings))


def _last(path: str) -> str:
    """Return a relative path as it is, of an absolute one its last part."""
    return file_name(path) if re.match(r"/|~|\\|[A-Za-z]:[\\/]", path) else path


def _encoded(values: dict[str, Any]) -> bytes:
    text = json.dumps(_finite(values), ensure_ascii=False, indent=1)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _finite(value: Any) -> Any:
    """Return plain JSON values with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value
