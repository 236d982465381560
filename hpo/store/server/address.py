"""The address of the embedded server: a socket file in a private folder, and the URL of that socket."""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import URL

PORT = 5432
"""Part of the name of the socket file. The server listens on no network port."""

ADDRESS_BYTES = 107 if sys.platform == "linux" else 103
"""Longest path of a socket file (`sun_path` without its final zero byte)."""


def socket_file(folder: Path) -> Path:
    """Return the socket file of a server that listens in `folder`."""
    return folder / f".s.PGSQL.{PORT}"


def lock_file(folder: Path) -> Path:
    """Return the file beside the socket in which PostgreSQL keeps the PID of the server."""
    return folder / f"{socket_file(folder).name}.lock"


def connectable(folder: Path) -> bool:
    """Return whether clients can connect to a socket file in `folder`.

    The path must not be too long for a socket. It must not have a comma, at which libpq splits host names.
    """
    try:
        length = len(str(socket_file(folder)).encode())
    except UnicodeEncodeError:
        return False
    return length <= ADDRESS_BYTES and "," not in str(folder)


def short_folder() -> Path:
    """Make a new private folder with a short path and a name that nobody can guess."""
    # Not TMPDIR: it may be long, and may end with a session that the server outlives.
    return Path(tempfile.mkdtemp(prefix="hpo-", dir="/tmp" if Path("/tmp").is_dir() else None))


def remove_short_folder(folder: Path) -> None:
    """Remove a folder of `short_folder` with the socket files of a dead server, but no other files."""
    with suppress(OSError):
        for file in (socket_file(folder), lock_file(folder)):
            file.unlink(missing_ok=True)
        folder.rmdir()


def server_url(folder: Path) -> URL:
    """Return the URL of the server that listens in `folder`."""
    # With a port in the URL, PGPORT in the environment of a client has no effect.
    query = {"host": str(folder), "port": str(PORT)}
    return URL.create("postgresql+psycopg2", "postgres", database="postgres", query=query)


def shown(url: URL) -> str:
    """Return a URL as text for other programs, with `%20` for a space: libpq does not read `+` as a space."""
    address, mark, query = url.render_as_string(hide_password=False).partition("?")
    return address + mark + query.replace("+", "%20")
