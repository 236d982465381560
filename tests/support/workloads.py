"""The workload of a study on digits, read by the test's own process."""

from pathlib import Path

from hpo.data import open_dataset
from hpo.spec.study_spec import StudySpec
from hpo.training.workload import Workload


def digits_workload(spec: StudySpec) -> Workload:
    """Return the workload of `spec`, whose data set is digits."""
    return Workload(spec, open_dataset("digits", Path("nowhere")))
