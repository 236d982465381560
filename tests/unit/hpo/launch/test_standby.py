import os

import pytest

from hpo.launch.standby import Assignment

SENT = Assignment("cuda:0", {"CUDA_VISIBLE_DEVICES": "1"})


def test_an_assignment_arrives_as_it_was_sent() -> None:
    assert Assignment.from_line(SENT.to_line()) == SENT


def test_an_assignment_is_one_line() -> None:
    line = Assignment("cpu", {"A": "x\ny"}).to_line()
    assert line.endswith("\n")
    assert line.count("\n") == 1


def test_its_environment_becomes_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    SENT.take_on()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
