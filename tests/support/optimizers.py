"""Steps of optimizers on made-up gradients, which are the same in every pack."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import create_optimizer

SETTINGS = (
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True, "beta1": 0.8, "beta2": 0.99},
    {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "beta1": 0.9, "beta2": 0.999},
    {"lr": 0.01, "momentum": 0.95, "weight_decay": 1e-2, "nesterov": False, "beta1": 0.0, "beta2": 0.9},
    {"lr": 0.2, "momentum": 0.5, "weight_decay": 0.0, "nesterov": True, "beta1": 0.95, "beta2": 0.0},
)
"""The settings of the members 0 to 3."""

OPTIONAL = ("weight_decay", "nesterov", "beta1", "beta2")
"""The optional settings of all optimizers."""

WIDTH = 7


def new_optimizer(
    name: str, parameters: Tensor, members: Sequence[int], in_use: Sequence[str] = ()
) -> Optimizer:
    return create_optimizer(name, [SETTINGS[member] for member in members], parameters, in_use)


def initial_parameters(members: Sequence[int], dtype: torch.dtype) -> Tensor:
    rows = torch.randn(len(SETTINGS), WIDTH, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return rows[list(members)].clone()


def gradient(member: int, step: int, dtype: torch.dtype) -> Tensor:
    """Return the gradient of a member at a step, which is the same in every pack."""
    generator = torch.Generator().manual_seed(1000 * member + step)
    return torch.randn(WIDTH, generator=generator, dtype=dtype)


def take_steps(optimizer: Optimizer, parameters: Tensor, first_steps: Mapping[int, int], count: int) -> None:
    """Take `count` steps; `first_steps` maps each member to the number of its first one."""
    for step in range(count):
        rows = [gradient(member, first + step, parameters.dtype) for member, first in first_steps.items()]
        optimizer.step(parameters, torch.stack(rows))


def train_alone(
    name: str, member: int, count: int, dtype: torch.dtype = torch.float32, in_use: Sequence[str] = ()
) -> tuple[Tensor, Optimizer]:
    parameters = initial_parameters([member], dtype)
    optimizer = new_optimizer(name, parameters, [member], in_use)
    take_steps(optimizer, parameters, {member: 0}, count)
    return parameters, optimizer


def train_together(name: str, steps: Sequence[int], more: int, in_use: Sequence[str]) -> Tensor:
    """Return the float64 parameters of members that train alone for `steps`, then `more` steps in a pack."""
    before = [train_alone(name, member, count, torch.float64, in_use) for member, count in enumerate(steps)]
    parameters = torch.cat([rows for rows, _ in before])
    together = new_optimizer(name, parameters, range(len(steps)), in_use)
    names = together.state
    together.load({name: torch.cat([optimizer.state[name] for _, optimizer in before]) for name in names})
    take_steps(together, parameters, dict(enumerate(steps)), more)
    return parameters


def trained_by_torch(optimizer: torch.optim.Optimizer, member: int, count: int) -> Tensor:
    """Return the parameters of a member after `count` steps of an optimizer of its parameters."""
    (parameters,) = optimizer.param_groups[0]["params"]
    for step in range(count):
        parameters.grad = gradient(member, step, parameters.dtype)
        optimizer.step()
    result: Tensor = parameters.detach()
    return result
