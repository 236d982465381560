"""Commands that train: a whole study, a fleet of workers, one worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from hpo.cli.command import as_json, command, device_options, study_name, width
from hpo.cli.output import json_result, message, result, say_stopped
from hpo.cli.plain_values import outcome_json
from hpo.launch.signals import InterruptSignals


@command("hpo run studies/quickstart.toml")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@device_options
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exported model. Default: a folder under HPO_ARTIFACTS.",
)
@as_json
# Six parameters: click passes each option by its name.
def run(  # noqa: PLR0913
    file: Path, gpus: str, per_device: int | None, width: int | None, bundle: Path | None, as_json: bool
) -> None:
    """Run a study from its file to the exported model.

    Search, promotion, full training, export. Stop the command at any time and run it again to continue. The
    exit code is 1 if the study is stopped before a model is exported.
    """
    from hpo.export.bundle_folder import check_folder
    from hpo.launch.executors.local import local_executor
    from hpo.settings import Settings
    from hpo.spec.study_spec import StudySpec

    # The launcher handles SIGTERM as an interrupt while it runs, and this command before and after.
    click.get_current_context().with_resource(InterruptSignals())
    spec = StudySpec.load(file)
    if bundle is not None:
        check_folder(bundle)
    executor = local_executor(gpus, per_device, width, spec.make_resources())
    settings = Settings.from_environment()
    from hpo.store.url import parse_url

    parse_url(settings)

    # These imports take seconds; mistakes in the file, the options and the environment come before them.
    from hpo.cli.tables import final_table
    from hpo.run.retry import until_storage_answers
    from hpo.run.run_study import run_study

    outcome = run_study(file, executor, bundle=bundle, progress=True)
    study = outcome.study
    if as_json:
        json_result(outcome_json(outcome))
    if outcome.stopped is not None:
        say_stopped(study.stored, outcome.stopped)
        raise SystemExit(1)  # a script goes on with the model, and there is none
    if not as_json and outcome.metrics is not None and outcome.directory is not None:
        table = partial(final_table, study.storage, study.stored, outcome.metrics, outcome.directory)
        result(until_storage_answers(table))


@command("hpo workers lenet --gpus 0,1")
@study_name
@device_options
def workers(name: str, gpus: str, per_device: int | None, width: int | None) -> None:
    """Start the workers of a study on this machine and restart failed workers.

    Workers train the queued trials of the search, or of full training, and end when no trial is open. Run
    the command on as many machines as you like.
    """
    from hpo.launch.devices import this_machine
    from hpo.launch.executors.local import executor_on

    click.get_current_context().with_resource(InterruptSignals())
    machine = this_machine(gpus)
    from hpo.cli.next_step import next_step
    from hpo.run.artifacts import check_artifacts
    from hpo.run.environment import open_study
    from hpo.run.fleet import Fleet, train_study
    from hpo.run.progress import StudyProgress
    from hpo.run.retry import until_storage_answers
    from hpo.study.status import status

    settings, storage, study = open_study(name)
    executor = executor_on(machine, per_device, width, study.spec.make_resources())
    check_artifacts(storage, study, settings)
    trained = train_study(storage, study, Fleet(executor, settings), StudyProgress)
    if not trained:
        message(f"nothing to do: study {study.name} has no open trial")
    message(next_step(until_storage_answers(lambda: status(storage, study))))


@command("hpo worker lenet --device cuda:0")
@study_name
@click.option("--device", default="cpu", show_default=True, help="A torch device: cpu, cuda:0, ...")
@width
@click.option("--promote", is_flag=True, help="Queue the best trials once the search is finished.")
@click.option("--name", "worker_name", hidden=True, help="Name of this worker in leases and logs.")
@click.option("--lifeline", is_flag=True, hidden=True, help="Stop when standard input is closed.")
@click.option("--fleet", type=int, default=1, hidden=True, help="Number of workers that the launcher starts.")
@click.option("--standby", is_flag=True, hidden=True, help="Read the device from standard input once ready.")
# Eight parameters: click passes each option by its name.
def worker(  # noqa: PLR0913
    name: str,
    device: str,
    width: int | None,
    promote: bool,
    worker_name: str | None,
    lifeline: bool,
    fleet: int,
    standby: bool,
) -> None:
    """Run one worker in the foreground.

    For containers and schedulers. The worker ends when the study has no open trial. On SIGTERM, it hands
    back its trials and ends.
    """
    from hpo.run.worker_process import WorkerOptions, run_worker

    run_worker(
        WorkerOptions(
            study=name,
            device=device,
            width=width,
            promotes=promote,
            name=worker_name,
            lifeline=lifeline,
            fleet=fleet,
            standby=standby,
        )
    )
