"""AdamW: equal to torch's for each member, from its own first step."""

import torch
from support.optimizers import (
    SETTINGS,
    initial_parameters,
    new_optimizer,
    take_steps,
    train_alone,
    trained_by_torch,
)


def test_each_member_equals_torch_from_its_own_first_step() -> None:
    steps = [0, 1, 17, 120]
    before = [train_alone("adamw", member, count, torch.float64) for member, count in enumerate(steps)]
    parameters = torch.cat([rows for rows, _ in before])
    together = new_optimizer("adamw", parameters, range(4))
    names = together.state
    together.load({name: torch.cat([optimizer.state[name] for _, optimizer in before]) for name in names})
    take_steps(together, parameters, dict(enumerate(steps)), 25)
    for member, count in enumerate(steps):
        alone = initial_parameters([member], torch.float64)[0].requires_grad_()
        settings = SETTINGS[member]
        separate = torch.optim.AdamW([alone], settings["lr"], weight_decay=settings["weight_decay"])
        expected = trained_by_torch(separate, member, count + 25)
        torch.testing.assert_close(parameters[member], expected, rtol=0, atol=1e-9)
