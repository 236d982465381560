"""A study's network and images, loaded and ready for training on one device."""

import json
from collections.abc import Callable
from functools import cached_property

import torch
from torch import nn

from hpo import models
from hpo.data.arrays import open_mapped
from hpo.data.dataset import DataInputError, Dataset, Labelled
from hpo.data.device import DeviceImages
from hpo.data.splits import Fractions, Splits, split
from hpo.data.statistics import statistics
from hpo.errors import InputError
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.training.engines.program import NetworkSpec
from hpo.values.stage import Stage


class Workload:
    """The images of a study, split and normalised as its spec says, and its network.

    Reads the training part of the data set when it is created, and never the test part. Raises DataError if
    the data are missing or damaged.
    """

    def __init__(self, spec: StudySpec, dataset: Dataset) -> None:
        self.spec, self.dataset = spec, dataset
        self.train: Labelled = dataset.load_train()

    @classmethod
    def open(cls, spec: StudySpec, settings: Settings, content: str | None = None) -> "Workload":
        """Return the workload of a spec with the mapped arrays of its data set, see `open_mapped`."""
        return cls(spec, open_mapped(spec.data.name, settings.data_path, settings.arrays_path, content))

    @cached_property
    def identity(self) -> Identity:
        """The hashes of the data set, unknown if it is not mapped, and of the code of a user's own network.

        Raises ModelError if the network cannot be imported.
        """
        facts = self.dataset.facts
        return Identity(None if facts is None else facts.hashes, models.code_hash(self.spec.model.name))

    @cached_property
    def splits(self) -> Splits:
        """The indices of the training images that each split has."""
        fractions = Fractions(self.spec.data.mini, self.spec.data.validation)
        return split(self.train.labels, fractions, self.spec.seed)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """The mean of pixels / 255 per channel: the spec's, or that of the training images."""
        given = self.spec.data.mean
        return self._statistics[0] if given is None else (given,) * self.train.channels

    @cached_property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of pixels / 255 per channel: the spec's, or that of the training images."""
        given = self.spec.data.std
        return self._statistics[1] if given is None else (given,) * self.train.channels

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        computed = self.dataset.facts or statistics(self.train, self.dataset.classes)
        return computed.mean, computed.std

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """A function that builds the study's network for the data set's classes and channels."""
        classes, channels = len(self.dataset.classes), self.train.channels
        return lambda: models.build(self.spec.model.name, classes, channels)

    @property
    def network(self) -> NetworkSpec:
        """The study's network, in the form from which compiled programs get their names."""
        classes, channels = len(self.dataset.classes), self.train.channels
        return NetworkSpec(self.spec.model.name, classes, channels, self.train.size)

    def images(self, stage: Stage, device: torch.device | str) -> tuple[DeviceImages, DeviceImages]:
        """Return the (training images, validation images) of a stage on `device`.

        The search trains on mini-train and validates on mini-validation. Full training trains on the rest of
        the training part and validates on all of mini.
        """
        if stage == "search":
            parts = (self.splits.mini_train, self.splits.mini_validation)
        else:
            parts = (self.splits.train, self.splits.mini)
        train, validation = (
            DeviceImages.from_rows(self.train, rows, device, self.mean, self.std) for rows in parts
        )
        return train, validation

    def check(self) -> None:
        """Raise InputError, ModelError or DataError if the network cannot learn these images."""
        _ = self.splits
        shape = self.train.channels, *self.train.size
        check_network(self.spec.model.name, self.factory, shape, len(self.dataset.classes))


def checked_workload(spec: StudySpec, settings: Settings, source: str) -> Workload:
    """Return the workload of a study file, once its network can learn its images.

    `source` names the file in messages. Raises InputError for a mistake in the file, in the user's network or
    in the user's data, and DataError if the files of a data set are missing or damaged.
    """
    try:
        workload = Workload.open(spec, settings)
        workload.check()
    except DataInputError as error:
        key, value = f"data.{error.key}", getattr(spec.data, error.key)
        rule = str(error).removeprefix(f"{value}: ")
        raise InputError(f"{source}: {key} = {json.dumps(value)}: {rule}") from error
    except (InputError, models.ModelError) as error:
        raise InputError(f"{source}: model.name = {json.dumps(spec.model.name)}: {error}") from error
    return workload


def check_network(name: str, factory: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> None:
    """Check that the network `name` maps images of `shape` (channels, height, width) to `classes` logits.

    Raises InputError if it does not, and ModelError if it cannot be built.
    """
    # The device "meta" would not compute anything, but its imports take a second.
    network, images = factory().eval(), torch.zeros(2, *shape)
    try:
        with torch.inference_mode():
            output_shape = tuple(network(images).shape)
    except Exception as error:  # a user's network may raise anything
        reason = " ".join(str(error).split())
        raise InputError(f"model {name!r} fails on images of shape {shape}: {reason}") from error
    if output_shape != (2, classes):
        raise InputError(f"model {name!r} gives {output_shape} for 2 images; it must give (2, {classes})")


def usable_device(name: str) -> str:
    """Return `name` if torch can compute on this device. Raises InputError otherwise."""
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError and its own, by kind of device
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(f"--device {name!r}: not usable here: {reason}") from error
    return name
