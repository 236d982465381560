"""Studies as rows."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from optuna.study import StudyDirection
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.errors import NotFoundError
from hpo.store import schema
from hpo.store.statements import Prepared

STUDY = sa.bindparam("study", type_=sa.Integer)


def insert(connection: Connection, name: str, attributes: Mapping[str, Any]) -> int:
    """A new study that minimises its objective. Raises `IntegrityError` if the name is taken."""
    table = schema.studies
    study_id: int = connection.execute(
        sa.insert(table).values(study_name=name).returning(table.c.study_id)
    ).scalar_one()
    connection.execute(
        sa.insert(schema.study_directions).values(
            study_id=study_id, direction=StudyDirection.MINIMIZE, objective=0
        )
    )
    set_attributes(connection, study_id, attributes)
    return study_id


def set_attributes(connection: Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    table = schema.study_attributes
    statement = upsert(table)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.study_id, table.c.key], set_={"value_json": statement.excluded.value_json}
        ),
        [{"study_id": study_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()],
    )


def read_attributes(connection: Connection, name: str) -> tuple[int, dict[str, Any]] | None:
    """A study's id and attributes, None if there is none of that name."""
    table, attribute = schema.studies, schema.study_attributes
    study_id = connection.execute(sa.select(table.c.study_id).where(table.c.study_name == name)).scalar()
    if study_id is None:
        return None
    rows = connection.execute(
        sa.select(attribute.c.key, attribute.c.value_json).where(attribute.c.study_id == study_id)
    )
    return study_id, {key: json.loads(value) for key, value in rows}


def read_attribute(connection: Connection, study_id: int, key: str) -> Any:
    """The value of a study's attribute, None if it has none of that key."""
    value = _study_attribute(connection, {"study": study_id, "named": key}).scalar()
    return None if value is None else json.loads(value)


@Prepared
def _study_attribute() -> sa.ClauseElement:
    table = schema.study_attributes
    named = table.c.key == sa.bindparam("named", type_=table.c.key.type)
    return sa.select(table.c.value_json).where(table.c.study_id == STUDY, named)


def unset_attribute(connection: Connection, study_id: int, key: str) -> None:
    table = schema.study_attributes
    connection.execute(sa.delete(table).where(table.c.study_id == study_id, table.c.key == key))


def lock(connection: Connection, study_id: int) -> None:
    """Waits for, and holds until the transaction ends, the right to hand out or add trials of a study.

    It is the lock that Optuna takes to number a new trial, so anything that adds trials through Optuna
    queues up here too. Raises `NotFoundError` if the study has been deleted.
    """
    if _locking(connection, {"study": study_id}).scalar() is None:
        raise NotFoundError("the study has been deleted from the storage")


@Prepared
def _locking() -> sa.ClauseElement:
    table = schema.studies
    return sa.select(table.c.study_id).where(table.c.study_id == STUDY).with_for_update()


def delete(connection: Connection, study_id: int) -> None:
    """Deletes a study with its trials and all that belongs to them. It must be locked, its leases revoked."""
    own = sa.select(schema.trials.c.trial_id).where(schema.trials.c.study_id == study_id)
    for table in reversed(schema.optuna_metadata.sorted_tables):  # what refers goes before what it refers to
        if "study_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))
        elif "trial_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(own)))
