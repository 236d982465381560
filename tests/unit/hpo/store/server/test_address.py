"""Socket folders, and URLs of the embedded server."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from hpo.store.server.address import connectable, remove_short_folder, server_url, short_folder, shown

FOLDERS = (
    "/home/me/.local/share/hpo/postgres",
    "/with space/and+plus",
    '/it\'s/"quoted"',
    "/a;b&c=d/e?f#g",
    "/100%/20%20",
    "/colon:5/at@host",
    "/{braces}/[brackets]",
    "/$HOME/`ls`/$(ls)",
    "/größe/数据",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_url_leads_back_to_the_folder(folder: str) -> None:
    text = shown(server_url(Path(folder)))
    assert make_url(text) == server_url(Path(folder))
    _, arguments = create_engine(text).dialect.create_connect_args(make_url(text))
    assert arguments["host"] == folder
    assert arguments["port"] == "5432"
    assert arguments["user"] == arguments["dbname"] == "postgres"


@pytest.mark.parametrize("folder", FOLDERS)
def test_shown_url_is_encoded_for_libpq(folder: str) -> None:
    query = urlsplit(shown(server_url(Path(folder)))).query
    assert "+" not in query
    assert parse_qs(query)["host"] == [folder]


@pytest.mark.parametrize(
    ("folder", "can"),
    [
        ("/home/me/hpo/postgres", True),
        ("/" + "x" * 92, True),  # and 14 bytes of the file's name with its slash
        ("/" + "x" * 93, False),
        ("/" + "ü" * 47, False),  # bytes count, not letters
        ("/a,b", False),
        ("/bad\udcff", False),
    ],
)
def test_folders_that_clients_can_name(folder: str, can: bool) -> None:
    assert connectable(Path(folder)) is can


def test_short_folder_is_private_and_removed_when_it_has_sockets_only() -> None:
    folder = short_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert connectable(folder)
    (folder / ".s.PGSQL.5432.lock").touch()
    other = folder / "other"
    other.touch()
    remove_short_folder(folder)
    assert other.exists()
    other.unlink()
    remove_short_folder(folder)
    assert not folder.exists()
