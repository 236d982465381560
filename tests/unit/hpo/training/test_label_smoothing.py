"""Label smoothing: each member of a pack equals an ordinary training with torch's own label smoothing."""

from functools import partial

import pytest
import torch
from support.packs import (
    CANDIDATES,
    assert_same,
    batches,
    new_pack,
    seeded,
    sgd,
    torch_sgd,
    train_pack,
    without_dropout,
)
from torch.nn import functional as F

from hpo.training.columns import columns_of
from hpo.training.loss import training_loss

NAME = "label_smoothing"
VALUES = (0.1, 0.0, 0.4)
NETWORK = partial(without_dropout, "lenet")


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_loss_equals_that_of_torch(value: float) -> None:
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 5
    expected = F.cross_entropy(logits, labels, label_smoothing=value)
    loss = training_loss(logits, labels, {NAME: torch.tensor(value, dtype=torch.float64)})
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("vectorised", [True, False])
def test_each_member_equals_a_separate_training(vectorised: bool) -> None:
    pack, data = new_pack(NETWORK, vectorised=vectorised), batches(5)
    parameters = pack.weights.parameters
    pack.columns = columns_of([NAME], [{NAME: value} for value in VALUES], parameters)
    losses = train_pack(pack, sgd(CANDIDATES, parameters), data)
    for index, (candidate, value) in enumerate(zip(CANDIDATES, VALUES, strict=True)):
        network = seeded(NETWORK, candidate.seed)
        optimizer, expected = torch_sgd(candidate, network), []
        for images, labels in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels, label_smoothing=value)
            loss.backward()
            optimizer.step()
            expected.append(loss.detach())
        torch.testing.assert_close(losses[:, index], torch.stack(expected), rtol=0, atol=1e-9)
        assert_same(pack, index, network)
