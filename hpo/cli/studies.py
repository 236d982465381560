"""`hpo study ...`: what is stored."""

from pathlib import Path

import click

from hpo.cli.shared import ExampleGroup, as_json, json_result, opened, result, settings, study_name, words


@click.group(cls=ExampleGroup, example="hpo study create studies/lenet.toml\nhpo study list")
def study() -> None:
    """Create, list, show, delete studies."""


@study.command(example="hpo study create studies/lenet.toml")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
def create(file: Path) -> None:
    """Store the study of a file, with its random plan, for workers to serve.

    A file whose trials or promotions grew extends the stored study of that name.
    """
    from hpo.spec import StudySpec

    spec = StudySpec.load(file)
    from hpo import study as stored
    from hpo.storage import open_storage, parse_url

    found = settings()
    parse_url(found)
    from hpo.workload import Workload

    Workload(spec, found.data_path).check()
    creation = stored.create(open_storage(found), spec, str(file))
    words(f"study {spec.name}: {creation.did}, {creation.added} trials queued; next: hpo workers {spec.name}")


@study.command("list", example="hpo study list --json")
@as_json
def list_(as_json: bool) -> None:
    """List the stored studies."""
    from hpo import study as stored
    from hpo.report import study_table
    from hpo.status import status
    from hpo.storage import open_storage

    storage = open_storage(settings())
    found = [status(storage, stored.load(storage, name)) for name in stored.names(storage)]
    if as_json:
        json_result([entry.to_json() for entry in found])
    elif not found:
        words("no study is stored; make one: hpo study create studies/lenet.toml")
    else:
        result(study_table(found))


@study.command(example="hpo study show lenet --json")
@study_name
@as_json
def show(name: str, as_json: bool) -> None:
    """Show the stored spec of a study, and its trials."""
    from hpo.report import trial_table

    _, storage, found = opened(name)
    if as_json:
        json_result({"fingerprint": found.spec.fingerprint, "spec": found.spec.to_json()})
        return
    import tomli_w

    result(f"# fingerprint {found.spec.fingerprint}\n{tomli_w.dumps(found.spec.to_json())}")
    result(trial_table(storage, found))


@study.command(example="hpo study delete lenet --yes")
@study_name
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a study with all its trials and weights. There is no way back."""
    from hpo import study as stored
    from hpo.status import status

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


__all__ = ["study"]
