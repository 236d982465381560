"""Computing something on a device beside the training that goes on there."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

LEAD = 32
"""Steps that are launched and not done, at most: enough for a card to be busy while its worker reports. They
have to be waited for when they turn out not to be wanted, and when a checkpoint is taken."""


class Outcome(Protocol):
    """A matrix that is being computed."""

    def done(self) -> bool:
        """Whether it is there; to be asked before each step beside it. Does not wait for it."""

    def values(self) -> list[list[float]]:
        """Waits for it, and for nothing else."""


class Overlap(Protocol):
    def begin(self, compute: Callable[[], Tensor]) -> Outcome:
        """Begins to compute a matrix, from what the device has been told to do so far.

        What `compute` reads must stay as it is, and must be kept, until the outcome is there.
        """

    def wait(self) -> None:
        """Waits for all that the device has been told to do."""


@dataclass(frozen=True, slots=True)
class _OnStream:
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
        with torch.cuda.stream(self.stream):  # otherwise it would wait for the training too
            values: list[list[float]] = self.matrix.tolist()
        return values


class SideStream:
    """An overlap on a CUDA device: a stream of its own, beside the one that trains.

    One for a process: torch's allocator keeps memory for each stream apart.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def begin(self, compute: Callable[[], Tensor]) -> Outcome:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            matrix = compute()
            return _OnStream(self._stream, matrix, self._stream.record_event())

    def wait(self) -> None:
        torch.cuda.synchronize(self._stream.device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`. Does not wait for what a GPU was told before."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
