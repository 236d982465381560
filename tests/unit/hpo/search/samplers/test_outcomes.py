import math

import pytest
from optuna.trial import TrialState
from support.spaces import PAPER

from hpo.search.samplers.base import Observation
from hpo.search.samplers.outcomes import outcomes

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


def trial(index: int, state: TrialState, *losses: float) -> Observation:
    return Observation(PAPER.point_at(index), state, None, dict(enumerate(losses, 1)))


def test_ended_trials_have_outcomes_in_order() -> None:
    history = [
        trial(0, COMPLETE, 4.0, 2.0),
        trial(1, RUNNING, 1.0),
        trial(2, PRUNED, 4.0),
        trial(3, WAITING),
        trial(4, FAIL),
        trial(5, COMPLETE),
    ]
    known = outcomes(PAPER, history, with_pruned=True)
    assert [outcome.point for outcome in known] == [PAPER.point_at(index) for index in (0, 2, 4)]
    assert [outcome.has_failed for outcome in known] == [False, False, True]
    assert known[0].loss == pytest.approx(math.log(2))
    assert math.log(2) < known[1].loss < math.log(4), "the curve of the pruned trial would have fallen"
    assert known[2].loss == pytest.approx(math.log(4)), "the worst of the losses so far"
    assert [outcome.point for outcome in outcomes(PAPER, history, with_pruned=False)] == [
        PAPER.point_at(index) for index in (0, 4)
    ]


def test_failed_trials_alone_have_no_outcome() -> None:
    assert outcomes(PAPER, [trial(0, FAIL), trial(1, FAIL, 1.0, math.nan)], with_pruned=True) == []
    assert outcomes(PAPER, [], with_pruned=True) == []
