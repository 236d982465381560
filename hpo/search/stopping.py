"""When a search has gone on long enough: rules over how its trials ended. Pure; they keep no state."""

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
class Ended:
    """A search trial that is over. `value`: its validation loss if it completed, None if it was pruned.

    `inherited`: it comes from the study that this one was forked from.
    """

    number: int
    value: float | None
    inherited: bool = False


def reason(rules: StopSection, ended: Sequence[Ended], epochs: int, device_seconds: float) -> str | None:
    """Why the search ends now, with the figures; None while it goes on.

    `ended`: in the order of ending. `epochs`, `device_seconds`: what the search has spent.
    """
    completed = [(trial.value, trial.number) for trial in ended if trial.value is not None]
    value, number = min(completed, default=(inf, None))
    if rules.target is not None and value <= rules.target:
        return f"target {rules.target:g} reached by trial {number} ({value:.4g})"
    if rules.patience is not None and (count := _in_vain(ended)) >= rules.patience:
        best = "none completed" if number is None else f"the best is trial {number} ({value:.4g})"
        return f"no improvement for {count} trials (patience {rules.patience}): {best}"
    if rules.epochs is not None and epochs >= rules.epochs:
        return f"{epochs} epochs trained of {rules.epochs}"
    if rules.device_hours is not None and device_seconds >= rules.device_hours * HOUR:
        return f"{device_seconds / HOUR:.3g} device hours spent of {rules.device_hours:g}"
    return None


def expected_epochs(ended: Sequence[int], under_way: Sequence[int], longest: int) -> float:
    """How many epochs the trials that are under way will still train.

    `ended`, `under_way`: how many each has trained; `longest`: how many it may. After each epoch one goes on
    as often as those did that came so far, the product-limit estimate of Kaplan and Meier 1958: a mean over
    those that have ended would be too small, for who is pruned early ends first.
    """
    stayed, came = Counter(ended), Counter([*ended, *under_way])
    further = [0.0] * (longest + 1)  # of one that has trained so many
    reached = 0
    for epoch in range(longest, 0, -1):
        reached += came[epoch]
        goes_on = 1 - stayed[epoch] / reached if reached else 1.0
        further[epoch - 1] = 1 + goes_on * further[epoch]
    return sum(further[trained] for trained in under_way)


def _in_vain(ended: Sequence[Ended]) -> int:
    """How many trials in a row, up to the last, brought no new best.

    What is inherited sets the mark and is not counted: a fork has not tried anything yet.
    """
    best, count = inf, 0
    for trial in ended:
        if trial.value is not None and trial.value < best:
            best, count = trial.value, 0
        elif not trial.inherited:
            count += 1
    return count
