"""Workloads that are read by the test's own process."""

from pathlib import Path

from hpo.data import open_dataset
from hpo.settings import Settings
from hpo.spec.mistakes import mistakes_of
from hpo.spec.study_spec import StudySpec
from hpo.training.workload import Workload


def digits_workload(spec: StudySpec) -> Workload:
    """Return the workload of `spec`, whose data set is digits."""
    return Workload(spec, open_dataset("digits", Path("nowhere")))


def checked_workload(spec: StudySpec, settings: Settings, source: str) -> Workload:
    """Return the workload of a study file, checked as at creation. `source` names the file in messages."""
    with mistakes_of(spec, source):
        workload = Workload.open(spec, settings)
        workload.check()
    return workload
