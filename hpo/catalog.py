"""Studies and trials as rows: added, queued, read.

Every function takes the caller's open transaction and is one step of it; nothing here commits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, and_, case, delete, func, insert, null, select
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo import schema
from hpo.errors import NotFoundError
from hpo.sampler import distributions
from hpo.space import Point, SearchSpace

OPEN = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as it stands in the database; `value` is its objective, None while it has none."""

    trial_id: int
    number: int
    state: TrialState
    point: Point
    attributes: Mapping[str, Any]
    value: float | None = None


def insert_study(connection: Connection, name: str, attributes: Mapping[str, Any]) -> int:
    """A new study that minimises its objective. Raises `IntegrityError` if the name is taken."""
    table = schema.studies
    study_id: int = connection.execute(
        insert(table).values(study_name=name).returning(table.c.study_id)
    ).scalar_one()
    connection.execute(
        insert(schema.study_directions).values(
            study_id=study_id, direction=StudyDirection.MINIMIZE, objective=0
        )
    )
    set_study_attributes(connection, study_id, attributes)
    return study_id


def set_study_attributes(connection: Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    table = schema.study_attributes
    statement = upsert(table)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.study_id, table.c.key], set_={"value_json": statement.excluded.value_json}
        ),
        [{"study_id": study_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()],
    )


def study_attributes(connection: Connection, name: str) -> tuple[int, dict[str, Any]] | None:
    """A study's id and attributes, None if there is none of that name."""
    table, attribute = schema.studies, schema.study_attributes
    study_id = connection.execute(select(table.c.study_id).where(table.c.study_name == name)).scalar()
    if study_id is None:
        return None
    rows = connection.execute(
        select(attribute.c.key, attribute.c.value_json).where(attribute.c.study_id == study_id)
    )
    return study_id, {key: json.loads(value) for key, value in rows}


def lock_study(connection: Connection, study_id: int) -> None:
    """Waits for, and holds until the transaction ends, the right to hand out or add trials of a study.

    It is the lock that Optuna takes to number a new trial, so anything that adds trials through Optuna
    queues up here too. Raises `NotFoundError` if the study has been deleted.
    """
    table = schema.studies
    query = select(table.c.study_id).where(table.c.study_id == study_id).with_for_update()
    if connection.execute(query).scalar() is None:
        raise NotFoundError("the study has been deleted from the storage")


def delete_study(connection: Connection, study_id: int) -> None:
    """Deletes a study with its trials and all that belongs to them. It must be locked, its leases revoked."""
    own = select(schema.trials.c.trial_id).where(schema.trials.c.study_id == study_id)
    for table in reversed(schema.optuna_metadata.sorted_tables):  # what refers goes before what it refers to
        if "study_id" in table.c:
            connection.execute(delete(table).where(table.c.study_id == study_id))
        elif "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id.in_(own)))


def enqueue(
    connection: Connection,
    study_id: int,
    space: SearchSpace,
    trials: Sequence[tuple[Point, Mapping[str, Any]]],
) -> list[int]:
    """Adds waiting trials with their points and attributes; gives their ids. The study must be locked."""
    if not trials:
        return []
    table = schema.trials
    count = connection.execute(select(func.count()).where(table.c.study_id == study_id)).scalar_one()
    rows = [
        {"study_id": study_id, "number": count + place, "state": TrialState.WAITING}
        for place in range(len(trials))
    ]
    statement = insert(table).returning(table.c.trial_id, sort_by_parameter_order=True)
    ids = list(connection.execute(statement, rows).scalars())
    set_points(connection, space, {i: point for i, (point, _) in zip(ids, trials, strict=True)})
    for trial_id, (_, attributes) in zip(ids, trials, strict=True):
        set_attributes(connection, trial_id, attributes)
    return ids


def set_points(connection: Connection, space: SearchSpace, points: Mapping[int, Point]) -> None:
    """Gives trials (by id) their parameters; one that is there already stays."""
    kinds = distributions(space)
    connection.execute(
        upsert(schema.trial_params).on_conflict_do_nothing(),
        [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": kinds[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(kinds[name]),
            }
            for trial_id, point in points.items()
            for name, value in point.items()
        ],
    )


def set_attributes(connection: Connection, trial_id: int, attributes: Mapping[str, Any]) -> None:
    if not attributes:
        return
    table = schema.trial_attributes
    statement = upsert(table)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.trial_id, table.c.key], set_={"value_json": statement.excluded.value_json}
        ),
        [{"trial_id": trial_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()],
    )


def trials(
    connection: Connection, study_id: int, states: Sequence[TrialState] | None = None
) -> list[TrialRow]:
    """The study's trials, or those in `states`, by number."""
    table = schema.trials
    query = select(table.c.trial_id, table.c.number, table.c.state, schema.trial_values.c.value).join_from(
        table, schema.trial_values, isouter=True
    )
    query = query.where(table.c.study_id == study_id).order_by(table.c.number)
    if states is not None:
        query = query.where(table.c.state.in_(states))
    return _with_points(connection, connection.execute(query).all())


def _with_points(connection: Connection, rows: Sequence[Row[Any, Any, Any, Any]]) -> list[TrialRow]:
    ids = [row.trial_id for row in rows]
    points: dict[int, Point] = {trial_id: {} for trial_id in ids}
    table = schema.trial_params
    columns = (table.c.trial_id, table.c.param_name, table.c.param_value, table.c.distribution_json)
    parameters = select(*columns).where(table.c.trial_id.in_(ids)).order_by(table.c.param_id)
    for trial_id, name, internal, distribution in connection.execute(parameters):
        points[trial_id][name] = json_to_distribution(distribution).to_external_repr(internal)
    attributes: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    attribute = schema.trial_attributes
    for trial_id, key, value in connection.execute(
        select(attribute.c.trial_id, attribute.c.key, attribute.c.value_json).where(
            attribute.c.trial_id.in_(ids)
        )
    ):
        attributes[trial_id][key] = json.loads(value)
    return [
        TrialRow(r.trial_id, r.number, r.state, points[r.trial_id], attributes[r.trial_id], r.value)
        for r in rows
    ]


def curves(connection: Connection, study_id: int) -> dict[int, dict[int, float]]:
    """By trial id, the validation loss by epoch."""
    table = schema.intermediate_values
    rows = connection.execute(
        select(table.c.trial_id, table.c.step, table.c.intermediate_value)
        .join(schema.trials)
        .where(schema.trials.c.study_id == study_id, table.c.intermediate_value.is_not(None))
    )
    found: dict[int, dict[int, float]] = {}
    for trial_id, epoch, value in rows:
        found.setdefault(trial_id, {})[epoch] = value
    return found


def fixed_params(connection: Connection, trial_ids: Sequence[int]) -> dict[int, Point]:
    """By trial id, the numbers given to Optuna's `enqueue_trial`, which notes them and sets no parameter."""
    table = schema.trial_system_attributes
    rows = connection.execute(
        select(table.c.trial_id, table.c.value_json).where(
            table.c.trial_id.in_(trial_ids), table.c.key == "fixed_params"
        )
    )
    return {
        trial_id: {k: v for k, v in json.loads(value).items() if type(v) in (int, float)}
        for trial_id, value in rows
    }


def claimable(connection: Connection, study_id: int, overdue: Sequence[int]) -> list[TrialRow]:
    """The trials that may be handed out: the `overdue` ones first, then waiting ones.

    Running ones without a lease count as overdue: they were started by other means, and nothing tells
    whether anyone still works on them.
    """
    table, lease = schema.trials, schema.leases
    running = and_(
        table.c.state == TrialState.RUNNING, lease.c.trial_id.is_(None) | table.c.trial_id.in_(overdue)
    )
    query = (
        select(table.c.trial_id, table.c.number, table.c.state, null().label("value"))
        .join_from(table, lease, isouter=True)
        .where(table.c.study_id == study_id, running | (table.c.state == TrialState.WAITING))
        .order_by(case((table.c.state == TrialState.RUNNING, 0), else_=1), table.c.number)
    )
    return _with_points(connection, connection.execute(query).all())


def count(connection: Connection, study_id: int, states: Sequence[TrialState] | None = None) -> int:
    table = schema.trials
    query = select(func.count()).where(table.c.study_id == study_id)
    if states is not None:
        query = query.where(table.c.state.in_(states))
    return connection.execute(query).scalar_one()
