from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.search import stopping
from hpo.search.stopping import HOUR, EndedTrial, StopSection, expected_remaining_epochs
from hpo.values.objective import LOSS, OBJECTIVES

ENDED = st.lists(st.tuples(st.none() | st.integers(0, 5).map(float), st.booleans()), max_size=20).map(
    lambda trials: [
        EndedTrial(number, value, inherited)
        # Inherited trials come first.
        for number, (value, inherited) in enumerate(sorted(trials, key=lambda trial: not trial[1]))
    ]
)
RULES = st.builds(
    StopSection,
    target=st.none() | st.integers(0, 5).map(float),
    patience=st.none() | st.integers(1, 8),
    device_hours=st.none() | st.integers(1, 3).map(float),
)


@dataclass(frozen=True)
class Progress:
    ended: Sequence[EndedTrial]
    epochs: int
    device_seconds: float


def stop_reason(
    rules: StopSection, trials: Sequence[EndedTrial], epochs: int, device_seconds: float
) -> str | None:
    return stopping.stop_reason(rules, Progress(trials, epochs, device_seconds), LOSS)


def test_every_key_has_its_rule() -> None:
    assert list(stopping.RULES) == list(StopSection.model_fields)


def ended(*values: float | None) -> list[EndedTrial]:
    return [EndedTrial(number, value) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("target", "values", "expected"),
    [
        (0.35, [], None),
        (0.35, [0.5, None, 0.36], None),
        (0.35, [0.5, 0.35, 0.4], "target 0.35 reached by trial 1 (0.35)"),
        (0.35, [0.5, 0.34209, 0.34], "target 0.35 reached by trial 2 (0.34)"),  # the best, not the first
        (1e-6, [2e-6, 5e-7], "target 1e-06 reached by trial 1 (5e-07)"),
    ],
)
def test_search_stops_at_the_target(target: float, values: list[float | None], expected: str | None) -> None:
    assert stop_reason(StopSection(target=target), ended(*values), 0, 0) == expected


@pytest.mark.parametrize(
    ("patience", "values", "expected"),
    [
        (3, [0.5, 0.6, 0.7], None),
        (3, [0.5, 0.6, 0.7, 0.4], None),
        (3, [0.5, 0.6, 0.7, 0.8, 0.4], None),  # the last trial improved
        (3, [0.5, 0.6, None, 0.5], "no improvement for 3 trials (patience 3): the best is trial 0 (0.5)"),
        (
            2,
            [0.5, 0.4, None, None, None],
            "no improvement for 3 trials (patience 2): the best is trial 1 (0.4)",
        ),
        (2, [None, None], "no improvement for 2 trials (patience 2): none completed"),
    ],
)
def test_search_stops_after_patience_trials_without_improvement(
    patience: int, values: list[float | None], expected: str | None
) -> None:
    assert stop_reason(StopSection(patience=patience), ended(*values), 0, 0) == expected


def test_search_stops_after_its_device_hours() -> None:
    rules = StopSection(device_hours=1.5)
    assert stop_reason(rules, [], 0, 1.5 * HOUR - 0.1) is None
    assert stop_reason(rules, [], 0, 1.52 * HOUR) == "1.52 device hours spent of 1.5"


def test_search_stops_after_its_epochs() -> None:
    rules = StopSection(epochs=140)
    assert stop_reason(rules, [], 139, 0) is None
    assert stop_reason(rules, [], 142, 0) == "142 epochs trained of 140"


def test_inherited_trials_set_the_best_but_do_not_count() -> None:
    before = [replace(trial, inherited=True) for trial in ended(0.5, 0.6, 0.7, 0.8)]
    rules = StopSection(patience=2)
    assert stop_reason(rules, before, 0, 0) is None
    assert stop_reason(rules, [*before, EndedTrial(4, 0.55)], 0, 0) is None
    assert stop_reason(rules, [*before, EndedTrial(4, 0.55), EndedTrial(5, 0.5)], 0, 0) is not None
    assert stop_reason(StopSection(target=0.5), before, 0, 0) == "target 0.5 reached by trial 0 (0.5)"


def test_maximised_objective_reaches_its_target_from_below() -> None:
    accuracy = OBJECTIVES["accuracy"]

    def reason(rules: StopSection, *values: float | None) -> str | None:
        return stopping.stop_reason(rules, Progress(ended(*values), 0, 0), accuracy)

    assert reason(StopSection(target=0.9), 0.5, 0.89) is None
    assert reason(StopSection(target=0.9), 0.5, 0.9, None) == "target 0.9 reached by trial 1 (0.9)"
    assert reason(StopSection(patience=2), 0.5, 0.4, 0.6, 0.1) is None
    worse = reason(StopSection(patience=2), 0.5, 0.6, 0.55, 0.1)
    assert worse == "no improvement for 2 trials (patience 2): the best is trial 1 (0.6)"


@given(ENDED, st.floats(0, 1e9))
def test_search_without_rules_never_stops(trials: list[EndedTrial], seconds: float) -> None:
    assert stop_reason(StopSection(), trials, 0, seconds) is None


@given(RULES, ENDED, st.integers(0, 4).map(lambda hours: hours * HOUR))
def test_search_stops_exactly_when_a_rule_holds(
    rules: StopSection, trials: list[EndedTrial], seconds: float
) -> None:
    new = [trial for trial in trials if not trial.inherited]
    best = min((trial.value for trial in trials if trial.value is not None), default=None)
    reached = rules.target is not None and best is not None and best <= rules.target
    spent = rules.device_hours is not None and seconds >= rules.device_hours * HOUR
    in_vain = False
    if rules.patience is not None and len(new) >= rules.patience:
        before = trials[: len(trials) - rules.patience]
        mark = min((trial.value for trial in before if trial.value is not None), default=float("inf"))
        in_vain = all(trial.value is None or trial.value >= mark for trial in new[-rules.patience :])
    assert (stop_reason(rules, trials, 0, seconds) is not None) == (reached or in_vain or spent)


@given(RULES, ENDED, st.floats(0, 4 * HOUR))
def test_softer_rules_stop_no_running_search(
    rules: StopSection, trials: list[EndedTrial], seconds: float
) -> None:
    if stop_reason(rules, trials, 0, seconds) is None:
        softer = StopSection(
            target=None if rules.target is None else rules.target - 1,
            patience=None if rules.patience is None else rules.patience + 1,
            device_hours=None if rules.device_hours is None else rules.device_hours * 2,
        )
        assert stop_reason(softer, trials, 0, seconds) is None


@pytest.mark.parametrize(
    ("ended", "running", "expected"),
    [
        ([], [], 0),
        ([], [0, 0, 2], 5 + 5 + 3),  # no trial has ended
        ([5, 5], [0, 3, 5], 5 + 2 + 0),
        ([1, 1, 1], [0], 1),
        ([1, 1, 5], [0], 1 + 4 / 3),
        # Of three trials at epoch 1 one ended there; the other two have not ended yet.
        ([1], [1, 1], 2 * 4),
        ([1, 3], [0, 2], (1 + 2 / 3 * (1 + 1 + 0 * 2)) + 1),
    ],
)
def test_expected_remaining_epochs(ended: list[int], running: list[int], expected: float) -> None:
    assert expected_remaining_epochs(ended, running, 5) == pytest.approx(expected)


@given(st.lists(st.integers(0, 6), max_size=20), st.lists(st.integers(0, 6), max_size=20))
def test_running_trial_is_expected_to_train_one_to_all_epochs(ended: list[int], running: list[int]) -> None:
    least = sum(trained < 6 for trained in running)
    most = sum(6 - trained for trained in running)
    assert least <= expected_remaining_epochs(ended, running, 6) <= most
