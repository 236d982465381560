"""The arguments of a trainer: the task, the recipe and the runtime."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import AsyncEvaluator
from hpo.training.criterion import Criterion
from hpo.training.networks import Factory
from hpo.training.pack import Pack
from hpo.values.budget import Budget
from hpo.values.objective import LOSS, Objective


@dataclass(frozen=True, slots=True)
class Task:
    """A network, the images it is trained and validated on, and what it is trained for.

    All images are on one device. `vectorised`: whether `vmap` computes the members of a pack, as in
    `Pack`.
    """

    factory: Factory
    train: DeviceImages
    validation: DeviceImages
    criterion: Criterion
    vectorised: bool | None = None

    @property
    def device(self) -> torch.device:
        return self.train.labels.device

    def balanced_weights(self) -> Tensor:
        """Return the balanced class weights of the training images, `(classes,)`."""
        return self.criterion.balanced_weights(self.train.labels)

    def new_pack(self, seeds: Sequence[int]) -> Pack:
        """Return a pack of new networks, one for each seed, on the device of the images."""
        pack = Pack(self.factory, seeds, self.device, self.train.mean.dtype, self.vectorised)
        pack.criterion = self.criterion
        return pack


@dataclass(frozen=True, slots=True)
class Recipe:
    """How packs of one batch size are trained.

    `seed` fixes the order of the images and their augmentation in each epoch of each phase, whatever the
    pack. `columns`: the columns in use, which are the parameters that the study's space names and that have a
    value for each member of a pack. `objective` decides which epoch is the best.
    """

    budget: Budget
    batch_size: int
    seed: int
    columns: tuple[str, ...] = ()
    objective: Objective = LOSS


@dataclass(frozen=True, slots=True)
class Runtime:
    """The surroundings of a training.

    `clock` returns seconds. `interruptible` is entered around code in which an exception may be raised at any
    moment, such as by a signal handler. With an `evaluator`, an epoch is evaluated while the next one is
    trained.
    """

    clock: Callable[[], float] = time.perf_counter
    interruptible: Callable[[], AbstractContextManager[object]] = nullcontext
    evaluator: AsyncEvaluator | None = None
