"""A pass over images, in parts and at once, and what an evaluation gives."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.data.device import DeviceImages
from hpo.training.batches import Batch
from hpo.training.engines.eager import Engine
from hpo.training.loops import TrainingPass, validate
from hpo.training.optimizers import Sgd
from hpo.training.pack import Candidate, Pack

CANDIDATES = [Candidate(0.05, 0.9, 0.0, seed=1), Candidate(0.01, 0.0, 1e-3, seed=2)]


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


def passed(pack: Pack, sizes: list[int]) -> TrainingPass:
    return TrainingPass(Engine(), pack, Sgd(CANDIDATES, pack.weights.parameters), 1.0, batches(sizes), seed=3)


def packed() -> Pack:
    return Pack(Drawing, [candidate.seed for candidate in CANDIDATES], "cpu")


def after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("cut", range(5))
def test_in_parts_it_is_as_at_once(cut: int) -> None:
    whole, parts = packed(), packed()
    at_once, in_parts = passed(whole, [5, 5, 5, 2]), passed(parts, [5, 5, 5, 2])
    at_once.run()
    in_parts.run(after(cut))
    torch.rand(10)  # others draw as well, between the parts
    in_parts.run()
    assert torch.equal(parts.weights.parameters, whole.weights.parameters)
    assert torch.equal(in_parts.losses(), at_once.losses())


@pytest.mark.parametrize("cut", range(3))
def test_the_generators_are_left_as_they_were(cut: int) -> None:
    training = passed(packed(), [4, 4])
    before = torch.get_rng_state()
    training.run(after(cut))
    training.run()
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_are_means_per_example() -> None:
    class Still(Engine):
        def step(self, *_: object) -> Tensor:
            return torch.tensor([1.0, 2.0]) * next(factors)

    factors = iter([1, 4])
    pack = packed()
    optimizer = Sgd(CANDIDATES, pack.weights.parameters)
    training = TrainingPass(Still(), pack, optimizer, None, batches([6, 3]), seed=3)
    training.run()
    assert training.losses().tolist() == [(6 * 1 + 3 * 4) / 9, 2 * (6 * 1 + 3 * 4) / 9]


def test_an_evaluation_is_of_every_image_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "evaluation_batch", 3)
    pixels = torch.randint(256, (7, 1, 2, 2), dtype=torch.uint8)
    labels = torch.arange(7) % 3
    half = torch.full((1, 1, 1), 0.5)
    images, pack = DeviceImages(pixels, labels, half, half), packed()
    losses, accuracies = validate(Engine(), pack, images)
    inputs, _ = images.batch(torch.arange(7))
    for place in range(2):
        network = Drawing().eval()
        network.load_state_dict(pack.state_dict(pack.weights, place))
        output = network(inputs)
        assert float(losses[place]) == pytest.approx(F.cross_entropy(output, labels).item(), abs=1e-6)
        assert float(accuracies[place]) == pytest.approx(float((output.argmax(1) == labels).double().mean()))
