import logging

import pytest
from pydantic import SecretStr

from hpo.launch.executors.local import LocalExecutor
from hpo.launch.slot import Slot
from hpo.run.fleet import Fleet, log_lines
from hpo.settings import Settings
from hpo.study.live import LiveStatus

SETTINGS = Settings(storage_url=SecretStr("postgresql://a:secret@host/studies"), lease_seconds=7)
SLOTS = [Slot("cpu", "cpu")] * 2


@pytest.mark.parametrize(
    ("fleet", "options"),
    [
        (Fleet(LocalExecutor(SLOTS), SETTINGS), []),
        (Fleet(LocalExecutor(SLOTS), SETTINGS, promotes=True), ["--promote"]),
        (Fleet(LocalExecutor(SLOTS, width=4), SETTINGS, promotes=True), ["--promote", "--width", "4"]),
    ],
)
def test_worker_command_has_the_options_of_its_fleet(fleet: Fleet, options: list[str]) -> None:
    assert fleet.command("lenet").arguments == ["lenet", *options, "--fleet", "2"]


def test_workers_get_the_settings_of_their_fleet() -> None:
    environment = Fleet(LocalExecutor(SLOTS), SETTINGS).command("lenet").environment
    assert environment["HPO_STORAGE_URL"] == "postgresql://a:secret@host/studies"
    assert environment["HPO_LEASE_SECONDS"] == "7.0"


def test_lines_are_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> LiveStatus:
        raise AssertionError("a display of lines needs no status")

    with caplog.at_level(logging.INFO, logger="hpo.launch"), log_lines(read) as progress:
        progress.write("[cpu/0] 100% done")
        progress.hear("[cpu/0] a line of a worker")
    assert caplog.messages == ["[cpu/0] 100% done", "[cpu/0] a line of a worker"]
