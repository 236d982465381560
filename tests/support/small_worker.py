"""Workers in the test's own process: real Postgres, real digits, a network that trains in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import text
from torch import Tensor, nn

from hpo.artifacts.folder import FolderStore
from hpo.spec.study_spec import StudySpec
from hpo.store import trials as trial_rows
from hpo.store import workers
from hpo.store.connection import Storage
from hpo.store.retry import Backoff
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.study import Study
from hpo.training.pack import Pack
from hpo.training.workload import Workload
from hpo.values.stage import Stage
from hpo.worker.context import WorkerSettings
from hpo.worker.pack_training import PackTraining
from hpo.worker.runtime import LoopLimits, Runtime, WorkerLimits
from hpo.worker.worker import Worker
from support.artifacts import folder_of
from support.workloads import digits_workload

DIGITS = {"name": "digits", "mini": 0.5, "validation": 0.4}

STEPS = 14
"""The steps of one epoch of the search at batch size 32."""


class SmallNetwork(nn.Module):
    """A network with every kind of state: trained weights, running statistics, a layer that draws."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(7 * 7 * in_channels, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(16, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(images)
        return output


BACKOFF = Backoff(first=1e-6, longest=1.0)

LIMITS = WorkerLimits(
    idle_seconds=0.01,
    deliver_seconds=30.0,
    query_backoff=BACKOFF,
    delivery_backoff=BACKOFF,
    loop=LoopLimits(
        answer_seconds=30.0,
        fill_seconds=30.0,
        suspend_seconds=30.0,
        release_seconds=30.0,
        retry_seconds=0.01,
    ),
)
"""Outcomes do not depend on how busy the machine is, nor tests on the length of a pause."""


class StopWhenIdle(threading.Event):
    """A stop event that sets itself when the worker first waits.

    A worker waits when all trials that are left are leased by others.
    """

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        self.set()
        return True


@dataclass
class WorkerFactory:
    """Create a study and return a worker for it: `works(search={"trials": 2})`."""

    storage: Storage
    spec: Callable[..., StudySpec]
    folder: Path
    limits: WorkerLimits = LIMITS
    _workload: Workload | None = None

    def __call__(
        self, name: str = "small", worker: str = "w", runtime: Runtime | None = None, **changes: Any
    ) -> Worker:
        """`changes` are to the study file, or options of the worker: promotes, width, fills."""
        options = {key: changes.pop(key) for key in ("promotes", "width", "fills") if key in changes}
        small: dict[str, Any] = {
            "name": name,
            "data": DIGITS,
            "space": {"batch_size": 32},
            "search": {"trials": 4, "epochs": 3},
            **changes,
        }
        study = create(self.storage, self.spec(**small), "test").study
        if self._workload is None:
            self._workload = digits_workload(study.spec)
        store = FolderStore(self.folder / "artifacts" / study.artifacts_name)
        return Worker(
            self.storage,
            study,
            PackTraining(self._workload),
            WorkerSettings(worker, "cpu", store, **options),
            runtime or Runtime(limits=self.limits),
        )


@dataclass
class StepHooks:
    """Calls in the middle of training, each before a step.

    `at` maps a step number to a call. Steps are counted from 1 over all packs. `each` is called before every
    step. `widths` has the number of members of each step's pack.
    """

    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    each: Callable[[Pack], object] | None = None
    count: int = 0
    widths: list[int] = field(default_factory=list)

    def before(self, pack: Pack) -> None:
        self.count += 1
        self.widths.append(len(pack))
        if self.each is not None:
            self.each(pack)
        if (hook := self.at.pop(self.count, None)) is not None:
            hook()

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> StepHooks:
        """Return hooks that every pack calls until the test ends."""
        hooks, original = cls(), Pack.gradients

        def gradients(pack: Pack, *arguments: Any) -> tuple[Tensor, Tensor]:
            hooks.before(pack)
            return original(pack, *arguments)

        monkeypatch.setattr(Pack, "gradients", gradients)
        return hooks


def use_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the small network."""
    torch.set_num_threads(1)
    monkeypatch.setattr("hpo.models.resolve", lambda _name: SmallNetwork)
    monkeypatch.setattr("hpo.models.build_with", lambda _name, arguments, *_: SmallNetwork(**arguments))


def trials(storage: Storage, study: Study, stage: Stage = "search") -> list[TrialRow]:
    with storage.transaction() as connection:
        return trial_rows.read(connection, study.study_id(stage)).ours


def states(storage: Storage, study: Study, stage: Stage = "search") -> list[str]:
    return [row.state.name for row in trials(storage, study, stage)]


def epoch_rows(storage: Storage, study: Study, stage: Stage = "search") -> dict[int, list[tuple[Any, ...]]]:
    """Return the stored values of each epoch, by trial number."""
    with storage.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT number, epoch, metrics, intermediate_value "
                "FROM hpo.epoch JOIN trials USING (trial_id) LEFT JOIN trial_intermediate_values v "
                "ON v.trial_id = epoch.trial_id AND v.step = epoch "
                "WHERE study_id = :study_id ORDER BY number, epoch"
            ),
            {"study_id": study.study_id(stage)},
        ).all()
    epochs: dict[int, list[tuple[Any, ...]]] = {row.number: [] for row in rows}
    for number, *values in rows:
        epochs[number].append(tuple(values))
    return epochs


def trial_records(storage: Storage, study: Study, stage: Stage = "search") -> list[tuple[Any, ...]]:
    """Return everything that is stored of each trial except who trained it and when."""
    epochs = epoch_rows(storage, study, stage)
    return [
        (
            row.number,
            row.state.name,
            row.point,
            row.value,
            replace(row.record, worker=None, weights=None, takeovers=0),
            epochs.get(row.number),
        )
        for row in trials(storage, study, stage)
    ]


def weights(worker: Worker) -> dict[int, Mapping[str, Tensor]]:
    """Return the saved weights of full trainings, by trial number."""
    folder = folder_of(worker.settings.artifacts)
    rows = trials(worker.storage, worker.study, "full")
    return {row.number: load_file(folder / str(row.record.weights)) for row in rows}


def checkpoint_files(worker: Worker) -> list[Path]:
    return sorted((folder_of(worker.settings.artifacts) / "checkpoints").glob("*"))


def forget_worker(storage: Storage, worker: str) -> None:
    """Tell the storage that the worker is dead."""
    with storage.transaction() as connection:
        workers.forget(connection, worker)
