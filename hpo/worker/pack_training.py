"""Train networks in packs, with torch."""

from dataclasses import dataclass

from hpo.training.memory import DeviceFaults
from hpo.training.workload import Workload
from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption
from hpo.worker.trainers import TrainerFactory


@dataclass(frozen=True, slots=True)
class PackTraining:
    """Trains packs of the network of a workload on its images."""

    workload: Workload

    def trainers(self, context: WorkerContext, interruption: Interruption) -> TrainerFactory:
        """Return what makes the trainers of a worker."""
        return TrainerFactory(context, self.workload, interruption)

    def faults(self, device: str) -> DeviceFaults:
        """Return what tells the errors of a device apart."""
        return DeviceFaults(device)
