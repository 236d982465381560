"""The life of a running trial, as rows: leased, reported, finished.

Every function takes the caller's open transaction and is one step of it; nothing here commits. A write
about a running trial goes through `hold`, which renews the lease and locks its row until the transaction
ends, so a worker that lost its lease can write nothing, not even in the instant of a take-over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo import schema
from hpo.catalog import OPEN, set_attributes
from hpo.epoch import EpochResult

UTC_NOW = func.timezone("utc", func.now())  # Optuna's columns hold UTC without a zone


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one running trial, as long as `token` is the one in the table."""

    trial_id: int
    token: int


def lease(connection: Connection, trial_ids: Sequence[int], worker: str, seconds: float) -> dict[int, Lease]:
    """Gives the trials to `worker`; whoever held one before is fenced off by the new token.

    The study must be locked and the trials claimable.
    """
    table = schema.leases
    statement = upsert(table)
    expires = _from_now(seconds)
    rows = connection.execute(
        statement.values(
            [
                {"trial_id": i, "worker": worker, "token": schema.tokens.next_value(), "expires": expires}
                for i in trial_ids
            ]
        )
        .on_conflict_do_update(
            index_elements=[table.c.trial_id],
            set_={
                "worker": statement.excluded.worker,
                "token": statement.excluded.token,
                "expires": statement.excluded.expires,
                "attempt": table.c.attempt + 1,
            },
        )
        .returning(table.c.trial_id, table.c.token)
    )
    held = {trial_id: Lease(trial_id, token) for trial_id, token in rows}
    connection.execute(
        update(schema.trials)
        .where(schema.trials.c.trial_id.in_(trial_ids), schema.trials.c.state == TrialState.WAITING)
        .values(state=TrialState.RUNNING, datetime_start=UTC_NOW)
    )
    return held


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + text("make_interval(secs => :seconds)").bindparams(seconds=seconds)


def _lock(connection: Connection, *conditions: ColumnElement[bool], skip_locked: bool = False) -> list[int]:
    """Locks the leases of running trials that meet the conditions; gives the ids of the trials.

    Always in the order of the ids, so that two transactions that want the same rows cannot deadlock.
    """
    table, trial = schema.leases, schema.trials
    query = select(table.c.trial_id).join(trial).where(trial.c.state == TrialState.RUNNING, *conditions)
    query = query.order_by(table.c.trial_id).with_for_update(of=table, skip_locked=skip_locked)
    return list(connection.execute(query).scalars())


def hold(connection: Connection, leases: Iterable[Lease], seconds: float) -> set[int]:
    """Renews the leases and locks their rows; gives the ids of the trials that are still held.

    A trial that was ended by other means, as the dashboard can, is not held any more.
    """
    table = schema.leases
    tokens = [(mine.trial_id, mine.token) for mine in leases]
    if not tokens:
        return set()
    held = _lock(connection, tuple_(table.c.trial_id, table.c.token).in_(tokens))
    connection.execute(update(table).where(table.c.trial_id.in_(held)).values(expires=_from_now(seconds)))
    return set(held)


def overdue(connection: Connection, study_id: int) -> list[int]:
    """The ids of the study's trials whose lease has run out, locked until the transaction ends.

    The lock keeps an owner who is late but alive from finishing a trial that is about to be handed on; one
    who is writing at this moment is alive, and its trials are passed over.
    """
    return _lock(
        connection,
        schema.trials.c.study_id == study_id,
        schema.leases.c.expires <= func.now(),
        skip_locked=True,
    )


def revoke(connection: Connection, study_id: int) -> None:
    """Ends all leases of a study that is locked; once this returns, no worker writes about its trials."""
    ids = _lock(connection, schema.trials.c.study_id == study_id)
    connection.execute(delete(schema.leases).where(schema.leases.c.trial_id.in_(ids)))


def release(connection: Connection, leases: Iterable[Lease]) -> None:
    """Puts the trials back into the queue, for a worker that stops before they are finished."""
    held = hold(connection, leases, 0)
    connection.execute(
        update(schema.trials).where(schema.trials.c.trial_id.in_(held)).values(state=TrialState.WAITING)
    )
    connection.execute(delete(schema.leases).where(schema.leases.c.trial_id.in_(held)))


def forget_worker(connection: Connection, worker: str) -> None:
    """Ends the leases of a worker that is known to be dead, and its entry among the workers."""
    table = schema.leases
    ids = _lock(connection, table.c.worker == worker)
    connection.execute(update(table).where(table.c.trial_id.in_(ids)).values(expires=func.now()))
    connection.execute(delete(schema.workers).where(schema.workers.c.name == worker))


def attempts(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    """How often each leased trial has been handed out."""
    table = schema.leases
    rows = connection.execute(
        select(table.c.trial_id, table.c.attempt).where(table.c.trial_id.in_(trial_ids))
    )
    return {row.trial_id: row.attempt for row in rows}


def report(connection: Connection, results: Mapping[int, EpochResult]) -> None:
    """Writes one epoch of each trial (by id) that the caller holds; an epoch already there stays.

    The losses must be finite.
    """
    if not results:
        return
    connection.execute(
        upsert(schema.epochs).on_conflict_do_nothing(),
        [
            {
                "trial_id": trial_id,
                "epoch": result.epoch,
                "train_loss": result.train_loss,
                "validation_loss": result.validation_loss,
                "validation_accuracy": result.validation_accuracy,
            }
            for trial_id, result in results.items()
        ],
    )
    connection.execute(
        upsert(schema.intermediate_values).on_conflict_do_nothing(),
        [
            {
                "trial_id": trial_id,
                "step": result.epoch,
                "intermediate_value": result.validation_loss,
                "intermediate_value_type": schema.FINITE_INTERMEDIATE,
            }
            for trial_id, result in results.items()
        ],
    )


def charge(connection: Connection, seconds: Mapping[int, Mapping[str, float]]) -> None:
    """Adds device seconds, by trial id and activity."""
    table = schema.costs
    statement = upsert(table)
    rows = [
        {"trial_id": trial_id, "activity": activity, "seconds": spent}
        for trial_id, activities in seconds.items()
        for activity, spent in activities.items()
    ]
    if rows:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[table.c.trial_id, table.c.activity],
                set_={"seconds": table.c.seconds + statement.excluded.seconds},
            ),
            rows,
        )


def finish(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    value: float | None,
    attributes: Mapping[str, Any],
) -> None:
    """Ends a trial that the caller holds; its lease goes with it. One that has ended stays as it is."""
    table = schema.trials
    ended = connection.execute(
        update(table)
        .where(table.c.trial_id == trial_id, table.c.state.in_(OPEN))
        .values(state=state, datetime_complete=UTC_NOW)
    )
    connection.execute(delete(schema.leases).where(schema.leases.c.trial_id == trial_id))
    if not ended.rowcount:
        return
    set_attributes(connection, trial_id, attributes)
    if value is not None:
        connection.execute(
            insert(schema.trial_values).values(
                trial_id=trial_id, objective=0, value=value, value_type=schema.FINITE_VALUE
            )
        )


def device_seconds(connection: Connection, study_id: int) -> dict[str, float]:
    """Device seconds of a study by activity."""
    query = (
        select(schema.costs.c.activity, func.sum(schema.costs.c.seconds).label("seconds"))
        .join(schema.trials)
        .where(schema.trials.c.study_id == study_id)
        .group_by(schema.costs.c.activity)
    )
    return {row.activity: row.seconds for row in connection.execute(query)}
