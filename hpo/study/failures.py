"""The failed trials of a study, and searches in which every trial fails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import results, trials
from hpo.store.trials import TrialRow
from hpo.study.study import Study
from hpo.values.wording import counted

DIVERGED = "its loss was not finite"
METRIC_DIVERGED = "its objective was not finite"
"""Starts of the reason of a trial that diverged. A retry of such a trial would diverge again."""

MAX_FAILED_STARTS = 5
"""A search stops after this many failures of one kind, if no trial has trained an epoch. One or two failures
may be due to bad points."""

REASON_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed trials of a stage without a successor, except diverged trials.

    `trial` is the number of the first of these trials, and `reason` the reason of its failure in one line.
    """

    count: int
    trial: int
    reason: str

    def describe(self, retried_name: str) -> str:
        """Return the number of failed trials, the first reason, and the command that queues them again."""
        return (
            f"{counted(self.count, 'trial')} failed, trial {self.trial} with {self.reason}; "
            f"once the cause is mended: hpo study retry {retried_name}"
        )


def failed(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Return the failed trials of a stage without a successor. `rows` are all trials of the stage."""
    rows = list(rows)
    repeated = {row.record.retry_of for row in rows}
    return [row for row in rows if row.state == TrialState.FAIL and row.number not in repeated]


def has_diverged(row: TrialRow) -> bool:
    """Return whether a failed trial failed because its loss or its objective was not finite."""
    return row.record.reason is not None and row.record.reason.startswith((DIVERGED, METRIC_DIVERGED))


def failures(rows: Iterable[TrialRow]) -> Failures | None:
    """Return the failures of a stage, None if there are none. `rows` are all trials of the stage."""
    worth_a_retry = [row for row in failed(rows) if not has_diverged(row)]
    if not worth_a_retry:
        return None
    first = worth_a_retry[0]
    return Failures(len(worth_a_retry), first.number, one_line(first.record.reason))


def one_line(reason: str | None) -> str:
    """Return a reason in one line, shortened if it is long."""
    return shorten(reason or "an unknown reason", REASON_LENGTH, placeholder=" ...")


def broken_reason(connection: Connection, study: Study) -> str | None:
    """Return why every trial of the search fails, None if a trial might train.

    Every trial counts as failing once several trials have failed for one kind of reason and no trial has
    trained an epoch.
    """
    if results.any_epoch(connection, study.search_id, study.inherited):
        return None
    rows = trials.read(connection, study.search_id).ours[study.inherited :]
    causes = [row for row in failed(rows) if not has_diverged(row)]
    kinds = {_kind(row) for row in causes}
    if len(causes) < MAX_FAILED_STARTS or len(kinds) > 1:
        return None
    return _describe_causes(causes)


def _kind(row: TrialRow) -> str:
    """Return the kind of a failure: the reason up to the first colon, such as the error's type."""
    return (row.record.reason or "").partition(":")[0]


def _describe_causes(causes: Sequence[TrialRow]) -> str:
    first = causes[0]
    return (
        f"{counted(len(causes), 'trial')} failed and none has trained an epoch; "
        f"trial {first.number}: {one_line(first.record.reason)}"
    )
