"""Workers of one study that see another artifact store are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpo.artifacts.folder import open_folder
from hpo.errors import AwayError, ConflictError, InputError
from hpo.run.artifacts import check_artifacts, check_launched_artifacts
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.artifacts_mark import ATTRIBUTE, MARK, check_mark
from hpo.study.create import create
from hpo.study.study import Study


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    return create(storage, spec(), "test").study


def check(storage: Storage, study: Study, folder: Path) -> None:
    check_mark(storage, study, open_folder(str(folder), study.artifacts_name), str(folder))


def mark(study: Study, folder: Path) -> Path:
    return folder / study.artifacts_name / MARK


def test_one_folder_under_two_paths_is_accepted(storage: Storage, study: Study, tmp_path: Path) -> None:
    check(storage, study, tmp_path / "here")
    (tmp_path / "there").symlink_to(tmp_path / "here")
    check(storage, study, tmp_path / "there")


@pytest.mark.parametrize("content", [None, "", "another id"])
def test_another_folder_is_refused_in_one_line(
    storage: Storage, study: Study, tmp_path: Path, content: str | None
) -> None:
    check(storage, study, tmp_path / "here")
    if content is not None:
        mark(study, tmp_path / "there").parent.mkdir(parents=True)
        mark(study, tmp_path / "there").write_text(content)
    with pytest.raises(ConflictError, match="is not the folder of the study's other workers") as caught:
        check(storage, study, tmp_path / "there")
    assert "\n" not in str(caught.value)
    known = mark(study, tmp_path / "here").read_text()
    assert f"holds the id {known};" in str(caught.value)


def test_lost_files_can_be_replaced_as_the_message_says(
    storage: Storage, study: Study, tmp_path: Path
) -> None:
    check(storage, study, tmp_path / "here")
    known = mark(study, tmp_path / "here").read_text()
    shutil.rmtree(tmp_path / "here")
    with pytest.raises(ConflictError, match=known):
        check(storage, study, tmp_path / "here")
    mark(study, tmp_path / "here").parent.mkdir(parents=True)
    mark(study, tmp_path / "here").write_text(f"{known}\n")
    check(storage, study, tmp_path / "here")


def test_store_that_is_away_is_not_another_one(storage: Storage, study: Study, tmp_path: Path) -> None:
    check(storage, study, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "kept")
    (tmp_path / "here").touch()
    with pytest.raises(AwayError):
        check(storage, study, tmp_path / "here")


def test_launched_worker_goes_on_while_the_store_is_away(
    storage: Storage, study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    settings = Settings(artifacts=str(tmp_path / "file"))
    check_launched_artifacts(storage, study, settings)
    assert caplog.messages[0].startswith("the artifact store is away: ")
    with pytest.raises(InputError, match="cannot be written"):
        check_artifacts(storage, study, settings)
    check(storage, study, tmp_path / "here")
    with pytest.raises(ConflictError, match="is not the folder of the study's other workers"):
        check_launched_artifacts(storage, study, Settings(artifacts=str(tmp_path / "there")))


def test_study_without_a_store_that_can_be_written_gets_no_mark(
    storage: Storage, study: Study, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AwayError):
        check(storage, study, tmp_path / "file")
    assert ATTRIBUTE not in storage.study("small").user_attrs
    check(storage, study, tmp_path / "here")


def test_simultaneous_first_workers_agree(storage: Storage, study: Study, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: check(storage, study, tmp_path / "here"), range(3)))
    assert storage.study("small").user_attrs[ATTRIBUTE] == mark(study, tmp_path / "here").read_text()
