"""Bundles: folders with a trained network and the facts needed to use it elsewhere.

A bundle has five files, each for a different reader, and none is a pickle:

params.json           the best hyperparameters, for other programs
model.json            the `ModelSpec`: how to rebuild the network and prepare its input
weights.safetensors   the state dict, readable in any framework
metrics.json          the metrics on the test images, with the confusion matrix
provenance.json       study, trial, seed, data and versions behind the model
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from hpo import models
from hpo.errors import HpoError, InputError, NotFoundError
from hpo.export.bundle_folder import FILES, METRICS, MODEL, PARAMS, PROVENANCE, WEIGHTS, is_occupied
from hpo.export.metrics import Metrics, Normalization
from hpo.export.scoring import probabilities
from hpo.values.space import Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How to rebuild a network and prepare its input.

    `name` and `keywords` are arguments of `models.build`. Output i stands for `classes[i]`. `image_size` is
    (H, W) in pixels. `mean` and `std` are those of pixels / 255, one per channel.
    """

    name: str
    classes: tuple[str, ...]
    in_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keywords: Mapping[str, int | float | bool | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes {self.classes}: they must be two or more different names")
        if self.in_channels not in (1, 3):
            raise ValueError(f"in_channels {self.in_channels}: must be 1 (grey) or 3 (RGB)")
        if min(self.image_size) < 1:
            raise ValueError(f"image_size {self.image_size}: must be height and width, at least 1 pixel")
        if not len(self.mean) == len(self.std) == self.in_channels or min(self.std) <= 0:
            raise ValueError(
                f"mean {self.mean}, std {self.std}: one of each per channel, and every std above 0"
            )

    @property
    def normalization(self) -> Normalization:
        """Return the normalisation of the input."""
        return Normalization(self.mean, self.std)


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle. `params` are the hyperparameters of the training."""

    directory: Path
    spec: ModelSpec
    params: Mapping[str, Value]
    metrics: Metrics
    provenance: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names, in the order of the outputs."""
        return self.spec.classes

    @cached_property
    def model(self) -> nn.Module:
        """Return the network, in eval mode on the CPU. The first access reads it.

        Raises `InputError` if the network cannot be built, or the weights are damaged or do not fit.
        """
        return _network(self.spec, self.directory)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the class probabilities `(N, classes)` of `images` `(N, H, W)` or `(N, C, H, W) uint8`.

        Images must look like the training images: for EMNIST upright, white on black, 28x28. The computation
        runs on the device of `model`. Raises `InputError` for other types and shapes, and as `model` does.
        """
        spec = self.spec
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise InputError(f"images are {images.dtype}: they must be uint8, 0 to 255")
        shape = (spec.in_channels, *spec.image_size)
        allowed = [shape, spec.image_size] if spec.in_channels == 1 else [shape]
        if images.shape[1:] not in allowed:
            rule = " or ".join(f"(N, {', '.join(map(str, shape))})" for shape in allowed)
            raise InputError(f"images have shape {images.shape}: it must be {rule}")
        pixels = torch.from_numpy(images.reshape(len(images), *shape).copy())  # (N, C, H, W)
        device = next(self.model.parameters()).device
        return probabilities(self.model, pixels, spec.normalization, device)

    def rank(self, images: npt.NDArray[np.uint8], top: int = 3) -> list[tuple[tuple[str, float], ...]]:
        """Return the `top` most probable classes of each image with their probabilities, best first."""
        return [
            tuple((self.classes[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:top])
            for row in self.predict(images)
        ]


@dataclass(frozen=True, eq=False)
class BundleContents:
    """The contents of a new bundle. `weights` is a state dict, on any device."""

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    params: Mapping[str, Value]
    metrics: Metrics
    provenance: Mapping[str, Any]


def write_bundle(directory: Path, contents: BundleContents) -> None:
    """Write a complete bundle or nothing: build it in a temporary folder beside `directory`, then rename.

    An old bundle in `directory` is replaced; between the two renames the folder does not exist. Raises
    `InputError` if anything else is there, and `HpoError` if the bundle cannot be written.
    """
    directory = directory.resolve()  # replace the target of a link, not the link
    try:
        occupied = is_occupied(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as beside:
            new, old = Path(beside, "new"), Path(beside, "old")
            new.mkdir()
            tensors = {name: _copy(tensor) for name, tensor in contents.weights.items()}
            (new / WEIGHTS).write_bytes(save(tensors))
            _write(new / MODEL, contents.spec)
            _write(new / PARAMS, contents.params)
            _write(new / METRICS, contents.metrics)
            _write(new / PROVENANCE, contents.provenance)
            if occupied:
                directory.rename(old)
            try:
                new.rename(directory)
            except OSError:
                if occupied:
                    old.rename(directory)
                raise
    except OSError as error:
        raise HpoError(f"{directory}: cannot write the bundle: {error.strerror}") from error


def load_bundle(directory: Path | str) -> Bundle:
    """Open a bundle. Its weights are read on first use.

    A bundle may name a class of the user's own, which is imported: open only bundles you trust. Raises
    `NotFoundError` if the folder does not exist, and `InputError` if a file is missing or differs from the
    format of `write_bundle`, or if the class cannot be imported.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: no such folder; a bundle is one, as `hpo export` writes it")
    for name in sorted(FILES):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name}: no such file; a bundle has {', '.join(sorted(FILES))}")
    spec = _read(directory / MODEL, ModelSpec)
    _check_model(spec.name, directory / MODEL)
    return Bundle(
        directory,
        spec,
        _read(directory / PARAMS, dict[str, int | float | bool | str]),
        _read(directory / METRICS, Metrics),
        _read(directory / PROVENANCE, dict[str, Any]),
    )


def _check_model(name: str, file: Path) -> None:
    """Raise `InputError` for an unknown network, or a user's own that cannot be imported."""
    try:
        models.check(name)
        if name not in models.names():
            models.resolve(name)
    except models.ModelError as error:
        raise InputError(f"{file}: {error}") from error


def _write(path: Path, value: object) -> None:
    text = json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read(path: Path, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = [".".join(map(str, first["loc"]))] if first["loc"] else []
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(": ".join([str(path), *location, rule])) from error


def _copy(tensor: Tensor) -> Tensor:
    # safetensors refuses tensors that share memory, as tied weights and the members of a pack do.
    return tensor.detach().to("cpu", copy=True).contiguous()


def _network(spec: ModelSpec, directory: Path) -> nn.Module:
    path = directory / WEIGHTS
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or unreadable weights: {error}") from error
    try:
        with torch.random.fork_rng(devices=()):  # drawing initial weights must not advance the caller's RNG
            network = models.build(
                spec.name, len(spec.classes), spec.in_channels, spec.image_size, spec.keywords
            )
    except models.ModelError as error:
        raise InputError(f"{directory / MODEL}: {error}") from error
    misfit = misfit_of(network, weights)
    if misfit is not None:
        raise InputError(f"{path}: does not fit {spec.name} with {len(spec.classes)} classes: {misfit}")
    network.load_state_dict(weights)
    return network.eval()


def misfit_of(network: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Return which tensor of `weights` does not fit the network, None if all do."""
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(needed.keys() | stored.keys()):
        if stored.get(name) != needed.get(name):
            required = needed.get(name, "absent")
            return f"tensor {name} is {stored.get(name, 'absent')}, it must be {required}"
    return None
