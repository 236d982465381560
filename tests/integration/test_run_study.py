"""Whole studies from Python, with workers that are not processes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import URL
from support.claims import claim
from support.executors import InlineExecutor

import hpo
from hpo.errors import InputError, NotFoundError, NothingCompletedError, SpecError, TrainingError
from hpo.launch.executors.base import WorkerCommand
from hpo.run.run_study import StudyRun, run_study
from hpo.store import results
from hpo.store.results import TrialOutcome
from hpo.study.lifecycle import resume, stop

Raw = Callable[..., dict[str, Any]]

FAILED = TrialOutcome(TrialState.FAIL, reason="ValueError: a bug")


@pytest.fixture
def url(database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a storage that the environment does not name."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HPO_STORAGE_URL", "postgresql://nobody@localhost:1/elsewhere")
    return database.set(drivername="postgresql").render_as_string(hide_password=False)


def stopping(url: str) -> InlineExecutor:
    """Return an executor whose worker stops the study."""

    def work(command: WorkerCommand) -> int:
        study = hpo.load_study(command.arguments[0], url)
        stop(study.storage, study.stored)
        return 0

    return InlineExecutor(work)


def test_run_ends_without_a_model_when_the_study_is_stopped(
    url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hpo.run"):
        run = run_study(raw(), stopping(url), storage=url)
        resume(run.study.storage, run.study.stored)
        again = run_study(raw(), stopping(url), storage=run.study.storage)
    for outcome in (run, again):
        assert outcome.study.name == "small"
        assert outcome.stopped is not None
        assert outcome.stopped.reason == "stopped by hand"
        assert (outcome.best, outcome.metrics, outcome.directory) == (None, None, None)
        with pytest.raises(NotFoundError, match=r"^study 'small' was stopped before a model was exported$"):
            _ = outcome.bundle
    assert again.study.stored.key == run.study.stored.key
    assert [record.getMessage() for record in caplog.records if record.name == "hpo.run"] == [
        "study small: created, 12 trials queued",
        "study small: unchanged",
    ]


def test_search_without_a_completed_trial_says_so_once(
    url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    starts: list[str] = []

    def fail(command: WorkerCommand) -> int:
        study = hpo.load_study(command.arguments[0], url)
        starts.append(study.name)
        trials = claim(study.storage, study.stored, "search", "one", 12)
        with study.storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: FAILED for trial in trials})
        return 1

    with pytest.raises(
        NothingCompletedError, match=r"^study 'small': none of its 12 search trials completed"
    ):
        run_study(raw(space={"batch_size": 16}), InlineExecutor(fail), storage=url)
    assert starts == ["small"]
    assert not [record for record in caplog.records if "none of its" in record.getMessage()]
    with pytest.raises(NothingCompletedError):
        run_study(raw(space={"batch_size": 16}), InlineExecutor(fail), storage=url)
    assert starts == ["small"]


def test_workers_get_the_storage_and_the_width_of_the_run(url: str, raw: Raw) -> None:
    commands: list[WorkerCommand] = []

    def fail(command: WorkerCommand) -> int:
        commands.append(command)
        return InputError.exit_code  # it is not started again

    executor = InlineExecutor(fail)
    executor.width = 4
    with pytest.raises(TrainingError, match=r"^study 'small': its workers ended before all trials"):
        run_study(raw(), executor, storage=url)
    (command,) = commands
    assert command.arguments == ["small", "--promote", "--width", "4", "--fleet", "1"]
    assert command.environment["HPO_STORAGE_URL"] == url


def test_run_works_in_any_thread(url: str, raw: Raw) -> None:
    runs: list[StudyRun] = []
    thread = threading.Thread(target=lambda: runs.append(run_study(raw(), stopping(url), storage=url)))
    thread.start()
    thread.join(120)
    assert [run.study.name for run in runs] == ["small"]


def test_mistakes_come_before_anything_is_stored(url: str, raw: Raw) -> None:
    executor = stopping(url)
    with pytest.raises(SpecError, match=r"^study: search\.trials = 0: must be at least 1$"):
        run_study(raw(search={"trials": 0}), executor, storage=url)
    with pytest.raises(InputError, match=r"^executor 'slurm': must be one of local$"):
        run_study(raw(), "slurm", storage=url)
    with pytest.raises(NotFoundError):
        hpo.load_study("small", url)
