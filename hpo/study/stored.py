"""Look up, list and remove stored studies."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection

from hpo.artifacts.base import ArtifactStore
from hpo.errors import ArtifactError, NotFoundError
from hpo.spec.identity import DATA, NETWORK, Identity
from hpo.spec.study_spec import FULL_SUFFIX, StudySpec
from hpo.store import leases, studies, workers
from hpo.store.connection import Storage
from hpo.study.study import Study
from hpo.values.stage import Stage

SPEC, FINGERPRINT, STAGE, KEY = "hpo:spec", "hpo:fingerprint", "hpo:stage", "hpo:key"
INHERITED, RETRIED = "hpo:inherited", "hpo:retried"
IDENTITY = (DATA, NETWORK)


def load(storage: Storage, name: str) -> Study:
    """Return the study of that name. Raises `NotFoundError`."""
    name = name.removesuffix(FULL_SUFFIX)
    with storage.transaction() as connection:
        study = find(connection, name)
    if study is None:
        known = names(storage)
        matches = get_close_matches(name, known, n=1)
        hint = f"did you mean {matches[0]!r}?" if matches else f"stored: {', '.join(known) or 'none'}"
        raise NotFoundError(f"no study {name!r} in this storage; {hint}")
    return study


def find(connection: Connection, name: str) -> Study | None:
    """Return the stored study of that name, None if there is none.

    Holds the name until the transaction ends, so that no other process creates or removes the study.
    """
    studies.lock_name(connection, name)
    search = studies.read_attributes(connection, name)
    if search is None or SPEC not in search[1]:
        return None
    search_id, attributes = search
    full = studies.read_attributes(connection, name + FULL_SUFFIX)
    if full is None:
        # The dashboard can delete one of the two Optuna studies. The search is worth keeping without the
        # other.
        kept = {key: attributes[key] for key in (SPEC, FINGERPRINT, KEY, *IDENTITY) if key in attributes}
        full_id = insert_stage(connection, name + FULL_SUFFIX, "full", kept)
    else:
        full_id = full[0]
    return Study(
        spec=StudySpec.from_stored(attributes[SPEC], source=f"stored study {name!r}"),
        search_id=search_id,
        full_id=full_id,
        key=attributes[KEY],
        fingerprint=attributes[FINGERPRINT],
        inherited=attributes.get(INHERITED, 0),
        retried=attributes.get(RETRIED, 0),
        identity=Identity.from_attributes(attributes),
    )


def refresh(connection: Connection, study: Study) -> Study:
    """Return the study as it is stored now: its spec may have been extended, and its trials retried."""
    attributes = studies.read_selected(connection, study.search_id, (SPEC, RETRIED))
    stored, retried = attributes.get(SPEC), attributes.get(RETRIED, 0)
    if retried != study.retried:
        study = replace(study, retried=retried)
    if stored is None or stored == study.spec.to_stored():
        return study
    return replace(study, spec=StudySpec.from_stored(stored, source=f"stored study {study.name!r}"))


def names(storage: Storage) -> list[str]:
    """Return the sorted names of all stored studies."""
    with storage.transaction() as connection:
        return studies.names(connection, STAGE, "search")


def remove(storage: Storage, study: Study, artifacts: ArtifactStore) -> list[str]:
    """Delete both Optuna studies with all trials, and the study's artifacts.

    Return a line for each artifact that could not be deleted, with the reason.
    The leases of workers are revoked first, because a worker's concurrent writes would block the deletion.
    Raises `NotFoundError` if the study has been deleted already.
    """
    with storage.transaction() as connection:
        studies.lock_name(connection, study.name)
        for study_id in (study.search_id, study.full_id):
            studies.lock(connection, study_id)
            leases.revoke(connection, study_id)
            studies.delete(connection, study_id)
        workers.delete(connection, study.name)
    return _delete_all(artifacts)


def _delete_all(artifacts: ArtifactStore) -> list[str]:
    """Delete all artifacts; return a line for each one that stays. It belongs to no study any more."""
    try:
        names = artifacts.list()
    except ArtifactError as error:
        return [str(error)]
    staying = []
    for name in names:
        try:
            artifacts.delete(name)
        except ArtifactError as error:
            staying.append(str(error))
    return staying


def insert_stage(connection: Connection, name: str, stage: Stage, attributes: Mapping[str, Any]) -> int:
    """Insert the Optuna study of a stage; return its id."""
    return studies.insert(connection, name, {**attributes, STAGE: stage})
