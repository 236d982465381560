"""`hpo study ...`: commands on the stored studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import ExampleGroup, as_json, study_name
from hpo.cli.output import json_result, message, result
from hpo.cli.plain_values import change_json, creation_json
from hpo.cli.show import show
from hpo.values.wording import counted

if TYPE_CHECKING:
    from hpo.settings import Settings
    from hpo.spec.identity import Identity
    from hpo.spec.study_spec import StudySpec
    from hpo.store.connection import Storage
    from hpo.study.lifecycle import LifecycleChange
    from hpo.study.study import Study

study_file = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.group(cls=ExampleGroup, example="hpo study create studies/lenet.toml\nhpo study list")
def study() -> None:
    """Create, fork, list, show, stop, resume, retry and delete studies."""


@study.command(example="hpo study create studies/lenet.toml")
@study_file
@as_json
def create(file: Path, as_json: bool) -> None:
    """Store the study of a file, with its random plan.

    If the study is already stored, the command updates it. The file may raise the numbers of trials and
    promotions, and may change the sections [stop], [engine] and [limits].
    """
    spec, settings, identity = _checked(file)
    from hpo.store.connection import open_storage
    from hpo.study.create import create as create_study

    storage = open_storage(settings)
    creation = create_study(storage, spec, str(file), identity)
    if as_json:
        json_result(creation_json(creation))
    change = f"{creation.did}, {counted(creation.added, 'trial')} queued"
    message(f"study {spec.name}: {change}; {_after_creation(storage, creation.study)}")


@study.command(example="hpo study fork lenet studies/lenet-wide.toml")
@click.argument("old", metavar="OLD")
@study_file
@as_json
def fork(old: str, file: Path, as_json: bool) -> None:
    """Start a changed study with the finished trials of another study.

    The new study inherits each finished search trial of OLD that is a point of the new space. Sampler and
    pruner learn from inherited trials. Inherited trials can be promoted and cost no budget. Seed,
    search.epochs, and model and data or the name of the training function, must be the same as in OLD. The
    code may differ.
    """
    spec, settings, identity = _checked(file)
    from hpo.store.connection import open_storage
    from hpo.study import fork as forks
    from hpo.study.stored import load

    storage = open_storage(settings)
    origin = load(storage, old)
    outcome = forks.fork(storage, origin, spec, str(file), identity)
    creation = outcome.creation
    if as_json:
        json_result(creation_json(creation))
    count = creation.study.inherited
    inherited = f"{counted(count, 'finished trial')} of {origin.name} fit{'s' * (count == 1)}"
    if creation.did == "created":
        inherited += f", {outcome.left_out} do{'es' * (outcome.left_out == 1)} not"
    queued = f"{counted(creation.added, 'trial')} queued; {_after_creation(storage, creation.study)}"
    message(f"study {spec.name}: {creation.did}; {inherited}; {queued}")
    if (change := outcome.other_code) is not None:
        message(f"{change.key}: {change.describe(origin.name)}")


@study.command("list", example="hpo study list --json")
@as_json
def list_(as_json: bool) -> None:
    """List the stored studies."""
    from hpo.cli.tables import study_table
    from hpo.settings import Settings
    from hpo.store.connection import open_storage
    from hpo.study.status import status
    from hpo.study.stored import load_all

    storage = open_storage(Settings.from_environment())
    loaded, errors = load_all(storage)
    rows = [status(storage, study) for study in loaded]
    for error in errors:
        message(str(error))
    if as_json:
        json_result([row.to_json() for row in rows])
    elif not rows and not errors:
        message("no study is stored; make one: hpo study create studies/lenet.toml")
    elif rows:
        result(study_table(rows))
        for row in rows:
            mark = row.full.stopped or row.search.stopped
            if mark is not None:
                result(f"{row.study}: {'all' if row.full.stopped else 'search'} stopped: {mark.reason}")


study.add_command(show)


@study.command(example="hpo study stop lenet\nhpo study stop lenet --search && hpo workers lenet")
@study_name
@click.option("--search", is_flag=True, help="Stop the search only, not full training.")
@as_json
def stop(name: str, search: bool, as_json: bool) -> None:
    """Stop a study: running trials finish or pause, and no new trial starts.

    The workers then end. Waiting trials stay in the queue until `hpo study resume`.
    """
    from hpo.run.environment import open_study
    from hpo.study import lifecycle
    from hpo.values.stage import STAGES

    _, storage, study = open_study(name)
    outcome = lifecycle.stop(storage, study, ("search",) if search else STAGES)
    if as_json:
        json_result(change_json(study.name, outcome))
    stage = f"{'the search of ' if search else ''}study {study.name}"
    message(f"{stage} {'stopped' if outcome.changed else 'was stopped already'}; {_open_trials(outcome)}")
    if search:
        message(f"once these trials are finished: hpo promote {study.name}")
    message(f"to continue: hpo study resume {study.name}")


@study.command(example="hpo study resume lenet && hpo workers lenet")
@study_name
@as_json
def resume(name: str, as_json: bool) -> None:
    """Resume a study that was stopped by hand or by a rule of the study file."""
    from hpo.cli.next_step import next_step
    from hpo.run.environment import open_study
    from hpo.study import lifecycle
    from hpo.study.status import status

    _, storage, study = open_study(name)
    outcome = lifecycle.resume(storage, study)
    if as_json:
        json_result(change_json(study.name, outcome))
    change = "resumed" if outcome.changed else "was not stopped"
    message(f"study {study.name} {change}; {_open_trials(outcome)}")
    if outcome.next_stop is not None:
        message(
            "the search ends again at the next claim, unless [stop] in the study file changes: "
            f"{outcome.next_stop}"
        )
    message(next_step(status(storage, study)))


@study.command(example="hpo study retry lenet\nhpo study retry lenet 3 7\nhpo study retry lenet-full 0")
@study_name
@click.argument("trials", metavar="[TRIAL]...", type=click.IntRange(min=0), nargs=-1)
@as_json
def retry(name: str, trials: tuple[int, ...], as_json: bool) -> None:
    """Queue failed trials again, once the cause is fixed.

    Each failed trial, or each TRIAL, gets a successor with the same parameters and the same seed. Successors
    cost no budget. Trials with a loss that was not finite are left out unless they are named. TRIAL is the
    number of a search trial, or with NAME-full of a full training.

    As long as no trial has trained an epoch, the study also accepts new code of your own network or function.
    """
    from hpo.cli.next_step import next_step
    from hpo.run.environment import open_study
    from hpo.run.studies import Study as OpenStudy
    from hpo.run.studies import retry_trials
    from hpo.spec.study_spec import FULL_SUFFIX
    from hpo.study.status import status

    settings, storage, study = open_study(name)
    opened = OpenStudy(study, storage, settings)
    outcome = retry_trials(opened, trials, "full" if name.endswith(FULL_SUFFIX) else None)
    if as_json:
        json_result(
            {
                "study": study.name,
                "queued": outcome.queued,
                "diverged": outcome.diverged,
                "adopted": outcome.adopted,
            }
        )
    if outcome.adopted:
        message(f"study {study.name}: accepted the new code of {study.spec.code}")
    for stage, queued in outcome.queued.items():
        if queued:
            pairs = ", ".join(f"{old} as {new}" for old, new in queued.items())
            message(f"{stage}: {counted(len(queued), 'failed trial')} queued again: {pairs}")
    if outcome.diverged:
        left_out = counted(outcome.diverged, "trial")
        message(f"left out: {left_out} with a loss that was not finite; to retry, give the trial numbers")
    if not any(outcome.queued.values()):
        message(f"study {study.name}: no failed trial to queue")
        message(next_step(status(storage, study)))
        return
    if outcome.stopped is not None:
        reason = outcome.stopped.reason
        message(f"the search is stopped ({reason}); to continue: hpo study resume {study.name}")
    message(f"next: hpo run FILE, or hpo workers {study.name}")


@study.command(example="hpo study delete lenet --yes")
@study_name
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a study with all its trials and weights. This cannot be undone."""
    from hpo.artifacts.registry import open_artifacts
    from hpo.cli.deletion import confirm_deletion, delete_remains, report_deletion
    from hpo.errors import DamagedStudyError, InputError, NotFoundError, SpecError
    from hpo.run.worker_log import remove_logs
    from hpo.settings import Settings
    from hpo.spec.study_spec import FULL_SUFFIX
    from hpo.store.connection import open_storage
    from hpo.study.status import status
    from hpo.study.stored import load, remove

    settings = Settings.from_environment()
    storage = open_storage(settings)
    try:
        study = load(storage, name)
    except (NotFoundError, DamagedStudyError, SpecError) as error:
        delete_remains(settings, storage, name.removesuffix(FULL_SUFFIX), error, yes)
        return
    if name != study.name:
        raise InputError(
            f"{name} is the full training of study {study.name}, and is deleted with it: "
            f"hpo study delete {study.name}; to retry failed trainings: hpo study retry {name}"
        )
    figures = status(storage, study)
    if figures.workers:
        workers = counted(len(figures.workers), "worker")
        message(f"study {study.name} is served by {workers}, which will end with errors")
    if not yes:
        trials = sum(figures.search.states.values()) + sum(figures.full.states.values())
        files = "files" if study.spec.is_function else "weights"
        question = f"Delete study {study.name} with {counted(trials, 'trial')} and its {files}?"
        confirm_deletion(question, study.name)
    staying = remove(storage, study, open_artifacts(settings, study.artifacts_name))
    remove_logs(settings.logs_path, [study.artifacts_name])
    report_deletion(study.name, staying)


def _checked(file: Path) -> tuple[StudySpec, Settings, Identity]:
    """Return the spec of a file, the settings, and the identity, once the spec can be trained with them."""
    from hpo.settings import Settings
    from hpo.spec.study_spec import StudySpec

    spec = StudySpec.load(file)
    from hpo.store.url import parse_url

    settings = Settings.from_environment()
    parse_url(settings)
    from hpo.run.studies import check_spec

    return spec, settings, check_spec(spec, str(file), settings)


def _after_creation(storage: Storage, study: Study) -> str:
    from hpo.cli.next_step import next_step
    from hpo.study.status import status

    figures = status(storage, study)
    mark = figures.search.stopped
    if mark is not None and figures.search.open:  # trials that the file has added do not begin
        return f"the search is stopped ({mark.reason}); to continue: hpo study resume {study.name}"
    return next_step(figures)


def _open_trials(outcome: LifecycleChange) -> str:
    return f"{counted(outcome.running, 'trial')} to finish, {outcome.waiting} waiting"


__all__ = ["study"]
