"""Search spaces for tests of samplers."""

from collections.abc import Sequence

from hypothesis import strategies as st

from hpo.values.space import Cell, Choices, Point, Range, SearchSpace, cell

PAPER = SearchSpace(
    {
        "lr": Choices((1e-3, 1e-2, 1e-1)),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-2, 1e-3, 1e-4)),
    }
)
SMALL = SearchSpace(
    {
        "lr": Choices((0.01, 0.1)),
        "batch_size": Range(16, 64, step=16, integer=True),
        "momentum": Range(0.1, 0.3, step=0.1),
        "weight_decay": Choices((0.0,)),
    }
)
"""A finite space of 24 cells."""

WIDE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Choices((16, 32)),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)
SPACES = [PAPER, SMALL, WIDE]
CELLS = {cell(SMALL.point_at(index)) for index in range(24)}
SEED = st.integers(0, 2**32 - 1)


def cells(points: Sequence[Point]) -> set[Cell]:
    return {cell(point) for point in points}
