"""Constraints between parameters: comparisons that the points of a space must meet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hpo.values.conditions import Condition
from hpo.values.domains import Value
from hpo.values.expressions import Expression

RELATIVE, ABSOLUTE = 1e-9, 1e-15
"""Numbers that differ by less count as equal: in floats 0.1 + 2 * 0.1 is above 0.3."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two expressions.

    `names`: the parameters of the space that it reads. `constants`: the values of the others.
    `when`: conditions under which the constants apply.
    """

    left: Expression
    comparator: str
    right: Expression
    names: frozenset[str]
    constants: Mapping[str, Value]
    when: tuple[Condition, ...] = ()

    def holds(self, params: Mapping[str, Value]) -> bool:
        """Return whether the comparison is true, or one of its parameters does not apply.

        A division by zero is false.
        """
        if not params.keys() >= self.names:
            return True
        if not all(condition.holds(params) for condition in self.when):
            return True
        values = {**params, **self.constants} if self.constants else params
        try:
            return _compare(self.left.evaluate(values), self.comparator, self.right.evaluate(values))
        except ZeroDivisionError:
            return False


@dataclass(frozen=True, slots=True)
class Constraint:
    """A chain of comparisons, all of which must hold. `text`: as it stands in a study file."""

    text: str
    comparisons: tuple[Comparison, ...]


def _compare(left: Value, comparator: str, right: Value) -> bool:
    if not (isinstance(left, float) and isinstance(right, float)):
        return (left == right) == (comparator == "==")
    if math.isnan(left) or math.isnan(right):
        return False
    if math.isclose(left, right, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
        return comparator in ("==", "<=", ">=")
    if comparator == "!=":
        return True
    return left < right if comparator in ("<", "<=") else comparator != "==" and left > right
