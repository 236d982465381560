"""Trials that other programs added: their parameters are a point of the space, or none."""

import pytest
from optuna.trial import TrialState

from hpo.store.trials import Foreign
from hpo.values.space import Choices, Range, SearchSpace

SPACE = SearchSpace(
    {"optimizer": Choices(("sgd", "adamw")), "nesterov": Choices((True, False)), "lr": Range(0.1, 1.0)}
)
POINT = {"optimizer": "adamw", "nesterov": True, "lr": 0.5}


def foreign(**params: object) -> Foreign:
    return Foreign(1, 0, TrialState.WAITING, params, "enqueued")


def test_values_of_every_kind_are_a_point() -> None:
    assert foreign(**POINT).point_in(SPACE) == POINT


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "lion"}, {"nesterov": 1}, {"lr": "0.5"}, {"lr": True}, {"lr": None}, {"lr": [0.5]}],
)
def test_other_values_are_no_point(changes: dict[str, object]) -> None:
    assert foreign(**{**POINT, **changes}).point_in(SPACE) is None
