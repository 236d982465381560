"""`hpo server ...`: commands on the embedded server."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli.command import ExampleGroup, as_json
from hpo.cli.output import json_result, message, result

EMBEDDED = "the embedded PostgreSQL"


@click.group(cls=ExampleGroup, example="hpo server status\nhpo server stop")
def server() -> None:
    """Start, stop and find the embedded PostgreSQL server.

    Commands start the server on demand, and it keeps running when commands end. With HPO_STORAGE_URL set, hpo
    does not use the embedded server.
    """


@server.command(example="hpo server status --json")
@as_json
def status(as_json: bool) -> None:
    """Say whether the server runs. Exit code 1 if it does not."""
    from hpo.store.server import find_server, shown, unreachable_server

    folder = _folder()
    found = find_server(folder)
    reason = unreachable_server(folder) if found is None else None
    if as_json:
        figures = {
            "running": found is not None,
            "ready": found is not None and found.is_ready,
            "pid": found and found.pid,
            "url": found and shown(found.url),
            "folder": str(folder),
            "reason": reason,
        }
        json_result(figures)
    elif found is None:
        result(reason or f"{EMBEDDED} in {folder} does not run")
    else:
        process = f"process {found.pid}" if found.pid else "in another PID namespace"
        result(f"{EMBEDDED} in {folder} {'runs' if found.is_ready else 'is recovering'}, {process}")
    if found is None:
        raise SystemExit(1)


@server.command(example="hpo server url")
@as_json
def url(as_json: bool) -> None:
    """Print the URL of the running server, for SQLAlchemy and Optuna.

    Only you and root can connect, and only from this machine.
    """
    from hpo.errors import StorageError
    from hpo.store.server import find_server, shown, unreachable_server

    folder = _folder()
    found = find_server(folder)
    if found is None:
        reason = (
            unreachable_server(folder)
            or f"{EMBEDDED} in {folder} does not run; to start it: hpo server start"
        )
        raise StorageError(reason)
    json_result({"url": shown(found.url)}) if as_json else result(shown(found.url))


@server.command(example="hpo server start")
def start() -> None:
    """Start the server unless it is running."""
    from hpo.store.server import find_server, start_server

    folder = _folder()
    found = find_server(folder)
    start_server(folder)
    message(f"{EMBEDDED} in {folder} {'runs already' if found and found.is_ready else 'is started'}")


@server.command(example="hpo server stop")
def stop() -> None:
    """Stop the server. Nothing is lost.

    Stop running workers first: a running worker starts the server again.
    """
    from hpo.store.server import stop_server

    folder = _folder()
    message(f"{EMBEDDED} in {folder} {'is stopped' if stop_server(folder) else 'did not run'}")


def _folder() -> Path:
    """Return the data folder. Says so if studies are on another server."""
    from hpo.settings import Settings

    settings = Settings.from_environment()
    if settings.storage_url is not None:
        message("HPO_STORAGE_URL is set: studies are on that server, not on the embedded one")
    return settings.server_path
