import math
from dataclasses import replace

import numpy as np
import pytest

from hpo.search.effective_lr import NEAR, TYPICAL, draw_typical, effective_lr
from hpo.values.free import FREE
from hpo.values.space import Choices, Range, SearchSpace

SPACE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)


def test_effective_lr_of_a_point() -> None:
    point = {"lr": 0.1, "batch_size": 32, "momentum": 0.75, "weight_decay": 0.0}
    assert effective_lr(SPACE, point) == pytest.approx(0.0125)


@pytest.mark.parametrize("lr", [5e-324, 1.7e308])
def test_effective_lr_has_a_logarithm(lr: float) -> None:
    rate = effective_lr(SPACE, {"lr": lr, "batch_size": 2, "momentum": 0.999})
    assert rate is not None
    assert math.isfinite(math.log(rate))


def test_free_parameters_have_no_effective_lr() -> None:
    space = replace(SPACE, vocabulary=FREE)
    point = {"lr": 0.1, "batch_size": 32, "momentum": 0.75, "weight_decay": 0.0}
    assert effective_lr(space, point) is None
    assert draw_typical(space, np.random.default_rng(3)) == space.draw(np.random.default_rng(3))


def test_drawn_points_have_a_typical_effective_lr() -> None:
    rng = np.random.default_rng(0)
    points = [draw_typical(SPACE, rng) for _ in range(20)]
    assert all(point in SPACE for point in points)
    assert all(TYPICAL / NEAR <= (effective_lr(SPACE, point) or 0) <= TYPICAL * NEAR for point in points)


def test_draw_gives_up_where_no_point_is_typical() -> None:
    space = SearchSpace({**SPACE.domains, "lr": Choices((1e-6,))})
    assert draw_typical(space, np.random.default_rng(0)) in space
