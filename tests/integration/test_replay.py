"""Whole searches on a table of curves: what they find does not hang on when a worker comes to what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from optuna.trial import TrialState
from support.outcomes import loss

from hpo.search.samplers.points import plan
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.replay import Replay, replay_search, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.study import search_seed
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.space import Point, cell

SpecOf = Callable[..., StudySpec]
EPOCHS = 9


@pytest.fixture(scope="module")
def scratch() -> Iterator[Storage]:
    with scratch_storage() as storage:
        yield storage


def table_of(spec: StudySpec, diverging: Point | None = None) -> CurveTable:
    """Two runs of each cell, which fall towards the loss of its point."""

    def run(point: Point, seed: int) -> tuple[Measured, ...]:
        ends = loss(point) + seed / 1000
        if point == diverging:
            return (Measured(1.0, math.nan, 0.0, 2.0, 0.5),)
        return tuple(Measured(1.0, ends + 1 / epoch, 0.5, 2.0, 0.5) for epoch in range(1, EPOCHS + 1))

    cells = spec.space.cells or 0
    points = [spec.space.point_at(index) for index in range(cells)]
    return CurveTable(tuple(spec.space.domains), {cell(p): (run(p, 0), run(p, 1)) for p in points})


def last(search: Replay) -> tuple[int, int]:
    return search.moments[-1].epochs, search.moments[-1].trials


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_random_search_is_the_same_with_any_number_of_workers(
    workers: int, scratch: Storage, spec: SpecOf
) -> None:
    study = spec()
    table = table_of(study)
    search = replay_search(scratch, study, table, workers)
    assert last(search) == (study.search.trials * EPOCHS, study.search.trials)
    points = plan(study.space, study.search.trials, study.seed)
    runs = [table.run(point, search_seed(study, number)) for number, point in enumerate(points)]
    losses = [run[-1].metrics[VALIDATION_LOSS] for run in runs]
    best = points[losses.index(min(losses))]
    assert search.moments[-1].best == best
    assert search.promoted == (best,)
    device_seconds = study.search.trials * EPOCHS * 2.5
    assert search.moments[-1].device_seconds == pytest.approx(device_seconds)
    assert search.moments[-1].seconds >= device_seconds / workers * 0.999


def test_more_workers_take_less_time(scratch: Storage, spec: SpecOf) -> None:
    study = spec()
    one_worker_seconds, four_worker_seconds = (
        replay_search(scratch, study, table_of(study), workers).moments[-1].seconds for workers in (1, 4)
    )
    assert four_worker_seconds < one_worker_seconds / 2


def test_time_and_spent_budgets_only_grow(scratch: Storage, spec: SpecOf) -> None:
    study = spec(pruner={"name": "asha"})
    moments = replay_search(scratch, study, table_of(study), 4).moments
    for attribute in ("seconds", "device_seconds", "epochs", "trials"):
        values = [getattr(moment, attribute) for moment in moments]
        assert values == sorted(values)


@pytest.mark.parametrize(
    "pruner",
    [
        {"name": "median", "startup_trials": 2},
        {"name": "asha"},
        {"name": "hyperband"},
        {"name": "pause", "min_epochs": 1},
    ],
    ids=lambda pruner: str(pruner["name"]),
)
def test_pruner_saves_epochs(pruner: dict[str, Any], scratch: Storage, spec: SpecOf) -> None:
    study = spec(pruner=pruner)
    epochs, ended = last(replay_search(scratch, study, table_of(study), width=2))
    assert ended == study.search.trials
    assert epochs < study.search.trials * EPOCHS


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_replay_with_one_worker_is_reproducible(sampler: str, scratch: Storage, spec: SpecOf) -> None:
    pruner = {"name": "median", "startup_trials": 2} if sampler == "tpe" else {"name": "pause"}
    study = spec(sampler={"name": sampler, "startup": 4}, pruner=pruner)
    first_replay, second_replay = (replay_search(scratch, study, table_of(study), width=2) for _ in range(2))
    assert first_replay == second_replay
    assert last(first_replay)[1] == study.search.trials


def test_concurrent_replays_are_reproducible(scratch: Storage, spec: SpecOf) -> None:
    study = spec(sampler={"name": "gp", "startup": 4}, pruner={"name": "pause"})

    def again(_turn: int) -> Replay:
        return replay_search(scratch, study, table_of(study), workers=4)

    with ThreadPoolExecutor(2) as side_by_side:
        first_replay, second_replay = side_by_side.map(again, range(2))
    assert first_replay == second_replay == again(2)


@pytest.mark.parametrize("workers", [1, 4])
def test_gp_tries_every_cell_once(workers: int, scratch: Storage, spec: SpecOf) -> None:
    before = len(scratch.backend.get_all_studies())
    study = spec(sampler={"name": "gp", "startup": 4}, search={"trials": 24, "epochs": 2})
    replay_search(scratch, study, table_of(study), workers)
    trials = scratch.backend.get_all_trials(scratch.backend.get_all_studies()[before]._study_id)
    assert len({cell(trial.params) for trial in trials}) == len(trials) == 24


def test_budget_of_epochs_ends_a_search(scratch: Storage, spec: SpecOf) -> None:
    study = spec(stop={"epochs": 30})
    epochs, ended = last(replay_search(scratch, study, table_of(study), width=2))
    assert epochs == 2 * 18  # two packs: the second had begun before
    assert ended == 4


@pytest.mark.parametrize("workers", [4, 12])
def test_many_workers_keep_to_a_budget_of_epochs(workers: int, scratch: Storage, spec: SpecOf) -> None:
    study = spec(stop={"epochs": 50})
    epochs, ended = last(replay_search(scratch, study, table_of(study), workers, width=1))
    assert epochs == 6 * 9  # the sixth is needed, and no other begins while it is under way
    assert ended == 6


def test_epochs_saved_by_pruning_go_to_other_trials(scratch: Storage, spec: SpecOf) -> None:
    study = spec(stop={"epochs": 50}, pruner={"name": "asha"})
    epochs, ended = last(replay_search(scratch, study, table_of(study), 4, width=1))
    assert 50 <= epochs < 50 + EPOCHS
    assert ended > 6


def test_diverged_trial_is_neither_best_nor_promoted(scratch: Storage, spec: SpecOf) -> None:
    study = spec()
    points = plan(study.space, study.search.trials, study.seed)
    best = min(points, key=loss)
    search = replay_search(scratch, study, table_of(study, diverging=best))
    assert last(search) == ((study.search.trials - 1) * EPOCHS + 1, study.search.trials)
    assert search.moments[-1].best not in (None, best)
    assert best not in search.promoted


def test_nothing_is_promoted_if_every_trial_diverged(scratch: Storage, spec: SpecOf) -> None:
    study = spec(search={"trials": 1})
    point = plan(study.space, 1, study.seed)[0]
    search = replay_search(scratch, study, table_of(study, diverging=point))
    assert search.promoted == ()
    assert search.moments[-1].best is None


def test_replayed_trials_are_stored_like_trained_trials(scratch: Storage, spec: SpecOf) -> None:
    before = len(scratch.backend.get_all_studies())
    study = spec(pruner={"name": "asha"})
    replay_search(scratch, study, table_of(study), 2)
    search, full = scratch.backend.get_all_studies()[before:]
    states = {trial.state for trial in scratch.backend.get_all_trials(search._study_id)}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    queued = scratch.backend.get_all_trials(full._study_id)
    assert [trial.state for trial in queued] == [TrialState.WAITING]
