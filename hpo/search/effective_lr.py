"""The effective learning rate: how learning rate, momentum and batch size act together in SGD."""

import math

import numpy as np

from hpo.values.space import Point, SearchSpace

TYPICAL, NEAR = 0.005, 3.0
"""A typical good effective learning rate, and the factor within which a value counts as near to it. The
geometric mean over the ten best cells is 0.0078 for LeNet and 0.0031 for SpinalNet (`benchmarks/tables`)."""

MAX_DRAWS = 100
"""Draws of one point after which a point far from `TYPICAL` is accepted."""


def effective_lr(point: Point) -> float:
    """Return lr / ((1 - momentum) batch_size): Smith and Le 2018, arXiv 1710.06451, section 5."""
    return point["lr"] / ((1 - point["momentum"]) * point["batch_size"])


def draw_typical(space: SearchSpace, rng: np.random.Generator) -> Point:
    """Draw a random point of the space whose effective learning rate is near `TYPICAL`, if one turns up."""
    for _ in range(MAX_DRAWS):
        point = space.draw(rng)
        if abs(math.log(effective_lr(point) / TYPICAL)) <= math.log(NEAR):
            break
    return point
