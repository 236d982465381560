"""The baseline is trial 0, trains to its end, and is compared with the best trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.trial import TrialState
from support.outcomes import loss

from hpo.errors import ConflictError
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.replay import replay_search, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store import trials
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study import stored
from hpo.study.baseline import compare
from hpo.study.best import best_params
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.status import status
from hpo.study.study import Study
from hpo.values.space import cell

SpecOf = Callable[..., StudySpec]

EPOCHS = 9
SPACE = {"batch_size": 16}
BASELINE = {"lr": 0.001, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0001}
"""The worst cell of the space by `loss`: every pruner would end it."""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Storage]:
    with scratch_storage() as storage:
        yield storage


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def table_of(spec: StudySpec) -> CurveTable:
    points = [spec.space.point_at(index) for index in range(spec.space.cells or 0)]
    return CurveTable(
        tuple(spec.space.domains),
        {
            cell(point): (
                tuple(
                    Measured(1.0, loss(point) + 1 / epoch, 0.5, 2.0, 0.5) for epoch in range(1, EPOCHS + 1)
                ),
            )
            for point in points
        },
    )


def replayed(storage: Storage, spec: StudySpec, **options: int) -> Study:
    """Replay a search, and return its study."""
    replay_search(storage, spec, table_of(spec), **options)
    with storage.transaction() as connection:
        query = "SELECT study_name FROM studies ORDER BY study_id DESC LIMIT 1"
        return stored.load(storage, connection.exec_driver_sql(query).scalar_one())


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_baseline_is_trial_0_and_the_plan_goes_on_without_its_cell(
    sampler: str, storage: Storage, spec: SpecOf
) -> None:
    names: dict[str, Any] = {"sampler": {"name": sampler}, "search": {"trials": 8}, "space": SPACE}
    plain = create(storage, spec(**names), "test").study
    planned = [row.point for row in rows(storage, plain)]
    second = planned[1]
    study = create(storage, spec(name="with", baseline=second, **names), "test").study
    points = [row.point for row in rows(storage, study)]
    assert points[0] == second
    others = [point for point in planned if point != second]
    assert points[1 : len(others) + 1] == others
    assert len({cell(point) for point in points}) == len(points) == len(planned)


def test_study_grows_by_the_same_plan(storage: Storage, spec: SpecOf) -> None:
    def made(name: str, count: int) -> Study:
        changes: dict[str, Any] = {"search": {"trials": count}, "space": SPACE, "baseline": BASELINE}
        return create(storage, spec(name=name, **changes), "test").study

    whole = [row.point for row in rows(storage, made("whole", 10))]
    made("grown", 4)
    assert [row.point for row in rows(storage, made("grown", 10))] == whole
    assert whole[0] == BASELINE


def test_stored_study_keeps_its_baseline(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(baseline=BASELINE), "test")
    with pytest.raises(
        ConflictError, match=r"new.toml: baseline.lr = 0.01: the stored study 'small' has 0.001"
    ):
        create(storage, spec(baseline={**BASELINE, "lr": 0.01}), "new.toml")
    assert create(storage, spec(baseline=BASELINE), "test").did == "unchanged"


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "pause"])
def test_baseline_is_neither_pruned_nor_paused(pruner: str, scratch: Storage, spec: SpecOf) -> None:
    section = {"name": pruner, **({"min_epochs": 1} if pruner != "median" else {"startup_trials": 2})}
    searched = spec(space=SPACE, pruner=section, sampler={"name": "random", "startup": 4}, baseline=BASELINE)
    study = replayed(scratch, searched, width=4)
    own, *others = rows(scratch, study)
    assert (own.number, own.point, own.state) == (0, BASELINE, TrialState.COMPLETE)
    assert own.record.epochs == EPOCHS
    assert TrialState.PRUNED in [row.state for row in others]
    events = [row.kind for row in _events(scratch, study) if row.trial_id == own.trial_id]
    assert "paused" not in events
    now = status(scratch, study)
    assert now.baseline is not None
    assert now.baseline == compare(study, [own, *others])
    assert (now.baseline.trial, now.baseline.value) == (0, loss(BASELINE) + 1 / EPOCHS)
    best = best_params(scratch, study, "search")
    assert best.baseline == now.baseline
    assert now.baseline.best == best.trial
    assert now.baseline.gain == pytest.approx(loss(BASELINE) - loss(best.params))
    output = json.loads(json.dumps(now.to_json()))["baseline"]
    assert (output["trial"], output["best"], output["is_better"]) == (0, best.trial, False)


def _events(storage: Storage, study: Study) -> list[Any]:
    with storage.transaction() as connection:
        query = f"SELECT trial_id, kind FROM hpo.event WHERE study_id = {study.search_id}"
        return list(connection.exec_driver_sql(query))


def test_epochs_of_the_baseline_count_in_the_budget(scratch: Storage, spec: SpecOf) -> None:
    searched = spec(
        space=SPACE,
        pruner={"name": "pause", "min_epochs": 1},
        sampler={"name": "random", "startup": 4},
        stop={"epochs": 30},
        baseline=BASELINE,
    )
    study = replayed(scratch, searched, width=4)
    trained = [row.record.epochs or 0 for row in rows(scratch, study) if row.record.is_trained]
    assert trained[0] == EPOCHS
    assert sum(trained) <= 30 + EPOCHS


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_fork_inherits_a_completed_baseline_and_repeats_a_pruned_one(
    scratch: Storage, spec: SpecOf, sampler: str
) -> None:
    pruner = {"name": "asha", "min_epochs": 1}
    old = replayed(scratch, spec(name=f"old-{sampler}", space=SPACE, pruner=pruner), width=4)
    ended = rows(scratch, old)
    complete = next(row for row in ended if row.state == TrialState.COMPLETE)
    pruned = next(row for row in ended if row.state == TrialState.PRUNED)
    wide = {"space": {"batch_size": [16, 32]}, "search": {"trials": 3, "epochs": EPOCHS}}
    for name, origin in (("inherited", complete), ("repeated", pruned)):
        changes = {**wide, "pruner": pruner, "sampler": {"name": sampler, "startup": 1}}
        new = spec(name=f"{name}-{sampler}", **changes, baseline=origin.point)
        forked = fork(scratch, old, new, "f.toml")
        study = forked.creation.study
        own = [row for row in rows(scratch, study) if row.point == origin.point]
        assert len(own) == 1
        is_inherited = origin is complete
        assert (own[0].number < study.inherited) == is_inherited
        assert own[0].number == study.inherited or is_inherited
        assert forked.left_out == (0 if is_inherited else 1)
