"""Optimizers of packs: a step is a few operations on the parameter matrix of all members."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hpo.training.weights import Tensors
from hpo.values.budget import Phase
from hpo.values.candidate import Candidate


class Optimizer(Protocol):
    """An optimizer of M members, each with its own hyperparameters."""

    @property
    def settings(self) -> Tensors:
        """Hyperparameters by name, `(M, 1)`."""

    @property
    def state(self) -> Tensors:
        """Tensors that one step leaves for the next, by name, each `(M, ...)`."""

    def load(self, state: Tensors) -> None:
        """Replace the state by `state`, which has the same number of members."""

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        """Update `parameters` `(M, P)` and `state` in place by one step; `gradients` `(M, P)` are
        overwritten."""

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Call `update` with the optimizer's own settings and state."""


class _Optimizer:
    def __init__(self, settings: Tensors, state: Tensors) -> None:
        self.settings, self.state = settings, state

    def load(self, state: Tensors) -> None:
        self.state = {name: state[name] for name in self.state}

    def step(self: Optimizer, parameters: Tensor, gradients: Tensor) -> None:
        self.update(parameters, gradients, self.settings, self.state)


class Sgd(_Optimizer):
    """torch.optim.SGD with a learning rate, momentum and weight decay per member."""

    def __init__(self, candidates: Sequence[Candidate], parameters: Tensor) -> None:
        settings = {
            name: parameters.new_tensor([[candidate.params[name]] for candidate in candidates])
            for name in ("lr", "momentum", "weight_decay")
        }
        # torch initialises the momentum buffer with the first gradient. Zeros give the same first step.
        super().__init__(settings, {"velocity": torch.zeros_like(parameters)})  # (M, P)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        velocity = state["velocity"]
        gradients.addcmul_(parameters, settings["weight_decay"])
        velocity.mul_(settings["momentum"]).add_(gradients)
        parameters.addcmul_(velocity, settings["lr"], value=-1)


class Adam(_Optimizer):
    """torch.optim.Adam with its defaults and one learning rate (Kingma and Ba 2015, algorithm 1).

    Members may be at different steps.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float, parameters: Tensor) -> None:
        ones = parameters.new_ones((len(parameters), 1), dtype=torch.float64)
        state = {
            "mean": torch.zeros_like(parameters),  # (M, P)
            "square": torch.zeros_like(parameters),  # (M, P)
            "power1": ones,  # (M, 1): beta1^t after t steps
            "power2": ones.clone(),  # (M, 1): beta2^t
        }
        super().__init__({"lr": ones * lr}, state)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        mean, square, power1, power2 = (state[name] for name in ("mean", "square", "power1", "power2"))
        power1 *= Adam.BETA1
        power2 *= Adam.BETA2
        mean.lerp_(gradients, 1 - Adam.BETA1)
        square.mul_(Adam.BETA2).addcmul_(gradients, gradients, value=1 - Adam.BETA2)
        # Folding lr / (1 - beta1^t) into the denominator leaves one factor and one summand per member.
        inverse_step = (power1 - 1) / settings["lr"]  # (M, 1), negative: the step goes downhill
        factor = (inverse_step * (1 - power2).rsqrt()).to(square)
        denominator = square.sqrt().mul_(factor).add_((inverse_step * Adam.EPSILON).to(square))
        parameters.addcdiv_(mean, denominator)


def create_optimizer(phase: Phase, candidates: Sequence[Candidate], parameters: Tensor) -> Optimizer:
    """Return the optimizer of `phase` for the members `candidates` with `parameters` `(M, P)`."""
    return Adam(phase.lr, parameters) if phase.optimizer == "adam" else Sgd(candidates, parameters)


def clip(gradients: Tensor, max_norm: float | Tensor) -> None:
    """Scale each member's gradient, a row of `(M, P)`, to a norm of at most `max_norm`, in place.

    `max_norm` is one number, or one per member `(M, 1)`. Equals torch.nn.utils.clip_grad_norm_ for each
    member.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)  # (M, 1)
    gradients.mul_((max_norm / (norms + 1e-6)).clamp(max=1.0))
