import optuna
import pytest
from support.pruning import assert_agrees_with_optuna, flat, peers

from hpo.search.pruners.base import Peer
from hpo.search.pruners.median import MedianPruner


def test_trial_above_the_median_of_completed_trials_is_pruned() -> None:
    pruner = MedianPruner(startup_trials=3, warmup_epochs=0)
    done = peers(1.0, 2.0, 3.0, epochs=4)
    assert pruner.should_prune(0, {1: 2.5}, done)
    assert not pruner.should_prune(0, {1: 2.0}, done)
    assert not pruner.should_prune(0, {1: 1.5, 2: 9.0}, done), "the best loss so far counts"
    assert pruner.should_prune(0, {1: 2.5}, peers(1.0, 2.0, 2.4, 3.0)), "median of an even number"
    assert not pruner.should_prune(0, {1: 2.2}, peers(1.0, 2.0, 2.4, 3.0))


def test_no_trial_is_pruned_during_startup_and_warmup() -> None:
    pruner = MedianPruner(startup_trials=3, warmup_epochs=2)
    done = peers(1.0, 1.0, 1.0, epochs=4)
    assert [pruner.should_prune(0, flat(9.0, epoch), done) for epoch in (1, 2, 3)] == [False, False, True]
    assert not pruner.should_prune(0, flat(9.0, 3), done[:2])
    running = [Peer(200, flat(1.0, 4), complete=False)]
    assert not pruner.should_prune(0, flat(9.0, 3), done[:2] + running)
    assert not pruner.should_prune(0, flat(9.0, 5), done), "no completed trial has this epoch"


@pytest.mark.parametrize(("startup", "warmup", "epochs"), [(1, 0, 3), (5, 0, 9), (4, 2, 6), (2, 5, 7)])
def test_median_agrees_with_optuna(startup: int, warmup: int, epochs: int) -> None:
    # Optuna's warm-up counts steps from 0; ours are epochs, from 1.
    options = {"n_startup_trials": startup, "n_warmup_steps": warmup + 1}
    assert_agrees_with_optuna(MedianPruner(startup, warmup), optuna.pruners.MedianPruner, options, epochs)
