import math

import pytest

from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.regret import Mean, mean_regrets, moment_at, regrets
from hpo.simulate.replay import Moment, Replay
from hpo.values.objective import LOSS
from hpo.values.space import cell

GOOD, BAD, MIDDLE = {"lr": 0.1}, {"lr": 0.01}, {"lr": 0.001}
TABLE = CurveTable(
    ("lr",),
    {
        cell(point): [(Measured(1.0, loss, 0.5, 1.0, 0.0),)]
        for point, loss in ((GOOD, 1.0), (BAD, 5.0), (MIDDLE, 2.0))
    },
)
REPLAY = Replay(
    LOSS,
    (
        Moment(1.0, 2.0, 4, 0, None),
        Moment(2.0, 4.0, 8, 1, BAD),
        Moment(2.5, 5.0, 10, 4, GOOD),
    ),
    (GOOD,),
)


def test_regret_is_that_of_the_best_trial_so_far() -> None:
    assert regrets(REPLAY, TABLE, 1, "epochs", [0, 4, 8, 9, 10, 100]) == [1.0, 1.0, 4.0, 4.0, 0.0, 0.0]
    assert regrets(REPLAY, TABLE, 1, "device_seconds", [4.0, 5.0]) == [4.0, 0.0]
    assert regrets(REPLAY, TABLE, 1, "seconds", [2.4]) == [4.0]


def test_moment_at_is_the_last_moment_within_the_limit() -> None:
    assert moment_at(REPLAY, "epochs", 3) is None
    assert moment_at(REPLAY, "trials", 3) == REPLAY.moments[1]


def test_mean_has_its_standard_error() -> None:
    mean = Mean.of([1.0, 2.0, 3.0])
    assert mean.mean == 2.0
    assert mean.error == pytest.approx(1 / math.sqrt(3))
    assert Mean.of([1.0]) == Mean(1.0, 0.0)


def test_mean_regrets_are_means_over_replays() -> None:
    other = Replay(LOSS, REPLAY.moments[:2], ())
    early, late = mean_regrets([REPLAY, other], TABLE, 1, [3, 10])
    assert early == {
        "regret": Mean(1.0, 0.0),
        "epochs": Mean(0.0, 0.0),
        "trials": Mean(0.0, 0.0),
        "device_seconds": Mean(0.0, 0.0),
        "seconds": Mean(0.0, 0.0),
    }
    assert late["regret"] == Mean.of([0.0, 4.0])
    assert late["epochs"] == Mean.of([10.0, 8.0])
    assert late["trials"] == Mean.of([4.0, 1.0])
