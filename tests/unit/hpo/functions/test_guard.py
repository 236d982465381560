"""The guard, its memory of process groups, and the memory of processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.processes import until_gone

from hpo.functions.guard import Guard, watch
from hpo.functions.memory import memory_of

WAIT = [sys.executable, "-c", "input()"]


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(WAIT, stdin=subprocess.PIPE, start_new_session=True)


def test_guard_ends_what_it_still_knows(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    forgotten, kept = start(), start()
    lines = f"{forgotten.pid}\n{kept.pid}\n{-forgotten.pid}\n".encode()
    watch(io.BytesIO(lines), folder)
    assert kept.wait() == -signal.SIGKILL
    assert forgotten.poll() is None
    assert not folder.exists()
    forgotten.communicate()


def test_guard_outlives_its_worker(tmp_path: Path) -> None:
    """A worker that is killed leaves neither processes nor files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    code = (
        "import subprocess, sys; from pathlib import Path; from hpo.functions.guard import Guard\n"
        "guard = Guard(Path(sys.argv[1]))\n"
        "process = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, start_new_session=True)\n"
        "guard.add(process.pid)\n"
        "print(process.pid, guard._process.pid, flush=True)\n"
        "input()\n"
    )
    words = [sys.executable, "-c", code, str(folder), sys.executable, "-c", "import time; time.sleep(600)"]
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    pids = list(map(int, worker.stdout.readline().split()))
    worker.kill()
    worker.communicate()
    until_gone(pids)
    assert not folder.exists()


def test_killed_guard_disturbs_nobody(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard._process.kill()
    guard._process.wait()
    guard.add(1 << 22)
    guard.close()


def fake(proc: Path, pid: int, session: int, pages: int, shared: int) -> None:
    """Write the files of a process that has `pages` of its own and half of `shared`."""
    (proc / str(pid)).mkdir()
    fields = ["S", "1", "1", str(session), *["0"] * 17, str(pages + shared), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) name) {' '.join(fields)}")
    size = os.sysconf("SC_PAGE_SIZE") // 1024
    lines = f"Rss: {(pages + shared) * size} kB\nPss: {pages * size + shared * size // 2} kB\n"
    (proc / str(pid) / "smaps_rollup").write_text(lines)


def test_shared_pages_count_once_where_it_matters(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "self").mkdir()
    fake(tmp_path, 5, 5, 10, 20)
    fake(tmp_path, 6, 5, 1, 20)
    fake(tmp_path, 7, 7, 100, 0)
    assert memory_of(5, 1000 * page, tmp_path) == 51 * page
    assert memory_of(5, 40 * page, tmp_path) == 31 * page
    assert memory_of(7, 1, tmp_path) == 100 * page
    assert memory_of(8, 1, tmp_path) == 0
    assert memory_of(5, 1, tmp_path / "missing") == 0


def test_memory_of_a_real_process() -> None:
    process = start()
    assert memory_of(process.pid, 1) > 1_000_000
    process.communicate()
