"""A bundle: a folder that holds a trained network and all there is to know to use it elsewhere.

Each file has a reader of its own, hence five of them, and none is a pickle:

params.json           the best hyperparameters, for other programs
model.json            what rebuilds the network and prepares its input
weights.safetensors   its state dict, for any other framework too
metrics.json          how it did on the test part; long, for the confusion matrix
provenance.json       where it comes from, in whatever keys the service writes
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
from hpo.export.metrics import Metrics, probabilities

PARAMS, MODEL, METRICS, PROVENANCE = "params.json", "model.json", "metrics.json", "provenance.json"
WEIGHTS = "weights.safetensors"
FILES = frozenset({PARAMS, MODEL, WEIGHTS, METRICS, PROVENANCE})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What rebuilds a network and prepares its input.

    `name`: as in `models.build`. Output i means `classes[i]`. `image_size`: (H, W) in pixels.
    `mean`, `std`: of pixels / 255, one per channel.
    """

    name: str
    classes: tuple[str, ...]
    in_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

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


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was opened. `params`: the hyperparameters that the network was trained with."""

    directory: Path
    spec: ModelSpec
    params: Mapping[str, float]
    metrics: Metrics
    provenance: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @cached_property
    def model(self) -> nn.Module:
        """The network, in eval mode on the CPU; read when first asked for.

        A class of the user's own is imported, so open only bundles you trust if they name one. Raises
        InputError when the network cannot be built or the weights are damaged or do not fit it.
        """
        return _network(self.spec, self.directory)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Class probabilities `(N, classes)` of `images` `(N, H, W)` or `(N, C, H, W) uint8`.

        Images are as the network was trained on: for EMNIST upright, white on black, 28x28. They are
        computed where `model` is. Raises InputError for other types and shapes, and as `model` does.
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
        return probabilities(self.model, pixels, spec.mean, spec.std, device)

    def rank(self, images: npt.NDArray[np.uint8], top: int = 3) -> list[tuple[tuple[str, float], ...]]:
        """For each image its `top` likeliest classes with their probabilities, the likeliest first."""
        return [
            tuple((self.classes[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:top])
            for row in self.predict(images)
        ]


def write_bundle(
    directory: Path,
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    params: Mapping[str, float],
    metrics: Metrics,
    provenance: Mapping[str, Any],
) -> None:
    """Write a bundle that is whole or absent: it is built in a folder beside and then renamed.

    `weights`: a state dict, on any device. A bundle that is in `directory` is replaced; between two renames
    there is none. Raises InputError when anything else is there, and HpoError when it cannot be written.
    """
    directory = directory.resolve()  # a link stays, what it points to is replaced
    try:
        occupied = _occupied(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as beside:
            new, old = Path(beside, "new"), Path(beside, "old")
            new.mkdir()
            (new / WEIGHTS).write_bytes(save({name: _owned(tensor) for name, tensor in weights.items()}))
            _write(new / MODEL, spec)
            _write(new / PARAMS, params)
            _write(new / METRICS, metrics)
            _write(new / PROVENANCE, provenance)
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
    """Open a bundle. Its weights are read when first needed.

    Raises NotFoundError when there is no such folder, and InputError when a file in it is missing or is not
    what `write_bundle` writes.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: no such folder; a bundle is one, as `hpo export` writes it")
    for name in sorted(FILES):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name}: no such file; a bundle has {', '.join(sorted(FILES))}")
    return Bundle(
        directory,
        _read(directory / MODEL, ModelSpec),
        _read(directory / PARAMS, dict[str, int | float]),
        _read(directory / METRICS, Metrics),
        _read(directory / PROVENANCE, dict[str, Any]),
    )


def _occupied(directory: Path) -> bool:
    """Whether a bundle is there. Raises InputError when something else is, an empty folder excepted."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise InputError(f"{directory}: a bundle is a folder, and this is not one")
    names = {path.name for path in directory.iterdir()}
    if names not in (set(), FILES):
        raise InputError(
            f"{directory}: is not empty and not a bundle: choose a new folder, or a bundle to replace"
        )
    return bool(names)


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
        where = [".".join(map(str, first["loc"]))] if first["loc"] else []
        raise InputError(
            ": ".join([str(path), *where, first["msg"].removeprefix("Value error, ")])
        ) from error


def _owned(tensor: Tensor) -> Tensor:
    # safetensors refuses tensors that share memory, as tied weights and the members of a pack do.
    return tensor.detach().to("cpu", copy=True).contiguous()


def _network(spec: ModelSpec, directory: Path) -> nn.Module:
    path = directory / WEIGHTS
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or unreadable weights: {error}") from error
    try:
        with torch.random.fork_rng(devices=()):  # initial weights are drawn, which is nobody's business
            network = models.build(spec.name, len(spec.classes), spec.in_channels)
    except models.ModelError as error:
        raise InputError(f"{directory / MODEL}: {error}") from error
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(needed.keys() | found.keys()):
        if found.get(name) != needed.get(name):
            raise InputError(
                f"{path}: does not fit {spec.name} with {len(spec.classes)} classes: tensor {name} is "
                f"{found.get(name, 'absent')}, it must be {needed.get(name, 'absent')}"
            )
    network.load_state_dict(weights)
    return network.eval()
