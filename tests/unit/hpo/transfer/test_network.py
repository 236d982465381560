import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.bundles import random_bundle
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from hpo.errors import InputError
from hpo.export.bundle import Bundle
from hpo.export.model_spec import ModelSpec
from hpo.transfer.network import FrozenFeatures, TransferNetwork

SOURCE = tuple("0123456789AB")
DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijkl")


def spec_of(name: str, **keywords: Any) -> ModelSpec:
    return ModelSpec(name, SOURCE, 1, (28, 28), (0.17,), (0.33,), keywords)


class Small(nn.Module):
    """A network whose last layer `head` makes from a number of features and of classes."""

    def __init__(self, classes: int, in_channels: int, head: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.dropout, self.head = nn.Dropout(0.5), head(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits


class Lazy(nn.Module):
    def __init__(self, classes: int, in_channels: int, width: int = 4) -> None:
        super().__init__()
        flat = nn.Flatten(in_channels)
        self.layers = nn.Sequential(flat, nn.LazyLinear(width), nn.ReLU(), nn.LazyLinear(classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Fixed(Small):
    """Ignores the number of classes."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__(max(classes, len(SOURCE)), in_channels, nn.Linear)


class Prototypes(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.zeros(classes, features))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.prototypes.T


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "Linear": nn.Linear,
    "WeightNorm": lambda features, classes: weight_norm(nn.Linear(features, classes)),
    "Parametrized": lambda features, classes: parametrizations.weight_norm(nn.Linear(features, classes)),
    "Convolution": lambda features, classes: nn.Sequential(
        nn.Unflatten(1, (features, 1, 1)), nn.Conv2d(features, classes, 1), nn.Flatten()
    ),
    "Wide": lambda features, classes: nn.Sequential(
        nn.Linear(features, 2 * classes), nn.Linear(2 * classes, classes)
    ),
    "Prototypes": Prototypes,
}


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("transfer_networks")
    for name, head in HEADS.items():

        def init(self: Small, classes: int, in_channels: int, head: Any = head) -> None:
            Small.__init__(self, classes, in_channels, head)

        setattr(module, name, type(name, (Small,), {"__init__": init}))
    vars(module).update(Lazy=Lazy, Fixed=Fixed)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def transferred(path: Path, name: str, classes: tuple[str, ...] = DIGITS) -> tuple[Bundle, TransferNetwork]:
    bundle = random_bundle(path / "source", spec_of(name))
    return bundle, TransferNetwork.of(bundle, classes)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lenet", ("classifier.8",)),
        ("spinalnet", ("classifier",)),
        ("transfer_networks:Linear", ("head",)),
        ("transfer_networks:WeightNorm", ("head",)),
        ("transfer_networks:Parametrized", ("head",)),
        ("transfer_networks:Convolution", ("head.1",)),
        ("transfer_networks:Lazy", ("layers.3",)),
    ],
)
@pytest.mark.parametrize("classes", [DIGITS, LETTERS], ids=["other number", "same number"])
def test_layers_that_give_the_outputs_are_new(
    tmp_path: Path, name: str, layers: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    assert_new_layers(*transferred(tmp_path, name, classes), layers, classes)


def test_all_heads_of_an_ensemble_are_new(tmp_path: Path) -> None:
    heads = tuple(f"heads.{index}" for index in range(11))
    assert_new_layers(*transferred(tmp_path, "ensnet"), heads, DIGITS)


def assert_new_layers(
    bundle: Bundle, network: TransferNetwork, layers: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    assert network.new_layers == layers
    assert (network.spec.classes, network.spec.name) == (classes, bundle.spec.name)
    torch.manual_seed(1)
    built, source = network.build().state_dict(), bundle.model.state_dict()
    new = {key for key in built if key.startswith(tuple(f"{layer}." for layer in layers))}
    for key in built.keys() - new:
        assert torch.equal(built[key], source[key]), key
    weights = {key for key in new if "bias" not in key}
    assert weights
    assert all(not torch.equal(built[key].flatten()[:9], source[key].flatten()[:9]) for key in weights)


def test_keywords_of_the_network_are_kept(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "source", spec_of("transfer_networks:Lazy", width=7))
    assert TransferNetwork.of(bundle, DIGITS).build().state_dict()["layers.1.weight"].shape == (7, 784)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Wide", "tensor head.0.bias is (24,) with 12 classes and (20,) with 10"),
        ("Prototypes", "tensor head.prototypes is (12, 16) with 12 classes and (10, 16) with 10"),
        ("Fixed", "no tensor depends on the number of classes"),
    ],
)
def test_network_without_clear_last_layers_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        transferred(tmp_path, f"transfer_networks:{head}")
    assert message in str(refused.value)


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    transferred(tmp_path, "lenet")
    assert torch.equal(state, torch.get_rng_state())


def test_only_the_new_layers_of_a_frozen_network_change_in_training_mode(tmp_path: Path) -> None:
    _, network = transferred(tmp_path, "transfer_networks:Linear")
    frozen = network.build_frozen()
    trained = {name for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert trained == {"network.head.weight", "network.head.bias"}
    before = {name: buffer.clone() for name, buffer in frozen.named_buffers()}
    images = torch.randn(8, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(frozen.train()(images), frozen.train()(images))  # without dropout
        assert torch.equal(frozen.train()(images), frozen.eval()(images))  # with the stored statistics
    assert all(torch.equal(before[name], buffer) for name, buffer in frozen.named_buffers())


def test_frozen_network_with_heads_gives_the_outputs_of_all_heads_in_training_mode() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            heads = torch.stack([self.first(inputs), self.second(inputs)], dim=1)
            return heads if self.training else heads.mean(1)

    frozen = FrozenFeatures(TwoHeads(), ("first", "second"))
    inputs = torch.zeros(2, 4)
    assert frozen(inputs).shape == (2, 2, 3)
    assert frozen.eval()(inputs).shape == (2, 3)
    assert not frozen.training
