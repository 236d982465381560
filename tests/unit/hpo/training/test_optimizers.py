"""Optimizers of packs: equal to torch's for each member, resumable, with members at different steps."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import candidate
from torch import Tensor

from hpo.training.optimizers import Adam, Optimizer, Sgd, clip, create_optimizer
from hpo.training.weights import Tensors
from hpo.values.budget import Phase

CANDIDATES = tuple(
    candidate(lr, momentum, weight_decay, seed)
    for seed, (lr, momentum, weight_decay) in enumerate(
        [(0.05, 0.9, 1e-3), (0.1, 0.0, 0.0), (0.01, 0.95, 1e-2), (0.2, 0.5, 0.0)]
    )
)
WIDTH = 7

Factory = Callable[[Tensor, Sequence[int]], Optimizer]


def sgd(parameters: Tensor, members: Sequence[int]) -> Optimizer:
    return Sgd([CANDIDATES[member] for member in members], parameters)


def adam(parameters: Tensor, members: Sequence[int]) -> Optimizer:
    return Adam(1e-2, parameters)


BOTH = pytest.mark.parametrize("factory", [sgd, adam])


def initial_parameters(members: Sequence[int], dtype: torch.dtype) -> Tensor:
    rows = torch.randn(len(CANDIDATES), WIDTH, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return rows[list(members)].clone()


def gradient(member: int, step: int, dtype: torch.dtype) -> Tensor:
    """Return the gradient of a member at a step, which is the same in every pack."""
    generator = torch.Generator().manual_seed(1000 * member + step)
    return torch.randn(WIDTH, generator=generator, dtype=dtype)


def take_steps(optimizer: Optimizer, parameters: Tensor, first_steps: dict[int, int], count: int) -> None:
    """Take `count` steps; `first_steps` maps each member to the number of its first one."""
    for step in range(count):
        rows = [gradient(member, first + step, parameters.dtype) for member, first in first_steps.items()]
        optimizer.step(parameters, torch.stack(rows))


def train_alone(
    factory: Factory, member: int, count: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Optimizer]:
    parameters = initial_parameters([member], dtype)
    optimizer = factory(parameters, [member])
    take_steps(optimizer, parameters, {member: 0}, count)
    return parameters, optimizer


def concatenated(optimizers: Sequence[Optimizer]) -> Tensors:
    return {
        name: torch.cat([optimizer.state[name] for optimizer in optimizers]) for name in optimizers[0].state
    }


@BOTH
@settings(max_examples=20)
@given(steps=st.lists(st.integers(0, 30), min_size=1, max_size=4), more=st.integers(0, 20))
def test_members_at_different_steps_continue_as_alone(factory: Factory, steps: list[int], more: int) -> None:
    before = [train_alone(factory, member, count) for member, count in enumerate(steps)]
    parameters = torch.cat([rows for rows, _ in before])
    together = factory(parameters, range(len(steps)))
    together.load(concatenated([optimizer for _, optimizer in before]))
    take_steps(together, parameters, dict(enumerate(steps)), more)
    for member, count in enumerate(steps):
        alone, optimizer = train_alone(factory, member, count + more)
        assert torch.equal(parameters[member], alone[0])
        for name, tensor in optimizer.state.items():
            assert torch.equal(together.state[name][member], tensor[0])


@BOTH
def test_parameters_and_state_are_enough_to_resume(factory: Factory) -> None:
    members = [0, 1, 2]
    parameters = initial_parameters(members, torch.float32)
    optimizer = factory(parameters, members)
    take_steps(optimizer, parameters, dict.fromkeys(members, 0), 5)
    saved, state = parameters.clone(), {name: tensor.clone() for name, tensor in optimizer.state.items()}
    take_steps(optimizer, parameters, dict.fromkeys(members, 5), 5)
    resumed = factory(saved, members)
    resumed.load(state)
    take_steps(resumed, saved, dict.fromkeys(members, 5), 5)
    assert torch.equal(saved, parameters)


@BOTH
def test_a_state_has_a_row_for_each_member(factory: Factory) -> None:
    parameters = initial_parameters([0, 1, 2], torch.float32)
    optimizer = factory(parameters, [0, 1, 2])
    assert {len(tensor) for tensor in optimizer.state.values()} == {3}


def test_each_member_of_adam_equals_torch_from_its_own_first_step() -> None:
    steps = [0, 1, 17, 120]
    before = [train_alone(adam, member, count, torch.float64) for member, count in enumerate(steps)]
    parameters = torch.cat([rows for rows, _ in before])
    together = adam(parameters, range(4))
    together.load(concatenated([optimizer for _, optimizer in before]))
    take_steps(together, parameters, dict(enumerate(steps)), 25)
    for member, count in enumerate(steps):
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        optimizer = torch.optim.Adam([alone], lr=1e-2)
        for step in range(count + 25):
            alone.grad = gradient(member, step, torch.float64)
            optimizer.step()
        torch.testing.assert_close(parameters[member], alone.detach(), rtol=0, atol=1e-12)


def test_each_member_of_sgd_equals_torch_with_its_own_hyperparameters() -> None:
    members = range(4)
    parameters = initial_parameters(members, torch.float64)
    take_steps(sgd(parameters, members), parameters, dict.fromkeys(members, 0), 50)
    for member, expected in enumerate(CANDIDATES):
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        optimizer = torch.optim.SGD(
            [alone],
            expected.params["lr"],
            momentum=expected.params["momentum"],
            weight_decay=expected.params["weight_decay"],
        )
        for step in range(50):
            alone.grad = gradient(member, step, torch.float64)
            optimizer.step()
        torch.testing.assert_close(parameters[member], alone.detach(), rtol=0, atol=1e-12)


def test_a_phase_names_its_optimizer_and_the_learning_rate_of_adam() -> None:
    parameters = initial_parameters([0, 1], torch.float32)
    of_sgd = create_optimizer(Phase("sgd", 1, lr=0.5), CANDIDATES[:2], parameters)
    of_adam = create_optimizer(Phase("adam", 1, lr=0.5), CANDIDATES[:2], parameters)
    assert of_sgd.settings["lr"].flatten().tolist() == pytest.approx([0.05, 0.1])
    assert of_adam.settings["lr"].flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("max_norm", [0.5, (0.1, 5.0)])
def test_clipping_equals_torch_for_each_member(max_norm: float | tuple[float, float]) -> None:
    rows = torch.stack([gradient(0, 0, torch.float64), 3 * gradient(1, 0, torch.float64)])
    bounds = (max_norm,) * 2 if isinstance(max_norm, float) else max_norm
    expected = []
    for row, bound in zip(rows, bounds, strict=True):
        leaf = torch.zeros_like(row, requires_grad=True)
        leaf.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([leaf], bound)
        expected.append(leaf.grad)
    clip(rows, max_norm if isinstance(max_norm, float) else torch.tensor(max_norm, dtype=rows.dtype)[:, None])
    torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-12)
