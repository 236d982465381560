"""The trial loop: interruptions, full disks, lost leases, and trials that join."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import text
from support.artifacts import folder_of
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
from support.unreliable_storage import Link, UnreliableStorage

from hpo.errors import AwayError
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


# Interruptions


class Killed(BaseException):
    """The end of a killed process, which writes nothing more."""


@pytest.mark.parametrize(
    ("method", "limit", "evaluator"),
    [("gradients", 30, None), ("score", 4, None), ("gradients", 33, DelayedEvaluation(9))],
)
def test_interrupted_trials_have_the_results_of_uninterrupted_ones(
    works: WorkerFactory,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    limit: int,
    evaluator: AsyncEvaluator | None,
) -> None:
    """Each worker is told to stop, as by a signal, in the middle of its second or third epoch: they take 14
    steps in the search and 23 in full training, and two batches of validation."""
    calm = works("calm", promotes=True, full=FULL)
    calm.run()
    cuts, calls, original = 0, 0, getattr(Pack, method)

    def cut(pack: Pack, *arguments: Any) -> Any:
        nonlocal calls, cuts
        calls += 1
        if calls == limit:
            cuts += 1
            worker.stop_now()
        return original(pack, *arguments)

    monkeypatch.setattr(Pack, method, cut)
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
        assert any(row.record.takeovers for row in trials(storage, worker.study, stage))
    (trained,), (expected,) = weights(worker).values(), weights(calm).values()
    assert trained.keys() == expected.keys()
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    assert not (folder_of(worker.settings.artifacts) / "checkpoints").exists()


def test_successor_of_a_killed_worker_resumes_from_its_checkpoints(
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


def test_damaged_checkpoint_is_set_aside_and_its_trial_starts_over(
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
    messages = [message for message in caplog.messages if "does not load" in message]
    assert len(messages) == 1
    start = f"trial 0 starts over, its checkpoint does not load: checkpoints/{damaged.name}: "
    assert messages[0].startswith(start)
    assert "\n" not in messages[0]


def test_stop_in_the_first_epoch_saves_nothing(
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
    """Put a file in the place of the folder of the study's artifacts."""
    folder = folder_of(worker.settings.artifacts)
    if folder.exists():
        folder.rename(folder.with_name("aside"))
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("not a folder")


def repair(worker: Worker) -> None:
    folder = folder_of(worker.settings.artifacts)
    folder.unlink()
    if folder.with_name("aside").exists():
        folder.with_name("aside").rename(folder)


def test_training_continues_while_checkpoints_cannot_be_written(
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
    counts: list[int] = []

    def count_files() -> None:
        assert worker._outbox.wait(30)  # those that were replaced are deleted by then
        counts.append(len(checkpoint_files(worker)))

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
    assert counts == [4]
    messages = [m for m in caplog.messages if "saved" in m]
    assert [m.split(" (")[0] for m in messages] == [
        "not saved: the checkpoint of trial 0",
        "saved again: the checkpoint of trial 0",
    ]


PAUSES: dict[str, Any] = {
    "search": {"trials": 8, "epochs": 5},
    "sampler": {"name": "random", "startup": 4},
}


@pytest.mark.parametrize("evaluator", [None, DelayedEvaluation(9)])
def test_paused_and_resumed_trials_have_the_curves_of_uninterrupted_ones(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch, evaluator: AsyncEvaluator | None
) -> None:
    calm = works("calm", **PAUSES)
    calm.run()
    monkeypatch.setattr(TrainerFactory, "_evaluator", evaluator)
    worker = works(**PAUSES, pruner={"name": "pause"}, width=3)
    worker.run()
    calm_rows, rows = epoch_rows(storage, calm.study), epoch_rows(storage, worker.study)
    lengths = [len(epochs) for epochs in rows.values()]
    assert set(lengths) <= {1, 2, 4, 5}
    assert {1, 5} <= set(lengths)
    assert all(rows[number] == calm_rows[number][: len(epochs)] for number, epochs in rows.items())
    ends = dict.fromkeys((1, 2, 4), "PRUNED") | {5: "COMPLETE"}
    assert states(storage, worker.study) == [ends[length] for length in lengths]
    assert checkpoint_files(worker) == []


def test_two_workers_share_paused_trials(works: WorkerFactory, storage: Storage) -> None:
    first, second = (
        works(worker=name, **PAUSES, pruner={"name": "pause"}, width=2) for name in ("one", "two")
    )
    thread = threading.Thread(target=second.run)
    thread.start()
    first.run()
    thread.join(60)
    trial_states = states(storage, first.study)
    assert len(trial_states) == 8
    assert set(trial_states) == {"COMPLETE", "PRUNED"}
    assert checkpoint_files(first) == []


def test_trial_that_cannot_be_saved_trains_on_instead_of_pausing(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> str:
        raise AwayError("No space left on device")

    monkeypatch.setattr(TrialFiles, "save_checkpoint", refuse)
    worker = works(**PAUSES, pruner={"name": "pause"})
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 8


def test_full_training_ends_after_its_weights_are_written(
    works: WorkerFactory,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calm = works("calm", promotes=True, full=FULL, promotion={"top": 2})
    calm.run()
    worker = works(full=FULL, promotes=True, promotion={"top": 2})
    original, seen = TrialFiles.save_weights, list[list[str]]()

    def save_weights(files: TrialFiles, *arguments: Any) -> str:
        if not seen:
            spoil(worker)
        if len(seen) == 5:
            repair(worker)
        seen.append(states(storage, worker.study, "full"))
        return original(files, *arguments)

    monkeypatch.setattr(TrialFiles, "save_weights", save_weights)
    worker.run()
    assert len(seen) > 6
    assert seen[:6] == [["RUNNING", "RUNNING"]] * 6
    assert trial_records(storage, worker.study, "full") == trial_records(storage, calm.study, "full")
    trained, expected = weights(worker), weights(calm)
    for number in (0, 1):
        assert all(torch.equal(trained[number][name], expected[number][name]) for name in expected[number])
    assert [m.split(" (")[0] for m in caplog.messages if "saved" in m] == [
        "not saved: the weights of trial 0",
        "saved again: the weights of trial 0",
    ]


def test_stop_while_weights_cannot_be_written_leaves_the_trial_for_later(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = works("calm", promotes=True, full=FULL)
    calm.run()
    worker = works(full=FULL, promotes=True)

    def refuse(*_arguments: object) -> str:
        worker.runtime.stop.set()
        raise AwayError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TrialFiles, "save_weights", refuse)
        worker.run()
    assert states(storage, worker.study, "full") == ["WAITING"]
    works(worker="next", full=FULL, promotes=True).run()
    assert trial_records(storage, worker.study, "full") == trial_records(storage, calm.study, "full")


def test_trial_lost_while_its_weights_cannot_be_written_leaves_the_pack(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = works(full=FULL, promotes=True, runtime=until_idle(works))
    taken: list[LeasedTrial] = []

    def refuse(*_arguments: object) -> str:
        forget_worker(storage, worker.settings.name)
        taken.extend(claim(storage, worker.study, "full", "another", 1))
        raise AwayError("No space left on device")

    monkeypatch.setattr(TrialFiles, "save_weights", refuse)
    worker.run()
    assert len(taken) == 1  # and it was not tried again
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken[0].lease]) == {taken[0].lease.trial_id}


# Trials of other workers


def test_member_that_lost_its_lease_leaves_and_the_others_train_on(
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
    records, calm_records = trial_records(storage, worker.study), trial_records(storage, calm.study)
    assert [records[number] for number in (0, 2, 3)] == [calm_records[number] for number in (0, 2, 3)]
    assert [epoch[0] for epoch in epoch_rows(storage, worker.study)[1]] == [1]
    with storage.transaction() as connection:
        assert leases.hold(connection, [taken[0].lease]) == {taken[0].lease.trial_id}


def of_two(works: WorkerFactory, storage: Storage, width: int, claimed: int, **changes: Any) -> Worker:
    """Return a worker of a study of which a worker called dead has claimed `claimed` trials."""
    worker = works(**changes, width=width)
    assert len(claim(storage, worker.study, "search", "dead", claimed)) == claimed
    return worker


@pytest.fixture
def always_looks(works: WorkerFactory) -> None:
    """A pack with room looks for more trials before each epoch."""
    works.limits = replace(works.limits, loop=replace(works.limits.loop, join_seconds=0.0))


@pytest.mark.usefixtures("always_looks")
def test_lost_trials_join_a_pack_with_room(
    works: WorkerFactory, storage: Storage, steps: StepHooks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hpo.worker")
    calm = works("calm", search={"trials": 5, "epochs": 3})
    calm.run()
    worker = of_two(works, storage, 4, 3, search={"trials": 5, "epochs": 3})
    steps.count, steps.at, steps.widths = 0, {STEPS + 5: lambda: forget_worker(storage, "dead")}, []
    worker.run()
    # Two of the three join in the second epoch of the first two, the last joins after these have left.
    assert steps.widths[: 3 * STEPS] == [2] * 2 * STEPS + [4] * STEPS
    assert max(steps.widths) == 4
    assert "search: joined by 0, 1" in caplog.messages
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_new_trials_take_the_places_of_pruned_members(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    """They are the next trials of the batch size, and they do not wait for the end of the pack."""
    changes: dict[str, Any] = {
        "search": {"trials": 10, "epochs": 4},
        "pruner": {"name": "asha", "min_epochs": 1, "reduction": 2},
    }
    worker = works(**changes, width=4, fills=True)
    steps.count, steps.widths = 0, []
    worker.run()
    trial_states = states(storage, worker.study)
    assert trial_states.count("PRUNED") >= 2
    assert trial_states.count("PRUNED") + trial_states.count("COMPLETE") == 10
    assert steps.widths[: 2 * STEPS] == [4] * 2 * STEPS
    emptied = works("emptied", **changes, width=4)
    steps.count, steps.widths, filled = 0, [], steps.widths
    emptied.run()
    assert steps.widths[STEPS] < 4  # some leave after the first epoch
    assert len(filled) < len(steps.widths)


def test_stopped_worker_claims_no_new_trials(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    worker = works(
        search={"trials": 6, "epochs": 4}, pruner={"name": "asha", "reduction": 2}, width=4, fills=True
    )
    steps.at = {STEPS: worker.runtime.stop.set}
    worker.run()
    assert states(storage, worker.study).count("WAITING") >= 2
    begun = [number for number, epochs in epoch_rows(storage, worker.study).items() if epochs]
    assert begun == [0, 1, 2, 3]


@pytest.mark.usefixtures("always_looks")
def test_lost_trials_are_claimed_while_programs_are_compiled(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = of_two(works, storage, 4, 2)
    lost_no_more = threading.Event()
    original = Reporter.add

    def add(reporter: Reporter, trials: Sequence[LeasedTrial]) -> None:
        original(reporter, trials)
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
def test_joining_trial_resumes_from_its_checkpoint(
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
def test_no_trial_joins_a_suspect(works: WorkerFactory, storage: Storage, steps: StepHooks) -> None:
    """A suspect may kill its worker again, and its pack mates with it."""
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


def unreliable(works: WorkerFactory) -> Link:
    """Return the link of the workers that are made from now on to the storage."""
    link = Link()
    works.storage = UnreliableStorage.over(works.storage, link)
    return link


@pytest.mark.usefixtures("always_looks")
def test_claims_delayed_by_an_outage_do_not_overfill_the_pack(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    link = unreliable(works)
    worker = of_two(works, storage, 4, 6, search={"trials": 8, "epochs": 6})

    def leave() -> None:
        forget_worker(storage, "dead")
        link.cut()

    steps.at = {1: leave, 3 * STEPS + 5: link.restore}
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 8
    assert max(steps.widths) <= 4


@pytest.mark.usefixtures("always_looks")
def test_worker_that_reclaims_its_own_trials_has_each_once(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    """After a sleep of the machine, the former owner of lost trials may be the first to claim them."""
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
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm", search={"trials": 4, "epochs": 6})
    calm.run()
    link = unreliable(works)
    worker = works(search={"trials": 4, "epochs": 6})
    steps.count, steps.at = 0, {STEPS + 5: link.cut, 4 * STEPS + 5: link.restore}
    worker.run()
    assert steps.count == 6 * STEPS
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)
