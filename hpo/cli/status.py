"""Commands that show where a study stands: `hpo status` and `hpo dashboard`."""

from __future__ import annotations

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import json_result, message, result


@command("hpo status lenet\nhpo status lenet --json")
@study_name
@as_json
def status(name: str, as_json: bool) -> None:
    """Show where a study stands.

    Trials by state, the best trial so far, workers, device seconds.
    """
    from hpo.cli.tables import status_table
    from hpo.run.environment import open_study
    from hpo.study.status import status

    _, storage, study = open_study(name)
    figures = status(storage, study)
    json_result(figures.to_json()) if as_json else result(status_table(figures))


@command("hpo dashboard --port 8080\nhpo dashboard --writable")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on. 0 takes a free port.",
)
@click.option("--writable", is_flag=True, help="Let the dashboard change and delete studies.")
@click.option(
    "--allow-host",
    "allowed",
    metavar="NAME",
    multiple=True,
    help="Another host name of the dashboard, such as the name of a proxy. May be given several times.",
)
def dashboard(host: str, port: int, writable: bool, allowed: tuple[str, ...]) -> None:
    """Serve optuna-dashboard on the same storage.

    The dashboard is read-only without --writable. On an address that other machines reach, it needs a
    password: HPO_DASHBOARD_PASSWORD_FILE or HPO_DASHBOARD_PASSWORD.
    """
    from hpo.settings import Settings
    from hpo.web.address import host_names, resolve
    from hpo.web.dashboard import DashboardOptions, serve

    settings = Settings.from_environment()
    address = resolve(host, port)
    options = DashboardOptions(
        address=address,
        names=host_names(address, allowed),
        password=settings.read_dashboard_password(),
        writable=writable,
    )
    from hpo.store.connection import open_storage

    storage = open_storage(settings, read_only=not writable)
    mode = "writable" if writable else "read-only"
    serve(storage, options, lambda url: message(f"dashboard: {url} ({mode}, stop with Ctrl-C)"))
