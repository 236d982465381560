"""The columns of the tables of all trials and of all epochs, for data frames and CSV files.

Names of parameters and metrics are free, so they have a prefix: a metric may be called `seconds`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from hpo.store.histories import RecordedEpoch
from hpo.study.history import TrialHistory
from hpo.study.study import Study
from hpo.values.epoch import Metrics
from hpo.values.space import Choices, Domain

Kind = Literal["integer", "number", "boolean", "text", "time", "any"]

Row = TypeVar("Row")
Epoch = tuple[TrialHistory, RecordedEpoch]
"""A trial and one of its epochs."""

PARAMS, METRICS = "params_", "metrics_"
"""The prefixes of parameters, as in Optuna's data frames, and of metrics."""

_KINDS: Mapping[type, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}


@dataclass(frozen=True, slots=True)
class TableColumn(Generic[Row]):
    """A column: its name, the kind of its values, and the value of a row, which may be None."""

    name: str
    kind: Kind
    of: Callable[[Row], Any]


FIRST: Sequence[TableColumn[TrialHistory]] = (
    TableColumn("stage", "text", lambda trial: trial.stage),
    TableColumn("number", "integer", lambda trial: trial.row.number),
    TableColumn("state", "text", lambda trial: trial.row.state.name),
    TableColumn("value", "number", lambda trial: trial.row.value),
)

LAST: Sequence[TableColumn[TrialHistory]] = (
    TableColumn("baseline", "boolean", lambda trial: trial.is_baseline),
    TableColumn("promoted_from", "integer", lambda trial: trial.row.record.promoted_from),
    TableColumn("forked_from", "integer", lambda trial: trial.row.record.forked_from),
    TableColumn("retry_of", "integer", lambda trial: trial.row.record.retry_of),
    TableColumn("refit_of", "integer", lambda trial: trial.row.record.refit_of),
    TableColumn("seed", "integer", lambda trial: trial.row.record.seed),
    TableColumn("paused", "integer", lambda trial: trial.row.record.paused),
    TableColumn("takeovers", "integer", lambda trial: trial.row.record.takeovers),
    TableColumn("worker", "text", lambda trial: trial.row.record.worker),
    TableColumn("device", "text", lambda trial: trial.row.record.device),
    TableColumn("started", "time", lambda trial: trial.times.started),
    TableColumn("ended", "time", lambda trial: trial.times.ended),
    TableColumn("epochs", "integer", lambda trial: trial.epochs),
    TableColumn("kept_epoch", "integer", lambda trial: trial.row.record.kept_epoch),
    TableColumn("seconds", "number", lambda trial: trial.times.seconds),
    TableColumn("reason", "text", lambda trial: trial.row.record.reason),
)


def trial_columns(study: Study, trials: Sequence[TrialHistory]) -> list[TableColumn[TrialHistory]]:
    """Return the columns of the table with a row for each trial.

    Parameters are in the order of the space, and metrics are those of the kept epoch. The metric of the
    objective comes first, also in a study without epochs.
    """
    domains = study.spec.space.domains
    others = dict.fromkeys(name for trial in trials for name in trial.row.point if name not in domains)
    kinds: dict[str, Kind] = {name: _kind(domain) for name, domain in domains.items()}
    kinds |= dict.fromkeys(others, "any")
    return [
        *FIRST,
        *(TableColumn(PARAMS + name, kind, _param(name)) for name, kind in kinds.items()),
        *(
            TableColumn(METRICS + name, "number", _trial_metric(name))
            for name in _metrics(study, (trial.row.record.metrics for trial in trials))
        ),
        *LAST,
    ]


def epoch_columns(study: Study, epochs: Iterable[Epoch]) -> list[TableColumn[Epoch]]:
    """Return the columns of the table with a row for each epoch."""
    return [
        TableColumn("stage", "text", lambda row: row[0].stage),
        TableColumn("trial", "integer", lambda row: row[0].row.number),
        TableColumn("epoch", "integer", lambda row: row[1].epoch),
        *(
            TableColumn(METRICS + name, "number", _epoch_metric(name))
            for name in _metrics(study, (epoch.metrics for _, epoch in epochs))
        ),
        TableColumn("seconds", "number", lambda row: row[1].seconds),
        TableColumn("worker", "text", lambda row: row[1].worker),
        TableColumn("time", "time", lambda row: row[1].at),
    ]


def epochs_of(trials: Iterable[TrialHistory]) -> list[Epoch]:
    """Return each epoch of the trials with its trial, in order."""
    return [(trial, epoch) for trial in trials for epoch in trial.curve]


def _kind(domain: Domain) -> Kind:
    """Return the kind of all values of a domain."""
    if not isinstance(domain, Choices):
        return "integer" if domain.integer else "number"
    kinds = {_KINDS[type(value)] for value in domain.values}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "any"


def _metrics(study: Study, metrics: Iterable[Metrics | None]) -> list[str]:
    """Return the names of all metrics, that of the objective first."""
    names = set[str]().union(*(entry for entry in metrics if entry is not None))
    key = study.objective.key
    return [key, *sorted(names - {key})]


def _param(name: str) -> Callable[[TrialHistory], Any]:
    return lambda trial: trial.row.point.get(name)


def _trial_metric(name: str) -> Callable[[TrialHistory], float | None]:
    def value(trial: TrialHistory) -> float | None:
        metrics = trial.row.record.metrics
        return None if metrics is None else metrics.get(name)

    return value


def _epoch_metric(name: str) -> Callable[[Epoch], float | None]:
    return lambda row: row[1].metrics.get(name)
