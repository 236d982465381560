"""A worker in this process, on real Postgres and real digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import load_file
from sqlalchemy import text
from support.artifacts import folder_of
from support.reporters import patient_runtime
from support.small_worker import (
    DIGITS,
    LIMITS,
    STEPS,
    StepHooks,
    WorkerFactory,
    checkpoint_files,
    epoch_rows,
    forget_worker,
    states,
    trial_records,
    trials,
)
from support.unreliable_storage import Link, UnreliableStorage
from support.workloads import digits_workload
from torch import nn

from hpo import models
from hpo.artifacts.folder import FolderStore
from hpo.errors import NotFoundError, TrainingError, UnavailableError
from hpo.spec.study_spec import StudySpec
from hpo.store import leases
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.schedule import WIDTH
from hpo.study.status import status
from hpo.study.stored import remove
from hpo.training.pack import Pack
from hpo.worker.context import WorkerSettings
from hpo.worker.pack_training import PackTraining
from hpo.worker.runtime import Runtime
from hpo.worker.worker import Worker

MAX_FAILURES = LIMITS.max_failures


class Broken(nn.Module):
    """A network that can be built and evaluated, but not trained."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(28 * 28 * in_channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("no such luck")
        output: torch.Tensor = self.linear(images.flatten(1))
        return output


@pytest.fixture
def work(storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path) -> Callable[..., Worker]:
    """Store a study and return a worker for it: `work(search={"trials": 4})`."""

    def worker(promotes: bool = False, width: int = WIDTH, fills: bool = False, **changes: Any) -> Worker:
        torch.set_num_threads(1)
        small = {"data": DIGITS, "search": {"trials": 4, "epochs": 1}, **changes}
        study = create(storage, spec(**small), "test").study
        workload = digits_workload(study.spec)
        options = WorkerSettings(
            "w", "cpu", FolderStore(tmp_path / "study"), promotes=promotes, width=width, fills=fills
        )
        return Worker(storage, study, PackTraining(workload), options, patient_runtime())

    return worker


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> StepHooks:
    return StepHooks.installed(monkeypatch)


def loss(row: TrialRow) -> float:
    assert row.value is not None
    return row.value


def test_worker_trains_promotes_and_saves_weights(
    storage: Storage, work: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = work(promotes=True)
    with caplog.at_level("INFO", logger="hpo.worker"):
        assert worker.run() is False
    search, full = trials(storage, worker.study), trials(storage, worker.study, "full")
    assert [row.state for row in search] == [TrialState.COMPLETE] * 4
    (trained,) = full
    assert trained.state == TrialState.COMPLETE
    best = min(search, key=loss).number
    assert trained.record.promoted_from == best
    assert caplog.messages.count(f"search finished; promoting trial {best}") == 1
    assert trained.record.epochs == 3
    weights = load_file(folder_of(worker.settings.artifacts) / str(trained.record.weights))
    models.build("lenet", 10).load_state_dict(weights, strict=True)
    shown = storage.study(worker.study.spec.full_name).best_trial
    assert len(shown.intermediate_values) == 3
    assert shown.value == min(shown.intermediate_values.values())


def test_worker_ends_where_no_trial_completed(storage: Storage, work: Callable[..., Worker]) -> None:
    worker = work(
        promotes=True, space={"lr": [1e38, 2e38], "batch_size": 32}, search={"trials": 2, "epochs": 2}
    )
    assert worker.run() is False
    assert [row.state for row in trials(storage, worker.study)] == [TrialState.FAIL] * 2
    assert trials(storage, worker.study, "full") == []


def test_worker_of_a_finished_study_has_nothing_to_do(works: WorkerFactory) -> None:
    assert works(search={"trials": 2, "epochs": 1}).run() is False
    assert works(search={"trials": 2, "epochs": 1}, worker="late").run() is True


@pytest.mark.parametrize(("fills", "packs"), [(False, 3), (True, 2)])
def test_sampler_proposes_a_whole_pack_if_packs_are_kept_full(
    storage: Storage, work: Callable[..., Worker], fills: bool, packs: int
) -> None:
    space, search = {"lr": {"low": 0.01, "high": 0.1}, "batch_size": 32}, {"trials": 8, "epochs": 1}
    worker = work(space=space, search=search, sampler={"name": "tpe", "startup": 1}, fills=fills)
    worker.run()
    begun = {trial.datetime_start for trial in storage.study(worker.study.spec.name).trials}
    assert len(begun) == packs


def test_diverged_trial_fails_with_its_epoch_and_the_others_train_on(
    storage: Storage, work: Callable[..., Worker]
) -> None:
    worker = work(space={"lr": [0.01, 1e30], "batch_size": 32}, search={"trials": 8, "epochs": 2})
    worker.run()
    for row in trials(storage, worker.study):
        if row.point["lr"] > 1:
            assert row.state == TrialState.FAIL
            assert row.record.reason == "its loss was not finite in epoch 1"
        else:
            assert row.state == TrialState.COMPLETE


def test_code_that_raises_fails_its_trials_and_ends_the_worker_after_three_packs(
    storage: Storage,
    work: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("hpo.models.resolve", lambda _name: Broken)
    monkeypatch.setattr("hpo.models.build_with", lambda _name, arguments, *_: Broken(**arguments))
    worker = work(search={"trials": 8, "epochs": 1}, width=1)
    with pytest.raises(TrainingError, match=r"3 packs in a row failed; the last: .*no such luck"):
        worker.run()
    failed = [row for row in trials(storage, worker.study) if row.state == TrialState.FAIL]
    assert len(failed) == MAX_FAILURES
    seen = storage.study("small").trials
    assert all("RuntimeError: no such luck" in seen[row.number].user_attrs["traceback"] for row in failed)
    assert all("in forward" in seen[row.number].user_attrs["traceback"] for row in failed)
    assert states(storage, worker.study).count("WAITING") == 8 - MAX_FAILURES
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage().splitlines()[0] for record in records] == [
        f"search: training {n} failed: RuntimeError: no such luck" for n in range(3)
    ]
    assert ["Traceback" in record.getMessage() for record in records] == [True, False, False]


def test_stop_in_an_epoch_releases_the_trials(
    storage: Storage, work: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = work()
    score = "hpo.training.pack.Pack.score"
    monkeypatch.setattr(score, lambda *_arguments: worker.stop_now())  # as a signal would, in the middle
    worker.run()
    assert states(storage, worker.study) == ["WAITING"] * 4
    monkeypatch.undo()
    work().run()
    assert states(storage, worker.study) == ["COMPLETE"] * 4


# Memory


def too_large(limit: int, error: Exception, from_step: int, steps: StepHooks) -> Callable[[Pack], None]:
    """Return a hook that raises `error` in packs of more than `limit` members."""

    def allocate(pack: Pack) -> None:
        if len(pack) > limit and steps.count >= from_step:
            raise error

    return allocate


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("from_step", [1, STEPS + 5])
def test_pack_that_does_not_fit_into_memory_is_halved_until_it_fits(
    works: WorkerFactory,
    storage: Storage,
    steps: StepHooks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    from_step: int,
) -> None:
    calm = works("calm", search={"trials": 9, "epochs": 3})
    calm.run()
    reaped: list[int] = []
    original = leases.reap

    def reap(*arguments: Any) -> list[int]:
        trial_ids = original(*arguments)
        reaped.extend(trial_ids)
        return trial_ids

    monkeypatch.setattr(leases, "reap", reap)
    worker = works(search={"trials": 9, "epochs": 3})
    steps.count, steps.widths, steps.each = 0, [], too_large(2, error, from_step, steps)
    worker.run()
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)
    assert [width for step, width in enumerate(steps.widths, start=1) if width > 2 and step >= from_step] == [
        9,
        4,
    ]
    assert reaped == []
    messages = [m for m in caplog.messages if "does not fit" in m]
    assert [m.split(" does not fit")[0] for m in messages] == [
        "search: a pack of 9 at batch size 32",
        "search: a pack of 4 at batch size 32",
    ]
    assert [m.rsplit("; ", 1)[1] for m in messages] == ["from now on 4", "from now on 2"]
    assert all(" MiB used" in m for m in messages)


def test_halved_pack_leaves_other_batch_sizes_alone(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    worker = works(space={"batch_size": [16, 32]}, search={"trials": 12, "epochs": 1})
    sizes = [row.point["batch_size"] for row in trials(storage, worker.study)]

    def allocate(pack: Pack) -> None:
        if len(pack) > 2 and worker_size(storage) == 16:
            raise torch.OutOfMemoryError("CUDA out of memory")

    steps.each = allocate
    worker.run()
    assert states(storage, worker.study) == ["COMPLETE"] * 12
    assert max(steps.widths) == max(sizes.count(16), sizes.count(32))
    assert sizes.count(32) in steps.widths


def worker_size(storage: Storage) -> float:
    """Return the batch size of the leased trials."""
    with storage.transaction() as connection:
        numbers = (
            connection.execute(
                text(
                    "SELECT DISTINCT param_value FROM hpo.lease JOIN trial_params USING (trial_id) "
                    "WHERE param_name = 'batch_size' AND worker IS NOT NULL"
                )
            )
            .scalars()
            .all()
        )
    (index,) = numbers
    return (16, 32)[int(index)]


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=["cuda", "cpu", "python"])
def test_trial_that_does_not_fit_alone_fails_with_its_size(
    works: WorkerFactory,
    storage: Storage,
    steps: StepHooks,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    worker = works(search={"trials": MAX_FAILURES + 1, "epochs": 1})
    steps.each = too_large(0, error, 1, steps)
    worker.run()  # it is no fault of the code, so it does not end the worker
    for row in trials(storage, worker.study):
        assert row.state == TrialState.FAIL
        reason = str(row.record.reason)
        assert reason.startswith("out of memory: alone at batch size 32 it needs more than cpu has (")
        assert reason.endswith(" MiB used)")
        seen = storage.study("small").trials[row.number]
        assert type(error).__name__ in seen.user_attrs["traceback"]
    assert sum("out of memory: alone" in message for message in caplog.messages) == MAX_FAILURES + 1


def test_broken_device_ends_the_worker_and_not_its_trials(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm")
    calm.run()

    def fault() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    worker = works()
    steps.count, steps.at = 0, {STEPS + 5: fault}
    with pytest.raises(torch.AcceleratorError):
        worker.run()
    assert states(storage, worker.study) == ["RUNNING"] * 4
    forget_worker(storage, worker.settings.name)  # as the launcher does
    works(worker="next").run()
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_single_failures_do_not_end_the_worker(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    def fail() -> None:
        raise ValueError("a shape is wrong")

    worker = works(search={"trials": 4, "epochs": 2}, width=1)
    steps.at = {5: fail, STEPS + 10: fail}
    worker.run()
    rows = trials(storage, worker.study)
    assert [row.state.name for row in rows] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert rows[1].record.reason == "ValueError: a shape is wrong"
    assert {n: len(epochs) for n, epochs in epoch_rows(storage, worker.study).items()} == {1: 1, 2: 2, 3: 2}


# The end of a worker


def test_no_checkpoint_is_left_at_the_end(works: WorkerFactory, storage: Storage, steps: StepHooks) -> None:
    worker = works(promotes=True, search={"trials": 4, "epochs": 3})
    seen: list[int] = []
    steps.at = {2 * STEPS + 5: lambda: seen.append(len(checkpoint_files(worker)))}
    worker.run()
    assert seen[0] > 0
    folder = folder_of(worker.settings.artifacts)
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_deleted_study_ends_its_worker(
    works: WorkerFactory, storage: Storage, steps: StepHooks, tmp_path: Path
) -> None:
    worker = works()
    steps.at = {STEPS + 5: lambda: remove(storage, worker.study, worker.settings.artifacts)}
    with pytest.raises(NotFoundError, match="the study has been deleted"):
        worker.run()


def test_worker_ends_when_stopped_in_training_during_an_outage(
    works: WorkerFactory, storage: Storage, steps: StepHooks
) -> None:
    calm = works("calm")
    calm.run()
    link, loop = Link(), replace(LIMITS.loop, release_seconds=0.01)
    works.storage = UnreliableStorage.over(storage, link)
    worker = works(runtime=Runtime(limits=replace(LIMITS, deliver_seconds=0.01, loop=loop)))
    steps.count, steps.at = 0, {STEPS + 5: link.cut, 2 * STEPS + 5: worker.stop_now}
    worker.run()
    assert states(storage, worker.study) == ["RUNNING"] * 4  # until its leases end
    link.restore()
    forget_worker(storage, worker.settings.name)
    works(worker="next").run()
    assert trial_records(storage, worker.study) == trial_records(storage, calm.study)


def test_worker_ends_when_stopped_while_it_waits_for_the_storage(
    works: WorkerFactory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = works()
    calls = count()

    def refuse(_storage: Storage) -> Any:
        if next(calls) == 5:
            worker.runtime.stop.set()
        raise UnavailableError("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "transaction", refuse)
        worker.run()
    assert states(storage, worker.study) == ["WAITING"] * 4


# Device seconds


class TickingClock:
    """A clock of which each reading takes a second."""

    def __init__(self) -> None:
        self._ticks = count()

    def __call__(self) -> float:
        return float(next(self._ticks))

    def elapsed(self) -> float:
        """Return the seconds from the first reading until now."""
        return self() - 1


def by_activity(storage: Storage, worker: Worker) -> dict[str, float]:
    now = status(storage, worker.study)
    return {a: now.search.activities[a] + now.full.activities[a] for a in now.search.activities}


def test_all_seconds_of_a_worker_are_charged(works: WorkerFactory, storage: Storage) -> None:
    clock = TickingClock()
    worker = works(promotes=True, runtime=Runtime(clock=clock, limits=LIMITS))
    worker.run()
    spent = by_activity(storage, worker)
    assert set(spent) == {"training", "evaluation", "database", "checkpoints", "idle"}
    assert all(seconds > 0 for seconds in spent.values())
    assert sum(spent.values()) == pytest.approx(clock.elapsed(), abs=2)
    now = status(storage, worker.study).search
    assert set(now.trial_seconds) == {0, 1, 2, 3}
    assert {t["training"] for t in now.trial_seconds.values()} == {3 / 4}  # a second an epoch, of four
    assert {t["evaluation"] for t in now.trial_seconds.values()} == {3 / 4}


def fault_memory(pack: Pack) -> None:
    if len(pack) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")


def fault_code(pack: Pack) -> None:
    if len(pack) > 2:
        raise ValueError("a shape is wrong")


@pytest.mark.parametrize("fault", [fault_memory, fault_code])
def test_all_seconds_of_a_failed_pack_are_charged(
    works: WorkerFactory, storage: Storage, steps: StepHooks, fault: Callable[[Pack], None]
) -> None:
    clock = TickingClock()
    worker = works(search={"trials": 4, "epochs": 3}, runtime=Runtime(clock=clock, limits=LIMITS))
    steps.at = {STEPS + 5: lambda: setattr(steps, "each", fault)}
    worker.run()
    assert sum(by_activity(storage, worker).values()) == pytest.approx(clock.elapsed(), abs=2)
