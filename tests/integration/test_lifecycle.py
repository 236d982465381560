"""Stopping a study by hand and by stop rules: no trial begins, and running trials finish."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim
from support.clients import Claims, at_once, stop_or_run_trials
from support.outcomes import trained

from hpo.errors import ConflictError, NotFoundError
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, leases, results, studies, trials
from hpo.store.connection import Storage
from hpo.study.completion import is_done, is_finished
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.lifecycle import BY_USER, LifecycleChange, Stopped, resume, stop, stopped
from hpo.study.promote import Promotion, promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.values.stage import STAGES

SpecOf = Callable[..., StudySpec]

TPE = {"name": "tpe", "startup": 3}


def next_trials(storage: Storage, study: Study, width: int = 1) -> list[LeasedTrial]:
    return claim(storage, study, "search", "one", width)


def finish(
    storage: Storage,
    trials: Iterable[LeasedTrial],
    value: float = 0.5,
    state: TrialState = TrialState.COMPLETE,
    seconds: float = 0,
) -> None:
    with storage.transaction() as connection:
        for trial in trials:
            costs.charge(connection, {trial.lease.trial_id: {"training": seconds}})
            results.finish(connection, {trial.lease.trial_id: trained(value, state)})


def run_trials(storage: Storage, study: Study, values: Iterable[float | None]) -> int:
    """End one trial after the other with these values, None for a pruned trial.

    Return the number of trials before the search ended.
    """
    for count, value in enumerate(values):
        trials = next_trials(storage, study)
        if not trials:
            return count
        if value is None:
            finish(storage, trials, 0.01, TrialState.PRUNED)
        else:
            finish(storage, trials, value)
    raise AssertionError("the search did not end")


def lose(storage: Storage) -> None:
    """Expire all leases."""
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = to_timestamp(0)"))


def states(storage: Storage, study: Study) -> list[str]:
    with storage.transaction() as connection:
        return [state.name for state in trials.read(connection, study.search_id).states]


# By hand


@pytest.mark.parametrize("sampler", [{"name": "random"}, TPE])
def test_stopped_study_finishes_running_trials_only(
    storage: Storage, spec: SpecOf, sampler: dict[str, object]
) -> None:
    study = create(storage, spec(sampler=sampler), "test").study
    running = [t for _ in range(3) for t in next_trials(storage, study)]
    assert stop(storage, study) == LifecycleChange(("search", "full"), 3, 9)
    before = states(storage, study)
    assert next_trials(storage, study, 16) == []
    assert not is_finished(storage, study, "search")
    assert is_finished(storage, study, "full")
    finish(storage, running)
    assert next_trials(storage, study, 16) == []
    assert is_finished(storage, study, "search")
    assert states(storage, study) == ["COMPLETE"] * 3 + before[3:]
    assert stop(storage, study) == LifecycleChange((), 0, 9)
    assert resume(storage, study) == LifecycleChange(("search", "full"), 0, 9)
    assert resume(storage, study) == LifecycleChange((), 0, 9)
    assert not is_finished(storage, study, "search")
    while trials := next_trials(storage, study, 16):
        finish(storage, trials)
    assert states(storage, study) == ["COMPLETE"] * 12


def test_stopped_study_finishes_lost_trials(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    (first,) = next_trials(storage, study)
    stop(storage, study)
    lose(storage)
    (again,) = next_trials(storage, study, 16)
    assert again.number == first.number
    assert again.lease.token > first.lease.token
    assert not is_finished(storage, study, "search")
    finish(storage, [again])
    assert is_finished(storage, study, "search")


def test_each_stage_has_its_own_mark(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    assert [stopped(storage, study, stage) for stage in STAGES] == [None, None]
    assert stop(storage, study, ("search",)).changed == ("search",)
    assert [stopped(storage, study, stage) for stage in STAGES] == [BY_USER, None]
    now = status(storage, study)
    assert (now.search.stopped, now.full.stopped) == (BY_USER, None)
    assert now.to_json()["search"]["stopped"] == {"by": "user", "reason": "stopped by hand"}
    assert stop(storage, study).changed == ("full",)
    assert storage.study("small-full").user_attrs["hpo:stopped"]["by"] == "user"
    assert resume(storage, study).changed == ("search", "full")
    assert "hpo:stopped" not in storage.study("small").user_attrs


def test_full_training_continues_after_a_stopped_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(promotion={"top": 2}), "test").study
    first, second, third = (t for _ in range(3) for t in next_trials(storage, study))
    finish(storage, [first], 0.5)
    finish(storage, [second], 0.25)
    stop(storage, study, ("search",))
    with pytest.raises(ConflictError) as caught:
        promote(storage, study)
    assert str(caught.value) == (
        "study 'small': the search is stopped, but 1 of its trials have begun and are not finished; "
        "finish them first: hpo workers small"
    )
    finish(storage, [third], 0.75)
    promotion = promote(storage, study)
    assert ([row.number for row in promotion.chosen], promotion.added) == ([1, 0], 2)
    assert len(claim(storage, study, "full", "one", 1)) == 1
    assert not is_finished(storage, study, "full")


def test_stopped_study_promotes_nothing_until_resumed(storage: Storage, spec: SpecOf) -> None:
    """A stopped search looks finished to workers that end. They must not promote from it."""
    study = create(storage, spec(search={"trials": 2}), "test").study
    finish(storage, next_trials(storage, study), 0.5)
    stop(storage, study)
    assert promote(storage, study) == Promotion((), 0)
    assert is_finished(storage, study, "full")
    resume(storage, study)
    finish(storage, next_trials(storage, study), 0.25)
    promotion = promote(storage, study)
    assert ([row.number for row in promotion.chosen], promotion.added) == ([1], 1)
    assert stop(storage, study, ("full",)) == LifecycleChange(("full",), 0, 1)
    assert claim(storage, study, "full", "one", 1) == []
    assert is_finished(storage, study, "full")


def test_stopped_search_without_a_result_is_not_promoted(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    stop(storage, study, ("search",))
    with pytest.raises(ConflictError, match="none of its 12 search trials completed"):
        promote(storage, study)


def test_deleted_study_cannot_be_stopped(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    optuna.delete_study(study_name="small", storage=storage.backend)
    for act in (stop, resume):
        with pytest.raises(NotFoundError, match="deleted"):
            act(storage, study)


def test_recreated_full_training_is_not_stopped(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    stop(storage, study, ("search",))
    optuna.delete_study(study_name="small-full", storage=storage.backend)
    anew = load(storage, "small")
    assert [stopped(storage, anew, stage) for stage in STAGES] == [BY_USER, None]


# By rules


@pytest.mark.parametrize("sampler", [{"name": "random"}, TPE])
@pytest.mark.parametrize(
    ("rules", "values", "reason"),
    [
        ({"target": 0.3}, [0.5, None, 0.4, 0.25], "target 0.3 reached by trial 3 (0.25)"),
        (
            {"patience": 2},
            [0.5, 0.4, None, 0.6],
            "no improvement for 2 trials (patience 2): the best is trial 1 (0.4)",
        ),
    ],
)
def test_rule_stops_the_search(
    storage: Storage,
    spec: SpecOf,
    rules: dict[str, float],
    values: list[float | None],
    reason: str,
    sampler: dict[str, object],
) -> None:
    study = create(storage, spec(stop=rules, sampler=sampler), "test").study
    assert run_trials(storage, study, [*values, 0.1]) == len(values)
    assert stopped(storage, study, "search") == Stopped("rule", reason)
    assert stopped(storage, study, "full") is None
    assert is_finished(storage, study, "search")
    promote(storage, study)
    assert len(claim(storage, study, "full", "one", 1)) == 1


def test_device_hours_stop_the_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"device_hours": 1}), "test").study
    for seconds in (1800, 1700):
        finish(storage, next_trials(storage, study), seconds=seconds)
    (running,) = next_trials(storage, study)
    with storage.transaction() as connection:  # including the seconds of a running trial
        costs.charge(connection, {running.lease.trial_id: {"evaluation": 136.0}})
    assert next_trials(storage, study) == []
    assert stopped(storage, study, "search") == Stopped("rule", "1.01 device hours spent of 1")
    assert not is_finished(storage, study, "search")
    finish(storage, [running])
    assert is_finished(storage, study, "search")


def test_foreign_trials_stop_no_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.3}), "test").study
    storage.study("small").add_trial(optuna.trial.create_trial(value=0.0))
    assert next_trials(storage, study)


def test_search_without_rules_runs_no_query_for_them(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(storage, spec(), "test").study
    monkeypatch.setattr(trials, "ended", lambda *_: 1 / 0)
    assert next_trials(storage, study)


def test_changed_rules_are_evaluated_anew(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.3}), "test").study
    assert run_trials(storage, study, [0.25, 0.1]) == 1
    assert create(storage, spec(stop={"target": 0.3}), "test").did == "unchanged"
    assert stopped(storage, study, "search") is not None
    creation = create(storage, spec(stop={"target": 0.2}), "test")
    assert (creation.did, creation.added) == ("updated", 0)
    assert stopped(storage, study, "search") is None
    # Claimed by a worker that started before the change.
    assert run_trials(storage, study, [0.22, 0.15, 0.1]) == 2
    assert stopped(storage, study, "search") == Stopped("rule", "target 0.2 reached by trial 2 (0.15)")
    assert create(storage, spec(search={"trials": 13}), "test").did == "extended"
    assert next_trials(storage, study)


def test_more_trials_do_not_resume_a_search_stopped_by_a_rule(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.3}), "test").study
    run_trials(storage, study, [0.25, 0.1])
    longer = create(storage, spec(stop={"target": 0.3}, search={"trials": 20}), "test").study
    assert next_trials(storage, longer) == []


def test_changed_rules_do_not_resume_a_study_stopped_by_the_user(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.3}), "test").study
    run_trials(storage, study, [0.25, 0.1])
    assert stop(storage, study).changed == ("search", "full")
    create(storage, spec(), "test")
    assert stopped(storage, study, "search") == BY_USER


def test_rule_that_still_holds_stops_a_resumed_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(stop={"target": 0.3}), "test").study
    run_trials(storage, study, [0.25, 0.1])
    reason = "target 0.3 reached by trial 0 (0.25)"
    assert resume(storage, study) == LifecycleChange(("search",), 0, 11, next_stop=reason)
    assert stopped(storage, study, "search") is None
    assert next_trials(storage, study) == []
    assert stopped(storage, study, "search") == Stopped("rule", reason)


def test_inherited_trials_count_for_target_but_not_for_patience(storage: Storage, spec: SpecOf) -> None:
    old = create(storage, spec(), "test").study
    for value in (0.4, 0.5, 0.6, 0.7):
        finish(storage, next_trials(storage, old), value)
    patient = fork(storage, old, spec(name="patient", stop={"patience": 2}), "test").creation.study
    assert run_trials(storage, patient, [0.45, 0.41, 0.1]) == 2
    there = fork(storage, old, spec(name="there", stop={"target": 0.4}), "test").creation.study
    assert next_trials(storage, there) == []
    assert promote(storage, there).added == 1


# At once with claims


def test_stop_waits_for_a_running_claim(
    storage: Storage, spec: SpecOf, until_blocked: Callable[[], None]
) -> None:
    study = create(storage, spec(), "test").study
    done: list[LifecycleChange] = []
    stopping = threading.Thread(target=lambda: done.append(stop(storage, study)))
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        stopping.start()
        until_blocked()
        (first, *_) = trials.claimable(connection, study.search_id).ours
        leases.grant(connection, [first.trial_id], "one", 30)
    stopping.join(20)
    assert done == [LifecycleChange(("search", "full"), 1, 11)]


@pytest.mark.parametrize("sampler", [{"name": "random"}, TPE])
def test_no_trial_begins_after_stop_returns(
    storage: Storage, spec: SpecOf, sampler: dict[str, object]
) -> None:
    space = {"lr": {"low": 1e-4, "high": 0.5, "log": True}}
    create(storage, spec(space=space, sampler=sampler, search={"trials": 400}), "test")
    begun, *shares = at_once(5, stop_or_run_trials, storage.url, "small")
    served = sum(len(pack) for share in shares if isinstance(share, Claims) for pack in share.packs)
    assert served == begun
    study = load(storage, "small")
    trial_states = states(storage, study)
    assert trial_states.count("COMPLETE") == begun < 400
    assert trial_states.count("RUNNING") == 0


def test_stopped_study_is_done_once_nothing_is_open(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    for _ in range(2):
        finish(storage, next_trials(storage, study), 0.2)
    stop(storage, study)
    assert not is_done(storage, study)
    resume(storage, study)
    promote(storage, study)
    stop(storage, study)
    assert not is_done(storage, study)
    resume(storage, study)
    for trial in claim(storage, study, "full", "one", 4):
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: trained(0.1)})
    stop(storage, study)
    assert is_done(storage, study)
    longer = create(storage, spec(search={"trials": 3}), "test").study
    assert not is_done(storage, longer)
