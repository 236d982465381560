"""Steps of optimizers on made-up gradients, which are the same in every pack."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import create_optimizer

SETTINGS = (
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
    {"lr": 0.01, "momentum": 0.95, "weight_decay": 1e-2},
    {"lr": 0.2, "momentum": 0.5, "weight_decay": 0.0},
)
"""The settings of the members 0 to 3."""

WIDTH = 7


def new_optimizer(name: str, parameters: Tensor, members: Sequence[int]) -> Optimizer:
    return create_optimizer(name, [SETTINGS[member] for member in members], parameters)


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
    name: str, member: int, count: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Optimizer]:
    parameters = initial_parameters([member], dtype)
    optimizer = new_optimizer(name, parameters, [member])
    take_steps(optimizer, parameters, {member: 0}, count)
    return parameters, optimizer


def trained_by_torch(optimizer: torch.optim.Optimizer, member: int, count: int) -> Tensor:
    """Return the parameters of a member after `count` steps of an optimizer of its parameters."""
    (parameters,) = optimizer.param_groups[0]["params"]
    for step in range(count):
        parameters.grad = gradient(member, step, parameters.dtype)
        optimizer.step()
    result: Tensor = parameters.detach()
    return result
