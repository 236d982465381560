"""Packs of networks on tables and series: regression, classes, and a user's own loss and metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.candidates import candidate
from support.training import run_to_end
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.classification import Classification
from hpo.training.criterion import Criterion, OwnFunction
from hpo.training.regression import Regression
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Budget, Phase
from hpo.values.objective import OBJECTIVES, own_metric

CANDIDATES = {
    number: candidate(lr=0.03 * (number + 1), momentum=0.9, weight_decay=0.0, seed=number)
    for number in range(3)
}
FULL = Budget(
    "full",
    (Phase("sgd", 2, patience=2, clip=1.0), Phase("adam", 1, clip=1.0, settings={"lr": 1e-3})),
    "best",
)


def pinball(outputs: Tensor, targets: Tensor) -> Tensor:
    differences = targets - outputs
    return torch.maximum(0.9 * differences, -0.1 * differences)


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(outputs, targets, reduction="none")
    return (1 - torch.exp(-losses)) ** 2 * losses


def worst(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().max()


def certainty(outputs: Tensor, targets: Tensor) -> float:
    return float(outputs.softmax(1)[torch.arange(len(targets)), targets].mean())


@dataclass(frozen=True)
class Case:
    """A network, the shape of its inputs, and what it is trained for."""

    input: tuple[int, ...]
    criterion: Criterion
    network: Callable[[], nn.Module]
    metric: str

    def examples(self, seed: int, count: int, dtype: torch.dtype) -> DeviceImages:
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(count, *self.input)).astype(np.float32)
        sums = inputs.reshape(count, -1)[:, :3].cumsum(1)
        if isinstance(self.criterion, Regression):
            columns = self.criterion.target[0] if self.criterion.target else 1
            targets = sums[:, :columns].reshape(count, *self.criterion.target)
        else:
            targets = np.digitize(sums[:, 2], [-1, 1])
        labelled = Labelled(inputs, targets)
        zeros, ones = (0.0,) * labelled.channels, (1.0,) * labelled.channels
        return DeviceImages.from_labelled(labelled, "cpu", zeros, ones, dtype)

    def trainer(self, vectorised: bool, dtype: torch.dtype = torch.float32) -> Trainer:
        train, validation = self.examples(0, 70, dtype), self.examples(1, 45, dtype)
        task = Task(self.network, train, validation, self.criterion, vectorised)
        objective = OBJECTIVES.get(self.metric) or own_metric(self.metric, "minimize")
        return Trainer(task, Recipe(FULL, 16, 5, objective=objective), runtime=Runtime(clock=lambda: 0.0))


def mlp(outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, outputs)
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, 2)
    )


CASES = {
    "numbers": Case((6,), Regression(()), mlp(1), "rmse"),
    "several numbers of a series": Case((2, 9), Regression((2,)), convolutional, "r2"),
    "numbers with own functions": Case(
        (6,),
        Regression(
            (),
            own_loss=OwnFunction("model.loss", "own:q", pinball),
            own_metrics={"worst": OwnFunction("model.metrics.own", "own:w", worst)},
        ),
        mlp(1),
        "worst",
    ),
    "classes of a table": Case((6,), Classification(3), mlp(3), "accuracy"),
    "classes with own functions": Case(
        (6,),
        Classification(
            3,
            own_loss=OwnFunction("model.loss", "own:f", focal),
            own_metrics={"certainty": OwnFunction("model.metrics.own", "own:c", certainty)},
        ),
        mlp(3),
        "certainty",
    ),
}


def curves(session: PackSession) -> dict[int, list[dict[str, float]]]:
    return {key: [dict(result.metrics) for result in results] for key, results in run_to_end(session).items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_curve_is_the_same_to_the_bit_in_every_pack(case: Case) -> None:
    trainer = case.trainer(vectorised=False)
    together = curves(trainer.start(CANDIDATES))
    assert len(together[0]) == 3
    for number in CANDIDATES:
        alone = curves(trainer.start({number: CANDIDATES[number]}))
        assert alone[number] == together[number]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_vectorised_pack_computes_the_same(case: Case) -> None:
    expected = curves(case.trainer(False, torch.float64).start(CANDIDATES))
    fused = curves(case.trainer(True, torch.float64).start(CANDIDATES))
    for number, epochs in expected.items():
        for epoch, other in zip(epochs, fused[number], strict=True):
            assert other == pytest.approx(epoch, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("vectorised", [False, True])
def test_members_at_different_epochs_have_their_own_batches(case: Case, vectorised: bool) -> None:
    trainer = case.trainer(vectorised, torch.float64)
    ahead = trainer.start({0: CANDIDATES[0]})
    (first,) = ahead.epoch()
    mixed = trainer.start(CANDIDATES, ahead.states())
    results = {result.member: dict(result.metrics) for result in mixed.epoch()}
    (second,) = ahead.epoch()
    expected = {0: dict(second.metrics)}
    for number in (1, 2):
        (result,) = trainer.start({number: CANDIDATES[number]}).epoch()
        expected[number] = dict(result.metrics)
    assert first.epoch == 1
    for number, metrics in expected.items():
        assert results[number] == (pytest.approx(metrics, rel=1e-6, abs=1e-9) if vectorised else metrics)


def test_best_epoch_is_that_of_the_objective() -> None:
    for name in ("numbers", "classes with own functions"):
        case = CASES[name]
        objective = OBJECTIVES.get(case.metric) or own_metric(case.metric, "minimize")
        for results in run_to_end(case.trainer(vectorised=False).start(CANDIDATES)).values():
            costs = [objective.cost_of(result.metrics) for result in results]
            assert results[-1].kept_epoch == costs.index(min(costs)) + 1


def test_trial_whose_objective_is_not_finite_has_diverged() -> None:
    nothing = OwnFunction("model.metrics.own", "own:nothing", lambda _outputs, _targets: float("nan"))
    criterion = Regression((), own_metrics={"nothing": nothing})
    for metric, status in (("nothing", "diverged"), ("mae", "training")):
        session = Case((6,), criterion, mlp(1), metric).trainer(vectorised=False).start({0: CANDIDATES[0]})
        (result,) = session.epoch()
        assert result.status == status
