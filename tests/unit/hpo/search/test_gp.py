import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gp_spaces import SPACES, WIDE
from support.spaces import PAPER

from hpo.search.coordinates import unit_coordinates
from hpo.search.samplers.points import plan
from hpo.values.space import SearchSpace

POINT = PAPER.point_at(0)


@given(st.sampled_from(SPACES), st.integers(0, 2**32 - 1))
def test_coordinates_lie_in_the_unit_interval(space: SearchSpace, seed: int) -> None:
    at = unit_coordinates(space)
    for point in plan(space, 20, seed):
        assert np.all((at(point) >= -1e-12) & (at(point) <= 1 + 1e-12))


def test_equal_effective_lrs_share_a_coordinate() -> None:
    at = unit_coordinates(PAPER)
    point = {"lr": 1e-2, "batch_size": 32, "momentum": 0.0, "weight_decay": 0.0}
    momentum_point = {"lr": 1e-3, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}
    assert at(point)[0] == pytest.approx(at(momentum_point)[0])
    assert at(point)[2] != at(momentum_point)[2]


def test_constant_parameter_has_no_coordinate() -> None:
    assert len(unit_coordinates(PAPER)(POINT)) == 4
    point = {"lr": 1e-2, "batch_size": 32, "momentum": 0.5, "weight_decay": 0.0}
    assert len(unit_coordinates(WIDE)(point)) == 3


def test_weight_decay_choices_enter_by_rank() -> None:
    at = unit_coordinates(PAPER)
    values = [at({**POINT, "weight_decay": decay})[3] for decay in (0.0, 1e-4, 1e-3, 1e-2)]
    assert values == pytest.approx([0, 1 / 3, 2 / 3, 1])
