"""What a data folder and a socket tell about a server."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hpo.store.server.address import socket_file
from hpo.store.server.postmaster import PidFile, has_ended, listener, works_in

LINES = "123\n/data\n1796076609\n5432\n/sockets\n\n 16804 32768\nready   \n"


def test_pid_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(LINES)
    status = PidFile.read(tmp_path)
    assert status == PidFile(123, Path("/sockets"), "ready")
    assert status.is_ready


@pytest.mark.parametrize("text", ["", "\n", "garbage\n", "12x\n/data\n"])
def test_incomplete_pid_file_is_none(text: str, tmp_path: Path) -> None:
    assert PidFile.read(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text(text)
    assert PidFile.read(tmp_path) is None


def test_pid_file_of_a_server_that_starts_is_short(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text("123\n/data\n1796076609\n5432\n\n")
    status = PidFile.read(tmp_path)
    assert status == PidFile(123, None, "")
    assert not status.is_ready


def test_listener_is_the_process_that_listens() -> None:
    with TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as server:
        folder = Path(name)
        assert listener(folder) is None
        server.bind(str(socket_file(folder)))
        assert listener(folder) is None  # it does not listen yet
        server.listen()
        found = listener(folder)
        assert found is not None
        assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
        server.close()
        assert listener(folder) is None  # a file that nobody listens on


def test_nobody_listens_on_a_path_that_is_too_long(tmp_path: Path) -> None:
    assert listener(tmp_path / ("x" * 200)) is None


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_process_works_in_its_own_folder(tmp_path: Path) -> None:
    assert works_in(os.getpid(), Path.cwd())
    assert not works_in(os.getpid(), tmp_path)
    assert not works_in(2**22 + 1, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_process_that_nobody_has_waited_for_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not has_ended(process.pid)
        assert not has_ended(os.getpid())
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(process.pid)
    assert has_ended(process.pid)
