"""Stochastic gradient descent with momentum."""

import torch
from torch import Tensor

from hpo.training.optimizers.base import Optimizer
from hpo.training.weights import Tensors


class Sgd(Optimizer):
    """torch.optim.SGD with a learning rate, momentum and weight decay per member, and Nesterov momentum."""

    name = "sgd"
    setting_names = ("lr", "momentum", "weight_decay")
    optional_names = ("nesterov",)

    @staticmethod
    def initial_state(parameters: Tensor) -> Tensors:
        # torch initialises the momentum buffer with the first gradient. Zeros give the same first step.
        return {"velocity": torch.zeros_like(parameters)}  # (M, P)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        velocity = state["velocity"]
        gradients.addcmul_(parameters, settings["weight_decay"])
        velocity.mul_(settings["momentum"]).add_(gradients)
        direction = velocity
        if "nesterov" in settings:
            # The gradient plus momentum times velocity for members with Nesterov momentum, the velocity for
            # others. One product and one sum serve both.
            share = torch.where(settings["nesterov"] > 0, settings["momentum"], 1.0)  # (M, 1)
            direction = gradients.mul_(settings["nesterov"]).addcmul_(velocity, share)
        parameters.addcmul_(direction, settings["lr"], value=-1)
