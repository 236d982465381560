"""The lock by name that saves two processes the same work."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from hpo.store.connection import Storage
from hpo.store.exclusive import exclusive


def test_second_holder_waits_for_the_first(storage: Storage) -> None:
    tried, order = threading.Event(), list[str]()

    def second() -> None:
        with exclusive(storage, "one", sleep=lambda _seconds: tried.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    with exclusive(storage, "one"):
        thread.start()
        assert tried.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_locks_of_other_names_and_after_an_error_are_free(storage: Storage) -> None:
    def fail(_seconds: float) -> None:
        raise AssertionError("the lock is held")

    with exclusive(storage, "one"), exclusive(storage, "two", sleep=fail):
        pass
    with pytest.raises(ZeroDivisionError), exclusive(storage, "one"):
        raise ZeroDivisionError
    with exclusive(storage, "one", sleep=fail):
        pass


def test_block_goes_on_when_its_connection_is_lost(storage: Storage) -> None:
    others = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with exclusive(storage, "one"):
        with storage.transaction() as connection:
            assert connection.execute(others).all()
        done = True
    assert done
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
