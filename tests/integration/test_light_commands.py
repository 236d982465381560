"""Bookkeeping commands and launchers never load torch: it takes seconds and half a gigabyte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
from sqlalchemy import URL
from support.study_file import FUNCTION_TEXT, load

from hpo.spec.study_spec import StudySpec
from hpo.store.connection import open_url
from hpo.study.create import create
from hpo.study.lifecycle import stop
from hpo.values.stage import STAGES

CODE = """
import sys
from hpo.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
heavy = {"torch", "sklearn"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""

COMMANDS = (
    ("status small", 0),
    ("status small --json", 0),
    ("study list", 0),
    ("study show small", 0),
    ("study show small --json", 0),
    ("study show small --csv --epochs", 0),
    ("study stop small", 0),
    ("study resume small", 0),
    ("promote small", 2),  # the search is not finished
    ("export small --format json", 2),  # no trial has completed
    ("study delete small --yes", 0),
    ("data list", 0),
    ("completion bash", 0),
    ("doctor", 0),
)


@pytest.mark.parametrize(("command", "code"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_bookkeeping_command_does_not_load_torch(
    command: str, code: int, database: URL, spec: Callable[..., StudySpec], tmp_path: Path
) -> None:
    storage = open_url(database)
    create(storage, spec(), "test")
    storage.engine.dispose()
    done = run(command, database, tmp_path)
    assert done.returncode == code, done.stderr


TRAIN = """
import sys
assert not {"torch", "sklearn", "torchvision"} & set(sys.modules), "hpo has imported it"
import torch

def fit(trial):
    yield 0.5
"""
"""A module that imports torch, which its process has not imported before."""

FUNCTION_COMMANDS = (
    ("status small", 0),
    ("study show small", 0),
    ("study create small.toml", 0),
    ("study retry small", 0),
    ("export small --format json", 2),  # no trial has completed
    ("study delete small --yes", 0),
)
"""Commands on a study of a training function. Those that import the function do so in a child process."""


@pytest.mark.parametrize(("command", "code"), FUNCTION_COMMANDS, ids=[name for name, _ in FUNCTION_COMMANDS])
def test_command_on_a_function_does_not_load_torch(
    command: str, code: int, database: URL, tmp_path: Path
) -> None:
    stored = load(FUNCTION_TEXT)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "small.toml").write_text(tomli_w.dumps(stored.to_json()))
    storage = open_url(database)
    create(storage, stored, "test")
    storage.engine.dispose()
    done = run(command, database, tmp_path)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("command", ["run small.toml --gpus cpu", "workers small --gpus cpu"])
def test_launcher_of_a_function_does_not_load_torch(command: str, database: URL, tmp_path: Path) -> None:
    stored = load(FUNCTION_TEXT)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "small.toml").write_text(tomli_w.dumps(stored.to_json()))
    storage = open_url(database)
    stop(storage, create(storage, stored, "test").study, STAGES)  # so that no worker starts
    storage.engine.dispose()
    done = run(command, database, tmp_path)
    assert done.returncode == (1 if command.startswith("run") else 0), done.stderr
    assert "stopped by hand; to continue" in done.stderr


RUN, WORKERS = "run small.toml --gpus cpu", "workers small --gpus cpu"


@pytest.mark.parametrize(("command", "sampler"), [(RUN, "tpe"), (RUN, "gp"), (WORKERS, "random")])
def test_launcher_does_not_load_torch(
    command: str, sampler: str, database: URL, spec: Callable[..., StudySpec], tmp_path: Path
) -> None:
    stored = spec(sampler={"name": sampler})
    (tmp_path / "small.toml").write_text(tomli_w.dumps(stored.to_json()))
    storage = open_url(database)
    stop(storage, create(storage, stored, "test").study, STAGES)  # so that no worker starts
    storage.engine.dispose()
    done = run(command, database, tmp_path)
    # `hpo run` was to export a model, and has none.
    assert done.returncode == (1 if command == RUN else 0), done.stderr
    assert "stopped by hand; to continue" in done.stderr


def test_end_of_a_launcher_needs_no_torch() -> None:
    """A launcher imports this once its study is finished."""
    code = (
        "import sys, hpo.cli.tables, hpo.export.metrics; assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run(command: str, database: URL, folder: Path) -> subprocess.CompletedProcess[str]:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    return subprocess.run(
        [sys.executable, "-c", CODE, *command.split()],
        env={"HPO_STORAGE_URL": url, "HPO_HOME": str(folder), "PATH": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
