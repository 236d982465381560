"""Errors of a device: memory that ran out, or a device that is broken."""

import resource
from dataclasses import dataclass

import torch

from hpo.errors import message_of
from hpo.values.out_of_memory import OUT_OF_MEMORY

BROKEN = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS")
"""Parts of the messages of errors of CUDA and its libraries."""

FOREIGN_SHARE = 0.1
"""If other processes use more than this share of a device's memory, they are to blame when it runs out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that a device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in message_of(error) for words in OUT_OF_MEMORY)


def is_broken(error: BaseException) -> bool:
    """Return whether `error` is an error of CUDA itself, such as an illegal address.

    After such an error every further CUDA call of the process fails.
    """
    if is_out_of_memory(error):
        return False
    is_cuda_error = isinstance(error, RuntimeError) and any(words in message_of(error) for words in BROKEN)
    return isinstance(error, torch.AcceleratorError) or is_cuda_error


def is_taken_by_others(device: str) -> bool:
    """Return whether other processes use much of a GPU's memory. False for a CPU, where this is unknown."""
    if torch.device(device).type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device) > FOREIGN_SHARE * total


def memory_used(device: str) -> str:
    """Describe this process's peak memory use; for a GPU also the device's free memory."""
    if torch.device(device).type != "cuda":
        return f"{_mebibytes(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} used"
    free, total = torch.cuda.mem_get_info(device)
    peak = torch.cuda.max_memory_allocated(device)
    return f"{_mebibytes(peak)} used at most, {_mebibytes(free)} of {_mebibytes(total)} free"


@dataclass(frozen=True, slots=True)
class DeviceFaults:
    """The errors and the memory of one device. `device`: torch's name."""

    device: str

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def is_contained(self, _error: BaseException) -> bool:
        return False

    def is_broken(self, error: BaseException) -> bool:
        return is_broken(error)

    def is_taken_by_others(self) -> bool:
        return is_taken_by_others(self.device)

    def memory_used(self) -> str:
        return memory_used(self.device)

    def release_memory(self) -> None:
        """Give memory that no tensor uses any more back to the device."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
