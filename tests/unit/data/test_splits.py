import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.dataset import DataError, Labelled, SplitError
from hpo.data.registry import open_dataset
from hpo.data.splits import Fractions, Splits, hold_out, split, split_at_random, split_of, tiny_classes

fractions = st.builds(Fractions, mini=st.floats(0.05, 0.5), validation=st.floats(0.05, 0.5))


@st.composite
def labels_with_enough_of_each(draw: st.DrawFn) -> tuple[np.ndarray, Fractions]:
    chosen = draw(fractions)
    extra = draw(st.lists(st.integers(0, 300), min_size=1, max_size=8))
    labels = np.repeat(np.arange(len(extra)), np.array(extra) + chosen.fewest)
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(labels), chosen


def parts(splits: Splits) -> tuple[np.ndarray, ...]:
    return splits.train, splits.mini_train, splits.mini_validation


@given(labels_with_enough_of_each(), st.integers(0, 2**32 - 1))
def test_splits_are_disjoint_complete_and_stratified(case: tuple[np.ndarray, Fractions], seed: int) -> None:
    labels, chosen = case
    splits = split(labels, chosen, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(splits))), np.arange(len(labels)))
    for part in (*parts(splits), splits.mini):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()

    def counts(part: np.ndarray) -> np.ndarray:
        return np.bincount(labels[part], minlength=labels.max() + 1)

    for part in parts(splits):
        assert counts(part).min() >= 1
    # The size of a part is exact, so the count of each class differs from its exact share by less than one.
    for whole, part in ((np.arange(len(labels)), splits.mini), (splits.mini, splits.mini_validation)):
        assert np.abs(counts(part) - counts(whole) * (len(part) / len(whole))).max() < 1 + 1e-9
    assert 0 <= len(splits.mini) - chosen.mini * len(labels) < 1 + 1e-9
    assert 0 <= len(splits.mini_validation) - chosen.validation * len(splits.mini) < 1 + 1e-9
    np.testing.assert_array_equal(
        splits.mini, np.sort(np.concatenate((splits.mini_train, splits.mini_validation)))
    )


@pytest.mark.parametrize(
    ("count", "validation", "way_out"),
    [
        (30, 0.2, "set mini to 0.17 or more, or add images"),
        (49, 0.2, "set mini to 0.11 or more, or add images"),
        (10, 0.2, "set mini to 0.5 or more, or add images"),
        (9, 0.2, "set mini and validation to 0.5, or add images"),
        (4, 0.2, "set mini and validation to 0.5, or add images"),
    ],
)
def test_a_small_class_is_refused_with_the_mini_that_would_do(
    count: int, validation: float, way_out: str
) -> None:
    labels = np.repeat([0, 1], [200, count])
    with pytest.raises(SplitError, match=f"class 1 has {count} images: .*; {way_out}$"):
        split(labels, Fractions(0.1, validation), 0)
    (mini,) = re.findall(r"0\.\d+", way_out)
    chosen = Fractions(float(mini), 0.5 if "validation" in way_out else validation)
    assert all(1 in labels[part] for part in parts(split(labels, chosen, 0)))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_class_that_nothing_can_split_goes_into_full_training(count: int) -> None:
    labels = np.repeat([0, 1, 2], [100, count, 100])
    splits = split(labels, Fractions(), 0)
    assert tiny_classes(labels).tolist() == [1]
    assert np.count_nonzero(labels[splits.train] == 1) == count
    assert set(labels[splits.mini].tolist()) == {0, 2}
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(splits))), np.arange(len(labels)))
    assert (np.diff(splits.train) > 0).all()


def test_images_that_nothing_can_split_are_refused() -> None:
    with pytest.raises(SplitError, match="no class has 4 images, the least that can be split"):
        split(np.repeat([0, 1], [3, 2]), Fractions(), 0)


def test_split_follows_from_the_seed() -> None:
    labels = np.arange(1000) % 5
    first, again, other = (split(labels, Fractions(), seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, parts(first), parts(again)))
    assert not any(map(np.array_equal, parts(first), parts(other)))


def test_split_sizes_of_the_paper() -> None:
    labels = np.random.default_rng(0).integers(0, 62, 100_000)
    splits = split(labels, Fractions(), 0)
    assert [len(part) for part in parts(splits)] == [90_000, 8_000, 2_000]


@pytest.mark.emnist
def test_split_shares_of_the_paper_on_real_labels(emnist_root: Path) -> None:
    labels = open_dataset("emnist-byclass", emnist_root).load_train().labels
    splits = split(labels, Fractions(), 0)
    shares = [len(part) / len(labels) for part in parts(splits)]
    assert shares == pytest.approx([0.9, 0.08, 0.02], abs=1e-5)


def test_too_small_class_is_named_with_the_rule() -> None:
    assert Fractions().fewest == 50
    labels = np.repeat([0, 3, 5], [80, 49, 60])
    with pytest.raises(DataError) as error:
        split(labels, Fractions(), 0)
    assert str(error.value) == (
        "class 3 has 49 images: with mini = 0.1 and validation = 0.2 "
        "each class needs 50, one for every part; set mini to 0.11 or more, or add images"
    )
    split(np.repeat([0, 3, 5], [80, 50, 60]), Fractions(), 0)


@pytest.mark.parametrize("value", [0, -0.1, 0.51, 1, float("nan")])
def test_fraction_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=f"mini = {value}: .* above 0 and at most 0.5"):
        Fractions(mini=value)
    with pytest.raises(DataError, match=f"validation = {value}: .* above 0 and at most 0.5"):
        Fractions(validation=value)


@given(fractions, st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_random_splits_are_disjoint_and_complete(chosen: Fractions, extra: int, seed: int) -> None:
    count = 2 * chosen.fewest + extra
    splits = split_at_random(count, chosen, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(splits))), np.arange(count))
    for part in parts(splits):
        assert len(part) >= 2
        assert (np.diff(part) > 0).all()
    for part, other in zip(parts(splits), parts(split_at_random(count, chosen, seed)), strict=True):
        np.testing.assert_array_equal(part, other)


def test_too_few_numbers_are_refused() -> None:
    message = (
        "the training part has 99 examples: with mini = 0.1 and validation = 0.2 it needs 100; "
        "set mini to 0.11 or more, or add examples"
    )
    with pytest.raises(SplitError, match=f"^{re.escape(message)}$"):
        split_at_random(99, Fractions(), 0)
    split_at_random(100, Fractions(), 0)


def test_numbers_are_split_at_random_and_classes_by_label() -> None:
    inputs, labels = np.zeros((200, 3), np.float32), np.arange(200) % 2
    by_label = split_of(Labelled(inputs, labels), Fractions(), 1)
    for part, expected in zip(parts(by_label), parts(split(labels, Fractions(), 1)), strict=True):
        np.testing.assert_array_equal(part, expected)
    at_random = split_of(Labelled(inputs, labels.astype(np.float32)), Fractions(), 1)
    for part, expected in zip(parts(at_random), parts(split_at_random(200, Fractions(), 1)), strict=True):
        np.testing.assert_array_equal(part, expected)
    with pytest.raises(SplitError, match=r"class 0 has 20 examples: .* or add examples$"):
        split_of(Labelled(inputs[:40], labels[:40]), Fractions(), 1)


def test_hold_out_takes_a_share_of_each_class_and_at_least_one_example() -> None:
    labels = np.repeat([0, 1, 2, 3], [100, 9, 2, 1])
    rest, held_out = hold_out(labels, 0.1, seed=0)
    assert np.bincount(labels[held_out], minlength=4).tolist() == [10, 1, 1, 0]
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held_out) > 0).all()


def test_hold_out_follows_from_the_seed() -> None:
    labels = np.arange(100) % 2
    first, same, other = (hold_out(labels, 0.1, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_hold_out_without_a_class_of_two_examples_is_refused() -> None:
    with pytest.raises(SplitError, match="no class has 2 examples"):
        hold_out(np.arange(3), 0.1, seed=0)
