"""On a CUDA device: packs train there, and as they do on the CPU."""

import numpy as np
import pytest
import torch

import models
from data.dataset import Labelled
from data.device import DeviceImages
from hpo.budget import Augmentation, Budget, Phase
from hpo.pack import Candidate
from hpo.trainer import Trainer

pytestmark = pytest.mark.gpu

CANDIDATES = {0: Candidate(0.05, 0.9, 1e-4, seed=1), 1: Candidate(0.01, 0.0, 0.0, seed=2)}


def images(seed: int, device: str) -> DeviceImages:
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=256)
    pixels = (rng.integers(60, size=(256, 28, 28)) + 19 * labels[:, None, None]).astype(np.uint8)
    return DeviceImages.from_labelled(Labelled(pixels, labels), device, (0.4,), (0.3,))


def curves(name: str, device: str, budget: Budget) -> dict[int, list[float]]:
    trainer = Trainer(
        lambda: models.build(name, 10),
        images(0, device),
        images(1, device),
        budget,
        batch_size=32,
        seed=0,
        device=torch.device(device),
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


@pytest.mark.parametrize("name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet"])
def test_every_phase_runs_with_augmentation(name: str) -> None:
    augmentation = Augmentation(15, 0.1, (0.9, 1.1), 3)
    phases = (Phase("sgd", 2, 5, 1.0, augmentation), Phase("adam", 1, 5, 1.0, augmentation))
    found = curves(name, "cuda:0", Budget("full", phases, keep="best"))
    assert all(len(losses) == 3 and np.isfinite(losses).all() for losses in found.values())
