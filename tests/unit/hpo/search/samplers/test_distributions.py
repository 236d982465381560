import warnings

import numpy as np
import optuna
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from support.space_files import file_spaces
from support.spaces import SEED

from hpo.search.samplers.distributions import distributions
from hpo.values.space import Choices, Range, SearchSpace


def test_each_domain_has_its_optuna_distribution() -> None:
    space = SearchSpace(
        {
            "lr": Range(0.01, 1.0, log=True),
            "batch_size": Range(16, 64, step=16, integer=True),
            "momentum": Range(0.0, 0.9, step=0.1),
            "weight_decay": Choices((0.0, 0.1)),
        }
    )
    assert distributions(space) == {
        "lr": FloatDistribution(0.01, 1.0, log=True),
        "batch_size": IntDistribution(16, 64, step=16),
        "momentum": FloatDistribution(0.0, 0.9, step=0.1),
        "weight_decay": CategoricalDistribution((0.0, 0.1)),
    }


def test_integers_stay_integers_beside_equal_floats() -> None:
    space = SearchSpace({"lr": Choices((2.0, 4.0)), "batch_size": Choices((2, 4))})
    kinds = distributions(space)
    assert isinstance(kinds["batch_size"], CategoricalDistribution)
    assert [type(value) for value in kinds["batch_size"].choices] == [int, int]


@settings(max_examples=40)
@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 12), SEED)
def test_stepped_range_has_the_same_values_in_optuna(low: int, step: int, count: int, seed: int) -> None:
    domain = Range(low / 1000, (low + step * count) / 1000, step=step / 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns where it changes a range
        kind = distributions(SearchSpace({"lr": domain}))["lr"]
    values = {domain.at(index) for index in range(count + 1)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    assert {study.ask({"lr": kind}).params["lr"] for _ in range(10)} <= values
    for value in values:
        study.add_trial(optuna.create_trial(value=0.0, params={"lr": value}, distributions={"lr": kind}))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(file_spaces(), SEED)
def test_points_of_any_space_survive_optunas_tables(space: SearchSpace, seed: int) -> None:
    kinds = {name: distribution_to_json(kind) for name, kind in distributions(space).items()}
    point = space.draw(np.random.default_rng(seed))
    stored = {name: json_to_distribution(kinds[name]).to_internal_repr(point[name]) for name in point}
    read = {name: json_to_distribution(kinds[name]).to_external_repr(stored[name]) for name in point}
    assert read == point
    assert {name: type(value) for name, value in read.items()} == {
        name: type(value) for name, value in point.items()
    }
