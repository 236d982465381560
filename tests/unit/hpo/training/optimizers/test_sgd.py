"""SGD: equal to torch's for each member."""

from collections.abc import Sequence

import pytest
import torch
from support.optimizers import SETTINGS, initial_parameters, new_optimizer, take_steps, trained_by_torch

MEMBERS = range(4)


@pytest.mark.parametrize("in_use", [(), ("nesterov",)])
def test_each_member_equals_torch_with_its_own_settings(in_use: Sequence[str]) -> None:
    parameters = initial_parameters(MEMBERS, torch.float64)
    take_steps(new_optimizer("sgd", parameters, MEMBERS, in_use), parameters, dict.fromkeys(MEMBERS, 0), 50)
    for member in MEMBERS:
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        lr, momentum, decay = (SETTINGS[member][name] for name in ("lr", "momentum", "weight_decay"))
        nesterov = bool(in_use) and bool(SETTINGS[member]["nesterov"])
        optimizer = torch.optim.SGD([alone], lr, momentum, weight_decay=decay, nesterov=nesterov)
        expected = trained_by_torch(optimizer, member, 50)
        torch.testing.assert_close(parameters[member], expected, rtol=0, atol=1e-12)


def test_a_member_without_nesterov_momentum_is_the_same_beside_one_with_it() -> None:
    results = []
    for in_use in ((), ("nesterov",)):
        parameters = initial_parameters(MEMBERS, torch.float32)
        optimizer = new_optimizer("sgd", parameters, MEMBERS, in_use)
        take_steps(optimizer, parameters, dict.fromkeys(MEMBERS, 0), 50)
        results.append(parameters[1:3])
    assert torch.equal(*results)
