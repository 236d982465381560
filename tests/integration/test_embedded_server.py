"""The embedded server: odd folders, crashes, other users, namespaces and hosts."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg2
import pytest
from support.clients import at_once
from support.processes import until, until_gone
from support.servers import add_row, ask, server_pid
from support.shell import ROOT
from support.users import (
    NAMELESS,
    NAMESPACES,
    as_user,
    folder_of,
    needs_namespaces,
    needs_open_programs,
    needs_root,
    two_users,
)

from hpo.errors import HpoError, InputError, StorageError
from hpo.store.server import Limits, find_server, programs, shown, start_server, stop_server
from hpo.store.server.lock import FolderLock, Owner
from hpo.store.server.postmaster import Listener
from hpo.store.server.programs import PACKAGE

ROWS = "SELECT count(*) FROM visit"


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Yield a data folder with a row, whose server does not run. Copying it is faster than making one."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as name:
        folder = Path(name, "postgres")
        assert add_row(folder, "first") == "served"
        stop_server(folder)
        yield folder


def copy(made: Path, home: Path) -> Path:
    """Copy a data folder with its owners into `home`, and return the path of the copy."""
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(made), str(home)], check=True)
    return home / "postgres"


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    """Yield a data folder with a row, and stop its server after the test."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as name:
        copied = copy(made, Path(name))
        yield copied
        stop_server(copied)


def kill(folder: Path) -> int:
    """Kill the server of a folder with its children, and return the PID it had.

    Until the last child is gone, the socket accepts connections that nobody serves.
    """
    pid = server_pid(folder)
    os.kill(pid, signal.SIGKILL)
    until_gone([pid])
    until("the end of the server's children", lambda: is_free(folder) or None)
    return pid


def is_free(folder: Path) -> bool:
    with FolderLock(folder) as lock:
        return not lock.is_held()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the PID of a listener")
def test_children_of_a_killed_server_are_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_server(folder)
    with subprocess.Popen(["true"]) as ended:
        pass
    with monkeypatch.context() as patch:
        # A child that has not closed the socket yet accepts connections in the name of its parent.
        late = Listener(ended.pid, folder.stat().st_uid)
        patch.setattr("hpo.store.server.running.listener", lambda _: late)
        assert find_server(folder) is None
    assert find_server(folder) is not None


# Folders


@pytest.mark.parametrize(
    "name",
    [
        "a space",
        "plus+",
        "it's",
        'say "x"',
        "a;touch b",
        "$(touch b)",
        "100%25",
        "{b}[r]",
        "co:lon",
        "com,ma",
        "数据",
    ],
)
def test_any_folder_serves(name: str, made: Path, tmp_path: Path) -> None:
    folder = copy(made, tmp_path / name)
    url = start_server(folder)
    try:
        assert ask(url, ROWS) == ["1"]
        assert ask(url, "SHOW data_directory") == [str(folder)]
    finally:
        assert stop_server(folder)
    assert not Path("b").exists()


def test_psql_reads_the_shown_url(made: Path, tmp_path: Path) -> None:
    folder = copy(made, tmp_path / "a +'space")
    text = shown(start_server(folder)).replace("+psycopg2", "", 1)
    done = subprocess.run(
        [programs()["psql"], text, "-Atc", ROWS], capture_output=True, text=True, check=False
    )
    stop_server(folder)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_long_folder_has_a_private_socket_folder_that_goes_with_the_server(
    made: Path, tmp_path: Path
) -> None:
    folder = copy(made, tmp_path / ("x" * 120))
    start_server(folder)
    server = find_server(folder)
    assert server is not None
    sockets = server.socket_folder
    assert sockets.parent != folder
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert (sockets / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
    kill(folder)
    assert ask(start_server(folder), ROWS) == ["1"]
    assert not sockets.exists()
    sockets = find_server(folder).socket_folder  # type: ignore[union-attr]
    stop_server(folder)
    assert not sockets.exists()


def test_modes_of_other_folders_stay(made: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = copy(made, private / "home")
    before = [(parent, parent.stat().st_mode) for parent in folder.parents]
    assert ask(start_server(folder), ROWS) == ["1"]
    stop_server(folder)
    assert [(parent, parent.stat().st_mode) for parent in folder.parents] == before


def test_foreign_files_are_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "letter.txt").write_text("precious")
    with pytest.raises(InputError, match=r"^HPO_HOME: .*postgres is not empty, and is no data folder"):
        start_server(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["postgres", "letter.txt"]


def test_folder_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    folder = tmp_path / "postgres"
    folder.mkdir()  # empty, such as a volume
    assert add_row(folder, "one") == "served"
    assert not half.exists()
    stop_server(folder)


# The environment


def test_a_locale_that_is_not_installed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG", "LC_MESSAGES"):
        monkeypatch.setenv(name, "tlh_KL.UTF-8")
    url = start_server(tmp_path / "postgres")
    try:
        assert ask(url, "SHOW server_encoding") == ["UTF8"]
        assert ask(url, "SELECT upper('ä')") == ["Ä"]
    finally:
        stop_server(tmp_path / "postgres")


def test_folder_made_with_another_locale_serves(folder: Path) -> None:
    with (folder / "postgresql.conf").open("a") as file:
        file.write("lc_messages = 'tlh_KL.UTF-8'\nlc_monetary = 'tlh_KL.UTF-8'\n")
    assert ask(start_server(folder), ROWS) == ["1"]


def test_variables_of_libpq_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"PGPORT": "1", "PGHOST": "nowhere", "PGUSER": "x", "PGDATABASE": "x", "PGDATA": "/x"}
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    assert ask(start_server(folder), ROWS) == ["1"]


# Crashes


def test_pid_of_another_process_is_no_server(folder: Path) -> None:
    start_server(folder)
    owner = folder.stat().st_uid
    sleeper = subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None)
    pid, file = kill(folder), folder / "postmaster.pid"
    file.write_text(file.read_text().replace(str(pid), str(sleeper.pid), 1))
    assert find_server(folder) is None
    assert ask(start_server(folder), ROWS) == ["1"]
    assert sleeper.poll() is None
    assert server_pid(folder) != sleeper.pid
    assert stop_server(folder)
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


def test_pid_of_the_server_of_another_folder_is_no_server(folder: Path, made: Path, tmp_path: Path) -> None:
    other = copy(made, tmp_path)
    start_server(other)
    start_server(folder)
    pid, file = kill(folder), folder / "postmaster.pid"
    file.write_text(file.read_text().replace(str(pid), str(server_pid(other)), 1))
    assert find_server(folder) is None
    start_server(folder)
    assert len({server_pid(folder), server_pid(other)}) == 2
    assert stop_server(folder)
    assert find_server(other) is not None
    stop_server(other)


def test_copy_of_a_running_folder_has_a_server_of_its_own(folder: Path, tmp_path: Path) -> None:
    ask(start_server(folder), "CHECKPOINT")
    other = copy(folder, tmp_path)
    assert find_server(other) is None
    stop_server(folder)
    assert ask(start_server(other), "SHOW data_directory") == [str(other)]
    stop_server(other)


def test_long_recovery_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (folder / "postgresql.conf").open("a") as file:
        file.write("restore_command = 'sleep 2; false'\nhot_standby = off\n")
    (folder / "recovery.signal").touch()
    os.chown(folder / "recovery.signal", folder.stat().st_uid, -1)
    with caplog.at_level(logging.WARNING):
        url = start_server(folder, Limits(notice=0.5))
    assert ask(url, ROWS) == ["1"]
    assert [record.message for record in caplog.records] == [
        f"the embedded PostgreSQL in {folder} is recovering; waiting"
    ]


def test_server_that_fails_says_why_and_shows_its_log_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (folder / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'plenty'\n")
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            start_server(folder)
        message = str(caught.value)
        assert message.startswith(f"cannot start the PostgreSQL in {folder}: configuration file ")
        assert message.endswith(f"contains errors; its log is {folder / 'log'}")
        assert "\n" not in message
    assert len(caplog.records) == 1
    assert "plenty" in caplog.text
    assert find_server(folder) is None


# Several processes


def test_processes_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    try:
        assert at_once(4, _visit, folder) == ["served"] * 4
        log = (folder / "log").read_text()
        assert log.count("ready to accept connections") == 1
    finally:
        stop_server(folder)


def _visit(folder: Path, index: int) -> str:
    start_server(folder)  # the table is made by one process alone
    return "served"


def test_stopping_says_whether_a_server_ran(folder: Path) -> None:
    assert not stop_server(folder)
    url = start_server(folder)
    connection = psycopg2.connect(host=str(url.query["host"]), user="postgres", dbname="postgres")
    assert stop_server(folder)
    with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert not stop_server(folder)
    assert find_server(folder) is None


@needs_open_programs
def test_server_that_another_program_started_is_used_and_stopped(folder: Path) -> None:
    start_server(folder)
    stop_server(folder)
    pg_ctl = [
        programs()["pg_ctl"],
        "-w",
        "-D",
        str(folder),
        "-o",
        f"-h '' -k '{folder}'",
        "-l",
        "/dev/null",
        "start",
    ]
    (folder / "pg_hba.conf").write_text("local all all trust\n")
    user = folder.stat().st_uid if os.geteuid() == 0 else None
    if user is not None:
        folder.parent.chmod(0o755)
    subprocess.run(pg_ctl, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)
    pid = server_pid(folder)
    assert ask(start_server(folder), ROWS) == ["1"]
    assert server_pid(folder) == pid
    assert stop_server(folder)
    until_gone([pid])


# Other hosts and namespaces


def test_server_of_another_host_is_refused(folder: Path) -> None:
    with FolderLock(folder) as lock:
        assert lock.acquire()
        lock.write(replace(Owner.here(), boot="another", host="pluto", is_starting=False))
        with pytest.raises(
            StorageError, match=r"is run by host pluto, and cannot be reached .* HPO_STORAGE_URL"
        ):
            start_server(folder, Limits(elsewhere=0.1))
        with pytest.raises(StorageError, match="is run by host pluto"):
            stop_server(folder)
    assert not (folder / "postmaster.pid").exists()


@needs_namespaces
def test_namespaces_never_run_two_servers_on_one_folder(folder: Path) -> None:
    """The server runs where it was started first. It ends with that PID namespace, and no row is lost."""
    script = [sys.executable, "-m", "support.servers", str(folder)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    rows = {"first"}
    for turn in range(5):
        commands = {
            f"{turn} {index}": [*command, *script, f"{turn} {index}"]
            for index, command in enumerate((NAMESPACES, (*NAMESPACES, "--uts"), ("unshare", "--uts")))
        }
        processes = {
            name: subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for name, command in commands.items()
        }
        said = {name: process.communicate(timeout=120)[0].strip() for name, process in processes.items()}
        assert set(said.values()) <= {"served", "cut"}, said
        rows |= {name for name, words in said.items() if words == "served"}
        assert rows <= set(ask(start_server(folder), "SELECT name FROM visit"))
        stop_server(folder)
    assert "PANIC" not in (folder / "log").read_text()


@needs_namespaces
def test_server_of_another_namespace_is_not_stopped_from_here(folder: Path) -> None:
    start_server(folder)
    code = (
        "import sys; from pathlib import Path; from hpo.store.server import find_server, stop_server\n"
        "folder = Path(sys.argv[1]); print(find_server(folder).pid)\n"
        "try: stop_server(folder)\n"
        "except Exception as error: print(error)"
    )
    command = [*NAMESPACES, sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.stdout.splitlines() == [
        "None",
        f"the PostgreSQL in {folder} runs in another PID namespace; stop it there",
    ]
    assert ask(start_server(folder), ROWS) == ["1"]


# Other users


def refusal(folder: Path) -> str:
    """Return what a user reads who cannot use the server of a folder."""
    try:
        start_server(folder)
    except HpoError as error:
        return str(error)
    return "served"


def stop_refusal(folder: Path) -> str:
    try:
        stop_server(folder)
    except HpoError as error:
        return str(error)
    return "stopped"


def connection_error(folder: Path) -> str:
    try:
        psycopg2.connect(host=str(folder), user="postgres", dbname="postgres").close()
    except psycopg2.OperationalError as error:
        return str(error)
    return "served"


@needs_root
@needs_open_programs
def test_only_the_owner_and_root_can_connect() -> None:
    owner, other = two_users()
    with folder_of(owner) as home:
        folder = home / "postgres"
        assert as_user(owner, add_row, folder, "owner") == "served"
        try:
            assert as_user(other, refusal, folder).startswith(
                f"HPO_HOME: cannot use {folder}.lock: Permission"
            )
            assert as_user(other, stop_refusal, folder).startswith(
                f"HPO_HOME: cannot use {folder}.lock: Perm"
            )
            assert "Permission denied" in as_user(other, connection_error, folder)
            folder.chmod(0o755)
            (folder / ".s.PGSQL.5432").chmod(0o777)
            assert "Peer authentication failed" in as_user(other, connection_error, folder)
            assert add_row(folder, "root") == "served"
            assert ask(start_server(folder), ROWS) == ["2"]
        finally:
            assert stop_server(folder)


@needs_root
@needs_open_programs
def test_root_starts_the_server_of_the_owner() -> None:
    owner, _ = two_users()
    with folder_of(owner) as home:
        folder = home / "postgres"
        assert add_row(folder, "root") == "served"
        stop_server(folder)
        assert {path.stat().st_uid for path in (folder, folder / "log", home / "postgres.lock")} == {owner}
        assert as_user(owner, add_row, folder, "owner") == "served"
        stop_server(folder)


@needs_root
@needs_open_programs
def test_servers_of_two_users_do_not_meet() -> None:
    first, second = two_users()
    with folder_of(first) as one, folder_of(second) as two:
        for uid, home in ((first, one), (second, two)):
            assert as_user(uid, add_row, home / "postgres", "me") == "served"
        for home in (one, two):
            assert stop_server(home / "postgres")


@needs_root
@needs_open_programs
def test_user_without_a_name_reads_what_to_do() -> None:
    with folder_of(NAMELESS) as home:
        message = as_user(NAMELESS, refusal, home / "new" / "postgres")
        assert message.startswith(f"HPO_HOME: PostgreSQL cannot make its files for user id {NAMELESS}, ")
        assert "/etc/passwd" in message
        assert list(home.iterdir()) == []


@needs_root
@needs_open_programs
def test_folder_of_a_user_without_a_name_serves(made: Path) -> None:
    with folder_of(NAMELESS) as home:
        folder = copy(made, home)
        subprocess.run(["chown", "-R", str(NAMELESS), str(home)], check=True)
        assert as_user(NAMELESS, add_row, folder, "me") == "served"
        assert stop_server(folder)


@needs_root
def test_folder_that_root_copied_without_its_owner_serves(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    subprocess.run(["cp", "-r", str(made), str(folder)], check=True)
    folder.chmod(0o700)
    assert folder.stat().st_uid == 0
    assert add_row(folder, "root") == "served"
    assert stop_server(folder)


@needs_root
@needs_open_programs
def test_server_of_root_is_unprivileged(folder: Path) -> None:
    folder.parent.chmod(0o755)
    start_server(folder)
    status = Path(f"/proc/{server_pid(folder)}/status").read_text()
    assert "Uid:\t0" not in status
    assert "CapEff:\t0000000000000000" in status
    stop_server(folder)
    folder.parent.chmod(0o700)
    start_server(folder)
    status = Path(f"/proc/{server_pid(folder)}/status").read_text()
    assert "Uid:\t0" not in status
    assert "CapEff:\t0000000000000004" in status  # to enter folders


@needs_root
def test_programs_in_a_folder_of_root_serve(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL asks access(2) about its own files, which usually ignores the capabilities of a process."""
    tmp_path.chmod(0o700)
    packages = programs().path.parents[2]
    for name in (PACKAGE, f"{PACKAGE}.libs"):
        shutil.copytree(packages / name, tmp_path / name, symlinks=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert programs().path.is_relative_to(tmp_path)
    assert add_row(folder, "root") == "served"
    stop_server(folder)
    new = folder.parent / "new" / "postgres"
    assert add_row(new, "root") == "served"
    stop_server(new)


@pytest.mark.parametrize(
    ("home", "reason"),
    [("file", "Not a directory"), ("file/below", "Not a directory"), ("n" * 300, "File name too long")],
)
def test_home_that_is_no_folder_is_refused(tmp_path: Path, home: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=f"^HPO_HOME: cannot use .*: {reason}: set HPO_HOME to a folder of your own"
    ):
        start_server(tmp_path / home / "postgres")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
