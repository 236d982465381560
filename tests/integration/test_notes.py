"""What optuna-dashboard shows of a study beside its trials."""

from __future__ import annotations

import json
from collections.abc import Callable

import optuna
import pytest
from optuna_dashboard import get_note
from optuna_dashboard import save_note as save
from support.wsgi import ask

from hpo.spec.study_spec import StudySpec
from hpo.store import notes
from hpo.store.connection import Storage
from hpo.study import lifecycle
from hpo.study.create import create
from hpo.study.study import Study
from hpo.web.address import host_names, resolve
from hpo.web.dashboard import DashboardOptions, application


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    return create(storage, spec(objective={"metric": "macro_f1"}), "test").study


def of(storage: Storage, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage.backend)


def test_study_has_a_note_and_a_named_objective(storage: Storage, study: Study) -> None:
    search, full = of(storage, "small"), of(storage, "small-full")
    assert search.metric_names == full.metric_names == ["macro F1"]
    assert get_note(search).startswith(
        "The search of the hpo study small; full training is the study small-full"
    )
    assert "(/report/small)" in get_note(search)
    assert get_note(full).startswith("Full training of the hpo study small")


def test_note_follows_the_state(storage: Storage, study: Study) -> None:
    lifecycle.stop(storage, study, ("search",))
    assert "State: stopped, stopped by hand." in get_note(of(storage, "small"))
    assert "State:" not in get_note(of(storage, "small-full"))
    lifecycle.resume(storage, study)
    assert "State:" not in get_note(of(storage, "small"))


def test_note_of_a_user_stays(storage: Storage, study: Study) -> None:
    address = resolve("127.0.0.1", 0)
    options = DashboardOptions(address=address, names=host_names(address, []), writable=True)
    path, body = f"/api/studies/{study.search_id}/note", json.dumps({"body": "mine", "version": 1})
    origin = "http://127.0.0.1:8080"
    assert ask(application(storage, options), "PUT", path, body, origin=origin).status == 204
    lifecycle.stop(storage, study)
    assert get_note(of(storage, "small")) == "mine"
    assert "stopped by hand" in get_note(of(storage, "small-full"))
    save(of(storage, "small-full"), "also mine")
    lifecycle.resume(storage, study)
    assert get_note(of(storage, "small-full")) == "also mine"


def test_reason_cannot_be_markup_and_a_note_fits_its_attribute(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        notes.write(connection, study.search_id, "x" * 5000)
    assert len(get_note(of(storage, "small"))) == notes.LONGEST
