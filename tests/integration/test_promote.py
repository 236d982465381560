"""Promotion to full training: each chosen trial once with each seed, also when repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from support.claims import claim
from support.clients import at_once, promote_study
from support.outcomes import trained

from hpo.errors import ConflictError
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.study import Study, full_seed

SpecOf = Callable[..., StudySpec]

LOSSES = [0.5, 0.1, None, 0.3, 0.1, 0.2]
"""Losses by trial number; the third trial fails."""


def full_trials(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.full_id).ours


def search(storage: Storage, study: Study, losses: list[float | None]) -> None:
    """End the open search trials with these losses, by number."""
    trials = [t for _ in losses for t in claim(storage, study, "search", "one", 16)]
    with storage.transaction() as connection:
        for trial in trials:
            loss = losses[trial.number]
            state = TrialState.FAIL if loss is None else TrialState.COMPLETE
            results.finish(connection, {trial.lease.trial_id: trained(loss, state)})


def made(storage: Storage, spec: StudySpec, losses: list[float | None]) -> Study:
    study = create(storage, spec, "test").study
    search(storage, study, losses)
    return study


def test_best_trials_are_queued_with_each_seed(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 6}, promotion={"top": 3, "seeds": 2}), LOSSES)
    promotion = promote(storage, study)
    assert [row.number for row in promotion.chosen] == [1, 4, 5]  # ties go to the earlier trial
    assert promotion.added == 6
    trainings = full_trials(storage, study)
    assert {row.state for row in trainings} == {TrialState.WAITING}
    assert [row.point for row in trainings] == [row.point for row in promotion.chosen for _ in range(2)]
    assert [row.record for row in trainings] == [
        TrialRecord(full_seed(study.spec, index), promoted_from=number)
        for number in (1, 4, 5)
        for index in range(2)
    ]
    assert storage.study("small-full").trials[0].params == trainings[0].point


def test_repeated_promotion_adds_nothing(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 6}, promotion={"top": 2, "seeds": 2}), LOSSES)
    assert promote(storage, study).added == 4
    claim(storage, study, "full", "one", 1)
    again = promote(storage, study)
    assert (again.added, [row.number for row in again.chosen]) == (0, [1, 4])
    assert len(full_trials(storage, study)) == 4


def test_eight_processes_promote_once(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 6}, promotion={"top": 3, "seeds": 2}), LOSSES)
    assert sorted(at_once(8, promote_study, storage.url, "small")) == [0] * 7 + [6]
    assert len(full_trials(storage, study)) == 6


@pytest.mark.parametrize("losses", [[], [0.5]])
def test_unfinished_search_is_not_promoted(
    storage: Storage, spec: SpecOf, losses: list[float | None]
) -> None:
    study = create(storage, spec(search={"trials": 6}), "test").study
    for loss in losses:
        (trial,) = claim(storage, study, "search", "one", 1)
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: trained(loss)})
    claim(storage, study, "search", "one", 1)  # this trial is running
    with pytest.raises(ConflictError) as caught:
        promote(storage, study)
    state = "5 of 6 search trials are not finished" if losses else "no search trial is finished yet (0 of 6)"
    assert str(caught.value) == (f"study 'small': {state}; finish the search first: hpo workers small")
    assert full_trials(storage, study) == []


def test_search_with_points_to_suggest_is_not_promoted(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 6}, sampler={"name": "tpe", "startup": 2}), "test").study
    for _ in range(2):
        (trial,) = claim(storage, study, "search", "one", 1)
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: trained(0.5)})
    with pytest.raises(ConflictError, match="4 of 6 search trials are not finished"):
        promote(storage, study)


def test_search_without_a_result_is_not_promoted(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 2}), [None, None])
    with pytest.raises(
        ConflictError, match=r"^study 'small': none of its 2 search trials completed; 2 trials failed, "
    ):
        promote(storage, study)


def test_all_results_are_promoted_if_there_are_fewer_than_top(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 3}, promotion={"top": 3}), [0.5, None, 0.25])
    assert [row.number for row in promote(storage, study).chosen] == [2, 0]


def test_more_promotions_and_seeds_add_the_missing_trainings(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 6}), LOSSES)
    assert promote(storage, study).added == 1
    wider = create(storage, spec(search={"trials": 6}, promotion={"top": 2, "seeds": 3}), "test").study
    assert promote(storage, wider).added == 5
    pairs = [(row.record.promoted_from, row.record.seed) for row in full_trials(storage, study)]
    seeds = [full_seed(study.spec, index) for index in range(3)]
    assert sorted(pairs) == sorted((number, seed) for number in (1, 4) for seed in seeds)
    assert pairs[0] == (1, seeds[0])
    assert promote(storage, study).added == 0  # called with an outdated spec


def test_better_trials_of_an_extended_search_are_promoted(storage: Storage, spec: SpecOf) -> None:
    study = made(storage, spec(search={"trials": 6}), LOSSES)
    promote(storage, study)
    longer = create(storage, spec(search={"trials": 8}), "test").study
    with pytest.raises(ConflictError, match="2 of 8"):
        promote(storage, longer)
    search(storage, longer, [*LOSSES, 0.05, 0.9])
    promotion = promote(storage, longer)
    assert ([row.number for row in promotion.chosen], promotion.added) == ([6], 1)
    assert [row.record.promoted_from for row in full_trials(storage, study)] == [1, 6]
