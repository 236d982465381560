"""Packs of numbers on a GPU: CUDA graphs take the steps of operators, with a user's own loss."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.training.criterion import OwnFunction
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack
from hpo.training.regression import Regression

pytestmark = pytest.mark.gpu


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.huber_loss(outputs, targets, reduction="none").mean(1)


@pytest.mark.parametrize("own_loss", [None, OwnFunction("model.loss", "own:huber", huber)])
@pytest.mark.parametrize("members", [(), (3,)])
def test_graphs_train_numbers_as_operators_do(own_loss: OwnFunction | None, members: tuple[int, ...]) -> None:
    generator, curves = torch.Generator().manual_seed(0), []
    inputs = torch.randn(*members, 32, 6, generator=generator).cuda()
    targets = inputs[..., :2].cumsum(-1)
    for engine in (CudaGraphEngine(), EagerEngine()):
        pack = Pack(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), [1, 2, 3], "cuda:0")
        pack.criterion = Regression((2,), own_loss=own_loss)
        optimizer = create_optimizer("sgd", [{"lr": 1e-2}] * 3, pack.weights.parameters)
        losses = [engine.step(pack, optimizer, None, inputs, targets).clone() for _ in range(WARM_UP + 4)]
        curves.append(torch.stack(losses))
    torch.testing.assert_close(*curves, rtol=1e-3, atol=1e-4)
    assert (curves[0][-1] < curves[0][0]).all()
