"""Clipping of gradients: equal to torch's for each member."""

import pytest
import torch
from support.optimizers import gradient

from hpo.training.optimizers.clipping import clip


@pytest.mark.parametrize("max_norm", [0.5, (0.1, 5.0)])
def test_clipping_equals_torch_for_each_member(max_norm: float | tuple[float, float]) -> None:
    rows = torch.stack([gradient(0, 0, torch.float64), 3 * gradient(1, 0, torch.float64)])
    bounds = (max_norm,) * 2 if isinstance(max_norm, float) else max_norm
    expected = []
    for row, bound in zip(rows, bounds, strict=True):
        leaf = torch.zeros_like(row, requires_grad=True)
        leaf.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([leaf], bound)
        expected.append(leaf.grad)
    clip(rows, max_norm if isinstance(max_norm, float) else torch.tensor(max_norm, dtype=rows.dtype)[:, None])
    torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-12)
