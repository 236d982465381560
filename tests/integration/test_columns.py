"""Columns in compiled programs: the same curves as operators give, with a schedule written in place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.engines import ProgramOnlyPack
from support.training import images, lenet, run_to_end

from hpo.training.classification import Classification
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.data_shape import DataShape
from hpo.values.parameters import with_defaults

pytestmark = pytest.mark.slow

LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
BUDGET = Budget("mini", (Phase("sgd", 2),), keep="last")
MEMBERS: tuple[Mapping[str, Any], ...] = (
    {"schedule": "cosine", "nesterov": True, "label_smoothing": 0.1, "clip": 0.5, "dropout": 0.1},
    {"schedule": "constant", "warmup": 0.5, "class_weights": "balanced", "clip": 2.0, "dropout": 0.5},
)
COLUMNS = tuple(sorted({name for member in MEMBERS for name in member}))


def curves(
    engine: Engine,
    members: Mapping[int, Mapping[str, Any]],
    budget: Budget = BUDGET,
    columns: tuple[str, ...] = COLUMNS,
) -> dict[int, list[float]]:
    # Each step has the 16 images of a program, and the evaluation has its 80.
    task = Task(lenet, images(0, 96), images(1, 80), Classification(10))
    trainer = Trainer(task, Recipe(budget, 16, 5, columns), engine, Runtime(clock=lambda: 0.0))
    trainer.prepare()
    session = trainer.start(
        {key: Candidate(with_defaults({"lr": 0.02, **own}), key) for key, own in members.items()}
    )
    return {
        key: [result.metrics[name] for name in ("train_loss", "validation_loss") for result in curve]
        for key, curve in run_to_end(session).items()
    }


def test_programs_train_as_operators_do_and_the_same_in_every_pack(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = curves(EagerEngine(), dict(enumerate(MEMBERS)))
    monkeypatch.setattr("hpo.training.task.Pack", ProgramOnlyPack)
    compiled = CompiledEngine(LENET, programs)
    together = curves(compiled, dict(enumerate(MEMBERS)))
    for key, own in enumerate(MEMBERS):
        assert together[key] == pytest.approx(expected[key], rel=1e-3)
        assert curves(compiled, {key: own})[key] == together[key]


def test_programs_have_the_parameters_of_a_phase_and_average_the_weights(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"schedule": "cosine", "warmup": 0.5, "nesterov": True, "label_smoothing": 0.1, "dropout": 0.1}
    own = {0: {"clip": 0.5, "class_weights": "balanced"}, 1: {"clip": 2.0, "class_weights": "none"}}
    budget = Budget("full", (Phase("sgd", 2, params=recipe, ema=0.8),), keep="best")
    expected = curves(EagerEngine(), own, budget, ("class_weights", "clip"))
    monkeypatch.setattr("hpo.training.task.Pack", ProgramOnlyPack)
    compiled = CompiledEngine(LENET, programs)
    together = curves(compiled, own, budget, ("class_weights", "clip"))
    for key in own:
        assert together[key] == pytest.approx(expected[key], rel=1e-3)
        alone = curves(compiled, {key: own[key]}, budget, ("class_weights", "clip"))
        assert alone[key] == together[key]
