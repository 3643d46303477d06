"""Finds crops and pasted parts as the gallery grows: keypoints and rows of regions, recall against bytes and time.

The works asked for are always there; distractors are described (`fingerprints.described`) as far as they reach.
Beyond, keypoints are made up, and a table compares them with described ones; tower rows are not: there the rank
among the described ones counts. What is measured is the list of candidates, before verification.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import keypoints
from index.descriptors import create
from index.images import Picture, read_image
from index.keypoints import CODE_BYTES, MAX_QUERY_FEATURES, ROW_BYTES, Features, extract, vote
from index.regions import windows_of
from index.searching import PER_DESCRIPTOR
from index.segments import Rows
from index.vectors import LocalStore, UnitStore
from tests.benchmarks.edits import CROPS, EDITS, PARTS, Edit
from tests.benchmarks.fingerprints import Local, described, joined, local_of, made_up, tower_of
from tests.benchmarks.queries import split
from tests.benchmarks.results import Options, Result, Table, progress, share
from tests.benchmarks.workload import encoded

SIZES, QUICK_SIZES = (2_000, 10_000, 50_000, 200_000, 1_000_000), (200, 1_000)
PER_EDIT, QUICK_PER_EDIT = 24, 3
VARIANTS = 4
DESCRIBED, QUICK_DESCRIBED = 20_000, 500
"""Distractors described at most, before the chunk that goes beyond; each takes about 40 ms."""

TOWER_PICTURES, QUICK_TOWER_PICTURES = 5_000, 250
BY_RANK = 10
"""Tower rows: a gallery may be so many times what is described. There, a tenth as many may be ahead of the work."""

MOST_ROWS = 52_000_000
"""Rows of keypoints in memory at a time; each takes 88 bytes in all: 4.6 GB."""

BUDGET_S, QUICK_BUDGET_S = 40.0, 2.0
"""Processor time that one way may take at one size. Queries are then fewer, and the table says how many."""

MOVED = (0.05, 0.1, 0.2, 0.4, 0.7)
BATCH = 4_000
IMAGES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Way:
    """A way to look for parts with keypoints.

    Attributes:
        features: At most so many a reference.
        probes: Inverted lists visited per feature.
        asked: At most so many features of a query.
        shortlist: References whose geometry is looked at.
        code: ``pq32`` as stored, ``pq16`` or ``sign`` (one bit a dimension, RaBitQ) made from it.
    """

    features: int
    probes: int = 4
    asked: int = MAX_QUERY_FEATURES
    shortlist: int = keypoints.SHORTLIST
    code: str = "pq32"

    @property
    def name(self) -> str:
        """As in tables."""
        text = f"keypoints {self.features}"
        text += f", lists {self.probes}" * (self.probes != 4) + f", code {self.code}" * (self.code != "pq32")
        text += f", {self.asked} asked" * (self.asked != MAX_QUERY_FEATURES)
        return text + f", shortlist {self.shortlist}" * (self.shortlist != keypoints.SHORTLIST)


WAYS = (
    *(Way(features) for features in (400, 200, 100, 50)),
    Way(400, probes=2),
    Way(400, probes=1),
    Way(400, asked=250),
    Way(400, shortlist=96),
    Way(200, probes=2),
    Way(200, asked=250),
    Way(100, asked=250),
    Way(100, probes=2, asked=250),
    Way(50, probes=2, asked=250),
    Way(100, shortlist=96),
    Way(400, code="pq16"),
    Way(400, code="sign"),
)
QUICK_WAYS = (*WAYS[:6], *WAYS[-2:])
LARGE = 50_000
"""Beyond this only the ways with one lever are tried, beyond four times it only those of the fewest features."""

CODES_UP_TO = 10_000
"""Other codes are tried in galleries up to this size: each row is decoded and coded again."""


@dataclass(frozen=True)
class Query:
    """An edited work: number of the reference it shows, group and kind of edit, its features and tower rows."""

    reference: int
    edit: Edit
    features: Features
    fewer: Features
    rows: NDArray[np.float32]


class CodedStore(LocalStore):
    """The same inverted lists with another code, made from the decoded vectors."""

    def __init__(self, rows: Rows, code: str) -> None:
        """Train the code on a sample of the rows, then code them all."""
        import faiss

        self._rows, self._count = rows, len(rows)
        self._coarse = faiss.IndexFlatL2(128)
        self._coarse.add(keypoints.codebook().coarse)
        lists = keypoints.LIST_COUNT
        if code == "pq16":
            self._index = faiss.IndexIVFPQ(self._coarse, 128, lists, 16, 8)
            self._index.by_residual = False
        else:
            self._index = faiss.IndexIVFRaBitQ(self._coarse, 128, lists)
        sample = next(iter(rows.blocks()))[0][:60_000]
        self._index.train(keypoints.decode_vectors(sample))
        for block, _, _ in rows.blocks():
            self._index.add(keypoints.decode_vectors(block))


def run(options: Options) -> Result:
    """Measure."""
    folder = options.scratch("parts")
    found = [p for p in sorted(options.data.iterdir()) if p.suffix.lower() in IMAGES]
    found = found[:240] if options.quick else found
    references, others = split(found, seed=options.seed)
    hosts, spare = (others, []) if options.distractors else (others[::2], others[1::2])
    sources = _sources(options.distractors) if options.distractors else spare
    tower = create("clip:bundled", device="cpu")
    progress("parts: describing distractors")
    sources = sources[:1] if options.quick and options.distractors else sources
    distractors, tower_rows = described(
        sources,
        folder / f"described-{_name_of(sources, options.seed)}",
        most=QUICK_DESCRIBED if options.quick else DESCRIBED,
        variants=1 if options.quick else VARIANTS,
        tower=tower,
        tower_pictures=QUICK_TOWER_PICTURES if options.quick else TOWER_PICTURES,
        seed=options.seed,
    )
    per_edit = QUICK_PER_EDIT if options.quick else PER_EDIT
    pictures = [read_image(path) for path in references[: 8 * per_edit]]
    works, works_tower = local_of(pictures), tower_of(pictures, tower)
    asked = _queries(pictures, hosts, tower, per_edit, options.seed)
    result = Result("parts", pictures=len(found))
    moved = _agreement(result, works, distractors, asked, options)
    sizes = QUICK_SIZES if options.quick else SIZES
    hits: dict[tuple[str, int], dict[int, bool]] = {}
    rows = _regions(sizes, works_tower, tower_rows, asked, hits)
    for size in sizes:
        rows += _sized(size, works, distractors, moved, asked, hits, options)
        _table(result, rows, options)
    both = _both(sizes, hits)
    result.tables.append(Table("Both", ("gallery", "ways", "n", "right one among 20"), both))
    result.figures["distractors described"] = len(distractors.counts)
    result.figures["rows a work"] = float(works.counts.mean())
    result.figures["rows a distractor"] = float(distractors.counts.mean())
    _plot(result.figures["curve"], options.out / "parts.png")
    return result


def _sources(path: Path) -> list[Path]:
    return sorted(path.glob("*.tar")) or [path]


def _name_of(sources: Sequence[Path], seed: int) -> str:
    """Name what is described, so that another set of pictures is not taken for it."""
    facts = [(path.name, path.stat().st_size) for path in sources]
    return hashlib.sha256(repr((facts, seed)).encode()).hexdigest()[:12]


def _queries(
    works: Sequence[Picture], hosts: Sequence[Path], tower: object, per_edit: int, seed: int
) -> list[Query]:
    from PIL import Image

    kinds = [edit for edit in EDITS if edit.group in (CROPS, PARTS)]
    made = []
    for number in range(per_edit * len(kinds)):
        # One of each kind after the other: whatever stops early has seen all kinds alike.
        edit = kinds[number % len(kinds)]
        work = (number * 31 + number // len(kinds)) % len(works)
        rng = random.Random(f"{seed} parts {number}")
        with Image.open(rng.choice(hosts)) as host:
            edited = edit.make(works[work].to_pil(), rng, host.convert("RGB"))
        picture = read_image(encoded(edited.image))
        rows = tower.describe([picture, *windows_of(picture), picture.mirrored()])  # type: ignore[attr-defined]
        features = extract(picture, max_features=MAX_QUERY_FEATURES)
        fewer = extract(picture, max_features=MAX_QUERY_FEATURES // 2)
        made.append(Query(work, edit, features, fewer, np.concatenate(rows)))
    return made


def _store(gallery: Local) -> LocalStore:
    return LocalStore.over(_rows(gallery))


def _rows(gallery: Local) -> Rows:
    owners = np.repeat(np.arange(len(gallery.counts)), gallery.counts)
    return Rows([(gallery.rows, owners)], width=ROW_BYTES, dtype=np.uint8)


@dataclass
class _Run:
    hits: dict[int, bool]
    seconds: float
    false_votes: int


def _ask(store: LocalStore, way: Way, asked: Sequence[Query], budget_s: float) -> _Run:
    store._index.nprobe = way.probes
    done = _Run({}, 0.0, 0)
    for number, query in enumerate(asked):
        features = query.features if way.asked == MAX_QUERY_FEATURES else query.fewer
        began = time.thread_time()
        votes = vote(features, store, shortlist=way.shortlist)
        done.seconds += time.thread_time() - began
        done.hits[number] = any(v.reference_id == query.reference for v in votes[:PER_DESCRIPTOR])
        done.false_votes += sum(v.reference_id != query.reference for v in votes)
        if done.seconds > budget_s and not (number + 1) % 8:
            break
    return done


def _agreement(
    result: Result, works: Local, distractors: Local, asked: Sequence[Query], options: Options
) -> float:
    """Choose how far made-up codes move, so that their distances to queries are those of described ones."""
    half = max(1, min(len(distractors.counts) // 2, 1_000))
    one, other = distractors.part(0, half), distractors.part(half, 2 * half)
    some = asked[: 16 if options.quick else 48]
    budget_s = QUICK_BUDGET_S if options.quick else BUDGET_S
    vectors = np.concatenate([q.features.vectors[::8] for q in some])
    tried = [("described", other)]
    tried += [(str(m), made_up(one, half, moved=m, seed=options.seed)) for m in MOVED]
    rows, medians = [], {}
    for name, more in tried:
        store = _store(more)
        near = np.sqrt(store.search(vectors, 1)[0][:, 0])
        near = near[np.isfinite(near)] if np.isfinite(near).any() else np.full(1, np.inf)
        done = _ask(_store(joined([works, one, more])), Way(400), some, budget_s)
        tenth, median = float(np.percentile(near, 10)), float(np.median(near))
        medians[name] = median
        each = done.false_votes / len(done.hits)
        rows.append((name, tenth, median, each, share(sum(done.hits.values()), len(done.hits))))
    best = min(MOVED, key=lambda m: abs(medians[str(m)] - medians["described"]))
    columns = (
        "share of code bytes moved",
        "nearest, 10 %",
        "median",
        "false votes a query",
        "right one among 20",
    )
    note = f"{2 * half} distractors, half of them described or made up from the other half; nearest: in that "
    note += f"half alone; {best} is used. Made-up ones bring no features that are new, and are the easier gallery."
    table = Table("Made-up keypoints against described ones", columns, rows, note)
    result.tables.append(table)
    result.figures["moved"] = best
    # A run that is stopped has said how well what follows agrees with described pictures.
    progress(table.markdown())
    return best


def _gallery(size: int, features: int, works: Local, distractors: Local, moved: float, seed: int) -> Local:
    """Works, then described distractors, then made-up ones, `size` pictures in all; memory is taken once."""
    kept = [works.strongest(features), distractors.strongest(features)]
    head = joined(kept).part(0, size)
    missing = size - len(head.counts)
    if missing <= 0:
        return head
    room = int(head.rows.shape[0] + missing * kept[1].counts.mean() * 1.02 + 10 * features * BATCH**0.5)
    rows = np.empty((room, ROW_BYTES), np.uint8)
    rows[: len(head.rows)] = head.rows
    counts, filled = [head.counts], len(head.rows)
    for start in range(0, missing, BATCH):
        more = made_up(kept[1], min(BATCH, missing - start), moved=moved, seed=seed + start)
        rows[filled : filled + len(more.rows)] = more.rows
        filled += len(more.rows)
        counts.append(more.counts)
    return Local(rows[:filled], np.concatenate(counts))


def _sized(
    size: int,
    works: Local,
    distractors: Local,
    moved: float,
    asked: Sequence[Query],
    hits: dict[tuple[str, int], dict[int, bool]],
    options: Options,
) -> list[dict[str, object]]:
    found = []
    budget_s, tried = (QUICK_BUDGET_S, QUICK_WAYS) if options.quick else (BUDGET_S, WAYS)
    for features in (400, 200, 100, 50):
        ways = [way for way in tried if way.features == features]
        if size > CODES_UP_TO:
            ways = [way for way in ways if way.code == "pq32"]
        if size > 4 * LARGE:
            ways = [way for way in ways if features <= 50]
        mean = float(distractors.strongest(features).counts.mean())
        if not ways or size * mean > MOST_ROWS or (size > LARGE and features > 200):
            continue
        progress(f"parts: {size} pictures, {features} features each")
        gallery = _gallery(size, features, works, distractors, moved, options.seed)
        store = _store(gallery)
        for way in ways:
            asking = store if way.code == "pq32" else CodedStore(_rows(gallery), way.code)
            done = _ask(asking, way, asked, budget_s)
            hits[way.name, size] = done.hits
            row_bytes = ROW_BYTES - (0 if way.code == "pq32" else CODE_BYTES // 2)
            each = row_bytes * len(gallery.rows) / size
            false = done.false_votes / len(done.hits)
            ms = done.seconds / len(done.hits) * 1e3
            found.append(_figures(size, way.name, done.hits, asked, each, ms, false))
            progress(f"parts: {size}, {way.name}: {sum(done.hits.values())}/{len(done.hits)}, {ms:.0f} ms")
        del store, gallery
    return found


def _figures(
    size: int,
    name: str,
    hits: dict[int, bool],
    asked: Sequence[Query],
    row_bytes: float,
    ms: float,
    false: float | None,
) -> dict[str, object]:
    kinds: dict[str, list[bool]] = {}
    for number, hit in hits.items():
        kinds.setdefault(asked[number].edit.name, []).append(hit)
    return {
        "gallery": size,
        "way": name,
        "n": len(hits),
        "found": sum(hits.values()),
        "bytes": row_bytes,
        "ms": ms,
        "false_votes": false,
        "kinds": {kind: [sum(some), len(some)] for kind, some in kinds.items()},
    }


def _regions(
    sizes: Sequence[int],
    works: NDArray[np.float16],
    tower_rows: NDArray[np.float16],
    asked: Sequence[Query],
    hits: dict[tuple[str, int], dict[int, bool]],
) -> list[dict[str, object]]:
    """Rank each query's work among pictures, exactly, block by block: by its whole row, and by all six.

    A gallery larger than what is described is judged by the share of described pictures ahead of the work: it is
    found where that share of the gallery is less than the candidates. Rows drawn from a mixture of Gaussians are
    no stand-in: unrelated real rows come far nearer to a query than those do.
    """
    progress("parts: rows of regions")
    real = np.concatenate([works, tower_rows]).astype(np.float32)
    queries = np.concatenate([q.rows for q in asked])
    states = len(queries) // len(asked)
    per_row_s = _time_row(real, asked)
    found = []
    for size in (size for size in sizes if size <= BY_RANK * len(real)):
        among = real[:size]
        for n, name in ((1, "tower, whole pictures"), (6, "tower, 6 regions")):
            own = np.array([_alike(works[[q.reference], :n], q.rows, states)[0, 0] for q in asked])
            ahead = np.zeros(len(asked), np.int64)
            for start in range(0, len(among), BATCH):
                alike = _alike(among[start : start + BATCH, :n], queries, states)
                # The work itself, in a product of another size, may differ in the last digit.
                ahead += (alike > own[:, None] + 1e-5).sum(axis=1)
            mine = {number: bool(a * size < PER_DESCRIPTOR * len(among)) for number, a in enumerate(ahead)}
            hits[name, size] = mine
            each = n * works.shape[2] * 2
            found.append(_figures(size, name, mine, asked, each, per_row_s * size * n * 1e3, None))
    return found


def _alike(block: NDArray[np.floating], queries: NDArray[np.float32], states: int) -> NDArray[np.float32]:
    """Best cosine of any row of a query with any row of a picture: float32, (queries, pictures)."""
    alike = queries @ np.ascontiguousarray(block, np.float32).reshape(-1, block.shape[2]).T
    best: NDArray[np.float32] = alike.reshape(len(queries) // states, states, len(block), -1).max(axis=(1, 3))
    return best


def _time_row(rows: NDArray[np.float32], asked: Sequence[Query]) -> float:
    """Return the seconds that an exact search takes for one stored row, all rows of a query asked."""
    flat = rows.reshape(-1, rows.shape[2]).astype(np.float16)
    store = UnitStore(flat, np.repeat(np.arange(len(rows)), rows.shape[1]))
    began = time.thread_time()
    for query in asked[:8]:
        store.search(query.rows, 2 * PER_DESCRIPTOR)
    return (time.thread_time() - began) / len(asked[:8]) / len(flat)


def _both(sizes: Sequence[int], hits: dict[tuple[str, int], dict[int, bool]]) -> list[tuple[object, ...]]:
    rows = []
    for size in sizes:
        regions = hits.get(("tower, 6 regions", size), {})
        for way in (Way(features) for features in (400, 200, 100, 50)):
            if regions and (way.name, size) in hits:
                mine = hits[way.name, size]
                found = sum(hit or regions[number] for number, hit in mine.items())
                rows.append((size, f"{way.name} + 6 regions", len(mine), share(found, len(mine))))
    return rows


def _table(result: Result, curve: Sequence[dict[str, object]], options: Options) -> None:
    """Put the curve so far into the result, and onto disk: what is measured outlasts a stop."""
    import json

    result.figures["curve"] = list(curve)
    (options.scratch("parts") / "curve.json").write_text(json.dumps(curve, indent=1, default=float))
    kinds = [edit.name for edit in EDITS if edit.group in (CROPS, PARTS)]
    rows = []
    for line in sorted(curve, key=lambda line: int(str(line["gallery"]))):
        by_kind = line["kinds"]
        assert isinstance(by_kind, dict)
        cells = [f"{by_kind[k][0] / by_kind[k][1]:.2f}" if k in by_kind else "–" for k in kinds]
        n, hit, false = int(str(line["n"])), int(str(line["found"])), line["false_votes"]
        rows.append(
            (
                line["gallery"],
                line["way"],
                n,
                share(hit, n),
                *cells,
                line["bytes"],
                line["ms"],
                "–" if false is None else false,
            )
        )
    columns = (
        "gallery",
        "way",
        "n",
        "right one among 20",
        *kinds,
        "bytes a picture",
        "ms a query",
        "false votes",
    )
    note = (
        "Before verification. Milliseconds: processor time of one thread in the search, without describing; of the "
        "tower's rows from the described ones, by number of rows. A slow way asks fewer queries: compare equal n. "
        "Tower rows beyond what is described: by the share of described pictures that are ahead of the work. "
        "Shares: 95 % Wilson interval."
    )
    result.tables = [t for t in result.tables if t.title != "Parts by gallery size"]
    result.tables.append(Table("Parts by gallery size", columns, rows, note))


def _plot(curve: Sequence[dict[str, object]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), dpi=130)
    shown = [Way(f).name for f in (400, 200, 100, 50)] + ["tower, whole pictures", "tower, 6 regions"]
    for name in shown:
        mine = [line for line in curve if line["way"] == name]
        sizes = [float(str(line["gallery"])) for line in mine]
        recall = [float(str(line["found"])) / float(str(line["n"])) for line in mine]
        left.plot(sizes, recall, marker="o", label=name)
        right.plot(sizes, [float(str(line["ms"])) for line in mine], marker="o", label=name)
    left.set(xscale="log", ylim=(0, 1.02), xlabel="pictures in the gallery", ylabel="right one among 20")
    right.set(xscale="log", yscale="log", xlabel="pictures in the gallery", ylabel="ms a query, one thread")
    left.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
