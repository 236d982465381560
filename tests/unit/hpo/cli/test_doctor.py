"""The checks of `hpo doctor` that need no storage."""

from pathlib import Path

from hpo.cli.doctor import _data, _home, _machine
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
