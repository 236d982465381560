"""Which devices workers run on: slots, each a device with the environment that pins a process to it."""

import os
from pathlib import Path

from hpo.errors import InputError
from hpo.launch.slot import Slot
from hpo.settings import visible_devices

MOST_CPU_WORKERS = 8

DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""What drivers of GPUs that torch can use put there: NVIDIA's, that of Jetson, AMD's, that of WSL."""


def slots(gpus: str, per_device: int | None) -> list[Slot]:
    """The slots for `--gpus` (`all`, `cpu`, or ordinals such as `0,1`) and `--per-device`.

    `all` means the CPU where there is no GPU. Ordinals count among the devices that an outer
    CUDA_VISIBLE_DEVICES leaves. One worker per GPU, and one per core up to `MOST_CPU_WORKERS`, unless
    `per_device` is given; workers on the CPU share its cores. Raises `InputError` for a GPU that is not
    there.
    """
    chosen = _chosen(gpus)
    if not chosen:
        return _cpu_slots(per_device)
    return [
        # The process sees one GPU only, so it is cuda:0 there whatever it is called outside.
        Slot("cuda:0", f"gpu{gpu}", {"CUDA_VISIBLE_DEVICES": gpu})
        for gpu in chosen
        for _ in range(per_device or 1)
    ]


def _cpu_slots(workers: int | None) -> list[Slot]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or min(cores, MOST_CPU_WORKERS)
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores // count)),
        # Threads that wait give up their core. Two launchers on one machine each take its cores for their
        # own, and threads that spin at every barrier then starve each other.
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return [Slot("cpu", "cpu", environment)] * count


def _chosen(gpus: str) -> list[str]:
    if gpus == "cpu":
        return []
    count, visible = _gpu_count(), visible_devices()
    # torch counts what is visible and works; CUDA ignores what follows a device that does not, such as -1.
    present = [str(ordinal) for ordinal in range(count)] if visible is None else visible[:count]
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
            raise InputError(f"--gpus {gpus!r}: there is no GPU {ordinal}; visible here: {len(present)}")
    return [present[ordinal] for ordinal in ordinals]


def _gpu_count() -> int:
    if not any(Path(driver).exists() for driver in DRIVERS):
        return 0  # torch would say so too, but importing it takes as long as all else that a launcher does
    import torch  # the driver's count of the visible ones, without starting CUDA in this process

    return torch.cuda.device_count()
