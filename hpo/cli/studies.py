"""`hpo study ...`: what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.shared import ExampleGroup, as_json, json_result, opened, result, settings, study_name, words

if TYPE_CHECKING:
    from hpo.settings import Settings
    from hpo.spec.study_spec import StudySpec
    from hpo.store.connection import Storage
    from hpo.study.lifecycle import Draining
    from hpo.study.study import Study

study_file = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.group(cls=ExampleGroup, example="hpo study create studies/lenet.toml\nhpo study list")
def study() -> None:
    """Create, fork, list, show, stop, resume, delete studies."""


@study.command(example="hpo study create studies/lenet.toml")
@study_file
def create(file: Path) -> None:
    """Store the study of a file, with its random plan, for workers to serve.

    A file whose trials or promotions grew, or whose rules for stopping changed, brings the stored study of
    that name up to date.
    """
    spec, found = _checked(file)
    from hpo.store.connection import open_storage
    from hpo.study import study as stored

    storage = open_storage(found)
    creation = stored.create(storage, spec, str(file))
    done = f"{creation.did}, {creation.added} trials queued"
    words(f"study {spec.name}: {done}; {_next(storage, creation.study)}")


@study.command(example="hpo study fork lenet studies/lenet-wide.toml")
@click.argument("old", metavar="OLD")
@study_file
def fork(old: str, file: Path) -> None:
    """Start a changed study with what another one has found.

    The finished search trials of OLD that lie in the space of the file are the first trials of the new study:
    its sampler and pruner know them, they can be promoted, and they cost no budget. Model, data, seed and
    search.epochs must be those of OLD.
    """
    spec, found = _checked(file)
    from hpo.store.connection import open_storage
    from hpo.study import fork as forks
    from hpo.study.study import load

    storage = open_storage(found)
    origin = load(storage, old)
    done = forks.fork(storage, origin, spec, str(file))
    creation = done.creation
    inherited = f"{creation.study.inherited} finished trials of {origin.name} fit"
    if creation.did == "created":
        inherited += f", {done.left_out} do not"
    queued = f"{creation.added} trials queued; {_next(storage, creation.study)}"
    words(f"study {spec.name}: {creation.did}; {inherited}; {queued}")


@study.command("list", example="hpo study list --json")
@as_json
def list_(as_json: bool) -> None:
    """List the stored studies."""
    from hpo.cli.tables import study_table
    from hpo.store.connection import open_storage
    from hpo.study import study as stored
    from hpo.study.status import status

    storage = open_storage(settings())
    found = [status(storage, stored.load(storage, name)) for name in stored.names(storage)]
    if as_json:
        json_result([entry.to_json() for entry in found])
    elif not found:
        words("no study is stored; make one: hpo study create studies/lenet.toml")
    else:
        result(study_table(found))
        for entry in found:
            mark = entry.full.stopped or entry.search.stopped
            if mark is not None:
                result(f"{entry.study}: {'all' if entry.full.stopped else 'search'} stopped: {mark.reason}")


@study.command(example="hpo study show lenet --json")
@study_name
@as_json
def show(name: str, as_json: bool) -> None:
    """Show the stored spec of a study, and its trials."""
    from dataclasses import asdict

    from hpo.cli.tables import trial_table
    from hpo.study.fork import origin_of
    from hpo.study.lifecycle import stopped
    from hpo.values.stage import STAGES

    _, storage, found = opened(name)
    marks = {stage: mark for stage in STAGES if (mark := stopped(storage, found, stage)) is not None}
    origin = origin_of(storage, found)
    if as_json:
        json_result(
            {
                "fingerprint": found.spec.fingerprint,
                "spec": found.spec.to_json(),
                "forked_from": origin,
                "inherited": found.inherited,
                "stopped": {stage: asdict(mark) for stage, mark in marks.items()},
            }
        )
        return
    import tomli_w

    result(f"# fingerprint {found.spec.fingerprint}")
    if origin is not None:
        result(f"# forked from {origin}, {found.inherited} trials inherited")
    for stage, mark in marks.items():
        result(f"# {stage} stopped: {mark.reason}")
    result(tomli_w.dumps(found.spec.to_json()))
    result(trial_table(storage, found))


@study.command(example="hpo study stop lenet\nhpo study stop lenet --search && hpo workers lenet")
@study_name
@click.option("--search", is_flag=True, help="Only the search; promotion and full training go on.")
def stop(name: str, search: bool) -> None:
    """Let a study run out: what is running is finished, nothing new begins.

    Its workers then end. Waiting trials stay in the queue: hpo study resume.
    """
    from hpo.study import lifecycle
    from hpo.values.stage import STAGES

    _, storage, target = opened(name)
    done = lifecycle.stop(storage, target, ("search",) if search else STAGES)
    what = f"{'the search of ' if search else ''}study {target.name}"
    words(f"{what} {'stopped' if done.changed else 'was stopped already'}; {_left(done)}")
    if search:
        words(f"once none is left of them: hpo promote {target.name}")
    words(f"to go on: hpo study resume {target.name}")


@study.command(example="hpo study resume lenet && hpo workers lenet")
@study_name
def resume(name: str) -> None:
    """Let a study that was stopped go on, whether by hand or by a rule of its file."""
    from hpo.study import lifecycle

    _, storage, target = opened(name)
    done = lifecycle.resume(storage, target)
    words(f"study {target.name} {'resumed' if done.changed else 'was not stopped'}; {_left(done)}")
    if done.again is not None:
        words(f"but its search ends again at the next claim, unless [stop] in its file changes: {done.again}")
    words(f"next: hpo workers {target.name}")


@study.command(example="hpo study delete lenet --yes")
@study_name
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a study with all its trials and weights. There is no way back."""
    from hpo.study import study as stored
    from hpo.study.status import status

    found, storage, target = opened(name)
    now = status(storage, target)
    if now.workers:
        words(f"{len(now.workers)} workers are serving {target.name}; they will end with errors")
    if not yes:
        trials = sum(now.search.states.values()) + sum(now.full.states.values())
        click.confirm(
            f"Delete study {target.name} with {trials} trials and its weights?", abort=True, err=True
        )
    stored.remove(storage, target, found.artifacts_path)
    words(f"study {target.name} deleted")


def _checked(file: Path) -> tuple[StudySpec, Settings]:
    """The study of a file, which can be trained here, and the settings."""
    from hpo.spec.study_spec import StudySpec

    spec = StudySpec.load(file)
    from hpo.store.url import parse_url

    found = settings()
    parse_url(found)
    from hpo.training.workload import Workload

    Workload(spec, found.data_path).check()
    return spec, found


def _next(storage: Storage, study: Study) -> str:
    from hpo.study.lifecycle import stopped

    mark = stopped(storage, study, "search")
    if mark is None:
        return f"next: hpo workers {study.name}"
    return f"its search is stopped ({mark.reason}), to go on: hpo study resume {study.name}"


def _left(done: Draining) -> str:
    return f"{done.running} trials begun and to be finished, {done.waiting} waiting"


__all__ = ["study"]
