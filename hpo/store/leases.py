"""Leases."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.bulk import arrays, rows_of
from hpo.store.checkpoints import Checkpoint
from hpo.store.schema import UTC_NOW
from hpo.store.statements import Prepared
from hpo.store.trials import PAUSED, is_open, put_back

REVOKED = func.to_timestamp(0)  # the expiry of a lease whose owner is known to be gone


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one running trial, as long as `token` is the one in the table."""

    trial_id: int
    token: int


def grant(
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
    ended = select(trial.c.trial_id).where(trial.c.study_id == study_id, ~is_open())
    files = delete(saved).where(saved.c.trial_id.in_(ended)).cte("files")
    leases = delete(table).where(table.c.trial_id.in_(ended)).cte("forgotten")
    # That it has a worker is looked at again if another transaction had the row meanwhile, and has reaped it.
    mine = (trial.c.study_id == study_id, _is_over(), table.c.worker.is_not(None))
    return _locking(*mine, skip_locked=True).add_cte(files, leases)


def _has_advanced() -> ColumnElement[bool]:
    """Whether a leased trial has a newer checkpoint than when it was given."""
    table, saved = schema.leases, schema.checkpoints
    epoch = select(saved.c.epoch).where(saved.c.trial_id == table.c.trial_id).scalar_subquery()
    return func.coalesce(epoch, 0) > table.c.durable


def _is_over() -> ColumnElement[bool]:
    table = schema.leases
    started = func.pg_postmaster_start_time() + _interval(table.c.seconds)
    return or_(table.c.expires == REVOKED, func.greatest(table.c.expires, started) <= func.now())


def any_lost(connection: Connection, study_id: int, losses: int) -> bool:
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
    connection.execute(put_back(trial_ids))
    connection.execute(update(table).where(table.c.trial_id.in_(trial_ids)).values(worker=None))


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


def losses(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    """How often in a row each trial has lost its worker without a new checkpoint; those never leased lack."""
    if not trial_ids:
        return {}
    table = schema.leases
    rows = connection.execute(select(table.c.trial_id, table.c.losses).where(table.c.trial_id.in_(trial_ids)))
    return {row.trial_id: row.losses for row in rows}
