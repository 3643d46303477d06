"""What an audit found, and in plain words what that says and what it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.audit.figures import AuditVerdict, Extraction, Figures, Signals
from detector.audit.options import AuditOptions
from detector.audit.statistics import SIGNIFICANT, Auc, Rate, Trend
from detector.audit.works import Work
from detector.reports.wording import percent, plural

FORMAT_VERSION = 1

FEW_CONTROLS = 19
"""Controls from which the rank of one work among them can be significant: 1 / (19 + 1) = 0.05."""


@dataclass(frozen=True)
class AuditReport:
    """A finished audit.

    Attributes:
        folder: Where everything lies.
        model: Name of the model as given.
        facts: What it is exactly: configs, digests, scheduler.
        index: Path, references and digest of the index; None without one.
        options: How it was audited.
        works: Members, then controls.
        variants: Figures of the model (``model``) and, where one was audited, with its adapter (``adapter``).
        guidance: Guidance scale that was used; None where the pipeline has none.
        img2img_prompts: ``captions`` or ``none``.
        skipped: Parts that could not be run, with the reason.
        left_out: Works without a readable picture, with the reason.
        run: Command line, device, versions.
    """

    folder: Path
    model: str
    facts: dict[str, Any]
    index: dict[str, Any] | None
    options: AuditOptions
    works: tuple[Work, ...]
    variants: dict[str, Figures]
    guidance: float | None
    img2img_prompts: str
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        """The figures that count: with the adapter, where one was audited."""
        return self.variants.get("adapter", self.variants["model"])

    @property
    def verdict(self) -> AuditVerdict:
        """What is said of the model on the whole."""
        return self.figures.verdict

    @property
    def memorised(self) -> tuple[str, ...]:
        """Names of the works that the model gives back."""
        return tuple(self.figures.memorised)

    @property
    def members(self) -> tuple[Work, ...]:
        """Works that the model was trained on."""
        return tuple(work for work in self.works if not work.control)

    @property
    def controls(self) -> tuple[Work, ...]:
        """Works that it never saw."""
        return tuple(work for work in self.works if work.control)

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        subject = "This model with the adapter" if "adapter" in self.variants else "This model"
        works = plural(len(self.members), "work")
        if self.verdict is AuditVerdict.MEMORISED:
            parts = list(self.figures.memorised.values())
            said = f"{subject} has memorised {len(parts)} of the {works} looked at"
            if self.figures.extraction is None or not self.figures.extraction.searched:
                return said + "."
            came = sum("txt2img" in found for found in parts)
            return f"{said}; {came or 'none'} of them came out of a caption alone."
        if self.verdict is AuditVerdict.AS_UNSEEN:
            return f"{subject} gave none of the {works} looked at back more than works that it never saw."
        have = len(self.controls)
        return (
            f"Not enough controls to say whether {subject[0].lower()}{subject[1:]} has memorised works: "
            f"there {'is' if have == 1 else 'are'} {have}, {self.needed} are needed."
        )

    @property
    def needed(self) -> int:
        """How many controls it takes for every comparison that was made."""
        signals = self.figures.reconstruction
        return max(FEW_CONTROLS, signals.needed if signals is not None else 0)

    def sentences(self, variant: str) -> list[str]:
        """Return what was measured on a variant, in words for whoever has not read a paper on it."""
        figures = self.variants[variant]
        said: list[str] = []
        if figures.extraction is not None:
            said += extraction_in_words(figures.extraction, self.options)
        if figures.reconstruction is not None:
            said += reconstruction_in_words(figures.reconstruction)
        if figures.prompts is not None:
            said += prompts_in_words(figures.prompts)
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: what ``audit.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "verdict": self.verdict.value,
            "summary": self.summary,
            "sentences": {variant: self.sentences(variant) for variant in self.variants},
            "memorised": {name: list(parts) for name, parts in self.figures.memorised.items()},
            "model": {"name": self.model, **self.facts},
            "index": self.index,
            "options": self.options.to_dict() | {"guidance": self.guidance},
            "img2img_prompts": self.img2img_prompts,
            "skipped": self.skipped,
            "left_out": self.left_out,
            "works": [work.to_dict() for work in self.works],
            "variants": {variant: figures.to_dict() for variant, figures in self.variants.items()},
            "run": self.run,
        }


def extraction_in_words(extraction: Extraction, options: AuditOptions) -> list[str]:
    """Return what came of the captions."""
    said = []
    tries = plural(options.seeds, "try", "tries")
    members = [row for row in extraction.rows if not row.control]
    controls = [row for row in extraction.rows if row.control]
    if extraction.searched:
        hits = sum(row.works.hits for row in members)
        total = sum(row.works.total for row in members)
        sentence = (
            f"Asked with their captions, {tries} each, it gave {hits} of {plural(total, 'training image')} back at "
            "least once, as a partial copy or closer"
        )
        if len(members) > 1:
            sentence += ": " + ", ".join(f"{row.label} {_share(row.works)}" for row in reversed(members))
        said.append(sentence + ".")
        if controls and controls[0].works.total:
            said.append(
                f"Of {plural(controls[0].works.total, 'work')} that it never saw, "
                f"{controls[0].works.hits or 'none'} came out of {'its' if controls[0].works.total == 1 else 'their'} "
                "own caption."
            )
        elif not controls:
            said.append("There were no works that it never saw to compare with.")
        other = sum(row.any.hits - row.generations.hits for row in extraction.rows)
        if other:
            said.append(
                f"{plural(other, 'generation')} replicated another training image than the one whose caption was given."
            )
        if extraction.trend is not None:
            said.append(trend_in_words(extraction.trend))
    if extraction.group_size is not None:
        groups = sum(row.groups.hits for row in members if row.groups)
        total = sum(row.groups.total for row in members if row.groups)
        unseen = controls[0].groups if controls else None
        among = f"; of captions it never saw, {_share(unseen)}" if unseen is not None else ""
        said.append(
            f"By Carlini et al.'s test, which needs no index, {groups} of {plural(total, 'caption')} gave "
            f"{extraction.group_size} or more near-identical pictures from different seeds{among}."
        )
    return said


def reconstruction_in_words(signals: Signals) -> list[str]:
    """Return what came of img2img."""
    if signals.auc is None:
        return [
            "Works were given in and reconstructed, but there were no works that it never saw to compare with: "
            "closeness to a picture that went in says nothing by itself."
        ]
    said = [
        "Works were covered with more and more noise and reconstructed. Those that it was trained on kept "
        f"{_more(signals.auc, 'of their likeness')} those that it never saw: in {percent(signals.auc.value)} of "
        f"all pairs of one and the other (50 % is chance; AUC {_interval(signals.auc)})."
    ]
    groups = [f"{label} {_interval(found)}" for label, found in reversed(signals.by_copies.items())]
    if len(groups) > 1:
        said.append("AUC by how often they were trained on: " + "; ".join(groups) + ".")
    verdicts = [signal.verdict for signal in signals.works if not signal.control]
    counts = [(verdicts.count(verdict), verdict.value) for verdict in AuditVerdict]
    sentence = "Work by work: " + ", ".join(f"{count} {words}" for count, words in counts if count)
    if AuditVerdict.FEW_CONTROLS in verdicts:
        sentence += f" (there are {signals.controls}, {signals.needed} would do)"
    return [*said, sentence + "."]


def prompts_in_words(signals: Signals) -> list[str]:
    """Return what the captions' signal says."""
    if signals.auc is None:
        return ["The captions' own signal was measured, but there are none it never saw to compare with."]
    groups = [f"{label} {_interval(found)}" for label, found in reversed(signals.by_copies.items())]
    more = f"; {'; '.join(groups)}" if len(groups) > 1 else ""
    return [
        "Captions it was trained with move its very first prediction "
        f"{_more(signals.auc, 'strongly')} captions it never saw: AUC {_interval(signals.auc)}{more}. "
        "This is an early sign and does not count towards the verdict."
    ]


def trend_in_words(found: Trend) -> str:
    """Return whether works came out more often, the more often they were trained on."""
    numbers = f"(Spearman's rank correlation {found.rho:.2f}, p {_p(found.p_value)}, {found.works} works)"
    if found.p_value > SIGNIFICANT:
        return f"Whether works that were trained on more often come out more often cannot be said {numbers}."
    more = "more" if found.rho > 0 else "less"
    return f"The more often a work was trained on, the {more} often it came out {numbers}."


def _more(found: Auc, what: str) -> str:
    if found.low > 0.5:
        return f"more {what} than"
    return f"less {what} than" if found.high < 0.5 else f"no more {what}, as far as can be told, than"


def _interval(found: Auc) -> str:
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _share(found: Rate | None) -> str:
    return "" if found is None else f"{found.hits} of {found.total}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
