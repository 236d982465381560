"""Clipping of gradients."""

import torch
from torch import Tensor


def clip(gradients: Tensor, max_norm: float | Tensor) -> None:
    """Scale each member's gradient, a row of `(M, P)`, to a norm of at most `max_norm`, in place.

    `max_norm` is one number, or one per member `(M, 1)`. Equals torch.nn.utils.clip_grad_norm_ for each
    member.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)  # (M, 1)
    gradients.mul_((max_norm / (norms + 1e-6)).clamp(max=1.0))
