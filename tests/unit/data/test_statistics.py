import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpo.data.dataset import Labelled
from hpo.data.registry import open_dataset
from hpo.data.statistics import statistics


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=9)), st.sampled_from([1, 3]))
def test_mean_and_std_equal_those_of_floats(grey: np.ndarray, channels: int) -> None:
    images = np.stack([grey * (channel + 1) for channel in range(channels)], axis=1)
    result = statistics(Labelled(images, np.zeros(len(images), np.int64)), ("a", "b"))
    floats = images / 255
    np.testing.assert_allclose(result.mean, floats.mean((0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(result.std, floats.std((0, 2, 3)), atol=1e-12)


def test_counts_are_in_class_order() -> None:
    labelled = Labelled(np.zeros((4, 2, 2), np.uint8), np.array([2, 0, 2, 2]))
    assert list(statistics(labelled, ("z", "y", "x")).counts.items()) == [("z", 1), ("y", 0), ("x", 3)]


def test_pixel_statistics_need_little_memory() -> None:
    labelled = Labelled(np.full((20_000, 28, 28), 7, np.uint8), np.zeros(20_000, np.int64))
    tracemalloc.start()
    result = statistics(labelled, ("a", "b"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labelled.images.nbytes
    assert result.mean == pytest.approx((7 / 255,))
    assert result.std == (0,)


@pytest.mark.emnist
def test_statistics_of_real_emnist_match_the_paper(emnist_root: Path) -> None:
    dataset = open_dataset("emnist-byclass", emnist_root)
    result = statistics(dataset.load_train(), dataset.classes)
    count = sum(result.counts.values())
    if count != 100_000:
        pytest.skip(f"the figures are those of 100,000 training images, and the files hold {count:,}")
    # The paper's mean is 0.1736. Its 0.3248 is the mean of the images' own standard deviations.
    assert result.mean[0] == pytest.approx(0.1736, abs=2e-4)
    assert result.std[0] == pytest.approx(0.3315, abs=2e-4)


@given(arrays(np.float32, (7, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_each_feature_of_a_table_has_its_moments(table: np.ndarray) -> None:
    result = statistics(Labelled(table, np.arange(7, dtype=np.float32)), None)
    exact = table.astype(np.float64)
    assert result.counts == {}
    np.testing.assert_allclose(result.mean, exact.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.std, exact.std(0), rtol=1e-6, atol=1e-6)


def test_each_channel_of_floats_has_its_moments() -> None:
    rng = np.random.default_rng(0)
    series = rng.normal([[1.0], [-3.0]], [[2.0], [0.5]], (3000, 2, 5)).astype(np.float32)
    result = statistics(Labelled(series, np.arange(3000) % 2), ("a", "b"))
    assert result.counts == {"a": 1500, "b": 1500}
    np.testing.assert_allclose(result.mean, series.mean((0, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(result.std, series.std((0, 2), dtype=np.float64), rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1e-44, 3e38, -7])
def test_constant_feature_has_no_spread(value: float) -> None:
    table = np.full((999, 2), value, np.float32)  # a mean of 999 equal numbers may differ in the last digit
    table[:, 1] = np.arange(999)
    assert statistics(Labelled(table, np.arange(999, dtype=np.float32)), None).std[0] == 0
