"""CMA-ES, by the package `cmaes`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.outcomes import PRUNED_COUNT, Outcome, outcomes
from hpo.search.samplers.points import Source, new_points, plan
from hpo.search.samplers.unit_interval import place_of, value_at
from hpo.values.space import Choices, Domain, Point, SearchSpace, cell

SIGMA = 1 / 6
"""The first standard deviation, as a share of each range. The first mean is the middle. Both are Optuna's."""


class Optimizer(Protocol):
    """What the optimizers of `cmaes` have in common. They work in the unit cube."""

    @property
    def population_size(self) -> int: ...

    @property
    def mean(self) -> NDArray[np.float64]: ...

    def reseed_rng(self, seed: int) -> None: ...

    def ask(self) -> NDArray[np.float64]: ...

    def tell(self, solutions: list[tuple[NDArray[np.float64], float]]) -> None: ...


class CmaEsSampler(Sampler):
    """Optuna's CmaEsSampler: an evolution strategy that adapts a normal distribution, for many trials.
    It needs a range or a list of numbers without a condition; a number in a list counts by rank. Other
    parameters are random.

    Nothing is stored. Every suggestion replays the search: the trials that have ended, in the order of their
    numbers, are the generations of a new optimizer. A failed trial counts with the largest loss of the
    others. Trials of a fork, a baseline and the startup points belong to the generations as well.
    """

    refused: ClassVar[Mapping[str, str]] = {
        "seed": "suggestions follow from the seed of the study",
        "n_startup_trials": "the key is 'startup'",
        "with_margin": "needs numbers before they are rounded, which trials do not have",
        "source_trials": "fork a study to begin with its trials",
        "x0": "Optuna is about to remove it",
        "sigma0": "Optuna is about to remove it",
        "restart_strategy": "Optuna has removed it",
        "inc_popsize": "Optuna has removed it",
        "independent_sampler": "parameters without an order are random",
        "warn_independent_sampling": "parameters without an order are random",
    }

    name: Literal["CmaEsSampler"] = "CmaEsSampler"
    popsize: int | None = Field(
        default=None,
        ge=4,
        description="Trials of a generation; unset: 4 + 3 ln(number of parameters). Workers that run more "
        "trials at once than this make suggestions that know less.",
    )
    use_separable_cma: bool = Field(
        default=False, description="Whether the covariance is a diagonal, which is learned from fewer trials."
    )
    lr_adapt: bool = Field(default=False, description="Whether the learning rate of the strategy adapts.")
    consider_pruned_trials: bool = PRUNED_COUNT

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        trials = list(history)
        taken = {cell(trial.point) for trial in trials}
        ended = outcomes(space, trials, self.consider_pruned_trials)
        axes = _axes(space)
        if len(ended) < self.startup or not axes:
            return plan(space, count, seed, taken)
        optimizer, rng = self.replay(axes, ended), np.random.default_rng(seed)
        optimizer.reseed_rng(seed)

        def draw() -> Point:
            point = {name: domain.draw(rng) for name, domain in space.domains.items()}
            places = zip(axes.items(), optimizer.ask().tolist(), strict=True)
            point |= {name: value_at(domain, place) for (name, domain), place in places}
            return space.applicable(point)

        return new_points(space, count, taken, Source(draw, rng))

    def replay(self, axes: Mapping[str, Domain], ended: Sequence[Outcome]) -> Optimizer:
        """Return an optimizer over the unit cube of `axes`, to which all full generations have been told."""
        places = [
            np.array([place_of(domain, outcome.point[name]) for name, domain in axes.items()])
            for outcome in ended
        ]
        optimizer = self._new(len(axes))
        size = optimizer.population_size
        for first in range(0, len(ended) - size + 1, size):
            with np.errstate(all="ignore"):
                optimizer.tell([(places[index], ended[index].loss) for index in range(first, first + size)])
                is_sound = _is_sound(optimizer)
            if not is_sound:
                optimizer = self._new(len(axes))
        return optimizer

    def _new(self, dimensions: int) -> Optimizer:
        from cmaes import CMA, SepCMA

        start: dict[str, Any] = {
            "mean": np.full(dimensions, 0.5),
            "sigma": SIGMA,
            "bounds": np.array([[0.0, 1.0]] * dimensions),
            "n_max_resampling": 10 * dimensions,
            "population_size": self.popsize,
            "seed": 0,  # `suggest` sets the seed of each call
        }
        optimizer: Optimizer
        if self.use_separable_cma and dimensions > 1:  # as in Optuna: a single number has no covariance
            optimizer = SepCMA(**start)
        else:
            optimizer = CMA(**start, lr_adapt=self.lr_adapt)
        return optimizer

    def mistakes(self, space: SearchSpace) -> dict[str, str]:
        mistakes = {}
        if not _axes(space):
            mistakes["name"] = "needs a range or a list of several numbers that has no condition"
        if self.lr_adapt and self.use_separable_cma:
            mistakes["lr_adapt"] = "cannot be combined with use_separable_cma"
        return mistakes

    def load(self) -> None:
        import cmaes  # noqa: F401


def _axes(space: SearchSpace) -> dict[str, Domain]:
    """Return the domains of several numbers that always apply. Lists are sorted."""
    return {
        name: axis
        for name, domain in space.domains.items()
        if not space.conditions.get(name) and (axis := _axis(domain)) is not None
    }


def _axis(domain: Domain) -> Domain | None:
    if not isinstance(domain, Choices):
        return domain if domain.high > domain.low else None
    if any(isinstance(value, str | bool) for value in domain.values):
        return None
    numbers = tuple(sorted({float(value): value for value in domain.values}.values()))
    return Choices(numbers) if len(numbers) > 1 else None


def _is_sound(optimizer: Optimizer) -> bool:
    """Return whether the distribution still has samples. Rounding may make a covariance degenerate."""
    try:
        return bool(np.isfinite(optimizer.ask()).all())
    except np.linalg.LinAlgError:
        return False
