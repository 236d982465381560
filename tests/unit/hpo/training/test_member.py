"""Progress counts epochs, remembers the best one, and restarts patience in each phase."""

import math

import torch

from hpo.training.member import MemberState, Progress
from hpo.training.weights import Weights


def test_progress_remembers_the_best_epoch_and_the_stale_ones() -> None:
    progress = Progress()
    assert [progress.count(loss) for loss in (2.0, 1.0, 1.5, 1.0)] == [True, True, False, False]
    assert (progress.epochs, progress.best, progress.best_epoch, progress.stale) == (4, 1.0, 2, 2)


def test_the_best_of_a_phase_need_not_be_the_best_of_all() -> None:
    progress = Progress()
    progress.count(1.0)
    progress.begin_next_phase()
    assert [progress.count(loss) for loss in (3.0, 2.0, 2.5)] == [False, False, False]
    assert (progress.phase, progress.phase_epochs, progress.epochs) == (1, 3, 4)
    assert (progress.best_of_phase, progress.stale, progress.best_epoch) == (2.0, 1, 1)


def test_an_epoch_without_a_finite_loss_counts_but_is_never_the_best() -> None:
    progress = Progress()
    assert not progress.count(math.nan)
    assert (progress.epochs, progress.best, progress.stale) == (1, math.inf, 0)


def test_a_state_that_is_moved_has_a_progress_of_its_own() -> None:
    weights = Weights(torch.zeros(1, 2), {})
    state = MemberState(Progress(), weights, best=None, optimizer={"velocity": torch.ones(1, 2)})
    moved = state.to(torch.device("cpu"))
    moved.progress.count(1.0)
    assert state.progress == Progress()
    assert moved.best is None
    assert moved.optimizer is not None
    assert torch.equal(moved.optimizer["velocity"], torch.ones(1, 2))
