"""The baseline of a study: what the best trial of the search gains over the parameters used so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Any

from optuna.trial import TrialState

from hpo.store.trials import TrialRow
from hpo.study.promote import best_trials
from hpo.study.study import Study
from hpo.values.objective import Objective

DEVIATIONS = 1.96
"""Standard errors from the middle to the end of a 95% interval of a normal distribution."""


@dataclass(frozen=True, slots=True)
class BaselineComparison:
    """The best trial of the search, compared with the baseline.

    `trial` is the number of the baseline, `best` that of the best trial. `gain` is how much better the best
    trial is, in the unit of the objective, and `half_width` that of the 95% interval of the gain. Both trials
    are validated on the same images, whose sampling errors are added as if they were independent: the
    interval is too wide rather than too narrow. None for what is not known (yet).
    """

    objective: Objective
    trial: int
    state: TrialState
    value: float | None = None
    best: int | None = None
    gain: float | None = None
    half_width: float | None = None

    @property
    def is_better(self) -> bool:
        """Return whether the best trial is known to be better than the baseline."""
        return self.gain is not None and self.half_width is not None and self.gain > self.half_width

    def describe(self) -> str:
        """Return the comparison in one line."""
        if self.value is None:
            words = "did not complete" if self.state.is_finished() else "has not ended yet"
            return f"your baseline (trial {self.trial}) {words}"
        value = f"{self.objective.title} {self.objective.show(self.value)}"
        baseline = f"your baseline (trial {self.trial}, {value})"
        if self.gain is None:
            return f"no trial is better than {baseline}"
        figures = self.objective.show_gain(self.gain, self.half_width)
        known = "better" if self.is_better else "not known to be better"
        return f"trial {self.best} is {known} than {baseline}: by {figures}"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        figures = {name: getattr(self, name) for name in ("trial", "value", "best", "gain", "half_width")}
        return {**figures, "is_better": self.is_better}


def compare(study: Study, rows: Sequence[TrialRow]) -> BaselineComparison | None:
    """Compare the best trial with the baseline. `rows` are all search trials.

    None for a study without a baseline, or whose baseline another program has deleted.
    """
    objective = study.objective
    own = [row for row in rows if study.spec.is_baseline(row.point)]
    if not own:
        return None
    complete = best_trials(own, 1, objective)
    baseline = complete[0] if complete else own[-1]  # the last repeats those that failed
    result = BaselineComparison(objective, baseline.number, baseline.state)
    if not complete or baseline.value is None:
        return result
    (best,) = best_trials(rows, 1, objective)
    result = replace(result, value=baseline.value, best=best.number)
    if best.value is None or study.spec.is_baseline(best.point):
        return result
    errors = [_error(row, objective) for row in (best, baseline)]
    return replace(
        result,
        gain=objective.cost(baseline.value) - objective.cost(best.value),
        half_width=None if None in errors else DEVIATIONS * hypot(*(error or 0.0 for error in errors)),
    )


def _error(row: TrialRow, objective: Objective) -> float | None:
    return None if row.record.metrics is None else objective.error_of(row.record.metrics)
