from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import SMALL_STUDY, Shell
from sqlalchemy import URL


@pytest.fixture
def shell(tmp_path: Path, database: URL) -> Iterator[Shell]:
    """A user with an empty database of their own and a small study file, `small.toml`."""
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": url})
    shell.write("small.toml", SMALL_STUDY)
    yield shell
    shell.close()
