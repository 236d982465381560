"""`hpo server`, and what a user sees of the embedded server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from support.shell import Shell

from hpo.store.server import stop_server


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Shell]:
    """Yield a user whose home folder has odd letters in its name."""
    home = tmp_path / "my home; it's"
    yield Shell(tmp_path, {"HPO_HOME": str(home), "LC_ALL": "tlh_KL.UTF-8"})
    stop_server(home / "postgres")


def test_server_is_announced_shown_stopped_and_started(user: Shell) -> None:
    folder = f"{user.variables['HPO_HOME']}/postgres"
    none = user.hpo("server", "status", expect=1)
    assert none.stdout == f"the embedded PostgreSQL in {folder} does not run\n"
    assert "to start it: hpo server start" in user.hpo("server", "url", expect=1).stderr
    assert not Path(folder).parent.exists()

    first = user.hpo("study", "list")
    assert "keeps running when this command ends; to stop it: hpo server stop" in first.stderr
    assert "keeps running" not in user.hpo("study", "list").stderr

    status = json.loads(user.hpo("server", "status", "--json").stdout)
    assert (status["running"], status["ready"], status["folder"]) == (True, True, folder)
    assert f"process {status['pid']}" in user.hpo("server", "status").stdout
    url = user.hpo("server", "url").stdout.strip()
    assert url == status["url"]
    assert url.startswith("postgresql+psycopg2://")
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM studies")).scalar_one() == 0
    engine.dispose()
    listed = Shell(user.folder, {**user.variables, "HPO_STORAGE_URL": url}).hpo("study", "list")
    assert listed.stdout == first.stdout

    assert user.hpo("server", "start").stderr.endswith("runs already\n")
    assert user.hpo("server", "stop").stderr.endswith("is stopped\n")
    assert user.hpo("server", "stop").stderr.endswith("did not run\n")
    assert user.hpo("server", "start").stderr.endswith("is started\n")


def test_commands_say_that_another_server_is_used(user: Shell) -> None:
    elsewhere = Shell(user.folder, {**user.variables, "HPO_STORAGE_URL": "postgresql://host/db"})
    assert "HPO_STORAGE_URL is set: studies are on that server" in elsewhere.hpo("server", "stop").stderr


def test_home_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Shell(tmp_path, {"HPO_HOME": str(tmp_path / "file" / "home")}).hpo("study", "list", expect=2)
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hpo: HPO_HOME: cannot use ")
