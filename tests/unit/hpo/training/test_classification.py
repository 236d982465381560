"""The criterion of classes, with a user's own loss and metrics."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hpo.training.classification import Classification
from hpo.training.criterion import OwnFunction
from hpo.training.metrics import VALIDATION_METRICS, Scores

LABELS = torch.tensor([0, 2, 1, 2, 2])
LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def certainty(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.softmax(1).gather(1, targets[:, None]).mean()


PLAIN = Classification(3)
OWN = Classification(
    3,
    own_loss=OwnFunction("model.loss", "own:cross_entropy", cross_entropy),
    own_metrics={"certainty": OwnFunction("model.metrics.own", "own:certainty", certainty)},
)


def test_own_cross_entropy_trains_as_that_of_hpo() -> None:
    assert OWN.training_loss(LOGITS, LABELS, {}).item() == pytest.approx(
        PLAIN.training_loss(LOGITS, LABELS, {}).item()
    )


def test_own_loss_is_summed_over_heads() -> None:
    heads = torch.stack([LOGITS, LOGITS * 2], dim=1)  # (B, heads, classes)
    losses = [PLAIN.training_loss(LOGITS * factor, LABELS, {}).item() for factor in (1, 2)]
    assert OWN.training_loss(heads, LABELS, {}).item() == pytest.approx(sum(losses))


def test_own_metrics_see_all_logits_of_each_member() -> None:
    members = [LOGITS, LOGITS.flip(1)]
    scores = Scores.stack([OWN.score(logits, LABELS) for logits in members])
    rows = OWN.metrics(scores, LABELS)
    assert OWN.names == (*VALIDATION_METRICS, "validation_certainty")
    assert rows[-1].tolist() == [certainty(logits, LABELS).double().item() for logits in members]
    plain = Scores.stack([PLAIN.score(logits, LABELS) for logits in members])
    torch.testing.assert_close(rows[:-1], PLAIN.metrics(plain, LABELS))


def test_class_weights_need_the_number_of_classes() -> None:
    torch.testing.assert_close(
        PLAIN.balanced_weights(LABELS), torch.tensor([5 / 3, 5 / 3, 5 / 9], dtype=torch.float64)
    )
