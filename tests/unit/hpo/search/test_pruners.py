import math
import zlib
from collections import Counter

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from hpo.search.pruners import Peer, Rule, asha, hyperband, median, never, rung_epochs, standing_out

LOSSES = st.integers(0, 40).map(lambda n: n / 8)  # few values, so that ties occur; exact in binary


def flat(loss: float, epochs: int) -> dict[int, float]:
    return dict.fromkeys(range(1, epochs + 1), loss)


def peers(*losses: float, epochs: int = 1, complete: bool = True) -> list[Peer]:
    """Trials 100, 101, ... whose loss stays the same for these epochs."""
    return [Peer(100 + i, flat(loss, epochs), complete) for i, loss in enumerate(losses)]


def test_never() -> None:
    assert not never(0, {1: math.inf}, peers(0.0, 0.0, 0.0))


# --- median


def test_median_prunes_above_the_median_of_completed_trials() -> None:
    rule = median(startup_trials=3, warmup_epochs=0)
    done = peers(1.0, 2.0, 3.0, epochs=4)
    assert rule(0, {1: 2.5}, done)
    assert not rule(0, {1: 2.0}, done)
    assert not rule(0, {1: 1.5, 2: 9.0}, done), "its best so far counts"
    assert rule(0, {1: 2.5}, peers(1.0, 2.0, 2.4, 3.0)), "of an even number, the mean of the middle two"
    assert not rule(0, {1: 2.2}, peers(1.0, 2.0, 2.4, 3.0))


def test_median_waits() -> None:
    rule = median(startup_trials=3, warmup_epochs=2)
    done = peers(1.0, 1.0, 1.0, epochs=4)
    assert [rule(0, flat(9.0, epoch), done) for epoch in (1, 2, 3)] == [False, False, True]
    assert not rule(0, flat(9.0, 3), done[:2])
    running = [Peer(200, flat(1.0, 4), complete=False)]
    assert not rule(0, flat(9.0, 3), done[:2] + running)
    assert not rule(0, flat(9.0, 5), done), "nobody has been there"


# --- asha


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [
        ((1, 3, 9), [1, 3]),
        ((1, 3, 10), [1, 3, 9]),
        ((2, 2, 8), [2, 4]),
        ((1, 3, 1), []),
        ((5, 3, 5), []),
        ((1, 2, 17, 2), [4, 8, 16]),
        ((1, 3, 27, 3), []),
    ],
)
def test_rung_epochs(arguments: tuple[int, ...], epochs: list[int]) -> None:
    assert rung_epochs(*arguments) == epochs


def test_of_a_pack_of_nine_three_and_then_one_go_on() -> None:
    rule = asha(1, 3, 9)
    losses = {number: float(number) for number in range(9)}
    for epoch, left in [(1, {0, 1, 2}), (2, {0, 1, 2}), (3, {0}), (4, {0})]:
        curves = {number: flat(loss, epoch) for number, loss in losses.items()}
        pruned = {
            number
            for number, curve in curves.items()
            if rule(number, curve, [Peer(n, c, False) for n, c in curves.items() if n != number])
        }
        losses = {number: loss for number, loss in losses.items() if number not in pruned}
        assert losses.keys() == left


@pytest.mark.parametrize(
    ("order", "survivors"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], {0}),
        ([8, 7, 6, 5, 4, 3, 2, 1, 0], {8, 7, 6, 5, 4, 3, 2, 1, 0}),  # each is the best so far
        (
            [8, 7, 0, 6, 5, 1, 4, 3, 2],
            {8, 7, 0, 1, 2},
        ),  # 1 is among the best two of six, 2 the best three of nine
    ],
)
def test_one_after_another_a_trial_is_compared_with_those_before(
    order: list[int], survivors: set[int]
) -> None:
    rule, seen, went_on = asha(1, 3, 9), list[Peer](), set()
    for number in order:
        curve = {1: float(number)}
        if not rule(number, curve, seen):
            went_on.add(number)
        seen.append(Peer(number, curve, False))
    assert went_on == survivors


def test_the_first_trial_and_the_best_by_far_are_never_pruned() -> None:
    # Optuna's `bootstrap_count` prunes the first trials whatever they are.
    for rule in (asha(1, 3, 9), hyperband(1, 3, 9), median(1, 0)):
        assert not any(rule(0, flat(9.0, epoch), []) for epoch in range(1, 10))
        others = peers(*[1.0] * 20, epochs=9)
        assert not any(rule(0, flat(0.001, epoch), others) for epoch in range(1, 10))


def test_a_trial_that_starts_anew_is_judged_as_any_other() -> None:
    # Optuna's pruner goes by a note on the trial that it passed a rung, and lets the second attempt pass.
    rule, others = asha(1, 3, 9), peers(1.0, 2.0, 3.0, epochs=4)
    assert not rule(0, {1: 0.5}, others)
    assert rule(0, {1: 9.0}, others)
    assert rule(0, {1: 9.0}, others)


POPULATION = st.lists(LOSSES, min_size=1, max_size=20)


@given(POPULATION, LOSSES, st.integers(2, 4))
def test_asha_lets_the_better_pass_where_the_worse_passes(
    others: list[float], loss: float, reduction: int
) -> None:
    rule, known = asha(1, reduction, 100), peers(*others)
    answers = [rule(0, {1: value}, known) for value in sorted([loss, *others])]
    assert answers == sorted(answers)
    assert not rule(0, {1: min(others)}, known)


@given(POPULATION, LOSSES, st.integers(2, 4))
def test_only_ranks_matter_to_asha(others: list[float], loss: float, reduction: int) -> None:
    rule = asha(1, reduction, 100)
    cubed = rule(0, {1: loss**3}, peers(*[other**3 for other in others]))
    assert rule(0, {1: loss}, peers(*others)) == cubed


@given(POPULATION, st.integers(2, 4))
def test_at_most_one_in_reduction_and_those_tied_with_the_last_of_them_go_on(
    losses: list[float], reduction: int
) -> None:
    rule = asha(1, reduction, 100)
    curves = [{1: loss} for loss in losses]
    kept = [
        loss
        for i, loss in enumerate(losses)
        if not rule(i, curves[i], [Peer(j, c, False) for j, c in enumerate(curves) if j != i])
    ]
    count = max(1, len(losses) // reduction)
    assert sorted(kept)[:count] == sorted(losses)[:count]
    assert set(kept[count:]) <= set(losses)
    assert len([loss for loss in kept if loss < max(kept)]) < count


# --- hyperband


def first_pruned(rule: Rule, number: int, epochs: int) -> int | None:
    """The epoch at which a trial that is worse than 400 others is pruned: its bracket's first rung."""
    others = [Peer(n, flat(0.0, epochs), False) for n in range(400) if n != number]
    return next((e for e in range(1, epochs) if rule(number, flat(1.0, e), others)), None)


def test_hyperband_has_its_brackets_in_their_shares() -> None:
    rule = hyperband(1, 3, 9)
    counts = Counter(first_pruned(rule, number, 9) for number in range(400))
    # Of brackets 0, 1, 2 (Li et al. 2017, algorithm 1, R = 9): 9, 5 and 3 trials.
    for first, share in {1: 9 / 17, 3: 5 / 17, None: 3 / 17}.items():
        assert abs(counts[first] / 400 - share) < 0.06


def test_a_bracket_is_not_lost_to_rounding() -> None:
    assert math.floor(math.log(243, 3)) == 4  # 3**5 is 243
    rule = hyperband(1, 3, 243)
    assert {first_pruned(rule, number, 82) for number in range(200)} == {1, 3, 9, 27, 81, None}


def test_a_budget_below_the_first_rung_has_one_bracket_that_prunes_nobody() -> None:
    rule = hyperband(9, 3, 5)
    assert {first_pruned(rule, number, 5) for number in range(20)} == {None}


# --- as Optuna does


class _HyperbandByNumber(HyperbandPruner):
    """Optuna's, with the bracket drawn from the number of the trial and not from the study's name as well."""

    def _get_bracket_id(self, _study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
        if not self._trial_allocation_budgets:  # before it is first asked
            return 0
        place = zlib.crc32(str(trial.number).encode()) % self._total_trial_allocation_budget
        ends = np.cumsum(self._trial_allocation_budgets)
        return int(np.searchsorted(ends, place, side="right"))


def assert_same_as_optuna(rule: Rule, pruner: BasePruner, epochs: int, seed: int, at_once: int) -> int:
    """Replays random curves in both, `at_once` trials side by side; gives how many were pruned.

    The next step is that of a trial drawn among those that run. One in ten fails on the way. Optuna also
    judges in the last epoch, after which there is nothing left to save; it is not asked there.
    """
    rng = np.random.default_rng(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner)
    levels = [float(level) / 8 for level in rng.integers(16, size=24)]
    curves: dict[int, dict[int, float]] = {}
    running: dict[int, optuna.Trial] = {}
    complete: set[int] = set()
    pruned = started = 0
    while running or started < 24:
        while len(running) < at_once and started < 24:
            trial = study.ask()
            running[trial.number], curves[trial.number] = trial, {}
            started += 1
        number = int(rng.choice(sorted(running)))
        trial, curve = running[number], curves[number]
        if rng.random() < 0.1 / epochs:
            study.tell(trial, state=TrialState.FAIL)
            del running[number]
            continue
        curve[len(curve) + 1] = levels[number] + float(rng.integers(8)) / 8
        trial.report(curve[len(curve)], len(curve))
        if len(curve) == epochs:
            study.tell(trial, curve[epochs])
            complete.add(number)
            del running[number]
        else:
            others = [Peer(n, c, n in complete) for n, c in curves.items() if n != number]
            ours = rule(number, dict(curve), others)
            assert ours == trial.should_prune(), (number, curve, others)
            if ours:
                study.tell(trial, state=TrialState.PRUNED)
                del running[number]
                pruned += 1
    return pruned


def assert_agreement(rule: Rule, pruner: type[BasePruner], options: dict[str, int], epochs: int) -> None:
    pruned = [
        assert_same_as_optuna(rule, pruner(**options), epochs, seed, at_once)
        for seed, at_once in [(0, 1), (1, 1), (2, 4), (3, 24)]
    ]
    assert sum(pruned) > 0


@pytest.mark.parametrize(("startup", "warmup", "epochs"), [(1, 0, 3), (5, 0, 9), (4, 2, 6), (2, 5, 7)])
def test_median_agrees_with_optuna(startup: int, warmup: int, epochs: int) -> None:
    # Optuna's warm-up counts steps from 0; ours are epochs, from 1.
    options = {"n_startup_trials": startup, "n_warmup_steps": warmup + 1}
    assert_agreement(median(startup, warmup), MedianPruner, options, epochs)


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
    assert_agreement(asha(least, reduction, epochs, stop_rate), SuccessiveHalvingPruner, options, epochs)


@pytest.mark.parametrize(("least", "reduction", "epochs"), [(1, 3, 9), (1, 2, 8), (2, 2, 9), (1, 3, 5)])
def test_hyperband_agrees_with_optuna(least: int, reduction: int, epochs: int) -> None:
    options = {"min_resource": least, "max_resource": epochs, "reduction_factor": reduction}
    assert_agreement(hyperband(least, reduction, epochs), _HyperbandByNumber, options, epochs)


# --- who goes on from a pause


@pytest.mark.parametrize(
    ("reached", "ends", "expected"),
    [
        ([], [], [[], [], []]),
        ([1], [0.5], [[], [], [0]]),  # the best always goes on
        ([1, 1, 1, 1, 1, 1], [6, 5, 4, 3, 2, 1], [[], [], [5, 4]]),  # a third
        ([1, 1, 1, 1, 1], [6, 5, 4, 3, 2], [[], [], [4]]),
        ([2, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], [[], [0], [1]]),  # one has gone on already
        ([2, 2, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], [[], [0], []]),
        ([2, 2, 1, 1, 1, 1], [5, 6, 1, 2, 3, 4], [[], [0], [2, 3]]),  # those who went on were not the best
        ([5, 4, 4, 2, 1], [1, 2, 3, 4, 5], [[0], [], []]),
        ([5, 4, 4, 2, 1], [9, 2, 3, 4, 1], [[1], [], [4]]),
        ([3, 1, 1], [1, 2, 3], [[], [0], []]),  # one that trained an epoch too much stands at its last rung
    ],
)
def test_who_stands_out_at_each_rung(
    reached: list[int], ends: list[float], expected: list[list[int]]
) -> None:
    assert list(standing_out(reached, ends, (1, 2, 4), 3)) == expected


@given(st.lists(st.tuples(st.integers(1, 5), LOSSES), max_size=30), st.integers(2, 4))
def test_a_share_of_each_rung_may_go_on(trials: list[tuple[int, float]], reduction: int) -> None:
    reached, ends = [epochs for epochs, _ in trials], [loss for _, loss in trials]
    found = standing_out(reached, ends, (1, 2, 4), reduction)
    for rung, above, chosen in zip((4, 2, 1), (math.inf, 4, 2), found, strict=True):
        there = [place for place, epochs in enumerate(reached) if epochs >= rung]
        assert len(chosen) <= max(1, len(there) // reduction)
        assert all(rung <= reached[place] < above for place in chosen)
        worst = max((ends[place] for place in chosen), default=-math.inf)
        better = sum(ends[place] < worst for place in there)
        assert better < max(1, len(there) // reduction)
