"""Training loops, in parts and at once, and evaluations."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from support.candidates import candidate
from support.packs import sgd
from support.training import WatchedEngine
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.data.device import DeviceImages
from hpo.training.batches import Batch
from hpo.training.classification import Classification
from hpo.training.engines.eager import EagerEngine
from hpo.training.loops import TrainingLoop, evaluate
from hpo.training.metrics import VALIDATION_METRICS
from hpo.training.pack import Pack
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS

CANDIDATES = [candidate(0.05, 0.9, 0.0, seed=1), candidate(0.01, 0.0, 1e-3, seed=2)]


class Drawing(nn.Module):
    """Draws from torch's generator itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.layer(F.dropout(pixels.flatten(1), 0.5, self.training))
        return output


def batches(sizes: list[int]) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        images = torch.randn(size, 1, 2, 2, generator=generator)
        yield images, torch.arange(size) % 3


def training_loop(pack: Pack, sizes: list[int]) -> TrainingLoop:
    step = partial(EagerEngine().step, pack, sgd(CANDIDATES, pack.weights.parameters), 1.0)
    return TrainingLoop(step, pack, batches(sizes), seed=3)


def new_pack() -> Pack:
    return Pack(Drawing, [candidate.seed for candidate in CANDIDATES], "cpu")


def enough_after(steps: int) -> Callable[[], bool]:
    remaining = iter(range(steps))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("steps", range(5))
def test_an_epoch_in_parts_equals_one_at_once(steps: int) -> None:
    whole, parts = new_pack(), new_pack()
    at_once, in_parts = training_loop(whole, [5, 5, 5, 2]), training_loop(parts, [5, 5, 5, 2])
    at_once.run()
    in_parts.run(enough_after(steps))
    torch.rand(10)  # other code draws between the parts
    in_parts.run()
    assert torch.equal(parts.weights.parameters, whole.weights.parameters)
    assert torch.equal(in_parts.losses(), at_once.losses())


@pytest.mark.parametrize("steps", range(3))
def test_the_global_generators_are_restored(steps: int) -> None:
    loop = training_loop(new_pack(), [4, 4])
    before = torch.get_rng_state()
    loop.run(enough_after(steps))
    loop.run()
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_are_means_per_example() -> None:
    factors = iter([1, 4])

    def step(_images: Tensor, _labels: Tensor) -> Tensor:
        return torch.tensor([1.0, 2.0]) * next(factors)

    loop = TrainingLoop(step, new_pack(), batches([6, 3]), seed=3)
    loop.run()
    assert loop.losses().tolist() == [(6 * 1 + 3 * 4) / 9, 2 * (6 * 1 + 3 * 4) / 9]


def test_an_evaluation_covers_every_image_in_evaluation_mode() -> None:
    pixels = torch.randint(256, (7, 1, 2, 2), dtype=torch.uint8)
    labels = torch.arange(7) % 3
    half = torch.full((1, 1, 1), 0.5)
    images, pack = DeviceImages(pixels, labels, half, half), new_pack()
    pack.criterion = Classification(3)
    rows = evaluate(WatchedEngine(evaluation_batch=3), pack, images)
    metrics = dict(zip(VALIDATION_METRICS, rows, strict=True))
    inputs, _ = images.batch(torch.arange(7))
    for index in range(2):
        network = Drawing().eval()
        network.load_state_dict(pack.state_dict(pack.weights, index))
        output = network(inputs)
        loss, accuracy = F.cross_entropy(output, labels), (output.argmax(1) == labels).double().mean()
        assert float(metrics[VALIDATION_LOSS][index]) == pytest.approx(loss.item(), abs=1e-6)
        assert float(metrics[VALIDATION_ACCURACY][index]) == accuracy.item()
