"""Rules that stop a search early: pure functions of how its trials ended."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from pydantic import Field

from hpo.values.objective import Objective
from hpo.values.section import Section


class StopSection(Section):
    """Rules that end a search before its budget of trials is spent. They may change in a stored study."""

    target: float | None = Field(
        default=None,
        description="The search ends once the objective of a trial is at least as good as this.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="The search ends after this many trials in a row without a new best. With the "
        "pruner `pause`, only completed trials count.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="The search ends once its trials have trained this many epochs in total. No trial starts "
        "while the running trials are expected to use the remaining epochs.",
    )
    device_hours: float | None = Field(
        default=None, gt=0, description="The search ends once it has used this many device hours."
    )


HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """A search trial that has ended. `value` is its objective if it completed, None if it was pruned.

    `inherited` marks a trial of the study that this study was forked from.
    """

    number: int
    value: float | None
    inherited: bool = False


class Progress(Protocol):
    """What a search has done so far. A part that no rule asks for is not read."""

    @property
    def ended(self) -> Sequence[EndedTrial]:
        """The trials that have ended, in this order."""

    @property
    def epochs(self) -> int:
        """The epochs that all trials of the search have trained."""

    @property
    def device_seconds(self) -> float:
        """The time that the search has spent on devices."""


def stop_reason(section: StopSection, progress: Progress, objective: Objective) -> str | None:
    """Return why the search stops now, with the figures; None while it continues."""
    for key, rule in RULES.items():
        limit = getattr(section, key)
        if limit is not None and (reason := rule(limit, progress, objective)) is not None:
            return reason
    return None


def _target(limit: float, progress: Progress, objective: Objective) -> str | None:
    best = _best(progress.ended, objective)
    if best is None or objective.cost(best[0]) > objective.cost(limit):
        return None
    value, number = best
    return f"target {limit:g} reached by trial {number} ({value:.4g})"


def _patience(limit: int, progress: Progress, objective: Objective) -> str | None:
    count = _trials_without_improvement(progress.ended, objective)
    if count < limit:
        return None
    best = _best(progress.ended, objective)
    words = "none completed" if best is None else f"the best is trial {best[1]} ({best[0]:.4g})"
    return f"no improvement for {count} trials (patience {limit}): {words}"


def _epochs(limit: int, progress: Progress, _objective: Objective) -> str | None:
    return f"{progress.epochs} epochs trained of {limit}" if progress.epochs >= limit else None


def _device_hours(limit: float, progress: Progress, _objective: Objective) -> str | None:
    hours = progress.device_seconds / HOUR
    return f"{hours:.3g} device hours spent of {limit:g}" if progress.device_seconds >= limit * HOUR else None


RULES: Mapping[str, Callable[[Any, Progress, Objective], str | None]] = {
    "target": _target,
    "patience": _patience,
    "epochs": _epochs,
    "device_hours": _device_hours,
}
"""The rules by their key in `[stop]`, in the order in which they are asked.

A rule returns the reason to stop, None if the limit in the study file is not reached.
"""


def expected_remaining_epochs(ended: Sequence[int], running: Sequence[int], max_epochs: int) -> float:
    """Return the expected number of epochs that running trials will still train.

    `ended` and `running` hold the epochs that each trial has trained; `max_epochs` is the limit of a trial.
    The chance to continue after an epoch is the share of trials that continued there: the product-limit
    estimate (Kaplan and Meier 1958). The mean over ended trials would be too small, because pruned trials end
    first.
    """
    ended_at, seen_at = Counter(ended), Counter([*ended, *running])
    remaining = [0.0] * (max_epochs + 1)  # by the number of epochs a trial has trained
    reached = 0
    for epoch in range(max_epochs, 0, -1):
        reached += seen_at[epoch]
        continues = 1 - ended_at[epoch] / reached if reached else 1.0
        remaining[epoch - 1] = 1 + continues * remaining[epoch]
    return sum(remaining[trained] for trained in running)


def _best(trials: Sequence[EndedTrial], objective: Objective) -> tuple[float, int] | None:
    """Return value and number of the best completed trial, None without one."""
    completed = [(trial.value, trial.number) for trial in trials if trial.value is not None]
    return min(completed, key=lambda trial: (objective.cost(trial[0]), trial[1]), default=None)


def _trials_without_improvement(trials: Sequence[EndedTrial], objective: Objective) -> int:
    """Return the number of trials since the last new best.

    Inherited trials can be the best but are not counted, because the fork did not train them.
    """
    best, count = inf, 0
    for trial in trials:
        cost = inf if trial.value is None else objective.cost(trial.value)
        if cost < best:
            best, count = cost, 0
        elif not trial.inherited:
            count += 1
    return count
