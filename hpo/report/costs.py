"""Device seconds of a stage over its course."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hpo.study.history import TrialHistory

START = datetime(1970, 1, 1, tzinfo=UTC)


def cumulated(trials: Sequence[TrialHistory]) -> dict[int, float]:
    """Return the device seconds of all trials until the end of each trial, by its number.

    Seconds of epochs count from the time of their record, those of trials without such times at their end.
    Trials that have not ended are left out.
    """
    spent: list[tuple[datetime, float]] = []
    for trial in trials:
        epochs = [(epoch.at, epoch.seconds) for epoch in trial.curve]
        if epochs and all(at is not None and seconds is not None for at, seconds in epochs):
            spent += [(at, seconds) for at, seconds in epochs if at is not None and seconds is not None]
        elif trial.times.seconds:
            spent.append((trial.times.ended or trial.times.started or START, trial.times.seconds))
    ended = sorted((trial.times.ended, trial.row.number) for trial in trials if trial.times.ended is not None)
    spent.sort()
    result, total, index = {}, 0.0, 0
    for at, number in ended:
        while index < len(spent) and spent[index][0] <= at:
            total += spent[index][1]
            index += 1
        result[number] = total
    return result
