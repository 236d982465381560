"""`hpo report` on stored studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from sqlalchemy import event, text
from support.claims import claim
from support.epochs import epoch_result
from support.outcomes import trained

from hpo.cli import cli
from hpo.errors import InputError, NotFoundError
from hpo.report import make_report, read_study
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, results
from hpo.store.connection import Storage
from hpo.study import lifecycle
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.objective import LOSS

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Return a stopped search with a completed, a pruned and a failed trial, and a running full training."""
    study = create(storage, spec(search={"trials": 4, "epochs": 2}), "test").study
    trials = [trial for _ in range(3) for trial in claim(storage, study, "search", "worker-1", 1)]
    ends = [
        trained(0.25, epochs=2, kept_epoch=2),
        trained(0.5, TrialState.PRUNED, epochs=1, kept_epoch=1),
        None,
    ]
    with storage.transaction() as connection:
        for trial, end in zip(trials, ends, strict=True):
            for epoch in (1, 2):
                result = epoch_result(trial.number, epoch, 0.5 / epoch)
                results.report(connection, {trial.lease.trial_id: result}, LOSS, "worker-1")
            costs.charge(connection, {trial.lease.trial_id: {"training": 2.0}})
            if end is not None:
                results.finish(connection, {trial.lease.trial_id: end}, "worker-1", "cpu")
        failed = results.TrialOutcome(TrialState.FAIL, reason="ValueError: <script>")
        results.finish(connection, {trials[2].lease.trial_id: failed}, "worker-1", "cpu")
    lifecycle.stop(storage, study, ("search",))
    promote(storage, study)
    claim(storage, study, "full", "worker-2", 1)
    return study


@pytest.fixture
def report(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a call of `hpo report` that returns its output."""
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))

    def call(*options: str) -> str:
        done = CliRunner().invoke(cli, ("report", *options), standalone_mode=False, catch_exceptions=False)
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


def test_report_reads_both_stages_as_one_state(storage: Storage, study: Study) -> None:
    data = read_study(storage, study)
    states = [trial.row.state.name for trial in data.trials("search")]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "WAITING"]
    assert [trial.row.state.name for trial in data.trials("full")] == ["RUNNING"]
    assert data.seconds["search"] == {"training": 6.0}
    assert data.stopped["search"].by == "user"
    kinds = [(stage, event.kind) for stage, event in data.events]
    assert kinds[-2:] == [("search", "promoted"), ("full", "claimed")]
    assert next(section.anchor for section in make_report(data).sections) == "summary"


def test_reading_writes_nothing_and_costs_the_same_for_any_number_of_trials(
    storage: Storage, spec: SpecOf
) -> None:
    counts, sent = [], list[str]()
    event.listen(storage.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    for name, number in (("few", 1), ("few", 1), ("many", 20)):
        study = create(storage, spec(name=name, search={"trials": number}), "test").study
        sent.clear()
        read_study(storage, study)
        counts.append(len(sent))
    assert counts[1] == counts[2]
    assert any("READ ONLY" in statement for statement in sent)


def test_command_writes_one_file(study: Study, report: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert report(study.name, "-o", str(path)) == f"{path}\n"
    page = path.read_text()
    assert "<title>Study small - hpo</title>" in page
    assert "The study is running" in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_missing_study_or_folder_writes_nothing(
    study: Study, report: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="no study 'smal'"):
        report("smal", "-o", str(tmp_path / "report.html"))
    with pytest.raises(InputError, match=r"missing/report.html: No such file or directory$"):
        report(study.name, "-o", str(tmp_path / "missing" / "report.html"))
    assert [*tmp_path.iterdir()] == []


def test_two_studies_are_compared(
    storage: Storage, spec: SpecOf, study: Study, report: Callable[..., str], tmp_path: Path
) -> None:
    create(storage, spec(name="other"), "test")
    path = tmp_path / "both.html"
    report(study.name, "other", "-o", str(path))
    assert "<title>Studies small and other - hpo</title>" in path.read_text()


def test_detail_of_an_event_may_be_anything(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.event SET detail = '[1]'"))
    assert make_report(read_study(storage, study)).sections


def test_deleted_study_is_one_line(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        connection.execute(text("DELETE FROM study_user_attributes WHERE key = 'hpo:key'"))
    with pytest.raises(NotFoundError, match="the study has been deleted"):
        read_study(storage, study)
