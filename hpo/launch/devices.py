"""Choose the devices that workers run on."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

from hpo.errors import HpoError, InputError
from hpo.launch.cores import usable_cores
from hpo.launch.memory import usable_memory
from hpo.launch.placement import MIG, UNSET, Machine, place
from hpo.launch.slot import Slot
from hpo.settings import PYTHON, child_environment, visible_devices
from hpo.values.resources import Resources
from hpo.values.wording import counted

DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""Device files of the GPU drivers that torch can use: NVIDIA, Jetson, AMD, WSL."""

COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


def slots(gpus: str, per_device: int | None, resources: Resources = UNSET) -> list[Slot]:
    """Return the slots for `--gpus` (`all`, `cpu`, or ordinals such as `0,1`) and `--per-device`.

    `resources`: what each worker needs. The default of `per_device` is as many workers as the resources leave
    room for. Without resources, it is one per GPU, or one per core up to `MAX_CPU_WORKERS`. Workers on the
    CPU share the cores that this process may use. Raises `InputError` for a GPU that does not exist, and for
    resources that this machine does not have.
    """
    return place(this_machine(gpus), resources, per_device)


def this_machine(gpus: str) -> Machine:
    """Return what workers may use of this machine, for `--gpus`.

    `all` means the CPU on a machine without a GPU. Ordinals count the devices that CUDA_VISIBLE_DEVICES
    leaves to this process. Raises `InputError` for a GPU that does not exist.
    """
    return Machine(_visible_gpus(gpus), usable_cores(), usable_memory(), is_cpu_chosen=gpus == "cpu")


def _visible_gpus(gpus: str) -> list[str]:
    """Return the values for CUDA_VISIBLE_DEVICES, one per GPU. Empty: the CPU."""
    if gpus == "cpu":
        return []
    present = _present_gpus(visible_devices())
    if gpus == "all":
        return present
    try:
        ordinals = [int(part) for part in gpus.split(",")]
    except ValueError as error:
        raise InputError(f"--gpus {gpus!r}: must be all, cpu, or ordinals such as 0,1") from error
    if len(set(ordinals)) < len(ordinals):
        raise InputError(f"--gpus {gpus!r}: names a GPU twice; --per-device puts several workers on one")
    for ordinal in ordinals:
        if not 0 <= ordinal < len(present):
            seen = f"{counted(len(present), 'GPU')} visible" if present else "none is visible; try --gpus cpu"
            raise InputError(f"--gpus {gpus!r}: there is no GPU {ordinal} here, {seen}")
    return [present[ordinal] for ordinal in ordinals]


def _present_gpus(visible: Sequence[str] | None) -> list[str]:
    """Return the GPUs that work. `visible`: the devices in CUDA_VISIBLE_DEVICES, None if it is unset."""
    if visible is None:
        return [str(ordinal) for ordinal in range(_gpu_count())]
    if len(set(visible)) < len(visible) and _has_driver():
        names = ",".join(visible)
        raise InputError(
            f"CUDA_VISIBLE_DEVICES = {names!r}: names a device twice, so CUDA shows none of them"
        )
    if visible and visible[0].startswith(MIG):
        # CUDA shows a process one part of a partitioned GPU at most, so each is asked for by itself.
        parts = list(takewhile(lambda name: name.startswith(MIG), visible))
        with ThreadPoolExecutor(len(parts)) as pool:
            counts = pool.map(_gpu_count, parts)
            return [part for part, count in zip(parts, counts, strict=True) if count]
    # torch counts the visible devices that work. CUDA ignores devices after one that does not, such as -1.
    return list(visible[: _gpu_count()])


def _has_driver() -> bool:
    return any(Path(driver).exists() for driver in DRIVERS)


def _gpu_count(visible: str | None = None) -> int:
    """Return the number of GPUs that torch sees. `visible`: another value for CUDA_VISIBLE_DEVICES."""
    if not _has_driver():
        return 0
    # In a process of its own: torch would take half a gigabyte of the launcher, for as long as it runs.
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = subprocess.run(
        [*PYTHON, "-c", COUNT_GPUS],
        text=True,
        capture_output=True,
        check=False,
        env=child_environment(**environment),
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise HpoError(f"cannot count the GPUs: the child process failed: {reason}")
    return int(done.stdout)
