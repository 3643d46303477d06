"""The training itself: steps, checkpoints, the log, and the check on pictures that it never sees."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from detector.reports.atomic import replacing
from detector.training.autoencoder import Autoencoder
from detector.training.draws import Draws
from detector.training.edits import Editor
from detector.training.log import Check, read_log, write_log
from detector.training.objective import ENTROPY, TEMPERATURE, UNIQUE, Memory, contrastive, entropy, labels
from detector.training.options import RATE_FROM_NOTHING, TrainOptions
from detector.training.pictures import TrainingSet
from detector.training.procedural import procedural
from detector.training.tower import Tower
from index.errors import WeightsError

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"

WARM_UP = 0.03
"""Share of the training in which the learning rate rises."""

LEAST_RATE = 0.02
"""Share of the learning rate that is left at the end of the cosine."""

LARGE_FROM = 0.6
"""Share of the training done on small views; the rest is on views of the tower's own side."""

SMALL = 0.75
"""Side of the small views as a share of the tower's."""

MEMORY_FROM = 0.15
"""Share of the training after which past references are negatives: before, rows move too fast to be compared
with old ones, and the cheapest way to lower the loss is to move on."""

SECOND_VIEWS = 2
"""Edited views of each work a step, beside the reference."""

AUTOENCODER_STEPS = 400
AUTOENCODER_RATE = 2e-3

CHECKED = 256
"""Most pictures held out, to measure on."""

CHECK_BATCH = 128

CHECK_SEED = 2**31
"""Step whose draws make the edits of the held-out pictures: the same at every check."""


@dataclass
class _State:
    step: int = 0
    views: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a tower on pictures, resuming from the checkpoint in its folder where there is one.

    Args:
        tower: The network, freshly made or trained before.
        pictures: What to train on; some are held out.
        overlays: From `overlays.overlays`.
        options: Length, rates, seed, device.
        folder: Where checkpoint and log go.
    """

    def __init__(
        self, tower: Tower, pictures: TrainingSet, *, overlays: Tensor, options: TrainOptions, folder: Path
    ) -> None:
        self.device = torch.device(options.device)
        self.options, self.folder = options, folder
        self.state = _State()
        order = Draws(options.seed, 0, torch.device("cpu")).order(len(pictures))
        held = min(CHECKED, len(pictures) // 10)
        self.held_out = pictures.pixels[order[:held]].to(self.device)
        self.pixels = pictures.pixels[order[held:]].to(self.device)
        self.groups = pictures.groups[order[held:]].to(self.device)
        self.tower = tower.to(self.device)
        self.average = AveragedModel(tower, avg_fn=_averaging(options.averaging), use_buffers=True)
        self.autoencoder = Autoencoder().to(self.device)
        self.editor = Editor(overlays.to(self.device), self.autoencoder)
        decayed = [p for p in tower.parameters() if p.ndim > 1]
        plain = [p for p in tower.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": options.decay}, {"params": plain, "weight_decay": 0.0}]
        self._top_rate = options.rate or RATE_FROM_NOTHING
        self.optimizer = torch.optim.AdamW(groups, lr=self._top_rate)
        width = tower.config["model_cfg"]["embed_dim"]
        empty = torch.zeros(options.memory, width, device=self.device)
        self.memory = Memory(empty, torch.full((options.memory,), UNIQUE, device=self.device))
        self._sums: list[tuple[float, float]] = []
        self._half = False
        self._resume()

    # --- the course of it

    def run(
        self,
        on_check: Callable[[Check], None] | None = None,
        on_step: Callable[[float, float], None] | None = None,
    ) -> list[Check]:
        """Train until the time or the steps are over.

        Args:
            on_check: Called at each check.
            on_step: Called after each step with the share done, 0–1, and the step's loss.

        Returns:
            Every check since the training began.
        """
        checks = read_log(self.folder / LOG)
        checks = [check for check in checks if check.step <= self.state.step]
        write_log(self.folder / LOG, checks)
        if self.state.step == 0:
            self._train_autoencoder()
        self._half = self._halves_time()
        if not checks:
            checks.append(self._check())
            write_log(self.folder / LOG, checks)
        saved = checked = time.monotonic()
        while self.share < 1.0:
            begun = time.monotonic()
            loss = self._step()
            self.state.seconds += time.monotonic() - begun
            if on_step is not None:
                on_step(self.share, loss)
            now = time.monotonic()
            if now - checked > self.options.check_s or self.share >= 1.0:
                checks.append(self._check())
                write_log(self.folder / LOG, checks)
                if on_check is not None:
                    on_check(checks[-1])
                checked = time.monotonic()
            if now - saved > self.options.save_s or self.share >= 1.0:
                self.save()
                saved = time.monotonic()
        return checks

    @property
    def share(self) -> float:
        """How much of the training is done, 0–1."""
        if self.options.steps is not None:
            return min(1.0, self.state.step / self.options.steps)
        return min(1.0, self.state.seconds / (self.options.minutes * 60))

    @property
    def side(self) -> int:
        """Side of the views at this moment."""
        if self.share >= LARGE_FROM:
            return self.tower.side
        return round(self.tower.side * SMALL / 32) * 32

    def _rate(self) -> float:
        done = self.share
        if done < WARM_UP:
            return self._top_rate * (done + 1e-3) / WARM_UP
        wave = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
        return self._top_rate * (LEAST_RATE + (1 - LEAST_RATE) * wave)

    def _batch(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Pictures float32 (N, 3, SIDE, SIDE), some of them procedural, and their groups."""
        invented = round(self.options.batch * self.options.procedural)
        taken = min(self.options.batch - invented, len(self.pixels))
        steps_an_epoch = max(1, len(self.pixels) // taken)
        epoch, place = divmod(self.state.step, steps_an_epoch)
        order = Draws(self.options.seed + 1, epoch, torch.device("cpu")).order(len(self.pixels))
        chosen = order[place * taken : (place + 1) * taken].to(self.device)
        pictures = self.pixels[chosen].float() / 255
        # A picture's own number is its group where it has no near-duplicate: past references of it are no negatives.
        groups = torch.where(
            self.groups[chosen] == UNIQUE, chosen + len(self.pixels) + 2**20, self.groups[chosen]
        )
        if invented:
            pictures = torch.cat([pictures, procedural(draws, invented, pictures.shape[-1])])
            groups = torch.cat([groups, torch.full((invented,), UNIQUE, device=self.device)])
        return pictures, groups

    def _step(self) -> float:
        draws = Draws(self.options.seed, self.state.step + 1, self.device)
        with torch.no_grad():
            pictures, groups = self._batch(draws)
            works = self.editor.works(draws, len(pictures))
            size = self.side
            references = self.editor.references(draws, pictures, works, size)
            edited = [self.editor.edited(draws, pictures, works, size) for _ in range(SECOND_VIEWS)]
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.tower.train()
        with self._precision():
            rows = self.tower(torch.cat([references, *(views.images for views in edited)]))
        whole, *parts = F.normalize(rows.float()).view(1 + SECOND_VIEWS, len(pictures), -1)
        known = self.memory.filled if self.share >= MEMORY_FROM else 0
        past, past_groups = self.memory.rows[:known], self.memory.groups[:known]
        terms = []
        for rows_of_views, views in zip(parts, edited, strict=True):
            target = labels(len(pictures), views.hosts, views.host_shares)
            terms.append(
                contrastive(rows_of_views, whole, target, groups=groups, past=past, past_groups=past_groups)
            )
        loss = torch.stack(terms).mean()
        spread = entropy(whole, groups)
        total = loss + ENTROPY * min(1.0, self.share / 0.1) * spread
        if not bool(torch.isfinite(total)):
            raise WeightsError(
                "training", f"the loss is {float(total)} at step {self.state.step}; lower --rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.tower.parameters(), 5.0)
        self.optimizer.step()
        self.average.update_parameters(self.tower)
        self.memory.add(whole, groups)
        self.state.step += 1
        self.state.views += len(pictures) * (1 + SECOND_VIEWS)
        self._sums.append((float(loss.detach()), float(spread.detach())))
        return self._sums[-1][0]

    @contextmanager
    def _precision(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            yield

    def _halves_time(self) -> bool:
        """Whether bfloat16 is the faster precision here: measured, as it depends on the processor."""
        batch = torch.rand(64, 3, self.tower.side, self.tower.side, device=self.device)
        took = []
        self.tower.eval()
        for half in (False, True):
            self._half = half
            best = math.inf
            for _ in range(3):
                begun = time.monotonic()
                with self._precision():
                    float(self.tower(batch).detach().float().square().mean())
                best = min(best, time.monotonic() - begun)
            took.append(best)
        return took[1] < took[0]

    def _train_autoencoder(self) -> None:
        optimizer = torch.optim.AdamW(self.autoencoder.parameters(), AUTOENCODER_RATE)
        steps = (
            AUTOENCODER_STEPS if self.options.steps is None else min(AUTOENCODER_STEPS, self.options.steps)
        )
        budget = time.monotonic() + self.options.minutes * 60 * 0.05
        for step in range(steps):
            draws = Draws(self.options.seed + 2, step, self.device)
            chosen = draws.uniform(32, 0, len(self.pixels)).long()
            small = F.interpolate(
                self.pixels[chosen].float() / 255, (96, 96), mode="bilinear", antialias=True
            )
            with self._precision():
                back = self.autoencoder(small, draws.normal((1, 1, 1, 1)) * 0.05)
            loss = (back.float() - small).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if time.monotonic() > budget:
                break
        self.autoencoder.requires_grad_(False).eval()

    # --- checks

    @torch.no_grad()
    def rows(self, pictures: Tensor, tower: torch.nn.Module | None = None) -> Tensor:
        """Return the averaged tower's rows for pictures (N, 3, S, S), 0–1, not of unit length."""
        model = (tower or self.average).eval()
        return torch.cat([model(part) for part in torch.split(pictures, CHECK_BATCH)])

    def held_out_views(self) -> tuple[Tensor, Tensor]:
        """Return held-out references and three edited views of each, in turns: (N, …), (3 N, …)."""
        draws = Draws(self.options.seed, CHECK_SEED, self.device)
        pictures = self.held_out.float() / 255
        works = torch.eye(3, device=self.device).expand(len(pictures), 3, 3)
        size = self.tower.side
        whole = self.editor.references(draws, pictures, works, size)
        return whole, torch.cat([self.editor.edited(draws, pictures, works, size).images for _ in range(3)])

    def _check(self) -> Check:
        references, queries = self.held_out_views()
        seen, known = self.rows(queries), self.rows(references)
        recall, precision = retrieval(seen, known)
        named = F.normalize(seen) @ F.normalize(known).T / TEMPERATURE
        truth = torch.arange(len(known), device=self.device).repeat(len(seen) // len(known))
        missed = float(F.cross_entropy(named, truth))
        losses, spreads = [loss for loss, _ in self._sums], [spread for _, spread in self._sums]
        self._sums.clear()
        loss, spread = (sum(values) / len(values) if values else math.nan for values in (losses, spreads))
        state = self.state
        return Check(
            state.step, state.views, round(state.seconds, 1), loss, spread, recall, precision, missed
        )

    # --- what outlives a run

    def save(self) -> None:
        """Write the checkpoint in place of the last one."""
        tensors: dict[str, Tensor] = {"memory.rows": self.memory.rows, "memory.groups": self.memory.groups}
        parts = {"tower": self.tower, "average": self.average, "autoencoder": self.autoencoder}
        for part, module in parts.items():
            tensors |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
        facts = asdict(self.state) | {"place": self.memory.place, "filled": self.memory.filled}
        facts |= {"format_version": 1, "options": self.options.identity(), "config": self.tower.config}
        copies = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        with replacing(self.folder / CHECKPOINT) as file:
            file.write(save(copies, metadata={"facts": json.dumps(facts)}))

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt", device=str(self.device)) as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except Exception as error:  # OSError, safetensors' own and JSON's share no base class
            raise WeightsError(
                str(path), f"is damaged ({error}). Remove it, or name another --out"
            ) from error
        if facts["options"] != self.options.identity() or facts["config"] != self.tower.config:
            raise WeightsError(
                str(path), "was written with other options. Repeat them, or name another --out"
            )

        def part(prefix: str) -> dict[str, Any]:
            return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

        self.tower.load_state_dict(part("tower."), strict=False)
        self.average.load_state_dict(part("average."), strict=False)
        self.autoencoder.load_state_dict(part("autoencoder."))
        self.autoencoder.requires_grad_(False).eval()
        whole = self.optimizer.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            number, _, what = name.partition(".")
            state.setdefault(int(number), {})[what] = value
        self.optimizer.load_state_dict(whole | {"state": state})
        self.memory = Memory(
            part("memory.")["rows"], part("memory.")["groups"], facts["place"], facts["filled"]
        )
        self.state = _State(facts["step"], facts["views"], facts["seconds"])


def _averaging(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return a running average that forgets the first steps soon: their weights are next to random."""

    def average(so_far: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        steps = float(count)
        if not so_far.is_floating_point():
            return now
        return torch.lerp(so_far, now, 1.0 - min(decay, (1 + steps) / (10 + steps)))

    return average


def retrieval(queries: Tensor, references: Tensor) -> tuple[float, float]:
    """Return recall at rank 1 and µAP of queries (m N, width) among references (N, width), in the same order."""
    similarity = F.normalize(queries) @ F.normalize(references).T
    best, found = similarity.max(dim=1)
    right = found == torch.arange(len(references), device=found.device).repeat(
        len(queries) // len(references)
    )
    ranked = right[best.argsort(descending=True)].double()
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1, device=ranked.device)
    return float(right.double().mean()), float((precision * ranked).sum() / len(ranked))
