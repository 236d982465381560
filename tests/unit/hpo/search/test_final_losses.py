import math

import numpy as np
import pytest
from optuna.trial import TrialState
from support.spaces import PAPER

from hpo.search.final_losses import SPREAD, clipped, final_losses
from hpo.search.samplers.base import Observation

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL

POINT = PAPER.point_at(0)


def of(*losses: float, state: TrialState = PRUNED) -> Observation:
    return Observation(POINT, state, losses[-1] if losses else None, dict(enumerate(losses, 1)))


def test_short_curve_is_extrapolated_like_the_long_ones() -> None:
    long = [of(4.0, 2.0, 1.0, state=COMPLETE), of(8.0, 4.0, 3.0, state=COMPLETE), of(4.0, 2.0, 1.5)]
    losses, errors = final_losses(PAPER, [*long, of(4.0), of(4.0, 2.0)])
    np.testing.assert_allclose(np.exp(losses[:3]), [1, 3, 1.5])
    assert math.log(4) > losses[3] > losses[4] > math.log(1)
    assert list(errors[:3]) == [0, 0, 0]
    assert 0 < errors[4] < errors[3]


def test_failed_trial_gets_the_worst_loss() -> None:
    losses, _ = final_losses(
        PAPER, [of(1.0), of(2.0), of(3.0), of(state=FAIL), of(2.5, math.nan, state=FAIL)]
    )
    assert losses[3] == losses[4] == losses.max()


def test_bad_losses_are_clipped() -> None:
    losses = clipped(final_losses(PAPER, [of(1.0), of(1.1), of(1.2), of(1e9)])[0])
    middle = np.median([0, math.log(1.1), math.log(1.2), math.log(1e9)])
    assert losses.max() == pytest.approx(middle * (1 + SPREAD))
