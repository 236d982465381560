"""Outages of the database while a launcher runs a study."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import children, until_gone, wait_for_line
from support.shell import SMALL_STUDY, Shell

from benchmarks.chaos.server import Server
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import open_url
from hpo.study.create import create

pytestmark = pytest.mark.slow

LONG_STUDY = SMALL_STUDY.replace("epochs = 3", "epochs = 5000")
"""A study whose trials do not end during a test."""

WORKERS = ("--gpus", "cpu", "--per-device", "2", "--width", "1")


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    server = Server(home / "postgres")
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Iterator[Shell]:
    """Yield a user of the test's own server who has created the studies `small` and `long`."""
    server.create_database("studies")
    url = server.url("studies")
    text_url = url.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": text_url, "HPO_LEASE_SECONDS": "3"})
    storage = open_url(url)
    for name, text in (("small", SMALL_STUDY), ("long", LONG_STUDY)):
        create(storage, StudySpec.load(shell.write(f"{name}.toml", text)), "test")
    storage.engine.dispose()
    yield shell
    shell.close()


def states(shell: Shell, study: str) -> dict[str, int]:
    counts: dict[str, int] = json.loads(shell.hpo("status", study, "--json").stdout)["search"]["states"]
    return counts


def test_study_continues_after_a_database_crash(shell: Shell, server: Server) -> None:
    workers = shell.start("workers", "small", *WORKERS)
    wait_for_line(workers, "search: training")
    server.restart("immediate")
    output = workers.communicate(timeout=240)[0]
    assert workers.returncode == 0, output
    assert states(shell, "small")["COMPLETE"] == 12


def test_worker_killed_during_an_outage_is_replaced(shell: Shell, server: Server) -> None:
    workers = shell.start("workers", "long", *WORKERS)
    for _ in range(2):
        wait_for_line(workers, "search: training")
    server.stop()
    wait_for_line(workers, "waiting for the storage")
    os.kill(next(iter(children(workers.pid))), signal.SIGKILL)
    assert workers.poll() is None
    server.start()
    wait_for_line(workers, "was killed by SIGKILL")
    wait_for_line(workers, "search: training")
    workers.send_signal(signal.SIGINT)
    output = workers.communicate(timeout=60)[0]
    assert workers.returncode == 130, output
    assert states(shell, "long")["WAITING"] == 12


def test_interrupt_during_an_outage_ends_all_workers(shell: Shell, server: Server) -> None:
    workers = shell.start("workers", "long", *WORKERS)
    for _ in range(2):
        wait_for_line(workers, "search: training")
    server.stop()
    wait_for_line(workers, "waiting for the storage")
    left = children(workers.pid)
    workers.send_signal(signal.SIGINT)
    output = workers.communicate(timeout=60)[0]
    assert workers.returncode == 130, output
    until_gone(left)
    server.start()
    assert states(shell, "long")["FAIL"] == 0


def test_launched_worker_waits_for_the_database(shell: Shell, server: Server) -> None:
    server.stop()
    refused = shell.hpo("worker", "small", expect=1).stderr
    assert refused.count("\n") == 1
    worker = shell.start("worker", "small", "--lifeline", lifeline=True)
    wait_for_line(worker, "waiting for the storage")
    server.start()
    wait_for_line(worker, "search: training")
    worker.communicate(timeout=60)  # closes its lifeline
    assert worker.returncode == 0


def test_unused_standby_ends_without_an_error(shell: Shell, server: Server) -> None:
    worker = shell.start("worker", "small", "--lifeline", "--standby", lifeline=True)
    output = worker.communicate(timeout=60)[0]
    assert (worker.returncode, output) == (0, "")


def test_standby_that_waits_for_the_database_ends_with_its_launcher(shell: Shell, server: Server) -> None:
    server.stop()
    worker = shell.start("worker", "small", "--lifeline", "--standby", lifeline=True)
    wait_for_line(worker, "waiting for the storage")
    worker.communicate(timeout=60)  # closes its lifeline
    assert worker.returncode == 0
    server.start()
