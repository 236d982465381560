"""The plain engine: torch's operators, called one after another."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hpo.training.columns import CLIP
from hpo.training.engines.base import StepInputs
from hpo.training.metrics import Scores
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.clipping import clip
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision


class EagerEngine:
    """Computes by torch's operators, one after another.

    `precision`: the precision of the products and convolutions of training, by torch's autocast. Weights,
    sums, losses and evaluations are always float32. `channels_last`: whether the channels of a pixel are
    adjacent in memory, a layout that the network must support.
    """

    evaluation_batch = 250
    """The fastest size on a CPU. A larger one would cost memory, once per member of a pack."""

    def __init__(self, precision: Precision = "float32", channels_last: bool = False) -> None:
        self.precision, self._channels_last = precision, channels_last

    def prepare(self, batch_size: int, phases: Iterable[Phase], columns: Sequence[str] = ()) -> None:
        """Do nothing: operators need no preparation."""

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        inputs = StepInputs(images, labels, pack.masks_of(images, labels))
        return self._compute(pack, optimizer, max_norm, inputs)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> Scores:
        return pack.score(self._in_layout(images), labels)

    def _compute(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, inputs: StepInputs
    ) -> Tensor:
        """Take one step and return the losses `(M,)`."""
        with self._autocast(inputs.images.device):
            losses, gradients = pack.gradients(self._in_layout(inputs.images), inputs.labels, inputs.masks)
        norms = pack.columns.get(CLIP, max_norm)
        if norms is not None:
            clip(gradients, norms)
        optimizer.step(pack.weights.parameters, gradients)
        return losses

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _in_layout(self, images: Tensor) -> Tensor:
        """Return `images` `(..., B, C, H, W)` in the engine's memory layout."""
        if not self._channels_last:
            return images
        *batches, channels, height, width = images.shape
        strides, size = [1, width * channels, channels], channels * height * width
        for count in reversed(batches):
            strides.insert(0, size)
            size *= count
        # Explicit strides: torch considers images of one channel to have either layout, but convolutions
        # choose their kernels by the strides.
        target = torch.empty_strided(images.shape, strides, dtype=images.dtype, device=images.device)
        return target.copy_(images)
