"""What the stages of a study still have to train, in epochs: pure functions of how far the trials are."""

from collections.abc import Mapping

from optuna.trial import TrialState

from hpo.search.expected_epochs import EpochRange, expected_counts, remaining_epochs
from hpo.search.stopping import expected_remaining_epochs
from hpo.spec.study_spec import StudySpec
from hpo.study.status import StageStatus
from hpo.study.study import Study
from hpo.study.time_left import Work
from hpo.values.budget import Budget

EVALUATION_COST = 1 / 3
"""Cost of evaluating an image, in training steps: the forward pass of a step that also has a backward one."""

LATE_STOPS = 0.75
"""Where early stopping is expected to end a training, between the first possible epoch and the last one. On
digits, trainings end later than this."""


def search_work(study: Study, figures: StageStatus, trained: Mapping[int, tuple[TrialState, int]]) -> Work:
    """Return what the search still has to train. `trained`: state and epochs of each trial, by number."""
    spec = study.spec
    lasting = [(state, epochs) for state, epochs in trained.values() if state != TrialState.FAIL]
    opened = [epochs for state, epochs in lasting if not state.is_finished()] + [0] * figures.to_come
    ended = [epochs for state, epochs in lasting if state.is_finished()]
    completing = spec.promotion.top + (spec.baseline is not None)
    counts = expected_counts(spec.make_pruner(), len(opened) + len(ended), spec.search.epochs, completing)
    epochs = remaining_epochs(counts, opened, ended)
    if spec.stop.epochs is not None:
        used = sum(epochs for _, epochs in trained.values())
        epochs = epochs.capped(max(0, spec.stop.epochs - used))
    return Work(epochs, len(opened))


def full_work(study: Study, figures: StageStatus, trained: Mapping[int, tuple[TrialState, int]]) -> Work:
    """Return what full training still has to train, with the trainings that no promotion has queued yet."""
    budget = study.spec.budget("full")
    most, least = budget.epochs, least_epochs(budget)
    opened = [epochs for state, epochs in trained.values() if not state.is_finished()]
    opened += [0] * max(0, figures.budget - len(trained))
    if not opened:
        return Work()
    ended = [epochs for state, epochs in trained.values() if state == TrialState.COMPLETE]
    low = sum(max(min(1, most - epochs), least - epochs) for epochs in opened)
    high = sum(most - epochs for epochs in opened)
    # Without an ended training, nothing is known but that each ends between the two.
    expected = expected_remaining_epochs(ended, opened, most) if ended else between(low, high)
    return Work(EpochRange(expected, low, high), len(opened), most - min(opened))


def between(low: float, high: float) -> float:
    """Return the expected epochs of full trainings that end between two numbers."""
    return low + LATE_STOPS * (high - low)


def least_epochs(budget: Budget) -> int:
    """Return the fewest epochs of a trial that early stopping can end."""
    return sum(
        phase.epochs if phase.patience is None else min(phase.epochs, phase.patience + 1)
        for phase in budget.phases
    )


def full_scale(spec: StudySpec) -> float:
    """Return how many times as long as an epoch of the search one of full training takes.

    Counts images alone. The epochs of a training function may have any ratio, and count the same.
    """
    if spec.is_function:
        return 1.0
    mini, validation = spec.data.mini, spec.data.validation
    search = mini * (1 - validation) + mini * validation * EVALUATION_COST
    return ((1 - mini) + mini * EVALUATION_COST) / search
