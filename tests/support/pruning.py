"""Learning curves for tests of pruners, and a comparison with Optuna's pruners."""

from collections.abc import Mapping

import numpy as np
import optuna
from hypothesis import strategies as st
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from hpo.search.pruners.base import Peer, Pruner

LOSSES = st.integers(0, 40).map(lambda n: n / 8)  # few values, so that ties occur; exact in binary


def flat(loss: float, epochs: int) -> dict[int, float]:
    return dict.fromkeys(range(1, epochs + 1), loss)


def peers(*losses: float, epochs: int = 1, complete: bool = True) -> list[Peer]:
    """Return trials 100, 101, ... with constant losses."""
    return [Peer(100 + i, flat(loss, epochs), complete) for i, loss in enumerate(losses)]


def count_pruned(pruner: Pruner, optuna_pruner: BasePruner, epochs: int, seed: int, at_once: int) -> int:
    """Replay random curves in both pruners, `at_once` trials side by side; return the number of pruned
    trials.

    The next epoch is one of a random running trial. One trial in ten fails. Optuna also decides at the last
    epoch, where pruning saves nothing; it is not asked there.
    """
    rng = np.random.default_rng(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna_pruner)
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
            prune = pruner.should_prune(number, dict(curve), others)
            assert prune == trial.should_prune(), (number, curve, others)
            if prune:
                study.tell(trial, state=TrialState.PRUNED)
                del running[number]
                pruned += 1
    return pruned


def assert_agrees_with_optuna(
    pruner: Pruner, optuna_class: type[BasePruner], options: Mapping[str, float], epochs: int
) -> None:
    pruned = [
        count_pruned(pruner, optuna_class(**options), epochs, seed, at_once)
        for seed, at_once in [(0, 1), (1, 1), (2, 4), (3, 24)]
    ]
    assert sum(pruned) > 0
