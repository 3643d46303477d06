"""The small copies that a dossier and its bundle show: of references, of the artist's pictures, of generated ones."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from detector.artists.report import LookupReport, Replica
from detector.report import Reference
from detector.reports.pictures import Shown, shown_file, shown_picture, shown_reference
from detector.reports.wording import reason_in_words
from index.errors import UnreadableImageError
from index.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from index.searching import Searchable

PICTURE_SIDE = 360
"""Longest side of a small copy, in pixels: about 20 kB, and enough to see what is shared."""

FOLDER = "pictures"


class SmallCopies:
    """Small copies, each made once, and their names in a bundle."""

    def __init__(
        self, report: LookupReport, *, index: Searchable, pictures: Mapping[str, Image | bytes]
    ) -> None:
        """Keep where they come from.

        Args:
            report: Whose pictures they are.
            index: Open, for the thumbnails of references.
            pictures: The artist's pictures by name. Without one, a picture is read from the file of its name only
                where it came from that file (`LookupReport.picture_files`): names of uploads are not paths.
        """
        self._report = report
        self._index = index
        self._given = dict(pictures)
        self._made: dict[tuple[str, str], Shown] = {}
        self._names: dict[tuple[str, str], str] = {}

    def reference(self, reference: Reference) -> Shown:
        """Return the small copy of a reference."""
        key = "reference", str(reference.id)
        if key not in self._made:
            # Ids die with references: what has this number now may be another picture.
            stored = self._index.reference(reference.id)
            same = stored is not None and stored[0].sha256 == reference.sha256
            thumbnail = self._index.thumbnail(reference.id) if same else None
            self._made[key] = shown_reference(reference, thumbnail, max_side=PICTURE_SIDE)
            self._names[key] = f"{FOLDER}/reference-{reference.id}.webp"
        return self._made[key]

    def own(self, name: str) -> Shown:
        """Return the small copy of a picture of the artist's."""
        key = "own", name
        if key not in self._made:
            self._made[key] = self._own(name)
            place = self._report.pictures.index(name) if name in self._report.pictures else len(self._made)
            self._names[key] = f"{FOLDER}/yours-{place + 1:04d}.webp"
        return self._made[key]

    def generated(self, replica: Replica) -> Shown:
        """Return the small copy of a generated picture, where its file is still at hand and unchanged."""
        key = "generated", f"{replica.query}\n{replica.sha256}"
        if key not in self._made:
            self._made[key] = _found(replica)
            number = sum(kind == "generated" for kind, _ in self._made)
            self._names[key] = f"{FOLDER}/generated-{number:04d}.webp"
        return self._made[key]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name in the bundle, WebP bytes) of all that were made so far and could be, in order of names."""
        for key, name in sorted(self._names.items(), key=lambda item: item[1]):
            shown = self._made[key]
            if shown.uri:
                yield name, base64.b64decode(shown.uri.split(",", 1)[1])

    def name_of_reference(self, reference: Reference) -> str:
        """Return the name of its file in a bundle, or an empty string where there is no picture."""
        return self._names["reference", str(reference.id)] if self.reference(reference).uri else ""

    def name_of_own(self, name: str) -> str:
        """Return the same of a picture of the artist's."""
        return self._names["own", name] if self.own(name).uri else ""

    def name_of_generated(self, replica: Replica) -> str:
        """Return the same of a generated picture."""
        shown = self.generated(replica)
        return self._names["generated", f"{replica.query}\n{replica.sha256}"] if shown.uri else ""

    def _own(self, name: str) -> Shown:
        given = self._given.get(name)
        if given is None and name in self._report.picture_files:
            return shown_file(name, sha256="", max_side=PICTURE_SIDE)
        if given is None:
            return Shown(missing="the picture was not kept")
        try:
            return shown_picture(read_image(given), max_side=PICTURE_SIDE)
        except UnreadableImageError as error:
            return Shown(missing=reason_in_words(error.reason))


def _found(replica: Replica) -> Shown:
    """Look for a generated picture where the findings say, and beside the file of findings."""
    if not replica.sha256:
        return Shown(missing="the findings do not say which file it was")
    beside = Path(replica.findings).parent
    query = Path(replica.query)
    places = [query] if query.is_absolute() else [query, beside / query]
    places += [beside / query.name, beside / query.parent.name / query.name]
    shown = Shown(missing="the file is not there")
    for place in dict.fromkeys(places):
        found = shown_file(str(place), sha256=replica.sha256, max_side=PICTURE_SIDE)
        if found.uri:
            return found
        if place == places[0] and place.exists():
            shown = found
    return shown
