"""Optimizers of packs: what they leave for the next step, and members that stand at different steps."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hpo.training.optimizers import Adam, Optimizer, Sgd, clip
from hpo.training.pack import Candidate

CANDIDATES = tuple(
    Candidate(lr, momentum, weight_decay, seed)
    for seed, (lr, momentum, weight_decay) in enumerate(
        [(0.05, 0.9, 1e-3), (0.1, 0.0, 0.0), (0.01, 0.95, 1e-2), (0.2, 0.5, 0.0)]
    )
)
WIDTH = 7

Make = Callable[[Tensor, Sequence[int]], Optimizer]


def sgd(parameters: Tensor, members: Sequence[int]) -> Optimizer:
    return Sgd([CANDIDATES[member] for member in members], parameters)


def adam(parameters: Tensor, members: Sequence[int]) -> Optimizer:
    return Adam(1e-2, parameters)


BOTH = pytest.mark.parametrize("make", [sgd, adam])


def start(members: Sequence[int], dtype: torch.dtype) -> Tensor:
    everyone = torch.randn(len(CANDIDATES), WIDTH, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return everyone[list(members)].clone()


def gradient(member: int, step: int, dtype: torch.dtype) -> Tensor:
    """Of member `member` in its step number `step`, whoever is trained with it."""
    generator = torch.Generator().manual_seed(1000 * member + step)
    return torch.randn(WIDTH, generator=generator, dtype=dtype)


def steps(
    optimizer: Optimizer, parameters: Tensor, members: Sequence[int], firsts: Sequence[int], count: int
) -> None:
    for step in range(count):
        rows = [gradient(m, first + step, parameters.dtype) for m, first in zip(members, firsts, strict=True)]
        optimizer.step(parameters, torch.stack(rows))


def taken(state: dict[str, Tensor], members: Sequence[int]) -> dict[str, Tensor]:
    return {name: tensor[list(members)].clone() for name, tensor in state.items()}


def run(make: Make, member: int, count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Optimizer]:
    """A member alone."""
    parameters = start([member], dtype)
    optimizer = make(parameters, [member])
    steps(optimizer, parameters, [member], [0], count)
    return parameters, optimizer


@BOTH
@settings(max_examples=20)
@given(done=st.lists(st.integers(0, 30), min_size=1, max_size=4), more=st.integers(0, 20))
def test_members_at_different_steps_go_on_as_alone(make: Make, done: list[int], more: int) -> None:
    members = list(range(len(done)))
    former = [run(make, member, count) for member, count in zip(members, done, strict=True)]
    parameters = torch.cat([rows for rows, _ in former])
    together = make(parameters, members)
    together.load(
        {name: torch.cat([optimizer.state[name] for _, optimizer in former]) for name in together.state}
    )
    steps(together, parameters, members, done, more)
    for member, count in zip(members, done, strict=True):
        alone, optimizer = run(make, member, count + more)
        assert torch.equal(parameters[member], alone[0])
        for name, tensor in optimizer.state.items():
            assert torch.equal(together.state[name][member], tensor[0])


@BOTH
def test_a_state_is_all_that_is_needed_to_go_on(make: Make) -> None:
    members = [0, 1, 2]
    parameters = start(members, torch.float32)
    optimizer = make(parameters, members)
    steps(optimizer, parameters, members, [0, 0, 0], 5)
    kept, state = parameters.clone(), {name: tensor.clone() for name, tensor in optimizer.state.items()}
    steps(optimizer, parameters, members, [5, 5, 5], 5)
    again = make(kept, members)
    again.load(state)
    steps(again, kept, members, [5, 5, 5], 5)
    assert torch.equal(kept, parameters)


@BOTH
def test_a_state_has_a_row_for_each_member(make: Make) -> None:
    parameters = start([0, 1, 2], torch.float32)
    optimizer = make(parameters, [0, 1, 2])
    assert {len(tensor) for tensor in optimizer.state.values()} == {3}


def test_each_member_of_adam_is_torch_s_from_its_own_first_step() -> None:
    done = [0, 1, 17, 120]
    former = [run(adam, member, count, torch.float64) for member, count in enumerate(done)]
    parameters = torch.cat([rows for rows, _ in former])
    together = adam(parameters, range(4))
    together.load({name: torch.cat([o.state[name] for _, o in former]) for name in together.state})
    steps(together, parameters, range(4), done, 25)
    for member, count in enumerate(done):
        alone = start([member], torch.float64)[0].requires_grad_()
        theirs = torch.optim.Adam([alone], lr=1e-2)
        for step in range(count + 25):
            alone.grad = gradient(member, step, torch.float64)
            theirs.step()
        torch.testing.assert_close(parameters[member], alone.detach(), rtol=0, atol=1e-12)


def test_each_member_of_sgd_is_torch_s_with_its_own_hyperparameters() -> None:
    members = range(4)
    parameters = start(members, torch.float64)
    steps(sgd(parameters, members), parameters, members, [0] * 4, 50)
    for member, candidate in enumerate(CANDIDATES):
        alone = start([member], torch.float64)[0].requires_grad_()
        theirs = torch.optim.SGD(
            [alone], candidate.lr, momentum=candidate.momentum, weight_decay=candidate.weight_decay
        )
        for step in range(50):
            alone.grad = gradient(member, step, torch.float64)
            theirs.step()
        torch.testing.assert_close(parameters[member], alone.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("largest", [0.5, (0.1, 5.0)])
def test_clipping_is_torch_s_for_each_member(largest: float | tuple[float, float]) -> None:
    rows = torch.stack([gradient(0, 0, torch.float64), 3 * gradient(1, 0, torch.float64)])
    bounds = (largest,) * 2 if isinstance(largest, float) else largest
    expected = []
    for row, bound in zip(rows, bounds, strict=True):
        leaf = torch.zeros_like(row, requires_grad=True)
        leaf.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([leaf], bound)
        expected.append(leaf.grad)
    clip(rows, largest if isinstance(largest, float) else torch.tensor(largest, dtype=rows.dtype)[:, None])
    torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-12)
