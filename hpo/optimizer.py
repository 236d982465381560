"""Optimizers of packs: each step is a few operations on the matrix of all members' parameters."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hpo.pack import Candidate, Tensors


class Optimizer(Protocol):
    @property
    def state(self) -> Tensors:
        """What a step leaves for the next one, by name, each `(M, ...)`."""

    def load(self, state: Tensors) -> None:
        """Goes on from a `state` of as many members."""

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Changes `parameters` `(M, P)` by one step; `gradients` `(M, P)` are used up."""


class Sgd:
    """torch.optim.SGD with a learning rate, momentum and weight decay for each member."""

    def __init__(self, candidates: Sequence[Candidate], parameters: Tensor) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=parameters.dtype, device=parameters.device)[:, None]  # (M, 1)

        self._lr = column([candidate.lr for candidate in candidates])
        self._momentum = column([candidate.momentum for candidate in candidates])
        self._weight_decay = column([candidate.weight_decay for candidate in candidates])
        # torch starts the buffer as the first gradient, which is what zeros give.
        self._velocity = torch.zeros_like(parameters)  # (M, P)

    @property
    def state(self) -> Tensors:
        return {"velocity": self._velocity}

    def load(self, state: Tensors) -> None:
        self._velocity = state["velocity"]

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        gradients.addcmul_(parameters, self._weight_decay)
        self._velocity.mul_(self._momentum).add_(gradients)
        parameters.addcmul_(self._velocity, self._lr, value=-1)


class Adam:
    """torch.optim.Adam with its defaults and one learning rate (Kingma and Ba 2015, algorithm 1).

    Members may stand at different steps.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float, parameters: Tensor) -> None:
        self._lr = lr
        ones = parameters.new_ones((len(parameters), 1), dtype=torch.float64)
        self._state: Mapping[str, Tensor] = {
            "mean": torch.zeros_like(parameters),  # (M, P)
            "square": torch.zeros_like(parameters),  # (M, P)
            "power1": ones,  # (M, 1): beta1 to the power of the steps so far, and the same of beta2
            "power2": ones.clone(),
        }

    @property
    def state(self) -> Tensors:
        return self._state

    def load(self, state: Tensors) -> None:
        self._state = {name: state[name] for name in self._state}

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        mean, square, power1, power2 = self._state.values()
        power1 *= self.BETA1
        power2 *= self.BETA2
        mean.lerp_(gradients, 1 - self.BETA1)
        square.mul_(self.BETA2).addcmul_(gradients, gradients, value=1 - self.BETA2)
        # lr / (1 - beta1^t) goes into the denominator: so each member's is one factor and one summand.
        per_step = (power1 - 1) / self._lr  # (M, 1), negative: the step goes downhill
        factor = (per_step * (1 - power2).rsqrt()).to(square)
        denominator = square.sqrt().mul_(factor).add_((per_step * self.EPSILON).to(square))
        parameters.addcdiv_(mean, denominator)


def clip(gradients: Tensor, largest: float | Tensor) -> None:
    """Scales each member's gradient, a row of `(M, P)`, to a norm of at most `largest`, in place.

    `largest` is one number, or one for each member `(M, 1)`. As torch.nn.utils.clip_grad_norm_ does for one
    network.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)  # (M, 1)
    gradients.mul_((largest / (norms + 1e-6)).clamp(max=1.0))
