import sys

import pytest

from hpo.launch.slot import Slot
from hpo.run.fleet import Fleet

SLOTS = (Slot("cpu", "cpu"), Slot("cpu", "cpu"))


@pytest.mark.parametrize(
    ("fleet", "options"),
    [
        (Fleet(SLOTS), []),
        (Fleet(SLOTS, promotes=True), ["--promote"]),
        (Fleet(SLOTS, width=4, promotes=True), ["--promote", "--width", "4"]),
    ],
)
def test_worker_command_has_the_options_of_its_fleet(fleet: Fleet, options: list[str]) -> None:
    assert fleet.command("lenet") == [
        *(sys.executable, "-m", "hpo", "worker", "lenet"),
        *options,
        *("--fleet", "2"),
    ]
