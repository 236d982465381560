"""What a worker of a training function checks before it claims a trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.study_file import FUNCTION_TEXT, load

from hpo.errors import ConflictError, HpoError, InputError, TrainingError
from hpo.run.preparation import FunctionPreparation
from hpo.spec.identity import Identity
from hpo.study.study import Study

STUDY = Study(load(FUNCTION_TEXT), 1, 2, "01234567", "fingerprint")


def prepare(study: Study = STUDY, launched: bool = False, device: str = "cpu") -> None:
    with FunctionPreparation(study, launched).training(device):
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("def fit(trial):\n    yield 1.0\n")
    return tmp_path


def test_function_that_can_be_imported_is_accepted() -> None:
    prepare()
    prepare(device="cuda:1")


@pytest.mark.parametrize(("launched", "kind"), [(False, InputError), (True, TrainingError)])
def test_function_that_cannot_be_imported_is_a_mistake(
    folder: Path, launched: bool, kind: type[HpoError]
) -> None:
    """A launcher tries again: a file that the module reads may come back."""
    (folder / "train.py").write_text("open('missing')\n")
    message = r"^train:fit: importing train raised FileNotFoundError at train.py:1: .*'missing'$"
    with pytest.raises(kind, match=message) as raised:
        prepare(launched=launched)
    assert type(raised.value) is kind


def test_other_code_is_refused() -> None:
    study = replace(STUDY, identity=Identity(function="0" * 64))
    with pytest.raises(ConflictError, match=r"train.function = \"train:fit\": the hash of its code is"):
        prepare(study)


def test_folder_for_temporary_files_has_to_be_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "missing"))
    with pytest.raises(InputError, match=r"^cannot write temporary files: .*; set TMPDIR to another folder$"):
        prepare()


def test_device_is_the_name_of_one() -> None:
    with pytest.raises(InputError, match=r"^--device 'gpu 1': must be the name of a device"):
        prepare(device="gpu 1")
