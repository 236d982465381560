"""What a pack writes after each epoch, and who leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from hpo import catalog, ledger
from hpo.catalog import TrialRow
from hpo.claim import LeasedTrial, claim
from hpo.epoch import EpochResult
from hpo.errors import StorageError
from hpo.promotion import promote
from hpo.reporter import Reporter
from hpo.spec import StudySpec
from hpo.status import status
from hpo.storage import Storage
from hpo.study import Stage, Study, create

SpecOf = Callable[..., StudySpec]
State = Literal["training", "finished", "diverged"]
Make = Callable[..., tuple[Study, list[LeasedTrial], Reporter]]


def nothing(_trial: LeasedTrial) -> Mapping[str, Any]:
    return {}


def epoch(
    member: int,
    number: int,
    loss: float,
    state: State = "training",
    *,
    best: bool = True,
    accuracy: float = 0.5,
) -> EpochResult:
    return EpochResult(member, number, 0, 2 * loss, loss, accuracy, 1.0, 0.25, state, best)


@pytest.fixture
def make(storage: Storage, spec: SpecOf) -> Make:
    """`make(pruner=...)`: a study whose trials have one batch size, all its trials, and their reporter."""

    def made(
        save: Callable[[LeasedTrial], Mapping[str, Any]] = nothing, **changes: Any
    ) -> tuple[Study, list[LeasedTrial], Reporter]:
        study = create(storage, spec(space={"batch_size": 16}, **changes), "test").study
        trials = claim(storage, study, "search", "one", 16)
        return study, trials, reporter(storage, study, "search", trials, save)

    return made


def reporter(
    storage: Storage,
    study: Study,
    stage: Stage,
    trials: list[LeasedTrial],
    save: Callable[[LeasedTrial], Mapping[str, Any]] = nothing,
) -> Reporter:
    return Reporter(storage, study, stage, trials, {"worker": "one", "device": "cpu"}, save)


def rows(storage: Storage, study_id: int) -> list[TrialRow]:
    with storage.transaction() as connection:
        return catalog.trials(connection, study_id)


def curves(storage: Storage, study: Study) -> dict[int, dict[int, float]]:
    """By number."""
    return {trial.number: trial.intermediate_values for trial in storage.study(study.name).trials}


def lease_count(storage: Storage) -> int:
    with storage.transaction() as connection:
        count: int = connection.execute(text("SELECT count(*) FROM hpo.lease")).scalar_one()
    return count


def take_over(storage: Storage, study: Study, stage: Stage, number: int) -> LeasedTrial:
    """Another worker gets trial `number`."""
    with storage.transaction() as connection:
        connection.execute(
            text(
                "UPDATE hpo.lease SET expires = now() - interval '1 second' FROM trials "
                "WHERE trials.trial_id = lease.trial_id AND number = :number AND study_id = :study_id"
            ),
            {"number": number, "study_id": study.study_id(stage)},
        )
    (taken,) = claim(storage, study, stage, "another", 1)
    assert taken.number == number
    return taken


# Epochs and ends


def test_a_pack_from_its_first_epoch_to_its_last(storage: Storage, make: Make) -> None:
    study, trials, pack = make(search={"trials": 3})
    assert [t.number for t in trials] == [0, 1, 2]
    assert pack.report([epoch(n, 1, 0.5 + n) for n in range(3)]) == set()
    assert curves(storage, study) == {0: {1: 0.5}, 1: {1: 1.5}, 2: {1: 2.5}}
    ends = [epoch(0, 2, 0.25, "finished", accuracy=0.75), epoch(1, 2, 0.5), epoch(2, 2, 0.5)]
    assert pack.report(ends) == set()  # the trainer knows that a finished member has left
    assert pack.report([epoch(n, 3, 0.375, "finished") for n in (1, 2)]) == set()

    found = rows(storage, study.search_id)
    assert [row.state for row in found] == [TrialState.COMPLETE] * 3
    assert [row.value for row in found] == [0.25, 0.375, 0.375]
    assert found[0].attributes == {
        "seed": trials[0].seed,
        "accuracy": 0.75,
        "kept_epoch": 2,
        "epochs": 2,
        "worker": "one",
        "device": "cpu",
    }
    assert curves(storage, study)[1] == {1: 1.5, 2: 0.5, 3: 0.375}
    assert lease_count(storage) == 0
    spent = status(storage, study).search
    assert spent.activities == {"training": 8.0, "evaluation": 2.0}
    assert spent.device_seconds == 10.0


def test_the_search_keeps_the_last_epoch(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 1})
    pack.report([epoch(0, 1, 0.125)])
    pack.report([epoch(0, 2, 0.5, "finished", best=False)])
    (row,) = rows(storage, study.search_id)
    assert (row.value, row.attributes["kept_epoch"], row.attributes["epochs"]) == (0.5, 2, 2)


def test_full_training_keeps_the_best_epoch(storage: Storage, make: Make) -> None:
    study, _, search = make(search={"trials": 1})
    search.report([epoch(0, 1, 0.5, "finished")])
    promote(storage, study)
    trials = claim(storage, study, "full", "one", 1)
    pack = reporter(storage, study, "full", trials)
    pack.report([epoch(0, 1, 0.5)])
    pack.report([epoch(0, 2, 0.125, accuracy=0.875)])
    pack.report([epoch(0, 3, 0.25, "finished", best=False)])
    (row,) = rows(storage, study.full_id)
    assert row.value == 0.125
    kept = {name: row.attributes[name] for name in ("accuracy", "kept_epoch", "epochs", "promoted_from")}
    assert kept == {"accuracy": 0.875, "kept_epoch": 2, "epochs": 3, "promoted_from": 0}


def test_a_diverged_member_fails_and_the_others_go_on(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    assert pack.report([epoch(0, 2, float("nan"), "diverged", best=False), epoch(1, 2, 0.25)]) == set()
    pack.report([epoch(1, 3, 0.125, "finished")])
    failed, complete = rows(storage, study.search_id)
    assert (failed.state, failed.value) == (TrialState.FAIL, None)
    assert failed.attributes["reason"] == "its loss was not finite in epoch 2"
    assert failed.attributes["worker"] == "one"
    assert curves(storage, study)[0] == {1: 0.5}
    assert complete.state == TrialState.COMPLETE
    assert status(storage, study).search.device_seconds == 5 * 1.25  # the lost epoch was paid for, too


def test_weights_are_saved_before_the_end_and_noted(storage: Storage, make: Make) -> None:
    seen: list[tuple[int, TrialState]] = []

    def save(trial: LeasedTrial) -> Mapping[str, Any]:
        (row,) = (r for r in rows(storage, study.search_id) if r.number == trial.number)
        seen.append((trial.number, row.state))
        return {"weights": f"{trial.number}.safetensors"}

    study, _, pack = make(save, search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    assert seen == []
    pack.report([epoch(0, 2, 0.5, "finished"), epoch(1, 2, float("inf"), "diverged")])
    assert seen == [(0, TrialState.RUNNING)]
    assert rows(storage, study.search_id)[0].attributes["weights"] == "0.safetensors"


def test_weights_that_cannot_be_saved_leave_the_trial_open(storage: Storage, make: Make) -> None:
    def save(_trial: LeasedTrial) -> Mapping[str, Any]:
        raise OSError("No space left on device")

    study, _, pack = make(save, search={"trials": 1})
    with pytest.raises(OSError, match="No space left"):
        pack.report([epoch(0, 1, 0.5, "finished")])
    assert rows(storage, study.search_id)[0].state == TrialState.RUNNING
    pack.fail(OSError("No space left on device"))
    assert rows(storage, study.search_id)[0].attributes["reason"] == "OSError: No space left on device"


# Pruning


def test_median_prunes_what_is_worse_than_half_of_the_completed(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 5}, pruner={"name": "median", "startup_trials": 3})
    assert pack.report([epoch(n, 1, 1.0 + n) for n in range(5)]) == set()  # nothing is complete yet
    assert pack.report([epoch(n, 2, 1.0 + n, "finished") for n in range(3)]) == set()
    assert pack.report([epoch(3, 2, 1.5), epoch(4, 2, 4.0, accuracy=0.25)]) == {4}
    assert pack.report([epoch(3, 3, 1.5, "finished")]) == set()
    pruned = rows(storage, study.search_id)[4]
    assert (pruned.state, pruned.value) == (TrialState.PRUNED, 4.0)
    assert pruned.attributes == {
        "seed": pruned.attributes["seed"],
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
    assert pack.report([epoch(3, 4, 0.2, "finished")]) == set()
    states = [row.state.name for row in rows(storage, study.search_id)]
    assert states == ["PRUNED", "PRUNED", "PRUNED", "COMPLETE", "PRUNED", "PRUNED"]


def test_hyperband_never_stops_all_of_a_bracket(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 12}, pruner={"name": "hyperband", "reduction": 3})
    left = set(range(12))
    for number in range(1, 9):
        left -= pack.report([epoch(n, number, 1.0 + n) for n in sorted(left)])
    assert 0 in left
    assert 1 < len(left) < 12  # the last bracket has no rung before the end
    assert pack.report([epoch(n, 9, 1.0 + n, "finished") for n in sorted(left)]) == set()
    states = status(storage, study).search.states
    assert (states["COMPLETE"], states["PRUNED"]) == (len(left), 12 - len(left))


def test_a_member_in_its_last_epoch_is_not_pruned(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 4}, pruner={"name": "median", "startup_trials": 1})
    pack.report([epoch(n, 1, 0.1, "finished") for n in range(3)])
    assert pack.report([epoch(3, 1, 9.0, "finished")]) == set()
    assert rows(storage, study.search_id)[3].state == TrialState.COMPLETE


def test_full_training_is_not_pruned(storage: Storage, make: Make) -> None:
    study, _, search = make(
        search={"trials": 4}, pruner={"name": "median", "startup_trials": 1}, promotion={"top": 4}
    )
    search.report([epoch(n, 1, 0.1, "finished") for n in range(4)])
    promote(storage, study)
    trials = claim(storage, study, "full", "one", 4)
    pack = reporter(storage, study, "full", trials)
    pack.report([epoch(0, 1, 0.1, "finished")])
    assert pack.report([epoch(n, 1, 9.0) for n in (1, 2, 3)]) == set()


def test_a_trial_that_starts_anew_is_judged_by_the_epoch_it_is_in(storage: Storage, make: Make) -> None:
    """Its earlier owner had come further, and what it reported stays."""
    study, _, pack = make(search={"trials": 3}, pruner={"name": "median", "startup_trials": 2})
    pack.report([epoch(n, 1, 0.5) for n in range(3)])
    pack.report([epoch(2, 2, 0.25)])
    taken = take_over(storage, study, "search", 2)
    for number in (2, 3):  # meanwhile others complete, and were better at the second epoch
        state: State = "finished" if number == 3 else "training"
        pack.report([epoch(n, number, 0.125, state) for n in (0, 1)])
    again = reporter(storage, study, "search", [taken])
    assert again.report([epoch(2, 1, 0.5)]) == set()  # as good as the others at the first
    assert again.report([epoch(2, 2, 0.25)]) == {2}
    pruned = rows(storage, study.search_id)[2]
    assert (pruned.value, pruned.attributes["epochs"]) == (0.25, 2)


# Lost leases, failures, release


def test_a_lost_member_leaves_and_nothing_of_it_is_written(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5)])
    taken = take_over(storage, study, "search", 1)
    assert pack.report([epoch(0, 2, 0.25), epoch(1, 2, 0.25)]) == {1}
    assert curves(storage, study) == {0: {1: 0.5, 2: 0.25}, 1: {1: 0.5}}
    assert status(storage, study).search.device_seconds == 3 * 1.25
    assert pack.report([epoch(0, 3, 0.125, "finished")]) == set()
    assert rows(storage, study.search_id)[1].state == TrialState.RUNNING
    with storage.transaction() as connection:
        assert ledger.hold(connection, [taken.lease], 30) == {taken.lease.trial_id}


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_a_lost_member_cannot_end_its_trial(storage: Storage, make: Make, state: State) -> None:
    study, _, pack = make(search={"trials": 1})
    take_over(storage, study, "search", 0)
    assert pack.report([epoch(0, 1, 0.5, state)]) == {0}
    (row,) = rows(storage, study.search_id)
    assert (row.state, row.value, set(row.attributes)) == (TrialState.RUNNING, None, {"seed"})


def test_a_pack_that_lost_all_writes_nothing(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 1})
    take_over(storage, study, "search", 0)
    pack.fail(RuntimeError("too late"))
    pack.release()
    assert rows(storage, study.search_id)[0].state == TrialState.RUNNING
    assert lease_count(storage) == 1


def test_a_trial_that_others_ended_leaves_the_pack(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 2})
    storage.study("small").tell(0, state=TrialState.FAIL)
    assert pack.report([epoch(0, 1, 0.5), epoch(1, 1, 0.5, "finished")]) == {0}
    assert [row.state.name for row in rows(storage, study.search_id)] == ["FAIL", "COMPLETE"]


def test_an_error_ends_the_open_trials_with_its_traceback(storage: Storage, make: Make) -> None:
    study, _, pack = make(search={"trials": 3})
    pack.report([epoch(0, 1, 0.5, "finished"), epoch(1, 1, 0.5), epoch(2, 1, 0.5)])

    def explode() -> None:
        raise ValueError("a shape is wrong")

    with pytest.raises(ValueError, match="shape") as caught:
        explode()
    pack.fail(caught.value)
    complete, *failed = rows(storage, study.search_id)
    assert complete.state == TrialState.COMPLETE
    for row in failed:
        assert (row.state, row.value) == (TrialState.FAIL, None)
        assert row.attributes["reason"] == "ValueError: a shape is wrong"
        assert "in explode" in row.attributes["traceback"]
        assert row.attributes["device"] == "cpu"
    assert lease_count(storage) == 0


def test_released_trials_go_back_into_the_queue(storage: Storage, make: Make) -> None:
    study, trials, pack = make(search={"trials": 3})
    pack.report([epoch(0, 1, 0.5, "finished"), epoch(1, 1, 0.5), epoch(2, 1, 0.5)])
    pack.release()
    assert [row.state.name for row in rows(storage, study.search_id)] == ["COMPLETE", "WAITING", "WAITING"]
    again = claim(storage, study, "search", "two", 16)
    assert [(t.number, t.seed) for t in again] == [(t.number, t.seed) for t in trials[1:]]
    pack.release()  # they are no longer this pack's
    assert lease_count(storage) == 2


def test_a_report_that_failed_can_be_made_again(
    storage: Storage, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, pack = make(search={"trials": 1})
    results = [epoch(0, 1, 0.5, "finished")]
    with monkeypatch.context() as patch:

        def break_off(*_arguments: object) -> None:
            raise StorageError("the connection is gone")

        patch.setattr(ledger, "finish", break_off)
        with pytest.raises(StorageError):
            pack.report(results)
    assert curves(storage, study) == {0: {}}
    assert pack.report(results) == set()
    assert rows(storage, study.search_id)[0].value == 0.5
    assert status(storage, study).search.device_seconds == 1.25


def test_a_report_that_was_committed_unheard_is_not_written_twice(storage: Storage, make: Make) -> None:
    """The connection died after the commit: to the pack its trial looks lost, and it is complete."""
    study, trials, pack = make(search={"trials": 1})
    reporter(storage, study, "search", trials).report([epoch(0, 1, 0.5, "finished")])
    assert pack.report([epoch(0, 1, 0.5, "finished")]) == {0}
    assert status(storage, study).search.device_seconds == 1.25
