"""The training of a transferred network, with the trainer of all other networks."""

import logging
from dataclasses import dataclass, replace

import torch

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.data.splits import Index, hold_out
from hpo.errors import HpoError
from hpo.export.model_spec import ModelSpec
from hpo.training.check import Rehearsal
from hpo.training.columns import DROPOUT
from hpo.training.criteria import criterion_of
from hpo.training.engines.eager import EagerEngine
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Task
from hpo.training.trainer import Trainer
from hpo.training.weights import Tensors
from hpo.transfer.network import TransferNetwork
from hpo.transfer.recipe import TransferRecipe
from hpo.user_code import user_code
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS, EpochResult
from hpo.values.seeds import Purpose
from hpo.values.space import Value

log = logging.getLogger("hpo.transfer")

VALIDATION_SHARE = 0.1
"""Share of the training images of each class that decide which epoch is kept."""

MEMBER = 0
"""The key of the only member of the pack."""


@dataclass(frozen=True, slots=True, eq=False)
class TransferImages:
    """Training images in the form that the network takes: the indices that it is trained on, and the rest."""

    labelled: Labelled
    rows: Index
    held_out: Index

    @classmethod
    def of(cls, labelled: Labelled, seed: int) -> "TransferImages":
        """Hold out a share of each class. Raises SplitError as `hold_out` does."""
        return cls(labelled, *hold_out(labelled.labels, VALIDATION_SHARE, seed))

    def on(self, device: str, spec: ModelSpec) -> tuple[DeviceImages, DeviceImages]:
        """Return training and validation images on a device, with the normalisation of the network."""
        rows, held_out = (
            DeviceImages.from_rows(self.labelled, part, device, spec.mean, spec.std)
            for part in (self.rows, self.held_out)
        )
        return rows, held_out


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights of the kept epoch, and the results of all epochs. `params`: the hyperparameters."""

    weights: Tensors
    epochs: tuple[EpochResult, ...]
    params: dict[str, Value]

    @property
    def kept(self) -> EpochResult:
        """The result of the kept epoch."""
        return self.epochs[self.epochs[-1].kept_epoch - 1]


def train(
    network: TransferNetwork,
    images: TransferImages,
    recipe: TransferRecipe,
    dropout: float | None,
    device: str,
) -> Trained:
    """Train a network and return the weights of the epoch with the least validation loss.

    `dropout`: the rate of all dropout layers, None for the rates of the network. Logs a line for each epoch.
    Raises `HpoError` if the loss is not finite, and as a rehearsal does.
    """
    spec, is_frozen = network.spec, recipe.layers == "last"
    factory = network.build_frozen if is_frozen else network.build
    task = Task(factory, *images.on(device, spec), criterion_of(spec.shape, None, {}))
    _rehearse(spec.name, task)
    params = recipe.params
    if dropout is not None and not is_frozen:
        params[DROPOUT] = dropout
    trainer = Trainer(task, _recipe(recipe, params), EagerEngine())
    with user_code(f"model {spec.name!r} in training", HpoError, spec.name.partition(":")[0]):
        session = trainer.start({MEMBER: Candidate(params, recipe.seed)})
        epochs = tuple(_epochs(session, recipe))
    prefix = "network." if is_frozen else ""
    weights = {
        name.removeprefix(prefix): torch.from_numpy(array) for name, array in session.weights(MEMBER).items()
    }
    return Trained(weights, epochs, params)


def _epochs(session: PackSession, recipe: TransferRecipe) -> list[EpochResult]:
    results = []
    while session.members:
        (result,) = session.epoch()
        if result.status == "diverged":
            raise HpoError(
                f"the loss is not finite in epoch {result.epoch}: "
                f"choose a learning rate below {recipe.learning_rate:g}"
            )
        metrics = result.metrics
        log.info(
            "epoch %d of %d: validation loss %.4f, accuracy %.2f%%",
            result.epoch,
            recipe.epochs,
            metrics[VALIDATION_LOSS],
            100 * metrics[VALIDATION_ACCURACY],
        )
        results.append(result)
    return results


def _recipe(recipe: TransferRecipe, params: dict[str, Value]) -> Recipe:
    budget = Budget("full", (Phase("sgd", recipe.epochs),), keep="best")
    columns = (DROPOUT,) if DROPOUT in params else ()
    return Recipe(budget, recipe.batch_size, Purpose.TRAINING.derive(recipe.seed), columns)


def _rehearse(name: str, task: Task) -> None:
    """Raise `InputError` if the network with its new layers cannot be trained on two of the images."""

    def few(images: DeviceImages, count: int) -> DeviceImages:
        rows = torch.arange(min(count, len(images)), device=images.labels.device)
        return images.subset(rows)

    # Another number of images than in training: the network must take any.
    rehearsed = replace(task, train=few(task.train, 2), validation=few(task.validation, 3))
    Rehearsal(name, rehearsed, EagerEngine()).check()
