"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2)."""

from torch import Tensor

from hpo.training.optimizers.adam import Adam, take_step
from hpo.training.optimizers.base import Optimizer
from hpo.training.weights import Tensors


class AdamW(Optimizer):
    """torch.optim.AdamW with a learning rate and weight decay per member, and with betas per member."""

    name = "adamw"
    setting_names = ("lr", "weight_decay")
    optional_names = ("beta1", "beta2")
    setting_dtype = Adam.setting_dtype

    @staticmethod
    def initial_state(parameters: Tensor) -> Tensors:
        return Adam.initial_state(parameters)

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        parameters.mul_((1 - settings["lr"] * settings["weight_decay"]).to(parameters))
        take_step(parameters, gradients, settings, state)
