"""From the items of an audit to its figures and verdicts. Pure functions over the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from detector.audit.figures import (
    AuditVerdict,
    CopiesRow,
    Extraction,
    Figures,
    Signals,
    StrengthRow,
    WorkExtraction,
    WorkSignal,
)
from detector.audit.groups import near_identical
from detector.audit.likeness import tiled_distances
from detector.audit.log import Item
from detector.audit.options import AuditOptions
from detector.audit.statistics import (
    SIGNIFICANT,
    Auc,
    adjusted,
    auc,
    controls_needed,
    rank_p_value,
    rate,
    trend,
)
from detector.audit.works import Work

EXTRACTED = 3
"""Level from which a generation replicates a work; `detector scan` counts from there, too."""

MAX_COPY_GROUPS = 8
"""Numbers of copies that a table lists one by one; more are put together by powers of two."""


def figures_of(
    items: Mapping[str, Item], works: Sequence[Work], options: AuditOptions, *, folder: Path, groups: bool
) -> Figures:
    """Return the figures of one variant.

    Args:
        items: Of that variant, by their names without it.
        works: Members and controls.
        options: Of the audit.
        folder: In which the generations lie.
        groups: Look for groups of near-identical generations.
    """
    labels = labels_of(works)
    kinds: dict[str, list[Item]] = defaultdict(list)
    for name, item in items.items():
        kinds[name.split("/")[0].split("-")[0]].append(item)
    extraction = _extraction(kinds["txt2img"], works, options, folder=folder, groups=groups)
    ladder = _ladder(kinds["img2img"], works, labels)
    magnitudes = _means(kinds["prompts"], lambda item: float(item["magnitude"]))
    reconstruction = _signals(_mean_kept(kinds["img2img"]), works, labels)
    prompts = _signals(magnitudes, works, labels)
    memorised = _memorised(extraction, reconstruction)
    controls = sum(work.control for work in works)
    if memorised:
        verdict = AuditVerdict.MEMORISED
    else:
        few = controls < controls_needed(1, at=1)
        few = few or (
            reconstruction is not None
            and any(work.verdict is AuditVerdict.FEW_CONTROLS for work in reconstruction.works)
        )
        verdict = AuditVerdict.FEW_CONTROLS if few else AuditVerdict.AS_UNSEEN
    return Figures(extraction, ladder, reconstruction, prompts, memorised, verdict)


def labels_of(works: Sequence[Work]) -> dict[str, str]:
    """Return each work's row of copies: ``controls``, ``×64``; with many numbers of copies, ``×8–15``."""
    numbers = sorted({work.copies for work in works if not work.control})
    if len(numbers) <= MAX_COPY_GROUPS:
        spans = {number: (number, number) for number in numbers}
    else:
        spans = {}
        for number in numbers:
            low = 1 << max(number.bit_length() - 1, 0)
            spans[number] = (low, 2 * low - 1) if number else (0, 0)
    written = {n: f"×{low}" if low == high else f"×{low}–{high}" for n, (low, high) in spans.items()}
    return {work.name: "controls" if work.control else written[work.copies] for work in works}


def _extraction(
    items: Sequence[Item], works: Sequence[Work], options: AuditOptions, *, folder: Path, groups: bool
) -> Extraction | None:
    if not items:
        return None
    by_work: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_work[item["work"]].append(item)
    found = []
    for work in works:
        own = by_work.get(work.name)
        if not own:
            continue
        levels = [item["own"] for item in own if item.get("own") is not None]
        found.append(
            WorkExtraction(
                work.name,
                work.copies,
                work.control,
                generations=len(own),
                extracted=sum(level >= EXTRACTED for level in levels) if levels else None,
                any=sum(item.get("any", 0) >= EXTRACTED for item in own),
                level=max(levels, default=None),
                group=_group(own, folder, options.max_distance) if groups else None,
            )
        )
    searched = any("any" in item for item in items)
    rows = _rows(found, labels_of(works), options.group_size if groups else None)
    members = [w for w in found if not w.control and w.extracted is not None]
    rises = trend([w.copies for w in members], [(w.extracted or 0) / w.generations for w in members])
    return Extraction(tuple(found), rows, rises, searched, options.group_size if groups else None)


def _group(items: Sequence[Item], folder: Path, max_distance: float) -> int:
    """Return the size of the largest group of near-identical pictures; blank ones do not count."""
    pictures = []
    for item in items:
        if item["detail"]:
            with Image.open(folder / item["file"]) as image:
                pictures.append(np.asarray(image.convert("RGB"), np.uint8))
    if not pictures:
        return 0
    return len(near_identical(tiled_distances(pictures), max_distance=max_distance))


def _rows(
    works: Sequence[WorkExtraction], labels: Mapping[str, str], group_size: int | None
) -> tuple[CopiesRow, ...]:
    by_label: dict[str, list[WorkExtraction]] = defaultdict(list)
    for work in sorted(works, key=lambda w: (not w.control, w.copies)):
        by_label[labels[work.name]].append(work)
    rows = []
    for label, same in by_label.items():
        known = [work for work in same if work.extracted is not None]
        generations = sum(work.generations for work in same)
        groups = None
        if group_size is not None:
            groups = rate(sum((work.group or 0) >= group_size for work in same), len(same))
        rows.append(
            CopiesRow(
                label,
                sum(work.copies for work in same) / len(same),
                same[0].control,
                works=rate(sum(bool(work.extracted) for work in known), len(known)),
                generations=rate(
                    sum(work.extracted or 0 for work in known), sum(work.generations for work in known)
                ),
                any=rate(sum(work.any for work in same), generations),
                groups=groups,
            )
        )
    return tuple(rows)


def _means(items: Iterable[Item], value_of: Callable[[Item], float]) -> dict[str, float]:
    """Return the mean of a value over each work's items."""
    values: dict[str, list[float]] = defaultdict(list)
    for item in items:
        values[item["work"]].append(value_of(item))
    return {name: float(np.mean(found)) for name, found in values.items()}


def _similarities(items: Sequence[Item]) -> dict[float, dict[str, float]]:
    """Return each work's similarity, the mean correlation over tiles, by strength, ascending."""
    return {
        strength: _means(
            (item for item in items if item["strength"] == strength),
            lambda item: float(item["correlation"]),
        )
        for strength in sorted({item["strength"] for item in items})
    }


def _kept(by_strength: Mapping[float, Mapping[str, float]]) -> dict[float, dict[str, float]]:
    """Return what is kept of the similarity that each work has at the lowest strength, at the higher ones.

    Pictures that suit the autoencoder come back closely from any model. Taken relative to its own
    easiest reconstruction, a work has no such advantage. With one strength alone: the similarity as it is.
    """
    lowest, *higher = by_strength
    if not higher:
        return {lowest: dict(by_strength[lowest])}
    easiest = by_strength[lowest]
    return {
        strength: {
            name: value - easiest[name] for name, value in by_strength[strength].items() if name in easiest
        }
        for strength in higher
    }


def _ladder(
    items: Sequence[Item], works: Sequence[Work], labels: Mapping[str, str]
) -> tuple[StrengthRow, ...]:
    if not items:
        return ()
    similarities = _similarities(items)
    kept = _kept(similarities)
    rows = []
    for strength, similarity in similarities.items():
        there = [item for item in items if item["strength"] == strength]
        members, controls = _split(similarity, works)
        rows.append(
            StrengthRow(
                strength,
                _quartiles(members),
                _quartiles(controls),
                auc=auc(*_split(kept[strength], works)) if strength in kept else None,
                by_copies=_aucs_by_copies(kept.get(strength, {}), works, labels),
                similarity_auc=auc(members, controls),
                similarity_by_copies=_aucs_by_copies(similarity, works, labels),
                l2_auc=auc(*_split(_means(there, lambda item: -float(item["tiled_l2"])), works)),
                cosine_auc=auc(*_split(_means(there, lambda item: float(item["cosine"])), works)),
            )
        )
    return tuple(rows)


def _mean_kept(items: Sequence[Item]) -> dict[str, float]:
    """Return what is kept of each work, mean over the ladder."""
    if not items:
        return {}
    kept = _kept(_similarities(items))
    names = dict.fromkeys(name for values in kept.values() for name in values)
    return {
        name: float(np.mean([values[name] for values in kept.values() if name in values])) for name in names
    }


def _quartiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))) if values else ()


def _split(values: Mapping[str, float], works: Sequence[Work]) -> tuple[list[float], list[float]]:
    members = [values[work.name] for work in works if not work.control and work.name in values]
    return members, [values[work.name] for work in works if work.control and work.name in values]


def _aucs_by_copies(
    values: Mapping[str, float], works: Sequence[Work], labels: Mapping[str, str]
) -> dict[str, Auc]:
    _, controls = _split(values, works)
    found = {}
    members = sorted((w for w in works if not w.control and w.name in values), key=lambda w: w.copies)
    for label in dict.fromkeys(labels[work.name] for work in members):
        result = auc([values[work.name] for work in members if labels[work.name] == label], controls)
        if result is not None:
            found[label] = result
    return found


def _signals(values: Mapping[str, float], works: Sequence[Work], labels: Mapping[str, str]) -> Signals | None:
    if not values:
        return None
    members, controls = _split(values, works)
    signals = [
        WorkSignal(work.name, labels[work.name], True, values[work.name])
        for work in works
        if work.control and work.name in values
    ]
    needed = 0
    # Works of unlike numbers of copies are compared apart: the many that were seen once would drown the few that
    # were repeated (Efron 2008, https://doi.org/10.1214/07-AOAS141).
    for label in dict.fromkeys(labels[work.name] for work in works if not work.control):
        same = [w for w in works if not w.control and labels[w.name] == label and w.name in values]
        p_values = [rank_p_value(values[work.name], controls) for work in same]
        smallest = 1 / (len(controls) + 1)
        at_best = sum(p_value <= smallest for p_value in p_values)
        enough = controls_needed(len(same), at=at_best)
        if at_best and len(controls) >= controls_needed(1, at=1):
            needed = max(needed, enough)
        for work, p_value, q_value in zip(same, p_values, adjusted(p_values), strict=True):
            few = len(controls) < controls_needed(1, at=1) or (
                p_value <= smallest and q_value > SIGNIFICANT and len(controls) < enough
            )
            verdict = AuditVerdict.FEW_CONTROLS if few else AuditVerdict.AS_UNSEEN
            if q_value <= SIGNIFICANT:
                verdict = AuditVerdict.MEMORISED
            signals.append(
                WorkSignal(
                    work.name,
                    label,
                    False,
                    values[work.name],
                    p_value if controls else None,
                    q_value if controls else None,
                    verdict,
                )
            )
    return Signals(
        tuple(signals),
        auc(members, controls),
        _aucs_by_copies(values, works, labels),
        len(controls),
        max(needed, controls_needed(1, at=1)),
    )


def _memorised(extraction: Extraction | None, reconstruction: Signals | None) -> dict[str, tuple[str, ...]]:
    """Return the members that something says are memorised, and what says so."""
    found: dict[str, list[str]] = defaultdict(list)
    if extraction is not None:
        for work in extraction.works:
            if work.extracted and not work.control:
                found[work.name].append("txt2img")
        if _groups_tell(extraction):
            for work in extraction.works:
                if not work.control and (work.group or 0) >= (extraction.group_size or 0):
                    found[work.name].append("carlini")
    for signal in reconstruction.works if reconstruction is not None else ():
        if signal.verdict is AuditVerdict.MEMORISED:
            found[signal.name].append("img2img")
    return {name: tuple(parts) for name, parts in found.items()}


def _groups_tell(extraction: Extraction) -> bool:
    """Say whether groups are told from those of captions never seen: a model may be as sure of any caption.

    One-sided Fisher's exact test; True without controls, as Carlini et al. had none.
    """
    if extraction.group_size is None:
        return False
    counts = {True: [0, 0], False: [0, 0]}
    for work in extraction.works:
        counts[work.control][(work.group or 0) < extraction.group_size] += 1
    if not sum(counts[True]):
        return True
    p_value = stats.fisher_exact([counts[False], counts[True]], alternative="greater").pvalue
    return bool(p_value <= SIGNIFICANT)
