import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from hpo import settings as settings_module
from hpo.errors import InputError
from hpo.settings import Settings, child_environment, visible_devices

VARIABLES = (
    *("STORAGE_URL", "STORAGE_PASSWORD_FILE", "HOME", "DATA_DIR", "ARTIFACTS", "LEASE_SECONDS"),
    *("DASHBOARD_PASSWORD", "DASHBOARD_PASSWORD_FILE"),
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"HPO_{name}", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_docstring_lists_all_variables() -> None:
    assert {name.upper() for name in Settings.model_fields} == set(VARIABLES)
    assert all(field.description for field in Settings.model_fields.values())


def test_defaults_lie_in_one_folder_of_the_user() -> None:
    settings = Settings.from_environment()
    assert settings.storage_url is None
    assert settings.storage_password_file is None
    assert settings.home.is_absolute()
    assert settings.home.name == "hpo"
    assert settings.data_path == settings.home / "data"
    assert settings.arrays_path == settings.home / "arrays"
    assert settings.artifacts_location == str(settings.home / "artifacts")
    assert settings.server_path == settings.home / "postgres"


def test_home_moves_all_folders_and_each_folder_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.setenv("HPO_DATA_DIR", str(tmp_path / "images"))
    settings = Settings.from_environment()
    assert settings.data_path == tmp_path / "images"
    assert settings.arrays_path == tmp_path / "arrays"
    assert settings.artifacts_location == str(tmp_path / "artifacts")
    assert settings.server_path == tmp_path / "postgres"
    monkeypatch.setenv("HPO_ARTIFACTS", "/weights")
    assert Settings.from_environment().artifacts_location == "/weights"


def test_folders_may_be_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_HOME", "~/hpo")
    monkeypatch.setenv("HPO_DATA_DIR", "images")
    settings = Settings.from_environment()
    assert settings.server_path == tmp_path / "me" / "hpo" / "postgres"
    assert settings.data_path == tmp_path / "images"


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(f"HPO_{name}", "")
    assert Settings.from_environment() == Settings()
    assert Settings.from_environment().storage_url is None
    assert Settings.from_environment().home.name == "hpo"


def test_misspelled_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_UID", "1000")  # somebody else's
    Settings.from_environment()
    monkeypatch.setenv("HPO_STORAGE_ULR", "postgresql://host/database")
    with pytest.raises(InputError, match="HPO_STORAGE_ULR: unknown variable; did you mean HPO_STORAGE_URL"):
        Settings.from_environment()


def test_storage_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_STORAGE_URL", "postgresql://me:secret@host/db")
    settings = Settings.from_environment()
    assert "secret" not in repr(settings)
    assert settings.storage_url is not None
    assert settings.storage_url.get_secret_value() == "postgresql://me:secret@host/db"


def test_environment_gives_another_process_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    url = SecretStr("postgresql://me:secret@host/db")
    settings = Settings(storage_url=url, home=Path("~/a b"), lease_seconds=5)
    monkeypatch.setenv("HPO_ARTIFACTS", "/inherited")
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment() == settings


def test_password_of_the_dashboard_reaches_no_other_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_DASHBOARD_PASSWORD", "secret")
    monkeypatch.setenv("HPO_DASHBOARD_PASSWORD_FILE", str(tmp_path))
    settings = Settings.from_environment()
    child = child_environment(**settings.to_environment())
    assert not any("DASHBOARD" in name for name in child)
    assert "secret" not in child.values()
    assert "secret" not in repr(settings)


def test_password_of_the_dashboard_is_in_a_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Settings.from_environment().read_dashboard_password() is None
    monkeypatch.setenv("HPO_DASHBOARD_PASSWORD", "of the variable")
    assert Settings.from_environment().read_dashboard_password() == "of the variable"
    file = tmp_path / "password"
    file.write_text("of the file\n")
    monkeypatch.setenv("HPO_DASHBOARD_PASSWORD_FILE", str(file))
    with pytest.raises(InputError, match="both are set; unset one of them"):
        Settings.from_environment().read_dashboard_password()
    monkeypatch.delenv("HPO_DASHBOARD_PASSWORD")
    assert Settings.from_environment().read_dashboard_password() == "of the file"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "not a text file")],
)
def test_unusable_password_file_is_one_line(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"^HPO_DASHBOARD_PASSWORD_FILE: .*{reason}"):
        Settings(dashboard_password_file=file).read_dashboard_password()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.from_environment().home = Path("/")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        (None, None),
        ("", []),
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        (" 2 , 0 ", ["2", "0"]),
        ("GPU-8e1d,MIG-77aa", ["GPU-8e1d", "MIG-77aa"]),
    ],
)
def test_visible_devices(
    monkeypatch: pytest.MonkeyPatch, value: str | None, devices: list[str] | None
) -> None:
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices


def test_child_environment_is_this_environment_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    child = child_environment(CUDA_VISIBLE_DEVICES="1", OMP_NUM_THREADS="3")
    assert child == {**os.environ, "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "3"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize("value", ["0.5", "4000", "soon"])
def test_invalid_value_is_reported_with_its_rule(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HPO_LEASE_SECONDS", value)
    with pytest.raises(InputError, match=f"^HPO_LEASE_SECONDS: Input should be .*; it is '{value}'$"):
        Settings.from_environment()


def test_user_without_a_home_folder_reads_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(settings_module, "user_data_path", fail)
    with pytest.raises(
        InputError, match=r"^HPO_HOME: is not set, and this user has no home folder: set HPO_HOME"
    ):
        Settings.from_environment()
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    assert Settings.from_environment().home == tmp_path


@pytest.mark.parametrize("name", ["HOME", "DATA_DIR", "ARTIFACTS"])
def test_home_folder_of_nobody_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HPO_{name}", "~no-such-user/hpo")
    with pytest.raises(
        InputError, match=rf"^HPO_{name}: '~no-such-user/hpo' names a home folder that is not there"
    ):
        Settings.from_environment()
