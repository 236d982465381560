from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.shell import SMALL_STUDY, Shell


@pytest.fixture
def shell(tmp_path: Path, database: URL, programs: Path) -> Iterator[Shell]:
    """A user with an empty database of their own and a small study file, `small.toml`. What is compiled for
    others is compiled for them."""
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": url})
    shell.write("small.toml", SMALL_STUDY)
    programs.mkdir(exist_ok=True)
    (shell.folder / "home").mkdir()
    (shell.folder / "home" / "programs").symlink_to(programs)
    yield shell
    shell.close()
