"""The figures of `benchmarks.paper` from the trials of a stored study."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from support.claims import claim

from benchmarks.paper.trained import best_points, read_trained
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS
from hpo.values.stage import Stage

SpecOf = Callable[..., StudySpec]


def outcome(loss: float | None) -> TrialOutcome:
    """Return the outcome of a trial with this loss; it failed without one."""
    if loss is None:
        return TrialOutcome(TrialState.FAIL, None, reason="diverged")
    metrics = {VALIDATION_LOSS: loss, VALIDATION_ACCURACY: 1 - loss}
    return TrialOutcome(TrialState.COMPLETE, loss, kept_epoch=2, metrics=metrics)


def end(storage: Storage, study: Study, stage: Stage, losses: list[float | None]) -> None:
    """End the open trials of a stage with these losses, in the order of their numbers."""
    trials = [trial for _ in losses for trial in claim(storage, study, stage, "one", 16)]
    assert len(trials) == len(losses)
    with storage.transaction() as connection:
        for trial, loss in zip(sorted(trials, key=lambda trial: trial.number), losses, strict=True):
            results.finish(connection, {trial.lease.trial_id: outcome(loss)})


def test_seeds_of_the_best_trial_are_read(storage: Storage, spec: SpecOf) -> None:
    small = spec(search={"trials": 3}, promotion={"top": 2, "seeds": 3})
    study = create(storage, small, "test").study
    end(storage, study, "search", [0.5, 0.1, 0.3])
    before = read_trained(storage, study)
    assert (before.params, before.trainings, before.is_complete) == (None, [], False)
    promote(storage, study)
    end(storage, study, "full", [0.2, 0.25, None, 0.9, 0.9, 0.9])
    trained = read_trained(storage, study)
    assert [(row.index, row.loss, row.accuracy) for row in trained.trainings] == [
        (0, 0.2, 0.8),
        (1, 0.25, 0.75),
    ]
    assert trained.failed == ["diverged"]
    assert trained.is_complete
    assert trained.params == best_points(storage, study, 1)[0]
    assert trained.search["best"] == 0.1


@pytest.mark.parametrize(("loss", "failed"), [(None, ["diverged"]), (0.5, [])])
def test_only_cell_is_known_before_its_promotion(
    storage: Storage, spec: SpecOf, loss: float | None, failed: list[str]
) -> None:
    cell = {"lr": [0.1], "batch_size": [16], "momentum": [0.9], "weight_decay": [0]}
    study = create(storage, spec(space=cell, search={"trials": 1}), "test").study
    end(storage, study, "search", [loss])
    trained = read_trained(storage, study)
    assert trained.params == {"lr": 0.1, "batch_size": 16, "momentum": 0.9, "weight_decay": 0}
    assert trained.failed == failed
    assert trained.trainings == []
