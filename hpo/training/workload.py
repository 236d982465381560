"""What a study trains on: its network and its images, made real on one device."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from hpo import models
from hpo.data.dataset import Dataset, Labelled
from hpo.data.device import DeviceImages
from hpo.data.registry import open_dataset
from hpo.data.splits import Fractions, Index, Splits, split
from hpo.data.statistics import statistics
from hpo.errors import InputError
from hpo.spec.study_spec import StudySpec
from hpo.training.engines.program import Program
from hpo.values.stage import Stage


class Workload:
    """The images of a study, split and normalised as its spec says, and the network that learns them.

    Reads the training part of the data set when it is made; never the test part. Raises `DataError` if
    the data are missing or damaged.
    """

    def __init__(self, spec: StudySpec, data_path: Path) -> None:
        self.spec = spec
        self.dataset: Dataset = open_dataset(spec.data.name, data_path)
        self.train: Labelled = self.dataset.load_train()

    @cached_property
    def splits(self) -> Splits:
        fractions = Fractions(self.spec.data.mini, self.spec.data.validation)
        return split(self.train.labels, fractions, self.spec.seed)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of pixels / 255: the spec's, or those of the training pixels."""
        given = self.spec.data.mean
        return self._statistics[0] if given is None else (given,) * self.train.channels

    @cached_property
    def std(self) -> tuple[float, ...]:
        given = self.spec.data.std
        return self._statistics[1] if given is None else (given,) * self.train.channels

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        computed = statistics(self.train, self.dataset.classes)
        return computed.mean, computed.std

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """Builds the study's network for these classes and channels."""
        classes, channels = len(self.dataset.classes), self.train.channels
        return lambda: models.build(self.spec.model.name, classes, channels)

    @property
    def program(self) -> Program:
        """What compiled programs of the study's network have in common; its batch size stands for none."""
        classes, channels = len(self.dataset.classes), self.train.channels
        return Program(self.spec.model.name, classes, channels, self.train.size, 0, "evaluation")

    def images(self, stage: Stage, device: torch.device | str) -> tuple[DeviceImages, DeviceImages]:
        """(training images, validation images) of a stage, on `device`.

        The search trains on mini-train and validates on mini-validation; full training trains on the rest
        of the training part and validates on all of mini.
        """
        if stage == "search":
            parts = (self.splits.mini_train, self.splits.mini_validation)
        else:
            parts = (self.splits.train, self.splits.mini)
        train, validation = (
            DeviceImages.from_labelled(self._part(index), device, self.mean, self.std) for index in parts
        )
        return train, validation

    def _part(self, index: Index) -> Labelled:
        return Labelled(self.train.images[index], self.train.labels[index])

    def check(self) -> None:
        """Raises `InputError`, `ModelError` or `DataError` if the network cannot learn these images."""
        _ = self.splits
        shape = self.train.channels, *self.train.size
        check_network(self.spec.model.name, self.factory, shape, len(self.dataset.classes))


def check_network(name: str, factory: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> None:
    """Raises `InputError` if the network `name` cannot tell so many classes apart on images of `shape`
    (channels, height, width), or `ModelError` if it cannot be built."""
    # On the device "meta" it would take a second, to import what knows of shapes alone.
    network, images = factory().eval(), torch.zeros(2, *shape)
    try:
        with torch.inference_mode():
            given = tuple(network(images).shape)
    except Exception as error:  # a user's network may raise anything
        reason = " ".join(str(error).split())
        raise InputError(f"model {name!r} fails on images of shape {shape}: {reason}") from error
    if given != (2, classes):
        raise InputError(f"model {name!r} gives {given} for 2 images; it must give (2, {classes})")


def usable_device(name: str) -> str:
    """`name`, if torch can compute there. Raises `InputError` otherwise."""
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError and its own, by kind of device
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(f"--device {name!r}: not usable here: {reason}") from error
    return name
