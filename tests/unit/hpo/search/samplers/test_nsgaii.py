import math
from collections.abc import Sequence
from statistics import median

import optuna
from optuna.trial import TrialState
from support.spaces import WIDE

from hpo.search.samplers.base import Observation
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.nsgaii import NsgaIiSampler
from hpo.search.samplers.points import plan
from hpo.values.space import Point, cell

COMPLETE, FAIL, PRUNED = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED


def loss(point: Point) -> float:
    return abs(math.log10(point["lr"]) + 1.5) + abs(float(point["momentum"]) - 0.9) + 0.01


def observed(points: Sequence[Point], state: TrialState = COMPLETE) -> list[Observation]:
    return [Observation(point, state, None, {1: loss(point)}) for point in points]


def test_points_are_random_until_a_population_has_ended() -> None:
    points = plan(WIDE, 12, 0)
    sampler = NsgaIiSampler(population_size=12)
    history = [*observed(points[:11]), *observed(points[11:], FAIL)]
    assert sampler.parents(WIDE, history) == []
    assert sampler.suggest(WIDE, history, 3, 5) == plan(WIDE, 3, 5, {cell(point) for point in points})
    assert len(sampler.parents(WIDE, observed(points))) == 12


def test_parents_are_those_of_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.NSGAIISampler(population_size=6, seed=2))
    space = distributions(WIDE)
    for _ in range(31):
        trial = study.ask(space)
        study.tell(trial, loss(trial.params))
    attributes = study._storage.get_study_system_attrs(study._study_id)
    sampler = NsgaIiSampler(population_size=6)
    for generation in range(1, 6):
        parents = attributes[f"NSGAIISampler:parent:{generation}"]
        numbers = {trial.number for trial in study.trials if trial._trial_id in parents}
        history = observed([trial.params for trial in study.trials[: generation * 6]])
        # Optuna repeats points. Which of several equal trials is a parent makes no difference.
        expected = sorted(loss(study.trials[number].params) for number in numbers)
        assert [loss(parent.point) for parent in sampler.parents(WIDE, history)] == expected


def test_children_have_the_values_of_parents() -> None:
    history = observed(plan(WIDE, 25, 0))
    sampler = NsgaIiSampler(population_size=8, mutation_prob=0.0)
    parents = [parent.point for parent in sampler.parents(WIDE, history)]
    assert max(map(loss, parents)) <= sorted(loss(trial.point) for trial in history[:24])[7]
    for point in sampler.suggest(WIDE, history, 6, 3):
        for name in ("lr", "momentum", "weight_decay"):
            assert any(abs(point[name] - parent[name]) < 1e-9 for parent in parents)


def test_good_points_are_found() -> None:
    sampler = NsgaIiSampler(population_size=10)
    points = sampler.initial(WIDE, 10, 0)
    while len(points) < 120:
        points += sampler.suggest(WIDE, observed(points), 4, len(points))
    assert median(map(loss, points[-20:])) < 0.5 * median(map(loss, plan(WIDE, 400, 1)))


def test_pruned_trials_count_if_asked() -> None:
    history = observed(plan(WIDE, 12, 0), PRUNED)
    assert len(NsgaIiSampler(population_size=6).parents(WIDE, history)) == 6
    assert NsgaIiSampler(population_size=6, consider_pruned_trials=False).parents(WIDE, history) == []
