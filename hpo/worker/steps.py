"""What a step function asks of its driver: call it again, wait, or stop."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Again:
    """Call `step` again at once."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Call `step` again after at most `seconds`.

    A driver in real time ends the wait early: with `for_delivery` when the outbox has delivered everything,
    otherwise when the worker has to stop.
    """

    seconds: float
    for_delivery: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """Do not call `step` again."""


Step = Again | Wait | Done

AGAIN, DONE = Again(), Done()
