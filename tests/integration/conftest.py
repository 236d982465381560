"""A small study for the storage, and a wait for blocked transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, create_engine, text
from support.old_database import restore
from support.processes import until

from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_url

if TYPE_CHECKING:
    from support.small_worker import WorkerFactory

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
"""A study whose space has 24 cells."""


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(base)
    for key, value in changes.items():
        old = base.get(key, {})
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        changed[key] = _changed(old, value) if nested else value
    return changed


@pytest.fixture
def reader(storage: Storage) -> Iterator[Storage]:
    """The storage as a read-only dashboard opens it."""
    opened = open_url(storage.url, read_only=True)
    yield opened
    opened.engine.dispose()


@pytest.fixture(scope="session")
def raw() -> Callable[..., dict[str, Any]]:
    """Return the parsed file of a small study with some values changed: `raw(search={"trials": 5})`."""
    return lambda **changes: _changed(RAW, changes)


@pytest.fixture(scope="session")
def spec(raw: Callable[..., dict[str, Any]]) -> Callable[..., StudySpec]:
    """Return the spec of a small study with some values changed: `spec(search={"trials": 5})`."""
    return lambda **changes: StudySpec.parse(raw(**changes), "test")


@pytest.fixture
def restored(database: URL) -> Iterator[Storage]:
    """The storage of a database of version 0.1, opened by this version."""
    restore(database)
    storage = open_url(database)
    yield storage
    storage.engine.dispose()


@pytest.fixture
def until_blocked(storage: Storage) -> Iterator[Callable[[], None]]:
    """Return a call that waits until a transaction of the test waits for a lock."""
    engine = create_engine(storage.url, isolation_level="AUTOCOMMIT")
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def blocked() -> bool | None:
        return True if connection.execute(query).scalar_one() else None

    def wait() -> None:
        until("a transaction to wait for a lock", blocked)

    with engine.connect() as connection:
        yield wait
    engine.dispose()


@pytest.fixture
def works(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> WorkerFactory:
    """Return a factory of workers whose network trains in milliseconds."""
    from support.small_worker import WorkerFactory, use_small_network  # they import torch

    use_small_network(monkeypatch)
    return WorkerFactory(storage, spec, tmp_path)
