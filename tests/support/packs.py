"""Comparisons of packs with ordinary trainings of the same networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpo import models
from hpo.training.networks import Factory
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.clipping import clip
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack
from hpo.values.candidate import Candidate
from support.candidates import candidate

CANDIDATES = (
    candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=1),
    candidate(lr=0.1, momentum=0.0, weight_decay=0.0, seed=2),
    candidate(lr=0.01, momentum=0.95, weight_decay=1e-2, seed=3),
)
MAX_NORMS = (0.5, 0.2, 1.0)


def without_dropout(name: str) -> nn.Module:
    """Build a network without dropout, whose masks an ordinary network draws differently."""
    network = models.build(name, 10)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def batches(steps: int, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 1, 28, 28, generator=generator, dtype=torch.float64),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(steps)
    ]


def new_pack(factory: Factory, candidates: Sequence[Candidate] = CANDIDATES, vectorised: bool = True) -> Pack:
    """Return a float64 pack; `vectorised`: computed at once as on an accelerator, or in turn as on a CPU."""
    return Pack(factory, [candidate.seed for candidate in candidates], "cpu", torch.float64, vectorised)


def sgd(candidates: Sequence[Candidate], parameters: Tensor) -> Optimizer:
    return create_optimizer("sgd", [candidate.params for candidate in candidates], parameters)


def adam(lr: float, parameters: Tensor) -> Optimizer:
    return create_optimizer("adam", [{"lr": lr}] * len(parameters), parameters)


def train_pack(
    pack: Pack,
    optimizer: Optimizer,
    data: Sequence[tuple[Tensor, Tensor]],
    max_norms: Sequence[float] | None = None,
) -> Tensor:
    """Return losses `(steps, M)`."""
    losses = []
    for images, labels in data:
        step_losses, gradients = pack.gradients(images, labels)
        if max_norms is not None:
            clip(gradients, torch.tensor(max_norms, dtype=torch.float64).unsqueeze(1))
        optimizer.step(pack.weights.parameters, gradients)
        losses.append(step_losses)
    return torch.stack(losses)


def train_alone(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Sequence[tuple[Tensor, Tensor]],
    max_norm: float | None = None,
) -> Tensor:
    """Return losses `(steps,)` of an ordinary training."""
    losses = []
    network.train()
    for images, labels in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def seeded(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return factory().double()


def torch_sgd(candidate: Candidate, network: nn.Module) -> torch.optim.Optimizer:
    params = candidate.params
    return torch.optim.SGD(
        network.parameters(), params["lr"], momentum=params["momentum"], weight_decay=params["weight_decay"]
    )


def assert_same(pack: Pack, index: int, network: nn.Module) -> None:
    """Assert that a member has the state dict of `network`, which loads it."""
    state, expected = pack.state_dict(pack.weights, index), network.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-9)
    copy.deepcopy(network).load_state_dict(state, strict=True)
