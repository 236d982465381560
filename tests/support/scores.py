"""Comparisons of the scores of packs."""

import torch
from torch import Tensor

from hpo.training.metrics import Scores


def tensors_of(scores: Scores) -> tuple[Tensor, ...]:
    return scores.losses, scores.squares, scores.predictions


def assert_equal_scores(scores: Scores, expected: Scores) -> None:
    """Assert that scores are the same to the bit."""
    for tensor, other in zip(tensors_of(scores), tensors_of(expected), strict=True):
        assert tensor.dtype == other.dtype
        assert torch.equal(tensor, other)
