"""Studies of Optuna in memory, in which a sampler of Optuna sees a part of the history."""

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.outcomes import Outcome
from hpo.values.space import Point, Range, SearchSpace, Value


class OptunaStudy:
    """A study in memory with one of Optuna's samplers."""

    def __init__(self, space: SearchSpace, sampler: BaseSampler) -> None:
        """Make a study without trials."""
        # Optuna's Gaussian process warns of a package that would make it faster.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._distributions = space, distributions(space)
        self._study = optuna.create_study(sampler=sampler)

    def add_complete(self, outcomes: Iterable[Outcome], attributes: Mapping[str, Any] | None = None) -> None:
        """Add complete trials, whose values are their log losses, with these system attributes."""
        for outcome in outcomes:
            self._add(
                outcome.point,
                state=TrialState.COMPLETE,
                value=outcome.loss,
                system_attrs=dict(attributes or {}),
            )

    def add_running(self, points: Iterable[Point]) -> None:
        """Add running trials."""
        for point in points:
            self._add(point, state=TrialState.RUNNING)

    def ask(self) -> Point:
        """Return a point that the sampler suggests, which may break a constraint. Its trial stays running."""
        params = self._study.ask(self._distributions).params
        values = {name: _on_grid(value, self._space.domains[name]) for name, value in params.items()}
        return self._space.applicable(values)

    def _add(self, point: Point, **trial: Any) -> None:
        known = {name: self._distributions[name] for name in point}
        self._study.add_trial(optuna.trial.create_trial(params=point, distributions=known, **trial))


def _on_grid(value: Value, domain: object) -> Value:
    """Return the value in the domain's own floats: Optuna may be a rounding error away."""
    if not isinstance(domain, Range) or isinstance(value, str):
        return value
    return float(value) if domain.size is None else domain.nearest(value)
