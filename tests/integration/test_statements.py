"""Prepared statements on a server."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from sqlalchemy import event, text

import hpo.store
from hpo.errors import StorageError
from hpo.store import statements
from hpo.store.connection import Storage, open_url
from hpo.store.statements import Statement


@pytest.fixture
def opened(storage: Storage) -> Iterator[Storage]:
    """With connections that no other test has used."""
    opened = open_url(storage.url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def sent(opened: Storage) -> list[str]:
    """The first word of each statement."""
    sent: list[str] = []
    event.listen(
        opened.engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement.split()[0]),
    )
    return sent


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Statement:
    monkeypatch.setattr(statements, "registered", {})
    return Statement("""
PREPARE echo (integer, text[]) AS
-- 100% of the values come back.
SELECT $1 + 1, $2, '100% %s', $1
""")


def test_each_connection_prepares_a_statement_once(opened: Storage, sent: list[str], echo: Statement) -> None:
    for number in (1, 2):
        with opened.transaction() as connection:
            row = echo(connection, number, ["it's", None]).one()
            assert row == (number + 1, ["it's", None], "100% %s", number)
    assert sent == ["PREPARE", "EXECUTE", "EXECUTE"]
    with opened.transaction() as first, opened.transaction() as second:
        for connection in (first, second):
            assert echo(connection, None, []).one() == (None, [], "100% %s", None)
    assert sent[3:] == ["EXECUTE", "PREPARE", "EXECUTE"]


def test_a_statement_stays_prepared_after_its_transaction_failed(
    opened: Storage, sent: list[str], echo: Statement
) -> None:
    def fail() -> None:
        with opened.transaction() as connection:
            echo(connection, 1, [])
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with opened.transaction() as connection:
        assert echo(connection, 1, []).scalar() == 2
    assert sent == ["PREPARE", "EXECUTE", "EXECUTE"]


def test_a_connection_that_replaces_a_dead_one_prepares_the_statement(
    opened: Storage, sent: list[str], echo: Statement
) -> None:
    for _ in range(2):
        with opened.transaction() as connection:
            echo(connection, 1, [])
            connection.detach()  # as when it has died
    assert sent == ["PREPARE", "EXECUTE"] * 2


def test_a_refused_statement_raises_a_storage_error(opened: Storage, echo: Statement) -> None:
    with pytest.raises(StorageError, match="out of range"), opened.transaction() as connection:
        echo(connection, 2**31 - 1, [])


def test_arrays_of_nothing_but_none_and_of_enumerations_keep_their_type(
    opened: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "registered", {})
    arrays = Statement("PREPARE arrays (double precision[], trialstate[]) AS SELECT * FROM unnest($1, $2)")
    with opened.transaction() as connection:
        rows = arrays(connection, [None, None], ["PRUNED", "FAIL"]).all()
    assert rows == [(None, "PRUNED"), (None, "FAIL")]


def test_every_statement_can_be_pasted_and_explained(opened: Storage) -> None:
    for module in pkgutil.iter_modules(hpo.store.__path__, "hpo.store."):
        importlib.import_module(module.name)
    assert {"renew_leases", "report_epochs", "read_trials"} <= statements.registered.keys()
    with opened.engine.connect() as connection:
        for name, statement in statements.registered.items():
            connection.exec_driver_sql(statement.text.replace("%", "%%"))
            nulls = ", ".join(f"NULL::{kind}" for kind in statement.types)
            plan = connection.execute(text(f"EXPLAIN EXECUTE {name} ({nulls})"))
            assert plan.scalars().first(), name
