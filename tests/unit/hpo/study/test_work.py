"""What the stages of a study still have to train."""

from typing import Any

import pytest
from optuna.trial import TrialState
from support.live import stage_status

from hpo.search.expected_epochs import LEAST, MOST, EpochRange
from hpo.spec.study_spec import StudySpec
from hpo.study.study import Study
from hpo.study.work import full_scale, full_work, least_epochs, search_work

RUNNING, WAITING, COMPLETE = TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE
PRUNED, FAIL = TrialState.PRUNED, TrialState.FAIL


def study(**changes: Any) -> Study:
    raw = {
        "name": "small",
        "model": {"name": "lenet"},
        "data": {"name": "digits"},
        "space": {"lr": [0.001, 0.01, 0.1], "batch_size": [16, 32]},
        "pruner": {"name": "none"},
        "search": {"trials": 6, "epochs": 4},
        "full": {"pretrain": {"epochs": 10, "patience": 3}, "finetune": {"epochs": 5, "patience": 9}},
        "promotion": {"top": 1, "seeds": 2},
    }
    return Study(StudySpec.parse({**raw, **changes}), 1, 2, "0123abcd", "f")


def test_search_has_the_epochs_of_its_open_trials() -> None:
    trained = {0: (COMPLETE, 4), 1: (RUNNING, 1), 2: (WAITING, 0), 3: (FAIL, 2)}
    work = search_work(study(), stage_status(budget=6, to_come=2), trained)
    assert (work.epochs, work.trials) == (EpochRange(15, 15, 15), 4)


def test_epoch_budget_limits_the_search() -> None:
    trained = {0: (COMPLETE, 4), 1: (RUNNING, 1)}
    work = search_work(study(stop={"epochs": 8}), stage_status(budget=6, to_come=4), trained)
    assert work.epochs == EpochRange(3, 3, 3)
    assert search_work(study(stop={"epochs": 4}), stage_status(budget=6, to_come=4), trained).epochs.high == 0


def test_paused_search_expects_few_trials_at_the_end() -> None:
    paused = study(pruner={"name": "pause", "min_epochs": 1})
    work = search_work(paused, stage_status(budget=6), dict.fromkeys(range(6), (WAITING, 1)))
    assert work.epochs == EpochRange(
        5, 5 * LEAST, 5 * MOST
    )  # three trials train epoch 2, and one the last two


def test_full_training_ends_between_early_stopping_and_its_last_epoch() -> None:
    work = full_work(study(), stage_status(budget=2), {})
    assert least_epochs(study().spec.budget("full")) == 4 + 5
    assert work.epochs == EpochRange(27, 18, 30)
    assert (work.trials, work.longest) == (2, 15)


def test_ended_trainings_tell_how_long_others_train() -> None:
    trained = {0: (COMPLETE, 9), 1: (RUNNING, 3)}
    work = full_work(study(), stage_status(budget=2), trained)
    assert work.epochs.expected == pytest.approx(6)
    assert (work.epochs.low, work.epochs.high) == (6, 12)
    late = full_work(study(), stage_status(budget=2), {0: (COMPLETE, 9), 1: (RUNNING, 14)})
    assert late.epochs == EpochRange(1, 1, 1)


def test_nothing_is_left_of_ended_trainings() -> None:
    ended = {0: (COMPLETE, 9), 1: (FAIL, 3)}
    assert not full_work(study(), stage_status(budget=2), ended).epochs.high


def test_epochs_of_full_training_have_more_images() -> None:
    spec = study(data={"name": "digits", "mini": 0.1, "validation": 0.2}).spec
    # 0.08 of the images train and 0.02 validate in the search, 0.9 and 0.1 in full training.
    assert full_scale(spec) == pytest.approx((0.9 + 0.1 / 3) / (0.08 + 0.02 / 3))
    function = {
        "name": "own",
        "train": {"function": "train:fit"},
        "space": {"depth": [1, 2]},
        "search": {"trials": 2, "epochs": 4},
    }
    assert full_scale(StudySpec.parse(function)) == 1
