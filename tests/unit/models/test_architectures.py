"""Tests that every registered architecture has to pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hpo import models

PARAMETERS = {
    "lenet": 35_814,
    "alexnet": 1_849_070,
    "vggnet": 1_463_678,
    "resnet": 707_886,
    "spinalnet": 386_050,
    "ensnet": 25_939_701,
    "ensnet-vote": 101_695_386,
}
ON_META = pytest.mark.parametrize("name", models.names())
# The EnsNets need 20 GFLOP per training image.
COMPUTING = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("ensnet") else name
        for name in models.names()
    ],
)


def images(batch: int, in_channels: int = 1) -> Tensor:
    return torch.randn(batch, in_channels, 28, 28, generator=torch.Generator().manual_seed(0))


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of logits `(B, classes)`, or its sum over heads of `(B, heads, classes)`."""
    heads = logits.unsqueeze(1) if logits.ndim == 2 else logits  # (B, heads, classes)
    count = heads.shape[1]
    return count * F.cross_entropy(heads.flatten(0, 1), labels.repeat_interleave(count))


@ON_META
def test_parameter_count_matches_the_paper(name: str) -> None:
    with torch.device("meta"):
        network = models.build(name, 62)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@ON_META
@pytest.mark.parametrize("classes", [10, 62])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_output_shape(name: str, classes: int, in_channels: int) -> None:
    with torch.device("meta"):
        network = models.build(name, classes, in_channels)
        batch = torch.empty(5, in_channels, 28, 28)
    assert network.eval()(batch).shape == (5, classes)
    heads = (11,) if name == "ensnet-vote" else ()
    assert network.train()(batch).shape == (5, *heads, classes)


@COMPUTING
@pytest.mark.parametrize("training", [True, False])
def test_output_is_finite_for_normalised_and_for_raw_pixels(name: str, training: bool) -> None:
    network = models.build(name, 10, 3).train(training)
    pixels = torch.randint(256, (2, 3, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        for batch in (images(2, 3), pixels.float()):
            assert network(batch).isfinite().all()


@COMPUTING
def test_overfits_one_batch(name: str) -> None:
    torch.manual_seed(0)
    network = models.build(name, 10)
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # with so few steps its noise would hide the trend
    big = name.startswith("ensnet")
    batch = images(2 if big else 8)
    labels = torch.arange(len(batch))
    parameters = network.parameters()
    optimizer = torch.optim.SGD(parameters, lr=0.1) if big else torch.optim.Adam(parameters, lr=0.01)
    losses = []
    for _ in range(4 if big else 20):
        optimizer.zero_grad()
        current = loss(network(batch), labels)
        current.backward()
        optimizer.step()
        losses.append(current.item())
    assert losses[-1] < 0.05 * losses[0]


@COMPUTING
def test_loss_follows_from_the_seed(name: str) -> None:
    def step(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        network = models.build(name, 62)
        value = loss(network(images(2)), torch.tensor([3, 61]))
        value.backward()
        first = next(network.parameters())
        assert first.grad is not None
        return value.detach(), first.grad

    (value, gradient), (again, gradient_again), (other, _) = step(1), step(1), step(2)
    assert torch.equal(value, again)
    assert torch.equal(gradient, gradient_again)
    assert not torch.equal(value, other)


@pytest.mark.parametrize("name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet"])
def test_initial_weights(name: str) -> None:
    for layer in models.build(name, 62).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if isinstance(layer, nn.Conv2d):
                std = (2 / (layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1])) ** 0.5
            else:
                std = (2 / layer.out_features) ** 0.5 if name == "resnet" else 0.01
            # Five standard errors of a sample's standard deviation.
            tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=tolerance)
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()


def test_spinalnet_layers_alternate_between_feature_halves() -> None:
    """Layers 1 and 3 get the first half of the features, layers 2 and 4 the second half.

    Each layer also gets the output of the layer before.
    """
    network = models.build("spinalnet", 62).eval()
    seen: list[Tensor] = []
    for layer in network.get_submodule("spine").children():
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = images(2)
    with torch.no_grad():
        network(batch)
        a, b = network.get_submodule("features")(batch).flatten(1).split(1568, dim=1)
    assert [tuple(x.shape) for x in seen] == [(2, 1568), (2, 1618), (2, 1618), (2, 1618)]
    for x, half in zip(seen, (a, b, a, b), strict=True):
        assert torch.equal(x[:, :1568], half)
