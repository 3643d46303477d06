"""A stage of training that goes on where it was interrupted."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Course:
    """One stage of the training: its log, its checkpoint, its running average, its share of the time."""

    def __init__(
        self, name: str, out: Path, module: nn.Module, *, steps: int, rate: float, half: bool = False
    ) -> None:
        self.name, self.module, self.steps, self.rate = name, module, steps, rate
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.half = half or self.device == "cuda"
        self.checkpoint = out / f".{name}.safetensors"
        self.average = AveragedModel(module, avg_fn=self._averaged)
        self.optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=1e-4)
        self.log = out / f"{name}.csv"
        self.done = 0
        if self.checkpoint.exists():
            stored = load_file(self.checkpoint)
            self.done = int(stored.pop("done"))
            parts: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}}
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in stored.items():
                part, _, rest = key.partition("/")
                if part == "optimizer":
                    number, _, what = rest.partition("/")
                    moments.setdefault(int(number), {})[what] = value
                else:
                    parts[part][rest] = value
            module.load_state_dict(parts["module"])
            self.average.load_state_dict(parts["average"])
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
            print(f"{name}: goes on at step {self.done}")

    def run(self, loss_of: Callable[[int], Tensor]) -> None:
        """Take the steps that are left; `loss_of` gives the loss of one."""
        begun, saved, sums = time.monotonic(), time.monotonic(), [0.0, 0]
        self.module.train()
        while self.done < self.steps:
            torch.manual_seed(1000 + self.done)
            share = self.done / self.steps
            warm = min(1.0, (self.done + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = loss_of(self.done)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.average.update_parameters(self.module)
            self.done += 1
            sums = [sums[0] + float(loss.detach()), sums[1] + 1]
            if self.done % 50 == 0 or self.done == self.steps:
                self._write_log(sums[0] / sums[1], time.monotonic() - begun)
                sums = [0.0, 0]
            if time.monotonic() - saved > 120 or self.done == self.steps:
                self._save()
                saved = time.monotonic()

    def _write_log(self, loss: float, seconds: float) -> None:
        fresh = not self.log.exists()
        with self.log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(["step", "loss", "seconds"])
            writer.writerow([self.done, f"{loss:.5f}", f"{seconds:.0f}"])
        print(f"{self.name}: step {self.done} of {self.steps}, loss {loss:.4f}, {seconds:.0f} s", flush=True)

    def _save(self) -> None:
        tensors = {f"module/{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average/{key}": value for key, value in self.average.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": value for key, value in values.items()}
        tensors["done"] = torch.tensor(self.done)
        beside = self.checkpoint.with_suffix(".tmp")
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, beside)
        os.replace(beside, self.checkpoint)

    @staticmethod
    def _averaged(so_far: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        steps = float(count)
        return torch.lerp(so_far, now, 1.0 - min(0.999, (1 + steps) / (10 + steps)))
