"""How far replayed searches are from the best cell of their table, and what they spent until then."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal, get_args

from hpo.simulate.curve_table import CurveTable
from hpo.simulate.replay import Moment, Replay

Axis = Literal["epochs", "trials", "device_seconds", "seconds"]
"""What a search spends, as `hpo.simulate.replay.Moment` has it."""
AXES: tuple[Axis, ...] = get_args(Axis)

NOTHING = 1.0
"""The regret of a search without a completed trial: that of the median cell, which a guess would do."""


def regrets(
    replay: Replay, table: CurveTable, epochs: int, axis: Axis, spent: Sequence[float]
) -> list[float]:
    """`CurveTable.regret` of the best trial that had completed when so much was spent, for each of `spent`.

    `epochs`: of one trial. The best trial is the one that the search takes for it.
    """
    found = []
    for limit in spent:
        moment = at(replay, axis, limit)
        found.append(NOTHING if moment is None or moment.best is None else table.regret(moment.best, epochs))
    return found


def at(replay: Replay, axis: Axis, spent: float) -> Moment | None:
    """Where a search stood when so much was spent: the last moment before more was, None before the first."""
    place = bisect_right(replay.moments, spent, key=lambda moment: float(getattr(moment, axis)))
    return replay.moments[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Mean:
    """Of several replays, with its standard error (0 for a single one)."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        error = stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(fmean(values), error)


def standings(
    replays: Sequence[Replay], table: CurveTable, epochs: int, spent: Sequence[float]
) -> list[dict[str, Mean]]:
    """Over several replays of one search, for each of `spent` candidate-epochs: the regret, and what had been
    spent by then in the other ways too."""
    found = []
    for limit in spent:
        regret = [regrets(replay, table, epochs, "epochs", [limit])[0] for replay in replays]
        moments = [at(replay, "epochs", limit) for replay in replays]
        means = {"regret": Mean.of(regret)}
        for axis in AXES:
            means[axis] = Mean.of([0.0 if one is None else float(getattr(one, axis)) for one in moments])
        found.append(means)
    return found
