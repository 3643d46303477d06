"""The figures of an audit, as frozen values that convert to plain JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from detector.audit.statistics import Auc, Rate, Trend


class AuditVerdict(str, Enum):
    """What is said of a work, and of a model."""

    MEMORISED = "memorised"
    AS_UNSEEN = "no more than for unseen works"
    FEW_CONTROLS = "not enough controls"


@dataclass(frozen=True)
class WorkExtraction:
    """What came of one caption.

    Attributes:
        name: Of the work.
        copies: How often the model saw it; 0 for a control.
        control: The model never saw it.
        generations: Pictures generated from its caption.
        extracted: Of those, how many replicate the work itself (level 3 or more); None: it is not in the index.
        any: How many replicate any reference.
        level: Highest level against the work itself, or None.
        group: Size of the largest group of near-identical pictures; None where groups were not looked for.
    """

    name: str
    copies: int
    control: bool
    generations: int
    extracted: int | None
    any: int
    level: int | None
    group: int | None


@dataclass(frozen=True)
class CopiesRow:
    """Works that the model saw equally often.

    Attributes:
        label: ``controls``, ``×64``, or with many numbers of copies ``×8–15``.
        copies: Mean number of copies of a work in this row.
        control: They are the controls.
        works: Works of which at least one generation replicates the work itself.
        generations: Generations that do.
        any: Generations that replicate any reference.
        groups: Works with a group of near-identical generations.
    """

    label: str
    copies: float
    control: bool
    works: Rate
    generations: Rate
    any: Rate
    groups: Rate | None


@dataclass(frozen=True)
class Extraction:
    """What came of all captions.

    Attributes:
        works: One by one.
        rows: By copies, controls first.
        trend: Of the share extracted over the copies, over works; None where that cannot be said.
        searched: The generations were searched in an index.
        group_size: Near-identical pictures that count as a group; None where groups were not looked for.
    """

    works: tuple[WorkExtraction, ...]
    rows: tuple[CopiesRow, ...]
    trend: Trend | None
    searched: bool
    group_size: int | None


@dataclass(frozen=True)
class StrengthRow:
    """Reconstructions at one strength.

    Attributes:
        strength: Share of the noise.
        members: 25 %, 50 %, 75 % of the members' similarity, see `likeness.tiled_correlation`.
        controls: The same of the controls; empty without any.
        auc: Members against controls by what is kept: similarity less that of the same work at the lowest strength.
            None without controls, and at the lowest of several strengths.
        by_copies: The same for the members of each row of copies, by its label.
        similarity_auc: Members against controls by similarity as it is.
        similarity_by_copies: The same for the members of each row of copies.
        l2_auc: The same by the L2 distance of the worst tile.
        cosine_auc: Members against controls by the neural descriptor's cosine.
    """

    strength: float
    members: tuple[float, ...]
    controls: tuple[float, ...]
    auc: Auc | None
    by_copies: dict[str, Auc]
    similarity_auc: Auc | None
    similarity_by_copies: dict[str, Auc]
    l2_auc: Auc | None
    cosine_auc: Auc | None


@dataclass(frozen=True)
class WorkSignal:
    """One work beside the controls.

    Attributes:
        name: Of the work.
        label: Its row of copies.
        control: It is a control.
        value: Of img2img: what is kept (see `StrengthRow`), mean over the ladder; of prompts: the magnitude.
        p_value: Share of controls that reach it; None for controls, and without any.
        adjusted: The same, adjusted for the number of works with as many copies.
        verdict: What follows; None for controls.
    """

    name: str
    label: str
    control: bool
    value: float
    p_value: float | None = None
    adjusted: float | None = None
    verdict: AuditVerdict | None = None


@dataclass(frozen=True)
class Signals:
    """One measure of all works, members beside controls.

    Attributes:
        works: One by one.
        auc: All members against the controls; None without controls.
        by_copies: The same for the members of each row of copies.
        controls: How many there are.
        needed: How many it takes for a work that beats all of them to count, among as many as were compared.
    """

    works: tuple[WorkSignal, ...]
    auc: Auc | None
    by_copies: dict[str, Auc]
    controls: int
    needed: int


@dataclass(frozen=True)
class Figures:
    """What was measured on one variant of a model.

    Attributes:
        extraction: From captions; None where nothing was generated from them.
        ladder: Of reconstructions, by strength.
        reconstruction: The mean over the ladder, work by work; None without img2img.
        prompts: The captions' signal; None where it was not measured.
        memorised: Names of the works that are, with the parts that say so.
        verdict: On the whole.
    """

    extraction: Extraction | None
    ladder: tuple[StrengthRow, ...]
    reconstruction: Signals | None
    prompts: Signals | None
    memorised: dict[str, tuple[str, ...]]
    verdict: AuditVerdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    """Return JSON values: enums by their words, tuples as lists."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
