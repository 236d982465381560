"""Commands that show where a study stands: `hpo status` and `hpo dashboard`."""

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


@command("hpo dashboard --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free port."
)
def dashboard(host: str, port: int) -> None:
    """Serve optuna-dashboard on the same storage.

    The dashboard has no login, and anybody who reaches it can delete studies. Keep it on 127.0.0.1 or behind
    a proxy.
    """
    from hpo.settings import Settings
    from hpo.store.connection import open_storage
    from hpo.web.dashboard import serve

    storage = open_storage(Settings.from_environment())
    serve(storage, host, port, lambda url: message(f"dashboard: {url} (stop with Ctrl-C)"))
