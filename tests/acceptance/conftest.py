from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.shell import SMALL_STUDY, Shell


@pytest.fixture
def shell(tmp_path: Path, database: URL, programs: Path) -> Iterator[Shell]:
    """Yield a user with an empty database and a small study file, `small.toml`.

    All users share the compiled programs.
    """
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": url})
    shell.write("small.toml", SMALL_STUDY)
    programs.mkdir(exist_ok=True)
    (shell.folder / "home").mkdir()
    (shell.folder / "home" / "programs").symlink_to(programs)
    yield shell
    shell.close()
