"""The lock on a data folder."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hpo.store.server.lock import FolderLock, Owner


def held(folder: Path) -> bool:
    with FolderLock(folder) as lock:
        return lock.is_held()


def test_lock_is_free_after_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with FolderLock(folder) as lock, FolderLock(folder) as other:
        assert lock.acquire()
        assert not other.acquire()
        assert held(folder)
    assert not held(folder)
    with FolderLock(folder) as lock:
        assert lock.acquire()


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert not held(tmp_path / "postgres")
    assert list(tmp_path.iterdir()) == []


def test_lock_lives_as_long_as_a_child_that_inherits_it(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with FolderLock(folder) as lock:
        assert lock.acquire()
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.file]
        )
    assert held(folder)
    child.kill()
    child.communicate()
    assert not held(folder)


def test_deleted_lock_file_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with FolderLock(folder) as lock:
        assert lock.acquire()
        lock.path.unlink()
        with FolderLock(folder) as other:
            assert other.acquire()  # the former file guards nothing that anybody can find


def test_link_is_no_lock_file(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    lock = FolderLock(tmp_path / "postgres")
    lock.path.symlink_to(target)
    try:
        lock.acquire()
    except OSError:
        pass
    else:
        raise AssertionError("it followed the link")
    assert target.read_text() == "precious"


def test_record_is_what_was_written_last(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "postgres") as lock:
        assert lock.acquire()
        assert lock.owner() is None
        long = replace(Owner.here(), socket_folder="/a/very/long/folder")
        for owner in (long, Owner.here()):
            lock.write(owner)
            assert lock.owner() == owner


def test_record_that_cannot_be_read_is_no_owner(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "postgres")
    for content in ("", "{", "[]", "{}", '{"host": "a", "other": 1}'):
        lock.path.write_text(content)
        with lock:
            assert lock.acquire()
            assert lock.owner() is None


def test_owner_is_here_in_its_boot_and_namespace_only() -> None:
    owner = Owner.here()
    assert owner.is_here()
    assert owner.is_at_work()
    assert not replace(owner, boot="another").is_here()
    assert not replace(owner, pid_namespace="another").is_here()
    assert replace(owner, host="renamed").is_here()
    assert str(replace(owner, boot="another", host="pluto")) == "host pluto"
    assert "namespace" in str(replace(owner, pid_namespace="another"))


def test_owner_is_at_work_while_it_starts_and_lives() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    child.wait()
    assert not replace(Owner.here(), pid=child.pid).is_at_work()
    assert replace(Owner.here(), pid=os.getppid()).is_at_work()
    assert not replace(Owner.here(), is_starting=False).is_at_work()
