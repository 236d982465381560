import os

import pytest

from hpo.launch.standby import Assignment

SENT = Assignment("cuda:0", {"CUDA_VISIBLE_DEVICES": "1"})


def test_assignment_comes_back_from_its_line() -> None:
    assert Assignment.from_line(SENT.to_line()) == SENT


def test_assignment_is_one_line() -> None:
    line = Assignment("cpu", {"A": "x\ny"}).to_line()
    assert line.endswith("\n")
    assert line.count("\n") == 1


def test_applied_assignment_changes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    SENT.apply()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
