"""The mark by which the workers of a study recognise its artifact store.

Machines may mount one folder under different paths, so paths say nothing. The store holds a random id
instead, and the study knows it.
"""

from uuid import uuid4

from hpo.artifacts.base import ArtifactStore
from hpo.errors import AwayError, ConflictError
from hpo.store import studies
from hpo.store.connection import Storage
from hpo.study.study import Study

MARK = "store-id"
"""The name of the file with the id."""

ATTRIBUTE = "hpo:artifacts"
"""The attribute of the study with the id."""


def check_mark(storage: Storage, study: Study, artifacts: ArtifactStore, location: str) -> None:
    """Mark the artifact store of a study, or check that it is the marked one.

    `location`: the value of HPO_ARTIFACTS, for messages. Raises `ConflictError` if the store is another one
    than that of the study's other workers, and `AwayError` if it cannot be reached.
    """
    with storage.transaction() as connection:
        known = studies.read_attribute(connection, study.search_id, ATTRIBUTE)
        if known is None:
            studies.lock(connection, study.search_id)  # of several first workers, one writes the mark
            known = studies.read_attribute(connection, study.search_id, ATTRIBUTE)
        if known is None:
            new = uuid4().hex
            artifacts.put(MARK, new.encode())
            studies.set_attributes(connection, study.search_id, {ATTRIBUTE: new})
            return
    if _read(artifacts) != known:
        file = f"{study.artifacts_name}/{MARK}"
        raise ConflictError(
            f"study {study.name!r}: HPO_ARTIFACTS = {location!r}: is not the folder of the study's other "
            f"workers, where the file {file} holds the id {known}; set HPO_ARTIFACTS to that folder, or, if "
            "its files are lost, write the id into this file here: paused trials then start over"
        )


def _read(artifacts: ArtifactStore) -> str | None:
    """Return the id in a store, None if the store has none. Raises `AwayError` if it cannot be reached."""
    try:
        return artifacts.get(MARK).decode(errors="replace").strip()
    except AwayError:
        if MARK in artifacts.list():
            raise
        return None
