"""docker-compose.yml and Dockerfile: checked as files, then run without Docker.

A service's command runs here with its environment; only the addresses and the paths of its container are
replaced by those of this machine.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml
from sqlalchemy import URL, create_engine, make_url, text
from support.shell import ROOT, SMALL_STUDY, Shell
from support.wsgi import basic

from hpo.launch.timing import Timing
from hpo.store.server import programs

pytestmark = pytest.mark.xdist_group("compose")

COMPOSE = ROOT / "docker-compose.yml"
OURS = ("workers", "dashboard", "hpo")
SECRET = "/run/secrets/postgres_password"
LOGIN = "/run/secrets/dashboard_password"


def compose(**variables: str) -> dict[str, Any]:
    """The compose file as Docker reads it where these variables are set."""
    filled = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda match: variables.get(match[1]) or match[2], COMPOSE.read_text()
    )
    return dict(yaml.safe_load(filled))


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, in order, each with its arguments on one line."""
    whole = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in whole.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, rest in (line.split(maxsplit=1) for line in lines)]


def arguments_of(instruction: str) -> list[str]:
    return [rest for name, rest in dockerfile() if name == instruction]


def image_environment() -> dict[str, str]:
    assignments = shlex.split(" ".join(arguments_of("ENV")))
    return dict(assignment.split("=", 1) for assignment in assignments)


def entrypoint() -> list[str]:
    (command,) = arguments_of("ENTRYPOINT")
    return list(json.loads(command))


# The compose file


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Against the JSON schema of the compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_file_follows_the_specification() -> None:
    done = check_schema(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema_refuses_an_invalid_compose_file(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "health:"))
    assert check_schema(wrong).returncode == 1


def test_password_is_in_the_secret_file_only() -> None:
    parsed = compose()
    assert parsed["services"]["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == SECRET
    for name, service in parsed["services"].items():
        login = ["dashboard_password"] if name == "dashboard" else []
        assert service["secrets"] == ["postgres_password", *login], name
        values = service["environment"]
        assert all(key.endswith("_FILE") for key in values if "PASSWORD" in key), name
        assert not any(re.search(r"://[^/@]*:[^/@]*@", value) for value in values.values()), name


def test_secret_file_is_outside_of_git_and_image() -> None:
    for name, variable in (("postgres", "STORAGE"), ("dashboard", "DASHBOARD")):
        secret = f"{name}_password"
        assert compose()["secrets"][secret] == {"file": f"./secrets/{secret}"}
        elsewhere = compose(**{f"HPO_{variable}_PASSWORD_FILE": "/etc/hpo/password"})
        assert elsewhere["secrets"][secret] == {"file": "/etc/hpo/password"}
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets" in ignored()


def test_only_the_dashboard_is_published_and_only_on_this_machine() -> None:
    services = compose()["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"dashboard": ["127.0.0.1:8080:8080"]}
    assert not any("network_mode" in service for service in services.values())


def test_postgres_has_the_version_of_the_tests() -> None:
    assert compose()["services"]["postgres"]["image"] == f"postgres:{programs().version}"


def test_services_wait_for_a_healthy_postgres() -> None:
    services = compose()["services"]
    assert services["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    for name in OURS:
        assert services[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_workers_have_all_gpus_a_grace_period_and_restarts() -> None:
    workers = compose()["services"]["workers"]
    (device,) = workers["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert float(workers["stop_grace_period"].removesuffix("s")) > Timing().grace_seconds
    assert workers["restart"] == "on-failure"


def test_persistent_files_are_in_volumes() -> None:
    parsed = compose(HPO_ARTIFACTS="/srv/models")
    services, folders = parsed["services"], image_environment()
    (postgres,) = services["postgres"]["volumes"]
    assert postgres.split(":")[0] in parsed["volumes"]
    assert f"data:{folders['HPO_DATA_DIR']}:ro" in services["workers"]["volumes"]
    assert f"data:{folders['HPO_DATA_DIR']}" in services["hpo"]["volumes"]
    for name in ("workers", "hpo"):
        assert f"/srv/models:{folders['HPO_ARTIFACTS']}" in services[name]["volumes"]


def test_study_files_are_mounted_in_the_working_folder() -> None:
    *_, folder = arguments_of("WORKDIR")
    assert f"./studies:{folder}/studies:ro" in compose()["services"]["hpo"]["volumes"]


def test_one_service_builds_the_image_and_none_pulls_it() -> None:
    services = compose()["services"]
    assert [name for name in services if "build" in services[name]] == ["workers"]
    assert {(services[name]["image"], services[name]["pull_policy"]) for name in OURS} == {("hpo", "never")}


# The image


def test_image_does_not_run_as_root() -> None:
    *_, user = arguments_of("USER")
    assert user not in ("root", "0")
    assert any(re.search(rf"\buseradd\b.* {user}\b", step) for step in arguments_of("RUN"))


def test_image_has_a_supported_python() -> None:
    (base,) = arguments_of("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version is not None
    assert int(version[1]) >= 11


def test_image_installs_dependencies_before_the_code() -> None:
    copies = [shlex.split(rest) for rest in arguments_of("COPY")]
    sources = [source for *given, _target in copies for source in given]
    missing = [source for source in sources if not (ROOT / source).exists()]
    assert missing == []
    assert [source for source in sources if source in ignored()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources)
    steps = [rest for name, rest in dockerfile() if name in ("COPY", "RUN")]
    assert "pip install" in steps[steps.index("pyproject.toml constraints.txt ./") + 1]


def test_image_starts_the_installed_command() -> None:
    (executable,) = entrypoint()
    assert executable in {script.name for script in entry_points(group="console_scripts")}
    assert (Path(sys.executable).parent / executable).is_file()


def ignored() -> set[str]:
    """What .dockerignore keeps out, of the names in the root of the tree."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    names = {path.name for path in ROOT.iterdir()} | {"secrets", ".env", ".git", ".venv"}
    return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


def test_build_context_has_the_code_and_no_secrets() -> None:
    assert {".git", ".venv", "secrets", ".env", "tests"} <= ignored()
    assert not {"data", "models", "hpo", "studies", "pyproject.toml"} & ignored()


# The services, without Docker


@dataclass(frozen=True)
class Host:
    """This machine in place of the containers: `here` maps a value in a container to the one for it here."""

    folder: Path
    port: int
    here: Mapping[str, str]

    def shell(self, service: str) -> Shell:
        """A shell with the variables that the service's processes see."""
        variables = {**image_environment(), **compose()["services"][service]["environment"]}
        return Shell(self.folder, {name: self.here.get(value, value) for name, value in variables.items()})

    def arguments(self, service: str, **variables: str) -> list[str]:
        """What the service gives to `hpo`."""
        assert entrypoint() == ["hpo"]
        return [self.here.get(part, part) for part in compose(**variables)["services"][service]["command"]]


@pytest.fixture(scope="module")
def host(tcp_postgres: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine whose Postgres has the user and the database that the compose file asks for."""
    folder = tmp_path_factory.mktemp("host")
    services = compose()["services"]
    wanted = services["postgres"]["environment"]
    user, database, password = wanted["POSTGRES_USER"], wanted["POSTGRES_DB"], "of-the-secret-file"
    (folder / "password").write_text(f"{password}\n")
    (folder / "login").write_text("of-the-dashboard\n")
    admin = create_engine(tcp_postgres, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'"))
        connection.execute(text(f"CREATE DATABASE {database} OWNER {user}"))
    assert tcp_postgres.port is not None
    url = services["workers"]["environment"]["HPO_STORAGE_URL"]
    folders = image_environment()
    yield Host(
        folder,
        tcp_postgres.port,
        {
            url: make_url(url).set(host=tcp_postgres.host, port=tcp_postgres.port).render_as_string(),
            SECRET: str(folder / "password"),
            LOGIN: str(folder / "login"),
            folders["HPO_DATA_DIR"]: str(folder / "images"),
            folders["HPO_ARTIFACTS"]: str(folder / "weights"),
            "0.0.0.0": "127.0.0.1",
            "8080": "0",
        },
    )
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {user}"))
    admin.dispose()


def test_health_check_detects_a_server_that_answers(host: Host) -> None:
    kind, *command = compose()["services"]["postgres"]["healthcheck"]["test"]
    assert kind == "CMD"
    for port, code in ((str(host.port), 0), ("1", 2)):
        done = subprocess.run(
            command, env={"PATH": str(programs().path), "PGPORT": port}, capture_output=True, check=False
        )
        assert done.returncode == code, done


def test_password_file_opens_the_database(host: Host) -> None:
    shell = host.shell("dashboard")
    shell.hpo("study", "list")
    without = {name: value for name, value in shell.variables.items() if "PASSWORD" not in name}
    refused = Shell(host.folder, without).hpo("study", "list", expect=1)
    assert "password" in refused.stderr


def test_dashboard_is_read_only_and_has_a_password() -> None:
    service = compose()["services"]["dashboard"]
    assert "--writable" not in service["command"]
    assert service["environment"]["HPO_DASHBOARD_PASSWORD_FILE"] == LOGIN
    assert service["environment"].items() > compose()["services"]["workers"]["environment"].items()


def test_dashboard_serves_the_storage(host: Host) -> None:
    process = host.shell("dashboard").start(*host.arguments("dashboard"))
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("dashboard: ")), "")
        assert said, "it ended before it listened"
        url = said.split()[1]
        for path in ("", "api/studies"):
            request = Request(url + path, headers={"Authorization": basic("of-the-dashboard")})
            with urlopen(request) as response:
                assert response.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def test_workers_train_a_created_study(host: Host) -> None:
    once, workers = host.shell("hpo"), host.shell("workers")
    study = SMALL_STUDY.replace("trials = 12", "trials = 2").replace("epochs = 3", "epochs = 1")
    once.write("pair.toml", study)
    once.hpo("study", "create", "pair.toml")
    workers.hpo(*host.arguments("workers", STUDY="pair"))
    status = json.loads(once.hpo("status", "pair", "--json").stdout)
    assert status["search"]["states"]["COMPLETE"] == 2
