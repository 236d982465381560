"""Adam: equal to torch's for each member, from its own first step."""

import torch
from support.optimizers import SETTINGS, initial_parameters, train_together, trained_by_torch

STEPS = (0, 1, 17, 120)
MORE = 25


def test_each_member_equals_torch_from_its_own_first_step() -> None:
    parameters = train_together("adam", STEPS, MORE, ())
    for member, count in enumerate(STEPS):
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        expected = trained_by_torch(torch.optim.Adam([alone], SETTINGS[member]["lr"]), member, count + MORE)
        torch.testing.assert_close(parameters[member], expected, rtol=0, atol=1e-12)


def test_each_member_equals_torch_with_its_own_betas_and_weight_decay() -> None:
    parameters = train_together("adam", STEPS, MORE, ("weight_decay", "beta1", "beta2"))
    for member, count in enumerate(STEPS):
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        lr, decay, *betas = (SETTINGS[member][key] for key in ("lr", "weight_decay", "beta1", "beta2"))
        optimizer = torch.optim.Adam([alone], lr, (betas[0], betas[1]), weight_decay=decay)
        expected = trained_by_torch(optimizer, member, count + MORE)
        torch.testing.assert_close(parameters[member], expected, rtol=0, atol=1e-9)
