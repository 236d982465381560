"""Intervals over seeds and images, against simulations."""

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.paper.intervals import (
    Hits,
    difference_interval,
    mcnemar,
    mean_interval,
    paired_interval,
)

SEEDS, IMAGES, ROUNDS = 4, 400, 400
RNG = np.random.default_rng(0)


Effects = npt.NDArray[np.float64]


def simulated(shift: float = 0.0, of_images: Effects | None = None, of_seeds: float = 0.1) -> Hits:
    """Draw hits with an effect of the seed, of the image, and noise."""
    effect = RNG.normal(0, 1, IMAGES) if of_images is None else of_images
    scores = effect + RNG.normal(0, of_seeds, (SEEDS, 1)) + RNG.normal(0, 0.5, (SEEDS, IMAGES))
    return np.asarray(scores + 0.8 + shift > 0)


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says() -> None:
    truth = float(np.mean([simulated().mean() for _ in range(2000)]))
    intervals = [mean_interval(simulated()) for _ in range(ROUNDS)]
    assert 0.92 < np.mean([interval.low <= truth <= interval.high for interval in intervals]) < 0.985


def test_interval_of_a_difference_covers_0_for_equal_models() -> None:
    covered = []
    for _ in range(ROUNDS):
        images = RNG.normal(0, 1, IMAGES)
        covered.append(difference_interval(simulated(0, images), simulated(0, images)).is_tie)
    assert 0.92 < np.mean(covered) < 0.99


def test_interval_of_a_difference_on_the_same_images_is_narrow() -> None:
    images = RNG.normal(0, 1, IMAGES)
    a, b = simulated(0.1, images, of_seeds=0.0), simulated(0, images, of_seeds=0.0)
    paired = difference_interval(a, b)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired.half < mean_interval(a).half


def test_single_seed_has_the_interval_of_the_images() -> None:
    hits = np.arange(1000)[None] < 870
    interval = mean_interval(hits)
    assert not interval.has_seeds
    assert interval.half == pytest.approx(1.96 * np.sqrt(0.87 * 0.13 / 1000), rel=0.01)


def test_single_seed_borrows_the_variance_of_another_cell() -> None:
    hits, other = simulated()[:1], simulated()
    interval = mean_interval(hits, [other])
    assert interval.has_seeds
    assert interval.half > mean_interval(hits).half
    assert interval == mean_interval(hits, [other, simulated()[:1]])


def test_several_seeds_borrow_nothing() -> None:
    hits = simulated()
    assert mean_interval(hits, [simulated()]) == mean_interval(hits)


def test_paired_interval_is_that_of_t() -> None:
    interval = paired_interval([0.01, 0.02, 0.03])
    assert interval.value == pytest.approx(0.02)
    assert interval.half == pytest.approx(4.303 * 0.01 / np.sqrt(3), rel=1e-3)
    assert interval.has_seeds
    assert paired_interval([0.01]).is_tie


def test_mcnemar_counts_the_images_that_one_model_alone_has_right() -> None:
    a, b = np.array([True] * 10 + [False] * 90), np.zeros(100, dtype=np.bool_)
    assert mcnemar(a, b) == pytest.approx(2 / 2**10)
    assert mcnemar(a, a) == 1.0
