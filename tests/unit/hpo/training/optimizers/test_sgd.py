"""SGD: equal to torch's for each member."""

import torch
from support.optimizers import SETTINGS, initial_parameters, new_optimizer, take_steps, trained_by_torch


def test_each_member_equals_torch_with_its_own_settings() -> None:
    members = range(4)
    parameters = initial_parameters(members, torch.float64)
    take_steps(new_optimizer("sgd", parameters, members), parameters, dict.fromkeys(members, 0), 50)
    for member in members:
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        lr, momentum, weight_decay = (SETTINGS[member][name] for name in ("lr", "momentum", "weight_decay"))
        optimizer = torch.optim.SGD([alone], lr, momentum, weight_decay=weight_decay)
        expected = trained_by_torch(optimizer, member, 50)
        torch.testing.assert_close(parameters[member], expected, rtol=0, atol=1e-12)
