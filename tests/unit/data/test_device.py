import numpy as np
import pytest
import torch

from hpo.data.dataset import DataError, Labelled
from hpo.data.device import DeviceImages

MEAN, STD = [0.2], [0.3]


def test_batch_is_normalised_and_follows_the_index(labelled: Labelled) -> None:
    images = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD)
    index = torch.tensor([4, 0, 4, 29])
    batch, labels = images.batch(index)
    assert (batch.shape, batch.dtype) == ((4, 1, 4, 6), torch.float32)
    np.testing.assert_allclose(batch[:, 0], (labelled.images[index] / 255 - 0.2) / 0.3, atol=1e-6)
    np.testing.assert_array_equal(labels, labelled.labels[index])
    assert labels.dtype == torch.int64
    assert len(images) == 30


def test_images_are_stored_as_bytes(labelled: Labelled) -> None:
    images = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD)
    images.batch(torch.arange(30))
    assert images.images.dtype == torch.uint8
    np.testing.assert_array_equal(images.images[:, 0], labelled.images)


def test_batch_in_float64(labelled: Labelled) -> None:
    batch, _ = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD, torch.float64).batch(torch.arange(30))
    assert batch.dtype == torch.float64
    np.testing.assert_allclose(batch[:, 0], (labelled.images / 255 - 0.2) / 0.3, rtol=0, atol=1e-15)


def test_channels_are_normalised_separately() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    images = DeviceImages.from_labelled(Labelled(colour, np.zeros(5, np.int64)), "cpu", mean, std)
    batch, _ = images.batch(torch.arange(5))
    expected = (colour / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(batch, expected, atol=1e-6)


def test_subset_is_indexed_from_zero(labelled: Labelled) -> None:
    images = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD, torch.float64)
    subset = images.subset(torch.tensor([7, 3, 11]))
    assert len(subset) == 3
    for got, expected in zip(
        subset.batch(torch.tensor([2, 0])), images.batch(torch.tensor([11, 7])), strict=True
    ):
        assert torch.equal(got, expected)


def test_rows_on_a_cpu_are_read_from_the_array_itself(labelled: Labelled) -> None:
    rows = np.array([3, 7, 11, 29])
    images = DeviceImages.from_rows(labelled, rows, "cpu", MEAN, STD)
    assert len(images) == 4
    assert np.shares_memory(images.images.numpy(), labelled.images)
    copied = DeviceImages.from_labelled(
        Labelled(labelled.images[rows], labelled.labels[rows]), "cpu", MEAN, STD
    )
    index = torch.tensor([2, 0, 3])
    for part in (images, images.subset(torch.arange(4))):
        for got, expected in zip(part.batch(index), copied.batch(index), strict=True):
            assert torch.equal(got, expected)


def test_rows_on_another_device_are_copied_there(labelled: Labelled) -> None:
    images = DeviceImages.from_rows(labelled, np.array([3, 7]), "meta", MEAN, STD)
    assert images.rows is None
    assert images.images.shape == (2, 1, 4, 6)
    assert images.images.device.type == "meta"


def test_transform_gets_pixels_between_zero_and_one(labelled: Labelled) -> None:
    images = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD)
    seen = []

    def invert(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.clone())
        return 1 - pixels

    batch, _ = images.batch(torch.arange(30), invert)
    np.testing.assert_allclose(seen[0][:, 0], labelled.images / 255, atol=1e-7)
    np.testing.assert_allclose(batch[:, 0], (1 - labelled.images / 255 - 0.2) / 0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [([0.1, 0.2], [0.3]), ([0.1], [0.3, 0.3]), ([0.1], [0.0]), ([], [])]
)
def test_wrong_mean_or_std_is_refused(labelled: Labelled, mean: list[float], std: list[float]) -> None:
    with pytest.raises(DataError, match="1 of each, one per channel, and every std above 0"):
        DeviceImages.from_labelled(labelled, "cpu", mean, std)


def test_numbers_are_standardised_by_feature() -> None:
    table = np.random.default_rng(0).normal(5, 3, (6, 2)).astype(np.float32)
    targets = np.arange(12, dtype=np.float32).reshape(6, 2)
    examples = DeviceImages.from_labelled(Labelled(table, targets), "cpu", (5.0, 4.0), (3.0, 2.0))
    index = torch.tensor([4, 0, 4])
    batch, numbers = examples.batch(index)
    np.testing.assert_allclose(batch, (table[index] - [5, 4]) / [3, 2], rtol=1e-5)
    np.testing.assert_array_equal(numbers, targets[index])
    np.testing.assert_array_equal(examples.images, table)  # a batch changes no array


def test_series_are_standardised_by_channel() -> None:
    series = np.random.default_rng(0).normal(size=(4, 2, 7)).astype(np.float32)
    labelled = Labelled(series, np.arange(4, dtype=np.float32))
    batch, numbers = DeviceImages.from_labelled(labelled, "cpu", (1, 2), (3, 4), torch.float64).batch(
        torch.arange(4)
    )
    np.testing.assert_allclose(batch, (series - [[1], [2]]) / [[3], [4]], rtol=1e-12)
    assert batch.dtype == numbers.dtype == torch.float64
