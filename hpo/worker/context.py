"""The study that a worker serves, the settings of the worker, and its runtime."""

from dataclasses import dataclass
from pathlib import Path

from hpo.artifacts.base import ArtifactStore
from hpo.settings import LEASE_SECONDS
from hpo.store.connection import Storage
from hpo.study.schedule import WIDTH
from hpo.study.study import Study
from hpo.worker.runtime import Runtime


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker serves a study.

    name: the name of the worker in leases and results.
    device: torch's name of the device.
    artifacts: the store of the study's checkpoints and weights.
    programs: the folder of compiled programs. None: nothing is compiled or tuned.
    width: the largest pack.
    promotes: whether the worker queues the best trials for full training when the search is finished.
    lease_seconds: how long the worker may be silent before its trials go to others.
    fleet: the number of workers that start together. They share the queue before all of them are ready.
    fills: the sampler suggests a whole pack at once, and queued trials take the places of members that
        leave. Suggestions one after another would use more results. None: True on an accelerator, which
        computes all members at once, and False on a CPU, where members take turns.
    trains_full: whether the worker claims full trainings. Otherwise it ends when the search is finished.
    """

    name: str
    device: str
    artifacts: ArtifactStore
    programs: Path | None = None
    width: int = WIDTH
    promotes: bool = False
    lease_seconds: float = LEASE_SECONDS
    fleet: int = 1
    fills: bool | None = None
    trains_full: bool = True

    @property
    def fills_packs(self) -> bool:
        return self.device.partition(":")[0] != "cpu" if self.fills is None else self.fills


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The study of a worker, its settings, and its runtime."""

    storage: Storage
    study: Study
    settings: WorkerSettings
    runtime: Runtime
