import math
import zlib
from collections import Counter

import numpy as np
import optuna
import pytest
from support.pruning import assert_agrees_with_optuna, flat

from hpo.search.pruners.base import Peer, Pruner
from hpo.search.pruners.hyperband import HyperbandPruner


def first_pruned(pruner: Pruner, number: int, epochs: int) -> int | None:
    """Return the epoch at which a trial worse than 400 others is pruned: the first rung of its bracket."""
    others = [Peer(n, flat(0.0, epochs), False) for n in range(400) if n != number]
    return next((e for e in range(1, epochs) if pruner.should_prune(number, flat(1.0, e), others)), None)


def test_trials_are_spread_over_brackets_by_share() -> None:
    pruner = HyperbandPruner(1, 3, 9)
    counts = Counter(first_pruned(pruner, number, 9) for number in range(400))
    # Of brackets 0, 1, 2 (Li et al. 2017, algorithm 1, R = 9): 9, 5 and 3 trials.
    for first, share in {1: 9 / 17, 3: 5 / 17, None: 3 / 17}.items():
        assert abs(counts[first] / 400 - share) < 0.06


def test_no_bracket_is_lost_to_rounding() -> None:
    assert math.floor(math.log(243, 3)) == 4  # 3**5 is 243
    pruner = HyperbandPruner(1, 3, 243)
    assert {first_pruned(pruner, number, 82) for number in range(200)} == {1, 3, 9, 27, 81, None}


def test_budget_below_the_first_rung_prunes_no_trial() -> None:
    pruner = HyperbandPruner(9, 3, 5)
    assert {first_pruned(pruner, number, 5) for number in range(20)} == {None}


class _HyperbandByNumber(optuna.pruners.HyperbandPruner):
    """Optuna's pruner with the bracket drawn from the trial number alone, without the study name."""

    def _get_bracket_id(self, _study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
        if not self._trial_allocation_budgets:  # before the first decision
            return 0
        position = zlib.crc32(str(trial.number).encode()) % self._total_trial_allocation_budget
        ends = np.cumsum(self._trial_allocation_budgets)
        return int(np.searchsorted(ends, position, side="right"))


@pytest.mark.parametrize(("least", "reduction", "epochs"), [(1, 3, 9), (1, 2, 8), (2, 2, 9), (1, 3, 5)])
def test_hyperband_agrees_with_optuna(least: int, reduction: int, epochs: int) -> None:
    options = {"min_resource": least, "max_resource": epochs, "reduction_factor": reduction}
    assert_agrees_with_optuna(HyperbandPruner(least, reduction, epochs), _HyperbandByNumber, options, epochs)
