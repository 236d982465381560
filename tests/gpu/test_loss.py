"""Settings of the loss in CUDA graphs."""

import pytest
import torch
from support.loss_settings import NAME, register
from support.training import images

from hpo import models
from hpo.training.columns import columns_of
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack

pytestmark = pytest.mark.gpu


def test_a_graph_has_the_values_that_settings_of_the_loss_have_now(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    pixels, labels = images(0).batch(torch.arange(32))
    batch, curves = (pixels.cuda(), labels.cuda()), []
    for engine in (CudaGraphEngine(), EagerEngine()):
        pack, losses = Pack(lambda: models.build("lenet", 10), [1, 2], "cuda:0"), []
        parameters = pack.weights.parameters
        optimizer = create_optimizer("sgd", [{"lr": 1e-3}] * 2, parameters)
        for values in ((0.0, 0.5), (0.25, 0.0)):
            pack.columns = columns_of([NAME], [{NAME: value} for value in values], parameters)
            losses += [engine.step(pack, optimizer, None, *batch).clone() for _ in range(WARM_UP + 2)]
        curves.append(torch.stack(losses))
    torch.testing.assert_close(*curves, rtol=1e-2, atol=1e-3)
