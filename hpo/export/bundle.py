"""Bundles of networks: folders with a trained network and the facts needed to use it elsewhere.

Such a bundle has five files, each for a different reader, and none is a pickle. It may have a folder
`analysis` with pictures and tables of the errors:

params.json           the best hyperparameters, for other programs
model.json            the `ModelSpec`: how to rebuild the network and prepare its input
weights.safetensors   the state dict, readable in any framework; an ensemble's names begin with members.0.
metrics.json          the metrics on the test part; of classes, with the confusion matrix
provenance.json       study, trial, seed, data and versions behind the model
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from hpo import models
from hpo.errors import InputError
from hpo.export.bundle_folder import (
    ANALYSIS,
    FILES,
    METRICS,
    MODEL,
    PARAMS,
    PROVENANCE,
    WEIGHTS,
    new_bundle,
    read_json,
    write_json,
)
from hpo.export.ensemble import ensemble_of, with_shifts
from hpo.export.metrics import AnyMetrics, Metrics, RegressionMetrics
from hpo.export.model_spec import ModelSpec, check_shifts
from hpo.export.scoring import probabilities, values
from hpo.values.space import Value


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle. `params` are the hyperparameters of the training."""

    directory: Path
    spec: ModelSpec
    params: Mapping[str, Value]
    metrics: AnyMetrics
    provenance: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names, in the order of the outputs. A regression has none."""
        return self.spec.classes

    @cached_property
    def model(self) -> nn.Module:
        """Return the network, in eval mode on the CPU. The first access reads it.

        Raises `InputError` if the network cannot be built, or the weights are damaged or do not fit.
        """
        return _network(self.spec, self.directory)

    @property
    def validation(self) -> Mapping[str, float]:
        """Return the metrics of the model on the validation images, by the names of an epoch's metrics."""
        return {key: value for key, value in self.provenance.items() if key.startswith("validation_")}

    def predict(self, inputs: npt.ArrayLike, shifts: int | None = None) -> npt.NDArray[np.float32]:
        """Return the class probabilities `(N, classes)` of inputs, or the numbers `(N, ...)` of a regression.

        `inputs`: images `(N, H, W)` or `(N, C, H, W)` uint8, or numbers `(N, F)` or `(N, C, ...)`, as in
        training. Images must look like the training images: for EMNIST upright, white on black, 28x28.
        `shifts`: the prediction is the average over the translations of an image by up to this many pixels;
        None: those of the bundle. The computation runs on the device of `model`. Raises `InputError` for
        other types and shapes, for shifts of numbers, and as `model` does.
        """
        spec, array = self.spec, np.asarray(inputs)
        prepared = self._pixels(array) if spec.image_size is not None else self._numbers(array)
        device = next(self.model.parameters()).device
        shifts = self._shifts(shifts)
        model = with_shifts(self.model, shifts, spec.normalization, of_classes=bool(spec.classes)).to(device)
        if spec.target_shape is None:
            return probabilities(model, prepared, spec.normalization, device)
        predicted = values(model, prepared, spec.normalization, device)
        return predicted.reshape(len(prepared), *spec.target_shape)

    def _shifts(self, given: int | None) -> int:
        if given is None:
            return self.spec.shifts
        try:
            check_shifts(given, self.spec.image_size)
        except ValueError as error:
            raise InputError(f"{self.directory}: {error}") from error
        return given

    def _pixels(self, images: npt.NDArray[Any]) -> Tensor:
        shape = self.spec.input
        if images.dtype != np.uint8:
            raise InputError(f"images are {images.dtype}: they must be uint8, 0 to 255")
        allowed = [shape, shape[1:]] if shape[0] == 1 else [shape]
        if images.shape[1:] not in allowed:
            rule = " or ".join(f"(N, {', '.join(map(str, shape))})" for shape in allowed)
            raise InputError(f"images have shape {images.shape}: it must be {rule}")
        return torch.from_numpy(images.reshape(len(images), *shape).copy())  # (N, C, H, W)

    def _numbers(self, inputs: npt.NDArray[Any]) -> Tensor:
        shape = self.spec.input
        if inputs.dtype.kind not in "fiu":
            raise InputError(f"inputs are {inputs.dtype}: they must be numbers")
        if inputs.shape[1:] != shape:
            rule = f"(N, {', '.join(map(str, shape))})"
            raise InputError(f"inputs have shape {inputs.shape}: it must be {rule}")
        numbers = inputs.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise InputError("inputs have NaN or infinity: they must be finite float32 numbers")
        return torch.from_numpy(numbers)  # (N, C, ...)

    def rank(self, images: npt.ArrayLike, top: int = 3) -> list[tuple[tuple[str, float], ...]]:
        """Return the `top` most probable classes of each input with their probabilities, best first.

        Raises `InputError` for a regression, and as `predict` does.
        """
        if not self.classes:
            raise InputError(f"{self.directory}: the model predicts numbers, and no classes")
        return [
            tuple((self.classes[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:top])
            for row in self.predict(images)
        ]


@dataclass(frozen=True, eq=False)
class BundleContents:
    """The contents of a new bundle.

    `weights` is a state dict, on any device. `analysis` has the files of the folder `analysis` by their
    names, which may contain `/`.
    """

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    params: Mapping[str, Value]
    metrics: AnyMetrics
    provenance: Mapping[str, Any]
    analysis: Mapping[str, bytes] = field(default_factory=dict)


def write_bundle(directory: Path, contents: BundleContents) -> None:
    """Write a complete bundle or nothing, as `new_bundle` does."""
    with new_bundle(directory) as new:
        tensors = {name: _copy(tensor) for name, tensor in contents.weights.items()}
        (new / WEIGHTS).write_bytes(save(tensors))
        write_json(new / MODEL, contents.spec)
        write_json(new / PARAMS, contents.params)
        write_json(new / METRICS, contents.metrics)
        write_json(new / PROVENANCE, contents.provenance)
        for name, content in contents.analysis.items():
            path = new / ANALYSIS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def open_bundle(directory: Path) -> Bundle:
    """Open the bundle of a network. Its weights are read on first use.

    Raises `InputError` if a file is missing or differs from the format of `write_bundle`, or if the class of
    the network cannot be imported.
    """
    for name in sorted(FILES):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name}: no such file; a bundle has {', '.join(sorted(FILES))}")
    spec = read_json(directory / MODEL, ModelSpec)
    _check_model(spec.name, directory / MODEL)
    metrics: AnyMetrics
    if spec.target_shape is None:
        metrics = read_json(directory / METRICS, Metrics)
    else:
        metrics = read_json(directory / METRICS, RegressionMetrics)
    return Bundle(
        directory,
        spec,
        read_json(directory / PARAMS, dict[str, int | float | bool | str]),
        metrics,
        read_json(directory / PROVENANCE, dict[str, Any]),
    )


def _check_model(name: str, file: Path) -> None:
    """Raise `InputError` for an unknown network, or a user's own that cannot be imported."""
    try:
        models.check(name)
        if name not in models.names():
            models.resolve(name)
    except models.ModelError as error:
        raise InputError(f"{file}: {error}") from error


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
            shape = spec.shape
            keywords = {**shape.keywords, **spec.keywords}
            members = [models.build_with(spec.name, keywords, shape.input) for _ in range(spec.members)]
    except models.ModelError as error:
        raise InputError(f"{directory / MODEL}: {error}") from error
    network = ensemble_of(members, of_classes=bool(spec.classes))
    misfit = misfit_of(network, weights)
    if misfit is not None:
        outputs = f"{spec.shape.outputs} {'classes' if spec.classes else 'outputs'}"
        raise InputError(f"{path}: does not fit {spec.name} with {outputs}: {misfit}")
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
