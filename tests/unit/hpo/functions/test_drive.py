"""Functions of all kinds, driven in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.functions.drive import Yielded, drive
from hpo.functions.measured import MetricsError
from hpo.functions.trial import Trial


def run(function: Callable[[Trial], Any], trained: int = 0, until: int = 99) -> list[tuple[int, Any, bool]]:
    """Drive a function with a budget of 3, and end it after the epoch `until`; return what it commits."""
    committed: list[tuple[int, Any, bool]] = []

    def commit(yielded: Yielded) -> bool:
        committed.append((yielded.epoch, yielded.metrics, yielded.is_last))
        return yielded.epoch < until

    trial = Trial({}, budget=3, directory=Path(), trained=trained)
    drive(function, trial, "loss", commit)
    return committed


def counts(trial: Trial) -> Iterator[int]:
    yield from trial.epochs


class Counting:
    """A callable, whose result is an iterator and no generator."""

    def __call__(self, trial: Trial) -> Iterator[int]:
        return iter(trial.epochs)


@pytest.mark.parametrize(
    "function", [counts, functools.partial(counts), Counting(), lambda trial: counts(trial)]
)
def test_each_yield_is_an_epoch(function: Callable[[Trial], Any]) -> None:
    assert run(function) == [(1, {"loss": 1}, False), (2, {"loss": 2}, False), (3, {"loss": 3}, True)]
    assert run(function, trained=2) == [(3, {"loss": 3}, True)]
    assert run(function, trained=3) == [(3, None, True)]


def test_value_is_one_epoch() -> None:
    assert run(lambda _trial: 0.5) == [(1, {"loss": 0.5}, True)]


def test_function_runs_to_its_end_after_the_last_epoch() -> None:
    """What it does after its loop comes before the commit of the last epoch."""
    ended: list[int] = []

    def fit(trial: Trial) -> Iterator[int]:
        yield from trial.epochs
        ended.append(len(ended))

    committed = run(fit)
    assert (len(committed), ended) == (3, [0])


def test_function_that_counts_by_itself_is_closed_at_the_budget() -> None:
    trained: list[int] = []

    def fit(_trial: Trial) -> Iterator[int]:
        try:
            for epoch in range(1, 100):
                trained.append(epoch)
                yield epoch
        finally:
            trained.append(-1)

    assert [epoch for epoch, _, _ in run(fit)] == [1, 2, 3]
    assert trained == [1, 2, 3, -1]


def test_function_cannot_change_its_budget() -> None:
    def fit(trial: Trial) -> Iterator[int]:
        trial.budget, trial.trained = 99, 50
        yield from range(1, 9)

    assert [epoch for epoch, _, _ in run(fit)] == [1, 2, 3]


def test_function_that_is_pruned_is_closed() -> None:
    closed = []

    def fit(trial: Trial) -> Iterator[int]:
        try:
            yield from trial.epochs
        finally:
            closed.append(True)

    assert len(run(fit, until=2)) == 2
    assert closed == [True]


def test_early_end_finishes_the_trial() -> None:
    def fit(_trial: Trial) -> Iterator[int]:
        yield 1

    assert run(fit) == [(1, {"loss": 1}, False), (1, None, True)]


def test_generator_without_epochs_may_return_its_value() -> None:
    def fit(trial: Trial) -> Generator[Any, None, float]:
        if trial.budget > 99:
            yield 0
        return 0.5

    assert run(fit) == [(1, {"loss": 0.5}, True)]


def nothing(_trial: Trial) -> Iterator[int]:
    yield from ()


async def later(_trial: Trial) -> float:
    return 0.5


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("function", [nothing, later, lambda _trial: None, lambda _trial: [1, 2]])
def test_function_without_metrics_fails(function: Callable[[Trial], Any]) -> None:
    with pytest.raises(MetricsError):
        run(function)


def test_place_of_a_bad_yield_is_named() -> None:
    def fit(_trial: Trial) -> Iterator[str]:
        yield "text"

    with pytest.raises(MetricsError, match=r"^str is neither .*; yielded at .*test_drive.py:\d+$"):
        run(fit)
