"""The workload of a stored study on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.data import Dataset
from hpo.data.arrays import find_mapped, open_mapped
from hpo.run.child import run_in_child
from hpo.settings import Settings
from hpo.study.study import Study

if TYPE_CHECKING:  # it imports torch
    from hpo.training.workload import Workload


def study_workload(study: Study, settings: Settings) -> Workload:
    """Return the workload of a stored study, with the arrays that it was created with.

    Raises `ConflictError` if the data or the code of the network on this machine are others, DataError if the
    data are missing or damaged, and ModelError if the network cannot be imported.
    """
    from hpo.training.workload import Workload

    workload = Workload(study.spec, _dataset(study, settings))
    study.check(workload.identity, f"study {study.name!r}", in_file=False)
    return workload


def _dataset(study: Study, settings: Settings) -> Dataset:
    hashes = study.identity.data
    return mapped_dataset(study.spec.data.name, settings, None if hashes is None else hashes.content)


def mapped_dataset(name: str, settings: Settings, content: str | None = None) -> Dataset:
    """Return a data set whose arrays are mapped. `content`: the hash that they have to have.

    Raises DataError if the data are missing or damaged, or break the rules of `hpo.data.own`.
    """
    folders = settings.data_path, settings.arrays_path
    dataset = find_mapped(name, *folders, content)
    if dataset is not None:
        return dataset
    # A child reads the files or calls the user's function, so that this process never holds a copy.
    return open_mapped(name, *folders, run_in_child("arrays", settings, name=name, content=content))
