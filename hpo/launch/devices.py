"""Choose the devices that workers run on."""

import os
import subprocess
import sys
from pathlib import Path

from hpo.errors import HpoError, InputError
from hpo.launch.slot import Slot
from hpo.settings import visible_devices

MAX_CPU_WORKERS = 8

DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""Device files of the GPU drivers that torch can use: NVIDIA, Jetson, AMD, WSL."""

COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


def slots(gpus: str, per_device: int | None) -> list[Slot]:
    """Return the slots for `--gpus` (`all`, `cpu`, or ordinals such as `0,1`) and `--per-device`.

    `all` means the CPU on a machine without a GPU. Ordinals count the devices that CUDA_VISIBLE_DEVICES
    leaves to this process. The default of `per_device` is one worker per GPU, or one per core up to
    `MAX_CPU_WORKERS`. Workers on the CPU share its cores. Raises `InputError` for a GPU that does not exist.
    """
    devices = _visible_gpus(gpus)
    if not devices:
        return _cpu_slots(per_device)
    return [
        # The worker sees one GPU only, which torch calls cuda:0 there.
        Slot("cuda:0", f"gpu{gpu}", {"CUDA_VISIBLE_DEVICES": gpu})
        for gpu in devices
        for _ in range(per_device or 1)
    ]


def _cpu_slots(workers: int | None) -> list[Slot]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or min(cores, MAX_CPU_WORKERS)
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores // count)),
        # Waiting threads give up their core. Two launchers on one machine each count on all cores, and
        # threads that spin at every barrier would starve each other.
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return [Slot("cpu", "cpu", environment)] * count


def _visible_gpus(gpus: str) -> list[str]:
    """Return the values for CUDA_VISIBLE_DEVICES, one per GPU. Empty: the CPU."""
    if gpus == "cpu":
        return []
    count, visible = _gpu_count(), visible_devices()
    # torch counts the visible devices that work. CUDA ignores devices after one that does not, such as -1.
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
        return 0
    # In a process of its own: torch would take half a gigabyte of the launcher, for as long as it runs.
    done = subprocess.run([sys.executable, "-c", COUNT_GPUS], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise HpoError(f"cannot count the GPUs: the child process failed: {reason}")
    return int(done.stdout)
