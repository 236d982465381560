"""Bookkeeping commands never load torch: it takes seconds and half a gigabyte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from hpo.spec.study_spec import StudySpec
from hpo.store.connection import open_url
from hpo.study.create import create

CODE = """
import sys
from hpo.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
assert "torch" not in sys.modules, "torch is loaded"
sys.exit(code)
"""

COMMANDS = (
    ("status small", 0),
    ("status small --json", 0),
    ("study list", 0),
    ("study show small", 0),
    ("study stop small", 0),
    ("study resume small", 0),
    ("promote small", 2),  # the search is not finished
    ("export small --format json", 2),  # no trial has completed
    ("study delete small --yes", 0),
    ("data list", 0),
    ("completion bash", 0),
)


@pytest.mark.parametrize(("command", "code"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_bookkeeping_command_does_not_load_torch(
    command: str, code: int, database: URL, spec: Callable[..., StudySpec], tmp_path: Path
) -> None:
    storage = open_url(database)
    create(storage, spec(), "test")
    storage.engine.dispose()
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command.split()],
        env={"HPO_STORAGE_URL": url, "HPO_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
