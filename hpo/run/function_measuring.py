"""Measure one epoch of a user's training function, as a worker would call it."""

import time

import numpy as np

from hpo.errors import InputError
from hpo.functions.failures import FunctionFailure
from hpo.functions.session import FunctionTrainer
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionRuntime, FunctionTask
from hpo.run.measurement import FunctionMeasurement
from hpo.spec.study_spec import StudySpec
from hpo.values.candidate import Candidate
from hpo.values.seeds import Purpose


def measure_function(spec: StudySpec, device: str, begin: float) -> FunctionMeasurement:
    """Train one epoch at a random point. `begin`: when the process started.

    Raises `InputError` if the function raises.
    """
    budget = spec.budget("search")
    task = FunctionTask(spec.code, "search", budget.epochs, budget.keep, spec.make_objective(), device)
    processes = FunctionProcesses(spec.code)
    try:
        processes.start_spare()
        trainer = FunctionTrainer(task, processes, FunctionRuntime())
        point = spec.space.draw(np.random.default_rng(spec.seed))
        candidate = Candidate(point, Purpose.SEARCH_WEIGHTS.derive(spec.seed, 0))
        session = trainer.start({0: candidate})
        start_seconds = time.time() - begin
        (result,) = session.epoch()
        states = session.states()
        size = sum(array.nbytes for state in states.values() for array in state.arrays.values())
        trainer.close()
    except FunctionFailure as error:
        raise InputError(f"the training function failed: {error}") from error
    finally:
        processes.close()
    return FunctionMeasurement(start_seconds, result.device_seconds, size)
