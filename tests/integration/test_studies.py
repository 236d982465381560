"""The public functions on studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w
from optuna.trial import TrialState
from pydantic import SecretStr
from sqlalchemy import URL, make_url
from support.artifacts import MemoryStore
from support.claims import claim, finish
from support.small_worker import WorkerFactory, use_small_network

import hpo
from hpo.data import DataError
from hpo.data.dataset import OwnDataError
from hpo.errors import ConflictError, InputError, NotFoundError, SpecError
from hpo.launch import local_executor
from hpo.models import ModelError
from hpo.run.studies import read_spec, settings_of
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study.stored import remove

Raw = Callable[..., dict[str, Any]]


@pytest.fixture
def searched(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> hpo.Study:
    """Return a study with a finished search of two trials."""
    use_small_network(monkeypatch)
    worker = WorkerFactory(storage, spec, tmp_path)(search={"trials": 2, "epochs": 1}, promotion={"top": 1})
    worker.run()
    return hpo.load_study("small", storage)


def test_study_knows_its_storage_and_its_trials(searched: hpo.Study, storage: Storage) -> None:
    assert searched.storage is storage
    assert searched.name == searched.spec.name == "small"
    assert [trial.state for trial in searched.search.trials] == [TrialState.COMPLETE] * 2
    assert isinstance(searched.full, optuna.Study)
    assert searched.full.trials == []
    assert "postgres" not in repr(searched.settings.storage_url)


def test_best_trials_are_promoted_once(searched: hpo.Study) -> None:
    best = hpo.best_params(searched)
    assert best.stage == "search"
    assert best.trial == searched.search.best_trial.number
    assert best.value == searched.search.best_value
    assert best.params == searched.search.best_params
    promotion = hpo.promote(searched)
    assert promotion.added == searched.spec.promotion.seeds
    assert [row.number for row in promotion.chosen] == [best.trial]
    assert hpo.promote(searched).added == 0
    with pytest.raises(NotFoundError, match="no full training has completed yet"):
        hpo.best_params(searched, "full")
    with pytest.raises(NotFoundError, match="no full training has completed yet"):
        hpo.export_bundle(searched, "nowhere")
    assert not Path("nowhere").exists()


def test_failed_trials_are_retried_once(storage: Storage, raw: Raw) -> None:
    study = hpo.create_study(raw(space={"batch_size": 16}, search={"trials": 3}), storage)
    failed, done, diverged = claim(storage, study.stored, "search", "one", 3)
    reason = "its loss was not finite in epoch 1"
    outcomes = {
        failed.lease.trial_id: TrialOutcome(TrialState.FAIL, reason="ValueError: a bug"),
        diverged.lease.trial_id: TrialOutcome(TrialState.FAIL, reason=reason),
    }
    with storage.transaction() as connection:
        results.finish(connection, outcomes)
    finish(storage, [done])
    outcome = hpo.retry_trials(study)
    assert (outcome.queued, outcome.diverged) == ({"search": {failed.number: 3}, "full": {}}, 1)
    assert hpo.retry_trials(study).queued == {"search": {}, "full": {}}
    assert hpo.retry_trials(study, [diverged.number]).queued == {"search": {diverged.number: 4}}
    assert hpo.retry_trials(study, stage="full").queued == {"full": {}}
    with pytest.raises(InputError, match="only a failed trial is retried"):
        hpo.retry_trials(study, [done.number])


def test_deleted_study_is_not_found(searched: hpo.Study) -> None:
    remove(searched.storage, searched.stored, MemoryStore())
    with pytest.raises(NotFoundError, match=r"^study 'small': the study has been deleted$"):
        _ = searched.search


def test_study_is_created_extended_and_loaded(storage: Storage, raw: Raw, tmp_path: Path) -> None:
    study = hpo.create_study(raw(search={"trials": 3}), storage)
    assert len(study.search.trials) == 3
    assert study.stored.identity.data is not None
    file = tmp_path / "small.toml"
    file.write_text(tomli_w.dumps(raw(search={"trials": 5})))
    extended = hpo.create_study(file, storage)
    assert extended.stored.key == study.stored.key
    assert len(hpo.load_study("small", storage).search.trials) == 5
    with pytest.raises(ConflictError, match=r"^study 'small': seed = 2: the stored study 'small' has 1, and"):
        hpo.create_study(StudySpec.load(file).model_copy(update={"seed": 2}), storage)


def test_unknown_study_is_not_found(storage: Storage) -> None:
    with pytest.raises(NotFoundError, match=r"^no study 'small' in this storage; stored: none$"):
        hpo.load_study("small", storage)


@pytest.mark.parametrize("as_text", [False, True])
def test_spec_is_read_from_a_path(raw: Raw, tmp_path: Path, as_text: bool) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps({key: value for key, value in raw().items() if key != "name"}))
    spec, source = read_spec(str(file) if as_text else file)
    assert (spec.name, source) == ("mine", str(file))


def test_spec_is_read_from_plain_values(raw: Raw) -> None:
    spec, source = read_spec(raw(space={"batch_size": (16, 32)}))
    assert (spec, source) == (StudySpec.parse(raw()), "study")
    assert read_spec(spec) == (spec, "study 'small'")


def test_mistake_in_plain_values_is_one_line(raw: Raw) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(raw(search={"trials": 0}, model={"name": "lenett"}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith('study: model.name = "lenett": ')
    assert lines[1] == "study: search.trials = 0: must be at least 1"


def test_other_types_are_no_spec() -> None:
    with pytest.raises(InputError, match=r"^a spec is a StudySpec, a mapping or a path, and not .* list$"):
        read_spec([1])  # type: ignore[arg-type]


# Settings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("file secret")
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.setenv("HPO_STORAGE_URL", "postgresql://a@one/studies")
    monkeypatch.setenv("HPO_STORAGE_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("HPO_LEASE_SECONDS", "7")
    return tmp_path


def storage_at(url: str, home: Path | None = None) -> Storage:
    return Storage(make_url(url), None, None, home)  # type: ignore[arg-type]


def test_settings_are_those_of_the_environment_without_a_storage(environment: Path) -> None:
    assert settings_of(None) == Settings.from_environment()


def test_url_takes_the_place_of_the_variable(environment: Path) -> None:
    settings = settings_of("postgresql://b@two/studies")
    assert settings.storage_url == SecretStr("postgresql://b@two/studies")
    assert settings.storage_password_file == environment / "password"
    assert (settings.home, settings.lease_seconds) == (environment, 7)


def test_opened_storage_keeps_its_own_password(environment: Path) -> None:
    url = "postgresql+psycopg2://b:own%20secret@two/studies"
    settings = settings_of(storage_at(url))
    assert settings.storage_url is not None
    assert make_url(settings.storage_url.get_secret_value()) == make_url(url)
    assert settings.storage_password_file is None


def test_embedded_server_stays_that_of_its_home(environment: Path) -> None:
    settings = settings_of(storage_at("postgresql+psycopg2://p@/studies", environment / "other" / "postgres"))
    assert settings.storage_url is None
    assert settings.server_path == environment / "other" / "postgres"


def test_only_postgres_is_opened() -> None:
    with pytest.raises(InputError, match="sqlite is refused"):
        hpo.open_storage("sqlite:///studies.db")


def test_storage_is_opened_at_a_url(database: URL) -> None:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    with hpo.open_storage(url).transaction():
        pass


@pytest.mark.parametrize("kind", [SpecError, DataError, OwnDataError, ModelError])
def test_every_error_is_an_hpo_error(kind: type[Exception]) -> None:
    assert issubclass(kind, hpo.HpoError)


def test_missing_files_are_an_hpo_error(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.delenv("HPO_DATA_DIR", raising=False)
    with pytest.raises(hpo.HpoError, match="run `hpo data fetch emnist-byclass`"):
        hpo.create_study(raw(data={"name": "emnist-byclass"}))


def test_other_types_are_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"^a storage is a URL or an opened storage, not a PosixPath$"):
        hpo.open_storage(Path("studies.db"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^a study is what load_study returns, not a str$"):
        hpo.best_params("small")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^the name of a study is a text, not a NoneType$"):
        hpo.load_study(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^per_device = -1: must be at least 1$"):
        local_executor("cpu", per_device=-1)
    with pytest.raises(InputError, match=r"^width = 0: must be at least 1$"):
        local_executor("cpu", width=0)
