"""Studies, their attributes, and the lock of a study.

Every function is one step of the caller's transaction. None commits.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, text

from hpo.errors import NotFoundError
from hpo.store import schema
from hpo.store.attributes import decode
from hpo.store.statements import Statement
from hpo.values.objective import Direction


def insert(connection: Connection, name: str, attributes: Mapping[str, Any], direction: Direction) -> int:
    """Add a study with the direction of its objective, and return its id.

    Raises `IntegrityError` if the name is taken.
    """
    study_id: int = connection.execute(_INSERT, {"name": name}).scalar_one()
    connection.execute(_SET_DIRECTION, {"study": study_id, "direction": direction.upper()})
    set_attributes(connection, study_id, attributes)
    return study_id


_INSERT = text("INSERT INTO studies (study_name) VALUES (:name) RETURNING study_id")
_SET_DIRECTION = text("""
INSERT INTO study_directions (study_id, direction, objective)
VALUES (:study, CAST(:direction AS studydirection), 0)
""")


def lock_name(connection: Connection, name: str) -> None:
    """Lock a name until the transaction ends. A study that does not exist yet has no row to lock."""
    connection.execute(_LOCK_NAME, {"key": f"hpo:{name}"})


_LOCK_NAME = text("SELECT pg_advisory_xact_lock(hashtext(:key))")


def names(connection: Connection, keys: Collection[str]) -> list[str]:
    """Return the sorted names of the studies with any of these attributes."""
    return list(connection.execute(_NAMES, {"keys": list(keys)}).scalars())


_NAMES = text("""
SELECT study_name FROM studies
WHERE study_id IN (SELECT study_id FROM study_user_attributes WHERE key = ANY (:keys))
ORDER BY study_name
""")


def has_attributes(connection: Connection, name: str, keys: Collection[str]) -> bool:
    """Return whether there is a study with this name and any of these attributes."""
    return name in names(connection, keys)


def set_attributes(connection: Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    rows = [{"study": study_id, "key": key, "value": json.dumps(v)} for key, v in attributes.items()]
    connection.execute(_SET_ATTRIBUTE, rows)


_SET_ATTRIBUTE = text("""
INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (:study, :key, :value)
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")


def read_attributes(connection: Connection, name: str) -> tuple[int, dict[str, Any]] | None:
    """Return the id and the attributes of the study with this name, or None if there is no such study."""
    study_id = connection.execute(_FIND, {"name": name}).scalar()
    if study_id is None:
        return None
    rows = connection.execute(_READ_ATTRIBUTES, {"study": study_id})
    return study_id, {key: decode(value) for key, value in rows}


_FIND = text("SELECT study_id FROM studies WHERE study_name = :name")
_READ_ATTRIBUTES = text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study")


def read_attribute(connection: Connection, study_id: int, key: str) -> Any:
    """Return the value of a study's attribute, or None if the study has no attribute with this key."""
    value = READ_STUDY_ATTRIBUTE(connection, study_id, key).scalar()
    return None if value is None else decode(value)


READ_STUDY_ATTRIBUTE = Statement("""
PREPARE read_study_attribute (integer, varchar) AS
-- Read the attribute $2 of study $1.
SELECT value_json FROM study_user_attributes WHERE study_id = $1 AND key = $2
""")


def read_selected(connection: Connection, study_id: int, keys: Sequence[str]) -> dict[str, Any]:
    """Return those of a study's attributes that have these keys."""
    rows = READ_SELECTED_ATTRIBUTES(connection, study_id, list(keys))
    return {key: decode(value) for key, value in rows}


READ_SELECTED_ATTRIBUTES = Statement("""
PREPARE read_selected_attributes (integer, varchar[]) AS
-- Read the attributes of study $1 with the keys $2.
SELECT key, value_json FROM study_user_attributes WHERE study_id = $1 AND key = ANY ($2)
""")


def unset_attribute(connection: Connection, study_id: int, key: str) -> None:
    connection.execute(_UNSET_ATTRIBUTE, {"study": study_id, "key": key})


_UNSET_ATTRIBUTE = text("DELETE FROM study_user_attributes WHERE study_id = :study AND key = :key")


def lock(connection: Connection, study_id: int) -> None:
    """Wait for the right to lease or add trials of a study, and hold it until the transaction ends.

    Optuna takes the same lock to number a new trial, so programs that add trials through Optuna wait too.
    Raises `NotFoundError` if the study has been deleted.
    """
    if LOCK_STUDY(connection, study_id).scalar() is None:
        raise NotFoundError("the study has been deleted from the storage")


LOCK_STUDY = Statement("""
PREPARE lock_study (integer) AS
-- Lock study $1 until the transaction ends.
SELECT study_id FROM studies WHERE study_id = $1 FOR UPDATE
""")


def delete(connection: Connection, study_id: int) -> None:
    """Delete a study and its trials with all their rows. It must be locked, and its leases revoked."""
    trial_ids = sa.select(schema.trials.c.trial_id).where(schema.trials.c.study_id == study_id)
    for table in reversed(schema.optuna_metadata.sorted_tables):  # references go before their targets
        if "study_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))
        elif "trial_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(trial_ids)))
