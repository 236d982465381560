from dataclasses import replace

import pytest
from optuna.trial import TrialState

from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.packs import begun, fair_share, select_pack, with_key
from hpo.values.free import FREE
from hpo.values.space import Choices, SearchSpace

SPACE = SearchSpace({"batch_size": Choices((16, 32))})


def trial(number: int, batch_size: int = 16, state: TrialState = TrialState.WAITING) -> TrialRow:
    return TrialRow(100 + number, number, state, {"batch_size": batch_size}, TrialRecord(number))


def numbers(rows: list[TrialRow]) -> list[int]:
    return [row.number for row in rows]


def test_pack_has_the_batch_size_of_its_first_trial() -> None:
    rows = [trial(0, 16), trial(1, 32), trial(2, 16), trial(3, 16)]
    assert numbers(select_pack(SPACE, rows, 2, {})) == [0, 2]
    assert numbers(select_pack(SPACE, rows[1:], 9, {})) == [1]
    assert select_pack(SPACE, [], 9, {}) == []


def test_free_parameters_do_not_separate_trials() -> None:
    rows = [trial(0, 16), trial(1, 32), trial(2, 16)]
    assert numbers(select_pack(replace(SPACE, vocabulary=FREE), rows, 9, {})) == [0, 1, 2]


def test_suspect_trial_is_alone_in_its_pack() -> None:
    rows = [trial(0), trial(1), trial(2)]
    assert numbers(select_pack(SPACE, rows, 9, {100: 2})) == [0]
    assert numbers(select_pack(SPACE, rows, 9, {101: 2})) == [0, 2]
    assert numbers(select_pack(SPACE, rows, 9, {101: 1})) == [0, 1, 2]
    assert numbers(with_key(SPACE, rows, SPACE.pack_key({"batch_size": 16}), {100: 3})) == [1, 2]


def test_trial_of_a_pack_that_failed_is_alone_in_its_pack() -> None:
    alone = replace(trial(1), record=TrialRecord(1, alone=True))
    rows = [trial(0), alone, trial(2)]
    assert numbers(select_pack(SPACE, rows, 9, {})) == [0, 2]
    assert numbers(select_pack(SPACE, rows[1:], 9, {})) == [1]
    assert numbers(with_key(SPACE, rows, SPACE.pack_key({"batch_size": 16}), {})) == [0, 2]


def test_begun_trials_run_or_have_a_lease() -> None:
    rows = [trial(0), trial(1, state=TrialState.RUNNING), trial(2)]
    assert numbers(begun(rows, {102: 0})) == [1, 2]


@pytest.mark.parametrize(
    ("waiting", "live", "idle", "starting", "share"),
    [
        (12, 1, 1, 0, 12),
        (12, 4, 4, 0, 3),
        (9, 4, 3, 0, 3),
        (12, 1, 1, 3, 3),
        (5, 5, 1, 0, 4),  # four workers are busy: a small share grows to a small pack
        (2, 5, 1, 0, 2),
        (8, 5, 4, 0, 2),
    ],
)
def test_waiting_trials_are_shared_among_workers(
    waiting: int, live: int, idle: int, starting: int, share: int
) -> None:
    assert fair_share(waiting, live, idle, starting) == share
