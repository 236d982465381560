"""The regret of replayed searches as a function of the budget they have spent."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal, get_args

from hpo.simulate.curve_table import CurveTable
from hpo.simulate.replay import Moment, Replay

Axis = Literal["epochs", "trials", "device_seconds", "seconds"]
"""A budget of a search: a field of `hpo.simulate.replay.Moment`."""
AXES: tuple[Axis, ...] = get_args(Axis)

NO_TRIAL_REGRET = 1.0
"""The regret of a search without a completed trial: that of the median cell, as for a random guess."""


def regrets(
    replay: Replay, table: CurveTable, epochs: int, axis: Axis, spent: Sequence[float]
) -> list[float]:
    """Return the regret of the best completed trial at each limit in `spent`.

    The best trial is the one that the search itself ranks first. `epochs` is the budget of one trial.
    """

    def regret(limit: float) -> float:
        moment = moment_at(replay, axis, limit)
        if moment is None or moment.best is None:
            return NO_TRIAL_REGRET
        return table.regret(moment.best, epochs, replay.objective)

    return [regret(limit) for limit in spent]


def moment_at(replay: Replay, axis: Axis, spent: float) -> Moment | None:
    """Return the last moment at which the search had spent at most `spent`, None before the first moment."""
    index = bisect_right(replay.moments, spent, key=lambda moment: float(getattr(moment, axis)))
    return replay.moments[index - 1] if index else None


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over several replays, with its standard error (0 for a single replay)."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean of `values` and its standard error."""
        error = stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(fmean(values), error)


def mean_regrets(
    replays: Sequence[Replay], table: CurveTable, epochs: int, spent: Sequence[float]
) -> list[dict[str, Mean]]:
    """Return, for each limit of candidate-epochs in `spent`, means over several replays of one search.

    The keys are "regret" and the names in `AXES`: the regret at the limit, and the budgets spent by then.
    """
    rows = []
    for limit in spent:
        regret = [regrets(replay, table, epochs, "epochs", [limit])[0] for replay in replays]
        moments = [moment_at(replay, "epochs", limit) for replay in replays]
        means = {"regret": Mean.of(regret)}
        for axis in AXES:
            values = [0.0 if moment is None else float(getattr(moment, axis)) for moment in moments]
            means[axis] = Mean.of(values)
        rows.append(means)
    return rows
