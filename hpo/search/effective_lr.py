"""How far SGD goes for one example, on which learning rate, momentum and batch size act together."""

import math
from collections.abc import Callable

import numpy as np

from hpo.values.space import Point, SearchSpace

TYPICAL, NEAR = 0.005, 3.0
"""The length of a good step, and the factor that is still near it: where the ten best cells lie of LeNet
(0.0078, in the geometric mean) and of SpinalNet (0.0031), in `benchmarks/tables`."""

DRAWS = 100
"""How often a point is drawn that is to be near."""


def length(point: Point) -> float:
    """lr / ((1 - momentum) batch_size): Smith and Le 2018, arXiv 1710.06451, section 5."""
    return point["lr"] / ((1 - point["momentum"]) * point["batch_size"])


def typical(space: SearchSpace) -> Callable[[np.random.Generator], Point]:
    """Draws points of the space at random, but as a rule such as have a step of about the typical length."""

    def draw(rng: np.random.Generator) -> Point:
        for _ in range(DRAWS):
            point = space.draw(rng)
            if abs(math.log(length(point) / TYPICAL)) <= math.log(NEAR):
                break
        return point

    return draw
