"""The workload of a stored study on this machine."""

from hpo.settings import Settings
from hpo.study.study import Study
from hpo.training.workload import Workload


def study_workload(study: Study, settings: Settings) -> Workload:
    """Return the workload of a stored study, with the arrays that it was created with.

    Raises `ConflictError` if the data or the code of the network on this machine are others, DataError if the
    data are missing or damaged, and ModelError if the network cannot be imported.
    """
    hashes = study.identity.data
    workload = Workload.open(study.spec, settings, None if hashes is None else hashes.content)
    study.check(workload.identity, f"study {study.name!r}")
    return workload
