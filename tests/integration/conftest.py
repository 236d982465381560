"""A small study to put into the storage, and a look at who waits for a lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.worker import reporter

RAW: Mapping[str, Any] = {
    "name": "small",
    "seed": 1,
    "model": {"name": "lenet"},
    "data": {"name": "digits"},
    "space": {
        "lr": [0.001, 0.01, 0.1],
        "batch_size": [16, 32],
        "momentum": [0.0, 0.9],
        "weight_decay": [0.0, 0.0001],
    },
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "search": {"trials": 12, "epochs": 9},
    "full": {"pretrain": {"epochs": 2}, "finetune": {"epochs": 1}},
}
"""24 cells."""


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(base)
    for key, value in changes.items():
        before = base.get(key, {})
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        changed[key] = _changed(before, value) if both else value
    return changed


@pytest.fixture(scope="session")
def raw() -> Callable[..., dict[str, Any]]:
    """`raw(search={"trials": 5})`: a small study as its file would have it, with these values changed."""
    return lambda **changes: _changed(RAW, changes)


@pytest.fixture(scope="session")
def spec(raw: Callable[..., dict[str, Any]]) -> Callable[..., StudySpec]:
    """`spec(search={"trials": 5})`: the spec of a small study with these values changed."""
    return lambda **changes: StudySpec.parse(raw(**changes), "test")


@pytest.fixture(autouse=True)
def _answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is. What does not wait while the storage is away goes on without."""
    monkeypatch.setattr(reporter, "ANSWER_SECONDS", 30.0)


@pytest.fixture
def until_blocked(storage: Storage) -> Iterator[Callable[[], None]]:
    """Returns as soon as a transaction of the test waits for a lock that another one holds."""
    engine = create_engine(storage.url, isolation_level="AUTOCOMMIT")
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:

        def wait() -> None:
            deadline = time.monotonic() + 20
            while not connection.execute(query).scalar_one():
                assert time.monotonic() < deadline, "nobody waits for a lock"

        yield wait
    engine.dispose()
