"""Optimizers of packs: each step is a few operations on the matrix of all members' parameters."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hpo.pack import Candidate


class Optimizer(Protocol):
    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Changes `parameters` `(M, P)` by one step; `gradients` `(M, P)` are used up."""

    def keep(self, members: Tensor) -> None:
        """Shrinks to the members at `members` `(K,)` int64."""


class Sgd:
    """torch.optim.SGD with a learning rate, momentum and weight decay for each member."""

    def __init__(self, candidates: Sequence[Candidate], parameters: Tensor) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=parameters.dtype, device=parameters.device).unsqueeze(
                1
            )  # (M, 1)

        self._lr = column([candidate.lr for candidate in candidates])
        self._momentum = column([candidate.momentum for candidate in candidates])
        self._weight_decay = column([candidate.weight_decay for candidate in candidates])
        # torch starts the buffer as the first gradient, which is what zeros give.
        self._velocity = torch.zeros_like(parameters)  # (M, P)

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        gradients.addcmul_(parameters, self._weight_decay)
        self._velocity.mul_(self._momentum).add_(gradients)
        parameters.addcmul_(self._velocity, self._lr, value=-1)

    def keep(self, members: Tensor) -> None:
        self._lr = self._lr.index_select(0, members)
        self._momentum = self._momentum.index_select(0, members)
        self._weight_decay = self._weight_decay.index_select(0, members)
        self._velocity = self._velocity.index_select(0, members)


class Adam:
    """torch.optim.Adam with its defaults and one learning rate (Kingma and Ba 2015, algorithm 1)."""

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float, parameters: Tensor) -> None:
        self._lr, self._steps = lr, 0
        self._mean = torch.zeros_like(parameters)  # (M, P)
        self._square = torch.zeros_like(parameters)  # (M, P)

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        self._steps += 1
        self._mean.lerp_(gradients, 1 - self.BETA1)
        self._square.mul_(self.BETA2).addcmul_(gradients, gradients, value=1 - self.BETA2)
        correction1, correction2 = 1 - self.BETA1**self._steps, 1 - self.BETA2**self._steps
        scale = self._square.sqrt().div_(correction2**0.5).add_(self.EPSILON)
        parameters.addcdiv_(self._mean, scale, value=-self._lr / correction1)

    def keep(self, members: Tensor) -> None:
        self._mean = self._mean.index_select(0, members)
        self._square = self._square.index_select(0, members)


def clip(gradients: Tensor, largest: float | Tensor) -> None:
    """Scales each member's gradient, a row of `(M, P)`, to a norm of at most `largest`, in place.

    `largest` is one number, or one for each member `(M, 1)`. As torch.nn.utils.clip_grad_norm_ does for one
    network.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)  # (M, 1)
    gradients.mul_((largest / (norms + 1e-6)).clamp(max=1.0))
