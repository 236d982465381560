"""Retries of failed trials: successors with the same parameters and seeds, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.trial import TrialState
from support.claims import claim, finish
from support.epochs import epoch_result

from hpo.errors import ConflictError, InputError, NotFoundError
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store import results, studies, trials
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study import lifecycle
from hpo.study import retry as retries
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.failures import DIVERGED
from hpo.study.fork import fork
from hpo.study.lifecycle import stopped
from hpo.study.promote import promote
from hpo.study.retry import retry
from hpo.study.status import status
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.values.objective import LOSS
from hpo.values.stage import Stage

SpecOf = Callable[..., StudySpec]

ONE_SIZE = {"batch_size": 16}
WHY = "ValueError: why"


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Four waiting trials of one batch size."""
    return create(storage, spec(space=ONE_SIZE, search={"trials": 4}), "test").study


def rows(storage: Storage, study: Study, stage: Stage = "search") -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.study_id(stage)).ours


def fail(storage: Storage, study: Study, *reasons: str, stage: Stage = "search") -> None:
    """Fail the next trials for these reasons."""
    pack = claim(storage, study, stage, "w", len(reasons))
    assert len(pack) == len(reasons)
    with storage.transaction() as connection:
        outcomes = {
            trial.lease.trial_id: TrialOutcome(TrialState.FAIL, reason=reason)
            for trial, reason in zip(pack, reasons, strict=True)
        }
        results.finish(connection, outcomes, "w", "cpu")


def complete(storage: Storage, study: Study, stage: Stage = "search") -> None:
    """Complete all open trials."""
    while pack := claim(storage, study, stage, "w", 16):
        finish(storage, pack)


def test_successors_repeat_failed_trials_outside_the_budget(storage: Storage, study: Study) -> None:
    fail(storage, study, *[WHY] * 4)
    assert is_finished(storage, study, "search")
    outcome = retry(storage, study)
    assert outcome.queued == {"search": {0: 4, 1: 5, 2: 6, 3: 7}, "full": {}}
    assert not is_finished(storage, study, "search")
    old, new = rows(storage, study)[:4], rows(storage, study)[4:]
    assert [(row.point, row.record.seed) for row in new] == [(row.point, row.record.seed) for row in old]
    assert [row.record.retry_of for row in new] == [0, 1, 2, 3]
    assert {row.state for row in old} == {TrialState.FAIL}
    complete(storage, study)
    assert is_finished(storage, study, "search")
    assert len(rows(storage, study)) == 8
    assert len(promote(storage, study).chosen) == 1
    shown = storage.study("small").trials
    assert [trial.user_attrs.get("retry_of") for trial in shown] == [None] * 4 + [0, 1, 2, 3]
    assert len(shown[4].params) == 4


def test_status_counts_the_successors(storage: Storage, study: Study) -> None:
    fail(storage, study, f"{DIVERGED} in epoch 2", "ValueError:\n why")
    figures = status(storage, study).search
    assert (figures.budget, figures.retried) == (4, 0)
    assert figures.failures is not None
    assert figures.failures.describe("small") == (
        "1 trial failed, trial 1 with ValueError: why; once the cause is mended: hpo study retry small"
    )
    retry(storage, study)
    figures = status(storage, load(storage, "small")).search
    assert (figures.budget, figures.retried, figures.failures) == (5, 1, None)


def test_each_failed_trial_is_retried_once(storage: Storage, study: Study) -> None:
    fail(storage, study, WHY, WHY)
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda _: retry(storage, study).queued["search"], range(3)))
    assert sorted(map(len, outcomes)) == [0, 0, 2]
    assert load(storage, "small").trials == 6
    assert retry(storage, study, [0], ["search"]).queued["search"] == {}


def test_successor_that_fails_is_retried_in_turn(storage: Storage, study: Study) -> None:
    fail(storage, study, *[WHY] * 4)
    retry(storage, study, [2], ["search"])
    fail(storage, study, WHY)
    assert retry(storage, study).queued["search"] == {0: 5, 1: 6, 3: 7, 4: 8}
    assert [row.record.retry_of for row in rows(storage, study)] == [None] * 4 + [2, 0, 1, 3, 4]
    complete(storage, study)
    assert is_finished(storage, study, "search")


def test_diverged_trials_are_retried_only_by_name(storage: Storage, study: Study) -> None:
    fail(storage, study, f"{DIVERGED} in epoch 2", WHY)
    outcome = retry(storage, study)
    assert (outcome.queued["search"], outcome.diverged) == ({1: 4}, 1)
    assert retry(storage, study, [0], ["search"]).queued["search"] == {0: 5}


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (1, InputError, r"trial 1 of 'small' is COMPLETE: only a failed trial is retried"),
        (2, InputError, r"trial 2 of 'small' is WAITING"),
        (9, NotFoundError, r"no trial 9 in 'small'; it has 5 trials, numbered from 0"),
        (4, InputError, r"trial 4 of 'small': was added by another program"),
    ],
)
def test_other_trials_are_refused(
    storage: Storage, study: Study, number: int, error: type[Exception], message: str
) -> None:
    fail(storage, study, WHY)
    finish(storage, claim(storage, study, "search", "w", 1))
    storage.study("small").add_trial(storage.study("small").trials[1])
    with pytest.raises(error, match=message):
        retry(storage, study, [0, number], ["search"])
    assert retry(storage, study, [0], ["search"]).queued["search"] == {0: 5}


def test_extension_after_a_retry_queues_the_rest_of_the_plan(
    storage: Storage, spec: SpecOf, study: Study
) -> None:
    fail(storage, study, *[WHY] * 4)
    retry(storage, study)
    extended = create(storage, spec(space=ONE_SIZE, search={"trials": 6}), "test")
    assert (extended.did, extended.added) == ("extended", 2)
    points = [tuple(row.point.items()) for row in rows(storage, study)]
    assert len(points) == 10
    assert len(set(points)) == 6
    complete(storage, extended.study)
    assert is_finished(storage, extended.study, "search")


def test_extension_that_waits_for_a_retry_knows_it(
    storage: Storage, spec: SpecOf, study: Study, until_blocked: Callable[[], None]
) -> None:
    fail(storage, study, *[WHY] * 4)
    extended = spec(space=ONE_SIZE, search={"trials": 6})
    extension = threading.Thread(target=create, args=(storage, extended, "test"))
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        extension.start()
        until_blocked()  # it has read the study already
        chosen = trials.read(connection, study.search_id).ours
        retries._enqueue(connection, study, "search", chosen)
    extension.join()
    points = [tuple(row.point.items()) for row in rows(storage, study)]
    assert (len(points), len(set(points))) == (10, 6)


def test_suggestions_fill_the_budget_after_a_retry(storage: Storage, spec: SpecOf) -> None:
    wanted = spec(space=ONE_SIZE, search={"trials": 6}, sampler={"name": "tpe", "startup": 2})
    study = create(storage, wanted, "test").study
    fail(storage, study, WHY, WHY)
    retry(storage, study)
    complete(storage, study)
    states = [row.state.name for row in rows(storage, study)]
    assert (len(states), states.count("COMPLETE")) == (8, 6)
    points = [tuple(row.point.items()) for row in rows(storage, study)][2:]
    assert len(set(points)) == 6


def test_full_training_is_retried(storage: Storage, spec: SpecOf) -> None:
    wanted = spec(space=ONE_SIZE, search={"trials": 2}, promotion={"seeds": 2})
    study = create(storage, wanted, "test").study
    complete(storage, study)
    promote(storage, study)
    fail(storage, study, WHY, stage="full")
    assert retry(storage, study, stages=["full"]).queued == {"full": {0: 2}}
    old, _, new = rows(storage, study, "full")
    assert (new.record.seed, new.record.promoted_from) == (old.record.seed, old.record.promoted_from)
    assert promote(storage, study).added == 0
    assert status(storage, study).full.budget == 3
    complete(storage, study, "full")
    assert is_finished(storage, study, "full")


def test_retry_resumes_a_search_that_stopped_for_its_failures(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space=ONE_SIZE, search={"trials": 6}), "test").study
    fail(storage, study, *[WHY] * 5)
    assert lifecycle.stop_broken_search(storage, study) is not None
    assert claim(storage, study, "search", "w", 16) == []
    assert retry(storage, study).stopped is None
    assert stopped(storage, study, "search") is None
    assert len(claim(storage, study, "search", "w", 16)) == 6


def test_retry_leaves_a_stop_of_the_user(storage: Storage, study: Study) -> None:
    fail(storage, study, *[WHY] * 4)
    lifecycle.stop(storage, study)
    assert retry(storage, study).stopped == lifecycle.BY_USER
    assert claim(storage, study, "search", "w", 16) == []


def test_fork_inherits_no_successor(storage: Storage, spec: SpecOf, study: Study) -> None:
    fail(storage, study, *[WHY] * 4)
    retry(storage, study)
    complete(storage, study)
    forked = fork(storage, study, spec(name="other", space=ONE_SIZE, search={"trials": 2}), "test")
    child = forked.creation.study
    assert (child.inherited, child.retried, child.trials) == (4, 0, 6)
    assert all(row.record.retry_of is None for row in rows(storage, child))


# The code of the network


def own(storage: Storage, spec: SpecOf, code: str) -> Study:
    wanted = spec(space=ONE_SIZE, search={"trials": 4})
    return create(storage, wanted, "own.toml", Identity(network=code)).study


def test_study_without_an_epoch_takes_new_code(storage: Storage, spec: SpecOf) -> None:
    study = own(storage, spec, "a" * 64)
    fail(storage, study, WHY)
    with pytest.raises(ConflictError, match=r"^own.toml: model.name = .* hpo study retry small$"):
        own(storage, spec, "b" * 64)
    assert retry(storage, study, present=Identity(network="b" * 64)).adopted
    assert own(storage, spec, "b" * 64).identity.network == "b" * 64
    assert not retry(storage, load(storage, "small"), present=Identity(network="b" * 64)).adopted


def test_study_with_an_epoch_refuses_new_code(storage: Storage, spec: SpecOf) -> None:
    study = own(storage, spec, "a" * 64)
    (trial,) = claim(storage, study, "search", "w", 1)
    with storage.transaction() as connection:
        results.report(connection, {trial.lease.trial_id: epoch_result(0, 1, 0.5)}, LOSS)
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.FAIL, reason="why")})
    with pytest.raises(ConflictError, match=r"restore the code, .* hpo study fork small FILE$"):
        retry(storage, study, present=Identity(network="b" * 64))
    assert len(rows(storage, study)) == 4
    with pytest.raises(ConflictError, match=r"hpo study delete small$"):
        own(storage, spec, "b" * 64)


def test_study_with_a_running_trial_refuses_new_code(storage: Storage, spec: SpecOf) -> None:
    study = own(storage, spec, "a" * 64)
    claim(storage, study, "search", "w", 1)
    with pytest.raises(ConflictError, match="workers still train the old code"):
        retry(storage, study, present=Identity(network="b" * 64))


def test_study_of_an_older_version_has_no_successors(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        assert studies.read_attribute(connection, study.search_id, "hpo:retried") is None
    assert (load(storage, "small").retried, load(storage, "small").trials) == (0, 4)
