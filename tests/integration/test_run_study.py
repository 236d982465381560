from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from hpo.errors import ConflictError
from hpo.run.run_study import run_study
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.lifecycle import stop
from hpo.study.study import Study
from hpo.values.stage import STAGES


@pytest.fixture
def settings(database: URL, tmp_path: Path) -> Settings:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    return Settings(storage_url=SecretStr(url), home=tmp_path)


def test_run_ends_without_a_model_when_the_study_is_stopped(
    settings: Settings, spec: Callable[..., StudySpec], caplog: pytest.LogCaptureFixture
) -> None:
    def train(storage: Storage, study: Study) -> bool:
        stop(storage, study, STAGES)
        return True

    with caplog.at_level("INFO", logger="hpo.run"):
        outcome = run_study(spec(), settings, train, "small.toml")
    assert outcome.study.name == "small"
    assert outcome.stopped is not None
    assert outcome.stopped.reason == "stopped by hand"
    assert outcome.exported is None
    assert caplog.messages == ["study small: created, 12 trials queued"]


def test_run_refuses_to_promote_from_an_unfinished_search(
    settings: Settings, spec: Callable[..., StudySpec]
) -> None:
    with pytest.raises(ConflictError, match=r"no search trial is finished yet \(0 of 12\)"):
        run_study(spec(), settings, lambda _storage, _study: False, "small.toml")


def test_second_run_continues_the_stored_study(
    settings: Settings, spec: Callable[..., StudySpec], caplog: pytest.LogCaptureFixture
) -> None:
    def train(storage: Storage, study: Study) -> bool:
        stop(storage, study, STAGES)
        return False

    first = run_study(spec(), settings, train, "small.toml")
    with caplog.at_level("INFO", logger="hpo.run"):
        second = run_study(spec(), settings, train, "small.toml")
    assert second.study.key == first.study.key
    assert caplog.messages == ["study small: unchanged"]
