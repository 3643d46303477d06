"""What writes to an index, as the crash tests run it: operations on tiny indexes, and all that is seen of an index."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

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
from index.searching import Query
from index.sketches import Measured

NAMES = ("pdq", "phash", "keypoints")
TOWER = "clip:bundled"
FIRST, SECOND = 8, 4
"""Pictures that indexes are built of, and those added later."""

WIDTH = 256
"""Columns of its rows."""

SHARD = 5
"""Rows in a file of embeddings."""

FROZEN = Path(__file__).resolve().parents[1] / "data" / "index-v1"

Seen = dict[str, Any]


@dataclass(frozen=True)
class World:
    """What the operations read; nothing writes to it.

    Attributes:
        folder: Holds all of it.
        queries: Pictures described for searches, by the descriptors of an index.
    """

    folder: Path
    queries: dict[tuple[str, ...], list[Query]]

    @property
    def first(self) -> Path:
        """Pictures that indexes are built of."""
        return self.folder / "first"

    @property
    def second(self) -> Path:
        """Pictures that are added: new ones, one that is known, one that cannot be read."""
        return self.folder / "second"

    @property
    def rows(self) -> Path:
        """Embeddings with their tables, as clip-retrieval lays them out."""
        return self.folder / "rows"


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


def make_world(folder: Path, *, seed: int) -> World:
    """Paint pictures and write embeddings."""
    rng = np.random.default_rng(seed)
    world = World(folder, {})
    for place, count in ((world.first, FIRST), (world.second, SECOND)):
        place.mkdir(parents=True)
        lines = ["file_name,artist,licence"]
        for number in range(count):
            _paint(rng).save(place / f"{number:02d}.png")
            lines.append(f"{number:02d}.png,Artist {number % 4},CC-BY-4.0")
        (place / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(world.first / "03.png", world.second / "again.png")
    (world.second / "broken.png").write_bytes((world.first / "04.png").read_bytes()[:200])
    for name in ("img_emb", "metadata"):
        (world.rows / name).mkdir(parents=True)
    for shard in range(2):
        np.save(
            world.rows / "img_emb" / f"img_emb_{shard}.npy",
            rng.standard_normal((SHARD, WIDTH)).astype(np.float16),
        )
        table = [f"https://pictures.example/{shard}/{n}.jpg,a picture {n}" for n in range(SHARD)]
        text = "\n".join(["url,caption", *table]) + "\n"
        (world.rows / "metadata" / f"metadata_{shard}.csv").write_text(text, encoding="utf-8")
    return world


def _paint(rng: np.random.Generator) -> Image.Image:
    size = tuple(rng.integers(84, 110, 2).tolist())
    coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize(size)
    noise = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    return Image.blend(coarse, noise.filter(ImageFilter.GaussianBlur(2)), 0.4)


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


# What is seen of an index


def seen(folder: Path, world: World) -> Seen:
    """Return all that a user can see of an index, with references named by digest, and what `check` says."""
    with ReferenceIndex.open(folder) as index:
        references = {}
        rows = {spec.name: index.rows(spec.name) for spec in index.specs}
        for number in index.reference_ids():
            entry = index.reference(number)
            assert entry is not None
            record, occurrences = entry
            made = {name: _digest(each.rows_of(number).tobytes()) for name, each in rows.items()}
            places = sorted((o.path, o.size, o.mtime_ns, str(o.credits)) for o in occurrences)
            copy = index.thumbnail(number)
            references[record.sha256] = [
                [record.width, record.height, list(record.trim)],
                places,
                made,
                copy and _digest(copy),
            ]
        return {
            "references": references,
            "searches": _searches(index, world),
            "rejected": sorted((r.locator, r.reason) for r in index.rejected()),
            "requests": sorted((r.state, r.sha256s, r.name, r.reason) for r in index.requests()),
            "forgotten": sorted(index.forgotten()),
            "calibration": {
                name: [
                    f"{value:.5g}" if isinstance(value, float) else value for value in null.to_dict().values()
                ]
                for name, null in index.calibration().items()
            },
            "imported": [each.to_dict() for each in index.imported()],
            "shards done": index.shards_done(),
            "sketches": {name: each.rows for name, each in index.sketches().items()},
            "check": index.check(),
            "generation": index.generation,
            "dead rows": sum(each.total - len(each) for each in rows.values()),
        }


def _searches(index: ReferenceIndex, world: World) -> list[Any]:
    names = tuple(spec.name for spec in index.specs)
    found = []
    for query in world.queries.get(names, ()):
        candidates = index.search(query)
        answers = []
        for candidate in candidates:
            entry = index.reference(candidate.reference_id)
            assert entry is not None
            alike = {name: round(value, 4) for name, value in candidate.similarities.items()}
            answers.append((entry[0].sha256, alike, candidate.mirrored))
        found.append(answers[:5])
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


COMPARED = (
    "references",
    "searches",
    "rejected",
    "requests",
    "forgotten",
    "calibration",
    "imported",
    "shards done",
    "sketches",
)


def lost(now: Seen, before: Seen | None, after: Seen) -> list[str]:
    """Say what an interrupted index lacks that was there before and stays, or has that was never put in."""
    earlier = before["references"] if before else {}
    found, later = now["references"], after["references"]
    problems = []
    for digest, value in earlier.items():
        if digest in later and digest not in found:
            problems.append(f"reference {digest[:8]} is lost")
        elif digest in found and found[digest] not in (value, later.get(digest)):
            problems.append(f"reference {digest[:8]} is neither as before nor as after")
    for digest, value in found.items():
        if digest not in earlier and digest not in later:
            problems.append(f"reference {digest[:8]} came from nowhere")
        elif digest not in earlier and value != later[digest]:
            problems.append(f"reference {digest[:8]} is not as it will be")
    if before and not set(map(str, before["forgotten"])) & set(map(str, after["forgotten"])) <= set(
        map(str, now["forgotten"])
    ):
        problems.append("erased pictures were forgotten to be so")
    if before and len(now["requests"]) < len(before["requests"]):
        problems.append("removal requests are lost")
    return problems


def differing(now: Seen, wanted: Seen) -> list[str]:
    """Say in what two indexes differ, ids, order and generations aside."""
    return [f"other {name}" for name in COMPARED if now[name] != wanted[name]]


def leavings(case: Path, folder: Path, *, erases: bool, now: Seen) -> list[str]:
    """Say what is left behind that no commit names, once a writer has closed."""
    problems = []
    with ReferenceIndex.open(folder) as index:
        named = {segment.file for segment in index._catalog.segments()}
        sketched = {each.file for each in index.sketches().values()}
    for entry in sorted(case.rglob("*")):
        if entry.is_dir():
            continue
        name, above = entry.name, entry.parent.name
        if above == "vectors":
            known = name.replace(".ids.npy", ".npy") in named
        elif above == "ann":
            known = name.split(".")[0] in sketched
        else:
            known = entry.parent == folder and bool(
                re.fullmatch(r"manifest\.json|(catalog|thumbnails)\.sqlite|writer\.lock(\.held)?", name)
            )
        if not known:
            problems.append(f"left behind: {os.path.relpath(entry, case)}")
    if erases and now["dead rows"]:
        problems.append(f"{now['dead rows']} rows of gone references are still there")
    return problems
