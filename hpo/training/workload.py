"""A study's network and images, loaded and ready for training on one device."""

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from hpo import models
from hpo.data.arrays import open_mapped
from hpo.data.dataset import ChannelsError, Dataset, Labelled, OwnDataError
from hpo.data.device import DeviceImages
from hpo.data.splits import Fractions, Splits, split, tiny_classes
from hpo.data.statistics import statistics
from hpo.errors import InputError
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.mistakes import SpaceInputError
from hpo.spec.study_spec import StudySpec
from hpo.training.check import STEPS, Rehearsal
from hpo.training.dropout import has_dropout_layers
from hpo.training.engines.base import Engine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec
from hpo.training.task import Task
from hpo.training.variants import check_keywords, variants
from hpo.values.parameters import domain_of, model_keywords
from hpo.values.space import Choices
from hpo.values.stage import Stage
from hpo.values.wording import counted

log = logging.getLogger("hpo.training")

TRIAL_IMAGES = 2
"""The most images of a batch of a rehearsal."""


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
        return self._statistics[0] if given is None else self._per_channel(given)

    @cached_property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of pixels / 255 per channel: the spec's, or that of the training images.

        A channel that is constant in the training images has 1: it is centred and not scaled.
        """
        given = self.spec.data.std
        if given is None:
            return tuple(std or 1.0 for std in self._statistics[1])
        return self._per_channel(given)

    def _per_channel(self, given: float | tuple[float, ...]) -> tuple[float, ...]:
        return given if isinstance(given, tuple) else (given,) * self.train.channels

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        computed = self.dataset.facts or statistics(self.train, self.dataset.classes)
        return computed.mean, computed.std

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """A function that builds the study's network at the first values of its keywords."""
        return self.factory_of(variants(self.spec.space)[0].point)

    def factory_of(self, params: Mapping[str, Any]) -> Callable[[], nn.Module]:
        """Return a function that builds the network at a point or in a pack, for the data set."""
        return self.network_of(params).build

    @property
    def network(self) -> NetworkSpec:
        """The study's network at the first values of its keywords."""
        return self.network_of(variants(self.spec.space)[0].point)

    def network_of(self, params: Mapping[str, Any]) -> NetworkSpec:
        """Return the network at a point or in a pack, in the form that names compiled programs."""
        classes, channels = len(self.dataset.classes), self.train.channels
        keywords = tuple(model_keywords(params).items())
        return NetworkSpec(self.spec.model.name, classes, channels, self.train.size, keywords)

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
        """Raise InputError, ModelError or DataError if the network cannot learn these images.

        Logs a warning for what is odd but can be trained.
        """
        self._check_images()
        name, engine = self.spec.model.name, EagerEngine(self.spec.precisions("search")[0])
        check_keywords(name, self.spec.space)
        reason, drops = None, False
        for variant in variants(self.spec.space):
            with variant.mistakes():
                rehearsal = self.rehearsal("cpu", engine, params=variant.point)
                rehearsal.check()
                drops = drops or has_dropout_layers(rehearsal.task.factory())
            if reason is None and not self.network.is_built_in:
                reason = rehearsal.why_not_fused()
        if "dropout" in self.spec.space.domains and not drops:
            layers = "nn.Dropout, Dropout1d, Dropout2d or Dropout3d"
            raise SpaceInputError("dropout", f"model {name!r} has no layer {layers}; leave the key out")
        if reason is not None:
            log.warning("model %r: vmap cannot fuse it (%s); a GPU trains its trials in turn", name, reason)

    def rehearsal(
        self,
        device: torch.device | str,
        engine: Engine,
        steps: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Rehearsal:
        """Return a rehearsal of the search on `device`, with a few of its images.

        `steps`: None for a single step of a built-in network, which tests have tried, and `STEPS` of others.
        `params`: the keywords of the network, None for their first values.
        """
        if steps is None:
            steps = 1 if self.network.is_built_in else STEPS
        sizes = domain_of(self.spec.space, "batch_size")
        smallest = int(min(sizes.values) if isinstance(sizes, Choices) else sizes.low)
        count = min(smallest, TRIAL_IMAGES)
        # Another number of images than in training: the network must take any.
        parts = self.splits.mini_train[:count], self.splits.mini_validation[: count + 1]
        train, validation = (
            DeviceImages.from_rows(self.train, rows, device, self.mean, self.std) for rows in parts
        )
        factory = self.factory if params is None else self.factory_of(params)
        task = Task(factory, train, validation, len(self.dataset.classes))
        return Rehearsal(self.spec.model.name, task, engine, steps)

    def _check_images(self) -> None:
        classes, channels = self.dataset.classes, self.train.channels
        missing = np.setdiff1d(np.arange(len(classes)), self.train.labels)
        if len(missing) == len(classes) - 1:
            raise OwnDataError("all training images are of one class")
        if len(missing):
            log.warning("%s: no training image is of class %r", self.dataset.name, classes[missing[0]])
        _ = self.splits
        for label in tiny_classes(self.train.labels):
            text = "%s: class %r has too few images to be split: full training gets all of them"
            log.warning(text, self.dataset.name, classes[label])
        given = self.spec.data.mean
        if isinstance(given, tuple) and len(given) != channels:
            raise ChannelsError(f"the images have {counted(channels, 'channel')}")
        constant = [channel for channel, std in enumerate(self._statistics[1]) if std == 0]
        if len(constant) == channels:
            raise OwnDataError("all training images are equal, there is nothing to learn")
        if constant and self.spec.data.std is None:
            name = self.dataset.name
            log.warning("%s: channel %d has one value in all training images", name, constant[0])


def usable_device(name: str) -> str:
    """Return `name` if torch can compute on this device. Raises InputError otherwise."""
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError and its own, by kind of device
        reason = str(error).partition("\n")[0].strip()
        raise InputError(f"--device {name!r}: not usable here: {reason}") from error
    return name
