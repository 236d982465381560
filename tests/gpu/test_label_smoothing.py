"""Label smoothing in CUDA graphs: the same losses as operators give."""

import pytest
import torch
from support.training import images

from hpo import models
from hpo.training.columns import columns_of
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.pack import Pack

pytestmark = pytest.mark.gpu


def test_a_graph_smooths_labels_as_operators_do() -> None:
    pixels, labels = images(0).batch(torch.arange(32))
    batch, curves = (pixels.cuda(), labels.cuda()), []
    for engine in (CudaGraphEngine(), EagerEngine()):
        pack = Pack(lambda: models.build("lenet", 10), [1, 2], "cuda:0")
        parameters = pack.weights.parameters
        optimizer = create_optimizer("sgd", [{"lr": 1e-3}] * 2, parameters)
        pack.columns = columns_of(
            ["label_smoothing"], [{"label_smoothing": 0.1}, {"label_smoothing": 0.4}], parameters
        )
        losses = [engine.step(pack, optimizer, None, *batch).clone() for _ in range(WARM_UP + 2)]
        curves.append(torch.stack(losses))
    torch.testing.assert_close(*curves, rtol=1e-2, atol=1e-3)
