"""Plan a study: measure its network in child processes, and say what the study will take."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hpo.errors import HpoError
from hpo.launch.executors.base import Executor
from hpo.launch.slot import Slot
from hpo.run.child import run_in_child
from hpo.run.measurement import FunctionMeasurement, Measurement
from hpo.run.plan import Fleet, Plan, function_plan, make_plan, unmeasured_plan
from hpo.run.planned_points import planned_points
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.study.schedule import WIDTH

MAX_MEASURED = 8
"""Most workers that are measured at once."""

UNCALLED = "unknown: the training function was not called; --measure trains one epoch of it"

Measured = TypeVar("Measured")


def plan_study(
    spec: StudySpec, source: str, settings: Settings, executor: Executor, calls: bool = False
) -> Plan:
    """Return the plan of a study with the workers of an executor of this machine.

    As many processes measure at once as workers will train. `calls`: whether a training function is called
    for an epoch, which may have effects. `source` begins each message. Raises what the check of a study
    raises.
    """
    slots = executor.slots
    device = ", ".join(sorted({slot.label for slot in slots}))
    if spec.is_function and not calls:
        return unmeasured_plan(spec, device, len(slots), UNCALLED)
    fleet = Fleet(len(slots), executor.width or WIDTH)

    def measure(slot: Slot) -> dict[str, Any]:
        place = {
            "device": slot.device,
            "environment": dict(slot.environment),
            "width": fleet.width,
            "begin": time.time(),
        }
        plain: dict[str, Any] = run_in_child(
            "measure", settings, spec=spec.to_json(), source=source, place=place
        )
        return plain

    measured = at_once(measure, slots[:MAX_MEASURED])
    if spec.is_function:
        return function_plan(spec, [FunctionMeasurement(**each) for each in measured], len(slots), device)
    return make_plan(spec, planned_points(spec), list(map(Measurement.from_json, measured)), fleet, device)


def at_once(measure: Callable[[Slot], Measured], slots: Sequence[Slot]) -> list[Measured]:
    """Return the measurements of all slots, made at the same time. Raises what any of them raises."""
    measured: dict[int, Measured] = {}
    errors: list[HpoError] = []

    def run(number: int, slot: Slot) -> None:
        try:
            measured[number] = measure(slot)
        except HpoError as error:
            errors.append(error)

    # Daemons, so that an interrupt ends this process at once, and with it the children on their lifelines.
    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [measured[number] for number in sorted(measured)]
