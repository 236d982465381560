"""The search space: named parameters with their domains, when each applies, and constraints between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hpo.values.conditions import Condition, Conditions, applicable, applies
from hpo.values.constraints import Comparison, Constraint
from hpo.values.domains import Choices, Domain, Number, Point, Range, Value, is_among
from hpo.values.grid import Grid, TooManyError
from hpo.values.parameters import BUILT_IN
from hpo.values.vocabulary import PackKey, Vocabulary

__all__ = [
    "Cell",
    "Choices",
    "Condition",
    "Constraint",
    "Domain",
    "Number",
    "Point",
    "Range",
    "SearchSpace",
    "Value",
    "applicable",
    "cell",
    "draw_below",
    "is_among",
]

Cell = tuple[tuple[str, Value], ...]
"""Identifies a point of a finite space: two points have equal cells exactly when their values are equal."""

MAX_REJECTED = 20
"""Draws that break a constraint before a point of a counted space is drawn from all its points."""

MAX_DRAWS = 10_000
"""Draws in search of a point that meets the constraints of a space that is not counted."""


@dataclass(frozen=True)
class SearchSpace:
    """The domains of all parameters in order, conditions under which some apply, and constraints.

    The parent of a condition is a parameter of the space with a countable domain. A parameter without a
    condition always applies. A parameter whose parent does not apply does not apply either. A constraint with
    a parameter that does not apply is met. `vocabulary`: what is known of the parameters by their names.
    """

    domains: Mapping[str, Domain]
    conditions: Conditions = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    vocabulary: Vocabulary = field(default=BUILT_IN, repr=False)

    @property
    def cells(self) -> int | None:
        """Return the number of points of a finite space.

        None if the space is not finite, or has too many combinations of parents and constrained parameters to
        be counted (`hpo.values.grid.MAX_NODES`).
        """
        return None if self._grid is None else self._grid.size

    def point_at(self, index: int) -> Point:
        """Return the point at `index` of a space with `cells`; see `Grid` for the order."""
        assert self._grid is not None, "only a finite space has cells"
        return self._grid.point_at(index)

    def draw(self, rng: np.random.Generator) -> Point:
        """Draw a random point. The space has one, see `example`."""
        for _ in range(MAX_DRAWS if self._grid is None else MAX_REJECTED):
            if (point := self.draw_once(rng)) is not None:
                return point
        if self._grid is not None:
            return self.draw_cell(rng)
        assert self.example is not None, "the space has a point"
        return self.example

    def draw_once(self, rng: np.random.Generator) -> Point | None:
        """Draw a random point, None if it breaks a constraint."""
        # All parameters are drawn, so that the values do not depend on which of them apply.
        point = self.applicable({name: domain.draw(rng) for name, domain in self.domains.items()})
        return point if self.is_feasible(point) else None

    def draw_cell(self, rng: np.random.Generator) -> Point:
        """Draw a point of a space with `cells`, each with the same probability."""
        cells = self.cells
        assert cells is not None, "only a finite space has cells"
        return self.point_at(draw_below(cells, rng))

    @cached_property
    def example(self) -> Point | None:
        """A point of the space. None if a counted space is empty, or if `MAX_DRAWS` draws found no point."""
        if self._grid is not None:
            return self.point_at(0) if self._grid.size else None
        rng = np.random.default_rng(0)
        return next(filter(None, (self.draw_once(rng) for _ in range(MAX_DRAWS))), None)

    def knows(self, *names: str) -> bool:
        """Return whether hpo knows what the parameters of these names mean."""
        return all(name in self.vocabulary.parameters for name in names)

    def with_defaults(self, point: Mapping[str, Any]) -> Point:
        """Return the point with the defaults of all known parameters that apply and that it leaves out."""
        return self.vocabulary.with_defaults(point)

    def pack_key(self, point: Mapping[str, Any]) -> PackKey:
        """Return the values that a trial at this point shares with its pack."""
        return self.vocabulary.pack_key(point)

    def applicable(self, values: Mapping[str, Value]) -> Point:
        """Return the point of the parameters that apply, from a value for each parameter."""
        return applicable(values, self.conditions)

    def is_feasible(self, point: Mapping[str, Value]) -> bool:
        """Return whether a point meets all constraints."""
        return all(comparison.holds(point) for comparison in self._comparisons)

    def __contains__(self, point: Point) -> bool:
        return (
            all(name in self.domains and value in self.domains[name] for name, value in point.items())
            and {name for name in self.domains if applies(name, self.conditions, point)} == point.keys()
            and self.is_feasible(point)
        )

    @cached_property
    def _comparisons(self) -> tuple[Comparison, ...]:
        return tuple(entry for constraint in self.constraints for entry in constraint.comparisons)

    @cached_property
    def _grid(self) -> Grid | None:
        if any(domain.size is None for domain in self.domains.values()):
            return None
        try:
            return Grid(self.domains, self.conditions, self._comparisons)
        except TooManyError:
            return None


def draw_below(end: int, rng: np.random.Generator) -> int:
    """Draw a whole number from 0 to below `end`, which may have any size."""
    if end < 2**63:
        return int(rng.integers(end))
    return int.from_bytes(rng.bytes(end.bit_length() // 8 + 8)) % end


def cell(point: Point) -> Cell:
    """Return the cell of a point: its names and values, independent of their order and number type."""
    return tuple(
        (name, value if isinstance(value, str | bool) else float(value))
        for name, value in sorted(point.items())
    )
