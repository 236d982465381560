"""The URL of the storage: plain Optuna opens it, and nothing shows its password."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy import URL
from support.claims import claim
from support.outcomes import trained
from support.trial_records import result

import hpo
from hpo.errors import InputError, UnavailableError
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage, open_url
from hpo.study.create import create
from hpo.values.objective import LOSS


def test_plain_optuna_reads_values_parameters_and_curves(
    database: URL, spec: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPO_STORAGE_URL", database.render_as_string(hide_password=False))
    storage = open_url(database)
    study = create(storage, spec(search={"trials": 2}), "test").study
    trials = [trial for _ in range(2) for trial in claim(storage, study, "search", "one", 1)]
    with storage.transaction() as connection:
        for trial in trials:
            for epoch in (1, 2):
                report = {trial.lease.trial_id: result(epoch, 1 / (trial.number + epoch))}
                results.report(connection, report, LOSS, "one")
            ended = trained(1 / (trial.number + 2), epochs=2, kept_epoch=2)
            results.finish(connection, {trial.lease.trial_id: ended})
    storage.engine.dispose()
    url = hpo.url()
    assert isinstance(url, str)
    seen = optuna.load_study(study_name="small", storage=url)
    assert [trial.state.name for trial in seen.trials] == ["COMPLETE", "COMPLETE"]
    assert [trial.value for trial in seen.trials] == [1 / 2, 1 / 3]
    assert [trial.params for trial in seen.trials] == [trial.point for trial in trials]
    assert [trial.intermediate_values for trial in seen.trials] == [{1: 1, 2: 1 / 2}, {1: 1 / 2, 2: 1 / 3}]
    assert seen.best_trial.number == 1


def test_url_of_an_opened_storage_is_its_own(storage: Storage) -> None:
    assert hpo.url(storage) == storage.url.render_as_string(hide_password=False)


def test_password_of_a_file_is_in_the_url_and_is_not_shown(
    tcp_postgres: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "password").write_text(str(tcp_postgres.password))
    monkeypatch.setenv("HPO_STORAGE_URL", tcp_postgres._replace(password=None).render_as_string())
    monkeypatch.setenv("HPO_STORAGE_PASSWORD_FILE", str(tmp_path / "password"))
    with caplog.at_level(logging.DEBUG):
        url = hpo.url()
        optuna.get_all_study_names(url)
    shown = [repr(url), repr({"url": url}), f"{url!r}", *caplog.messages]
    assert not [text for text in shown if "word/100" in text or "word%2F100" in text]
    assert "***" in repr(url)


def test_storage_that_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_STORAGE_URL", "postgresql://nobody:secret@localhost:1/elsewhere")
    with pytest.raises(UnavailableError) as caught:
        hpo.url()
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("HPO_STORAGE_URL", "sqlite:///studies.db")
    with pytest.raises(InputError, match="sqlite is refused"):
        hpo.url()
