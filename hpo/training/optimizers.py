"""Optimizers of packs: each step is a few operations on the matrix of all members' parameters."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hpo.training.pack import Candidate, Tensors


class Optimizer(Protocol):
    @property
    def settings(self) -> Tensors:
        """Each member's hyperparameters by name, `(M, 1)`."""

    @property
    def state(self) -> Tensors:
        """What a step leaves for the next one, by name, each `(M, ...)`."""

    def load(self, state: Tensors) -> None:
        """Goes on from a `state` of as many members."""

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        """Changes `parameters` `(M, P)` and `state` by one step; `gradients` `(M, P)` are used up."""

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """The same with its own settings and state."""


class _Optimizer:
    def __init__(self, settings: Tensors, state: Tensors) -> None:
        self.settings, self.state = settings, state

    def load(self, state: Tensors) -> None:
        self.state = {name: state[name] for name in self.state}

    def step(self: Optimizer, parameters: Tensor, gradients: Tensor) -> None:
        self.update(parameters, gradients, self.settings, self.state)


class Sgd(_Optimizer):
    """torch.optim.SGD with a learning rate, momentum and weight decay for each member."""

    def __init__(self, candidates: Sequence[Candidate], parameters: Tensor) -> None:
        settings = {
            name: parameters.new_tensor([[getattr(candidate, name)] for candidate in candidates])
            for name in ("lr", "momentum", "weight_decay")
        }
        # torch starts the buffer as the first gradient, which is what zeros give.
        super().__init__(settings, {"velocity": torch.zeros_like(parameters)})  # (M, P)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        velocity = state["velocity"]
        gradients.addcmul_(parameters, settings["weight_decay"])
        velocity.mul_(settings["momentum"]).add_(gradients)
        parameters.addcmul_(velocity, settings["lr"], value=-1)


class Adam(_Optimizer):
    """torch.optim.Adam with its defaults and one learning rate (Kingma and Ba 2015, algorithm 1).

    Members may stand at different steps.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float, parameters: Tensor) -> None:
        ones = parameters.new_ones((len(parameters), 1), dtype=torch.float64)
        state = {
            "mean": torch.zeros_like(parameters),  # (M, P)
            "square": torch.zeros_like(parameters),  # (M, P)
            "power1": ones,  # (M, 1): beta1 to the power of the steps so far, and the same of beta2
            "power2": ones.clone(),
        }
        super().__init__({"lr": ones * lr}, state)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        mean, square, power1, power2 = (state[name] for name in ("mean", "square", "power1", "power2"))
        power1 *= Adam.BETA1
        power2 *= Adam.BETA2
        mean.lerp_(gradients, 1 - Adam.BETA1)
        square.mul_(Adam.BETA2).addcmul_(gradients, gradients, value=1 - Adam.BETA2)
        # lr / (1 - beta1^t) goes into the denominator: so each member's is one factor and one summand.
        per_step = (power1 - 1) / settings["lr"]  # (M, 1), negative: the step goes downhill
        factor = (per_step * (1 - power2).rsqrt()).to(square)
        denominator = square.sqrt().mul_(factor).add_((per_step * Adam.EPSILON).to(square))
        parameters.addcdiv_(mean, denominator)


def clip(gradients: Tensor, largest: float | Tensor) -> None:
    """Scales each member's gradient, a row of `(M, P)`, to a norm of at most `largest`, in place.

    `largest` is one number, or one for each member `(M, 1)`. As torch.nn.utils.clip_grad_norm_ does for one
    network.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)  # (M, 1)
    gradients.mul_((largest / (norms + 1e-6)).clamp(max=1.0))
