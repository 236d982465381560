"""Evaluation of an epoch on a device while the next epoch is trained there."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

LEAD = 32
"""The most steps that are launched but not yet computed: enough to keep a GPU busy while its worker reports.
Launched steps delay checkpoints, and cost time when the epoch turns out to be unwanted."""


class PendingEvaluation(Protocol):
    """A matrix that is being computed."""

    def done(self) -> bool:
        """Return whether the matrix is ready, without waiting. Call this before each concurrent step."""

    def values(self) -> list[list[float]]:
        """Return the matrix, waiting for it and for nothing else."""


class AsyncEvaluator(Protocol):
    """Computes evaluations on a device beside the training."""

    def begin(self, compute: Callable[[], Tensor]) -> PendingEvaluation:
        """Begin to compute a matrix from the results of the work queued on the device so far.

        The tensors that `compute` reads must stay alive and unchanged until the matrix is ready.
        """

    def wait(self) -> None:
        """Wait for all work queued on the device."""


@dataclass(frozen=True, slots=True)
class _StreamEvaluation:
    stream: torch.cuda.Stream
    matrix: Tensor
    event: torch.cuda.Event
    launched: deque[torch.cuda.Event] = field(default_factory=deque)

    def done(self) -> bool:
        self.launched.append(torch.cuda.current_stream(self.stream.device).record_event())
        if len(self.launched) > LEAD:
            self.launched.popleft().synchronize()
        return bool(self.event.query())

    def values(self) -> list[list[float]]:
        with torch.cuda.stream(self.stream):  # the training stream would wait for the training, too
            values: list[list[float]] = self.matrix.tolist()
        return values


class SideStream:
    """An `AsyncEvaluator` on a CUDA device: a second stream beside the one that trains.

    Use one per process, because torch's allocator keeps separate memory for each stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def begin(self, compute: Callable[[], Tensor]) -> PendingEvaluation:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            matrix = compute()
            return _StreamEvaluation(self._stream, matrix, self._stream.record_event())

    def wait(self) -> None:
        torch.cuda.synchronize(self._stream.device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device` without waiting for work queued on a GPU."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
