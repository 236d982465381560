"""What the storage has of a study that cannot be loaded, and its removal.

The dashboard can delete the search and leave the full training, and other programs can change the attributes
that a study is read from.
"""

import logging
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from hpo.errors import NotFoundError
from hpo.spec.study_spec import FULL_SUFFIX, NAME_RULE
from hpo.store import studies
from hpo.store.connection import Storage
from hpo.study.stored import KEY, KEY_RULE, delete, is_own
from hpo.study.study import artifacts_name

log = logging.getLogger("hpo.study")


@dataclass(frozen=True, slots=True)
class Remains:
    """The Optuna studies of hpo under a name, and the names of their files in the artifact store."""

    name: str
    study_ids: tuple[int, ...]
    artifacts: frozenset[str]


def find(connection: Connection, name: str) -> Remains | None:
    """Return what is there under the name, None if there is nothing."""
    studies.lock_name(connection, name)
    ids, files = [], set()
    for stage in (name, name + FULL_SUFFIX):
        row = studies.read_attributes(connection, stage)
        if row is not None and is_own(row[1]):
            ids.append(row[0])
            files |= _files(name, row[1].get(KEY))
    return Remains(name, tuple(ids), frozenset(files)) if ids else None


def remove(storage: Storage, name: str) -> Remains:
    """Delete what is there under the name, and return it. The files stay. Raises `NotFoundError`."""
    with storage.transaction() as connection:
        remains = find(connection, name)
        if remains is None:
            raise NotFoundError(f"nothing is left of a study {name!r} in this storage")
        delete(connection, name, remains.study_ids)
    return remains


def clear(connection: Connection, name: str) -> None:
    """Delete the full training of a study whose search is gone, so that the name can begin anew."""
    remains = find(connection, name)
    if remains is not None:
        log.warning("study %s: removing the full training of a deleted study of that name", name)
        delete(connection, name, remains.study_ids)


def _files(name: str, key: Any) -> set[str]:
    """Return the name of the files of a study. A name or key of another form than hpo's leads nowhere."""
    is_valid = re.fullmatch(NAME_RULE, name) and isinstance(key, str) and KEY_RULE.fullmatch(key)
    return {artifacts_name(name, key)} if is_valid else set()
