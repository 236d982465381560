import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cmaes
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from support.spaces import WIDE

from hpo.search.samplers.base import Observation
from hpo.search.samplers.cma_es import CmaEsSampler, _axes
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.outcomes import outcomes
from hpo.search.samplers.points import plan
from hpo.search.samplers.unit_interval import value_at
from hpo.values.space import Choices, Point, Range, SearchSpace
from hpo.values.space_section import parse_space

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING

SPACE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "momentum": Range(0.0, 0.95),
        "batch_size": Range(16, 64, integer=True),
    }
)


def loss(point: Point) -> float:
    return 0.1 + (math.log10(point["lr"]) + 1.5) ** 2 + (float(point["momentum"]) - 0.7) ** 2


def observed(points: Sequence[Point], of: Callable[[Point], float] = loss) -> list[Observation]:
    return [Observation(point, COMPLETE, of(point), {1: of(point)}) for point in points]


def searched(sampler: CmaEsSampler, space: SearchSpace, count: int, at_once: int = 1) -> list[Point]:
    """Return the points of a search whose trials complete at once."""
    points = sampler.initial(space, sampler.startup, 0)
    while len(points) < count:
        points += sampler.suggest(space, observed(points), at_once, len(points))
    return points


@pytest.mark.parametrize("keys", [{}, {"popsize": 6}, {"lr_adapt": True}, {"use_separable_cma": True}])
def test_search_is_that_of_cmaes(keys: dict[str, Any]) -> None:
    sampler = CmaEsSampler(startup=1, **keys)
    points = searched(sampler, SPACE, 60)
    lr_adapt, is_separable = bool(keys.get("lr_adapt")), bool(keys.get("use_separable_cma"))
    shared: Any = {
        "mean": np.full(3, 0.5),
        "sigma": 1 / 6,
        "bounds": np.array([[0.0, 1.0]] * 3),
        "n_max_resampling": 30,
        "population_size": keys.get("popsize"),
    }
    optimizer = cmaes.SepCMA(**shared) if is_separable else cmaes.CMA(**shared, lr_adapt=lr_adapt)
    known = optuna._transform._SearchSpaceTransform(distributions(SPACE), transform_0_1=True)
    told: list[tuple[Any, float]] = []
    for number, point in enumerate(points):
        if number:
            optimizer.reseed_rng(number)
            place = optimizer.ask().tolist()
            expected = {
                name: value_at(domain, at)
                for (name, domain), at in zip(SPACE.domains.items(), place, strict=True)
            }
            assert point == pytest.approx(expected)
        told.append((known.transform(point), math.log(loss(point))))
        if len(told) == optimizer.population_size:
            optimizer.tell(told)
            told = []


def test_distribution_is_that_of_optunas_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    means: list[Any] = []
    ask = cmaes.CMA.ask

    def recorded(optimizer: cmaes.CMA) -> Any:
        means.append(optimizer.mean.copy())
        return ask(optimizer)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=3, n_startup_trials=1))
    with monkeypatch.context() as patch:
        patch.setattr(cmaes.CMA, "ask", recorded)
        space = distributions(SPACE)
        for _ in range(60):
            trial = study.ask(space)
            study.tell(trial, loss(trial.params))
    # Optuna's first trial is random and belongs to no generation.
    points = [trial.params for trial in study.trials[1:]]
    sampler, axes = CmaEsSampler(startup=1), {name: SPACE.domains[name] for name in sorted(SPACE.domains)}
    for number in range(0, 59, 4):
        optimizer = sampler.replay(axes, outcomes(SPACE, observed(points[:number]), with_pruned=True))
        np.testing.assert_allclose(optimizer.mean, means[number], atol=1e-6)


def test_good_points_are_found() -> None:
    points = searched(CmaEsSampler(), SPACE, 100, at_once=4)
    last = median(map(loss, points[-20:]))
    assert last < 0.3 * median(map(loss, plan(SPACE, 400, 1)))


def test_numbers_in_a_list_count_by_rank_and_text_is_random() -> None:
    space = SearchSpace(
        {"x": Choices((8, 1, 4, 2)), "y": Choices((0.1, 0.2, 0.4)), "kind": Choices(("a", "b"))}
    )
    assert _axes(space) == {"x": Choices((1, 2, 4, 8)), "y": Choices((0.1, 0.2, 0.4))}

    def cost(point: Point) -> float:
        return 1.0 + float(point["x"]) + float(point["y"])

    history = observed(plan(space, 12, 0), cost)
    points = [point for seed in range(40) for point in CmaEsSampler().suggest(space, history, 1, seed)]
    assert {point["kind"] for point in points} == {"a", "b"}
    assert all(point in space for point in points)


def test_parameters_under_a_condition_are_random() -> None:
    space = parse_space(
        {
            "optimizer": ["sgd", "adamw"],
            "lr": {"low": 1e-4, "high": 1.0, "log": True},
            "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
        }
    )
    assert list(_axes(space)) == ["lr"]
    sampler = CmaEsSampler()
    points = sampler.suggest(space, observed(plan(space, 30, 0), lambda point: point["lr"]), 20, 1)
    assert len(points) == 20
    assert all(("momentum" in point) == (point["optimizer"] == "sgd") for point in points)


def test_space_without_numbers_is_refused() -> None:
    space = SearchSpace({"kind": Choices(("a", "b")), "flag": Choices((True, False)), "x": Choices((1, 1.0))})
    assert CmaEsSampler().mistakes(space) == {
        "name": "needs a range or a list of several numbers that has no condition"
    }
    assert CmaEsSampler().mistakes(WIDE) == {}


def test_open_trials_do_not_count_and_failed_trials_are_the_worst() -> None:
    points = plan(SPACE, 20, 0)
    history = observed(points[:16])
    running = [Observation(point, RUNNING) for point in points[16:]]
    sampler = CmaEsSampler()
    assert sampler.suggest(SPACE, [*history, *running], 3, 5) == sampler.suggest(SPACE, history, 3, 5)

    def spoiled(trial: Observation) -> Observation:
        """Fail the trials of high learning rates."""
        return trial if trial.point["lr"] < 0.01 else Observation(trial.point, FAIL)

    axes = _axes(SPACE)
    ended = [spoiled(trial) for trial in observed(points, lambda _: 1.0)]
    with_failures = outcomes(SPACE, ended, with_pruned=True)
    assert sampler.replay(axes, with_failures).mean[0] < 0.5


def test_degenerate_history_does_not_stop_a_search() -> None:
    space = SearchSpace({"x": Range(1, 3, integer=True), "y": Range(0.0, 1.0)})
    point = {"x": 2, "y": 0.5}
    history = observed([point] * 400, lambda _: 1.0)
    for keys in ({}, {"lr_adapt": True}, {"use_separable_cma": True}):
        points = CmaEsSampler.model_validate(keys).suggest(space, history, 4, 0)
        assert len(points) == 4
        assert all(each in space for each in points)
