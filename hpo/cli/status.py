"""Commands that show where a study stands: `hpo status` and `hpo dashboard`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import json_result, message, result

if TYPE_CHECKING:
    from hpo.run.displays import Display
    from hpo.study.live import LiveStatus


@command("hpo status lenet\nhpo status lenet --watch\nhpo status lenet --json")
@study_name
@click.option("--watch", is_flag=True, help="Show a live screen until no worker has anything to do.")
@as_json
def status(name: str, watch: bool, as_json: bool) -> None:
    """Show where a study stands.

    Trials by state, the budget used, the time left, the best trial so far, workers, device seconds.

    With --watch and without a terminal, each change is a line; with --json, a line of JSON.
    """
    from hpo.cli.next_step import next_step
    from hpo.cli.status_text import status_text
    from hpo.run.environment import open_study
    from hpo.run.training_images import training_images
    from hpo.study.live import live_status

    settings, storage, study = open_study(name)
    images = training_images(study, settings)

    def read() -> LiveStatus:
        return live_status(storage, study, images)

    if not watch:
        live = read()
        json_result(live.to_json()) if as_json else result(status_text(live))
        return
    from hpo.cli.json_lines import JsonLines
    from hpo.run.displays import open_display
    from hpo.run.progress import StudyProgress

    def display() -> Display:
        return JsonLines() if as_json else open_display(sys.stdout)

    with suppress(KeyboardInterrupt), StudyProgress(read, open_display=display) as progress:
        progress.wait()
    if not as_json:
        message(next_step(read().status))


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
