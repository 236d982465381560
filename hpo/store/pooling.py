"""Poolers between this process and Postgres, such as PgBouncer."""

from uuid import uuid4

from sqlalchemy import Connection, text

from hpo.errors import StorageError

_SET = text("SELECT set_config('hpo.session', :token, false)")
_GET = text("SELECT current_setting('hpo.session', true)")


def check_pooling(first: Connection, second: Connection) -> None:
    """Check that each connection has a session of its own, from its beginning to its end.

    A pooler in transaction mode gives a connection another session with each transaction. Prepared statements
    and locks of a session are then lost, or belong to others. Whichever session the pooler hands out next:
    either the second connection sees the setting of the first, or the first one misses it. Raises
    `StorageError`.
    """
    token = uuid4().hex
    first.execute(_SET, {"token": token})
    first.commit()
    is_shared = second.execute(_GET).scalar() == token
    second.commit()
    is_lost = False
    for _ in range(2):  # of two sessions in turn, the first connection gets its own at every second time
        is_lost |= first.execute(_GET).scalar() != token
        first.commit()
    if is_shared or is_lost:
        raise StorageError(
            f"{first.engine.url.render_as_string()}: a pooler gives each transaction another session; hpo "
            "needs session mode (PgBouncer: pool_mode = session), or a connection to Postgres itself"
        )
