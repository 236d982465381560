"""Studies that other programs delete in part, copy, or whose attributes they change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.study import StudyDirection
from sqlalchemy import text
from support.artifacts import MemoryStore
from support.claims import claim, finish, serve_alone

from hpo.artifacts.folder import FolderStore
from hpo.cli import cli
from hpo.errors import ConflictError, DamagedStudyError, NotFoundError, SpecError
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study import remains
from hpo.study.create import create
from hpo.study.fork import fork, origin_of
from hpo.study.promote import promote
from hpo.study.stored import load, load_all, names, remove

SpecOf = Callable[..., StudySpec]

GARBAGE = ["{", "", "null", "7", '"text"', "[]", "{}", '{"version": 1}', "[" * 100_000]
"""Attributes as text; some are not JSON."""


def set_attribute(storage: Storage, study: str, key: str, value: str | None) -> None:
    """Set an attribute to a text that need not be JSON, or delete it."""
    where = "key = :key AND study_id = (SELECT study_id FROM studies WHERE study_name = :study)"
    table = "study_user_attributes"
    change = f"DELETE FROM {table}" if value is None else f"UPDATE {table} SET value_json = :value"
    with storage.transaction() as connection:
        connection.execute(text(f"{change} WHERE {where}"), {"study": study, "key": key, "value": value})


@pytest.fixture
def hpo(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a call of the command line on the storage; the artifacts are in `tmp_path`."""
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))
    monkeypatch.setenv("HPO_ARTIFACTS", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(cli, arguments, standalone_mode=False)


@pytest.mark.parametrize("value", GARBAGE)
def test_spec_that_cannot_be_read_is_named_and_can_be_deleted(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result], tmp_path: Path, value: str
) -> None:
    broken = create(storage, spec(), "test").study
    create(storage, spec(name="other"), "test")
    FolderStore(tmp_path / broken.artifacts_name).put("trial-0000-1.safetensors", b"")
    set_attribute(storage, "small", "hpo:spec", value)
    listed = hpo("study", "list")
    assert listed.exit_code == 0
    assert "other" in listed.stdout
    assert "stored study 'small': its attributes cannot be read; to remove it: hpo study delete small" in (
        listed.stderr
    )
    assert [row["study"] for row in json.loads(hpo("study", "list", "--json").stdout)] == ["other"]
    with pytest.raises(DamagedStudyError):
        create(storage, spec(), "test")
    assert "study small deleted" in hpo("study", "delete", "small", "--yes").stderr
    assert names(storage) == ["other"]
    assert list(tmp_path.iterdir()) == []
    assert create(storage, spec(), "test").did == "created"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hpo:spec", None),
        ("hpo:key", None),
        ("hpo:key", '"../../etc"'),
        ("hpo:key", '"0123abcd/"'),
        ("hpo:key", "7"),
        ("hpo:inherited", '"many"'),
        ("hpo:data", '{"content": 1}'),
        ("hpo:data", '{"content": "../x", "train": 1, "test": null}'),
    ],
)
def test_attribute_that_is_gone_or_has_another_form_damages_one_study(
    storage: Storage, spec: SpecOf, key: str, value: str | None
) -> None:
    create(storage, spec(), "test")
    create(storage, spec(name="other"), "test")
    for name in ("small", "small-full"):
        storage.study(name).set_user_attr(key, 0)  # not every study has every attribute
        set_attribute(storage, name, key, value)
    loaded, errors = load_all(storage)
    assert [study.name for study in loaded] == ["other"]
    assert [str(error).endswith("to remove it: hpo study delete small") for error in errors] == [True]
    found = remains.remove(storage, "small")
    assert len(found.study_ids) == 2
    assert all(".." not in name and "/" not in name for name in found.artifacts)
    assert names(storage) == ["other"]


@pytest.mark.parametrize("key", ["hpo:stage", "hpo:fingerprint"])
def test_study_goes_on_without_attributes_that_follow_from_others(
    storage: Storage, spec: SpecOf, key: str
) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    for name in ("small", "small-full"):
        set_attribute(storage, name, key, None)
    assert load(storage, "small") == study
    assert names(storage) == ["small"]
    assert len(serve_alone(storage, study, 2)) == 2


def test_spec_of_a_newer_version_is_named(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(), "test")
    set_attribute(storage, "small", "hpo:spec", '{"version": 99}')
    loaded, (error,) = load_all(storage)
    assert loaded == []
    assert isinstance(error, SpecError)
    assert "update hpo" in str(error)


def test_worker_of_a_study_whose_spec_is_damaged_says_so(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    set_attribute(storage, "small", "hpo:spec", "{")
    with pytest.raises(DamagedStudyError, match=r"^stored study 'small': "):
        claim(storage, study, "search", "one", 1)


def test_full_training_is_not_deleted_alone(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result]
) -> None:
    create(storage, spec(), "test")
    refused = hpo("study", "delete", "small-full", "--yes")
    assert refused.exit_code != 0
    assert "small-full is the full training of study small" in str(refused.exception)
    assert "small" in hpo("study", "list").stdout


@pytest.mark.parametrize("trained", [False, True])
def test_name_begins_anew_where_only_the_full_training_is_left(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result], trained: bool
) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    serve_alone(storage, study, 2)
    promote(storage, study)
    leased = claim(storage, study, "full", "one", 4)
    if trained:
        finish(storage, leased)
    storage.backend.delete_study(study.search_id)
    listed = hpo("study", "list")
    assert "study 'small' was deleted, and its full training 'small-full' is left" in listed.stderr
    again = create(storage, spec(search={"trials": 2}), "test")
    assert again.did == "created"
    assert storage.study("small-full").trials == []
    assert claim(storage, again.study, "full", "one", 1) == []


def test_what_is_left_of_a_study_can_be_deleted_with_its_files(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result], tmp_path: Path
) -> None:
    study = create(storage, spec(), "test").study
    FolderStore(tmp_path / study.artifacts_name).put("trial-0000-1.safetensors", b"")
    FolderStore(tmp_path / "other").put("kept", b"")
    storage.backend.delete_study(study.search_id)
    with pytest.raises(NotFoundError, match="to remove it: hpo study delete small"):
        load(storage, "small")
    assert hpo("study", "delete", "small", "--yes").exit_code == 0
    assert storage.backend.get_all_studies() == []
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert isinstance(hpo("study", "delete", "small", "--yes").exception, NotFoundError)


def test_copy_of_a_study_does_not_touch_the_original(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result], tmp_path: Path
) -> None:
    """The dashboard renames a study by copying it, with all attributes."""
    study = create(storage, spec(), "test").study
    FolderStore(tmp_path / study.artifacts_name).put("trial-0000-1.safetensors", b"")
    for name in ("small", "small-full"):
        copy = name.replace("small", "copy")
        optuna.copy_study(
            from_study_name=name, from_storage=storage.backend, to_storage=storage.backend, to_study_name=copy
        )
    with pytest.raises(DamagedStudyError, match=r"^stored study 'copy': is a copy of the study 'small'"):
        load(storage, "copy")
    assert [study.name for study in load_all(storage)[0]] == ["small"]
    assert hpo("study", "delete", "copy", "--yes").exit_code == 0
    assert names(storage) == ["small"]
    assert load(storage, "small") == study
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    "directions",
    [
        [StudyDirection.MINIMIZE],
        [StudyDirection.MAXIMIZE],
        [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE],
    ],
)
@pytest.mark.parametrize("name", ["small", "small-full", "unrelated"])
def test_study_of_another_program_is_left_alone(
    storage: Storage, spec: SpecOf, hpo: Callable[..., Result], name: str, directions: list[StudyDirection]
) -> None:
    other = optuna.create_study(storage=storage.backend, study_name=name, directions=directions)
    other.add_trial(optuna.trial.create_trial(values=[1.0] * len(directions)))
    if name == "unrelated":
        create(storage, spec(), "test")
    else:
        with pytest.raises(ConflictError, match="that hpo did not create; give the file another name"):
            create(storage, spec(), "test")
    assert name not in hpo("study", "list").stdout
    assert isinstance(hpo("study", "delete", name, "--yes").exception, NotFoundError)
    assert len(storage.study(name).trials) == 1


def test_study_of_another_program_in_place_of_the_full_training_is_not_used(
    storage: Storage, spec: SpecOf
) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    storage.backend.delete_study(study.full_id)
    optuna.create_study(storage=storage.backend, study_name="small-full", direction="maximize")
    with pytest.raises(DamagedStudyError, match="a study 'small-full' that is not its full training"):
        load(storage, "small")
    remains.remove(storage, "small")
    assert [found.study_name for found in storage.backend.get_all_studies()] == ["small-full"]


def test_origin_of_another_form_is_no_origin(storage: Storage, spec: SpecOf) -> None:
    old = create(storage, spec(), "test").study
    serve_alone(storage, old, 12)
    new = fork(storage, old, spec(name="wide"), "test").creation.study
    assert origin_of(storage, new) == "small"
    for value in GARBAGE:
        set_attribute(storage, "wide", "hpo:origin", value)
        assert origin_of(storage, new) is None


def test_removal_of_a_whole_study_leaves_nothing(storage: Storage, spec: SpecOf) -> None:
    remove(storage, create(storage, spec(), "test").study, MemoryStore())
    assert names(storage) == []
    assert storage.backend.get_all_studies() == []
