"""Train with a user's function. The worker itself imports neither torch nor the user's module."""

from dataclasses import dataclass, replace
from functools import partial

from hpo.functions.session import FunctionFaults, FunctionTrainer
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionRuntime, FunctionTask
from hpo.spec.identity import Identity
from hpo.study.study import Study
from hpo.values.stage import Stage
from hpo.values.vocabulary import PackKey
from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption


@dataclass(frozen=True, slots=True)
class FunctionTraining:
    """Trains trials of a study, one at a time, in these processes of its function."""

    study: Study
    processes: FunctionProcesses

    def check(self) -> None:
        """Start the first process, and check that the code that it has imported is that of the study.

        Raises `ConflictError` if the code is another, and `FunctionFailure` if it cannot be imported.
        """
        check_code(self.study, self.processes.code())

    def trainers(self, context: WorkerContext, interruption: Interruption) -> "FunctionTrainers":
        """Return what makes the trainers of a worker."""
        return FunctionTrainers(self.processes, context, interruption)

    def faults(self, _device: str) -> FunctionFaults:
        """Return what tells the errors of functions apart."""
        return FunctionFaults()


def check_code(study: Study, present: str | None) -> None:
    """Raise `ConflictError` if `present` is not the hash of the function's code in the study."""
    study.check(Identity(function=present), f"study {study.name!r}", in_file=False)


class FunctionTrainers:
    """Makes the trainer of one stage after the other."""

    def __init__(
        self, processes: FunctionProcesses, context: WorkerContext, interruption: Interruption
    ) -> None:
        self._processes, self._study, self._settings = processes, context.study, context.settings
        spec, runtime = context.study.spec, context.runtime
        limits = replace(
            runtime.limits.functions,
            epoch_minutes=spec.limits.epoch_minutes,
            memory=spec.make_resources().memory,
        )
        self._runtime = FunctionRuntime(runtime.stop, runtime.clock, interruption.interrupt, limits)
        self._trainer: FunctionTrainer | None = None

    def make(self, stage: Stage, _key: PackKey) -> FunctionTrainer:
        """Return a trainer of this stage. The session of the one before ends."""
        if self._trainer is not None:
            self._trainer.close()
        spec = self._study.spec
        budget = spec.budget(stage)
        check = partial(check_code, self._study)
        task = FunctionTask(
            spec.code, stage, budget.epochs, budget.keep, spec.make_objective(), self._settings.device, check
        )
        self._trainer = FunctionTrainer(task, self._processes, self._runtime)
        return self._trainer
