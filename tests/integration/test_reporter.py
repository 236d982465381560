"""The reports of a pack, and the members that leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.artifacts import MemoryStore
from support.claims import claim
from support.epochs import epoch_result
from support.reporters import reporter, target
from support.unreliable_storage import Link, UnreliableStorage

from hpo.errors import StorageError, UnavailableError
from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, costs, leases, results, trials
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.retry import Backoff
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.stored import remove
from hpo.study.study import Study
from hpo.values.epoch import EpochResult
from hpo.values.stage import Stage
from hpo.worker.outbox import Outbox
from hpo.worker.pack_writer import FileCleanup
from hpo.worker.reporter import Reporter

SpecOf = Callable[..., StudySpec]
State = Literal["training", "finished", "diverged"]
Make = Callable[..., tuple[Study, list[LeasedTrial], Reporter]]

LONG = 30.0
"""Seconds within which all is delivered, even on a busy machine."""


def epoch(
    member: int,
    number: int,
    loss: float,
    state: State = "training",
    *,
    kept: int | None = None,
    accuracy: float = 0.5,
) -> EpochResult:
    return epoch_result(
        member, number, loss, validation_accuracy=accuracy, status=state, kept_epoch=kept or number
    )


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened


@pytest.fixture
def link() -> Link:
    """The connection of the reporters of `make` to the storage."""
    return Link()


@pytest.fixture
def make(storage: Storage, spec: SpecOf, outbox: Outbox, link: Link) -> Make:
    """Return a study with one batch size, all its trials, and their reporter: `make(pruner=...)`."""
    unreliable = UnreliableStorage.over(storage, link)

    def made(**changes: Any) -> tuple[Study, list[LeasedTrial], Reporter]:
        study = create(storage, spec(space={"batch_size": 16}, **changes), "test").study
        trials = claim(storage, study, "search", "one", 16)
        return study, trials, reporter(target(unreliable, study), trials, outbox)

    return made


def rows(storage: Storage, study_id: int) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study_id).ours


def states(storage: Storage, study: Study) -> list[str]:
    return [row.state.name for row in rows(storage, study.search_id)]


def curves(storage: Storage, study: Study) -> dict[int, dict[int, float]]:
    """By number."""
    return {trial.number: trial.intermediate_values for trial in storage.study(study.name).trials}


def lease_count(storage: Storage) -> int:
    """Return the number of leases that a worker holds."""
    with storage.transaction() as connection:
        query = text("SELECT count(*) FROM hpo.lease WHERE worker IS NOT NULL")
        count: int = connection.execute(query).scalar_one()
    return count


def take_over(storage: Storage, study: Study, stage: Stage, number: int) -> LeasedTrial:
    """Let another worker take over trial `number`, and return the trial."""
    with storage.transaction() as connection:
        connection.execute(
            text(
                "UPDATE hpo.lease SET expires = to_timestamp(0) FROM trials "
                "WHERE trials.trial_id = lease.trial_id AND number = :number AND study_id = :study_id"
            ),
            {"number": number, "study_id": study.study_id(stage)},
        )
    (taken,) = claim(storage, study, stage, "another", 1)
    assert taken.number == number
    return taken


def seconds(storage: Storage, study: Study) -> dict[str, float]:
    spent = status(storage, study).search.activities
    return {activity: foundds for activity, foundds in spent.items() if foundds}


# Epochs and ends


def test_a_pack_from_its_first_epoch_to_its_last(storage: Storage, make: Make) -> None:
    study, trials, pack = make(search={"trials": 3})
    assert [t.number for t in trials] == [0, 1, 2]
    assert pack.leases == tuple(trial.lease for trial in trials)
    assert pack.report([epoch(n, 1, 0.5 + n) for n in range(3)]) == set()
    assert curves(storage, study) == {0: {1: 0.5}, 1: {1: 1.5}, 2: {1: 2.5}}
    ends = [epoch(0, 2, 0.25, "finished", accuracy=0.75), epoch(1, 2, 0.5), epoch(2, 2, 0.5)]
    assert pack.report(ends) == {0}
    assert pack.leases == tuple(trial.lease for trial in trials[1:])
    assert pack.report([epoch(n, 3, 0.375, "finished") for n in (1, 2)]) == {1, 2}

    found_rows = rows(storage, study.search_id)
    assert [row.state for row in found_rows] == [TrialState.COMPLETE] * 3
    assert [row.value for row in found_rows] == [0.25, 0.375, 0.375]
    assert storage.study("small").trials[0].user_attrs == {
        "seed": trials[0].seed,
        "accuracy": 0.75,
        "kept_epoch": 2,
        "epochs": 2,
        "worker": "one",
        "device": "cpu",
    }
    assert curves(storage, study)[1] == {1: 1.5, 2: 0.5, 3: 0.375}
    assert lease_count(storage) == 0
    assert seconds(storage, study) == {"training": 8.0, "evaluation": 2.0}


def test_the_search_keeps_the_last_epoch(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 1})
    pack.report([epoch(0, 1, 0.125)])
    pack.report([epoch(0, 2, 0.5, "finished")])
    (row,) = rows(storage, study.search_id)
    assert (row.value, row.record.kept_epoch, row.record.epochs) == (0.5, 2, 2)


def test_full_training_keeps_the_best_epoch(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, search = make(search={"trials": 1})
    search.report([epoch(0, 1, 0.5, "finished")])
    promote(storage, study)
    trials = claim(storage, study, "full", "one", 1)
    pack = reporter(target(storage, study, "full"), trials, outbox)
    pack.report([epoch(0, 1, 0.5)])
    pack.report([epoch(0, 2, 0.125, accuracy=0.875)])
    pack.report([epoch(0, 3, 0.25, "finished", kept=2)], {0: "0.safetensors"})
    (row,) = rows(storage, study.full_id)
    assert row.value == 0.125
    noted = storage.study("small-full").trials[0].user_attrs
    assert (noted.pop("promoted_from"), noted.pop("seed")) == (0, trials[0].seed)
    assert noted == {
        "accuracy": 0.875,
        "kept_epoch": 2,
        "epochs": 3,
        "weights": "0.safetensors",
        "worker": "one",
        "device": "cpu",
    }


def test_a_diverged_member_fails_and_the_others_go_on(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    assert pack.report([epoch(0, 2, float("nan"), "diverged", kept=1), epoch(1, 2, 0.25)]) == {0}
    pack.report([epoch(1, 3, 0.125, "finished")])
    failed, complete = rows(storage, study.search_id)
    assert (failed.state, failed.value) == (TrialState.FAIL, None)
    assert failed.record.reason == "its loss was not finite in epoch 2"
    assert failed.record.worker == "one"
    assert curves(storage, study)[0] == {1: 0.5}
    assert complete.state == TrialState.COMPLETE
    assert status(storage, study).search.device_seconds == 5 * 1.25  # the lost epoch was paid for, too


def test_cleanup_of_ended_trials_runs_after_their_end_is_written(
    storage: Storage, make: Make, outbox: Outbox
) -> None:
    study, trials, _ = make(search={"trials": 5}, pruner={"name": "median", "startup_trials": 1})
    calls: list[tuple[int, str]] = []

    def ended(numbers: Iterable[int]) -> None:
        found_states = states(storage, study)
        calls.extend((number, found_states[number]) for number in numbers)

    pack = reporter(target(storage, study), trials, outbox, cleanup=FileCleanup(ended=ended))
    pack.report([epoch(n, 1, 9.0) for n in range(5)])
    pack.report([epoch(0, 2, 0.1, "finished")])
    take_over(storage, study, "search", 2)
    ill = epoch(1, 2, float("nan"), "diverged")
    pack.report([ill, epoch(2, 2, 0.1), epoch(3, 2, 9.0), epoch(4, 2, 0.05)])
    pack.fail(ValueError("why"), range(5))
    assert outbox.wait(LONG)
    assert sorted(calls) == [(0, "COMPLETE"), (1, "FAIL"), (3, "PRUNED"), (4, "FAIL")]  # 2 is another's


# Pruning


def test_median_prunes_members_worse_than_half_of_the_complete_trials(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 5}, pruner={"name": "median", "startup_trials": 3})
    assert pack.report([epoch(n, 1, 1.0 + n) for n in range(5)]) == set()  # nothing is complete yet
    pack.report([epoch(n, 2, 1.0 + n, "finished") for n in range(3)])
    assert pack.report([epoch(3, 2, 1.5), epoch(4, 2, 4.0, accuracy=0.25)]) == {4}
    pack.report([epoch(3, 3, 1.5, "finished")])
    pruned = rows(storage, study.search_id)[4]
    assert (pruned.state, pruned.value) == (TrialState.PRUNED, 4.0)
    assert storage.study("small").trials[4].user_attrs == {
        "seed": pruned.record.seed,
        "accuracy": 0.25,
        "kept_epoch": 2,
        "epochs": 2,
        "worker": "one",
        "device": "cpu",
    }
    assert curves(storage, study)[4] == {1: 5.0, 2: 4.0}  # the epoch that it was pruned at is there
    assert lease_count(storage) == 0


def test_asha_lets_the_best_third_of_a_pack_pass_a_rung(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 6}, pruner={"name": "asha", "min_epochs": 1, "reduction": 3})
    losses = [0.5, 0.1, 0.6, 0.2, 0.4, 0.3]
    assert pack.report([epoch(n, 1, loss) for n, loss in enumerate(losses)]) == {0, 2, 4, 5}
    assert pack.report([epoch(n, 2, losses[n]) for n in (1, 3)]) == set()  # no rung
    assert pack.report([epoch(1, 3, 0.3), epoch(3, 3, 0.2)]) == {1}
    pack.report([epoch(3, 4, 0.2, "finished")])
    assert states(storage, study) == ["PRUNED", "PRUNED", "PRUNED", "COMPLETE", "PRUNED", "PRUNED"]


def test_hyperband_never_stops_all_of_a_bracket(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 12}, pruner={"name": "hyperband", "reduction": 3})
    left = set(range(12))
    for number in range(1, 9):
        left -= pack.report([epoch(n, number, 1.0 + n) for n in sorted(left)])
    assert 0 in left
    assert 1 < len(left) < 12  # the last bracket has no rung before the end
    pack.report([epoch(n, 9, 1.0 + n, "finished") for n in sorted(left)])
    found_states = states(storage, study)
    assert (found_states.count("COMPLETE"), found_states.count("PRUNED")) == (len(left), 12 - len(left))


def test_a_member_in_its_last_epoch_is_not_pruned(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 4}, pruner={"name": "median", "startup_trials": 1})
    pack.report([epoch(n, 1, 0.1, "finished") for n in range(3)])
    pack.report([epoch(3, 1, 9.0, "finished")])
    assert rows(storage, study.search_id)[3].state == TrialState.COMPLETE


def test_full_training_is_not_pruned(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, search = make(
        search={"trials": 4}, pruner={"name": "median", "startup_trials": 1}, promotion={"top": 4}
    )
    search.report([epoch(n, 1, 0.1, "finished") for n in range(4)])
    promote(storage, study)
    trials = claim(storage, study, "full", "one", 4)
    pack = reporter(target(storage, study, "full"), trials, outbox)
    pack.report([epoch(0, 1, 0.1, "finished")])
    assert pack.report([epoch(n, 1, 9.0) for n in (1, 2, 3)]) == set()


# Trials that another worker had begun


def taken_over(
    storage: Storage, make: Make, outbox: Outbox, former: list[EpochResult], **changes: Any
) -> tuple[Study, Reporter]:
    """Return a study that lost its open trial 0 after the epochs `former`, and the new reporter."""
    study, _, pack = make(**changes)
    for result in former:
        pack.report([result])
    taken = take_over(storage, study, "search", 0)
    return study, reporter(target(storage, study), [taken], outbox)


def test_first_metrics_of_an_epoch_stay_and_count(storage: Storage, make: Make, outbox: Outbox) -> None:
    """An epoch that is trained again may differ in its last digits, on another device more."""
    former = [epoch(0, 1, 0.5), epoch(0, 2, 0.25, accuracy=0.75)]
    study, pack = taken_over(storage, make, outbox, former, search={"trials": 1})
    pack.report([epoch(0, 1, 0.51)])
    pack.report([epoch(0, 2, 0.26, "finished", accuracy=0.74)])
    (row,) = rows(storage, study.search_id)
    assert (row.state, row.value, row.record.accuracy) == (TrialState.COMPLETE, 0.25, 0.75)
    assert curves(storage, study) == {0: {1: 0.5, 2: 0.25}}


def test_resumed_trial_reports_only_later_epochs(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, pack = taken_over(storage, make, outbox, [epoch(0, 1, 0.5)], search={"trials": 1})
    pack.report([epoch(0, 2, 0.25)])
    pack.report([epoch(0, 3, 0.375, "finished", kept=2)])
    (row,) = rows(storage, study.search_id)
    assert (row.value, row.record.epochs, row.record.takeovers) == (0.25, 3, 1)
    assert curves(storage, study) == {0: {1: 0.5, 2: 0.25, 3: 0.375}}


def test_an_epoch_is_judged_once(storage: Storage, make: Make) -> None:
    """A trial that trains an epoch again is not pruned there, though better trials have come since."""
    study, _, pack = make(search={"trials": 3}, pruner={"name": "median", "startup_trials": 2})
    pack.report([epoch(n, 1, 0.5) for n in range(3)])
    pack.report([epoch(2, 2, 0.25)])
    for number in (2, 3):  # they were better at the second epoch
        pack.report([epoch(n, number, 0.125, "finished" if number == 3 else "training") for n in (0, 1)])
    assert pack.report([epoch(2, 1, 0.5)]) == set()
    assert pack.report([epoch(2, 2, 0.25)]) == set()
    assert pack.report([epoch(2, 3, 0.25)]) == {2}
    pruned = rows(storage, study.search_id)[2]
    assert (pruned.state, pruned.value, pruned.record.epochs) == (TrialState.PRUNED, 0.25, 3)


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_later_epochs_of_a_former_attempt_are_deleted(
    storage: Storage, make: Make, outbox: Outbox, state: State
) -> None:
    former = [epoch(0, number, 1 / number) for number in (1, 2, 3, 4)]
    study, pack = taken_over(storage, make, outbox, former, search={"trials": 1})
    pack.report([epoch(0, 1, 1.0)])
    pack.report([epoch(0, 2, float("nan") if state == "diverged" else 0.5, state)])
    kept = {1: 1.0} if state == "diverged" else {1: 1.0, 2: 0.5}
    assert curves(storage, study) == {0: kept}
    with storage.transaction() as connection:
        epochs = connection.execute(text("SELECT epoch FROM hpo.epoch ORDER BY epoch")).scalars().all()
    assert epochs == list(kept)


# Lost leases, failures, release


def test_lost_member_leaves_and_nothing_of_it_is_written(storage: Storage, make: Make) -> None:
    study, trials, pack = make(search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    taken = take_over(storage, study, "search", 1)
    assert pack.report([epoch(0, 2, 0.25), epoch(1, 2, 0.25)]) == {1}
    assert pack.leases == (trials[0].lease,)
    assert curves(storage, study) == {0: {1: 0.5, 2: 0.25}, 1: {1: 0.5}}
    pack.report([epoch(0, 3, 0.125, "finished")])
    assert rows(storage, study.search_id)[1].state == TrialState.RUNNING
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken.lease]) == {taken.lease.trial_id}


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_lost_member_cannot_end_its_trial(storage: Storage, make: Make, state: State) -> None:
    study, _, pack = make(search={"trials": 1})
    take_over(storage, study, "search", 0)
    assert pack.report([epoch(0, 1, 0.5, state)]) == {0}
    (row,) = rows(storage, study.search_id)
    assert (row.state, row.value) == (TrialState.RUNNING, None)
    assert row.record == TrialRecord(row.record.seed, takeovers=1)


def test_empty_report_returns_lost_members(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    take_over(storage, study, "search", 1)
    assert pack.report([]) == {1}


def test_pack_that_lost_all_trials_writes_nothing(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, pack = make(search={"trials": 1})
    taken = take_over(storage, study, "search", 0)
    pack.fail(RuntimeError("too late"), [0])
    pack.release()
    assert outbox.wait(LONG)
    assert rows(storage, study.search_id)[0].state == TrialState.RUNNING
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken.lease]) == {taken.lease.trial_id}


def test_trial_that_others_ended_leaves_the_pack(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    storage.study("small").tell(0, state=TrialState.FAIL)
    assert pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)]) == {0}
    assert states(storage, study) == ["FAIL", "RUNNING"]


def test_joined_trial_is_reported_like_the_others(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, trials, _ = make(search={"trials": 2})
    pack = reporter(target(storage, study), trials[:1], outbox)
    pack.report([epoch(0, 1, 0.5)])
    outbox.post(lambda: pack.add(trials[1:]))
    assert outbox.wait(LONG)
    assert pack.leases == tuple(trial.lease for trial in trials)
    pack.report([epoch(0, 2, 0.5), epoch(1, 1, 0.25)])
    assert curves(storage, study) == {0: {1: 0.5, 2: 0.5}, 1: {1: 0.25}}
    pack.release()
    assert outbox.wait(LONG)
    assert states(storage, study) == ["WAITING", "WAITING"]


def test_error_fails_the_open_trials_with_its_traceback(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, pack = make(search={"trials": 3})
    pack.report([epoch(0, 1, 0.5, "finished"), epoch(1, 1, 0.5), epoch(2, 1, 0.5)])

    def explode() -> None:
        raise ValueError("a shape is wrong")

    with pytest.raises(ValueError, match="shape") as caught:
        explode()
    pack.fail(caught.value, [0, 1, 2])
    assert outbox.wait(LONG)
    complete, *failed = rows(storage, study.search_id)
    assert complete.state == TrialState.COMPLETE
    seen = storage.study("small").trials
    for row in failed:
        assert (row.state, row.value) == (TrialState.FAIL, None)
        assert row.record.reason == "ValueError: a shape is wrong"
        assert "in explode" in seen[row.number].user_attrs["traceback"]
        assert row.record.device == "cpu"
    assert lease_count(storage) == 0
    assert pack.leases == ()


def test_reason_replaces_the_message_of_the_error(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, pack = make(search={"trials": 1})
    pack.fail(MemoryError("37"), [0], "too large")
    assert outbox.wait(LONG)
    (row,) = rows(storage, study.search_id)
    assert row.record.reason == "too large"
    assert "MemoryError: 37" in storage.study("small").trials[0].user_attrs["traceback"]


def test_trials_without_a_part_in_an_error_are_released(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, _, pack = make(search={"trials": 3})
    pack.fail(ValueError("why"), [1])
    assert outbox.wait(LONG)
    assert states(storage, study) == ["WAITING", "FAIL", "WAITING"]


def test_reports_of_a_removed_member_do_not_count_until_it_is_readmitted(
    storage: Storage, make: Make, outbox: Outbox
) -> None:
    """After an outage, a worker reports epochs of a trial that it lost and has claimed again."""
    study, _, pack = make(search={"trials": 1})
    taken = take_over(storage, study, "search", 0)
    assert pack.report([epoch(0, 1, 0.5)]) == {0}
    with storage.transaction() as connection:
        leases.release(connection, [taken.lease])
    again = claim(storage, study, "search", "me", 1)
    outbox.post(lambda: pack.add(again))
    pack.report([epoch(0, 2, 0.4)])  # of its former stay: epoch 1 is not on record
    pack.save({0: Checkpoint(2, "old")})
    assert curves(storage, study) == {0: {}}
    pack.readmit([0])
    pack.report([epoch(0, 1, 0.5)])
    assert outbox.wait(LONG)
    assert curves(storage, study) == {0: {1: 0.5}}
    with storage.transaction() as connection:
        assert checkpoints.read(connection, [again[0].lease.trial_id]) == {}


def test_released_trials_go_back_into_the_queue(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, trials, pack = make(search={"trials": 3})
    pack.report([epoch(0, 1, 0.5, "finished"), epoch(1, 1, 0.5), epoch(2, 1, 0.5)])
    pack.release()
    assert outbox.wait(LONG)
    assert states(storage, study) == ["COMPLETE", "WAITING", "WAITING"]
    again = claim(storage, study, "search", "two", 16)
    assert [(t.number, t.seed) for t in again] == [(t.number, t.seed) for t in trials[1:]]
    pack.release()  # they are no longer this pack's
    assert outbox.wait(LONG)
    assert lease_count(storage) == 2


# Checkpoints


def saved_files(storage: Storage, trials: list[LeasedTrial]) -> dict[int, Checkpoint]:
    """By number."""
    with storage.transaction() as connection:
        foundded = checkpoints.read(connection, [trial.lease.trial_id for trial in trials])
    return {t.number: foundded[t.lease.trial_id] for t in trials if t.lease.trial_id in foundded}


def test_replaced_checkpoints_are_cleaned_up(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, trials, _ = make(search={"trials": 2})
    replaced: list[str] = []
    pack = reporter(target(storage, study), trials, outbox, cleanup=FileCleanup(replaced=replaced.extend))
    pack.save({0: Checkpoint(1, "0 after 1"), 1: Checkpoint(1, "1 after 1")})
    assert outbox.wait(LONG)
    assert saved_files(storage, trials) == {0: Checkpoint(1, "0 after 1"), 1: Checkpoint(1, "1 after 1")}
    assert replaced == []
    pack.save({0: Checkpoint(2, "0 after 2")})
    pack.save({0: Checkpoint(2, "0 after 2")})  # a file is not given back while it is the one that counts
    assert outbox.wait(LONG)
    assert saved_files(storage, trials) == {0: Checkpoint(2, "0 after 2"), 1: Checkpoint(1, "1 after 1")}
    assert replaced == ["0 after 1"]


def test_checkpoints_of_lost_and_ended_trials_are_cleaned_up(
    storage: Storage, make: Make, outbox: Outbox
) -> None:
    study, trials, _ = make(search={"trials": 3})
    replaced: list[str] = []
    pack = reporter(target(storage, study), trials, outbox, cleanup=FileCleanup(replaced=replaced.extend))
    take_over(storage, study, "search", 0)
    pack.report([epoch(1, 1, 0.5, "finished"), epoch(2, 1, 0.5)])
    pack.save({n: Checkpoint(1, f"{n} after 1") for n in range(3)})
    assert outbox.wait(LONG)
    assert saved_files(storage, trials) == {2: Checkpoint(1, "2 after 1")}
    assert sorted(replaced) == ["0 after 1", "1 after 1"]


# Device seconds


def test_seconds_are_shared_among_members(storage: Storage, make: Make, outbox: Outbox) -> None:
    study, trials, _ = make(search={"trials": 2})
    ticks = iter(range(1000))
    pack = reporter(target(storage, study), trials, outbox, clock=lambda: next(ticks))
    pack.spend("checkpoints", 6.0, [0, 1])
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])  # and a second for the answer, in the next delivery
    pack.report([epoch(0, 2, 0.5)])
    pack.spend("checkpoints", 1.0, [1])
    pack.close()
    assert outbox.wait(LONG)
    assert pack.charged == 6.0 + 3 * 1.25 + 1.0 + 2 * 1.0
    assert status(storage, study).search.trial_seconds == {
        0: {"training": 2.0, "evaluation": 0.5, "checkpoints": 3.0, "database": 1.0},
        1: {"training": 1.0, "evaluation": 0.25, "checkpoints": 4.0, "database": 1.0},
    }


def test_seconds_of_lost_trials_are_charged(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    take_over(storage, study, "search", 1)
    pack.report([epoch(0, 1, 0.25), epoch(1, 1, 0.25)])
    assert seconds(storage, study) == {"training": 2.0, "evaluation": 0.5}


# Outages


def test_training_goes_on_while_the_storage_is_away(
    storage: Storage, make: Make, outbox: Outbox, link: Link
) -> None:
    study, _, pack = make(search={"trials": 2})
    link.cut()
    for number in (1, 2, 3):
        assert pack.report([epoch(0, number, 1 / number), epoch(1, number, 0.5)]) == set()
        assert link.refused.is_set()
    assert not pack.flush(LONG)
    assert not outbox.reachable
    assert curves(storage, study) == {0: {}, 1: {}}
    link.restore()
    assert outbox.wait(LONG)
    assert outbox.reachable
    assert curves(storage, study) == {0: {1: 1.0, 2: 1 / 2, 3: 1 / 3}, 1: dict.fromkeys((1, 2, 3), 0.5)}


def test_epochs_after_the_end_of_a_trial_are_ignored(
    storage: Storage, make: Make, outbox: Outbox, link: Link
) -> None:
    """Pruning is decided once the storage is back. Epochs that the trial trained since are ignored."""
    study, trials, pack = make(search={"trials": 3}, pruner={"name": "median", "startup_trials": 1})
    pack.report([epoch(n, 1, 9.0) for n in range(3)])
    pack.report([epoch(0, 2, 0.1, "finished")])
    link.cut()
    assert pack.report([epoch(1, 2, 9.0), epoch(2, 2, 0.1)]) == set()
    pack.save({n: Checkpoint(2, f"{n} after 2") for n in (1, 2)})
    assert pack.report([epoch(1, 3, 0.05, "finished"), epoch(2, 3, 0.1)]) == set()
    link.restore()
    assert outbox.wait(LONG)
    assert pack.report([]) >= {1}
    assert pack.report([]) == set()
    assert states(storage, study) == ["COMPLETE", "PRUNED", "RUNNING"]
    assert curves(storage, study)[1] == {1: 9.0, 2: 9.0}
    assert curves(storage, study)[2] == {1: 9.0, 2: 0.1, 3: 0.1}
    assert saved_files(storage, trials) == {2: Checkpoint(2, "2 after 2")}


def test_interrupted_report_is_written_again(
    storage: Storage, make: Make, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, pack = make(search={"trials": 1})
    finish, calls = results.finish, iter(range(100))

    def break_off(*arguments: Any) -> None:
        finish(*arguments)
        if next(calls) == 0:
            raise UnavailableError("the connection is gone")

    monkeypatch.setattr(results, "finish", break_off)
    pack.report([epoch(0, 1, 0.5, "finished")])
    pack.close()
    assert outbox.wait(LONG)
    assert rows(storage, study.search_id)[0].value == 0.5
    assert curves(storage, study) == {0: {1: 0.5}}
    assert status(storage, study).search.device_seconds == 1.25


def test_lost_answer_to_a_commit_does_no_harm(
    storage: Storage, make: Make, outbox: Outbox, link: Link
) -> None:
    """The connection died after the commit, so the delivery is written a second time."""
    study, trials, pack = make(search={"trials": 4}, pruner={"name": "median", "startup_trials": 1})
    pack.report([epoch(n, 1, 9.0) for n in range(4)])
    pack.report([epoch(2, 2, 0.5), epoch(3, 2, 0.5, "finished")])
    link.lost_commits = 1
    leaving = pack.report([epoch(0, 2, 0.1, "finished"), epoch(1, 2, 9.0)])
    assert outbox.wait(LONG)
    assert leaving | pack.report([]) >= {0, 1}  # the second attempt may be in time for the first report
    posts: tuple[Callable[[], None], ...] = (lambda: pack.save({2: Checkpoint(2, "two")}), pack.release)
    for post in posts:
        link.lost_commits = 1
        post()
        assert outbox.wait(LONG)
    assert link.lost_commits == 0
    assert states(storage, study) == ["COMPLETE", "PRUNED", "WAITING", "COMPLETE"]
    assert [row.value for row in rows(storage, study.search_id)] == [0.1, 9.0, None, 0.5]
    assert [curve[2] for curve in curves(storage, study).values()] == [0.1, 9.0, 0.5, 0.5]
    assert saved_files(storage, trials) == {2: Checkpoint(2, "two")}


def test_lost_answer_to_a_commit_charges_seconds_once(
    storage: Storage, make: Make, outbox: Outbox, link: Link
) -> None:
    study, _, pack = make(search={"trials": 1})
    link.lost_commits = 1
    pack.report([epoch(0, 1, 0.5)])
    assert outbox.wait(LONG)
    assert seconds(storage, study) == {"training": 1.0, "evaluation": 0.25}


def test_refusal_is_raised_by_the_next_call(
    storage: Storage, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, pack = make(search={"trials": 1})

    def refuse(*_arguments: object) -> None:
        raise StorageError("no such column")

    monkeypatch.setattr(costs, "charge", refuse)
    with pytest.raises(StorageError, match="no such column"):
        pack.report([epoch(0, 1, 0.5)])
    assert curves(storage, study) == {0: {}}


def test_trials_of_a_deleted_study_leave(storage: Storage, make: Make, tmp_path: Path) -> None:
    study, _, pack = make(search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    remove(storage, study, MemoryStore())
    assert pack.report([epoch(0, 2, 0.5), epoch(1, 2, 0.5)]) == {0, 1}
    pack.close()
    assert pack.flush(LONG)
