"""What went wrong on a device: memory that ran out, or the device itself."""

import resource

import torch

OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "ALLOC_FAILED",  # of cuBLAS and cuDNN, as is the next
    "CUDNN_STATUS_NOT_INITIALIZED",
    "DefaultCPUAllocator",
)
"""How errors begin to speak of memory that are not torch's own OutOfMemoryError."""

BROKEN = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS")

FOREIGN_SHARE = 0.1
"""Memory that others use above this share of a device makes it theirs to blame."""


def is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def is_broken(error: Exception) -> bool:
    """After an error of CUDA itself, such as an illegal address, every further call in the process fails."""
    if is_out_of_memory(error):
        return False
    known = isinstance(error, RuntimeError) and any(words in str(error) for words in BROKEN)
    return isinstance(error, torch.AcceleratorError) or known


def is_taken_by_others(device: str) -> bool:
    """Whether other processes use a good part of a GPU; of a CPU that is not known."""
    if torch.device(device).type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device) > FOREIGN_SHARE * total


def memory_used(device: str) -> str:
    """By this process, at its peak, and of a GPU by all that use it now."""
    if torch.device(device).type != "cuda":
        return f"{_mebibytes(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} used"
    free, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.max_memory_allocated(device)
    return f"{_mebibytes(ours)} used at most, {_mebibytes(free)} of {_mebibytes(total)} free"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
