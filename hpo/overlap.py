"""Computing something on a device beside the training that goes on there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Outcome(Protocol):
    """Of what is being computed."""

    def done(self) -> bool:
        """Whether it is there. Does not wait for it."""

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

    def done(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]

    def values(self) -> list[list[float]]:
        with torch.cuda.stream(self.stream):  # otherwise it would wait for the training too
            values: list[list[float]] = self.matrix.tolist()
        return values


class SideStream:
    """An overlap on a CUDA device: a stream of its own, which takes what the training leaves of the card.

    One is enough for a process. The allocator keeps memory for each stream apart.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(self, compute: Callable[[], Tensor]) -> Outcome:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            matrix = compute()
            return _OnStream(self._stream, matrix, self._stream.record_event())

    def wait(self) -> None:
        torch.cuda.synchronize(self._stream.device)
