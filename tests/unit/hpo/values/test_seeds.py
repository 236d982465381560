"""Derived seeds never change: the trials of stored studies depend on them."""

import pytest

from hpo.values.seeds import Purpose

STORED = [
    (Purpose.SEARCH_WEIGHTS, (3,), 31412511),
    (Purpose.FULL_WEIGHTS, (3,), 3770105153),
    (Purpose.SUGGESTION, (3,), 4041512849),
    (Purpose.TRAINING, (), 3842200183),
    (Purpose.FORK_PLAN, (3,), 2851940013),
    (Purpose.TABLE_TRAINING, (3,), 3453020843),
    (Purpose.TABLE_WEIGHTS, (3, 4), 2729184891),
    (Purpose.EPOCH_ORDER, (0, 1), 2890343484),
    (Purpose.EPOCH_AUGMENTATION, (0, 1), 1784009791),
    (Purpose.EPOCH_GENERATORS, (0, 1), 2074486755),
    (Purpose.DROPOUT, (0, 1), 1834709978),
]


@pytest.mark.parametrize(("purpose", "indices", "seed"), STORED)
def test_derived_seeds_are_those_of_stored_studies(
    purpose: Purpose, indices: tuple[int, ...], seed: int
) -> None:
    assert purpose.derive(7, *indices) == seed


def test_each_purpose_is_held_to_its_stored_seed() -> None:
    assert {purpose for purpose, _, _ in STORED} == set(Purpose)
