"""The stage of a study that a pack reports to."""

from dataclasses import dataclass

from hpo.store.connection import Storage
from hpo.study.study import Study
from hpo.values.stage import Stage


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """The stage of a study that a worker reports to.

    The names of the worker and its device go into the records of the trials that it pauses or ends.
    """

    storage: Storage
    study: Study
    stage: Stage
    worker: str
    device: str

    @property
    def study_id(self) -> int:
        return self.study.study_id(self.stage)
