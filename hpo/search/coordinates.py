"""Coordinates of the points of a search space for a Gaussian process."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.values.parameters import default_of, domain_of
from hpo.values.space import Choices, Domain, Point, SearchSpace, Value

NAMES = ("lr", "batch_size", "momentum")
"""The parameters of the effective learning rate."""

MIDDLE = 0.5
"""The coordinate of a parameter that does not apply."""

Params = Mapping[str, Any]
Scale = Callable[[Any], float]
"""Maps a value to a number that a Gaussian process may interpolate."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """The coordinate of one parameter."""

    name: str
    scale: Scale
    low: float
    high: float

    def __call__(self, params: Params) -> float:
        if self.name not in params:
            return MIDDLE
        return (self.scale(params[self.name]) - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class _RateAxis:
    """The coordinate of the effective learning rate, or of the learning rate where there is none."""

    space: SearchSpace
    effective: tuple[float, float]
    plain: tuple[float, float]

    def __call__(self, params: Params) -> float:
        if not all(name in params for name in NAMES):
            params = self.space.with_defaults(params)
        has_effective = "momentum" in params and "batch_size" in params
        low, high = self.effective if has_effective else self.plain
        value = _log_effective(params) if has_effective else math.log(float(params["lr"]))
        return (value - low) / (high - low) if high > low else MIDDLE


def unit_coordinates(space: SearchSpace) -> Callable[[Point], NDArray[np.float64]]:
    """Return the map from points to coordinates in [0, 1].

    The coordinates are the logarithms of the effective learning rate (`hpo.search.effective_lr`), of the
    batch size and of 1 / (1 - momentum), and one for each other parameter. Where the effective learning rate
    does not apply, the learning rate takes its place. Free parameters have a coordinate each, whatever their
    names. A number in a list of choices enters by rank. A text enters by its place among two choices, and
    with one coordinate for each of more than two. Constant coordinates are left out.
    """
    has_rate = space.knows(*NAMES)
    axes: list[Callable[[Params], float]] = [*(_rate_axes(space) if has_rate else ())]
    for name in space.vocabulary.in_order(space.domains):
        if not (has_rate and name == "lr"):
            scale = _KNOWN_SCALES.get(name) if space.knows(name) else None
            axes += _axes(name, space.domains[name], scale)

    def coordinates(point: Point) -> NDArray[np.float64]:
        return np.array([axis(point) for axis in axes])

    return coordinates


def _rate_axes(space: SearchSpace) -> Iterator[_RateAxis]:
    """Yield the axis of the learning rate if it varies."""
    bounds = [_bounds(space, name) for name in NAMES]
    logs = [_log_effective(dict(zip(NAMES, corner, strict=True))) for corner in product(*bounds)]
    lrs = [math.log(lr) for lr in bounds[0]]
    axis = _RateAxis(space, (min(logs), max(logs)), (min(lrs), max(lrs)))
    if max(logs) > min(logs):
        yield axis


def _log_effective(params: Params) -> float:
    lr, momentum, batch_size = (float(params[name]) for name in ("lr", "momentum", "batch_size"))
    return math.log(lr) - math.log1p(-momentum) - math.log(batch_size)


_KNOWN_SCALES: Mapping[str, Scale] = {
    "batch_size": math.log,
    "momentum": lambda value: -math.log1p(-value),
}
"""Scales of parameters whose meaning hpo knows."""


def _axes(name: str, domain: Domain, scale: Scale | None) -> Iterator[_Axis]:
    """Yield the axes of a parameter that vary. `scale`: None for the scale of the domain."""
    if isinstance(domain, Choices) and len(domain.values) > 2 and isinstance(domain.values[0], str):
        for choice in domain.values:
            yield _Axis(name, partial(_is, choice), 0.0, 1.0)
        return
    scale = scale or _scale(domain)
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    scaled = [scale(value) for value in values]
    if max(scaled) > min(scaled):
        yield _Axis(name, scale, min(scaled), max(scaled))


def _scale(domain: Domain) -> Scale:
    if isinstance(domain, Choices):
        ranks: list[Any] = sorted(set(domain.values))
        return lambda value: float(ranks.index(value))
    return math.log if domain.log else float


def _is(choice: Value, value: Value) -> float:
    return float(value == choice)


def _bounds(space: SearchSpace, name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a parameter. With a condition its default counts, too."""
    domain = domain_of(space, name)
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    numbers = [float(value) for value in values]
    if name in space.conditions:
        numbers.append(float(default_of(name)))
    return min(numbers), max(numbers)
