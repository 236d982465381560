"""The life of a running trial, as rows: leased, reported, saved, finished.

Every function takes the caller's open transaction and is one step of it; nothing here commits. A write
about a running trial goes through `hold`, which renews the lease and locks its row until the transaction
ends, so a worker that lost its lease can write nothing, not even in the instant of a take-over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.bulk import arrays, rows_of
from hpo.store.catalog import OPEN, PAUSED, set_attributes
from hpo.store.statements import Prepared
from hpo.values.epoch import EpochResult

UTC_NOW = func.timezone("utc", func.now())  # Optuna's columns hold UTC without a zone
EPOCH = ("trial_id", "epoch", "train_loss", "validation_loss", "validation_accuracy")
CHECKPOINT = ("trial_id", "epoch", "file")
REVOKED = func.to_timestamp(0)  # the expiry of a lease whose owner is known to be gone


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one running trial, as long as `token` is the one in the table."""

    trial_id: int
    token: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: the epochs trained by then, and the name of its file."""

    epoch: int
    file: str


def lease(
    connection: Connection, trial_ids: Sequence[int], worker: str, seconds: float
) -> dict[int, tuple[Lease, Checkpoint | None]]:
    """Gives waiting trials to `worker`, by id with the checkpoint they go on from; whoever held one before is
    fenced off by the new token.

    The study must be locked, and the trials claimable or paused.
    """
    ids = arrays(("trial_id",), ((trial_id,) for trial_id in sorted(trial_ids)))
    rows = _leasing(connection, {**ids, "owner": worker, "lasting": seconds})
    return {
        trial_id: (Lease(trial_id, token), None if file is None else Checkpoint(epoch, file))
        for trial_id, token, epoch, file in rows
    }


@Prepared
def _leasing() -> ClauseElement:
    table, trial, saved, attribute = schema.leases, schema.trials, schema.checkpoints, schema.trial_attributes
    ids = rows_of(trial.c.trial_id).cte("given")
    begun = (
        update(trial)
        .where(trial.c.trial_id.in_(select(ids.c.trial_id)), trial.c.state == TrialState.WAITING)
        .values(state=TrialState.RUNNING, datetime_start=func.coalesce(trial.c.datetime_start, UTC_NOW))
        .cte("begun")
    )
    going_on = delete(attribute).where(
        attribute.c.trial_id.in_(select(ids.c.trial_id)), attribute.c.key == PAUSED
    )
    seconds = bindparam("lasting", type_=table.c.seconds.type)
    given = select(
        ids.c.trial_id,
        bindparam("owner", type_=table.c.worker.type),
        schema.tokens.next_value(),
        seconds,
        from_now(seconds),
        func.coalesce(saved.c.epoch, 0),
    )
    given = given.join_from(ids, saved, saved.c.trial_id == ids.c.trial_id, isouter=True).order_by(
        ids.c.trial_id
    )
    names = ("worker", "token", "seconds", "expires", "durable")
    statement = upsert(table).from_select(["trial_id", *names], given)
    leased = (
        statement.on_conflict_do_update(
            index_elements=[table.c.trial_id],
            set_={
                **{name: statement.excluded[name] for name in names},
                "takeovers": table.c.takeovers + 1,
            },
        )
        .returning(table.c.trial_id, table.c.token)
        .cte("leased")
    )
    return (
        select(leased.c.trial_id, leased.c.token, saved.c.epoch, saved.c.file)
        .join_from(leased, saved, saved.c.trial_id == leased.c.trial_id, isouter=True)
        .add_cte(begun, going_on.cte("going_on"))
    )


def from_now(seconds: float | ColumnElement[float]) -> ColumnElement[Any]:
    return func.now() + _interval(seconds)


def _interval(seconds: float | ColumnElement[float]) -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _locking(*conditions: ColumnElement[bool], skip_locked: bool = False) -> Select[int]:
    """Locks the leases of running trials that meet the conditions; gives the ids of the trials.

    Always in the order of the ids, so that two transactions that want the same rows cannot deadlock.
    """
    table, trial = schema.leases, schema.trials
    query = select(table.c.trial_id).join(trial).where(trial.c.state == TrialState.RUNNING, *conditions)
    return query.order_by(table.c.trial_id).with_for_update(of=table, skip_locked=skip_locked)


def _lock(connection: Connection, *conditions: ColumnElement[bool], skip_locked: bool = False) -> list[int]:
    return list(connection.execute(_locking(*conditions, skip_locked=skip_locked)).scalars())


def hold(connection: Connection, leases: Iterable[Lease]) -> set[int]:
    """Renews the leases and locks their rows; gives the ids of the trials that are still held.

    A trial that was ended by other means, as the dashboard can, is not held any more.
    """
    tokens = [(mine.trial_id, mine.token) for mine in leases]
    if not tokens:
        return set()
    return set(_renewing(connection, arrays(("trial_id", "token"), tokens)).scalars())


@Prepared
def _renewing() -> ClauseElement:
    table = schema.leases
    given = rows_of(table.c.trial_id, table.c.token).subquery("given")
    # That it has a worker is looked at again after a wait for the row, unlike the state of the trial.
    mine = (tuple_(table.c.trial_id, table.c.token).in_(select(given)), table.c.worker.is_not(None))
    held = _locking(*mine).cte("held")
    renewal = update(table).where(table.c.trial_id == held.c.trial_id)
    return renewal.values(expires=from_now(table.c.seconds)).returning(table.c.trial_id)


def reap(connection: Connection, study_id: int) -> list[int]:
    """Puts the study's trials whose lease has run out back into the queue; gives their ids.

    Their owners hold them no more from then on. One who is writing at this moment is alive, and its trials
    are passed over: the row is locked. A server that has just started gives everyone a lease's time to come
    back, for nobody could renew while it was away.
    """
    table = schema.leases
    lost = list(_reaping(connection, {"study": study_id}).scalars())
    if not lost:
        return []
    _give_up(connection, lost)
    connection.execute(
        update(table)
        .where(table.c.trial_id.in_(lost))
        .values(losses=case((_has_advanced(), 1), else_=table.c.losses + 1))
    )
    return lost


@Prepared
def _reaping() -> ClauseElement:
    """Locks the leases that have run out; deletes those, and the checkpoints, of trials that were ended by
    other means, as the dashboard can."""
    trial, table, saved = schema.trials, schema.leases, schema.checkpoints
    study_id = bindparam("study", type_=trial.c.study_id.type)
    ended = select(trial.c.trial_id).where(trial.c.study_id == study_id, ~_is_open())
    files = delete(saved).where(saved.c.trial_id.in_(ended)).cte("files")
    leases = delete(table).where(table.c.trial_id.in_(ended)).cte("forgotten")
    # That it has a worker is looked at again if another transaction had the row meanwhile, and has reaped it.
    mine = (trial.c.study_id == study_id, _is_over(), table.c.worker.is_not(None))
    return _locking(*mine, skip_locked=True).add_cte(files, leases)


def _is_open() -> ColumnElement[bool]:
    """An `IN` would be written out only when its values are told."""
    return or_(*(schema.trials.c.state == state for state in OPEN))


def _has_advanced() -> ColumnElement[bool]:
    """Whether a leased trial has a newer checkpoint than when it was given."""
    table, saved = schema.leases, schema.checkpoints
    epoch = select(saved.c.epoch).where(saved.c.trial_id == table.c.trial_id).scalar_subquery()
    return func.coalesce(epoch, 0) > table.c.durable


def _is_over() -> ColumnElement[bool]:
    table = schema.leases
    started = func.pg_postmaster_start_time() + _interval(table.c.seconds)
    return or_(table.c.expires == REVOKED, func.greatest(table.c.expires, started) <= func.now())


def is_anything_lost(connection: Connection, study_id: int, losses: int) -> bool:
    """Whether a trial of the study was begun and has no worker, or one whose lease has run out; only trials
    with fewer `losses` in a row count."""
    table, trial = schema.leases, schema.trials
    lost = or_(trial.c.state == TrialState.WAITING, and_(trial.c.state == TrialState.RUNNING, _is_over()))
    query = (
        select(table.c.trial_id)
        .join(trial)
        .where(trial.c.study_id == study_id, table.c.losses < losses, lost)
    )
    return connection.execute(query.limit(1)).first() is not None


def _give_up(connection: Connection, trial_ids: Iterable[int]) -> None:
    """Puts trials whose leases are locked back into the queue."""
    table = schema.leases
    connection.execute(_waiting(trial_ids))
    connection.execute(update(table).where(table.c.trial_id.in_(trial_ids)).values(worker=None))


def _waiting(trial_ids: Iterable[int] | Select[int]) -> Update:
    """One that was ended by other means meanwhile stays ended."""
    trial = schema.trials
    running = and_(trial.c.trial_id.in_(trial_ids), trial.c.state == TrialState.RUNNING)
    return update(trial).where(running).values(state=TrialState.WAITING)


def revoke(connection: Connection, study_id: int) -> None:
    """Ends all leases of a study that is locked; once this returns, no worker writes about its trials."""
    ids = _lock(connection, schema.trials.c.study_id == study_id)
    connection.execute(delete(schema.leases).where(schema.leases.c.trial_id.in_(ids)))


def release(connection: Connection, leases: Iterable[Lease]) -> None:
    """Puts the trials back into the queue, for a worker that stops before they are finished."""
    table = schema.leases
    held = hold(connection, leases)
    _give_up(connection, held)
    connection.execute(update(table).where(table.c.trial_id.in_(held), _has_advanced()).values(losses=0))


def forget_worker(connection: Connection, worker: str) -> None:
    """Ends the leases of a worker that is known to be dead, and its entry among the workers."""
    table = schema.leases
    ids = _lock(connection, table.c.worker == worker)
    connection.execute(update(table).where(table.c.trial_id.in_(ids)).values(expires=REVOKED))
    dismiss(connection, worker)


def dismiss(connection: Connection, *ended: str) -> None:
    """Deletes the entries of workers that have ended, and of all that have not been heard of for too long.

    One of those that lives after all enters itself anew.
    """
    table = schema.workers
    gone = or_(table.c.name.in_(ended), table.c.expires <= func.now())
    names = connection.execute(delete(table).where(gone).returning(table.c.name)).scalars()
    connection.execute(delete(schema.deliveries).where(schema.deliveries.c.worker.in_([*names, *ended])))


def losses(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    """How often in a row each trial has lost its worker without a new checkpoint; those never leased lack."""
    if not trial_ids:
        return {}
    table = schema.leases
    rows = connection.execute(select(table.c.trial_id, table.c.losses).where(table.c.trial_id.in_(trial_ids)))
    return {row.trial_id: row.losses for row in rows}


def checkpoints(connection: Connection, trial_ids: Iterable[int]) -> dict[int, Checkpoint]:
    """The checkpoints of those trials that have one."""
    table = schema.checkpoints
    rows = connection.execute(
        select(table.c.trial_id, table.c.epoch, table.c.file).where(table.c.trial_id.in_(list(trial_ids)))
    )
    return {row.trial_id: Checkpoint(row.epoch, row.file) for row in rows}


def save(connection: Connection, saved: Mapping[int, Checkpoint]) -> list[str]:
    """Notes the checkpoints of trials (by id) that the caller holds; gives the files they replace."""
    if not saved:
        return []
    rows = ((i, one.epoch, one.file) for i, one in saved.items())
    return list(_saving(connection, arrays(CHECKPOINT, rows)).scalars())


def _saved() -> Select[str]:
    """Gives the files that were there before: what a statement reads is as it was at its begin."""
    table = schema.checkpoints
    given = rows_of(*(table.c[name] for name in CHECKPOINT)).cte("given")
    statement = upsert(table).from_select(CHECKPOINT, select(given))
    written = statement.on_conflict_do_update(
        index_elements=["trial_id"],
        set_={"epoch": statement.excluded.epoch, "file": statement.excluded.file},
    )
    return (
        select(table.c.file)
        .where(table.c.trial_id.in_(select(given.c.trial_id)))
        .add_cte(written.cte("written"))
    )


def pause(
    connection: Connection, saved: Mapping[int, Checkpoint], attributes: Mapping[str, Any]
) -> list[str]:
    """Sets trials that the caller holds aside, by id, as of a checkpoint; gives the files that replaces.

    They wait without a lease, as if nobody had ever had them: who takes one up owes nothing to that.
    """
    if not saved:
        return []
    rows = ((i, one.epoch, one.file) for i, one in saved.items())
    replaced = list(_pausing(connection, arrays(CHECKPOINT, rows)).scalars())
    set_attributes(connection, {i: {**attributes, PAUSED: one.epoch} for i, one in saved.items()})
    return replaced


_saving = Prepared(_saved)


@Prepared
def _pausing() -> ClauseElement:
    """`_saving`; the trials wait, and their leases go."""
    table = schema.leases
    ids = select(rows_of(schema.checkpoints.c.trial_id).cte("ids"))
    leases = delete(table).where(table.c.trial_id.in_(ids))
    return _saved().add_cte(_waiting(ids).cte("waiting"), leases.cte("leases"))


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


def trained(connection: Connection, study_id: int, inherited: int) -> list[tuple[TrialState, int]]:
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


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """Of an epoch on record."""

    validation_loss: float
    validation_accuracy: float


def figures(connection: Connection, epochs: Mapping[int, int]) -> dict[int, EpochMetrics]:
    """Those of one epoch of each trial, or of the best one on record where it is not there; some must be."""
    table = schema.epochs
    wanted = tuple_(table.c.trial_id, table.c.epoch).in_(list(epochs.items()))
    columns = (table.c.trial_id, table.c.validation_loss, table.c.validation_accuracy)
    query = select(*columns).where(table.c.trial_id.in_(list(epochs))).ext(distinct_on(table.c.trial_id))
    rows = connection.execute(query.order_by(table.c.trial_id, ~wanted, table.c.validation_loss))
    return {row.trial_id: EpochMetrics(row.validation_loss, row.validation_accuracy) for row in rows}


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
    statement = update(table).where(table.c.trial_id == given.c.trial_id, _is_open())
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
