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


def curves(engine: Engine, members: Mapping[int, Mapping[str, Any]]) -> dict[int, list[float]]:
    # Each step has the 16 images of a program, and the evaluation has its 80.
    task = Task(lenet, images(0, 96), images(1, 80), Classification(10))
    trainer = Trainer(task, Recipe(BUDGET, 16, 5, COLUMNS), engine, Runtime(clock=lambda: 0.0))
    trainer.prepare()
    session = trainer.start(
        {key: Candidate(with_defaults({"lr": 0.02, **own}), key) for key, own in members.items()}
    )
    return {
        key: [result.metrics["train_loss"] for result in curve] for key, curve in run_to_end(session).items()
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
