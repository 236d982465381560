"""The batches of an epoch, in an order that follows from seeds alone, for members at the same or at different
epochs."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from hpo.data.augment import affine
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import sent
from hpo.values.budget import Phase
from hpo.values.seeds import derive_seed

Batch = tuple[Tensor, Tensor]


def batches(
    images: DeviceImages, size: int, seed: int, phase: int, epoch: int, rule: Phase
) -> Iterator[Batch]:
    """Normalised images `(B, C, H, W)` and labels `(B,)` of epoch `epoch` of phase `phase`, both from 0.

    Each image once, in an order and under an augmentation that follow from (`seed`, `phase`, `epoch`): so an
    epoch needs no state to be begun again. The last, smaller batch comes too, unless it is a single image,
    which batch normalisation cannot take.
    """
    device = images.labels.device
    # Two seeds: from one, the augmentation would begin with the draws that made the order.
    order_seed, augmentation_seed = (derive_seed(seed, phase, epoch, purpose) for purpose in range(2))
    order = sent(torch.randperm(len(images), generator=torch.Generator().manual_seed(order_seed)), device)
    transform = None
    if rule.augmentation is not None:
        generator = torch.Generator(device).manual_seed(augmentation_seed)
        transform = partial(affine, augmentation=rule.augmentation, generator=generator)
    for place, index in enumerate(torch.split(order, size)):
        if place and len(index) == 1 < size:
            continue
        yield images.batch(index, transform)


def batches_of_members(
    images: DeviceImages, size: int, seed: int, phase: int, epochs: Sequence[int], rule: Phase
) -> Iterator[Batch]:
    """The same for members at these `epochs` of a phase.

    One batch for all where all are at the same epoch, otherwise one for each: `(M, B, C, H, W)` and `(M, B)`.
    """
    distinct = sorted(set(epochs))
    streams = [batches(images, size, seed, phase, epoch, rule) for epoch in distinct]
    if len(streams) == 1:
        yield from streams[0]
        return
    which = sent(torch.tensor([distinct.index(epoch) for epoch in epochs]), images.labels.device)  # (M,)
    for parts in zip(*streams, strict=True):
        pixels, labels = zip(*parts, strict=True)
        yield torch.stack(pixels).index_select(0, which), torch.stack(labels).index_select(0, which)
