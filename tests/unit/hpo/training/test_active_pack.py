"""Evaluation beside the next epoch: the results are those of evaluation in line."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import candidate
from support.delayed_evaluation import DelayedEvaluation
from support.states import assert_same_state
from support.training import (
    AVERAGED,
    DIVERGING,
    FULL,
    GOOD,
    SEARCH,
    SLOW,
    STEPS,
    WatchedEngine,
    images,
    lenet,
    linear,
    small_trainer,
    with_evaluator,
)
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.training.classification import Classification
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Budget, Phase
from hpo.values.state import SessionState

POLLS = [0, 3, 1000]
"""Polls after which an evaluation is done: after no, some or all steps of the next epoch."""


@pytest.mark.parametrize("polls", POLLS)
def test_the_next_epoch_begins_beside_the_evaluation(polls: int) -> None:
    engine = WatchedEngine()
    trainer = with_evaluator(small_trainer(SEARCH, engine=engine), DelayedEvaluation(polls))
    session = trainer.start({0: GOOD, 1: SLOW})
    ahead = min(polls, STEPS)
    for steps in (STEPS + ahead, 2 * STEPS + ahead, 3 * STEPS):
        session.epoch()
        assert len(engine.widths) == steps


@pytest.mark.parametrize("budget", [FULL, AVERAGED], ids=["last weights", "averages"])
@pytest.mark.parametrize("polls", POLLS)
def test_evaluation_beside_the_next_epoch_changes_no_bit(polls: int, budget: Budget) -> None:
    candidates = {0: GOOD, 4: SLOW, 2: candidate(0.5, 0.9, 0.0, 7)}
    in_line, beside = (
        with_evaluator(small_trainer(budget, lenet), evaluator).start(candidates)
        for evaluator in (None, DelayedEvaluation(polls))
    )
    while in_line.members:
        assert beside.epoch() == in_line.epoch()
        assert_equal_states(beside.states(), in_line.states())
    assert beside.members == []
    for key in candidates:
        weights, expected = beside.weights(key), in_line.weights(key)
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def assert_equal_states(states: dict[int, SessionState], expected: dict[int, SessionState]) -> None:
    assert states.keys() == expected.keys()
    for key, state in states.items():
        assert_same_state(state, expected[key])


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["epoch", "epoch", "drop", "join", "raise", "states"]), st.integers(0, 9)),
    max_size=12,
)


class Drawing(nn.Module):
    """Draws from torch's generator itself, so its losses change if the generator's state does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.layer(F.dropout(pixels.flatten(1), 0.3, self.training))
        return output


@settings(max_examples=40)
@given(
    actions=ACTIONS,
    polls=st.integers(0, 2 * STEPS),
    keep=st.sampled_from(["last", "best"]),
    ema=st.sampled_from([None, 0.9]),
)
def test_any_sequence_of_actions_gives_the_same_results_in_line_and_beside(
    actions: list[tuple[str, int]], polls: int, keep: Literal["last", "best"], ema: float | None
) -> None:
    adam = Phase("adam", 2, settings={"lr": 1e-3}, ema=ema)
    budget = Budget("full", (Phase("sgd", 4, patience=2, ema=ema), adam), keep)
    engines = WatchedEngine(), WatchedEngine()
    in_line, beside = (
        with_evaluator(small_trainer(budget, Drawing, engine=engine), evaluator).start(
            {0: GOOD, 1: SLOW, 2: DIVERGING}
        )
        for engine, evaluator in zip(engines, (None, DelayedEvaluation(polls)), strict=True)
    )
    for number, (action, choice) in enumerate([*actions, *[("epoch", 0)] * 3]):
        for session, engine in zip((in_line, beside), engines, strict=True):
            if action == "drop" and session.members:
                session.drop({session.members[choice % len(session.members)]})
            elif action == "join":
                session.join({10 + number: candidate(0.01 * (1 + choice), 0.5, 0.0, seed=choice)}, {})
            elif action == "raise" and session.members:
                engine.failing_step, engine.failing_score = choice, 0
                with pytest.raises(KeyboardInterrupt):
                    session.epoch()
                engine.recover()
        if action == "epoch":
            assert repr(beside.epoch()) == repr(in_line.epoch())  # repr makes NaN equal to NaN
        elif action == "states":
            assert_equal_states(beside.states(), in_line.states())
        assert beside.members == in_line.members


def test_the_begun_epoch_is_discarded_and_its_steps_are_waited_for_when_members_leave() -> None:
    engine, evaluator = WatchedEngine(), DelayedEvaluation(3)
    session = with_evaluator(small_trainer(SEARCH, engine=engine), evaluator).start({0: GOOD, 1: SLOW})
    session.epoch()
    assert (engine.widths, evaluator.waits) == ([2] * (STEPS + 3), 0)
    session.drop({1})
    assert evaluator.waits == 1
    session.epoch()
    assert engine.widths[STEPS + 3 :] == [1] * (STEPS + 3)


def test_seconds_of_an_evaluation_beside_steps_count_as_training() -> None:
    ticks = iter([0.0, 6.0, 8.0])
    task = Task(linear, images(0), images(1, 70), Classification(10))
    runtime = Runtime(clock=lambda: next(ticks), evaluator=DelayedEvaluation(2))
    session = Trainer(task, Recipe(SEARCH, 16, 5), runtime=runtime).start({0: GOOD, 1: SLOW})
    results = session.epoch()
    assert [(result.seconds, result.evaluation_seconds) for result in results] == [(3.0, 1.0)] * 2
