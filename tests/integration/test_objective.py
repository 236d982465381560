"""Searches that maximise a metric: claims, pruning, pauses, promotion, status and forks follow the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from support.claims import claim
from support.epochs import epoch_result
from support.outcomes import loss

from hpo.errors import ConflictError
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.regret import regrets
from hpo.simulate.replay import replay_search, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study import stored
from hpo.study.best import best_params
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.lifecycle import stopped
from hpo.study.promote import promote
from hpo.study.status import status
from hpo.study.study import Study
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS, VALIDATION_MACRO_F1
from hpo.values.objective import OBJECTIVES
from hpo.values.space import Point, cell

SpecOf = Callable[..., StudySpec]

ACCURACY = OBJECTIVES["accuracy"]
EPOCHS = 9
MAXIMISED: dict[str, Any] = {"objective": {"metric": "accuracy"}, "space": {"batch_size": 16}}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Storage]:
    with scratch_storage() as storage:
        yield storage


def end_accuracy(point: Point) -> float:
    """Return the accuracy of a point after its last epoch: the larger its loss, the better."""
    return 0.5 + loss(point) / 3


def table_of(spec: StudySpec) -> CurveTable:
    """Return a table in which the best cell by accuracy is the worst one by loss."""

    def run(point: Point) -> tuple[Measured, ...]:
        return tuple(
            Measured(1.0, loss(point) + 1 / epoch, end_accuracy(point) - 0.3 / epoch, 2.0, 0.5)
            for epoch in range(1, EPOCHS + 1)
        )

    points = [spec.space.point_at(index) for index in range(spec.space.cells or 0)]
    return CurveTable(tuple(spec.space.domains), {cell(point): (run(point),) for point in points})


def replayed(storage: Storage) -> Study:
    """Return the study that was replayed last."""
    with storage.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT study_name FROM studies ORDER BY study_id DESC LIMIT 1")
        name = rows.scalar_one()
    return stored.load(storage, name)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband", "pause"])
def test_search_finds_the_best_cell_by_accuracy(
    sampler: str, pruner: str, scratch: Storage, spec: SpecOf
) -> None:
    names = {"sampler": {"name": sampler, "startup": 4}, "pruner": {"name": pruner}}
    searched = spec(**MAXIMISED, **names)
    table = table_of(searched)
    replay = replay_search(scratch, searched, table, workers=2, width=2)
    best = max(map(dict, table.runs), key=end_accuracy)  # all twelve cells are tried
    assert replay.moments[-1].best == best
    assert replay.promoted == (best,)
    assert regrets(replay, table, EPOCHS, "epochs", [1e9]) == [0.0]
    study = replayed(scratch)
    found = optuna.load_study(study_name=study.name, storage=scratch.backend)
    assert found.direction == StudyDirection.MAXIMIZE
    assert found.best_params == best
    assert found.best_value == end_accuracy(best) - 0.3 / EPOCHS
    for trial in found.trials:
        curve = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
        assert all(before < after for before, after in pairwise(curve))
        assert trial.value == curve[-1]
    states = [trial.state for trial in found.trials]
    assert (TrialState.PRUNED in states) == (pruner != "none")
    search = status(scratch, study).search
    assert search.best is not None
    assert (search.best.params, search.best.value) == (best, found.best_value)
    chosen = best_params(scratch, study, "search")
    assert (chosen.objective, chosen.params, chosen.value) == (ACCURACY, best, found.best_value)


def test_search_stops_at_a_target_from_below(scratch: Storage, spec: SpecOf) -> None:
    searched = spec(**MAXIMISED, stop={"target": 0.7})
    replay = replay_search(scratch, searched, table_of(searched), width=2)
    study = replayed(scratch)
    mark = stopped(scratch, study, "search")
    assert mark is not None
    assert mark.reason.startswith("target 0.7 reached by trial")
    assert replay.moments[-1].trials < 12
    best = status(scratch, study).search.best
    assert best is not None
    assert best.value >= 0.7


def test_full_training_has_the_direction_too(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(**MAXIMISED), "test").study
    assert storage.study(study.spec.full_name).direction == StudyDirection.MAXIMIZE
    storage.backend.delete_study(study.full_id)
    again = stored.load(storage, study.name)
    assert again.full_id != study.full_id
    assert storage.study(study.spec.full_name).direction == StudyDirection.MAXIMIZE


def test_stored_study_keeps_its_objective(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(), "test")
    with pytest.raises(ConflictError) as caught:
        create(storage, spec(objective={"metric": "macro_f1"}), "new.toml")
    assert str(caught.value).startswith(
        'new.toml: objective.metric = "macro_f1": the stored study \'small\' has "loss"'
    )


def finish(storage: Storage, study: Study, accuracy_of: Callable[[int], float]) -> list[TrialRow]:
    """End the search: the loss of a trial grows with its accuracy, and the F1 score is the negative of it."""
    while claimed := claim(storage, study, "search", "one", 16):
        with storage.transaction() as connection:
            for trial in claimed:
                for epoch in (1, 2):
                    value = accuracy_of(trial.number) - 0.25 / epoch
                    metrics = {
                        VALIDATION_ACCURACY: value,
                        VALIDATION_MACRO_F1: 1 - value,
                        VALIDATION_LOSS: value,
                    }
                    result = epoch_result(trial.number, epoch, value, metrics=metrics)
                    results.report(connection, {trial.lease.trial_id: result}, study.objective)
                outcome = TrialOutcome(
                    TrialState.COMPLETE,
                    study.objective.of(metrics),
                    epochs=2,
                    kept_epoch=2,
                    metrics=metrics,
                )
                results.finish(connection, {trial.lease.trial_id: outcome}, "one", "cpu")
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def spread(number: int) -> float:
    """Return an accuracy for each number, all different."""
    return 0.5 + (number * 5 % 12) / 100


def test_promotion_follows_the_objective_or_another_metric(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(**MAXIMISED, promotion={"top": 2}), "test").study
    finish(storage, study, spread)
    ranked = sorted(range(12), key=spread, reverse=True)
    assert [row.number for row in promote(storage, study).chosen] == ranked[:2]
    by_f1 = spec(name="f1", **MAXIMISED, promotion={"top": 2, "metric": "macro_f1"})
    other = create(storage, by_f1, "test").study
    finish(storage, other, spread)
    assert [row.number for row in promote(storage, other).chosen] == ranked[::-1][:2]


def test_fork_to_another_objective_takes_its_values_from_the_epochs(storage: Storage, spec: SpecOf) -> None:
    old = create(storage, spec(space={"batch_size": 16}), "test").study
    rows = finish(storage, old, spread)
    with storage.transaction() as connection:
        # A trial of a version that did not measure the F1 score in its first epoch.
        connection.exec_driver_sql(
            "UPDATE hpo.epoch SET metrics = metrics - 'validation_macro_f1' "
            f"WHERE trial_id = {rows[3].trial_id} AND epoch = 1"
        )
    new = spec(name="forked", space={"batch_size": 16}, objective={"metric": "macro_f1"})
    forked = fork(storage, old, new, "forked.toml")
    assert forked.left_out == 1
    study = storage.study("forked")
    assert study.direction == StudyDirection.MAXIMIZE
    inherited = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    origins = [row.number for row in rows if row.number != 3]
    assert [trial.user_attrs["forked_from"] for trial in inherited] == origins
    for trial, number in zip(inherited, origins, strict=True):
        f1 = {epoch: 1 - (spread(number) - 0.25 / epoch) for epoch in (1, 2)}
        assert trial.intermediate_values == f1
        assert trial.value == f1[2]
    assert storage.study("small").trials[0].value == spread(0) - 0.125  # the origin stays as it is


def test_fork_with_the_same_objective_copies_values(storage: Storage, spec: SpecOf) -> None:
    old = create(storage, spec(**MAXIMISED), "test").study
    finish(storage, old, spread)
    wide = spec(name="wide", objective={"metric": "accuracy"}, space={"batch_size": [16, 32]})
    assert fork(storage, old, wide, "wide.toml").left_out == 0
    assert storage.study("wide").best_value == max(map(spread, range(12))) - 0.125
