"""Class weights: the loss of torch's weighted cross entropy, with weights of its own for each member."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
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
from torch import Tensor
from torch.nn import functional as F

from hpo.training.columns import step_settings
from hpo.training.loss import balanced_weights, training_loss

VALUES = ("balanced", "none", "balanced")
WEIGHTS = torch.arange(1, 11).double() / 4
NETWORK = partial(without_dropout, "lenet")


def member(index: int) -> dict[str, object]:
    return {"class_weights": VALUES[index], "label_smoothing": 0.1 * index}


def loss_of_torch(logits: Tensor, labels: Tensor, index: int, smoothed: bool) -> Tensor:
    weights = WEIGHTS if VALUES[index] == "balanced" else None
    return F.cross_entropy(logits, labels, weights, label_smoothing=0.1 * index if smoothed else 0.0)


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("vectorised", [True, False])
def test_each_member_equals_a_separate_training(vectorised: bool, smoothed: bool) -> None:
    pack, data = new_pack(NETWORK, vectorised=vectorised), batches(4)
    parameters = pack.weights.parameters
    names = ["class_weights", "label_smoothing"][: 1 + smoothed]
    members = [member(index) for index in range(3)]
    pack.columns = step_settings(names, members, parameters, None, lambda: WEIGHTS)
    losses = train_pack(pack, sgd(CANDIDATES, parameters), data)
    for index, candidate in enumerate(CANDIDATES):
        network = seeded(NETWORK, candidate.seed)
        optimizer, expected = torch_sgd(candidate, network), []
        for images, labels in data:
            optimizer.zero_grad()
            loss = loss_of_torch(network(images), labels, index, smoothed)
            loss.backward()
            optimizer.step()
            expected.append(loss.detach())
        torch.testing.assert_close(losses[:, index], torch.stack(expected), rtol=0, atol=1e-9)
        assert_same(pack, index, network)


def test_heads_have_the_same_weights() -> None:
    output, labels = torch.randn(6, 3, 10, dtype=torch.float64), torch.arange(6)
    expected = sum(F.cross_entropy(output[:, head], labels, WEIGHTS) for head in range(3))
    loss = training_loss(output, labels, {"class_weights": WEIGHTS})
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert balanced_weights(labels, 3).tolist() == pytest.approx(expected.tolist())
    assert balanced_weights(labels, 4).tolist() == pytest.approx([6 / 12, 6 / 4, 6 / 8, 0])
