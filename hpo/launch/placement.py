"""The placement of workers on a machine: how many there are, and what each sees.

A worker trains one trial of a training function at a time, so the resources of a trial are those of a worker.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.errors import InputError
from hpo.launch.slot import Slot
from hpo.values.resources import UNITS, Resources
from hpo.values.wording import counted, value_text

log = logging.getLogger("hpo.launch")

UNSET = Resources()

MAX_CPU_WORKERS = 8
"""Workers on a CPU, unless the number is given or follows from the cores of a trial."""

MIG = "MIG-"
"""How the UUID of a part of a partitioned GPU begins."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the workers may use.

    `gpus`: a value for CUDA_VISIBLE_DEVICES for each GPU, none for the CPU. `memory`: bytes.
    `is_cpu_chosen`: whether the workers train on the CPU, whatever a trial needs.
    """

    gpus: Sequence[str]
    cores: int
    memory: int
    is_cpu_chosen: bool = False


def place(machine: Machine, resources: Resources = UNSET, per_device: int | None = None) -> list[Slot]:
    """Return the slots of a machine: as many as the resources of a trial leave room for.

    `per_device`: this number of workers on each device, whatever the resources say. Raises `InputError` if
    one trial needs more GPUs or memory than there are. Too few cores only make a trial slower, and are
    logged.
    """
    if resources.cpus is not None and resources.cpus > machine.cores:
        cores = counted(machine.cores, "core")
        log.warning("resources.cpus = %d: a trial trains on %s here", resources.cpus, cores)
    if resources.memory is not None and resources.memory > machine.memory:
        raise InputError(
            f"resources.memory: a trial needs {memory_text(resources.memory)}, and workers may use "
            f"{memory_text(machine.memory)} here"
        )
    if resources.gpus and not machine.gpus and not machine.is_cpu_chosen:
        number = value_text(resources.gpus)
        raise InputError(f"resources.gpus = {number}: no GPU is visible here; --gpus cpu trains on the CPU")
    is_on_gpus = machine.gpus and resources.gpus != 0
    return (_on_gpus if is_on_gpus else _on_cpu)(machine, resources, per_device)


def memory_text(size: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    unit = next((unit for unit in ("TB", "GB", "MB") if size >= UNITS[unit]), "KB")
    return f"{size / UNITS[unit]:.3g} {unit}"


def _room(machine: Machine, resources: Resources) -> int | None:
    """Return how many trials the cores and the memory have room for, at least 1. None: not limited."""
    limits = []
    if resources.cpus is not None:
        limits.append(machine.cores // resources.cpus)
    if resources.memory is not None:
        limits.append(machine.memory // resources.memory)
    return max(1, min(limits)) if limits else None


def _on_cpu(machine: Machine, resources: Resources, per_device: int | None) -> list[Slot]:
    count = per_device or _cpu_workers(machine, resources)
    environment = {
        "OMP_NUM_THREADS": _threads(machine, resources) or str(max(1, machine.cores // count)),
        # Waiting threads give up their core. Two launchers on one machine each count on all cores, and
        # threads that spin at every barrier would starve each other.
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return [Slot("cpu", "cpu", environment)] * count


def _cpu_workers(machine: Machine, resources: Resources) -> int:
    room = _room(machine, resources)
    if room is not None and resources.cpus is not None:
        return room
    return min(machine.cores, MAX_CPU_WORKERS, *([] if room is None else [room]))


def _on_gpus(machine: Machine, resources: Resources, per_device: int | None) -> list[Slot]:
    groups = _groups(machine.gpus, resources.gpus or 1)
    share = resources.gpus if resources.gpus is not None and resources.gpus < 1 else 1
    per_group = per_device or int(1 / share + 1e-9)
    room = None if per_device else _room(machine, resources)
    # Fewer workers than places are spread over the GPUs.
    chosen = sorted((list(range(len(groups))) * per_group)[:room])
    threads = _threads(machine, resources)
    environment = {} if threads is None else {"OMP_NUM_THREADS": threads}
    return [_gpu_slot(groups[index], environment) for index in chosen]


def _threads(machine: Machine, resources: Resources) -> str | None:
    return None if resources.cpus is None else str(min(resources.cpus, machine.cores))


def _groups(gpus: Sequence[str], per_trial: float) -> list[Sequence[str]]:
    """Return the GPUs that workers see together; GPUs that are left over stay idle."""
    size = max(1, int(per_trial))
    if size > 1 and any(gpu.startswith(MIG) for gpu in gpus):
        raise InputError(f"resources.gpus = {size}: CUDA shows a process one part of a partitioned GPU only")
    if size > len(gpus):
        raise InputError(
            f"resources.gpus: a trial needs {counted(size, 'GPU')}, and workers may use {len(gpus)} here"
        )
    return [gpus[start : start + size] for start in range(0, len(gpus) - size + 1, size)]


def _gpu_slot(gpus: Sequence[str], environment: Mapping[str, str]) -> Slot:
    # The worker sees these GPUs only, and torch calls the first of them cuda:0 there.
    return Slot("cuda:0", f"gpu{'+'.join(gpus)}", {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **environment})
