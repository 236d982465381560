import pytest

from hpo.launch.executors.base import WorkerCommand
from hpo.launch.executors.local import LocalExecutor
from hpo.launch.slot import Slot
from hpo.run.fleet import Fleet

EXECUTOR = LocalExecutor([Slot("cpu", "cpu")] * 2)


@pytest.mark.parametrize(
    ("fleet", "options"),
    [
        (Fleet(EXECUTOR), []),
        (Fleet(EXECUTOR, promotes=True), ["--promote"]),
        (Fleet(EXECUTOR, width=4, promotes=True), ["--promote", "--width", "4"]),
    ],
)
def test_worker_command_has_the_options_of_its_fleet(fleet: Fleet, options: list[str]) -> None:
    assert fleet.command("lenet") == WorkerCommand(["lenet", *options, "--fleet", "2"])
