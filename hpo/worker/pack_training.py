"""Train networks in packs, with torch."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hpo.training.memory import DeviceFaults
from hpo.training.workload import Workload
from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption
from hpo.worker.rehearsal import rehearse
from hpo.worker.trainers import TrainerFactory


@dataclass(frozen=True, slots=True)
class PackTraining:
    """Trains packs of the network of a workload on its images.

    `fused`: whether `vmap` computes the members of a pack. None: True except on a CPU.
    """

    workload: Workload
    fused: bool | None = None

    @classmethod
    def rehearsed(cls, workload: Workload, device: str, notes: Path) -> "PackTraining":
        """Return the training on `device` of a network that can be trained there, see `rehearse`."""
        return cls(workload, rehearse(workload, torch.device(device), notes))

    def trainers(self, context: WorkerContext, interruption: Interruption) -> TrainerFactory:
        """Return what makes the trainers of a worker."""
        return TrainerFactory(context, self.workload, interruption, self.fused)

    def faults(self, device: str) -> DeviceFaults:
        """Return what tells the errors of a device apart."""
        return DeviceFaults(device)
