"""Training that is cut off, goes on elsewhere, and meets full disks, lost leases and trials of others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Connection, text
from support.claims import claim
from support.delayed_evaluation import DelayedEvaluation
from support.small_worker import (
    LIMITS,
    STEPS,
    StepHooks,
    StopWhenIdle,
    WorkerFactory,
    checkpoint_files,
    epoch_rows,
    forget_worker,
    states,
    trial_records,
    trials,
    use_small_network,
    weights,
)

from hpo.errors import UnavailableError
from hpo.spec.study_spec import StudySpec
from hpo.store import leases
from hpo.store.connection import Storage
from hpo.study.packs import SUSPECT_LOSSES
from hpo.study.schedule import LeasedTrial
from hpo.training.async_evaluation import AsyncEvaluator
from hpo.training.engines.eager import EagerEngine
from hpo.training.pack import Pack
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import CheckpointLimits, Runtime
from hpo.worker.trainers import TrainerFactory
from hpo.worker.trial_files import TrialFiles
from hpo.worker.worker import Worker

FULL = {"pretrain": {"epochs": 3, "patience": 2}, "finetune": {"epochs": 2}}


@pytest.fixture
def works(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> WorkerFactory:
    use_small_network(monkeypatch)
    # A checkpoint after each epoch, however slow the disk is.
    return WorkerFactory(storage, spec, tmp_path, replace(LIMITS, checkpoints=CheckpointLimits(1e9)))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> StepHooks:
    return StepHooks.installed(monkeypatch)


def until_idle(works: WorkerFactory) -> Runtime:
    """Return the runtime of a worker that stops when others lease all trials that are left."""
    return Runtime(stop=StopWhenIdle(), limits=works.limits)


# Cut off and gone on with


class Killed(BaseException):
    """A process that is killed writes nothing any more."""


@pytest.mark.parametrize(
    ("place", "limit", "evaluator"),
    [("gradients", 30, None), ("score", 4, None), ("gradients", 33, DelayedEvaluation(9))],
)
def test_trials_that_are_cut_off_again_and_again_are_as_if_they_had_not_been(
    works: WorkerFactory,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    limit: int,
    evaluator: AsyncEvaluator | None,
) -> None:
    """Each worker is told to stop, as by a signal, in the middle of its second or third epoch: they take 14
    steps in the search and 23 in full training, and two batches of validation."""
    calm = works("calm", promotes=True, full=FULL)
    calm.run()
    cuts, calls, whole = 0, 0, getattr(Pack, place)

    def cut(pack: Pack, *arguments: Any) -> Any:
        nonlocal calls, cuts
        calls += 1
        if calls == limit:
            cuts += 1
            worker.stop_now()
        return whole(pack, *arguments)

    monkeypatch.setattr(Pack, place, cut)
    monkeypatch.setattr(TrainerFactory, "_evaluator", evaluator)
    while True:
        worker, calls, before = works(promotes=True, full=FULL), 0, cuts
        worker.run()
        if cuts == before:
            break
        assert "RUNNING" not in states(storage, worker.study)
    assert cuts >= 4
    for stage in ("search", "full"):
        assert trial_records(storage, worker.study, stage) == trial_records(storage, calm.study, stage)
        assert any("takeovers" in row.attributes for row in trials(storage, worker.study, stage))
    (mine,), (theirs,) = weights(worker).values(), weights(calm).values()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not (worker.study.artifacts(worker.settings.artifacts) / "checkpoints").exists()


def test_what_a_killed_worker_had_saved_is_not_trained_again(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm")
    calm.run()
    assert steps.count == 3 * STEPS

    def kill() -> None:
        raise Killed

    worker = works()
    steps.count, steps.at = 0, {2 * STEPS + 5: kill}
    with pytest.raises(Killed):
        worker.run()
    assert states(storage, worker.study) == ["RUNNING"] * 4
    forget_worker(storage, worker.settings.name)
    steps.count = 0
    works(worker="next").run()
    assert steps.count == STEPS  # the last epoch alone
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_a_checkpoint_that_does_not_load_costs_its_epochs_and_nothing_else(
    works: WorkerFactory, storage: Storage, steps: StepHooks, caplog: pytest.LogCaptureFixture
) -> None:
    calm = works("calm")
    calm.run()
    worker = works()
    steps.at = {steps.count + 2 * STEPS + 5: worker.stop_now}
    worker.run()
    damaged, *others = checkpoint_files(worker)
    assert len(others) == 3
    damaged.write_bytes(damaged.read_bytes()[:-7])
    works(worker="next").run()
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)
    (aside,) = checkpoint_files(worker)
    assert aside.name == f"{damaged.name}.damaged"
    said = [message for message in caplog.messages if "does not load" in message]
    assert len(said) == 1
    assert said[0].startswith(f"trial 0 starts over, its checkpoint does not load: {damaged}: ")
    assert "\n" not in said[0]


def test_told_to_stop_before_the_first_epoch_is_whole_there_is_nothing_to_save(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    worker = works()
    steps.at = {3: worker.stop_now}
    worker.run()
    assert states(storage, worker.study) == ["WAITING"] * 4
    assert checkpoint_files(worker) == []
    assert epoch_rows(storage, worker.study) == {}


# Files that cannot be written


def spoil(worker: Worker) -> None:
    """Puts a file where the folder of the study's artifacts is, or is to be."""
    folder = worker.study.artifacts(worker.settings.artifacts)
    if folder.exists():
        folder.rename(folder.with_name("aside"))
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("not a folder")


def repair(worker: Worker) -> None:
    folder = worker.study.artifacts(worker.settings.artifacts)
    folder.unlink()
    if folder.with_name("aside").exists():
        folder.with_name("aside").rename(folder)


def test_training_goes_on_while_checkpoints_cannot_be_written(
    works: WorkerFactory,
    storage: Storage,
    steps: StepHooks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    works.limits = replace(LIMITS, checkpoints=CheckpointLimits(1e9, retry_seconds=0.0))
    calm = works("calm", search={"trials": 4, "epochs": 6})
    calm.run()
    worker = works(search={"trials": 4, "epochs": 6})
    found: list[int] = []

    def count_files() -> None:
        assert worker._outbox.wait(30)  # those that were replaced are deleted by then
        found.append(len(checkpoint_files(worker)))

    steps.count, steps.at = (
        0,
        {
            STEPS + 5: lambda: spoil(worker),
            4 * STEPS + 5: lambda: repair(worker),
            5 * STEPS + 5: count_files,
        },
    )
    worker.run()
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)
    assert found == [4]
    said = [m for m in caplog.messages if "saved" in m]
    assert [m.split(" (")[0] for m in said] == [
        "not saved: the checkpoint of trial 0",
        "saved again: the checkpoint of trial 0",
    ]


PAUSES: dict[str, Any] = {
    "search": {"trials": 8, "epochs": 5},
    "sampler": {"name": "random", "startup": 4},
}


@pytest.mark.parametrize("evaluator", [None, DelayedEvaluation(9)])
def test_trials_that_pause_and_go_on_have_the_curves_they_would_have_had(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch, evaluator: AsyncEvaluator | None
) -> None:
    calm = works("calm", **PAUSES)
    calm.run()
    monkeypatch.setattr(TrainerFactory, "_evaluator", evaluator)
    worker = works(**PAUSES, pruner={"name": "pause"}, width=3)
    worker.run()
    whole, found = epoch_rows(storage, calm.study), epoch_rows(storage, worker.study)
    lengths = [len(epochs) for epochs in found.values()]
    assert set(lengths) <= {1, 2, 4, 5}
    assert {1, 5} <= set(lengths)
    assert all(found[number] == whole[number][: len(epochs)] for number, epochs in found.items())
    ends = dict.fromkeys((1, 2, 4), "PRUNED") | {5: "COMPLETE"}
    assert states(storage, worker.study) == [ends[length] for length in lengths]
    assert checkpoint_files(worker) == []


def test_two_workers_share_the_trials_that_pause(works: WorkerFactory, storage: Storage) -> None:
    one, two = (works(worker=name, **PAUSES, pruner={"name": "pause"}, width=2) for name in ("one", "two"))
    other = threading.Thread(target=two.run)
    other.start()
    one.run()
    other.join(60)
    found = states(storage, one.study)
    assert len(found) == 8
    assert set(found) == {"COMPLETE", "PRUNED"}
    assert checkpoint_files(one) == []


def test_one_that_cannot_be_saved_trains_on_instead_of_pausing(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrialFiles, "save_checkpoint", refuse)
    worker = works(**PAUSES, pruner={"name": "pause"})
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 8


def test_a_full_training_ends_once_its_weights_are_safe(
    works: WorkerFactory,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calm = works("calm", promotes=True, full=FULL, promotion={"top": 2})
    calm.run()
    worker = works(full=FULL, promotes=True, promotion={"top": 2})
    whole, seen = TrialFiles.save_weights, list[list[str]]()

    def save_weights(files: TrialFiles, *arguments: Any) -> str:
        if not seen:
            spoil(worker)
        if len(seen) == 5:
            repair(worker)
        seen.append(states(storage, worker.study, "full"))
        return whole(files, *arguments)

    monkeypatch.setattr(TrialFiles, "save_weights", save_weights)
    worker.run()
    assert len(seen) > 6
    assert seen[:6] == [["RUNNING", "RUNNING"]] * 6
    assert trial_records(storage, worker.study, "full") == trial_records(storage, calm.study, "full")
    mine, theirs = weights(worker), weights(calm)
    for number in (0, 1):
        assert all(torch.equal(mine[number][name], theirs[number][name]) for name in theirs[number])
    assert [m.split(" (")[0] for m in caplog.messages if "saved" in m] == [
        "not saved: the weights of trial 0",
        "saved again: the weights of trial 0",
    ]


def test_told_to_stop_while_weights_cannot_be_written_the_trial_goes_on_later(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = works("calm", promotes=True, full=FULL)
    calm.run()
    worker = works(full=FULL, promotes=True)

    def refuse(*_arguments: object) -> str:
        worker.runtime.stop.set()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TrialFiles, "save_weights", refuse)
        worker.run()
    assert states(storage, worker.study, "full") == ["WAITING"]
    works(worker="next", full=FULL, promotes=True).run()
    assert trial_records(storage, worker.study, "full") == trial_records(storage, calm.study, "full")


def test_who_loses_its_lease_while_its_weights_cannot_be_written_leaves(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = works(full=FULL, promotes=True, runtime=until_idle(works))
    taken: list[LeasedTrial] = []

    def refuse(*_arguments: object) -> str:
        forget_worker(storage, worker.settings.name)
        taken.extend(claim(storage, worker.study, "full", "another", 1))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrialFiles, "save_weights", refuse)
    worker.run()
    assert len(taken) == 1  # and it was not tried again
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken[0].lease]) == {taken[0].lease.trial_id}


# What others do


def test_a_member_that_lost_its_lease_leaves_and_the_rest_goes_on(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm")
    calm.run()
    worker, taken = works(runtime=until_idle(works)), list[LeasedTrial]()

    def take_over() -> None:
        with storage.transaction() as connection:
            connection.execute(
                text(
                    "UPDATE hpo.lease SET expires = to_timestamp(0) FROM trials "
                    "WHERE trials.trial_id = lease.trial_id AND number = 1 AND study_id = :study_id"
                ),
                {"study_id": worker.study.search_id},
            )
        taken.extend(claim(storage, worker.study, "search", "another", 1))

    steps.count, steps.at, steps.widths = 0, {STEPS + 5: take_over}, []
    worker.run()
    assert [trial.number for trial in taken] == [1]
    assert steps.widths == [4] * 2 * STEPS + [3] * STEPS
    assert states(storage, worker.study) == ["COMPLETE", "RUNNING", "COMPLETE", "COMPLETE"]
    mine, theirs = trial_records(storage, worker.study), trial_records(storage, calm.study)
    assert [mine[number] for number in (0, 2, 3)] == [theirs[number] for number in (0, 2, 3)]
    assert [epoch[0] for epoch in epoch_rows(storage, worker.study)[1]] == [1]
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken[0].lease]) == {taken[0].lease.trial_id}


def of_two(works: WorkerFactory, storage: Storage, width: int, theirs: int, **changes: Any) -> Worker:
    """A worker for what is left after another one, that dies later, has taken `theirs` trials."""
    worker = works(**changes, width=width)
    assert len(claim(storage, worker.study, "search", "dead", theirs)) == theirs
    return worker


@pytest.fixture
def always_looks(works: WorkerFactory) -> None:
    """A pack with room looks for more trials before each epoch."""
    works.limits = replace(works.limits, loop=replace(works.limits.loop, join_seconds=0.0))


@pytest.mark.usefixtures("always_looks")
def test_trials_that_others_lost_join_a_pack_with_room(
    works: WorkerFactory, storage: Storage, steps: StepHooks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hpo.worker")
    calm = works("calm", search={"trials": 5, "epochs": 3})
    calm.run()
    worker = of_two(works, storage, 4, 3, search={"trials": 5, "epochs": 3})
    steps.count, steps.at, steps.widths = 0, {STEPS + 5: lambda: forget_worker(storage, "dead")}, []
    worker.run()
    # Two of the three in the second epoch of its own two; the last one once these have left.
    assert steps.widths[: 3 * STEPS] == [2] * 2 * STEPS + [4] * STEPS
    assert max(steps.widths) == 4
    assert "search: joined by 0, 1" in caplog.messages
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_the_room_of_those_who_were_pruned_is_filled_with_new_trials(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    """Of the next ones of the batch size, at once; and none waits for the pack to end."""
    changes: dict[str, Any] = {
        "search": {"trials": 10, "epochs": 4},
        "pruner": {"name": "asha", "min_epochs": 1, "reduction": 2},
    }
    worker = works(**changes, width=4, fills=True)
    steps.count, steps.widths = 0, []
    worker.run()
    found = states(storage, worker.study)
    assert found.count("PRUNED") >= 2
    assert found.count("PRUNED") + found.count("COMPLETE") == 10
    assert steps.widths[: 2 * STEPS] == [4] * 2 * STEPS
    emptied = works("emptied", **changes, width=4)
    steps.count, steps.widths, filled = 0, [], steps.widths
    emptied.run()
    assert steps.widths[STEPS] < 4  # some leave after the first epoch
    assert len(filled) < len(steps.widths)


def test_who_is_told_to_stop_fills_no_pack(works: WorkerFactory, storage: Storage, steps: StepHooks) -> None:
    worker = works(
        search={"trials": 6, "epochs": 4}, pruner={"name": "asha", "reduction": 2}, width=4, fills=True
    )
    steps.at = {STEPS: worker.runtime.stop.set}
    worker.run()
    assert states(storage, worker.study).count("WAITING") >= 2
    begun = [number for number, epochs in epoch_rows(storage, worker.study).items() if epochs]
    assert begun == [0, 1, 2, 3]


@pytest.mark.usefixtures("always_looks")
def test_trials_that_others_lost_are_taken_on_while_programs_are_compiled(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = of_two(works, storage, 4, 2)
    lost_no_more = threading.Event()
    whole = Reporter.add

    def add(reporter: Reporter, trials: Sequence[LeasedTrial]) -> None:
        whole(reporter, trials)
        if {0, 1} <= {trial.number for trial in trials}:
            lost_no_more.set()

    def compiles(_engine: EagerEngine, *_arguments: object) -> None:
        forget_worker(storage, "dead")
        assert lost_no_more.wait(30)

    monkeypatch.setattr(Reporter, "add", add)
    monkeypatch.setattr(EagerEngine, "prepare", compiles)
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 4


@pytest.mark.usefixtures("always_looks")
def test_who_joins_goes_on_from_its_checkpoint(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm", search={"trials": 3, "epochs": 3})
    calm.run()
    first = works(search={"trials": 3, "epochs": 3}, width=1)
    steps.count, steps.at = 0, {2 * STEPS + 5: first.stop_now}
    first.run()  # leaves trial 0 after two epochs
    second = works(worker="second", search={"trials": 3, "epochs": 3})
    (handed_back,) = claim(storage, second.study, "search", "dead", 1)
    assert handed_back.checkpoint is not None
    steps.count, steps.at, steps.widths = 0, {5: lambda: forget_worker(storage, "dead")}, []
    second.run()
    assert steps.widths == [2] * STEPS + [3] * STEPS + [2] * STEPS
    assert trial_records(storage, second.study) == trial_records(storage, calm.study)


@pytest.mark.usefixtures("always_looks")
def test_nobody_joins_a_suspect(works: WorkerFactory, storage: Storage, steps: StepHooks) -> None:
    """It may kill its worker again, and would take them with it."""
    worker = works()
    for _ in range(SUSPECT_LOSSES):
        claim(storage, worker.study, "search", "victim", 1)
        forget_worker(storage, "victim")
    claim(storage, worker.study, "search", "alone with the suspect", 1)
    claim(storage, worker.study, "search", "dead", 3)
    forget_worker(storage, "alone with the suspect")
    steps.at = {5: lambda: forget_worker(storage, "dead")}
    worker.run()
    assert steps.widths[: 3 * STEPS] == [1] * 3 * STEPS


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, *threads: str) -> Iterator[threading.Event]:
    """While the event is set, these threads cannot reach the storage."""
    away, whole = threading.Event(), Storage.transaction

    @contextmanager
    def transaction(self: Storage) -> Iterator[Connection]:
        if away.is_set() and threading.current_thread().name in threads:
            raise UnavailableError("it is away")
        with whole(self) as connection:
            yield connection

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "transaction", transaction)
        yield away


@pytest.mark.usefixtures("always_looks")
def test_looks_that_waited_for_the_storage_do_not_overfill_the_pack(
    works: WorkerFactory, storage: Storage, steps: StepHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = of_two(works, storage, 4, 6, search={"trials": 8, "epochs": 6})
    with cut_off(monkeypatch, "outbox") as away:

        def leave() -> None:
            forget_worker(storage, "dead")
            away.set()

        steps.at = {1: leave, 3 * STEPS + 5: away.clear}
        worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 8
    assert max(steps.widths) <= 4


@pytest.mark.usefixtures("always_looks")
def test_who_gets_its_own_trials_back_has_each_once(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    """After a sleep of the machine, say, the first that looks for lost trials may be their former owner."""
    calm = works("calm")
    calm.run()
    worker = works(width=8)

    def oversleep() -> None:
        with storage.transaction() as connection:
            connection.execute(text("UPDATE hpo.lease SET expires = to_timestamp(0)"))

    steps.count, steps.at, steps.widths = 0, {STEPS + 5: oversleep}, []
    worker.run()
    assert max(steps.widths) == 4
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_training_goes_on_while_the_storage_is_away(
    works: WorkerFactory, storage: Storage, steps: StepHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = works("calm", search={"trials": 4, "epochs": 6})
    calm.run()
    worker = works(search={"trials": 4, "epochs": 6})
    with cut_off(monkeypatch, "outbox", "renewal", "MainThread") as away:
        steps.count, steps.at = 0, {STEPS + 5: away.set, 4 * STEPS + 5: away.clear}
        worker.run()
    assert steps.count == 6 * STEPS
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)
