"""The dashboard: every route of the installed optuna-dashboard, and the real command."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from optuna_dashboard import wsgi
from sqlalchemy import text
from support.shell import Shell
from support.wsgi import ask, basic

from hpo.errors import InputError, StorageError
from hpo.spec.study_spec import StudySpec
from hpo.store import schema
from hpo.store.connection import Storage, open_url
from hpo.study.create import create
from hpo.study.study import Study
from hpo.web.address import Address, host_names, resolve
from hpo.web.dashboard import DashboardOptions, application, serve
from hpo.web.guard import READING

ORIGIN = "http://127.0.0.1:8080"


def options(writable: bool = False, password: str | None = None, port: int = 0) -> DashboardOptions:
    address = resolve("127.0.0.1", port)
    return DashboardOptions(
        address=address, names=host_names(address, []), writable=writable, password=password
    )


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    return create(storage, spec(), "test").study


def routes(storage: Storage, study: Study) -> list[tuple[str, str]]:
    """Method and path of every route of optuna-dashboard, with ids of the study and its first trial."""
    with storage.transaction() as connection:
        query = text("SELECT trial_id FROM trials WHERE study_id = :study ORDER BY number LIMIT 1")
        trial_id = connection.execute(query, {"study": study.search_id}).scalar_one()
    values = {"study_id": study.search_id, "trial_id": trial_id, "plot_type": "slice"}

    def fill(match: re.Match[str]) -> str:
        return str(values.get(match[1], "1" if match[1] else ""))

    app = wsgi(storage.backend)
    return [(route.method, re.sub(r"<(\w*)(?::.*?)?>(?=/|$)", fill, route.rule)) for route in app.routes]


def contents(storage: Storage) -> dict[str, str]:
    """A hash of every table."""
    tables = [*schema.optuna_metadata.tables.values(), *schema.metadata.tables.values()]
    query = "SELECT md5(string_agg(row::text, ';' ORDER BY row::text)) FROM {} AS row"
    names = [table.fullname for table in tables]
    with storage.transaction() as connection:
        return {name: connection.execute(text(query.format(name))).scalar_one() for name in names}


def test_read_only_dashboard_answers_405_to_every_changing_route(
    storage: Storage, reader: Storage, study: Study
) -> None:
    app = application(reader, options())
    changing = [(method, path) for method, path in routes(storage, study) if method not in READING]
    assert len(changing) >= 15
    assert ("DELETE", f"/api/studies/{study.search_id}") in changing
    before = contents(storage)
    for method, path in changing:
        assert ask(app, method, path, "{}", origin=ORIGIN).status == 405, (method, path)
    assert contents(storage) == before


def test_routes_that_read_change_nothing(storage: Storage, reader: Storage, study: Study) -> None:
    reading = [path for method, path in routes(storage, study) if method in READING]
    assert len(reading) >= 10
    closed, opened = application(reader, options()), application(storage, options(writable=True))
    before = contents(storage)
    for path in reading:
        assert ask(closed, "GET", path).status == ask(opened, "GET", path).status, path
    assert contents(storage) == before
    assert ask(closed, "GET", f"/api/studies/{study.search_id}").status == 200
    assert ask(closed, "HEAD", "/dashboard").status == 200


def test_read_only_storage_refuses_writes(reader: Storage, study: Study) -> None:
    with pytest.raises(StorageError, match="read-only transaction"), reader.transaction() as connection:
        connection.execute(text("DELETE FROM studies"))


def test_dashboard_opens_with_a_role_that_may_only_read(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        connection.execute(text("CREATE ROLE looker LOGIN"))
        connection.execute(text("GRANT pg_read_all_data TO looker"))
    try:
        opened = open_url(storage.url.set(username="looker"), read_only=True)
        assert ask(application(opened, options()), path=f"/api/studies/{study.search_id}").status == 200
        opened.engine.dispose()
    finally:
        with storage.transaction() as connection:
            connection.execute(text("REVOKE pg_read_all_data FROM looker"))
            connection.execute(text("DROP ROLE looker"))


def test_writable_dashboard_changes_from_its_own_page_only(storage: Storage, study: Study) -> None:
    app, path = application(storage, options(writable=True)), f"/api/studies/{study.search_id}/note"
    body = json.dumps({"body": "promising", "version": 1})
    assert ask(app, "PUT", path, body).status == 403
    assert ask(app, "PUT", path, body, origin="http://evil.example").status == 403
    assert ask(app, "PUT", path, body, origin=ORIGIN, sec_fetch_site="cross-site").status == 403
    assert ask(app, "PUT", path, body, origin=ORIGIN, host="evil.example").status == 403
    assert ask(app, "PUT", path, body, origin=ORIGIN).status == 204
    assert b"promising" in ask(app, path=f"/api/studies/{study.search_id}").body


def test_password_guards_every_route(storage: Storage, reader: Storage, study: Study) -> None:
    app = application(reader, options(password="secret"))
    for method, path in routes(storage, study):
        assert ask(app, method, path, origin=ORIGIN).status == 401, (method, path)
    assert ask(app, path="/dashboard", authorization=basic("secret")).status == 200
    assert ask(app, "POST", "/api/studies", authorization=basic("secret")).status == 405


def test_address_in_use_is_one_line(reader: Storage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^cannot listen on 127.0.0.1:{port}: .*; try another --port$"):
            serve(reader, options(port=port), print)


def test_address_of_another_machine_is_one_line(reader: Storage) -> None:
    address = Address("192.0.2.7", socket.AF_INET, ("192.0.2.7", 8080))
    elsewhere = DashboardOptions(address=address, names=host_names(address, []), password="secret")
    with pytest.raises(InputError, match=r"^cannot listen on 192.0.2.7:8080: "):
        serve(reader, elsewhere, print)


def listening(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the URL that `hpo dashboard` prints, and the line."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith("dashboard: ")), "")
    assert line, "it ended before it listened"
    return line.split()[1], line


def code(url: str, method: str = "GET", **headers: str) -> int:
    request = Request(url, method=method, headers={name.title(): value for name, value in headers.items()})
    try:
        with urlopen(request) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_command_is_read_only_and_ends_on_sigterm(storage: Storage, study: Study, tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": storage.url.render_as_string(hide_password=False)})
    process = shell.start("dashboard", "--port", "0")
    try:
        url, line = listening(process)
        assert url.startswith("http://127.0.0.1:")
        assert "read-only" in line
        assert code(url) == 200
        assert code(f"{url}api/studies/{study.search_id}", "DELETE", origin=url) == 405
        assert code(url, host="evil.example") == 403
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")
    finally:
        shell.close()


def test_command_on_every_address_asks_for_the_password_and_ends_on_sigint(
    storage: Storage, study: Study, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": storage.url.render_as_string(hide_password=False)})
    refused = shell.hpo("dashboard", "--host", "0.0.0.0", "--writable", expect=2)
    assert refused.stderr.startswith("hpo: --host 0.0.0.0: other machines reach this address")
    assert len(refused.stderr.splitlines()) == 1
    file = shell.write("password", "secret\n")
    shell.variables = {**shell.variables, "HPO_DASHBOARD_PASSWORD_FILE": str(file)}
    process = shell.start("dashboard", "--host", "0.0.0.0", "--port", "0", "--writable")
    try:
        url = listening(process)[0].replace("0.0.0.0", "127.0.0.1").rstrip("/")
        login = basic("secret")
        assert code(url) == code(url, authorization=basic("wrong")) == 401
        assert code(url, authorization=login) == 200
        path = f"{url}/api/studies/{study.full_id}"
        assert code(path, "DELETE", authorization=login) == 403
        assert code(path, "DELETE", authorization=login, origin=url) == 204
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")
    finally:
        shell.close()
