"""The checks of `hpo doctor` that need no storage."""

from pathlib import Path

from pydantic import SecretStr

from hpo.cli.doctor import _data, _home, _machine, _storage
from hpo.settings import Settings


def test_home_may_be_missing_yet(tmp_path: Path) -> None:
    finding = _home(Settings(home=tmp_path / "new" / "home"))
    assert finding.good
    assert f"{tmp_path}/new/home, " in finding.says
    assert not (tmp_path / "new").exists()


def test_home_below_a_file_fails_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = _home(Settings(home=tmp_path / "file" / "home"))
    assert not finding.good
    assert "HPO_HOME" in finding.advice


def test_full_disk_fails_with_advice(tmp_path: Path) -> None:
    finding = _home(Settings(home=tmp_path), least_free=1e30)
    assert not finding.good
    assert "make room" in finding.advice


def test_data_are_found_by_their_files_alone(tmp_path: Path) -> None:
    assert "only digits is here" in _data(Settings(data_dir=tmp_path)).advice
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_text("no image")
        (raw / f"{part}-labels-idx1-ubyte").touch()
    finding = _data(Settings(data_dir=tmp_path))
    assert finding.good
    assert finding.says == f"in {tmp_path}: mnist, digits"


def test_machine_says_how_many_workers_it_runs() -> None:
    finding = _machine(Settings())
    assert finding.good
    assert "worker" in finding.says


def test_missing_data_folder_fails_only_if_it_is_named(tmp_path: Path) -> None:
    finding = _data(Settings(data_dir=tmp_path / "none"))
    assert not finding.good
    assert finding.says == f"HPO_DATA_DIR: {tmp_path}/none is no folder that can be read"
    assert _data(Settings(home=tmp_path / "none")).good


def test_password_file_is_checked(tmp_path: Path) -> None:
    url = SecretStr("postgresql://user@localhost:1/none")
    for settings in (Settings(storage_url=url), Settings()):
        missing = _storage(settings.model_copy(update={"storage_password_file": tmp_path / "none"}))
        assert not missing.good
        assert missing.says.startswith(f"HPO_STORAGE_PASSWORD_FILE: cannot read {tmp_path}/none: No such")
    (tmp_path / "empty").write_text("\n")
    empty = _storage(Settings(storage_url=url, storage_password_file=tmp_path / "empty"))
    assert (empty.good, "is empty" in empty.says) == (False, True)
    (tmp_path / "password").write_text("secret")
    unused = _storage(Settings(storage_password_file=tmp_path / "password"))
    assert (unused.good, "HPO_STORAGE_URL is not" in unused.says) == (False, True)
    refused = _storage(Settings(storage_url=url, storage_password_file=tmp_path / "password"))
    assert (refused.good, refused.says.startswith("HPO_STORAGE_URL: postgresql")) == (False, True)
