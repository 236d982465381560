"""The processes of a training function on a worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.functions import spares
from hpo.functions.failures import FunctionFailure, FunctionKilledError
from hpo.functions.process import FunctionProcess
from hpo.functions.spares import MAX_KILLS, FunctionProcesses


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the signals that kill the next processes while they import the function."""
    signals: list[str] = []

    class Process(FunctionProcess):
        def __init__(self, *_: object) -> None:
            self.signal = signals.pop(0) if signals else None

        def wait_until_ready(self) -> dict[str, str]:
            if self.signal is not None:
                raise FunctionKilledError(self.signal)
            return {"code": "abc"}

        def kill(self) -> None:
            pass

    monkeypatch.setattr(spares, "FunctionProcess", Process)
    return signals


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[FunctionProcesses]:
    processes = FunctionProcesses("train:fit", tmp_path)
    yield processes
    processes.close()


def test_import_starts_again_if_its_process_was_killed(
    kills: list[str], processes: FunctionProcesses
) -> None:
    kills += ["SIGKILL"] * (MAX_KILLS - 1)
    assert processes.code() == "abc"
    assert kills == []


def test_import_fails_if_its_process_is_killed_again_and_again(
    kills: list[str], processes: FunctionProcesses
) -> None:
    kills += ["SIGTERM"] * MAX_KILLS
    with pytest.raises(FunctionFailure) as caught:
        processes.code()
    assert str(caught.value) == (
        "its process was killed by SIGTERM 3 times in a row, during the import; is there enough memory?"
    )
