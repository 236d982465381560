"""Expected epochs of a search."""

import pytest

from hpo.search.expected_epochs import LEAST, MOST, EpochRange, expected_counts, remaining_epochs
from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.hyperband import HyperbandPruner
from hpo.search.pruners.median import MedianPruner
from hpo.search.pruners.none import NoPruner
from hpo.search.pruners.pause import PausePruner


def test_every_trial_trains_to_the_end_without_a_pruner() -> None:
    assert expected_counts(NoPruner(), 12, 3, 1) == [12, 12, 12]


def test_one_in_reduction_passes_a_rung() -> None:
    assert expected_counts(AshaPruner(1, 3, 9), 27, 9, 1) == [27, 9, 9, 3, 3, 3, 3, 3, 3]


def test_more_paused_trials_resume_than_the_rule_has_room_for_at_the_end() -> None:
    assert expected_counts(PausePruner(1, 3, 4), 18, 4, 1) == [18, 9, 3, 3]
    assert expected_counts(PausePruner(1, 2, 2), 8, 2, 1) == [8, 6]


def test_half_of_the_trials_outlive_the_median_rule() -> None:
    assert expected_counts(MedianPruner(4, 1), 10, 4, 1) == [10, 10, 7, 7]  # four trials are not compared
    assert expected_counts(MedianPruner(40, 1), 10, 4, 1) == [10, 10, 10, 10]


def test_brackets_of_hyperband_have_different_rungs() -> None:
    pruner = HyperbandPruner(1, 3, 9)
    shares = [pruner.expected_share(epoch) for epoch in (1, 2, 4, 9)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[1] > 1 / 3  # the last bracket has no rung


def test_promoted_trials_train_to_the_end() -> None:
    assert expected_counts(AshaPruner(1, 3, 9), 6, 9, 2)[-1] == 2
    assert expected_counts(AshaPruner(1, 3, 9), 1, 9, 2)[-1] == 1


def test_remaining_epochs_without_a_pruner_are_exact() -> None:
    remaining = remaining_epochs([4, 4, 4], open_trials=[0, 2], ended_trials=[3, 3])
    assert remaining == EpochRange(4, 4, 4)


def test_trials_that_reached_an_epoch_are_not_expected_there_again() -> None:
    counts = [9, 3, 3, 1]
    assert remaining_epochs(counts, [0] * 9, []).expected == 16
    assert remaining_epochs(counts, [1] * 9, []).expected == 7
    assert remaining_epochs(counts, [1] * 5 + [3], [4, 3, 1]).expected == 0


def test_no_more_trials_are_expected_than_are_open() -> None:
    # Eight of nine have ended early, so one trial is left for each of the later epochs.
    assert remaining_epochs([9, 6, 6], [1], [1] * 8).expected == 2


def test_bounds_leave_room_for_the_pruner() -> None:
    remaining = remaining_epochs([10, 5, 5], [0] * 10, [])
    assert remaining == EpochRange(20, 10 + LEAST * 10, 10 + MOST * 10)
    assert remaining_epochs([4, 3, 3], [0] * 4, []).high == 12  # all epochs of all trials


def test_nothing_remains_of_an_ended_search() -> None:
    assert remaining_epochs([4, 2], [], [2, 2, 1, 1]) == EpochRange(0, 0, 0)


def test_range_is_capped_by_a_budget() -> None:
    assert EpochRange(20, 10, 40).capped(15) == EpochRange(15, 10, 15)
    assert EpochRange(1, 2, 3) + EpochRange(1, 1, 1) == EpochRange(2, 3, 4)


@pytest.mark.parametrize("epochs", [1, 2, 5, 20])
@pytest.mark.parametrize(
    "pruner", [AshaPruner(1, 3, 20), PausePruner(1, 3, 20), MedianPruner(5, 2), HyperbandPruner(1, 3, 20)]
)
def test_fewer_trials_reach_later_epochs(pruner: AshaPruner, epochs: int) -> None:
    counts = expected_counts(pruner, 30, epochs, 1)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 30
