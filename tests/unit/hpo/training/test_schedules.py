"""Schedules: equal to torch's, the same in every pack, and without any work where all are constant."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.training import SEARCH, STEPS, WatchedEngine, images, linear, run_to_end
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from hpo.training.classification import Classification
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.training.schedules import Epoch, learning_rates
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.parameters import SCHEDULES, with_defaults

LR = 0.05
SETTINGS: list[dict[str, Any]] = [
    {"schedule": "constant", "warmup": 0.0},
    {"schedule": "constant", "warmup": 0.3},
    {"schedule": "step", "warmup": 0.0},
    {"schedule": "cosine", "warmup": 0.5},
    {"schedule": "cosine", "warmup": 0.0},
    {"schedule": "one-cycle"},
]
CANDIDATES = {
    key: Candidate(with_defaults({"lr": LR, **settings}), seed=key) for key, settings in enumerate(SETTINGS)
}
IN_USE = ("schedule", "warmup")


def schedulers(name: str, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    match name:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, 1.0)
        case "step":
            return lr_scheduler.MultiStepLR(optimizer, [math.ceil(steps / 2), math.ceil(steps * 3 / 4)])
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, cycle_momentum=False)


def of_torch(name: str, warmup: float, steps: int) -> list[float]:
    """Return the learning rates of torch's scheduler, with LinearLR beside it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], LR)
    scheduler = schedulers(name, optimizer, steps)
    if count := round(warmup * steps):
        linear_warmup = lr_scheduler.LinearLR(optimizer, 1 / (count + 1), total_iters=count)
        scheduler = lr_scheduler.ChainedScheduler([linear_warmup, scheduler])
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        if step < steps - 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no step of the optimizer comes before
                scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_are_those_of_torch(name: str, warmup: float, steps: int) -> None:
    warmup = 0.0 if name == "one-cycle" else warmup
    member = {"lr": LR, "schedule": name, "warmup": warmup}
    rates = learning_rates([member, {"schedule": "cosine"}], [Epoch(0, steps, 1)] * 2)
    assert rates is not None
    assert rates[:, 0, 0].tolist() == pytest.approx(of_torch(name, warmup, steps), rel=1e-9, abs=1e-15)


def test_epochs_are_parts_of_one_schedule() -> None:
    members = [{"lr": LR, "schedule": "cosine"}, {"lr": LR, "schedule": "one-cycle"}]
    whole = learning_rates(members, [Epoch(0, 12, 1)] * 2)
    parts = [learning_rates(members, [Epoch(0, 4, 3), Epoch(index, 4, 3)]) for index in range(3)]
    assert whole is not None
    for index, part in enumerate(parts):
        assert part is not None
        assert torch.equal(part[:, 1], whole[4 * index : 4 * index + 4, 1])
        assert torch.equal(part[:, 0], whole[:4, 0])


def test_constant_members_have_no_table() -> None:
    assert learning_rates([{"lr": LR}, with_defaults({"lr": 0.1})], [Epoch(0, 4, 3)] * 2) is None


class RecordingEngine(WatchedEngine):
    """Records the learning rates of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[Tensor] = []

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        self.rates.append(optimizer.settings["lr"][:, 0].clone())
        return super().step(pack, optimizer, max_norm, images, labels)


def trainer(engine: WatchedEngine, budget: Budget = SEARCH, in_use: Sequence[str] = IN_USE) -> Trainer:
    task = Task(linear, images(0), images(1, 70), Classification(10))
    return Trainer(task, Recipe(budget, 16, 5, tuple(in_use)), engine, Runtime(clock=lambda: 0.0))


def test_a_pack_trains_with_the_rate_of_each_member() -> None:
    engine = RecordingEngine()
    run_to_end(trainer(engine).start(CANDIDATES))
    total = 3 * STEPS
    rates = torch.stack(engine.rates)
    assert rates.shape == (total, len(CANDIDATES))
    for key, settings in enumerate(SETTINGS):
        expected = of_torch(settings["schedule"], settings.get("warmup", 0.0), total)
        torch.testing.assert_close(rates[:, key].double(), torch.tensor(expected).double())


def test_a_study_without_a_schedule_sets_no_rate() -> None:
    engine = RecordingEngine()
    cosine = {0: CANDIDATES[4]}
    run_to_end(trainer(engine, in_use=()).start(cosine))
    assert {rate.item() for rate in engine.rates} == {torch.tensor(LR).item()}


def losses(session: PackSession) -> dict[int, list[float]]:
    return {
        key: [result.metrics[VALIDATION_LOSS] for result in curve]
        for key, curve in run_to_end(session).items()
    }


def paused(make: Callable[[], Trainer], epochs: int) -> dict[int, list[float]]:
    """Return the curve of member 3, which leaves its pack after some epochs and resumes in another."""
    first = make().start({key: CANDIDATES[key] for key in (1, 3, 5)})
    curve = [
        result.metrics[VALIDATION_LOSS]
        for _ in range(epochs)
        for result in first.epoch()
        if result.member == 3
    ]
    states = first.states([3])
    second = make().start({0: CANDIDATES[0]})
    second.epoch()
    second.join({3: CANDIDATES[3]}, states)
    return {3: curve + losses(second)[3]}


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_member_that_pauses_and_moves_has_the_curve_of_one_that_trains_alone(epochs: int) -> None:
    def make() -> Trainer:
        return trainer(WatchedEngine())

    alone = losses(make().start({3: CANDIDATES[3]}))
    assert paused(make, epochs) == alone
    assert losses(make().start(CANDIDATES))[3] == alone[3]


def test_the_adam_phase_of_full_training_is_constant() -> None:
    phases = (Phase("sgd", 2), Phase("adam", 1, settings={"lr": 1e-3}))
    engine = RecordingEngine()
    run_to_end(trainer(engine, Budget("full", phases, "last")).start({0: CANDIDATES[4]}))
    rates = [rate.item() for rate in engine.rates]
    assert rates[: 2 * STEPS] == pytest.approx(of_torch("cosine", 0.0, 2 * STEPS), rel=1e-6)
    assert rates[2 * STEPS :] == [1e-3] * STEPS
