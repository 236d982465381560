"""How long processes wait for a server that others run."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import StorageError, UnavailableError
from hpo.store.server.lock import Owner
from hpo.store.server.running import Server
from hpo.store.server.waiting import Limits, Waiting

FOLDER = Path("/home/me/hpo/postgres")
RECOVERING = Server(FOLDER, FOLDER, 1, is_ready=False)
READY = replace(Owner.here(), is_starting=False)
ELSEWHERE = replace(Owner.here(), boot="other", host="pluto")


class Clock:
    """A clock that `sleep` moves."""

    now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def limits(clock: Clock, patience: float = float("inf")) -> Limits:
    return Limits(patience=patience, clock=lambda: clock.now, sleep=clock.sleep)


def wait(clock: Clock, server: Server | None, owner: Owner | None, seconds: float) -> None:
    waiting, end = Waiting(FOLDER, limits(clock)), clock.now + seconds
    while clock.now < end:
        waiting.step(server, owner)


def test_recovery_is_waited_for_and_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        wait(Clock(), RECOVERING, READY, 600)
    assert [record.message for record in caplog.records] == [
        f"the embedded PostgreSQL in {FOLDER} is recovering; waiting"
    ]


def test_short_wait_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wait(Clock(), RECOVERING, READY, 4)
    assert not caplog.records


def test_process_that_starts_the_server_is_waited_for() -> None:
    wait(Clock(), None, Owner.here(), 600)


@pytest.mark.parametrize("owner", [READY, None, replace(Owner.here(), pid=2**22 + 1)])
def test_silent_processes_of_this_machine_end_the_wait(owner: Owner | None) -> None:
    clock = Clock()
    with pytest.raises(
        StorageError, match=r"^the embedded PostgreSQL in .* does not answer, and its processes"
    ):
        wait(clock, None, owner, 600)
    assert 175 < clock.now < 177


def test_server_of_another_host_is_refused_in_one_line_that_names_it() -> None:
    clock = Clock()
    with pytest.raises(StorageError) as caught:
        wait(clock, None, ELSEWHERE, 600)
    assert clock.now < 112
    assert str(caught.value) == (
        f"the embedded PostgreSQL in {FOLDER} is run by host pluto, and cannot be reached from here: "
        "run hpo there, or set HPO_STORAGE_URL to a PostgreSQL server that both can reach"
    )


def test_server_of_another_namespace_is_waited_for_while_it_answers() -> None:
    wait(Clock(), RECOVERING, replace(Owner.here(), pid_namespace="other"), 600)


def test_patience_ends_the_wait() -> None:
    clock = Clock()
    waiting = Waiting(FOLDER, limits(clock, patience=10))
    while clock.now <= 110:
        waiting.step(RECOVERING, READY)
    with pytest.raises(UnavailableError, match="is recovering"):
        waiting.step(RECOVERING, READY)
