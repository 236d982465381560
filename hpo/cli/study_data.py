"""A study with all trials and epochs as JSON, and its trials or epochs as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from hpo.cli.output import to_json
from hpo.store.histories import RecordedEpoch
from hpo.study.history import StudyHistory, TrialHistory
from hpo.study.study import Study
from hpo.study.table_columns import FIRST, LAST, TableColumn

SCHEMA_VERSION = 1
"""The version of `docs/study.schema.json`. It grows when a key goes or changes its meaning, not when a key is
added."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known of a study apart from its trials. `stopped`: why a stage is stopped, by stage."""

    study: Study
    forked_from: str | None
    stopped: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        study, objective = self.study, self.study.objective
        return {
            "schema_version": SCHEMA_VERSION,
            "study": study.name,
            "fingerprint": study.fingerprint,
            "spec": study.spec.to_json(),
            "objective": {
                "metric": objective.name,
                "direction": objective.direction,
                "key": objective.key,
            },
            "forked_from": self.forked_from,
            "inherited": study.inherited,
            "stopped": self.stopped,
        }


def json_lines(facts: StudyFacts, history: StudyHistory) -> Iterator[str]:
    """Yield the lines of a JSON object with the facts, and each trial on a line of its own."""
    yield f"{to_json(facts.to_json(), indent=1).removesuffix('}').rstrip()},"
    yield from _array("trials", [_trial(trial) for trial in history.trials], ",")
    foreign = [
        {"stage": stage, "number": trial.number, "state": trial.state.name, "reason": trial.reason}
        for stage, trial in history.foreign
    ]
    yield from _array("foreign_trials", foreign, "")
    yield "}"


def csv_lines(columns: Sequence[TableColumn[Row]], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a line with the names of the columns, and a line for each row. None is an empty cell."""
    yield _csv_line(column.name for column in columns)
    for row in rows:
        yield _csv_line(_cell(column.of(row)) for column in columns)


def _array(name: str, entries: Sequence[Mapping[str, Any]], end: str) -> Iterator[str]:
    yield f' "{name}": ['
    for index, entry in enumerate(entries, start=1):
        yield f"  {to_json(entry)}{',' if index < len(entries) else ''}"
    yield f" ]{end}"


def _trial(trial: TrialHistory) -> dict[str, Any]:
    return {
        **{column.name: _plain(column.of(trial)) for column in FIRST},
        "params": trial.row.point,
        "metrics": trial.row.record.metrics or {},
        **{column.name: _plain(column.of(trial)) for column in LAST},
        "curve": [_epoch(epoch) for epoch in trial.curve],
    }


def _epoch(epoch: RecordedEpoch) -> dict[str, Any]:
    return {
        "epoch": epoch.epoch,
        "metrics": epoch.metrics,
        "seconds": epoch.seconds,
        "worker": epoch.worker,
        "time": _plain(epoch.at),
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(_plain(value))
