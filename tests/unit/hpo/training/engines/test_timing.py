"""Engines take turns while they are measured, and the fewest seconds of each count."""

from collections.abc import Iterator

import torch
from torch import Tensor

from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.engines.timing import LEAST_ROUNDS, ROUNDS, fastest, measure_seconds
from hpo.training.metrics import Scores
from hpo.values.data_shape import DataShape

LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowEngine(EagerEngine):
    """Computes nothing, and lets the clock advance by the next of its seconds."""

    def __init__(self, clock: Clock, seconds: Iterator[float]) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds
        self.calls: list[str] = []

    def step(self, *_arguments: object) -> Tensor:
        self.calls.append("step")
        self._clock.now += next(self._seconds)
        return torch.zeros(1)

    def score(self, *_arguments: object) -> Scores:
        self.calls.append("score")
        self._clock.now += next(self._seconds)
        return Scores(torch.zeros(1), torch.zeros(1), torch.zeros(1, 1))


def test_the_fewest_seconds_of_each_engine_count() -> None:
    clock = Clock()
    steady = SlowEngine(clock, iter([0.25] * ROUNDS))
    improving = SlowEngine(clock, iter([0.5, *[0.125] * ROUNDS]))
    seconds = measure_seconds(Program(LENET, "sgd", 16), {"steady": steady, "improving": improving}, clock)
    assert seconds == {"steady": 0.25, "improving": 0.125}
    assert fastest(seconds) == "improving"


def test_fast_engines_take_all_rounds_and_slow_engines_the_fewest() -> None:
    for each, rounds in ((0.0, ROUNDS), (100.0, LEAST_ROUNDS)):
        clock = Clock()
        engine = SlowEngine(clock, iter([each] * ROUNDS))
        measure_seconds(Program(LENET, "adam", 16), {"engine": engine}, clock)
        assert engine.calls == ["step"] * rounds


def test_an_evaluation_is_measured_by_scores() -> None:
    clock = Clock()
    engine = SlowEngine(clock, iter([100.0] * ROUNDS))
    measure_seconds(Program(LENET, None, 80), {"engine": engine}, clock)
    assert engine.calls == ["score"] * LEAST_ROUNDS
