"""Optimizers of packs: a step is a few operations on the parameter matrix of all members."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from hpo.training.weights import Tensors


class Optimizer(ABC):
    """An optimizer of M members, each with its own settings.

    `name`: its name in budgets. `setting_names`: its settings, which have the names of hyperparameters.
    `optional_names`: settings that a step has only where a study names them, and otherwise leaves at the
    default of the hyperparameter. `setting_dtype`: the type of the settings, None for that of the parameters.
    Members may be at different steps.
    """

    name: ClassVar[str]
    setting_names: ClassVar[tuple[str, ...]]
    optional_names: ClassVar[tuple[str, ...]] = ()
    setting_dtype: ClassVar[torch.dtype | None] = None

    def __init__(self, settings: Tensors, parameters: Tensor) -> None:
        """Create the optimizer before its first step on `parameters` `(M, P)`. Each setting is `(M, 1)`."""
        self.settings, self.state = settings, self.initial_state(parameters)

    @staticmethod
    @abstractmethod
    def initial_state(parameters: Tensor) -> Tensors:
        """Return the tensors that one step leaves for the next, by name, each `(M, ...)`."""

    @staticmethod
    @abstractmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        """Update `parameters` `(M, P)` and `state` in place by one step; `gradients` `(M, P)` are
        overwritten."""

    def load(self, state: Tensors) -> None:
        """Replace the state by `state`, which has the same number of members."""
        self.state = {name: state[name] for name in self.state}

    def step(self, parameters: Tensor, gradients: Tensor) -> None:
        """Call `update` with the optimizer's own settings and state."""
        self.update(parameters, gradients, self.settings, self.state)
