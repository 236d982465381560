"""Where the next points come from: a random plan, or Optuna's TPE asked over the history.

Both are functions of values (space, seed, history); nothing here reads or writes a study in a database.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from hpo import step
from hpo.space import Cell, Choices, Domain, Point, SearchSpace, cell

optuna.logging.set_verbosity(optuna.logging.WARNING)

ATTEMPTS_AT_A_NEW_CELL = 20
"""How often a source of points is asked again when it repeats a cell; then a random new cell is taken."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A trial as the sampler sees it: `value` is the validation loss, None while it has none."""

    point: Point
    state: TrialState
    value: float | None = None
    curve: Mapping[int, float] | None = None


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.values)
    if domain.integer:
        step = 1 if domain.step is None else int(domain.step)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {name: _distribution(domain) for name, domain in space.domains.items()}


def plan(
    space: SearchSpace,
    count: int,
    seed: int,
    taken: Collection[Cell] = (),
    draw: Callable[[np.random.Generator], Point] | None = None,
) -> list[Point]:
    """The first `count` points of random search; in a finite space without repeats, also of what is `taken`.

    `draw`: where they come from, the whole space unless it is said. One point is drawn after another, so a
    longer plan begins with the shorter one, and the plan does not depend on how many workers carry it out. A
    finite space ends the plan when it has no cell left.
    """
    rng = np.random.default_rng(seed)
    source = draw or space.draw
    return _new_points(space, count, set(taken), rng, lambda: source(rng))


def first_points(
    space: SearchSpace, sampler: str, count: int, seed: int, taken: Collection[Cell] = ()
) -> list[Point]:
    """The plan of what a sampler of that name begins with."""
    return plan(space, count, seed, taken, step.typical(space) if sampler == "gp" else None)


def propose(
    space: SearchSpace, history: Iterable[Observation], count: int, seed: int, startup: int
) -> list[Point]:
    """Up to `count` new points from TPE with the constant liar, fewer when a finite space runs out.

    `history` holds every trial of the study, also the waiting and running ones: the liar (Bergstra et
    al. 2011 for TPE; Ginsbourger et al. 2010 for the liar) keeps the proposals away from them. Proposals of
    one call see each other the same way. Until `startup` trials are complete or pruned, points are random.
    `seed` should differ from call to call: it is all the randomness there is.
    """
    trials = list(history)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup))
    space_in_optuna = distributions(space)
    for trial in trials:
        study.add_trial(_frozen(trial, space_in_optuna))
    taken = {cell(trial.point) for trial in trials}
    rng = np.random.default_rng(seed)
    return _new_points(space, count, taken, rng, lambda: dict(study.ask(space_in_optuna).params))


def _new_points(
    space: SearchSpace, count: int, taken: set[Cell], rng: np.random.Generator, source: Callable[[], Point]
) -> list[Point]:
    points: list[Point] = []
    while len(points) < count and (space.cells is None or len(taken) < space.cells):
        point = _new_point(space, taken, rng, source)
        taken.add(cell(point))
        points.append(point)
    return points


def _new_point(
    space: SearchSpace, taken: set[Cell], rng: np.random.Generator, source: Callable[[], Point]
) -> Point:
    for _ in range(ATTEMPTS_AT_A_NEW_CELL):
        point = source()
        if space.cells is None or cell(point) not in taken:
            return point
    return _untried(space, taken, rng)


def _untried(space: SearchSpace, taken: set[Cell], rng: np.random.Generator) -> Point:
    assert space.cells is not None
    while True:
        point = space.point_at(int(rng.integers(space.cells)))
        if cell(point) not in taken:
            return point


def _frozen(trial: Observation, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    # What has no value yet is a lie in waiting: Optuna's liar takes RUNNING trials only.
    state = trial.state if trial.state.is_finished() else TrialState.RUNNING
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if state == TrialState.COMPLETE else None,
        params=trial.point,
        distributions=dict(space),
        intermediate_values=dict(trial.curve or {}),
    )
