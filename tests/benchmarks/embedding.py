"""Embeddings alone: the bundled tower beside hashes, the same tower untrained, and CLIP where its weights are on disk.

No verification, exact search. Half the works are references, half held out, as in the part `judgement`. Whole-picture
edits are searched whole and mirrored; parts with the windows of the query that `index.regions` cuts, mirrored too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.background import Background, read_background
from index.descriptors import Descriptor, Kind, create
from index.images import Picture, read_image
from index.neural import BACKGROUND, BUNDLED
from index.regions import windows_of
from tests.benchmarks import describing
from tests.benchmarks.edits import CROPS, EDITS, HEAVY, LIGHT, MEDIUM, PARTS, PHOTOGRAPHS, RERENDERINGS
from tests.benchmarks.measures import Prediction, rank
from tests.benchmarks.results import Options, Result, Table, progress, share
from tests.benchmarks.workload import NEGATIVES, Query, encoded, halve, queries_of, works_of

WHOLE_GROUPS = (LIGHT, MEDIUM, HEAVY, RERENDERINGS)
PART_GROUPS = (CROPS, PARTS)
OURS, NORMALISED, UNTRAINED = "clip:bundled", "clip:bundled, normalised", "the same tower, untrained"
ON_DISK = ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/openai", "ViT-L-14/openai")
"""open_clip towers that take part where the Hugging Face cache holds them."""

TOP = 10
BATCH = 64

Rows = NDArray[Any]


@dataclass
class System:
    """A way to describe pictures, and what it said of the queries.

    Attributes:
        name: As in tables.
        descriptor: What describes.
        background: Taken off the similarities, where given.
        like: A system before this one with the same rows, which are not made twice.
        references: One row a reference: signs for bit strings, so that a product ranks by Hamming distance.
        whole: Best similarity to each reference, whole query and mirrored, query by query.
        windows: The same with the windows of the query, where `_with_windows`; else as `whole`.
        rows: Of the last batch: whole query and mirrored.
        parts: Of the last batch: the windows, and those mirrored.
    """

    name: str
    descriptor: Descriptor
    background: Background | None = None
    like: System | None = None
    references: Rows = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    whole: list[Rows] = field(default_factory=list)
    windows: list[Rows] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    parts: list[Rows] = field(default_factory=list)


def run(options: Options) -> Result:
    """Measure."""
    works = works_of(options.data)
    halves = halve(works, seed=options.seed)
    result = Result("embedding", pictures=len(works))
    positives, unrelated = (2 * len(EDITS), 60) if options.quick else (40 * len(EDITS), 800)
    systems = _systems(options)
    names = [work.path.name for work in halves.references]
    originals = [read_image(work.path) for work in halves.references]
    for system in systems:
        progress(f"embedding: references with {system.name}")
        system.references = (
            system.like.references
            if system.like is not None
            else np.concatenate([_signed(system, rows) for rows in _described(system, originals)])
        )
    queries: list[Query] = []
    progress(f"embedding: {positives} edits, {unrelated} unrelated")
    made = queries_of(halves, positives=positives, unrelated=unrelated, seed=options.seed)
    for batch in _batches(made):
        pictures = [read_image(encoded(image), locator=query.name) for query, image in batch]
        queries += [query for query, _ in batch]
        for system in systems:
            _search(system, pictures, [query for query, _ in batch])
        if len(queries) % (8 * BATCH) == 0:
            progress(f"embedding: {len(queries)} queries")
    _ranking(result, systems, queries, names, options)
    _recalls(result, systems, queries, names)
    describing.speed(result, options)
    return result


def _systems(options: Options) -> list[System]:
    untrained = _untrained(options.scratch("embedding") / "untrained")
    systems = [
        System("pHash", create("phash")),
        System("PDQ", create("pdq")),
        System(UNTRAINED, create(f"clip:local-dir:{untrained}")),
        ours := System(OURS, create(OURS)),
        System(NORMALISED, ours.descriptor, read_background(BUNDLED / BACKGROUND), ours),
    ]
    for name in ON_DISK:
        if _cached(name):
            systems.append(System(name, create(f"clip:{name}")))
    return systems


def _untrained(folder: Path) -> Path:
    """Write the bundled tower's shape with random weights."""
    import torch

    from detector.training.tower import Tower, save_tower

    torch.manual_seed(0)
    save_tower(Tower(json.loads((BUNDLED / "open_clip_config.json").read_text(encoding="utf-8"))), folder)
    return folder


def _cached(name: str) -> bool:
    """Whether the Hugging Face cache holds an open_clip tower's weights."""
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    hub = (open_clip.get_pretrained_cfg(*name.split("/")) or {}).get("hf_hub", "").rstrip("/")
    return bool(hub) and isinstance(try_to_load_from_cache(hub, "open_clip_model.safetensors"), str)


def _batches(made: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for one in made:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _described(system: System, pictures: Sequence[Picture], *, mirrored: bool = False) -> list[Rows]:
    describe = system.descriptor.describe_mirrored if mirrored else system.descriptor.describe
    width = system.descriptor.spec.width
    empty = np.zeros((1, width), np.uint8)  # a picture too plain for PDQ
    return [rows if len(rows) else empty for rows in describe(pictures)]


def _signed(system: System, rows: Rows) -> Rows:
    if system.descriptor.spec.kind is Kind.BITS:
        bits = np.unpackbits(rows, axis=1).astype(np.float32) * 2 - 1
        return bits / np.float32(bits.shape[1]) ** 0.5
    return rows


def _with_windows(query: Query) -> bool:
    """Parts are looked for with windows, and so every second picture without a reference too."""
    return query.group in (*PART_GROUPS, PHOTOGRAPHS) or (
        query.group in NEGATIVES and query.name[-5] in "02468"
    )


def _search(system: System, pictures: Sequence[Picture], queries: Sequence[Query]) -> None:
    if system.like is None:
        system.rows = _both_ways(system, pictures)
        searched = [n for n, query in enumerate(queries) if _with_windows(query)]
        cut = [windows_of(pictures[n]) for n in searched]
        rows = iter(_both_ways(system, [part for parts in cut for part in parts]))
        system.parts = [np.zeros((0, system.rows[0].shape[1]), np.float32)] * len(pictures)
        for number, parts in zip(searched, cut, strict=True):
            system.parts[number] = np.concatenate([next(rows) for _ in parts])
    else:
        system.rows, system.parts = system.like.rows, system.like.parts
    for whole, parts_of_it in zip(system.rows, system.parts, strict=True):
        best = _best(system, whole)
        system.whole.append(best)
        system.windows.append(np.maximum(best, _best(system, parts_of_it)) if len(parts_of_it) else best)


def _both_ways(system: System, pictures: Sequence[Picture]) -> list[Rows]:
    """Rows of each picture and of its mirror image, float32, (2, width) each."""
    if not pictures:
        return []
    ways = [_described(system, pictures, mirrored=mirrored) for mirrored in (False, True)]
    return [_signed(system, np.concatenate(both)) for both in zip(*ways, strict=True)]


def _best(system: System, rows: Rows) -> Rows:
    similarities = rows @ system.references.T
    if system.background is not None:
        similarities = similarities - system.background.nearness(rows)[:, None]
    best: Rows = similarities.max(axis=0)
    return best


def _predictions(
    similarities: Sequence[Rows], queries: Sequence[Query], names: Sequence[str]
) -> list[Prediction]:
    found = []
    for number, (row, query) in enumerate(zip(similarities, queries, strict=True)):
        for place in np.argsort(-row, kind="stable")[:TOP].tolist():
            found.append(Prediction(number, float(row[place]), names[place] == query.reference))
    return found


def _ranking(
    result: Result,
    systems: Sequence[System],
    queries: Sequence[Query],
    names: Sequence[str],
    options: Options,
) -> None:
    """µAP by group; whole pictures searched whole, parts with windows."""
    negatives = [n for n, query in enumerate(queries) if query.group in NEGATIVES and _with_windows(query)]
    chosen: dict[str, tuple[tuple[str, ...], Callable[[System], list[Rows]]]] = {
        "whole-picture edits": (WHOLE_GROUPS, lambda system: system.whole),
        **{group: ((group,), lambda system: system.whole) for group in WHOLE_GROUPS},
        **{group: ((group,), lambda system: system.windows) for group in (*PART_GROUPS, PHOTOGRAPHS)},
    }
    rows: list[tuple[object, ...]] = []
    average: dict[tuple[str, str], float] = {}
    for title, (groups, similarities) in chosen.items():
        positives = [n for n, query in enumerate(queries) if query.group in groups]
        for system in systems:
            predictions = _predictions(similarities(system), queries, names)
            ranked = rank(predictions, positives + negatives, positives, seed=options.seed, draws=100)
            average[title, system.name] = ranked.average
            rows.append((title, system.name, ranked.positives, *ranked.cells()))
            result.figures[f"{title} / {system.name}"] = {"µAP": ranked.average, "recall@P90": ranked.recall}
    note = f"With each group: the same {len(negatives)} pictures without a reference. 95 % bootstrap."
    columns = ("edits", "system", "n", "µAP", "recall at 90 % precision")
    result.tables.append(Table("Embeddings alone: ranking", columns, rows, note))
    whole = "whole-picture edits"
    best = max(average[whole, OURS], average[whole, NORMALISED])
    result.bar("µAP, whole-picture edits", best, least=0.88)
    result.bar("… above the better hash", best - max(average[whole, n] for n in ("pHash", "PDQ")), least=0.12)


def _recalls(
    result: Result, systems: Sequence[System], queries: Sequence[Query], names: Sequence[str]
) -> None:
    """Share of queries whose own reference is the nearest."""
    rows: list[tuple[object, ...]] = []
    found: dict[tuple[str, str], float] = {}
    kinds = {edit.name: edit.group for edit in EDITS}
    titles = [
        (group, [n for n, q in enumerate(queries) if q.group == group])
        for group in dict.fromkeys(kinds.values())
    ]
    titles += [(kind, [n for n, q in enumerate(queries) if q.kind == kind]) for kind in kinds]
    for title, numbers in titles:
        group = kinds.get(title, title)
        cells = []
        for system in systems:
            similarities = system.windows if group in (*PART_GROUPS, PHOTOGRAPHS) else system.whole
            right = sum(names[int(similarities[n].argmax())] == queries[n].reference for n in numbers)
            found[title, system.name] = right / max(len(numbers), 1)
            cells.append(share(right, len(numbers)) if title == group else f"{found[title, system.name]:.2f}")
        rows.append((title if title == group else f"– {title}", len(numbers), *cells))
    columns = ("edits", "n", *(system.name for system in systems))
    result.tables.append(Table("Embeddings alone: the right reference is the nearest", columns, rows))
    result.bar("re-renderings, recall at rank 1", found[RERENDERINGS, OURS], least=0.99)
    result.bar("pasted parts, recall at rank 1", found[PARTS, OURS], least=0.50)
