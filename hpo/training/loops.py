"""The loops over the images: one epoch of training, and one evaluation."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hpo.data.device import DeviceImages
from hpo.training.batches import Batch
from hpo.training.engines.base import Engine
from hpo.training.metrics import Scores
from hpo.training.pack import Pack

Step = Callable[[Tensor, Tensor], Tensor]
"""Trains all members on images and labels, and returns their losses `(M,)`."""


class TrainingLoop:
    """One epoch of training over `batches`, which may be run in parts.

    `seed`: seeds torch's global generators, for networks that draw from them directly. The generators are
    restored after each part.
    """

    def __init__(self, step: Step, pack: Pack, batches: Iterator[Batch], seed: int) -> None:
        self._step, self._batches, self._seed = step, batches, seed
        self._batch_axis = -1 - pack.criterion.target_axes
        device = pack.weights.parameters.device
        self._sums = torch.zeros(len(pack), dtype=torch.float64, device=device)  # (M,)
        self._examples = 0
        self._devices = [device] if device.type == "cuda" else []
        self._generator_states: list[Tensor] = []  # empty before the first part

    def run(self, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Take the remaining steps, until `is_enough()` before a step. Does not wait for the device."""
        with torch.random.fork_rng(self._devices):
            self._seed_generators()
            while not is_enough() and (batch := next(self._batches, None)) is not None:
                losses = self._step(*batch)
                examples = batch[1].shape[self._batch_axis]
                self._sums += losses * examples
                self._examples += examples
            self._generator_states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def losses(self) -> Tensor:
        """Return each member's mean loss per example `(M,)` float64 over the steps so far."""
        return self._sums / self._examples

    def _seed_generators(self) -> None:
        if not self._generator_states:
            torch.manual_seed(self._seed)
            return
        torch.set_rng_state(self._generator_states[0])
        for device, state in zip(self._devices, self._generator_states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


def evaluate(engine: Engine, pack: Pack, images: DeviceImages) -> Tensor:
    """Return the metrics of the pack's criterion on `images`, `(metrics, M)` float64.

    Does not wait for the device.
    """
    device = images.labels.device
    sums = torch.zeros(2, len(pack), dtype=torch.float64, device=device)
    predictions = []
    for index in torch.split(torch.arange(len(images), device=device), engine.evaluation_batch):
        scores = engine.score(pack, *images.batch(index))
        sums += torch.stack([scores.losses, scores.squares])
        predictions.append(scores.predictions)
    losses, squares = sums
    whole = Scores(losses, squares, torch.cat(predictions, dim=1))
    return pack.criterion.metrics(whole, images.labels)
