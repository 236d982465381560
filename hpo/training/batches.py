"""The batches of an epoch, in an order that follows from seeds alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from hpo.data.augment import affine
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import send
from hpo.values.budget import Augmentation
from hpo.values.seeds import Purpose

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class PhaseBatches:
    """The training batches of one phase, given by its index `phase` in the budget, from 0.

    The order and the augmentation of an epoch follow from (`seed`, `phase`, epoch), so repeating an epoch
    needs no stored state.
    """

    images: DeviceImages
    size: int
    seed: int
    phase: int
    augmentation: Augmentation | None

    @property
    def steps(self) -> int:
        """The number of batches of an epoch."""
        whole, rest = divmod(len(self.images), self.size)
        return whole + (rest > 1 or (rest == 1 and not whole))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield normalised images `(B, C, ...)` and labels `(B, ...)` of epoch `epoch` of the phase, from 0.

        Each image comes once. The last batch may be smaller. A last batch of a single image is left out,
        because batch normalisation cannot process it.
        """
        device = self.images.labels.device
        # With one seed, the augmentation would begin with the draws that made the order.
        order_seed = Purpose.EPOCH_ORDER.derive(self.seed, self.phase, epoch)
        augmentation_seed = Purpose.EPOCH_AUGMENTATION.derive(self.seed, self.phase, epoch)
        generator = torch.Generator().manual_seed(order_seed)
        order = send(torch.randperm(len(self.images), generator=generator), device)
        transform = None
        if self.augmentation is not None:
            generator = torch.Generator(device).manual_seed(augmentation_seed)
            transform = partial(affine, augmentation=self.augmentation, generator=generator)
        for number, index in enumerate(torch.split(order, self.size)):
            if number and len(index) == 1 < self.size:
                continue
            yield self.images.batch(index, transform)

    def members(
        self, epochs: Sequence[int], augmentations: Sequence[Augmentation | None] | None = None
    ) -> Iterator[Batch]:
        """Yield the batches of M members, whose epochs in the phase are `epochs`.

        `augmentations`: those of the members, None for that of the phase. All scale the same draws. Members
        with the same epoch and augmentation share one batch. Otherwise each member has its own,
        `(M, B, C, ...)` and `(M, B, ...)`.
        """
        if augmentations is None:
            augmentations = [self.augmentation] * len(epochs)
        keys = list(zip(epochs, augmentations, strict=True))
        distinct = list(dict.fromkeys(keys))
        streams = [replace(self, augmentation=augmentation).epoch(epoch) for epoch, augmentation in distinct]
        if len(streams) == 1:
            yield from streams[0]
            return
        stream_of_member = torch.tensor([distinct.index(key) for key in keys])  # (M,)
        index = send(stream_of_member, self.images.labels.device)
        for parts in zip(*streams, strict=True):
            images, labels = zip(*parts, strict=True)
            yield torch.stack(images).index_select(0, index), torch.stack(labels).index_select(0, index)
