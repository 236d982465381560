"""Run a training function through the epochs of its trial."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from hpo.functions.measured import MetricsError, parse_metrics
from hpo.functions.trial import Trial
from hpo.user_code import place


@dataclass(frozen=True, slots=True)
class Yielded:
    """What a function has yielded or returned: the metrics of `epoch`, and whether the function is over.

    `metrics` is None if the function ended without metrics after the last epoch that it has yielded.
    """

    epoch: int
    metrics: dict[str, float] | None
    is_last: bool


class Commit(Protocol):
    def __call__(self, yielded: Yielded) -> bool:
        """Commit an epoch. Return whether the function goes on."""


def drive(function: Callable[[Trial], Any], trial: Trial, objective: str, commit: Commit) -> None:
    """Run a function to its end, to the end of the budget, or until `commit` returns False.

    A function that yields trains an epoch up to each `yield`. A function that returns a value is one epoch.
    Raises `MetricsError` for what is neither, and whatever the function raises.
    """
    numbers = range(trial.trained + 1, trial.budget + 1)  # before the function can change the trial
    result = function(trial)
    if isinstance(result, Iterator):
        _Epochs(result, trial, numbers, objective, commit).run()
    else:
        commit(Yielded(1, _returned(result, objective), is_last=True))


def _returned(value: object, objective: str) -> dict[str, float]:
    if value is None:
        raise MetricsError("the function returned None; it has to yield or return metrics")
    return parse_metrics(value, objective)


class _Epochs:
    """The epochs of a generator."""

    def __init__(
        self, generator: Iterator[Any], trial: Trial, numbers: range, objective: str, commit: Commit
    ) -> None:
        self._generator, self._trial, self._numbers = generator, trial, numbers
        self._objective, self._commit = objective, commit

    def run(self) -> None:
        try:
            for epoch in self._numbers:
                try:
                    value = next(self._generator)
                except StopIteration as end:
                    self._end(epoch - 1, end.value)
                    return
                if not self._epoch(epoch, value):
                    return
            self._end(self._numbers.stop - 1, None)  # the saved state was that of the last epoch
        finally:
            close = getattr(self._generator, "close", None)
            if close is not None:
                close()

    def _epoch(self, epoch: int, value: object) -> bool:
        try:
            metrics = parse_metrics(value, self._objective)
        except MetricsError as error:
            raise MetricsError(f"{error}{self._place()}") from None
        is_last = epoch == self._numbers.stop - 1
        # A function that counts its epochs itself might train another one here.
        if is_last and self._trial.counts_on:
            with suppress(StopIteration):
                next(self._generator)
        return self._commit(Yielded(epoch, metrics, is_last)) and not is_last

    def _end(self, epoch: int, value: object) -> None:
        """Commit the end of a function that has ended before its budget."""
        if epoch > 0:
            self._commit(Yielded(epoch, None, is_last=True))
        else:
            self._commit(Yielded(1, _returned(value, self._objective), is_last=True))

    def _place(self) -> str:
        """Return the end of a message that says where the function has yielded."""
        frame = getattr(self._generator, "gi_frame", None)
        return "" if frame is None else f"; yielded at {place(frame.f_code.co_filename, frame.f_lineno)}"
