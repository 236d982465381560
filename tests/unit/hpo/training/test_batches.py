"""The order of images, which follows from seeds, for members at the same or at different epochs."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.batches import Batch, batches, batches_of_members
from hpo.values.budget import Augmentation, Phase

PLAIN = Phase("sgd", 5)
MOVED = Phase("sgd", 5, augmentation=Augmentation(rotation=10, shift=0.1, scale=(0.9, 1.1), shear=3))


def images(count: int) -> DeviceImages:
    """Each its own label, so that a batch tells what is in it."""
    pixels = np.random.default_rng(0).integers(256, size=(count, 28, 28)).astype(np.uint8)
    labelled = Labelled(pixels, np.arange(count))
    return DeviceImages.from_labelled(labelled, "cpu", (0.3,), (0.3,))


def order(found: Sequence[Batch]) -> list[int]:
    return [label for _, labels in found for label in labels.tolist()]


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(mine, theirs)
        for pair in zip(one, other, strict=True)
        for mine, theirs in zip(*pair, strict=True)
    )


@settings(max_examples=50)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 17),
    seed=st.integers(0, 2**32 - 1),
    phase=st.integers(0, 1),
    epoch=st.integers(0, 100),
)
def test_an_epoch_is_each_image_once_but_for_a_single_last_one(
    count: int, size: int, seed: int, phase: int, epoch: int
) -> None:
    found = list(batches(images(count), size, seed, phase, epoch, PLAIN))
    left_out = count > size > 1 and count % size == 1
    assert len(set(order(found))) == len(order(found)) == count - left_out
    assert all(len(labels) == size for _, labels in found[:-1])
    assert all(pixels.shape == (len(labels), 1, 28, 28) for pixels, labels in found)
    assert all(len(labels) > 1 for _, labels in found) or count == 1 or size == 1


@pytest.mark.parametrize("rule", [PLAIN, MOVED])
def test_an_epoch_begun_again_is_the_same_to_the_bit(rule: Phase) -> None:
    data = images(30)
    first = list(batches(data, 8, 5, 1, 7, rule))
    torch.rand(10)  # whatever else draws
    assert same(first, list(batches(data, 8, 5, 1, 7, rule)))


@pytest.mark.parametrize("other", [(6, 1, 7), (5, 0, 7), (5, 1, 8)])
def test_seed_phase_and_epoch_all_count(other: tuple[int, int, int]) -> None:
    data = images(30)
    assert order(list(batches(data, 8, 5, 1, 7, PLAIN))) != order(list(batches(data, 8, *other, PLAIN)))


def test_augmentation_changes_the_images_and_not_their_order() -> None:
    data = images(30)
    plain, moved = (list(batches(data, 8, 5, 0, 0, rule)) for rule in (PLAIN, MOVED))
    assert order(plain) == order(moved)
    assert not any(torch.equal(one, other) for (one, _), (other, _) in zip(plain, moved, strict=True))


def test_batches_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(batches_of_members(images(30), 8, 5, 0, (0, 1), MOVED))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rule", [PLAIN, MOVED])
def test_members_at_one_epoch_share_their_batches(rule: Phase) -> None:
    data = images(30)
    shared = list(batches_of_members(data, 8, 5, 1, (3, 3, 3), rule))
    assert same(shared, list(batches(data, 8, 5, 1, 3, rule)))
    assert shared[0][0].shape == (8, 1, 28, 28)


@pytest.mark.parametrize("rule", [PLAIN, MOVED])
@settings(max_examples=15)
@given(epochs=st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(lambda e: len(set(e)) > 1))
def test_members_at_different_epochs_each_have_their_own(rule: Phase, epochs: list[int]) -> None:
    data = images(21)
    found = list(batches_of_members(data, 8, 5, 1, epochs, rule))
    assert found[0][0].shape == (len(epochs), 8, 1, 28, 28)
    assert found[0][1].shape == (len(epochs), 8)
    for place, epoch in enumerate(epochs):
        mine = [(pixels[place], labels[place]) for pixels, labels in found]
        assert same(mine, list(batches(data, 8, 5, 1, epoch, rule)))
