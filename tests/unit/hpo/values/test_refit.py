"""The epochs of a refit follow from the curve of the training that it repeats."""

import pytest

from hpo.values.budget import Budget, Phase
from hpo.values.refit import epoch_limits, is_refit, refit_key

PHASES = (Phase("sgd", 6, patience=2), Phase("adam", 4, patience=2))


def limits(costs: list[float], phases: tuple[Phase, ...] = PHASES) -> tuple[int, ...]:
    """Return the limits of the refit of a training with these costs, which keeps its best epoch."""
    by_epoch = dict(enumerate(costs, start=1))
    return epoch_limits(phases, by_epoch, min(by_epoch, key=by_epoch.__getitem__))


def test_refit_ends_in_the_first_phase_if_the_second_brought_nothing() -> None:
    assert limits([5, 4, 3, 4, 4, 6, 7]) == (3,)  # early stopping after epoch 5, two epochs of the second


def test_second_phase_begins_from_the_best_epoch_of_the_first() -> None:
    assert limits([5, 4, 3, 4, 4, 2.5, 2, 3, 3]) == (3, 2)


def test_first_phase_without_early_stopping_lasts_all_its_epochs() -> None:
    assert limits([6, 5, 4, 3.5, 3.2, 3.1, 3, 2, 1, 1.5]) == (6, 3)
    assert limits([9, 8, 9, 7, 8, 6.5, 6, 5], (Phase("sgd", 6), Phase("adam", 4))) == (6, 2)


def test_first_of_equal_epochs_counts() -> None:
    assert limits([3, 3, 3, 2, 2]) == (1, 1)  # as `Progress` counts: an equal cost is no improvement


def test_single_phase_ends_with_the_kept_epoch() -> None:
    assert limits([3, 2, 1, 2], (Phase("sgd", 4),)) == (3,)


def test_curve_that_ends_early_and_has_a_gap_has_limits() -> None:
    assert epoch_limits(PHASES, {1: 3.0, 3: 4.0, 4: 1.0}, kept=4) == (1, 1)  # epoch 2 has no value
    assert epoch_limits(PHASES, {}, kept=2) == (2,)


def test_refit_has_a_pack_key_of_its_own() -> None:
    key = (("batch_size", 32),)
    assert is_refit(refit_key(key))
    assert not is_refit(key)
    assert refit_key(key) != key


@pytest.mark.parametrize(
    ("limits", "spans"), [(None, (6, 4)), ((3,), (3,)), ((3, 2), (3, 2)), ((9, 2, 1), (6, 2))]
)
def test_spans_are_within_the_phases(limits: tuple[int, ...] | None, spans: tuple[int, ...]) -> None:
    assert Budget("full", PHASES, "best").spans(limits) == spans


def test_budget_of_a_refit_has_no_early_stopping() -> None:
    refit = Budget("full", PHASES, "best").refit()
    assert (refit.split, refit.keep) == ("all", "last")
    assert refit.phases == (Phase("sgd", 6), Phase("adam", 4))
