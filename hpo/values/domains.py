"""The domain of one parameter: a list of values or a range."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

Number = int | float
Value = int | float | str | bool
Point = dict[str, Any]
"""One `Value` for each parameter of a space that applies. The registry knows the kind of each."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A list of values, drawn uniformly."""

    values: tuple[Value, ...]

    @property
    def size(self) -> int:
        return len(self.values)

    def at(self, index: int) -> Value:
        return self.values[index]

    def draw(self, rng: np.random.Generator) -> Value:
        return self.values[int(rng.integers(len(self.values)))]

    def __contains__(self, value: Value) -> bool:
        return is_among(value, self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """All values from `low` to `high`, both included, drawn uniformly.

    With `log` the draw is uniform in the logarithm. With `step` the values are `low + k * step`, and `high`
    is one of them. With `integer` the values are whole numbers; the default step is then 1.
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None
    integer: bool = False

    @property
    def size(self) -> int | None:
        """Return the number of values, None if uncountable."""
        step = self.step or (1 if self.integer else None)
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def at(self, index: int) -> Number:
        # Clipped to `high` as in Optuna: 0.1 + 2 * 0.1 is above 0.3.
        return min(self.low + index * (self.step or 1), self.high)

    def nearest(self, value: Number) -> Number:
        """Return the value of a countable range that `value`, which is in it, stands for: the closest."""
        return self.at(round((value - self.low) / (self.step or 1)))

    def draw(self, rng: np.random.Generator) -> Number:
        if self.log:
            margin = 0.5 if self.integer else 0.0  # otherwise rounding draws both ends half as often
            value = math.exp(rng.uniform(math.log(self.low - margin), math.log(self.high + margin)))
            return min(max(round(value) if self.integer else value, self.low), self.high)
        if self.size is not None:
            return self.at(int(rng.integers(self.size)))
        return float(rng.uniform(self.low, self.high))

    def __contains__(self, value: Value) -> bool:
        if isinstance(value, str | bool) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.integer else None)
        if step is None:
            return True
        offset = (value - self.low) / step
        return math.isclose(offset, round(offset), abs_tol=1e-9)


Domain = Choices | Range


def is_among(value: Value, values: Collection[Value]) -> bool:
    """Return whether `value` is one of `values`. True and 1 are different values, 1 and 1.0 are not."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)
