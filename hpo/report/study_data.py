"""Everything that a report shows of a study, as one state of the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from optuna.trial import TrialState
from sqlalchemy import text

from hpo.report.analysis import Analysis, read_analysis
from hpo.store import costs, events, workers
from hpo.store.connection import Storage
from hpo.store.events import Event
from hpo.store.trials import TrialRow
from hpo.study import history, lifecycle
from hpo.study.fork import read_origin
from hpo.study.history import StudyHistory, TrialHistory
from hpo.study.lifecycle import Stopped
from hpo.study.promote import best_trials
from hpo.study.study import Study
from hpo.values.objective import Objective
from hpo.values.stage import STAGES, Stage


@dataclass(frozen=True)
class StudyData:
    """A study with all trials and epochs.

    `events` are those of both stages in order, with the stage. `seconds` are device seconds by activity.
    `workers` are the names of the live workers. `now`: the time of the database in UTC. `analysis`: of the
    errors of the exported model, if its bundle is on this machine.
    """

    study: Study
    history: StudyHistory
    now: datetime
    events: Sequence[tuple[Stage, Event]] = ()
    seconds: Mapping[Stage, Mapping[str, float]] = field(default_factory=dict)
    stopped: Mapping[Stage, Stopped] = field(default_factory=dict)
    workers: Sequence[str] = ()
    origin: str | None = None
    analysis: Analysis | None = None

    @property
    def objective(self) -> Objective:
        """Return what the trials are ranked by."""
        return self.study.objective

    def trials(self, stage: Stage) -> Sequence[TrialHistory]:
        """Return the trials of a stage by number."""
        return self._by_stage[stage]

    def count(self, stage: Stage, state: TrialState) -> int:
        """Return the number of the stage's trials in this state."""
        return sum(trial.row.state == state for trial in self.trials(stage))

    def completed(self, stage: Stage) -> list[TrialHistory]:
        """Return the completed trials of a stage, best first."""
        by_number = {trial.row.number: trial for trial in self.trials(stage)}
        ranked = best_trials(self._rows(stage), len(by_number), self.objective)
        return [by_number[row.number] for row in ranked]

    def _rows(self, stage: Stage) -> list[TrialRow]:
        return [trial.row for trial in self.trials(stage)]

    @cached_property
    def _by_stage(self) -> dict[Stage, list[TrialHistory]]:
        return {stage: [trial for trial in self.history.trials if trial.stage == stage] for stage in STAGES}


def read_study(storage: Storage, study: Study) -> StudyData:
    """Return the data of a stored study. Nothing is written.

    The number of statements does not depend on the number of trials. Raises `NotFoundError` if the study has
    been deleted.
    """
    stages: dict[int, Stage] = {study.study_id(stage): stage for stage in STAGES}
    with storage.snapshot() as connection:
        trials = history.read(connection, study, with_epochs=True)
        marks = {stage: lifecycle.read_stopped(connection, study, stage) for stage in STAGES}
        happened = [(stages[event.study_id], event) for event in events.read(connection, list(stages))]
        data = StudyData(
            study=study,
            history=trials,
            now=connection.execute(text("SELECT now()")).scalar_one().astimezone(UTC),
            events=happened,
            seconds={stage: costs.device_seconds(connection, study_id) for study_id, stage in stages.items()},
            stopped={stage: mark for stage, mark in marks.items() if mark is not None},
            workers=[name for name, *_ in workers.read(connection, study.name)],
            origin=read_origin(connection, study),
        )
    exported = [event.detail.get("directory") for _, event in reversed(happened) if event.kind == "exported"]
    return replace(data, analysis=read_analysis(study, exported))
