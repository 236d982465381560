"""Studies and trials as rows: added, queued, read.

Every function takes the caller's open transaction and is one step of it; nothing here commits.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    values,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.errors import NotFoundError
from hpo.search.samplers.base import distributions
from hpo.store import schema
from hpo.store.bulk import arrays, insertion
from hpo.store.statements import Prepared
from hpo.values.space import Point, SearchSpace

OPEN = (TrialState.WAITING, TrialState.RUNNING)
ROWS = 500
"""So many in one statement, at most."""
TRAINED = frozenset({"seed", "accuracy"})
"""The attributes by which one knows a trial that this service trained to its end."""

PAUSED = "hpo:paused"
"""The attribute of a trial that is set aside until it deserves to go on: after which epoch."""

PARAMETER = ("trial_id", "param_name", "param_value", "distribution_json")
ATTRIBUTE = ("trial_id", "key", "value_json")

STUDY = bindparam("study", type_=Integer)
_distribution = lru_cache(json_to_distribution)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as it stands in the database; `value` is its objective, None while it has none."""

    trial_id: int
    number: int
    state: TrialState
    point: Point
    attributes: Mapping[str, Any]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """A trial's number and state, and its validation loss by epoch."""

    number: int
    state: TrialState
    losses: dict[int, float]


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


def read_study_attribute(connection: Connection, study_id: int, key: str) -> Any:
    """The value of a study's attribute, None if it has none of that key."""
    value = _study_attribute(connection, {"study": study_id, "named": key}).scalar()
    return None if value is None else json.loads(value)


@Prepared
def _study_attribute() -> ClauseElement:
    table = schema.study_attributes
    named = table.c.key == bindparam("named", type_=table.c.key.type)
    return select(table.c.value_json).where(table.c.study_id == STUDY, named)


def unset_study_attribute(connection: Connection, study_id: int, key: str) -> None:
    table = schema.study_attributes
    connection.execute(delete(table).where(table.c.study_id == study_id, table.c.key == key))


def lock_study(connection: Connection, study_id: int) -> None:
    """Waits for, and holds until the transaction ends, the right to hand out or add trials of a study.

    It is the lock that Optuna takes to number a new trial, so anything that adds trials through Optuna
    queues up here too. Raises `NotFoundError` if the study has been deleted.
    """
    if _locking(connection, {"study": study_id}).scalar() is None:
        raise NotFoundError("the study has been deleted from the storage")


@Prepared
def _locking() -> ClauseElement:
    table = schema.studies
    return select(table.c.study_id).where(table.c.study_id == STUDY).with_for_update()


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
) -> list[TrialRow]:
    """Adds waiting trials with their points and attributes. The study must be locked."""
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
    set_attributes(connection, {i: attributes for i, (_, attributes) in zip(ids, trials, strict=True)})
    return [
        TrialRow(trial_id, count + place, TrialState.WAITING, point, attributes)
        for place, (trial_id, (point, attributes)) in enumerate(zip(ids, trials, strict=True))
    ]


def set_points(connection: Connection, space: SearchSpace, points: Mapping[int, Point]) -> None:
    """Gives trials (by id) their parameters; one that is there already stays."""
    kinds = distributions(space)
    texts = {name: distribution_to_json(kind) for name, kind in kinds.items()}
    rows = [
        (trial_id, name, kinds[name].to_internal_repr(value), texts[name])
        for trial_id, point in points.items()
        for name, value in point.items()
    ]
    _insert_in_parts(connection, _setting_points, PARAMETER, rows)


@Prepared
def _setting_points() -> ClauseElement:
    return insertion(schema.trial_params, *PARAMETER).on_conflict_do_nothing()


def set_attributes(connection: Connection, attributes: Mapping[int, Mapping[str, Any]]) -> None:
    """Sets attributes of trials, by trial id."""
    rows = [
        (trial_id, key, json.dumps(value))
        for trial_id, its in attributes.items()
        for key, value in its.items()
    ]
    _insert_in_parts(connection, _setting_attributes, ATTRIBUTE, rows)


@Prepared
def _setting_attributes() -> ClauseElement:
    statement = insertion(schema.trial_attributes, *ATTRIBUTE)
    return statement.on_conflict_do_update(
        index_elements=["trial_id", "key"], set_={"value_json": statement.excluded.value_json}
    )


def _insert_in_parts(
    connection: Connection, statement: Prepared, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    for start in range(0, len(rows), ROWS):
        statement(connection, arrays(columns, rows[start : start + ROWS]))


def unset_attribute(connection: Connection, trial_ids: Sequence[int], key: str) -> None:
    table = schema.trial_attributes
    connection.execute(delete(table).where(table.c.trial_id.in_(trial_ids), table.c.key == key))


def trials(
    connection: Connection, study_id: int, states: Sequence[TrialState] | None = None
) -> list[TrialRow]:
    """The study's trials, or those in `states`, by number."""
    rows = _all_trials(connection, {"study": study_id, "states": states or list(TrialState)})
    return [_trial_row(*row) for row in rows]


@Prepared
def _all_trials() -> ClauseElement:
    table = schema.trials
    query = _of_trials(schema.trial_values.c.value).join_from(table, schema.trial_values, isouter=True)
    wanted = table.c.state == any_(bindparam("states", type_=ARRAY(table.c.state.type)))
    return query.where(table.c.study_id == STUDY, wanted).order_by(table.c.number)


def _of_trials(value: ColumnElement[Any]) -> Select[Any]:
    """What `_trial_row` takes, all in one statement: each one more takes as long as what it finds."""
    table, parameter, attribute = schema.trials, schema.trial_params, schema.trial_attributes
    its = (parameter.c.param_name, parameter.c.param_value, parameter.c.distribution_json)
    told = aggregate_order_by(func.json_build_array(*its), parameter.c.param_id)
    parameters = select(func.json_agg(told))
    # Put together as texts: they are JSON as Python writes it, with a NaN where there is one.
    pair = cast(func.to_json(attribute.c.key), Text) + ":" + attribute.c.value_json
    attributes = select("{" + func.string_agg(pair, ",") + "}")
    return select(
        table.c.trial_id,
        table.c.number,
        table.c.state,
        value,
        parameters.where(parameter.c.trial_id == table.c.trial_id).scalar_subquery(),
        attributes.where(attribute.c.trial_id == table.c.trial_id).scalar_subquery(),
    )


def _trial_row(
    trial_id: int,
    number: int,
    state: str,
    value: float | None,
    parameters: Sequence[tuple[str, float, str]] | None,
    attributes: str | None,
) -> TrialRow:
    point = {name: _distribution(kind).to_external_repr(inner) for name, inner, kind in parameters or ()}
    return TrialRow(trial_id, number, TrialState[state], point, json.loads(attributes or "{}"), value)


def curves(connection: Connection, study_id: int) -> dict[int, TrialCurve]:
    """Those of the study's trials, by trial id."""
    return _found(_all_curves(connection, {"study": study_id}))


@Prepared
def _all_curves() -> ClauseElement:
    return _curves(true())


def curves_at(
    connection: Connection, study_id: int, epochs: Collection[int], whole: Collection[int]
) -> dict[int, TrialCurve]:
    """The same at these epochs alone, but for the trials `whole`, by id."""
    told = {"study": study_id, "epochs": list(epochs), "whole": list(whole)}
    return _found(_some_curves(connection, told))


@Prepared
def _some_curves() -> ClauseElement:
    table, numbers = schema.intermediate_values, ARRAY(Integer)
    epochs, whole = bindparam("epochs", type_=numbers), bindparam("whole", type_=numbers)
    return _curves(or_(table.c.step == any_(epochs), table.c.trial_id == any_(whole)))


def _curves(wanted: ColumnElement[bool]) -> ClauseElement:
    trial, told = schema.trials, schema.intermediate_values
    value = told.c.intermediate_value
    its = and_(told.c.trial_id == trial.c.trial_id, value.is_not(None), wanted)
    query = select(trial.c.trial_id, trial.c.number, trial.c.state, told.c.step, value)
    return query.join_from(trial, told, its, isouter=True).where(trial.c.study_id == STUDY)


def _found(rows: Iterable[Sequence[Any]]) -> dict[int, TrialCurve]:
    found: dict[int, TrialCurve] = {}
    for trial_id, number, state, epoch, loss in rows:
        if trial_id not in found:
            found[trial_id] = TrialCurve(number, TrialState[state], {})
        if epoch is not None:
            found[trial_id].losses[epoch] = loss
    return found


def fixed_params(connection: Connection, trial_ids: Sequence[int]) -> dict[int, Point]:
    """By trial id, the numbers given to Optuna's `enqueue_trial`, which notes them and sets no parameter."""
    if not trial_ids:
        return {}
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


def claimable(connection: Connection, study_id: int) -> list[TrialRow]:
    """The trials that may be handed out: those that were begun first, then the others.

    Running ones without a lease count too: they were started by other means, and nothing tells whether
    anyone still works on them. Paused ones do not.
    """
    return [_trial_row(*row) for row in _claimable(connection, {"study": study_id})]


@Prepared
def _claimable() -> ClauseElement:
    table, lease, attribute = schema.trials, schema.leases, schema.trial_attributes
    is_paused = exists().where(attribute.c.trial_id == table.c.trial_id, attribute.c.key == PAUSED)
    waiting = and_(table.c.state == TrialState.WAITING, ~is_paused)
    foreign = and_(table.c.state == TrialState.RUNNING, lease.c.trial_id.is_(None))
    begun = or_(table.c.state == TrialState.RUNNING, lease.c.trial_id.is_not(None))
    return (
        _of_trials(null().label("value"))
        .join_from(table, lease, isouter=True)
        .where(table.c.study_id == STUDY, foreign | waiting)
        .order_by(case((begun, 0), else_=1), table.c.number)
    )


def paused(connection: Connection, study_id: int) -> dict[int, int]:
    """By trial id, after which epoch the study's paused trials are."""
    table, attribute = schema.trials, schema.trial_attributes
    its = (attribute.c.trial_id == table.c.trial_id, attribute.c.key == PAUSED)
    # Looked up for each open trial: there is no index of keys, and other studies have attributes too.
    epoch = select(attribute.c.value_json).where(*its).scalar_subquery()
    query = select(table.c.trial_id, epoch).where(table.c.study_id == study_id, table.c.state.in_(OPEN))
    return {trial_id: json.loads(value) for trial_id, value in connection.execute(query) if value is not None}


def count_begun(connection: Connection, study_id: int) -> int:
    """How many open trials somebody works on, or did and lost: those a stopped stage still finishes."""
    table, lease = schema.trials, schema.leases
    begun = or_(
        table.c.state == TrialState.RUNNING,
        and_(table.c.state == TrialState.WAITING, lease.c.trial_id.is_not(None)),
    )
    query = (
        select(func.count()).select_from(table.outerjoin(lease)).where(table.c.study_id == study_id, begun)
    )
    return connection.execute(query).scalar_one()


def count(connection: Connection, study_id: int, states: Sequence[TrialState] | None = None) -> int:
    table = schema.trials
    query = select(func.count()).where(table.c.study_id == study_id)
    if states is not None:
        query = query.where(table.c.state.in_(states))
    return connection.execute(query).scalar_one()


def ended(connection: Connection, study_id: int) -> list[tuple[int, TrialState, float | None]]:
    """Number, state and value of the completed and pruned trials, in the order of their ending.

    Only those that this service trained: what others added or ended lacks the seed or the accuracy.
    """
    table, attribute = schema.trials, schema.trial_attributes
    ours = (
        select(attribute.c.trial_id)
        .where(attribute.c.key.in_(TRAINED))
        .group_by(attribute.c.trial_id)
        .having(func.count() == len(TRAINED))
    )
    query = (
        select(table.c.number, table.c.state, schema.trial_values.c.value)
        .join_from(table, schema.trial_values, isouter=True)
        .where(
            table.c.study_id == study_id,
            table.c.state.in_((TrialState.COMPLETE, TrialState.PRUNED)),
            table.c.trial_id.in_(ours),
        )
        .order_by(table.c.datetime_complete, table.c.number)
    )
    return [(row.number, row.state, row.value) for row in connection.execute(query)]


def copy_ended(
    connection: Connection, study_id: int, space: SearchSpace, trials: Sequence[tuple[TrialRow, Point]]
) -> None:
    """Adds copies of ended trials, at points of `space`, with their values, curves, epochs and attributes.

    The study must be new: they are its first trials, numbered in the order given. `forked_from` is the number
    of the original.
    """
    if not trials:
        return
    table = schema.trials
    pair = values(column("number", Integer), column("origin", Integer), name="pair").data(
        [(number, row.trial_id) for number, (row, _) in enumerate(trials)]
    )
    connection.execute(
        insert(table).from_select(
            ["study_id", "number", "state", "datetime_start", "datetime_complete"],
            select(
                literal(study_id),
                pair.c.number,
                table.c.state,
                table.c.datetime_start,
                table.c.datetime_complete,
            ).join_from(pair, table, table.c.trial_id == pair.c.origin),
        )
    )
    numbered = select(table.c.trial_id).where(table.c.study_id == study_id).order_by(table.c.number)
    ids = list(connection.execute(numbered).scalars())
    set_points(connection, space, {i: point for i, (_, point) in zip(ids, trials, strict=True)})
    copy = table.alias("copy")
    attribute = schema.trial_attributes
    for results in (attribute, schema.trial_values, schema.intermediate_values, schema.epochs):
        kept = [c for c in results.c if c.name != "trial_id" and c is not results.autoincrement_column]
        connection.execute(
            insert(results).from_select(
                ["trial_id", *(c.name for c in kept)],
                select(copy.c.trial_id, *kept)
                .join_from(pair, copy, (copy.c.study_id == study_id) & (copy.c.number == pair.c.number))
                .join(results, results.c.trial_id == pair.c.origin),
            )
        )
    # Set last: what is copied from a fork has one already.
    statement = upsert(attribute)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[attribute.c.trial_id, attribute.c.key],
            set_={"value_json": statement.excluded.value_json},
        ),
        [
            {"trial_id": trial_id, "key": "forked_from", "value_json": json.dumps(row.number)}
            for trial_id, (row, _) in zip(ids, trials, strict=True)
        ],
    )
