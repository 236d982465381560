"""The wheel: what it contains, and that an installed hpo leaves a user's own `data` and `models` alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.shell import ROOT, SMALL_STUDY

pytestmark = pytest.mark.xdist_group("wheel")

SOURCES = ("pyproject.toml", "README.md", "hpo", "data", "models")

OWN_DATA = """
import models
from sklearn.datasets import load_digits

def load():
    digits = load_digits()
    images = digits.images.astype("uint8").repeat(4, axis=1).repeat(4, axis=2)  # (N, 32, 32)
    labels = digits.target
    return images[:300], labels[:300], images[300:400], labels[300:400], models.CLASSES
"""

OWN_MODELS = 'CLASSES = [f"digit {number}" for number in range(10)]\n'


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ
    }
    done = subprocess.run(
        command, cwd=cwd, env={**environment, **variables}, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(source: Path, target: Path) -> Path:
    """Build the wheel of a folder or an sdist, without network."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", target, source, cwd=target.parent)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, since a build writes beside them."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheel, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=folder)
    # Paths only: .pth files of the borrowed environment are not read, so hpo is not its editable install.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    Path(site, "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder / "bin"


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A folder with a study of the user's own data set, in modules named like top-level folders of hpo."""
    (tmp_path / "data.py").write_text(OWN_DATA)
    (tmp_path / "models.py").write_text(OWN_MODELS)
    study = SMALL_STUDY.replace('"digits"', '"data:load"')
    study = study.replace("trials = 12", "trials = 2").replace("epochs = 3", "epochs = 1")
    (tmp_path / "own.toml").write_text(study.replace("seeds = 2", "seeds = 1"))
    return tmp_path


def sources(*suffixes: str) -> set[str]:
    files = (path for name in ("hpo", "data", "models") for path in (ROOT / name).rglob("*"))
    paths = (path.relative_to(ROOT).as_posix() for path in files if path.suffix in suffixes)
    return {path if path.startswith("hpo/") else f"hpo/{path}" for path in paths}


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    assert contents(wheel) == sources(".py", ".pyi", ".cpp", ".h", ".sql", ".typed", ".j2", ".css", ".js")
    assert {"hpo/data/registry.py", "hpo/models/lenet.py", "hpo/py.typed"} <= contents(wheel)


def test_sdist_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", code, cwd=source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert not any(member.issym() or member.islnk() for member in archive.getmembers())
    assert contents(build_wheel(sdist, tmp_path / "dist")) == contents(wheel)


def test_installed_command_runs_beside_modules_of_the_same_names(installed: Path, user_folder: Path) -> None:
    assert "Hyperparameter optimization" in run(installed / "hpo", "--help", cwd=user_folder)
    assert "digits\n" in run(installed / "hpo", "data", "list", cwd=user_folder)
    code = "import hpo.data, hpo.models; print(hpo.data.__file__, hpo.models.__file__)"
    for path in run(installed / "python", "-c", code, cwd=user_folder).split():
        assert Path(path).is_relative_to(installed.parent)


@pytest.mark.slow
def test_study_trains_on_the_data_set_of_the_user(installed: Path, user_folder: Path, database: URL) -> None:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    variables = {"HPO_STORAGE_URL": url, "HPO_HOME": str(user_folder / "home")}
    run(installed / "hpo", "run", "own.toml", "--bundle", "best", cwd=user_folder, **variables)
    assert '"digit 9"' in (user_folder / "best" / "model.json").read_text()
