from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna._transform import _SearchSpaceTransform

from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.unit_interval import place_of, value_at
from hpo.values.space import Choices, Range, SearchSpace

RANGES = [
    Range(0.0, 0.95),
    Range(1e-5, 1.0, log=True),
    Range(0.1, 0.9, step=0.1),
    Range(16, 64, integer=True),
    Range(16, 64, step=16, integer=True),
    Range(1, 4096, log=True, integer=True),
]
PLACE = st.floats(0, 1, exclude_max=True)


def transform(domain: Range) -> Any:
    return _SearchSpaceTransform(distributions(SearchSpace({"x": domain})), transform_0_1=True)


@given(st.sampled_from(RANGES), PLACE)
def test_ranges_are_transformed_as_in_optuna(domain: Range, place: float) -> None:
    if domain.size is not None and not domain.log:
        # Optuna rounds to even between two values of a grid.
        assume(abs(place * domain.size - round(place * domain.size)) > 1e-8)
    value = value_at(domain, place)
    expected = transform(domain).untransform(np.array([place]))["x"]
    assert value == pytest.approx(expected, rel=1e-12)
    assert value in domain
    assert place_of(domain, value) == pytest.approx(transform(domain).transform({"x": value})[0], abs=1e-12)


@given(st.sampled_from([*RANGES, Choices((0.1, 1, 5)), Choices(("a", "b"))]), PLACE)
def test_value_lies_where_it_says(domain: Range | Choices, place: float) -> None:
    value = value_at(domain, place)
    assert value_at(domain, place_of(domain, value)) == pytest.approx(value)


@pytest.mark.parametrize("domain", [*RANGES, Choices((3, 1, 2))])
def test_ends_are_values(domain: Range | Choices) -> None:
    first, last = (
        (domain.values[0], domain.values[-1]) if isinstance(domain, Choices) else (domain.low, domain.high)
    )
    assert value_at(domain, 0.0) == pytest.approx(first)
    assert value_at(domain, 1.0) == pytest.approx(last)


def test_values_of_a_grid_have_the_same_share() -> None:
    values = [value_at(Range(0.1, 0.3, step=0.1), (index + 0.5) / 300) for index in range(300)]
    assert [values.count(value) for value in (0.1, 0.2, 0.1 + 2 * 0.1)][:2] == [100, 100]
    assert value_at(Range(5, 5, integer=True), 0.7) == 5
    assert place_of(Range(2.0, 2.0), 2.0) == 0.5
