"""Learning-rate schedules: the learning rate of each step of a phase, for each member of a pack."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpo.training.loops import Step
from hpo.training.weights import Tensors
from hpo.values.parameters import default_of

Schedule = Callable[[int, int], float]
"""Returns the factor of the learning rate at a step, from 0, of a phase of a number of steps."""

DECAY = 0.1
"""The factor of the schedule `step` at a half and at three quarters of the steps."""

RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 25e4
"""The defaults of torch's OneCycleLR: the share of the steps that rises, and the factors at both ends."""


def step_decay(step: int, steps: int) -> float:
    """Return the factor of torch's MultiStepLR with milestones at a half and three quarters of the steps."""
    return DECAY ** ((2 * step >= steps) + (4 * step >= 3 * steps))


def cosine(step: int, steps: int) -> float:
    """Return the factor of torch's CosineAnnealingLR, which ends at 0 (arXiv 1608.03983, equation 5)."""
    return _anneal(1.0, 0.0, step / steps)


def one_cycle(step: int, steps: int) -> float:
    """Return the factor of torch's OneCycleLR without momentum cycling (arXiv 1708.07120)."""
    peak = RISE * steps - 1
    if step <= peak:
        return _anneal(FIRST, 1.0, step / peak)
    return _anneal(1.0, LAST, (step - peak) / (steps - 1 - peak))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


SCHEDULES: Mapping[str, Schedule] = {
    "constant": lambda _step, _steps: 1.0,
    "step": step_decay,
    "cosine": cosine,
    "one-cycle": one_cycle,
}


def warm_up(step: int, steps: int, share: float) -> float:
    """Return the factor of linear warm-up in the first `share` of the steps.

    The line is 0 one step before the first, so that no step is lost. It is torch's LinearLR from 1 / (n + 1)
    over n steps.
    """
    count = round(share * steps)
    return min(1.0, (step + 1) / (count + 1))


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of a phase: its number of steps, and the numbers of the epoch, from 0, and of all epochs."""

    index: int
    steps: int
    epochs: int

    def factors(self, schedule: str, warmup: float) -> list[float]:
        """Return the factor of the learning rate at each step of the epoch."""
        steps, factor = self.steps * self.epochs, SCHEDULES[schedule]
        return [
            factor(step, steps) * warm_up(step, steps, warmup)
            for step in range(self.index * self.steps, (self.index + 1) * self.steps)
        ]


def learning_rates(members: Sequence[Mapping[str, Any]], epochs: Sequence[Epoch]) -> Tensor | None:
    """Return the learning rates of M members, each at its own epoch, `(steps, M, 1)` float64 on the CPU.

    `members` holds the hyperparameters of each. None: all are constant.
    """
    keys = [tuple(_value(member, name) for name in ("schedule", "warmup")) for member in members]
    if all(key == ("constant", 0.0) for key in keys):
        return None
    # Computed by Python's floats, one after another: the same to the bit in every pack.
    factors = {
        (key, epoch): torch.tensor(epoch.factors(*key), dtype=torch.float64)
        for key, epoch in zip(keys, epochs, strict=True)
    }
    rates = [
        _value(member, "lr") * factors[key, epoch]
        for member, key, epoch in zip(members, keys, epochs, strict=True)
    ]
    return torch.stack(rates, dim=1)[:, :, None]


def _value(member: Mapping[str, Any], name: str) -> Any:
    return member[name] if name in member else default_of(name)


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A step that first sets the learning rates of the members.

    They are written in place: compiled programs and CUDA graphs hold the memory of the optimizer's settings.
    """

    step: Step
    settings: Tensors
    rates: Iterator[Tensor]

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        self.settings["lr"].copy_(next(self.rates))
        return self.step(images, labels)
