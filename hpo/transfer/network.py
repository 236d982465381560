"""A network with new last layers, on the features of an exported network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hpo import models
from hpo.errors import InputError
from hpo.export.bundle import Bundle
from hpo.export.model_spec import ModelSpec
from hpo.training.weights import Tensors

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers whose outputs can be those of a network."""

OTHER = "_"
"""The name of a class that no data set has, to build the network with another number of classes."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class TransferNetwork:
    """How to build the network of a bundle for other classes.

    `spec`: the network with the new classes. `kept`: the tensors of the bundle that the network begins with.
    `new_layers`: the names of the layers that begin with new weights, because they give the outputs.
    """

    spec: ModelSpec
    kept: Tensors
    new_layers: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle, classes: tuple[str, ...]) -> "TransferNetwork":
        """Return the network of a bundle with new last layers for `classes`.

        The last layers are those whose tensors change with the number of classes. Raises `InputError` if
        other layers change with it, or none, and if the network cannot be built.
        """
        spec = replace(bundle.spec, classes=classes, shifts=0)
        source = bundle.model
        probe = spec if len(classes) != len(bundle.classes) else replace(spec, classes=(*classes, OTHER))
        with torch.random.fork_rng(devices=()):
            other = _build(probe)
        counts = len(bundle.classes), len(probe.classes)
        outputs = _output_tensors(spec.name, source, other, counts)
        layers = tuple(dict.fromkeys(outputs.values()))
        kept = {name: tensor for name, tensor in source.state_dict().items() if name not in outputs}
        return cls(spec, kept, layers)

    def build(self) -> nn.Module:
        """Return the network; the new layers get weights from torch's global generator."""
        network = _build(self.spec)
        network.load_state_dict(self.kept, strict=False)
        return network

    def build_frozen(self) -> nn.Module:
        """Return the network with frozen features, as the module `network` of a `FrozenFeatures`."""
        return FrozenFeatures(self.build(), self.new_layers)


class FrozenFeatures(nn.Module):
    """A network of which only some layers are trained.

    In training mode, all other layers stay in evaluation mode: batch normalisation keeps its statistics, and
    dropout is off. The features of an image are therefore the same in every epoch.
    """

    def __init__(self, network: nn.Module, trained: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        network.requires_grad_(False)
        for name in trained:
            network.get_submodule(name).requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> "FrozenFeatures":
        super().train(False)
        self.training = self.network.training = mode  # a network may give the outputs of several heads
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs `(B, C, ...)` to logits, as the network does."""
        logits: Tensor = self.network(inputs)
        return logits


def _build(spec: ModelSpec) -> nn.Module:
    shape = spec.shape
    return models.build_with(spec.name, {**shape.keywords, **spec.keywords}, shape.input)


def _output_tensors(
    name: str, source: nn.Module, other: nn.Module, counts: tuple[int, int]
) -> dict[str, str]:
    """Return the tensors that give the outputs, with the names of their layers.

    `counts`: the numbers of classes of the two networks, which are equal but for that.
    """
    first, second = (_shapes(network) for network in (source, other))
    changed = {key: _layer_of(key) for key in first if first[key] != second.get(key)}
    for key in sorted({*changed, *(second.keys() - first.keys())}):
        if not _gives_outputs(source, key, (first.get(key, ()), second.get(key, ())), counts):
            raise InputError(
                f"model {name!r}: tensor {key} is {first.get(key, 'absent')} with {counts[0]} classes and "
                f"{second.get(key, 'absent')} with {counts[1]}; only the linear layers that give the outputs "
                "may depend on the number of classes"
            )
    if not changed:
        raise InputError(
            f"model {name!r}: no tensor depends on the number of classes, so no layer is the last"
        )
    return changed


def _gives_outputs(
    network: nn.Module, key: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], counts: tuple[int, int]
) -> bool:
    """Return whether a tensor belongs to a linear layer with one row for each class."""
    first, second = shapes
    rows_are_classes = (first[:1], second[:1]) == (counts[:1], counts[1:])
    if not rows_are_classes or first[1:] != second[1:]:
        return False
    return isinstance(network.get_submodule(_layer_of(key)), LINEAR)


def _layer_of(tensor: str) -> str:
    """Return the name of the layer that a tensor belongs to, also if the layer is parametrized."""
    return tensor.partition(".parametrizations.")[0] if ".parametrizations." in tensor else _parent(tensor)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _shapes(network: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
