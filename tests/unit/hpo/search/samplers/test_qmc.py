from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import ExperimentalWarning
from scipy.stats import qmc
from support.spaces import CELLS, SEED, SMALL, cells

from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.qmc import QmcSampler
from hpo.values.space import Choices, Point, Range, SearchSpace, cell
from hpo.values.space_section import parse_space

RANGES = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Range(1e-6, 1e-2, log=True),
    }
)
MIXED = SearchSpace(
    {**RANGES.domains, "batch_size": Range(16, 64, integer=True), "kind": Choices(("a", "b", "c"))}
)
ALL = [
    QmcSampler(qmc_type=kind, scramble=scramble) for kind in ("sobol", "halton") for scramble in (False, True)
]


def optunas(space: SearchSpace, sampler: QmcSampler, count: int, seed: int) -> list[dict[str, Any]]:
    """Return the points of Optuna's sampler. It takes the space from a first trial and then begins."""
    with pytest.warns(ExperimentalWarning):
        own = optuna.samplers.QMCSampler(
            qmc_type=sampler.qmc_type, scramble=sampler.scramble, seed=seed, warn_independent_sampling=False
        )
    study, known = optuna.create_study(sampler=own), distributions(space)
    first = space.example
    assert first is not None
    study.add_trial(optuna.trial.create_trial(params=first, distributions=known, value=0.0))
    return [study.ask(known).params for _ in range(count)]


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize("space", [RANGES, MIXED])
def test_points_are_those_of_optuna(sampler: QmcSampler, space: SearchSpace) -> None:
    expected = optunas(space, sampler, 40, 7)
    points = sampler.initial(space, 40, 7)
    for point, other in zip(points, expected, strict=True):
        for name, value in other.items():
            assert point[name] == (value if isinstance(value, str | int) else pytest.approx(value, rel=1e-9))


def test_sample_n_is_the_nth_point_of_the_sequence() -> None:
    unit = SearchSpace({name: Range(0.0, 1.0) for name in "abc"})
    points = QmcSampler().initial(unit, 600, 3)
    expected = qmc.Sobol(3, scramble=False).random(1024)[:600].tolist()
    assert [[point[name] for name in "abc"] for point in points] == expected


@settings(max_examples=20)
@given(st.sampled_from(ALL), st.sampled_from([MIXED, SMALL]), SEED, st.integers(0, 30), st.integers(0, 30))
def test_longer_plan_begins_with_the_shorter(
    sampler: QmcSampler, space: SearchSpace, seed: int, one: int, other: int
) -> None:
    shorter, longer = sorted((one, other))
    assert sampler.initial(space, longer, seed)[:shorter] == sampler.initial(space, shorter, seed)


@pytest.mark.parametrize("sampler", ALL)
def test_taken_points_are_skipped(sampler: QmcSampler) -> None:
    points = sampler.initial(MIXED, 20, 1)
    assert sampler.initial(MIXED, 14, 1, cells(points[:6])) == points[6:]


@pytest.mark.parametrize("sampler", ALL)
def test_finite_space_is_covered_without_repeats(sampler: QmcSampler) -> None:
    points = sampler.initial(SMALL, 100, 5)
    assert len(points) == 24
    assert cells(points) == CELLS


def test_points_that_break_a_constraint_are_skipped() -> None:
    raw = {"model.a": {"low": 0.0, "high": 1.0}, "model.b": {"low": 0.0, "high": 1.0}}
    free = parse_space(raw)
    space = parse_space({**raw, "constraints": "model.a < model.b / 4"})

    def feasible(points: list[Point]) -> list[Point]:
        return [point for point in points if space.is_feasible(point)]

    points = QmcSampler().initial(space, 16, 0)
    assert points == feasible(QmcSampler().initial(free, 400, 0))[:16]


def test_conditions_do_not_move_the_coordinates() -> None:
    raw: dict[str, Any] = {
        "optimizer": ["sgd", "adamw"],
        "model.x": {"low": 0.0, "high": 1.0},
        "model.y": {"low": 0.0, "high": 1.0},
    }
    free = parse_space(raw)
    space = parse_space({**raw, "model.x": {**raw["model.x"], "when": {"optimizer": "sgd"}}})
    points = QmcSampler().initial(space, 12, 0)
    assert [cell(point) for point in points] == [
        cell(space.applicable(point)) for point in QmcSampler().initial(free, 12, 0)
    ]


def test_seed_matters_with_scrambling_only() -> None:
    assert QmcSampler().initial(RANGES, 8, 1) == QmcSampler().initial(RANGES, 8, 2)
    scrambled = QmcSampler(scramble=True)
    assert scrambled.initial(RANGES, 8, 1) != scrambled.initial(RANGES, 8, 2)
