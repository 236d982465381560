"""All trials of a study with their epochs, as one state of the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from hpo.errors import NotFoundError
from hpo.store import histories, studies, trials
from hpo.store.connection import Storage
from hpo.store.histories import RecordedEpoch, TrialTimes
from hpo.store.trials import Foreign, TrialRow
from hpo.study.stored import KEY
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage


@dataclass(frozen=True, slots=True)
class TrialHistory:
    """A trial, what it took, and its recorded epochs, if they were read.

    `is_baseline`: whether the trial has the parameters of the study's baseline.
    """

    stage: Stage
    row: TrialRow
    times: TrialTimes
    is_baseline: bool = False
    curve: Sequence[RecordedEpoch] = ()

    @property
    def epochs(self) -> int:
        """Return the number of trained epochs, of an open trial those so far."""
        known = self.row.record.epochs
        return self.times.epochs if known is None else known


@dataclass(frozen=True, slots=True)
class StudyHistory:
    """The trials of both stages, in the order of their numbers, and those of other programs."""

    trials: Sequence[TrialHistory]
    foreign: Sequence[tuple[Stage, Foreign]]


def history(storage: Storage, study: Study, *, with_epochs: bool) -> StudyHistory:
    """Return the trials of a study. `with_epochs`: with their epochs.

    The number of statements does not depend on the number of trials. Raises `NotFoundError` if the study has
    been deleted.
    """
    with storage.snapshot() as connection:
        return read(connection, study, with_epochs=with_epochs)


def read(connection: Connection, study: Study, *, with_epochs: bool) -> StudyHistory:
    """Return the trials of a study as `history` does, as part of the caller's snapshot."""
    study_ids = [study.study_id(stage) for stage in STAGES]
    if studies.read_attribute(connection, study.search_id, KEY) != study.key:
        raise NotFoundError(f"study {study.name!r}: the study has been deleted")
    stages = {stage: trials.read(connection, study.study_id(stage)) for stage in STAGES}
    times = histories.trial_times(connection, study_ids)
    curves = histories.epochs(connection, study_ids) if with_epochs else {}
    return StudyHistory(
        [
            TrialHistory(
                stage,
                row,
                times[row.trial_id],
                study.spec.is_baseline(row.point),
                curves.get(row.trial_id, ()),
            )
            for stage, rows in stages.items()
            for row in rows.ours
        ],
        [(stage, trial) for stage, rows in stages.items() for trial in rows.foreign],
    )
