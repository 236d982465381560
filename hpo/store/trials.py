"""Trials as rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    Update,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from hpo.search.samplers.distributions import distributions
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


def read(connection: Connection, study_id: int, states: Sequence[TrialState] | None = None) -> list[TrialRow]:
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


def is_open() -> ColumnElement[bool]:
    """An `IN` would be written out only when its values are told."""
    return or_(*(schema.trials.c.state == state for state in OPEN))


def put_back(trial_ids: Iterable[int] | Select[int]) -> Update:
    """One that was ended by other means meanwhile stays ended."""
    trial = schema.trials
    running = and_(trial.c.trial_id.in_(trial_ids), trial.c.state == TrialState.RUNNING)
    return update(trial).where(running).values(state=TrialState.WAITING)
