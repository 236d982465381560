import numpy as np
import pytest

from hpo.search import effective_lr
from hpo.search.samplers.random import first_points, plan
from hpo.values.space import Choices, Point, Range, SearchSpace, cell

PAPER = SearchSpace(
    {
        "lr": Choices((1e-3, 1e-2, 1e-1)),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)
WIDE = SearchSpace({**PAPER.domains, "lr": Range(1e-4, 1.0, log=True)})
SMALL = SearchSpace({**PAPER.domains, "lr": Choices((1e-6,))})


def is_typical(point: Point) -> bool:
    return (
        effective_lr.TYPICAL / effective_lr.NEAR
        <= effective_lr.length(point)
        <= effective_lr.TYPICAL * effective_lr.NEAR
    )


def test_the_length_of_a_step() -> None:
    point = {"lr": 0.1, "batch_size": 32, "momentum": 0.75, "weight_decay": 0.0}
    assert effective_lr.length(point) == pytest.approx(0.0125)


@pytest.mark.parametrize("space", [PAPER, WIDE])
def test_a_process_begins_with_typical_steps(space: SearchSpace) -> None:
    points = first_points(space, "gp", 12, 3)
    assert all(map(is_typical, points))
    assert len({effective_lr.length(point) for point in points}) > 4
    assert len({cell(point) for point in points}) == 12
    assert first_points(space, "gp", 20, 3)[:12] == points


def test_where_no_step_is_typical_points_are_random() -> None:
    rng = np.random.default_rng(0)
    assert effective_lr.typical(SMALL)(rng) in SMALL
    cells = {cell(point) for point in first_points(SMALL, "gp", 100, 3)}
    assert len(cells) == SMALL.cells == 24


def test_once_the_typical_ones_are_taken_others_come() -> None:
    points = first_points(PAPER, "gp", 100, 0)
    assert len({cell(point) for point in points}) == PAPER.cells == 72
    assert {cell(point) for point in points[:10]} <= {cell(point) for point in filter(is_typical, points)}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_others_begin_with_the_random_plan(sampler: str) -> None:
    assert first_points(PAPER, sampler, 12, 3) == plan(PAPER, 12, 3)
