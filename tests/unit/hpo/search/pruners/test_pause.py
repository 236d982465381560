import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pruning import LOSSES

from hpo.search.pruners.pause import PausePruner


@pytest.mark.parametrize(
    ("reached", "predicted", "expected"),
    [
        ([], [], [[], [], []]),
        ([1], [0.5], [[], [], [0]]),  # the best trial may always train on
        ([1, 1, 1, 1, 1, 1], [6, 5, 4, 3, 2, 1], [[], [], [5, 4]]),  # a third
        ([1, 1, 1, 1, 1], [6, 5, 4, 3, 2], [[], [], [4]]),
        ([2, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], [[], [0], [1]]),  # trial 0 has already trained on
        ([2, 2, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], [[], [0], []]),
        ([2, 2, 1, 1, 1, 1], [5, 6, 1, 2, 3, 4], [[], [0], [2, 3]]),  # trials 0 and 1 were not the best
        ([5, 4, 4, 2, 1], [1, 2, 3, 4, 5], [[0], [], []]),
        ([5, 4, 4, 2, 1], [9, 2, 3, 4, 1], [[1], [], [4]]),
        ([3, 1, 1], [1, 2, 3], [[], [0], []]),  # an epoch beyond a rung does not count
    ],
)
def test_best_share_of_each_rung_may_resume(
    reached: list[int], predicted: list[float], expected: list[list[int]]
) -> None:
    assert list(PausePruner(1, 3, 5).resumable(reached, predicted)) == expected


@given(st.lists(st.tuples(st.integers(1, 5), LOSSES), max_size=30), st.integers(2, 4))
def test_resumable_trials_are_the_best_at_their_rung(trials: list[tuple[int, float]], reduction: int) -> None:
    reached, predicted = [epochs for epochs, _ in trials], [loss for _, loss in trials]
    per_rung = PausePruner(1, reduction, 5).resumable(reached, predicted)
    for rung, next_rung, chosen in zip((4, 2, 1), (math.inf, 4, 2), per_rung, strict=True):
        at_rung = [index for index, epochs in enumerate(reached) if epochs >= rung]
        assert len(chosen) <= max(1, len(at_rung) // reduction)
        assert all(rung <= reached[index] < next_rung for index in chosen)
        worst = max((predicted[index] for index in chosen), default=-math.inf)
        better = sum(predicted[index] < worst for index in at_rung)
        assert better < max(1, len(at_rung) // reduction)


@pytest.mark.parametrize(("min_epochs", "epochs", "rungs"), [(1, 5, (1, 2, 4)), (2, 8, (2, 4)), (5, 5, ())])
def test_trials_pause_at_the_first_rung_and_whenever_their_epochs_double(
    min_epochs: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    assert PausePruner(min_epochs, 3, epochs).pause_epochs == rungs
