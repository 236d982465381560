"""How the members of a pack take a step and are evaluated: the plain engine, torch's operators."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hpo.training.dropout import Masks
from hpo.training.optimizers import Optimizer, clip
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision


class Engine:
    """Torch's operators, one after another.

    `precision`: of the products and convolutions of training, by torch's autocast; weights, sums, losses and
    evaluations are float32 in any case. `channels_last`: the channels of a pixel lie together in memory,
    which a network has to bear.
    """

    evaluation_batch = 250
    """Images at once: the fastest on a CPU, and more would cost memory, once for each member of a pack."""

    def __init__(self, precision: Precision = "float32", channels_last: bool = False) -> None:
        self._precision, self._channels_last = precision, channels_last

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        """Makes ready for training. May take a minute the first time."""

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        """One step of all members; their losses `(M,)`. Images and labels as for `Pack.gradients`; `largest`
        is the largest norm of a member's gradient."""
        return self._compute(pack, optimizer, largest, images, labels, pack.masks_of(images, labels))

    def _compute(
        self,
        pack: Pack,
        optimizer: Optimizer,
        largest: float | None,
        images: Tensor,
        labels: Tensor,
        masks: Masks,
    ) -> Tensor:
        with self._cast(images.device):
            losses, gradients = pack.gradients(self._laid_out(images), labels, masks)
        if largest is not None:
            clip(gradients, largest)
        optimizer.step(pack.weights.parameters, gradients)
        return losses

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `Pack.score`."""
        return pack.score(self._laid_out(images), labels)

    def _cast(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bfloat16")

    def _laid_out(self, images: Tensor) -> Tensor:
        """`images` `(..., B, C, H, W)`."""
        if not self._channels_last:
            return images
        *batches, channels, height, width = images.shape
        strides, size = [1, width * channels, channels], channels * height * width
        for count in reversed(batches):
            strides.insert(0, size)
            size *= count
        # Spelt out, for torch takes images of one channel for either layout, and convolutions go by strides.
        last = torch.empty_strided(images.shape, strides, dtype=images.dtype, device=images.device)
        return last.copy_(images)
