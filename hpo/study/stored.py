"""Look up, list and remove stored studies.

Every program with access to the database may write the attributes of an Optuna study. `find` parses them in
one place, and nothing past it can trip over them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection

from hpo.artifacts.base import ArtifactStore
from hpo.errors import ArtifactError, DamagedStudyError, HpoError, NotFoundError, SpecError
from hpo.spec.identity import ATTRIBUTES, Identity
from hpo.spec.study_spec import FULL_SUFFIX, StudySpec
from hpo.store import leases, studies, workers
from hpo.store.connection import Storage
from hpo.study.study import Study
from hpo.values.stage import Stage

SPEC, FINGERPRINT, STAGE, KEY = "hpo:spec", "hpo:fingerprint", "hpo:stage", "hpo:key"
INHERITED, RETRIED = "hpo:inherited", "hpo:retried"
OWN = (SPEC, STAGE, KEY)
"""An Optuna study with any of these attributes was made by hpo."""

KEY_RULE = re.compile(r"[0-9a-f]{8}")
"""The form of a study's key, which is a part of the names of its files."""


def load(storage: Storage, name: str) -> Study:
    """Return the study of that name.

    Raises `NotFoundError`, and `DamagedStudyError` or `SpecError` for a study that cannot be read.
    """
    name = name.removesuffix(FULL_SUFFIX)
    with storage.transaction() as connection:
        study = find(connection, name)
        is_left = study is None and studies.has_attributes(connection, name + FULL_SUFFIX, OWN)
    if is_left:
        raise NotFoundError(
            f"study {name!r} was deleted, and its full training {name + FULL_SUFFIX!r} is left; "
            f"to remove it: hpo study delete {name}"
        )
    if study is None:
        known = names(storage)
        matches = get_close_matches(name, known, n=1)
        hint = f"did you mean {matches[0]!r}?" if matches else f"stored: {', '.join(known) or 'none'}"
        raise NotFoundError(f"no study {name!r} in this storage; {hint}")
    return study


def find(connection: Connection, name: str) -> Study | None:
    """Return the stored study of that name, None if there is none.

    Holds the name until the transaction ends, so that no other process creates or removes the study. Raises
    `DamagedStudyError` or `SpecError` for a study that cannot be read.
    """
    studies.lock_name(connection, name)
    search = studies.read_attributes(connection, name)
    if search is None or not is_own(search[1]):
        return None
    search_id, attributes = search
    study = _parse(name, search_id, attributes)
    full = studies.read_attributes(connection, name + FULL_SUFFIX)
    if full is None:
        # The dashboard can delete one of the two Optuna studies. The search is worth keeping without the
        # other.
        kept = {key: attributes[key] for key in (SPEC, FINGERPRINT, KEY, *ATTRIBUTES) if key in attributes}
        return replace(study, full_id=insert_stage(connection, study.spec, "full", kept))
    full_id, full_attributes = full
    if not is_own(full_attributes) or full_attributes.get(KEY, study.key) != study.key:
        raise DamagedStudyError(
            f"stored study {name!r}: the storage has a study {name + FULL_SUFFIX!r} that is not its full "
            "training; rename or delete that study with the program that made it"
        )
    return replace(study, full_id=full_id)


def _parse(name: str, search_id: int, attributes: Mapping[str, Any]) -> Study:
    """Return the study with these attributes, and 0 for the id of its full training."""
    source = f"stored study {name!r}"
    try:
        spec = StudySpec.from_stored(attributes[SPEC], source)
        identity = Identity.from_attributes(attributes)
        key = str(attributes[KEY])
        inherited, retried = (int(attributes.get(part, 0)) for part in (INHERITED, RETRIED))
        hashes = [identity.network, identity.function]
        hashes += [*asdict(identity.data).values()] if identity.data else []
    except SpecError:
        raise
    except Exception as error:  # the attributes may have any form
        raise _damaged(name, "its attributes cannot be read") from error
    if not all(value is None or isinstance(value, str) for value in hashes):
        raise _damaged(name, "its hashes cannot be read")
    if spec.name != name:
        raise _damaged(name, f"is a copy of the study {spec.name!r} under another name")
    if not KEY_RULE.fullmatch(key):
        raise _damaged(name, f"{KEY} = {key!r}: must be eight hexadecimal digits")
    fingerprint = str(attributes.get(FINGERPRINT, spec.fingerprint))
    return Study(
        spec=spec,
        search_id=search_id,
        full_id=0,
        key=key,
        fingerprint=fingerprint,
        inherited=inherited,
        retried=retried,
        identity=identity,
    )


def _damaged(name: str, reason: str) -> DamagedStudyError:
    return DamagedStudyError(f"stored study {name!r}: {reason}; to remove it: hpo study delete {name}")


def is_own(attributes: Mapping[str, Any]) -> bool:
    """Return whether an Optuna study with these attributes was made by hpo."""
    return any(key in attributes for key in OWN)


def refresh(connection: Connection, study: Study) -> Study:
    """Return the study as it is stored now: its spec may have been extended, and its trials retried."""
    attributes = studies.read_selected(connection, study.search_id, (SPEC, RETRIED))
    stored, retried = attributes.get(SPEC), attributes.get(RETRIED, 0)
    if retried != study.retried:
        if type(retried) is not int:
            raise _damaged(study.name, f"{RETRIED} = {retried!r}: must be a number")
        study = replace(study, retried=retried)
    if stored is None or stored == study.spec.to_stored():
        return study
    return replace(study, spec=_parse(study.name, study.search_id, {SPEC: stored, KEY: study.key}).spec)


def names(storage: Storage) -> list[str]:
    """Return the sorted names of all stored studies, also of those that cannot be read."""
    with storage.transaction() as connection:
        found = studies.names(connection, OWN)
    return [name for name in found if not name.endswith(FULL_SUFFIX)]


def load_all(storage: Storage) -> tuple[list[Study], list[HpoError]]:
    """Return the stored studies by name, and an error for each study that cannot be loaded."""
    with storage.transaction() as connection:
        found = {name.removesuffix(FULL_SUFFIX) for name in studies.names(connection, OWN)}
    loaded: list[Study] = []
    errors: list[HpoError] = []
    for name in sorted(found):
        try:
            loaded.append(load(storage, name))
        except (NotFoundError, DamagedStudyError, SpecError) as error:
            errors.append(error)
    return loaded, errors


def remove(storage: Storage, study: Study, artifacts: ArtifactStore) -> list[str]:
    """Delete both Optuna studies with all trials, and the study's artifacts.

    Return a line for each artifact that could not be deleted, with the reason. The leases of workers are
    revoked first, because a worker's concurrent writes would block the deletion.
    Raises `NotFoundError` if the study has been deleted already.
    """
    with storage.transaction() as connection:
        delete(connection, study.name, (study.search_id, study.full_id))
    return remove_files(artifacts)


def delete(connection: Connection, name: str, study_ids: Iterable[int]) -> None:
    """Delete Optuna studies of the study `name`, its leases and its workers."""
    studies.lock_name(connection, name)
    for study_id in study_ids:
        studies.lock(connection, study_id)
        leases.revoke(connection, study_id)
        studies.delete(connection, study_id)
    workers.delete(connection, name)


def remove_files(artifacts: ArtifactStore) -> list[str]:
    """Delete the files of a study that was deleted; return a line for each one that stays."""
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


def insert_stage(connection: Connection, spec: StudySpec, stage: Stage, attributes: Mapping[str, Any]) -> int:
    """Insert the Optuna study of a stage; return its id."""
    name = spec.name if stage == "search" else spec.full_name
    direction = spec.make_objective().direction
    return studies.insert(connection, name, {**attributes, STAGE: stage}, direction)
