"""Passes of a pack over images: an epoch of training, a step at a time, and an evaluation."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hpo.data.device import DeviceImages
from hpo.training.batches import Batch
from hpo.training.engines.eager import Engine
from hpo.training.optimizers import Optimizer
from hpo.training.pack import Pack


class TrainingPass:
    """A pass over `batches` that may be taken in parts.

    `largest`: the largest norm of a member's gradient. `seed`: of what networks draw from torch's generators
    themselves; these are left as they were.
    """

    def __init__(
        self,
        engine: Engine,
        pack: Pack,
        optimizer: Optimizer,
        largest: float | None,
        batches: Iterator[Batch],
        seed: int,
    ) -> None:
        self._engine, self._pack, self._optimizer, self._largest = engine, pack, optimizer, largest
        self._batches, self._seed = batches, seed
        device = pack.weights.parameters.device
        self._sums = torch.zeros(len(pack), dtype=torch.float64, device=device)  # (M,)
        self._seen = 0
        self._devices = [device] if device.type == "cuda" else []
        self._generators: list[Tensor] = []  # their states, once a part of the pass is over

    def run(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Takes the steps that are left, those before it is `enough`. Does not wait for the device."""
        with torch.random.fork_rng(self._devices):
            self._seed_generators()
            while not enough() and (batch := next(self._batches, None)) is not None:
                losses = self._engine.step(self._pack, self._optimizer, self._largest, *batch)
                count = batch[1].shape[-1]
                self._sums += losses * count
                self._seen += count
            self._generators = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def losses(self) -> Tensor:
        """The mean loss per example of each member `(M,)`, in float64, of the steps so far."""
        return self._sums / self._seen

    def _seed_generators(self) -> None:
        if not self._generators:
            torch.manual_seed(self._seed)
            return
        torch.set_rng_state(self._generators[0])
        for device, state in zip(self._devices, self._generators[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


def validate(engine: Engine, pack: Pack, images: DeviceImages) -> Tensor:
    """Mean loss per example and accuracy of each member, `(2, M)` float64. Does not wait for the device."""
    device = images.labels.device
    scores = torch.zeros(2, len(pack), dtype=torch.float64, device=device)
    for index in torch.split(torch.arange(len(images), device=device), engine.evaluation_batch):
        scores += torch.stack(engine.score(pack, *images.batch(index)))
    return scores / len(images)
