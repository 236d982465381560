"""On a CUDA device: packs train there, and as they do on the CPU."""

import numpy as np
import pytest
import torch

import models
from data.dataset import Labelled
from data.device import DeviceImages
from hpo.budget import Augmentation, Budget, Phase
from hpo.engine import Engine
from hpo.graphs import WARM_UP, Graphs
from hpo.optimizer import Sgd
from hpo.pack import Candidate, Pack
from hpo.trainer import Trainer

pytestmark = pytest.mark.gpu

CANDIDATES = {0: Candidate(0.05, 0.9, 1e-4, seed=1), 1: Candidate(0.01, 0.0, 0.0, seed=2)}


def images(seed: int, device: str) -> DeviceImages:
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=256)
    pixels = (rng.integers(60, size=(256, 28, 28)) + 19 * labels[:, None, None]).astype(np.uint8)
    return DeviceImages.from_labelled(Labelled(pixels, labels), device, (0.4,), (0.3,))


def curves(name: str, device: str, budget: Budget, engine: Engine | None = None) -> dict[int, list[float]]:
    trainer = Trainer(
        lambda: models.build(name, 10),
        images(0, device),
        images(1, device),
        budget,
        batch_size=32,
        seed=0,
        device=torch.device(device),
        engine=engine or Engine(),
    )
    training = trainer.start(CANDIDATES)
    found: dict[int, list[float]] = {key: [] for key in CANDIDATES}
    while training.members:
        for result in training.epoch():
            found[result.member].append(result.validation_loss)
    return found


def test_a_pack_without_dropout_has_the_curves_of_the_cpu() -> None:
    budget = Budget("mini", (Phase("sgd", 3, clip=1.0),), keep="last")
    cuda, cpu = curves("resnet", "cuda:0", budget), curves("resnet", "cpu", budget)
    for key in CANDIDATES:
        assert cuda[key] == pytest.approx(cpu[key], rel=0.05)


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_steps_that_are_graphs_give_the_curves_of_operators(name: str) -> None:
    """With dropout and with both optimizers, each of which is a graph of its own."""
    phases = (Phase("sgd", 3, 1, clip=1.0), Phase("adam", 2, 5, clip=1.0))
    budget = Budget("full", phases, keep="best")
    graphs, operators = curves(name, "cuda:0", budget, Graphs()), curves(name, "cuda:0", budget)
    for key in CANDIDATES:
        assert graphs[key] == pytest.approx(operators[key], rel=0.05)


def test_a_graph_that_is_replayed_computes_what_its_operators_do() -> None:
    found = []
    for engine in (Graphs(), Engine()):
        pack = Pack(lambda: models.build("lenet", 10), [1, 2, 3], "cuda:0")
        optimizer = Sgd([Candidate(0.05, 0.9, 1e-4, seed) for seed in (1, 2, 3)], pack.weights.parameters)
        data = [(images(n, "cuda:0").batch(torch.arange(32, device="cuda:0"))) for n in range(WARM_UP + 4)]
        losses = [engine.step(pack, optimizer, 1.0, *batch).tolist() for batch in data]
        found.append((torch.tensor(losses), pack.weights.parameters.cpu()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet"])
def test_every_phase_runs_with_augmentation(name: str) -> None:
    augmentation = Augmentation(15, 0.1, (0.9, 1.1), 3)
    phases = (Phase("sgd", 2, 5, 1.0, augmentation), Phase("adam", 1, 5, 1.0, augmentation))
    found = curves(name, "cuda:0", Budget("full", phases, keep="best"))
    assert all(len(losses) == 3 and np.isfinite(losses).all() for losses in found.values())
