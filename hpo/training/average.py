"""The exponential moving average of the weights of a pack."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.training.async_evaluation import send
from hpo.training.loops import Step
from hpo.training.pack import Pack
from hpo.training.weights import Weights

EVERY = 8
"""Steps between two updates of an average, each with the decay of all these steps. More updates take time,
and hardly change an average over hundreds of steps."""


def decay(ema: float, step: int) -> float:
    """Return the decay of the average at a step of a phase, from 1.

    The first weights are forgotten soon: the decay of early steps is below `ema`.
    """
    return min(ema, (1 + step) / (10 + step))


def shares(ema: float, epochs: Sequence[int], steps: int) -> list[Tensor | None]:
    """Return the share that the average takes of the weights after each of the `steps` of an epoch.

    A share is `(M, 1)` float64 on the CPU, for M members at their own `epochs` of the phase, from 0. None:
    the average stays as it is. The last step of an epoch always updates the average.
    """
    updates: list[Tensor | None] = []
    begin = 0
    for end in range(1, steps + 1):
        if end % EVERY and end != steps:
            updates.append(None)
            continue
        # By Python's floats, one after another: the same to the bit in every pack.
        kept = {
            epoch: math.prod(decay(ema, epoch * steps + step) for step in range(begin + 1, end + 1))
            for epoch in set(epochs)
        }
        updates.append(torch.tensor([[1 - kept[epoch]] for epoch in epochs], dtype=torch.float64))
        begin = end
    return updates


@dataclass(frozen=True, slots=True)
class AveragedStep:
    """A step after which `average` takes a share of the weights of the pack.

    Parameters and floating-point buffers are averaged, such as running statistics. Other buffers are copied.
    """

    step: Step
    pack: Pack
    average: Weights
    shares: Iterator[Tensor | None]

    @classmethod
    def of(cls, step: Step, pack: Pack, average: Weights, updates: Sequence[Tensor | None]) -> "AveragedStep":
        """Return the step of an epoch with these `shares`, which are sent to the device of the average."""
        like = average.parameters
        given = [share.to(like.dtype) for share in updates if share is not None]
        sent = iter(send(torch.stack(given), like.device)) if given else iter(())
        return cls(step, pack, average, iter([share if share is None else next(sent) for share in updates]))

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        losses = self.step(images, labels)
        if (share := next(self.shares)) is not None:
            self._update(share)
        return losses

    @torch.no_grad()
    def _update(self, share: Tensor) -> None:
        weights = self.pack.weights
        self.average.parameters.lerp_(weights.parameters, share)
        for name, buffer in self.average.buffers.items():
            if buffer.is_floating_point():
                buffer.lerp_(weights.buffers[name], share.to(buffer.dtype).view(-1, *[1] * (buffer.ndim - 1)))
            else:
                buffer.copy_(weights.buffers[name])
