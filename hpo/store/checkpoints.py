"""Checkpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Connection, Select, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.bulk import arrays, rows_of
from hpo.store.statements import Prepared
from hpo.store.trials import PAUSED, put_back, set_attributes

CHECKPOINT = ("trial_id", "epoch", "file")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: the epochs trained by then, and the name of its file."""

    epoch: int
    file: str


def read(connection: Connection, trial_ids: Iterable[int]) -> dict[int, Checkpoint]:
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
    return _saved().add_cte(put_back(ids).cte("waiting"), leases.cte("leases"))
