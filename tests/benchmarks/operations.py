"""What writes to an index, as the crash tests run it: operations on tiny indexes, made cheap."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import build, calibration, importing, neural, optimizing, reference_index, workers
from index.build import BuildOptions, build_index
from index.descriptors import DescriptorSpec, Kind
from index.errors import UnreadableImageError
from index.images import Picture, read_image
from index.importing import ImportOptions, import_embeddings
from index.items import SourceItem
from index.optimizing import optimize
from index.reference_index import ReferenceIndex
from index.requests import file_request, forgotten_key
from index.sketches import Measured
from tests.benchmarks.contents import seen
from tests.benchmarks.world import WIDTH, World

NAMES = ("pdq", "phash", "keypoints")
TOWER = "clip:bundled"
FROZEN = Path(__file__).resolve().parents[1] / "data" / "index-v1"


@dataclass(frozen=True)
class Operation:
    """One command.

    Attributes:
        name: Of it.
        prepare: Makes the index that it starts from, at a path; nothing for a new one.
        run: Does it, as its command would.
        erases: No row or small copy of a gone reference may be left after it.
    """

    name: str
    prepare: Callable[[World, Path], object]
    run: Callable[[World, Path], object]
    erases: bool = False


class StandIn:
    """Stands for the bundled tower, which takes seconds to load: unit rows of what a picture looks like in small."""

    spec = DescriptorSpec(TOWER, 1, Kind.UNIT, WIDTH)
    batched = False

    def describe(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Describe pictures: float32, (1, width) each."""
        rows = []
        for picture in pictures:
            small = np.asarray(picture.to_pil().convert("L").resize((16, 16)), np.float32).reshape(1, WIDTH)
            rows.append(small / np.linalg.norm(small))
        return rows

    def describe_mirrored(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Describe mirrored pictures."""
        return [row.reshape(16, 16)[:, ::-1].reshape(1, WIDTH) for row in self.describe(pictures)]


def warm_up(world: World, *, tower: bool) -> None:
    """Load what the operations need, and describe the searches' pictures, before processes fork off.

    Args:
        world: Gets its queries.
        tower: Load the bundled tower; otherwise `StandIn` takes its name.
    """
    import cv2

    cv2.setNumThreads(1)
    pictures = [read_image(world.first / f"{number:02d}.png") for number in (1, 7)]
    _remember_descriptions()
    _settle()
    warm = world.folder / "warm.index"
    if not tower:
        neural.ClipDescriptor = lambda name, **options: StandIn()  # type: ignore[assignment,misc]
    for names in (NAMES, (*NAMES, TOWER), (TOWER,)):
        with ReferenceIndex.create(warm, descriptors=names) as index:
            world.queries[names] = index.describe(pictures)
        if len(names) > 1:
            build_index([world.first, world.second], warm, options=_options)
        seen(warm, world)
        shutil.rmtree(warm)


def _remember_descriptions() -> None:
    """Describe each picture once for all builds: how is not what is tested here, and takes most of the time."""
    real = workers.Describer.describe
    memory: dict[tuple[str, ...], workers.Described] = {}

    def describe(self: workers.Describer, item: SourceItem) -> workers.Described:
        try:
            data = item.read()
        except UnreadableImageError:
            return real(self, item)
        digest = hashlib.sha256(data).hexdigest()
        key = (digest, *self.descriptors, *self.batched)
        if digest in self.known or forgotten_key(digest) in self.forgotten or key not in memory:
            found = real(self, item)
            if found.picture is not None:
                memory[key] = replace(found, inputs=dict(found.inputs))
            return found
        found = memory[key]
        return replace(found, item=item, credits=item.credits, inputs=dict(found.inputs))

    workers.Describer.describe = describe  # type: ignore[method-assign]


def _settle() -> None:
    """Let few references be calibrated, few segments merged, few pictures handed to a worker, few rows sketched."""
    calibration.MIN_SAMPLES = 4
    reference_index.MERGE_ABOVE = 2
    build.CHUNK = 2
    importing.COMPARED = 0
    good = Measured(1.0, 1, 0.1, 1.0)
    optimizing._tuned = lambda sketched, rows, asked, target: (64, good)  # type: ignore[assignment]


# The operations

_options = BuildOptions(workers=1, batch_size=3)


def _build(world: World, out: Path, *, names: Sequence[str] = NAMES) -> None:
    build_index(world.first, out, descriptors=names, options=_options)


def _build_half(world: World, out: Path) -> None:
    """Leave what a build leaves that was killed: some commits, and files that none of them names."""

    class _Killed(BaseException):
        pass

    def stop(progress: build.BuildProgress) -> None:
        if progress.done >= 5:
            raise _Killed

    try:
        build_index(world.first, out, descriptors=NAMES, options=_options, on_progress=stop)
    except _Killed:
        (out / "vectors" / "pdq-000009.npy").write_bytes(b"half a segment")
        (out / "manifest.json.tmp").write_bytes(b"{")


def _add(world: World, out: Path) -> None:
    build_index(world.second, out, options=_options)


def _remove(world: World, out: Path, *, erase: bool) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.remove(artist="Artist 2", erase=erase)


def _compact(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.compact()


def _merge(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.merge_small_segments()


def _calibrate(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.calibrate()


def _migrate(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True):
        pass


def _optimize(world: World, out: Path) -> None:
    optimize(out, min_rows=1)


def _import(world: World, out: Path) -> None:
    options = ImportOptions(batch_rows=3, compared=0)
    import_embeddings(world.rows, out, model="bundled", options=options)


def _accept(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.accept_request(index.requests()[0].id, reason="asked for")


def _decline(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        asked = index.requests()[0]
        if asked.state == "open":
            index.decline_request(asked.id, reason="licensed")


def _file(world: World, out: Path) -> None:
    with ReferenceIndex.open(out) as index:
        digests = sorted(index.digests())[:3]
    file_request(out, digests, name="Ann", contact="ann@example.org", statement="mine")


def _take_back(world: World, out: Path) -> None:
    build_index(world.first, out, options=replace(_options, take_back=True))


def _in_turn(world: World, out: Path, *, steps: Sequence[Callable[[World, Path], object]]) -> None:
    for step in steps:
        step(world, out)


def _uncalibrated(world: World, out: Path) -> None:
    """An index with gone references and many small segments, never merged or calibrated."""
    merge, calibrated = reference_index.MERGE_ABOVE, ReferenceIndex.calibrate
    reference_index.MERGE_ABOVE, ReferenceIndex.calibrate = 1000, lambda self: {}  # type: ignore[method-assign]
    try:
        _build(world, out)
        _remove(world, out, erase=False)
    finally:
        reference_index.MERGE_ABOVE, ReferenceIndex.calibrate = merge, calibrated  # type: ignore[method-assign]


def _nothing(world: World, out: Path) -> None:
    pass


def _frozen(world: World, out: Path) -> None:
    shutil.copytree(FROZEN, out)


def operations(*, tower: bool) -> list[Operation]:
    """Return all operations.

    Args:
        tower: Only those that need the bundled tower itself.
    """
    if tower:
        return [Operation("build with the tower", _nothing, partial(_build, names=(*NAMES, TOWER)))]
    erase = partial(_remove, erase=True)
    filed = partial(_in_turn, steps=(_build, _file))
    imported = partial(_in_turn, steps=(_import, _optimize))
    return [
        Operation("build", _nothing, _build),
        Operation("build, resumed", _build_half, _build),
        Operation("add", _build, _add),
        Operation("add, taking back", partial(_in_turn, steps=(_build, erase)), _take_back),
        Operation("remove", _build, partial(_remove, erase=False)),
        Operation("remove --erase", _build, erase, erases=True),
        Operation("compact", _uncalibrated, _compact, erases=True),
        Operation("merge", _uncalibrated, _merge),
        Operation("calibrate", _uncalibrated, _calibrate),
        Operation("requests: file", _build, _file),
        Operation("requests: accept", filed, _accept, erases=True),
        Operation("requests: decline", filed, _decline),
        Operation("migration", _frozen, _migrate),
        Operation("import-embeddings", _nothing, _import),
        Operation("optimize", _import, _optimize),
        Operation("optimize again", imported, _optimize),
        Operation("compact, optimized", partial(_in_turn, steps=(imported, _drop_some)), _compact, True),
    ]


def _drop_some(world: World, out: Path) -> None:
    with ReferenceIndex.open(out, writable=True) as index:
        index.remove(path=index.find_occurrences(source_contains="/1/")[0][0])
