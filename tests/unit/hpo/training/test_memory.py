"""Errors of a device are told apart: memory that ran out, a broken device, and everything else."""

import pytest
import torch

from hpo.training.memory import is_broken, is_out_of_memory, is_taken_by_others, memory_used


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_does_not_break_the_device(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_broken(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
        torch.AcceleratorError("device-side assert triggered"),
    ],
)
def test_an_error_of_cuda_itself_breaks_the_device(error: Exception) -> None:
    assert is_broken(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("CUDA error")])
def test_other_errors_are_neither(error: Exception) -> None:
    assert not is_broken(error)
    assert not is_out_of_memory(error)


def test_a_cpu_is_never_blamed_on_others_and_reports_this_process() -> None:
    assert not is_taken_by_others("cpu")
    assert memory_used("cpu").endswith(" MiB used")
