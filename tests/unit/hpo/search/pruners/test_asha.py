import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pruning import LOSSES, assert_agrees_with_optuna, flat, peers

from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.base import Peer


def test_nine_trials_of_a_pack_are_reduced_to_three_and_one() -> None:
    pruner = AshaPruner(1, 3, 9)
    losses = {number: float(number) for number in range(9)}
    for epoch, left in [(1, {0, 1, 2}), (2, {0, 1, 2}), (3, {0}), (4, {0})]:
        curves = {number: flat(loss, epoch) for number, loss in losses.items()}
        pruned = {
            number
            for number, curve in curves.items()
            if pruner.should_prune(
                number, curve, [Peer(n, c, False) for n, c in curves.items() if n != number]
            )
        }
        losses = {number: loss for number, loss in losses.items() if number not in pruned}
        assert losses.keys() == left


@pytest.mark.parametrize(
    ("order", "survivors"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], {0}),
        ([8, 7, 6, 5, 4, 3, 2, 1, 0], {8, 7, 6, 5, 4, 3, 2, 1, 0}),  # each trial is the best so far
        (
            [8, 7, 0, 6, 5, 1, 4, 3, 2],
            {8, 7, 0, 1, 2},
        ),  # 1 is among the best two of six, 2 the best three of nine
    ],
)
def test_sequential_trial_is_compared_with_earlier_trials(order: list[int], survivors: set[int]) -> None:
    pruner, seen, went_on = AshaPruner(1, 3, 9), list[Peer](), set()
    for number in order:
        curve = {1: float(number)}
        if not pruner.should_prune(number, curve, seen):
            went_on.add(number)
        seen.append(Peer(number, curve, False))
    assert went_on == survivors


def test_restarted_trial_is_judged_like_any_other() -> None:
    # Optuna's pruner marks a trial that passed a rung, and lets the second attempt pass.
    pruner, others = AshaPruner(1, 3, 9), peers(1.0, 2.0, 3.0, epochs=4)
    assert not pruner.should_prune(0, {1: 0.5}, others)
    assert pruner.should_prune(0, {1: 9.0}, others)
    assert pruner.should_prune(0, {1: 9.0}, others)


POPULATION = st.lists(LOSSES, min_size=1, max_size=20)


@given(POPULATION, LOSSES, st.integers(2, 4))
def test_better_trial_passes_wherever_a_worse_one_does(
    others: list[float], loss: float, reduction: int
) -> None:
    pruner, known = AshaPruner(1, reduction, 100), peers(*others)
    answers = [pruner.should_prune(0, {1: value}, known) for value in sorted([loss, *others])]
    assert answers == sorted(answers)
    assert not pruner.should_prune(0, {1: min(others)}, known)


@given(POPULATION, LOSSES, st.integers(2, 4))
def test_only_ranks_matter(others: list[float], loss: float, reduction: int) -> None:
    pruner = AshaPruner(1, reduction, 100)
    cubed = pruner.should_prune(0, {1: loss**3}, peers(*[other**3 for other in others]))
    assert pruner.should_prune(0, {1: loss}, peers(*others)) == cubed


@given(POPULATION, st.integers(2, 4))
def test_survivors_are_one_in_reduction_and_ties_with_the_last(losses: list[float], reduction: int) -> None:
    pruner = AshaPruner(1, reduction, 100)
    curves = [{1: loss} for loss in losses]
    kept = [
        loss
        for i, loss in enumerate(losses)
        if not pruner.should_prune(i, curves[i], [Peer(j, c, False) for j, c in enumerate(curves) if j != i])
    ]
    count = max(1, len(losses) // reduction)
    assert sorted(kept)[:count] == sorted(losses)[:count]
    assert set(kept[count:]) <= set(losses)
    assert len([loss for loss in kept if loss < max(kept)]) < count


@pytest.mark.parametrize(
    ("least", "reduction", "stop_rate", "epochs"),
    [(1, 3, 0, 9), (2, 2, 0, 8), (1, 2, 1, 9), (1, 4, 0, 5), (3, 2, 0, 7)],
)
def test_asha_agrees_with_optuna(least: int, reduction: int, stop_rate: int, epochs: int) -> None:
    options = {
        "min_resource": least,
        "reduction_factor": reduction,
        "min_early_stopping_rate": stop_rate,
        "bootstrap_count": 0,
    }
    pruner = AshaPruner(least, reduction, epochs, stop_rate)
    assert_agrees_with_optuna(pruner, optuna.pruners.SuccessiveHalvingPruner, options, epochs)
