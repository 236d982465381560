"""Words and numbers of a report."""

from collections.abc import Sequence
from math import hypot

from hpo.store.trials import TrialRow
from hpo.study.baseline import DEVIATIONS
from hpo.study.history import TrialHistory
from hpo.study.study import Study
from hpo.values.objective import Objective
from hpo.values.wording import value_text


def duration(seconds: float) -> str:
    """Return a time for people, as in "1.5 h"."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (seconds >= size and unit != "days"):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def error_of(row: TrialRow, objective: Objective) -> float | None:
    """Return the standard error of a trial's objective. None if it was not measured."""
    return None if row.record.metrics is None else objective.error_of(row.record.metrics)


def with_interval(objective: Objective, value: float, half_width: float | None) -> str:
    """Return a value with the half-width of its 95% interval, if it is known."""
    if half_width is None:
        return objective.show(value)
    if objective.values == "share":
        return f"{100 * value:.2f} ± {100 * half_width:.2f} %"
    form = ".4f" if objective.values == "positive" else ".6g"
    return f"{value:{form}} ± {half_width:{form}}"


def value_of(row: TrialRow, objective: Objective) -> str:
    """Return the objective of a trial with its 95% interval."""
    if row.value is None:
        return "-"
    error = error_of(row, objective)
    return with_interval(objective, row.value, None if error is None else DEVIATIONS * error)


def gain(better: TrialRow, worse: TrialRow, objective: Objective) -> tuple[float, float | None]:
    """Return how much better a completed trial is than another, and the half-width of the 95% interval.

    Both were validated on the same images. Their errors are added as if they were independent.
    """
    assert better.value is not None
    assert worse.value is not None
    errors = [error_of(row, objective) for row in (better, worse)]
    difference = objective.cost(worse.value) - objective.cost(better.value)
    if None in errors:
        return difference, None
    return difference, DEVIATIONS * hypot(*(error or 0.0 for error in errors))


def is_known(difference: float, half_width: float | None) -> bool:
    """Return whether a difference is outside of its interval."""
    return half_width is not None and difference > half_width


def parameters(row: TrialRow) -> str:
    """Return the parameters of a trial in words."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in row.point.items())


def axis_title(study: Study) -> str:
    """Return the title of an axis with the objective."""
    objective = study.objective
    where = "" if study.spec.is_function else "validation "
    return f"{where}{objective.title} ({'higher' if objective.is_maximised else 'lower'} is better)"


def hover(trials: Sequence[TrialHistory], objective: Objective) -> list[str]:
    """Return the text that a plot shows of each trial."""
    return [
        f"trial {trial.row.number}, {trial.row.state.name.lower()}, {trial.epochs} epochs"
        f"{'' if trial.row.value is None else f', {objective.title} {objective.show(trial.row.value)}'}"
        for trial in trials
    ]
