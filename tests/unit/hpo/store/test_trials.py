from typing import Any

import pytest
from optuna.trial import TrialState

from hpo.store.trials import Foreign
from hpo.values.space import Choices, Range, SearchSpace

SPACE = SearchSpace({"lr": Range(0.001, 0.1, log=True), "batch_size": Choices((16, 32))})


def foreign(**params: Any) -> Foreign:
    return Foreign(1, 0, TrialState.WAITING, params, "hpo did not add it")


def test_parameters_and_enqueued_ones_form_a_point() -> None:
    assert foreign(lr=0.01, batch_size=32).point_in(SPACE) == {"lr": 0.01, "batch_size": 32}
    assert foreign(batch_size=32).point_in(SPACE, {"lr": 0.01, "batch_size": 16}) == {
        "lr": 0.01,
        "batch_size": 32,
    }


@pytest.mark.parametrize(
    "changes", [{"lr": "0.01"}, {"lr": None}, {"lr": [1]}, {"lr": 0.5}, {"batch_size": True}, {"other": 1}]
)
def test_odd_parameters_form_no_point(changes: dict[str, Any]) -> None:
    assert foreign(**{"lr": 0.01, "batch_size": 32, **changes}).point_in(SPACE) is None
