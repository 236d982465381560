"""Small trainings: images, networks, candidates, and engines that record or fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from hpo import models
from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import AsyncEvaluator
from hpo.training.classification import Classification
from hpo.training.engines.base import Engine
from hpo.training.engines.eager import EagerEngine
from hpo.training.metrics import Scores
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.epoch import EpochResult
from support.candidates import candidate

GOOD = candidate(lr=0.05, momentum=0.9, weight_decay=0.0, seed=1)
SLOW = candidate(lr=0.001, momentum=0.0, weight_decay=0.0, seed=2)
DIVERGING = candidate(lr=3e38, momentum=0.9, weight_decay=0.0, seed=3)
SEARCH = Budget("mini", (Phase("sgd", 3),), keep="last")
FULL = Budget(
    "full",
    (
        Phase("sgd", 4, patience=2, clip=1.0, augmentation=Augmentation(10, 0.1, (0.9, 1.1), 3)),
        Phase("adam", 3, patience=2, clip=1.0, settings={"lr": 1e-3}),
    ),
    "best",
)
AVERAGED = replace(FULL, phases=tuple(replace(phase, ema=0.9) for phase in FULL.phases))
STEPS = 7
"""Steps of an epoch: batches of 16 of 100 images."""


def images(seed: int, count: int = 100, dtype: torch.dtype = torch.float32) -> DeviceImages:
    """Return images of ten classes, which differ in brightness and in the place of a bright column."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=count)
    pixels = rng.integers(40, size=(count, 28, 28)) + 10 * labels[:, None, None]
    pixels[np.arange(count), :, 2 * labels + 3] = 255
    return DeviceImages.from_labelled(Labelled(pixels.astype(np.uint8), labels), "cpu", (0.3,), (0.3,), dtype)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10), nn.BatchNorm1d(10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 10),
    )


def lenet() -> nn.Module:
    return models.build("lenet", 10)


def small_trainer(
    budget: Budget,
    factory: Callable[[], nn.Module] = linear,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float32,
    engine: Engine | None = None,
) -> Trainer:
    """Return a trainer on 100 training and 70 validation images, for which no time passes."""
    task = Task(factory, images(0, 100, dtype), images(1, 70, dtype), Classification(10))
    recipe = Recipe(budget, batch_size, seed=5)
    return Trainer(task, recipe, engine or EagerEngine(), Runtime(clock=lambda: 0.0))


def with_evaluator(trainer: Trainer, evaluator: AsyncEvaluator | None) -> Trainer:
    return Trainer(
        trainer.task, trainer.recipe, trainer.engine, Runtime(trainer.runtime.clock, evaluator=evaluator)
    )


def run_to_end(session: PackSession) -> dict[int, list[EpochResult]]:
    """Return the results of all remaining epochs by member."""
    results: dict[int, list[EpochResult]] = {key: [] for key in session.members}
    while session.members:
        for result in session.epoch():
            results[result.member].append(result)
    return results


@dataclass
class WatchedEngine(EagerEngine):
    """An eager engine that records its steps, and raises KeyboardInterrupt when told so.

    `widths`: the members of the pack in each step. `labels`: the labels of each step's batch. `failing_step`
    and `failing_score`: how many more calls succeed before one raises; None means all.
    """

    evaluation_batch: int = EagerEngine.evaluation_batch
    failing_step: int | None = None
    failing_score: int | None = None
    widths: list[int] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        self.failing_step = _count_down(self.failing_step)
        self.widths.append(len(pack))
        self.labels.append(labels)
        return super().step(pack, optimizer, max_norm, images, labels)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> Scores:
        self.failing_score = _count_down(self.failing_score)
        return super().score(pack, images, labels)

    def recover(self) -> None:
        """Let all further calls succeed."""
        self.failing_step = self.failing_score = None


def _count_down(calls: int | None) -> int | None:
    if calls == 0:
        raise KeyboardInterrupt
    return None if calls is None else calls - 1
