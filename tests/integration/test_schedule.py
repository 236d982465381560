"""Claims: by many processes at once, and of lost trials."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim, claim_lost, finish, serve_alone
from support.clients import PROCESSES, at_once, expire_leases, hang_inside_claim, run_trials
from support.outcomes import trained

from hpo.search.samplers.points import plan
from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, leases, results, studies, trials
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study import lifecycle
from hpo.study.adoption import MAX_LOSSES
from hpo.study.completion import is_finished
from hpo.study.create import create
from hpo.study.packs import SUSPECT_LOSSES
from hpo.study.promote import promote
from hpo.study.schedule import MAX_SUGGESTIONS, LeasedTrial
from hpo.study.status import status
from hpo.study.study import Study, search_seed
from hpo.values.space import cell

SpecOf = Callable[..., StudySpec]

CONTINUOUS = {"lr": {"low": 1e-4, "high": 0.5, "log": True}}
TPE = {"name": "tpe", "startup": 6}


def rows(storage: Storage, study_id: int) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study_id).ours


def lose(storage: Storage, study: Study, width: int, times: int) -> list[LeasedTrial]:
    """Claim the same trials several times, and lose them each time."""
    for _ in range(times):
        trials = claim(storage, study, "search", "victim", width)
        expire_leases(storage, "victim")
    return trials


def add_workers(storage: Storage, count: int, seconds_ago: float = 0) -> None:
    with storage.transaction() as connection:
        for number in range(count):
            connection.execute(
                text(
                    "INSERT INTO hpo.worker (name, study, device, expires) "
                    "VALUES (:name, 'small', 'cpu', now() + interval '30 s' - make_interval(secs => :ago))"
                ),
                {"name": f"{number}-{seconds_ago}", "ago": seconds_ago},
            )


# Many processes


@pytest.mark.parametrize(
    ("changes", "budget"),
    [
        pytest.param({}, 12, id="random"),
        pytest.param({"search": {"trials": 1000}}, 24, id="random, more than the space has"),
        pytest.param({"space": CONTINUOUS, "search": {"trials": 40}}, 40, id="random, continuous"),
        pytest.param({"sampler": TPE, "search": {"trials": 18}}, 18, id="tpe"),
        pytest.param({"sampler": TPE, "search": {"trials": 1000}}, 24, id="tpe, more than the space has"),
        pytest.param(
            {"sampler": TPE, "space": CONTINUOUS, "search": {"trials": 40}}, 40, id="tpe, continuous"
        ),
    ],
)
def test_eight_processes_share_a_search(
    storage: Storage, spec: SpecOf, changes: dict[str, Any], budget: int
) -> None:
    study = create(storage, spec(**changes), "test").study
    shares = at_once(8, run_trials, storage.url, "small", 3)
    packs = [pack for share in shares for pack in share.packs]
    numbers = Counter(trial.number for pack in packs for trial in pack)
    assert numbers == Counter(range(budget))
    for pack in packs:
        assert 1 <= len(pack) <= 3
        assert len({trial.point["batch_size"] for trial in pack}) == 1
    assert len({trial.lease.token for pack in packs for trial in pack}) == budget

    trial_rows = rows(storage, study.search_id)
    assert [row.number for row in trial_rows] == list(range(budget))
    assert {row.state for row in trial_rows} == {TrialState.COMPLETE}
    assert len({cell(row.point) for row in trial_rows}) == budget
    assert all(row.point in study.spec.space for row in trial_rows)
    assert [row.record.seed for row in trial_rows] == [search_seed(study.spec, n) for n in range(budget)]
    planned = study.planned
    assert [row.point for row in trial_rows[:planned]] == plan(study.spec.space, planned, 1)
    assert is_finished(storage, study, "search")
    assert claim(storage, study, "search", "late", 3) == []


def test_many_workers_hold_distinct_tpe_trials(storage: Storage, spec: SpecOf) -> None:
    """No trial ends, so only the constant liar and the running trials keep the points distinct."""
    study = create(storage, spec(sampler=TPE, search={"trials": 24}), "test").study
    finish(storage, [t for _ in range(6) for t in claim(storage, study, "search", "start", 1)])
    held = [trial for n in range(30) for trial in claim(storage, study, "search", f"worker-{n}", 1)]
    assert len(held) == len({cell(trial.point) for trial in held}) == 18
    assert not is_finished(storage, study, "search")


def test_tpe_search_of_one_worker_can_be_replayed(storage: Storage, spec: SpecOf) -> None:
    searches = []
    for name in ("first", "second"):
        wanted = spec(name=name, sampler=TPE, space=CONTINUOUS, search={"trials": 16})
        searches.append(serve_alone(storage, create(storage, wanted, "test").study, 2))
    assert searches[0] == searches[1]
    other_spec = spec(name="other", seed=2, sampler=TPE, space=CONTINUOUS, search={"trials": 16})
    assert serve_alone(storage, create(storage, other_spec, "test").study, 2) != searches[0]


def test_random_search_does_not_depend_on_its_workers(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    assert sorted(map(cell, serve_alone(storage, study, 4))) == sorted(
        map(cell, plan(study.spec.space, 12, 1))
    )


def test_killed_claim_leaves_no_trace_and_blocks_no_worker(
    storage: Storage, spec: SpecOf, until_blocked: Callable[[], None]
) -> None:
    study = create(storage, spec(), "test").study
    inside = PROCESSES.Event()
    process = PROCESSES.Process(target=hang_inside_claim, args=(storage.url, "small", inside))
    process.start()
    assert inside.wait(30)
    claimed: list[LeasedTrial] = []
    claimer = threading.Thread(target=lambda: claimed.extend(claim(storage, study, "search", "alive", 8)))
    claimer.start()
    until_blocked()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    claimer.join(20)
    assert claimed[0].number == 0
    query = "SELECT lease.worker, takeovers, losses FROM hpo.lease JOIN hpo.trial USING (trial_id)"
    with storage.transaction() as connection:
        owners = connection.execute(text(query)).all()
    assert owners == [("alive", 0, 0)] * len(claimed)


# Order


def test_lost_trials_come_first_with_a_higher_token(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    first = claim(storage, study, "search", "dead", 3)
    with storage.transaction() as connection:
        checkpoints.save(connection, {first[1].lease.trial_id: Checkpoint(4, "four")})
    expire_leases(storage)
    second = claim(storage, study, "search", "alive", 5)
    assert [t.number for t in first] == [0, 1, 2]
    assert [t.number for t in second] == [0, 1, 2, 3, 4]
    assert [t.point for t in second[:3]] == [t.point for t in first]
    assert [t.seed for t in second[:3]] == [t.seed for t in first]
    assert [t.checkpoint for t in first] == [None] * 3
    assert [t.checkpoint for t in second] == [None, Checkpoint(4, "four"), None, None, None]
    assert min(t.lease.token for t in second) > max(t.lease.token for t in first)
    with storage.transaction() as connection:
        assert leases.losses(connection, [t.lease.trial_id for t in second]) == {
            t.lease.trial_id: int(t.number < 3) for t in second
        }


def test_released_trials_come_first(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    pack = claim(storage, study, "search", "one", 6)
    with storage.transaction() as connection:
        leases.release(connection, [t.lease for t in pack if t.number in (3, 5)])
    assert [t.number for t in claim(storage, study, "search", "two", 3)] == [3, 5, 6]


def test_running_trial_is_not_handed_out(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study
    assert len(claim(storage, study, "search", "one", 2)) == 2
    assert [t.number for t in claim(storage, study, "search", "two", 2)] == [2]
    assert claim(storage, study, "search", "three", 2) == []
    assert not is_finished(storage, study, "search")


def test_late_owner_that_is_writing_keeps_its_trial(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    (trial,) = claim(storage, study, "search", "late", 1)
    expire_leases(storage)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET seconds = 30"))
        assert leases.hold(connection, [trial.lease])
        assert claim(storage, study, "search", "other", 1) == []  # without waiting
    assert claim(storage, study, "search", "other", 1) == []


def test_trial_cannot_end_while_it_is_reclaimed(
    storage: Storage, spec: SpecOf, until_blocked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old owner finishes the trial between the claim's look at the expired lease and the new lease."""
    study = create(storage, spec(search={"trials": 1}), "test").study
    (trial,) = claim(storage, study, "search", "late", 1)
    expire_leases(storage)
    held: list[set[int]] = []

    def finish_late() -> None:
        with storage.transaction() as connection:
            held.append(leases.hold(connection, [trial.lease]))
            for trial_id in held[0]:
                results.finish(connection, {trial_id: trained(0.5)})

    owner, look = threading.Thread(target=finish_late), trials.claimable

    def look_and_let_the_owner_go_on(*arguments: Any) -> StudyTrials:
        trial_rows = look(*arguments)
        owner.start()
        until_blocked()
        return trial_rows

    with monkeypatch.context() as patch:
        patch.setattr(trials, "claimable", look_and_let_the_owner_go_on)
        (taken,) = claim(storage, study, "search", "next", 1)
    owner.join(20)
    assert held == [set()]
    assert rows(storage, study.search_id)[0].state == TrialState.RUNNING
    assert taken.lease.token > trial.lease.token


def test_trial_that_is_lost_too_often_fails(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}, space={"batch_size": 16}), "test").study
    for _ in range(MAX_LOSSES):
        assert [t.number for t in claim(storage, study, "search", "victim", 1)] == [0]
        expire_leases(storage)
    assert [t.number for t in claim(storage, study, "search", "next", 2)] == [1]
    failed = rows(storage, study.search_id)[0]
    assert failed.state == TrialState.FAIL
    assert failed.record.reason == f"its worker was lost {MAX_LOSSES} times in a row"


def test_trial_with_progress_may_be_lost_any_number_of_times(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    for epoch in range(1, MAX_LOSSES + 3):
        (trial,) = claim(storage, study, "search", "victim", 1)
        with storage.transaction() as connection:
            checkpoints.save(connection, {trial.lease.trial_id: Checkpoint(epoch, str(epoch))})
        expire_leases(storage)
    (trial,) = claim(storage, study, "search", "next", 1)
    assert trial.checkpoint == Checkpoint(MAX_LOSSES + 2, str(MAX_LOSSES + 2))


def test_search_ends_when_all_trials_are_lost_too_often(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    lose(storage, study, 1, 2 * MAX_LOSSES + 2)
    assert claim(storage, study, "search", "next", 1) == []
    assert is_finished(storage, study, "search")
    assert status(storage, study).search.states["FAIL"] == 2


def test_suspect_trial_runs_alone(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}, search={"trials": 4}), "test").study
    assert [t.number for t in lose(storage, study, 2, SUSPECT_LOSSES)] == [0, 1]
    packs = [claim(storage, study, "search", "next", 4) for _ in range(3)]
    assert [[t.number for t in pack] for pack in packs] == [[0], [1], [2, 3]]


def test_suspect_trial_joins_no_pack(storage: Storage, spec: SpecOf) -> None:
    """Another trial, which was lost less often, comes first in the queue."""
    study = create(storage, spec(space={"batch_size": 16}, search={"trials": 4}), "test").study
    pack = claim(storage, study, "search", "victim", 3)
    with storage.transaction() as connection:
        connection.execute(
            text("UPDATE hpo.lease SET losses = :losses WHERE trial_id = :trial_id"),
            {"losses": SUSPECT_LOSSES - 1, "trial_id": pack[1].lease.trial_id},
        )
    expire_leases(storage)
    packs = [claim(storage, study, "search", "next", 4) for _ in range(2)]
    assert [[t.number for t in pack] for pack in packs] == [[0, 2, 3], [1]]


def test_width_limits_apply_by_batch_size(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    assert len(claim(storage, study, "search", "one", 5, width_limits={16: 2})) == 2
    assert len(claim(storage, study, "search", "one", 5, width_limits={32: 2})) == 5
    assert len(claim(storage, study, "search", "one", 5, width_limits={16: 8})) == 5


def test_claim_sets_the_duration_of_its_leases(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    claim(storage, study, "search", "one", 1, lease_seconds=1000)
    with storage.transaction() as connection:
        remaining = connection.execute(text("SELECT expires - now() FROM hpo.lease")).scalar_one()
    assert 900 < remaining.total_seconds() <= 1000


# Lost trials, for a pack with room


def sizes(trials: list[LeasedTrial]) -> set[float]:
    return {trial.point["batch_size"] for trial in trials}


def test_running_pack_takes_lost_trials_and_no_new_ones(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    assert claim_lost(storage, study, "search", "one", 4, 16) == []  # no trial has begun
    lost = claim(storage, study, "search", "dead", 3)
    handed_back = claim(storage, study, "search", "stopped", 1)
    assert claim_lost(storage, study, "search", "one", 9, 16) == []
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease for trial in handed_back])
        checkpoints.save(connection, {lost[0].lease.trial_id: Checkpoint(2, "two")})
    expire_leases(storage, "dead")
    first = claim_lost(storage, study, "search", "one", 3, 16, lease_seconds=1000)
    second = claim_lost(storage, study, "search", "one", 9, 16)
    assert [t.number for t in first + second] == [0, 1, 2, 3]
    assert [t.point for t in first] == [t.point for t in lost]
    assert first[0].checkpoint == Checkpoint(2, "two")
    assert first[0].lease.token > lost[0].lease.token
    assert claim_lost(storage, study, "search", "one", 9, 16) == []
    with storage.transaction() as connection:
        remaining = connection.execute(text("SELECT max(expires) - now() FROM hpo.lease")).scalar_one()
    assert remaining.total_seconds() > 900


def test_running_pack_takes_only_its_batch_size(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    dead = [t for _ in range(12) for t in claim(storage, study, "search", "dead", 1)]
    assert sizes(dead) == {16, 32}
    expire_leases(storage)
    taken = claim_lost(storage, study, "search", "one", 16, 32)
    assert [t.number for t in taken] == [t.number for t in dead if t.point["batch_size"] == 32]
    assert claim_lost(storage, study, "search", "one", 16, 8) == []


def test_pack_that_refills_takes_waiting_trials_of_its_batch_size(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    taken = claim(storage, study, "search", "one", 3, batch_size=32)
    assert len(taken) == 3
    assert sizes(taken) == {32}
    (suspect,) = lose(storage, study, 1, SUSPECT_LOSSES)
    size = int(suspect.point["batch_size"])
    rest = [t for _ in range(12) for t in claim(storage, study, "search", "one", 1, batch_size=size)]
    assert sizes(rest) == {size}
    assert suspect.number not in [trial.number for trial in rest]
    assert claim(storage, study, "search", "one", 3, batch_size=8) == []


def test_refilling_a_pack_suggests_no_points(storage: Storage, spec: SpecOf) -> None:
    """A point from TPE may have any batch size."""
    study = create(storage, spec(sampler={"name": "tpe", "startup": 1}), "test").study
    first = claim(storage, study, "search", "one", 1)
    finish(storage, first)
    size = int(first[0].point["batch_size"])
    assert claim(storage, study, "search", "one", 3, batch_size=size) == []
    assert claim(storage, study, "search", "one", 3) != []


def test_running_pack_takes_no_suspect_trial(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    lose(storage, study, 2, SUSPECT_LOSSES)
    assert claim_lost(storage, study, "search", "one", 4, 16) == []


def test_full_training_pack_takes_no_search_trial(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    claim(storage, study, "search", "dead", 3)
    expire_leases(storage)
    assert claim_lost(storage, study, "full", "one", 4, 16) == []


def test_claim_without_lost_trials_takes_no_lock(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    claim(storage, study, "search", "alive", 3)
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        assert claim_lost(storage, study, "search", "one", 4, 16) == []


# A stage that is stopped


def test_stopped_stage_hands_out_only_begun_trials(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    running = claim(storage, study, "search", "alive", 1)
    lost = claim(storage, study, "search", "dead", 2)
    lifecycle.stop(storage, study)
    assert claim(storage, study, "search", "one", 4) == []
    assert not is_finished(storage, study, "search")
    expire_leases(storage, "dead")
    again = claim(storage, study, "search", "one", 4)
    assert [t.number for t in again] == [t.number for t in lost]
    finish(storage, again)
    assert not is_finished(storage, study, "search")
    with storage.transaction() as connection:
        leases.release(connection, [running[0].lease])
    assert not is_finished(storage, study, "search")  # the waiting trial has begun
    finish(storage, claim_lost(storage, study, "search", "one", 4, 16))
    assert is_finished(storage, study, "search")
    assert claim(storage, study, "search", "one", 4) == []
    assert status(storage, study).search.states["WAITING"] == 9


# Shares


def test_workers_share_waiting_trials_evenly(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    add_workers(storage, 4)
    add_workers(storage, 3, seconds_ago=3600)
    assert len(claim(storage, study, "search", "one", 16)) == 3  # of 12
    assert len(claim(storage, study, "search", "two", 16)) == 3  # of 9, rounded up
    assert len(claim(storage, study, "search", "three", 1)) == 1


def test_single_worker_takes_a_full_pack(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(space={"batch_size": 16}), "test").study
    assert len(claim(storage, study, "search", "one", 16)) == 12


def test_claim_limits_the_number_of_suggestions(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(sampler=TPE, space={"batch_size": 16}), "test").study
    finish(storage, claim(storage, study, "search", "one", 16))
    assert len(claim(storage, study, "search", "one", 16)) == MAX_SUGGESTIONS
    assert len(rows(storage, study.search_id)) == 6 + MAX_SUGGESTIONS
    assert len(claim(storage, study, "search", "one", 16, max_suggestions=1)) == 1


def test_full_training_is_claimed_like_the_search(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(promotion={"top": 2, "seeds": 2}), "test").study
    assert claim(storage, study, "full", "one", 4) == []
    assert is_finished(storage, study, "full")
    serve_alone(storage, study, 16)
    chosen = promote(storage, study).chosen
    assert not is_finished(storage, study, "full")
    trials: list[LeasedTrial] = []
    while pack := claim(storage, study, "full", "one", 4):
        trials += pack
    assert [cell(t.point) for t in trials] == [cell(row.point) for row in chosen for _ in range(2)]
    assert [t.seed for t in trials[:2]] == [t.seed for t in trials[2:]]
    assert len({t.seed for t in trials}) == 2
    finish(storage, trials)
    assert is_finished(storage, study, "full")
