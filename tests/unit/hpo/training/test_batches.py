"""The order of images follows from seeds, for members at the same or at different epochs."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.batches import Batch, PhaseBatches
from hpo.values.budget import Augmentation

MOVED = Augmentation(rotation=10, shift=0.1, scale=(0.9, 1.1), shear=3)


def images(count: int) -> DeviceImages:
    """Return images that are each its own label, so that labels identify images."""
    pixels = np.random.default_rng(0).integers(256, size=(count, 28, 28)).astype(np.uint8)
    labelled = Labelled(pixels, np.arange(count))
    return DeviceImages.from_labelled(labelled, "cpu", (0.3,), (0.3,))


def phase_batches(
    count: int = 30, size: int = 8, seed: int = 5, phase: int = 1, augmentation: Augmentation | None = None
) -> PhaseBatches:
    return PhaseBatches(images(count), size, seed, phase, augmentation)


def order(batches: Sequence[Batch]) -> list[int]:
    return [label for _, labels in batches for label in labels.tolist()]


def are_equal(batches: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(batches) == len(others) and all(
        torch.equal(tensor, other)
        for pair in zip(batches, others, strict=True)
        for tensor, other in zip(*pair, strict=True)
    )


@settings(max_examples=50)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 17),
    seed=st.integers(0, 2**32 - 1),
    phase=st.integers(0, 1),
    epoch=st.integers(0, 100),
)
def test_an_epoch_has_each_image_once_except_a_single_last_one(
    count: int, size: int, seed: int, phase: int, epoch: int
) -> None:
    batches = list(phase_batches(count, size, seed, phase).epoch(epoch))
    left_out = count > size > 1 and count % size == 1
    assert len(set(order(batches))) == len(order(batches)) == count - left_out
    assert phase_batches(count, size, seed, phase).steps == len(batches)
    assert all(len(labels) == size for _, labels in batches[:-1])
    assert all(pixels.shape == (len(labels), 1, 28, 28) for pixels, labels in batches)
    assert all(len(labels) > 1 for _, labels in batches) or count == 1 or size == 1


@pytest.mark.parametrize("augmentation", [None, MOVED])
def test_an_epoch_begun_again_is_the_same_to_the_bit(augmentation: Augmentation | None) -> None:
    source = phase_batches(augmentation=augmentation)
    first = list(source.epoch(7))
    torch.rand(10)  # other code draws meanwhile
    assert are_equal(first, list(source.epoch(7)))


@pytest.mark.parametrize(("seed", "phase", "epoch"), [(6, 1, 7), (5, 0, 7), (5, 1, 8)])
def test_the_order_depends_on_seed_phase_and_epoch(seed: int, phase: int, epoch: int) -> None:
    other = order(list(phase_batches(seed=seed, phase=phase).epoch(epoch)))
    assert order(list(phase_batches(seed=5, phase=1).epoch(7))) != other


def test_augmentation_changes_the_images_but_not_their_order() -> None:
    plain, moved = (list(phase_batches(augmentation=value).epoch(0)) for value in (None, MOVED))
    assert order(plain) == order(moved)
    assert not any(torch.equal(image, other) for (image, _), (other, _) in zip(plain, moved, strict=True))


def test_batches_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(phase_batches(augmentation=MOVED).members((0, 1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augmentation", [None, MOVED])
def test_members_at_the_same_epoch_share_their_batches(augmentation: Augmentation | None) -> None:
    source = phase_batches(augmentation=augmentation)
    shared = list(source.members((3, 3, 3)))
    assert are_equal(shared, list(source.epoch(3)))
    assert shared[0][0].shape == (8, 1, 28, 28)


@pytest.mark.parametrize("augmentation", [None, MOVED])
@settings(max_examples=15)
@given(epochs=st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(lambda e: len(set(e)) > 1))
def test_members_at_different_epochs_have_their_own_batches(
    augmentation: Augmentation | None, epochs: list[int]
) -> None:
    source = phase_batches(21, augmentation=augmentation)
    batches = list(source.members(epochs))
    assert batches[0][0].shape == (len(epochs), 8, 1, 28, 28)
    assert batches[0][1].shape == (len(epochs), 8)
    for index, epoch in enumerate(epochs):
        own = [(pixels[index], labels[index]) for pixels, labels in batches]
        assert are_equal(own, list(source.epoch(epoch)))


@settings(max_examples=15)
@given(
    members=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([None, MOVED, Augmentation(20), Augmentation()])),
        min_size=2,
        max_size=5,
    )
)
def test_members_with_strengths_of_their_own_have_the_images_of_a_pack_of_one(
    members: list[tuple[int, Augmentation | None]],
) -> None:
    source = phase_batches(21, augmentation=MOVED)
    epochs, augmentations = zip(*members, strict=True)
    batches = list(source.members(epochs, augmentations))
    for index, (epoch, augmentation) in enumerate(members):
        is_shared = batches[0][1].ndim == 1
        assert is_shared == (len(set(members)) == 1)
        own = [
            (pixels, labels) if is_shared else (pixels[index], labels[index]) for pixels, labels in batches
        ]
        assert are_equal(own, list(phase_batches(21, augmentation=augmentation).epoch(epoch)))


def test_strengths_scale_the_same_draws() -> None:
    """Under other strengths of shift, shear and scale, an image is rotated by the same angle."""
    first, second = (
        list(phase_batches(augmentation=augmentation).epoch(0))
        for augmentation in (Augmentation(rotation=20), Augmentation(20, 1e-6, (1 - 1e-6, 1 + 1e-6), 1e-6))
    )
    for (pixels, _), (others, _) in zip(first, second, strict=True):
        torch.testing.assert_close(pixels, others, rtol=0, atol=1e-2)
