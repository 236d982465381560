import math

from support.pruning import peers

from hpo.search.pruners.none import NoPruner


def test_no_trial_is_pruned() -> None:
    assert not NoPruner().should_prune(0, {1: math.inf}, peers(0.0, 0.0, 0.0))
