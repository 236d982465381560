"""Every optimizer: members at different steps train as alone, and the state is enough to resume."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.optimizers import OPTIONAL, initial_parameters, new_optimizer, take_steps, train_alone

from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import OPTIMIZERS
from hpo.training.weights import Tensors

EVERY = pytest.mark.parametrize(
    ("name", "in_use"), [(name, in_use) for name in OPTIMIZERS for in_use in ((), OPTIONAL)]
)


def concatenated(optimizers: Sequence[Optimizer]) -> Tensors:
    return {
        name: torch.cat([optimizer.state[name] for optimizer in optimizers]) for name in optimizers[0].state
    }


@EVERY
@settings(max_examples=20)
@given(steps=st.lists(st.integers(0, 30), min_size=1, max_size=4), more=st.integers(0, 20))
def test_members_at_different_steps_continue_as_alone(
    name: str, in_use: Sequence[str], steps: list[int], more: int
) -> None:
    before = [train_alone(name, member, count, in_use=in_use) for member, count in enumerate(steps)]
    parameters = torch.cat([rows for rows, _ in before])
    together = new_optimizer(name, parameters, range(len(steps)), in_use)
    together.load(concatenated([optimizer for _, optimizer in before]))
    take_steps(together, parameters, dict(enumerate(steps)), more)
    for member, count in enumerate(steps):
        alone, optimizer = train_alone(name, member, count + more, in_use=in_use)
        assert torch.equal(parameters[member], alone[0])
        for key, tensor in optimizer.state.items():
            assert torch.equal(together.state[key][member], tensor[0])


@EVERY
def test_parameters_and_state_are_enough_to_resume(name: str, in_use: Sequence[str]) -> None:
    members = [0, 1, 2]
    parameters = initial_parameters(members, torch.float32)
    optimizer = new_optimizer(name, parameters, members, in_use)
    take_steps(optimizer, parameters, dict.fromkeys(members, 0), 5)
    saved, state = parameters.clone(), {name: tensor.clone() for name, tensor in optimizer.state.items()}
    take_steps(optimizer, parameters, dict.fromkeys(members, 5), 5)
    resumed = new_optimizer(name, saved, members, in_use)
    resumed.load(state)
    take_steps(resumed, saved, dict.fromkeys(members, 5), 5)
    assert torch.equal(saved, parameters)


@EVERY
def test_a_state_has_a_row_for_each_member(name: str, in_use: Sequence[str]) -> None:
    parameters = initial_parameters([0, 1, 2], torch.float32)
    optimizer = new_optimizer(name, parameters, [0, 1, 2], in_use)
    assert {len(tensor) for tensor in optimizer.state.values()} == {3}
