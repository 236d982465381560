"""Columns of a pack on a GPU: CUDA graphs compute what operators compute."""

from dataclasses import replace

import pytest
import torch
from support.training import SEARCH, images, run_to_end

from hpo import models
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import SideStream
from hpo.training.classification import Classification
from hpo.training.engines.base import Engine
from hpo.training.engines.cuda_graphs import CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.candidate import Candidate
from hpo.values.parameters import with_defaults

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda:0")
COMMON = {"lr": 1e-3, "label_smoothing": 0.1, "class_weights": "balanced", "clip": 1.0, "rotation": 10.0}
MEMBERS = (
    {"schedule": "cosine", "warmup": 0.3, "dropout": 0.1, **COMMON},
    {"schedule": "one-cycle", "dropout": 0.5, **COMMON, "class_weights": "none", "rotation": 0.0},
)


def on_gpu(data: DeviceImages) -> DeviceImages:
    tensors = {name: getattr(data, name).to(GPU) for name in ("images", "labels", "mean", "std")}
    return replace(data, **tensors)


def curves(engine: Engine, optimizer: str) -> list[list[float]]:
    """Return the training losses of each member; its evaluations run beside the next epoch."""
    train, validation = (on_gpu(images(seed, 256)) for seed in (0, 1))
    columns = tuple({name for member in MEMBERS for name in member} | {"beta1", "nesterov"})
    trainer = Trainer(
        Task(lambda: models.build("lenet", 10), train, validation, Classification(10)),
        Recipe(SEARCH, 32, 5, columns),
        engine,
        Runtime(evaluator=SideStream(GPU)),
    )
    params = [with_defaults({**member, "optimizer": optimizer, "beta1": 0.8}) for member in MEMBERS]
    session = trainer.start({key: Candidate(values, key) for key, values in enumerate(params)})
    return [[result.metrics["train_loss"] for result in curve] for curve in run_to_end(session).values()]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_graphs_train_as_operators_do(optimizer: str) -> None:
    graphs, operators = curves(CudaGraphEngine(), optimizer), curves(EagerEngine(), optimizer)
    for curve, expected in zip(graphs, operators, strict=True):
        assert curve == pytest.approx(expected, rel=1e-2)
        assert curve[-1] < curve[0]
