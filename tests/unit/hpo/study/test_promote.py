from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.promote import best_by_metric, best_trials
from hpo.values.objective import LOSS, OBJECTIVES, Objective


def row(number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> TrialRow:
    return TrialRow(
        100 + number, number, state, {"lr": 0.1}, TrialRecord(number, metrics={"accuracy": 0.5}), value
    )


ROWS = st.lists(
    st.tuples(st.sampled_from(TrialState), st.none() | st.integers(0, 5).map(float)), max_size=20
).map(lambda trials: [row(number, value, state) for number, (state, value) in enumerate(trials)])


def test_the_best_first_and_of_a_tie_the_earlier() -> None:
    rows = [row(0, 0.5), row(1, 0.2), row(2, 0.9), row(3, 0.2)]
    assert [trial_row.number for trial_row in best_trials(reversed(rows), 3, LOSS)] == [1, 3, 0]


def test_only_trials_that_completed_with_a_value_count() -> None:
    others = [TrialState.WAITING, TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL]
    rows = [row(number, 0.1, state) for number, state in enumerate(others)]
    # Optuna keeps an infinite value as none.
    assert best_trials([*rows, row(8, None), row(9, 0.7)], 5, LOSS) == [row(9, 0.7)]


def test_trial_that_others_ended_does_not_count() -> None:
    told_trial = TrialRow(3, 3, TrialState.COMPLETE, {"lr": 0.1}, TrialRecord(3), 0.1)
    assert best_trials([row(2, 0.5), told_trial], 3, LOSS) == [row(2, 0.5)]


def test_maximised_objective_ranks_the_highest_first() -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, 0.2), row(3, 0.9)]
    assert [best.number for best in best_trials(rows, 3, OBJECTIVES["accuracy"])] == [1, 3, 0]
    scores = [row(0, -5.0), row(1, -1.5), row(2, -30.0)]
    score = Objective("score", "maximize", "score")
    assert [best.number for best in best_trials(scores, 2, score)] == [1, 0]


def test_trials_may_be_ranked_by_another_metric_than_the_objective() -> None:
    f1 = OBJECTIVES["macro_f1"]
    rows = [
        replace(row(number, loss), record=TrialRecord(number, metrics=metrics))
        for number, (loss, metrics) in enumerate(
            [(0.1, {f1.key: 0.5}), (0.3, {f1.key: 0.8}), (0.2, {f1.key: 0.7}), (0.05, {})]
        )
    ]
    assert best_by_metric(rows, 2, f1) == [rows[1], rows[2]]
    assert best_by_metric(rows, 9, f1) == [rows[1], rows[2], rows[0]]


def test_of_nothing_nothing() -> None:
    assert best_trials([], 3, LOSS) == []
    assert best_trials([row(0, 0.5)], 0, LOSS) == []


@given(ROWS, st.integers(0, 25), st.randoms())
def test_the_choice_depends_on_the_trials_alone(rows: list[TrialRow], k: int, random: Random) -> None:
    chosen = best_trials(rows, k, LOSS)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert best_trials(shuffled, k, LOSS) == chosen
    complete = [r for r in rows if r.state == TrialState.COMPLETE and r.value is not None]
    assert len(chosen) == min(k, len(complete))
    assert best_trials(rows, k + 1, LOSS)[:k] == chosen
    left = [r for r in complete if r not in chosen]
    assert all((c.value, c.number) < (r.value, r.number) for c in chosen for r in left)
