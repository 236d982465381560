"""Rules that stop a search early: pure functions of how its trials ended."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from pydantic import Field

from hpo.values.section import Section


class StopSection(Section):
    """Rules that end a search before its budget of trials is spent. They may change in a stored study."""

    target: float | None = Field(
        default=None, description="The search ends once a trial has a validation loss of at most this."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="The search ends after as many trials in a row without a new best. With the pruner "
        "`pause` only completed trials count.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="The search ends once all its trials together have trained as many epochs. No trial is "
        "started while the running ones are expected to use the rest.",
    )
    device_hours: float | None = Field(
        default=None, gt=0, description="The search ends once it has spent as many device hours."
    )


HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """A search trial that has ended. `value` is its validation loss if it completed, None if it was pruned.

    `inherited` marks a trial of the study that this study was forked from.
    """

    number: int
    value: float | None
    inherited: bool = False


def stop_reason(
    rules: StopSection, trials: Sequence[EndedTrial], epochs: int, device_seconds: float
) -> str | None:
    """Return why the search stops now, with the figures; None while it continues.

    `trials` are in the order in which they ended. `epochs` and `device_seconds` are spent by the search so
    far.
    """
    completed = [(trial.value, trial.number) for trial in trials if trial.value is not None]
    value, number = min(completed, default=(inf, None))
    if rules.target is not None and value <= rules.target:
        return f"target {rules.target:g} reached by trial {number} ({value:.4g})"
    if rules.patience is not None and (count := _trials_without_improvement(trials)) >= rules.patience:
        best = "none completed" if number is None else f"the best is trial {number} ({value:.4g})"
        return f"no improvement for {count} trials (patience {rules.patience}): {best}"
    if rules.epochs is not None and epochs >= rules.epochs:
        return f"{epochs} epochs trained of {rules.epochs}"
    if rules.device_hours is not None and device_seconds >= rules.device_hours * HOUR:
        return f"{device_seconds / HOUR:.3g} device hours spent of {rules.device_hours:g}"
    return None


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


def _trials_without_improvement(trials: Sequence[EndedTrial]) -> int:
    """Return the number of trials since the last new best.

    Inherited trials can be the best but are not counted, because the fork did not train them.
    """
    best, count = inf, 0
    for trial in trials:
        if trial.value is not None and trial.value < best:
            best, count = trial.value, 0
        elif not trial.inherited:
            count += 1
    return count
