"""The effective learning rate: how learning rate, momentum and batch size act together in SGD."""

import math
import sys

import numpy as np

from hpo.values.space import Point, SearchSpace

NAMES = ("lr", "momentum", "batch_size")

TYPICAL, NEAR = 0.005, 3.0
"""A typical good effective learning rate, and the factor within which a value counts as near to it. The
geometric mean over the ten best cells is 0.0078 for LeNet and 0.0031 for SpinalNet (`benchmarks/tables`)."""

MAX_DRAWS = 100
"""Draws of one point after which a point far from `TYPICAL` is accepted."""


def effective_lr(space: SearchSpace, point: Point) -> float | None:
    """Return lr / ((1 - momentum) batch_size): Smith and Le 2018, arXiv 1710.06451, section 5.

    None where one of the three parameters does not apply, and in a space that does not know what they mean. A
    parameter that the point leaves out has its default.
    """
    if not space.knows(*NAMES):
        return None
    params = point if all(name in point for name in NAMES) else space.with_defaults(point)
    if not all(name in params for name in NAMES):
        return None
    lr, momentum, batch_size = (float(params[name]) for name in NAMES)
    rate = lr / ((1 - momentum) * batch_size)
    return min(max(rate, sys.float_info.min), sys.float_info.max)  # users of the rate take its logarithm


def draw_typical(space: SearchSpace, rng: np.random.Generator) -> Point:
    """Draw a random point of the space whose effective learning rate is near `TYPICAL`, if one turns up.

    A point without an effective learning rate is random.
    """
    last: Point | None = None
    for _ in range(MAX_DRAWS):
        if (point := space.draw_once(rng)) is None:
            continue
        rate = effective_lr(space, point)
        if rate is None or abs(math.log(rate / TYPICAL)) <= math.log(NEAR):
            return point
        last = point
    return space.draw(rng) if last is None else last
