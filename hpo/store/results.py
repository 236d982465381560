"""Results."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Integer,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.bulk import arrays, rows_of
from hpo.store.schema import UTC_NOW
from hpo.store.statements import Prepared
from hpo.store.trials import STUDY, is_open, set_attributes
from hpo.values.epoch import EpochResult

EPOCH = ("trial_id", "epoch", "train_loss", "validation_loss", "validation_accuracy")


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """Of an epoch on record."""

    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ends: its state, its objective if it has one, what is noted on it, after which epoch.

    With `epochs`, what is on record of later ones goes: a former attempt may have come further before it was
    lost.
    """

    state: TrialState
    value: float | None
    attributes: Mapping[str, Any]
    epochs: int | None = None


def report(connection: Connection, results: Mapping[int, EpochResult]) -> set[int]:
    """Writes one epoch of each trial (by id) that the caller holds; an epoch already there stays.

    The losses must be finite. Gives the ids of the trials whose epoch is new.
    """
    if not results:
        return set()
    rows = (
        (trial_id, result.epoch, result.train_loss, result.validation_loss, result.validation_accuracy)
        for trial_id, result in results.items()
    )
    return set(_reporting(connection, arrays(EPOCH, rows)).scalars())


@Prepared
def _reporting() -> ClauseElement:
    table, shown = schema.epochs, schema.intermediate_values
    given = rows_of(*(table.c[name] for name in EPOCH)).cte("given")
    told = upsert(table).from_select(EPOCH, select(given)).on_conflict_do_nothing()
    loss = select(
        given.c.trial_id,
        given.c.epoch,
        given.c.validation_loss,
        literal(schema.FINITE_INTERMEDIATE, shown.c.intermediate_value_type.type),
    )
    columns = ["trial_id", "step", "intermediate_value", "intermediate_value_type"]
    seen = upsert(shown).from_select(columns, loss).on_conflict_do_nothing().cte("shown")
    return told.returning(table.c.trial_id).add_cte(seen)


def trained_epochs(connection: Connection, study_id: int, inherited: int) -> list[tuple[TrialState, int]]:
    """Of a study's trials without the first `inherited`, the states and how many epochs are on record."""
    rows = _trained(connection, {"study": study_id, "inherited": inherited})
    return [(TrialState[state], epochs) for state, epochs in rows]


@Prepared
def _trained() -> ClauseElement:
    epoch, trial = schema.epochs, schema.trials
    its = trial.c.study_id == bindparam("study", type_=trial.c.study_id.type)
    return (
        select(trial.c.state, func.count(epoch.c.epoch))
        .join_from(trial, epoch, trial.c.trial_id == epoch.c.trial_id, isouter=True)
        .where(its, trial.c.number >= bindparam("inherited", type_=trial.c.number.type))
        .group_by(trial.c.trial_id)
    )


def epoch_metrics(connection: Connection, epochs: Mapping[int, int]) -> dict[int, EpochMetrics]:
    """Those of one epoch of each trial, or of the best one on record where it is not there; some must be."""
    table = schema.epochs
    wanted = tuple_(table.c.trial_id, table.c.epoch).in_(list(epochs.items()))
    columns = (table.c.trial_id, table.c.validation_loss, table.c.validation_accuracy)
    query = select(*columns).where(table.c.trial_id.in_(list(epochs))).ext(distinct_on(table.c.trial_id))
    rows = connection.execute(query.order_by(table.c.trial_id, ~wanted, table.c.validation_loss))
    return {row.trial_id: EpochMetrics(row.validation_loss, row.validation_accuracy) for row in rows}


def finish(connection: Connection, endings: Mapping[int, TrialOutcome]) -> None:
    """Ends trials that the caller holds, by trial id; their leases and their checkpoints go with them.

    A trial that has ended already stays as it is.
    """
    if not endings:
        return
    states = arrays(("trial_id", "state"), ((i, ending.state) for i, ending in endings.items()))
    ended = set(_ending(connection, states).scalars())
    gone = _letting_go(connection, arrays(("trial_id",), ((i,) for i in endings)))
    takeovers = {row.trial_id: {"takeovers": row.takeovers} for row in gone if row.takeovers}
    now = {trial_id: ending for trial_id, ending in endings.items() if trial_id in ended}
    set_attributes(
        connection, {i: {**ending.attributes, **takeovers.get(i, {})} for i, ending in now.items()}
    )
    results = ((i, ending.value, ending.epochs) for i, ending in now.items())
    _concluding(connection, arrays(("trial_id", "value", "epoch"), results))


@Prepared
def _ending() -> ClauseElement:
    """Gives the ids of those that had not ended before."""
    table = schema.trials
    given = rows_of(table.c.trial_id, table.c.state).subquery("given")
    statement = update(table).where(table.c.trial_id == given.c.trial_id, is_open())
    return statement.values(state=given.c.state, datetime_complete=UTC_NOW).returning(table.c.trial_id)


@Prepared
def _letting_go() -> ClauseElement:
    lease, saved = schema.leases, schema.checkpoints
    given = rows_of(lease.c.trial_id).cte("given")
    files = delete(saved).where(saved.c.trial_id.in_(select(given))).cte("files")
    gone = delete(lease).where(lease.c.trial_id.in_(select(given)))
    return gone.returning(lease.c.trial_id, lease.c.takeovers).add_cte(files)


@Prepared
def _concluding() -> ClauseElement:
    """Writes the objectives, and deletes the epochs after the last."""
    table, epoch, shown = schema.trial_values, schema.epochs, schema.intermediate_values
    given = rows_of(table.c.trial_id, table.c.value, epoch.c.epoch).cte("given")
    later = (
        delete(results).where(results.c.trial_id == given.c.trial_id, step > given.c.epoch).cte(results.name)
        for results, step in ((epoch, epoch.c.epoch), (shown, shown.c.step))
    )
    value = select(
        given.c.trial_id, literal(0), given.c.value, literal(schema.FINITE_VALUE, table.c.value_type.type)
    ).where(given.c.value.is_not(None))
    names = ["trial_id", "objective", "value", "value_type"]
    return upsert(table).from_select(names, value).add_cte(*later)


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """A trial's number and state, and its validation loss by epoch."""

    number: int
    state: TrialState
    losses: dict[int, float]


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
