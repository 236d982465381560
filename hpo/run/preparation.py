"""What a worker loads before it trains: for networks, or for a training function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from hpo.errors import InputError, TrainingError
from hpo.run.watchdog import Watchdog
from hpo.worker.epoch_watch import EpochWatch

if TYPE_CHECKING:
    from hpo.settings import Settings
    from hpo.study.study import Study
    from hpo.training.workload import Workload
    from hpo.worker.services import Training

DEVICE_RULE = re.compile(r"[a-z]+(:\d+)?")
"""The form of torch's names of devices."""


class Preparation(Protocol):
    """Loads what a worker of one study needs. If it was `launched`, another process is worth a try."""

    def load(self) -> None:
        """Load what a worker needs on any device. Raises as `training` does."""

    def warm_up(self) -> None:
        """Do what a worker would have to do later, while no trial waits for it."""

    def training(self, device: str) -> AbstractContextManager[Training]:
        """Return a context with the way to train on a device.

        Raises `InputError` for a device or for code of the user that cannot train, or `TrainingError` for a
        worker that was launched. Raises `ConflictError` if data or code are not those of the study.
        """

    def watch(self, worker: str) -> EpochWatch:
        """Return the watch of a worker of this name."""


def prepare(study: Study, settings: Settings, launched: bool) -> Preparation:
    """Return the preparation of a worker of the study. For networks, imports torch."""
    if study.spec.is_function:
        return FunctionPreparation(study, launched)
    import hpo.run.workload

    return NetworkPreparation(study, settings, launched, hpo.run.workload.study_workload)


@dataclass
class NetworkPreparation:
    """Loads a network and its data. `open_workload` is `study_workload`."""

    study: Study
    settings: Settings
    launched: bool
    open_workload: Callable[[Study, Settings], Workload]

    def load(self) -> None:
        from hpo.data.dataset import OwnDataError
        from hpo.models import ModelError

        try:
            _ = self._workload
        except (OwnDataError, ModelError) as error:
            if not self.launched:
                raise
            raise TrainingError(str(error)) from error  # a file that the user's code reads may come back

    def warm_up(self) -> None:
        from hpo.training.engines.eager import EagerEngine

        self._workload.rehearsal("cpu", EagerEngine()).check()
        _ = self._workload.mean, self._workload.std  # computed now, while no trial waits

    @cached_property
    def _workload(self) -> Workload:
        return self.open_workload(self.study, self.settings)

    @contextmanager
    def training(self, device: str) -> Iterator[Training]:
        from hpo.training.allocator import keep_freed_memory
        from hpo.training.workload import usable_device
        from hpo.worker.pack_training import PackTraining

        try:
            usable_device(device)
        except InputError as error:
            if not self.launched:
                raise
            raise TrainingError(str(error)) from error
        training = PackTraining.rehearsed(self._workload, device, self.settings.rehearsals_path)
        keep_freed_memory()
        yield training

    def watch(self, worker: str) -> EpochWatch:
        """Return a watch, with a watchdog if the study limits an epoch."""
        minutes = self.study.spec.limits.epoch_minutes
        if minutes is None:
            return EpochWatch()
        return EpochWatch(heartbeat=Watchdog(self.study.name, worker, minutes))


@dataclass(frozen=True, slots=True)
class FunctionPreparation:
    """Starts the first process of a training function, which imports the user's module."""

    study: Study
    launched: bool

    def load(self) -> None:
        """Do nothing: the worker imports nothing of the user's."""

    def warm_up(self) -> None:
        """Do nothing: the module of a user may look at the environment, which a standby gets later."""

    @contextmanager
    def training(self, device: str) -> Iterator[Training]:
        from hpo.functions.failures import FunctionFailure
        from hpo.functions.spares import FunctionProcesses
        from hpo.worker.function_training import FunctionTraining

        if not DEVICE_RULE.fullmatch(device):
            raise InputError(f"--device {device!r}: must be the name of a device, such as cpu or cuda:0")
        try:
            processes = FunctionProcesses(self.study.spec.code)
        except OSError as error:
            raise InputError(
                f"cannot write temporary files: {error}; set TMPDIR to another folder"
            ) from error
        try:
            training = FunctionTraining(self.study, processes)
            try:
                training.check()
            except FunctionFailure as error:
                kind = TrainingError if self.launched else InputError
                raise kind(str(error)) from error
            yield training
        finally:
            processes.close()

    def watch(self, _worker: str) -> EpochWatch:
        """Return a watch. The worker itself ends a function that takes too long."""
        return EpochWatch()
