"""What commands print with `--json` is what the reference says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from pydantic import ValidationError
from support.bundles import random_bundle
from support.claims import claim, finish, serve_alone
from support.epochs import epoch_result

from hpo.cli import cli
from hpo.cli.json_outputs import OUTPUTS, check
from hpo.cli.plain_values import creation_json
from hpo.export.model_spec import ModelSpec
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.study import Study
from hpo.worker.lease_renewal import LeaseRenewal

Call = Callable[..., Any]

WITH_OWN_SCHEMA = {"study show"}


@pytest.fixture
def call(storage: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Return a call of `hpo ... --json` that checks the output, and returns its value."""
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(command: str, *options: str, exit_code: int = 0) -> Any:
        done = CliRunner().invoke(cli, [*command.split(), *options, "--json"], catch_exceptions=False)
        assert done.exit_code == exit_code, done.stderr
        check(command, done.stdout)
        return json.loads(done.stdout)

    return call


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    """Return a study of four trials: one that has failed, one completed, one running, one waiting."""
    study = create(storage, spec(search={"trials": 4}, baseline={"lr": 0.1, "batch_size": 16}), "test").study
    (failed,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        outcome = TrialOutcome(TrialState.FAIL, reason="OSError: no space")
        results.finish(connection, {failed.lease.trial_id: outcome})
    finish(storage, claim(storage, study, "search", "one", 1))
    (running,) = claim(storage, study, "search", "one", 1)
    LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu")).renew()
    with storage.transaction() as connection:
        reported = {running.lease.trial_id: epoch_result(running.number, 1, 0.5)}
        results.report(connection, reported, study.objective, "one")
    return study


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for word, child in group.commands.items():
        if isinstance(child, click.Group):
            yield from commands(child, (*words, word))
        else:
            yield " ".join((*words, word)), child


def test_every_command_with_json_has_a_model_and_no_other() -> None:
    with_json = {name for name, command in commands(cli) if any("--json" in p.opts for p in command.params)}
    assert with_json == OUTPUTS.keys() | WITH_OWN_SCHEMA


def test_output_that_is_not_documented_is_found() -> None:
    check("study stop", '{"study": "a", "changed": ["full"], "running": 0, "waiting": 1}')
    for other in ('{"study": "a"}', '{"study": "a", "changed": [], "running": 0, "waiting": 1, "more": 2}'):
        with pytest.raises(ValidationError):
            check("study stop", other)


def test_status_and_list(study: Study, call: Call) -> None:
    status = call("status", study.name)
    assert status["search"]["failures"]["count"] == 1
    assert status["workers"][0]["stage"] == "search"
    assert status["baseline"]["is_better"] is False
    assert [entry["study"] for entry in call("study list")] == [study.name]


def test_lifecycle(study: Study, call: Call) -> None:
    assert call("study stop", study.name, "--search")["changed"] == ["search"]
    assert call("study resume", study.name)["changed"] == ["search"]
    assert call("study retry", study.name)["queued"]["search"] == {"0": 4}


def test_results(storage: Storage, study: Study, spec: Callable[..., StudySpec], call: Call) -> None:
    other = create(storage, spec(name="other", search={"trials": 2}), "test").study
    serve_alone(storage, other, 2)
    assert call("export", other.name)["bundle"] is None
    assert call("promote", other.name)["added"] == 1
    assert call("study stop", other.name)["changed"] == ["search", "full"]
    assert call("promote", other.name)["stopped"]["by"] == "user"


def test_created_study(storage: Storage, spec: Callable[..., StudySpec]) -> None:
    for did in ("created", "unchanged"):
        created = creation_json(create(storage, spec(), "test"))
        check("study create", json.dumps(created))
        assert did == "unchanged" or created["queued"] == 12


def test_machine(call: Call) -> None:
    assert "digits" in call("data list")
    assert call("data info", "digits")["images"] == 1437
    assert {entry["subject"] for entry in call("doctor")} >= {"versions", "storage"}
    assert call("models")[0]["parameters"] > 0
    assert call("server status", exit_code=1)["running"] is False


def test_transfer(call: Call, tmp_path: Path) -> None:
    spec = ModelSpec("lenet", ("0", "1"), 1, (28, 28), (0.17,), (0.33,))
    random_bundle(tmp_path / "source", spec)
    done = call("transfer", "source", "--data", "digits", "-o", "new", "--epochs", "1")
    assert done["new_layers"] == ["classifier.8"]


def test_watched_status_is_a_line_of_json_for_each_read(
    storage: Storage, spec: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    study = create(storage, spec(search={"trials": 2}), "test").study
    serve_alone(storage, study, 2)
    done = CliRunner().invoke(cli, ["status", study.name, "--watch", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines
    for line in lines:
        check("status", line)


def test_watched_status_without_a_terminal_has_lines(
    storage: Storage, spec: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    study = create(storage, spec(search={"trials": 2}), "test").study
    serve_alone(storage, study, 2)
    done = CliRunner().invoke(cli, ["status", study.name, "--watch"], catch_exceptions=False)
    assert done.stdout.splitlines()[0].startswith("search: 2 of 2 trials finished")
    assert done.stderr.splitlines()[-1] == "search finished; next: hpo promote small, then hpo workers small"
