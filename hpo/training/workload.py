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
from hpo.data.dataset import Dataset, Labelled
from hpo.data.device import DeviceImages
from hpo.data.splits import Fractions, Splits, split_of
from hpo.data.statistics import statistics
from hpo.errors import InputError, KeyInputError
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.mistakes import SpaceInputError
from hpo.spec.study_spec import StudySpec
from hpo.training.check import STEPS, Rehearsal, check_metrics
from hpo.training.criterion import Criterion
from hpo.training.data_check import check_data, check_study
from hpo.training.dropout import has_dropout_layers
from hpo.training.engines.base import Engine
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec
from hpo.training.task import Task
from hpo.training.variants import check_keywords, variants
from hpo.values.data_shape import DataShape
from hpo.values.parameters import domain_of, model_keywords
from hpo.values.space import Choices
from hpo.values.stage import Part

log = logging.getLogger("hpo.training")

METRIC_EXAMPLES = 250
"""The most examples that a user's metrics are tried on."""

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

        Raises ModelError if the network, loss or metrics cannot be imported.
        """
        facts, model = self.dataset.facts, self.spec.model
        code = models.code_hash(model.name, *model.functions)
        return Identity(None if facts is None else facts.hashes, code)

    @cached_property
    def splits(self) -> Splits:
        """The indices of the training images that each split has."""
        fractions = Fractions(self.spec.data.mini, self.spec.data.validation)
        return split_of(self.train, fractions, self.spec.seed)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """The mean per channel or feature, of images that of pixels / 255.

        It is the spec's, or that of the training part.
        """
        given = self.spec.data.mean
        return self._statistics[0] if given is None else self._per_channel(given)

    @cached_property
    def std(self) -> tuple[float, ...]:
        """The standard deviation per channel or feature, in the same way.

        A channel that is constant in the training part has 1: it is centred and not scaled.
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
        model, keywords = self.spec.model, tuple(model_keywords(params).items())
        metrics = tuple(sorted((model.metrics or {}).items()))
        return NetworkSpec(model.name, self.shape, keywords, model.loss, metrics)

    @property
    def shape(self) -> DataShape:
        """The shapes of the data."""
        classes, labels = self.dataset.classes, self.train.labels
        return DataShape(self.train.shape, None if classes is None else len(classes), labels.shape[1:])

    @cached_property
    def criterion(self) -> Criterion:
        """What the network is trained for. Raises InputError if a user's own loss or metric is missing."""
        return self.network.criterion()

    def images(self, part: Part, device: torch.device | str) -> tuple[DeviceImages, DeviceImages]:
        """Return the (training images, validation images) of a part of the study on `device`.

        The search trains on mini-train and validates on mini-validation. Full training trains on the rest of
        the training part and validates on all of mini. A refit trains on all of the training part, so that
        mini says nothing but whether it has diverged.
        """
        splits = self.splits
        if part == "search":
            parts = (splits.mini_train, splits.mini_validation)
        else:
            parts = (splits.train if part == "full" else splits.all, splits.mini)
        train, validation = (
            DeviceImages.from_rows(self.train, rows, device, self.mean, self.std) for rows in parts
        )
        return train, validation

    def check(self) -> None:
        """Raise InputError, ModelError or DataError if the network cannot learn these data.

        Logs a warning for what is odd but can be trained.
        """
        check_data(self.spec, self.dataset, self.train, self._statistics[1])
        _ = self.splits
        check_study(self.spec, self.shape, self.criterion)
        name, engine = self.spec.model.name, EagerEngine(self.spec.precisions("search")[0])
        check_keywords(name, self.spec.space, self.shape.keywords)
        reason, drops = None, False
        for variant in variants(self.spec.space):
            with variant.mistakes():
                rehearsal = self.rehearsal("cpu", engine, params=variant.point)
                rehearsal.check()
                drops = drops or has_dropout_layers(rehearsal.task.factory())
            if reason is None and not self.network.is_built_in:
                reason = rehearsal.why_not_fused()
        self.check_metrics("cpu")
        if not drops:
            layers = "nn.Dropout, Dropout1d, Dropout2d or Dropout3d"
            rule = f"model {name!r} has no layer {layers}; leave the key out"
            if "dropout" in self.spec.space.domains:
                raise SpaceInputError("dropout", rule)
            if "dropout" in self.spec.full.params():
                raise KeyInputError("full.dropout", rule)
        if reason is not None:
            log.warning("model %r: vmap cannot fuse it (%s); a GPU trains its trials in turn", name, reason)

    def check_metrics(self, device: torch.device | str) -> None:
        """Raise InputError if a user's own metric cannot be computed on `device`."""
        if self.criterion.own_metrics:
            # At random: examples may be sorted by class, and some metrics need more than one class.
            rows = np.random.default_rng(0).permutation(self.splits.mini_validation)[:METRIC_EXAMPLES]
            sample = DeviceImages.from_rows(self.train, rows, device, self.mean, self.std)
            batch = sample.batch(torch.arange(len(rows), device=device))
            check_metrics(self.factory, self.criterion, batch)

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
        task = Task(factory, train, validation, self.criterion)
        return Rehearsal(self.spec.model.name, task, engine, steps)


def usable_device(name: str) -> str:
    """Return `name` if torch can compute on this device. Raises InputError otherwise."""
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError and its own, by kind of device
        reason = str(error).partition("\n")[0].strip()
        raise InputError(f"--device {name!r}: not usable here: {reason}") from error
    return name
